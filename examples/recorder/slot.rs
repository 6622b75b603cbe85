//! What a scheduled run was started for, and how it says that it ends, beside its beats.
//!
//! The lines are `start RUN PID TOKEN SLOT ATTEMPT MISSED`, each word as the variable says it, and
//! `end RUN CODE`. One that completes itself writes `accepted RUN`, `refused RUN` or `unknown RUN` of that.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::record::append_filled;

/// As for all records, but there is more to say.
const LINE: usize = 128;

/// How often a run fails whose length is drawn: one time in so many.
const FAILS: u64 = 4;

pub(crate) struct SlotRecord {
    file: File,
    run: String,
}

impl SlotRecord {
    /// Writes what this process was started for.
    pub(crate) fn start(file: &Path) -> io::Result<Self> {
        let run = variable("INCUMBENT_RUN");
        let file = File::options().create(true).append(true).open(file)?;
        let mut record = Self { file, run };
        let words = ["TOKEN", "SLOT", "ATTEMPT", "MISSED"];
        let words = words.map(|name| variable(&format!("INCUMBENT_{name}")));
        let line = format!(
            "start {} {} {}",
            record.run,
            std::process::id(),
            words.join(" ")
        );
        append_filled(&mut record.file, &line, LINE)?;
        Ok(record)
    }

    /// Writes that it ends, with this code, at once.
    pub(crate) fn end(&mut self, code: u8) -> io::Result<()> {
        let line = format!("end {} {code}", self.run);
        append_filled(&mut self.file, &line, LINE)
    }
}

/// Puts its number under `key`, with its slot, and closes the run as a success, both or neither; after
/// `pause`, beside the beats. Only half of all runs do so.
pub(crate) fn complete(file: &Path, key: &str, incumbent: &str, pause: Duration) -> io::Result<()> {
    if !(number() >> 40).is_multiple_of(2) {
        return Ok(());
    }
    let mut file = File::options().create(true).append(true).open(file)?;
    let (run, key) = (
        variable("INCUMBENT_RUN"),
        format!("{key}{}", variable("INCUMBENT_SLOT")),
    );
    let mut put = Command::new(incumbent);
    put.args(["kv", "put", "--complete", &key, &run, "--timeout", "2s"]);
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        let outcome = match put.output().map(|put| put.status.code()) {
            Ok(Some(0)) => "accepted",
            Ok(Some(3)) => "refused",
            _ => "unknown",
        };
        append_filled(&mut file, &format!("{outcome} {run}"), LINE).ok();
    });
    Ok(())
}

/// How long this run takes, of `longest` at most, and with which code it ends: what makes it one of its own
/// decides both.
pub(crate) fn drawn(longest: Duration) -> (Duration, u8) {
    let number = number();
    let share = u32::try_from(number % 1000).unwrap_or_default();
    let fails = (number >> 32).is_multiple_of(FAILS);
    (longest * share / 1000, u8::from(fails))
}

/// What makes this run one of its own.
fn number() -> u64 {
    u64::from_str_radix(&variable("INCUMBENT_RUN"), 16).unwrap_or_default()
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}
