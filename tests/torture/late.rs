//! Writers that outlive their term: each keeps the variables of a job, outside of its tree, and goes
//! on with guarded writes. The token must stop them, since nothing else does.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Sandbox, millis};
use crate::replicas::{Replicas, binary};
use crate::store::LATE;
use crate::worlds;

/// How many terms are remembered; the oldest has been over for long.
const WRITERS: usize = 3;

struct Writer {
    token: i64,
    variables: Vec<(String, String)>,
    written: u64,
}

/// Writes in turn for the last terms, until it is told to stop. The lines in the sandbox's file
/// `late` are those of `examples/recorder/count.rs`.
pub(crate) fn write(replicas: &Replicas<'_>, sandbox: &Sandbox, stop: &AtomicBool) {
    let mut lines = File::create(sandbox.join("late")).unwrap();
    let mut writers: VecDeque<Writer> = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let known = |token| writers.back().is_some_and(|last| last.token == token);
        if let Some((token, variables)) = replicas.variables_of_job()
            && !known(token)
        {
            writers.push_back(Writer {
                token,
                variables,
                written: 0,
            });
            if writers.len() > WRITERS {
                writers.pop_front();
            }
        }
        for writer in &mut writers {
            writer.write(&mut lines);
        }
        std::thread::sleep(millis(200));
    }
}

impl Writer {
    fn write(&mut self, lines: &mut File) {
        self.written += 1;
        let n = self.written;
        let write = format!("{} {} {n}", self.token, std::process::id());
        writeln!(lines, "try {write} {n}").unwrap();
        let put = Command::new(binary())
            .args([
                "kv",
                "put",
                LATE,
                &format!("{n} {write}"),
                "--timeout",
                "1s",
            ])
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| {
                // It is no process of the world in which that name is known.
                (name, value.replace(worlds::NAME, "127.0.0.1"))
            }))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        // A daemon that starts kills what carries its job's variables: then nobody knows.
        let outcome = match put.code() {
            Some(0) => "accepted",
            Some(3) => "refused",
            _ => "unknown",
        };
        writeln!(lines, "{outcome} {write} {n}").unwrap();
    }
}
