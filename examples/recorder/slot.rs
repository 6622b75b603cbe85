//! What a scheduled run was started for, and how it says that it ends, beside its beats.
//!
//! The lines are `start RUN PID TOKEN SLOT ATTEMPT MISSED`, each word as the variable says it, and
//! `end RUN CODE`.

use std::fs::File;
use std::io;
use std::path::Path;
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

/// How long this run takes, of `longest` at most, and with which code it ends: what makes it one of its own
/// decides both.
pub(crate) fn drawn(longest: Duration) -> (Duration, u8) {
    let number = u64::from_str_radix(&variable("INCUMBENT_RUN"), 16).unwrap_or_default();
    let share = u32::try_from(number % 1000).unwrap_or_default();
    let fails = (number >> 32).is_multiple_of(FAILS);
    (longest * share / 1000, u8::from(fails))
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}
