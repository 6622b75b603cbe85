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
}

impl Record {
    /// Appends to `file`, for the life of `id` in the run whose first life is that of `run`.
    pub(crate) fn open(file: &Path, token: String, id: u32, run: u32) -> io::Result<Self> {
        Ok(Self {
            file: File::options().create(true).append(true).open(file)?,
            token,
            id,
            run,
        })
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let (seconds, nanos) = (now.tv_sec, now.tv_nsec);
        let Self { token, id, run, .. } = self;
        let line = format!("{what} {token} {id} {seconds}{nanos:09} {run}");
        append(&mut self.file, &line)
    }
}
