//! The lines of a record, as the jobs of the tests write them; see `examples/recorder.rs`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

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

    /// Writes one line, in one write.
    pub(crate) fn write(&mut self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let (seconds, nanos) = (now.tv_sec, now.tv_nsec);
        let Self { token, id, run, .. } = self;
        let line = format!("{what} {token} {id} {seconds}{nanos:09} {run}\n");
        self.file.write_all(line.as_bytes())
    }
}
