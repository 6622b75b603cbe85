//! Counts in the store with guarded writes, and records each of them, so that a write that should
//! have been refused, and one that was lost, are found afterwards.
//!
//! The key's value is `COUNT TOKEN PID N`, and each write adds one to COUNT. The lines are `try
//! TOKEN PID N COUNT` before a write, and after it one that begins with `accepted`, `refused` or
//! `unknown` instead; a write without a second line was cut short.

use std::fs::File;
use std::io;
use std::process::{Command, Output};
use std::time::Duration;

use crate::record::append;

/// Between two writes.
const EVERY: Duration = Duration::from_millis(150);

/// Starts to count, beside the beats.
pub(crate) fn start(file: &str, key: &str, incumbent: &str, token: &str) -> io::Result<()> {
    let mut counter = Counter {
        file: File::options().create(true).append(true).open(file)?,
        key: key.to_owned(),
        incumbent: incumbent.to_owned(),
        token: token.to_owned(),
    };
    std::thread::spawn(move || {
        for n in 1.. {
            if counter.add(n).is_err() {
                return;
            }
            std::thread::sleep(EVERY);
        }
    });
    Ok(())
}

struct Counter {
    file: File,
    key: String,
    incumbent: String,
    token: String,
}

impl Counter {
    fn add(&mut self, n: u64) -> io::Result<()> {
        let read = self.kv(&["get", &self.key, "--print-value-only"])?;
        if !read.status.success() {
            return Ok(());
        }
        let value = String::from_utf8_lossy(&read.stdout);
        let count = value.split(' ').next().map_or("", str::trim);
        let count = 1 + count.parse::<u64>().unwrap_or(0);
        let write = format!("{} {} {n}", self.token, std::process::id());
        self.record("try", &write, count)?;
        let put = self.kv(&["put", &self.key, &format!("{count} {write}")])?;
        let outcome = match put.status.code() {
            Some(0) => "accepted",
            Some(3) => "refused",
            _ => "unknown",
        };
        self.record(outcome, &write, count)
    }

    fn kv(&self, arguments: &[&str]) -> io::Result<Output> {
        Command::new(&self.incumbent)
            .arg("kv")
            .args(arguments)
            .args(["--timeout", "2s"])
            .output()
    }

    fn record(&mut self, what: &str, write: &str, count: u64) -> io::Result<()> {
        append(&mut self.file, &format!("{what} {write} {count}"))
    }
}
