//! The lines of a record, as the jobs of the tests write them; see `examples/recorder.rs`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// How long each line is, in bytes. A file grows page by page: a line that crosses into the next
/// page may be read half written, and stays so if its writer is killed between the halves.
const LINE: usize = 64;

/// Appends one line, in one write; see [`LINE`].
///
/// # Panics
/// If the line is longer than that.
pub(crate) fn append(file: &mut File, line: &str) -> io::Result<()> {
    append_filled(file, line, LINE)
}

/// The same with lines of another length, which has to divide a page.
///
/// # Panics
/// If the line is longer than that.
pub(crate) fn append_filled(file: &mut File, line: &str, length: usize) -> io::Result<()> {
    assert!(line.len() < length, "too long for a record: {line:?}");
    let width = length - 1;
    file.write_all(format!("{line:<width$}\n").as_bytes())
}

/// Writes the record of one life.
pub(crate) struct Record {
    file: File,
    token: String,
    /// The process, or for Rust code the thread, that lives.
    id: u32,
    run: u32,
    /// How many nanoseconds the clock here is ahead of the machine's, which all records are on.
    ahead: i64,
}

/// How many nanoseconds `CLOCK_MONOTONIC` is ahead of the machine's in this time namespace.
fn ahead() -> io::Result<i64> {
    let text = match std::fs::read_to_string("/proc/self/timens_offsets") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        text => text?,
    };
    let offset = || {
        let line = text.lines().find(|line| line.starts_with("monotonic"))?;
        let mut numbers = line.split_ascii_whitespace().skip(1);
        let mut number = || numbers.next()?.parse::<i64>().ok();
        Some(number()? * 1_000_000_000 + number()?)
    };
    offset().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Record {
    /// Appends to `file`, for the life of `id` in the run whose first life is that of `run`.
    pub(crate) fn open(file: &Path, token: String, id: u32, run: u32) -> io::Result<Self> {
        Ok(Self {
            file: File::options().create(true).append(true).open(file)?,
            token,
            id,
            run,
            ahead: ahead()?,
        })
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let Self { token, id, run, .. } = self;
        let nanos = now.tv_sec * 1_000_000_000 + now.tv_nsec - self.ahead;
        let line = format!("{what} {token} {id} {nanos} {run}");
        append(&mut self.file, &line)
    }
}
