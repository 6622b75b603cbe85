//! The files of the runs that are begun here, and what stood in them before.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::Dir;
use crate::runs::{self, Run};

/// The runs of the job and the hooks.
pub(super) const OF_JOB: &str = "runs";

/// The checks.
pub(super) const OF_CHECKS: &str = "runs.checks";

/// The files, each for one guardian.
#[derive(Debug)]
pub struct RunFiles {
    job: File,
    checks: File,
}

impl RunFiles {
    /// That of the job's guardian.
    pub fn of_job(&self) -> BorrowedFd<'_> {
        self.job.as_fd()
    }

    /// That of the guardian of checks.
    pub fn of_checks(&self) -> BorrowedFd<'_> {
        self.checks.as_fd()
    }
}

/// The runs of an earlier daemon, and the files where they stand.
#[derive(Clone, Debug)]
pub struct Left {
    runs: Vec<Run>,
    files: Arc<RunFiles>,
}

impl Left {
    /// Reads what stands in the files in `dir`, and makes those that aren't there.
    pub(super) fn open(dir: &Dir) -> io::Result<Self> {
        let (job, of_job) = open(dir, OF_JOB)?;
        let (checks, of_checks) = open(dir, OF_CHECKS)?;
        Ok(Self {
            runs: [of_job, of_checks].concat(),
            files: Arc::new(RunFiles { job, checks }),
        })
    }

    /// Those in a directory that nobody holds.
    pub(super) fn in_abandoned(dir: &Dir) -> Vec<Run> {
        let texts = [OF_JOB, OF_CHECKS].map(|name| dir.read(name).ok().flatten());
        let texts = texts.into_iter().flatten();
        texts.flat_map(|text| runs::read(&text)).collect()
    }

    /// Those of another directory, too.
    pub(super) fn add(&mut self, runs: &[Run]) {
        self.runs.extend(runs);
    }

    /// The runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The files.
    pub fn files(&self) -> &Arc<RunFiles> {
        &self.files
    }

    /// Nothing is left of them: those of this daemon take their place.
    pub fn forget(&self) {
        for file in [&self.files.job, &self.files.checks] {
            // What stays is about processes that are dead.
            drop(file.write_all_at(&runs::none(), 0));
        }
    }
}

fn open(dir: &Dir, name: &str) -> io::Result<(File, Vec<Run>)> {
    let mut file = dir.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let found = runs::read(&text);
    if found.is_empty() {
        // All the room that it will need: there may be none later on.
        file.set_len(0)?;
        file.write_all_at(&runs::none(), 0)?;
    }
    Ok((file, found))
}
