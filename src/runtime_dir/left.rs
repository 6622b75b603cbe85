//! The files of the runs that are begun here, and what stood in them before.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::Dir;
use crate::runs::{self, RunRecord};

/// The runs of the job and the hooks.
pub(super) const OF_JOB: &str = "runs";

/// The checks.
pub(super) const OF_CHECKS: &str = "runs.checks";

/// The files, each for one guardian.
#[derive(Debug)]
pub(crate) struct RunFiles {
    job: File,
    checks: File,
}

impl RunFiles {
    /// That of the job's guardian.
    pub(crate) fn of_job(&self) -> BorrowedFd<'_> {
        self.job.as_fd()
    }

    /// That of the guardian of checks.
    pub(crate) fn of_checks(&self) -> BorrowedFd<'_> {
        self.checks.as_fd()
    }
}

/// The runs of an earlier daemon, and the files where they stand.
#[derive(Clone, Debug)]
pub(crate) struct Leftovers {
    /// Those of all files and directories.
    runs: Vec<RunRecord>,
    /// What stood in the file of the job's guardian, and in that of checks.
    stood: [Vec<RunRecord>; 2],
    files: Arc<RunFiles>,
}

impl Leftovers {
    /// Reads what stands in the files in `dir`, and makes those that aren't there.
    pub(super) fn open(dir: &Dir) -> io::Result<Self> {
        let (job, of_job) = open(dir, OF_JOB)?;
        let (checks, of_checks) = open(dir, OF_CHECKS)?;
        let stood = [of_job, of_checks];
        Ok(Self {
            runs: stood.concat(),
            stood,
            files: Arc::new(RunFiles { job, checks }),
        })
    }

    /// Those in a directory that nobody holds.
    pub(super) fn in_abandoned(dir: &Dir) -> Vec<RunRecord> {
        let texts = [OF_JOB, OF_CHECKS].map(|name| dir.read(name).ok().flatten());
        let texts = texts.into_iter().flatten();
        texts.flat_map(|text| runs::read(&text)).collect()
    }

    /// Those of another directory, too.
    pub(super) fn add(&mut self, runs: &[RunRecord]) {
        self.runs.extend(runs);
    }

    /// The runs.
    pub(crate) fn runs(&self) -> &[RunRecord] {
        &self.runs
    }

    /// Those of this directory's own files.
    pub(super) fn own(&self) -> Vec<RunRecord> {
        self.stood.concat()
    }

    /// Whether a living guardian holds any of them.
    pub(crate) fn are_held(&self) -> bool {
        self.stood.iter().flatten().any(RunRecord::is_held)
    }

    /// The files.
    pub(crate) fn files(&self) -> &Arc<RunFiles> {
        &self.files
    }

    /// Nothing is left of them but what a living guardian holds: should that be killed, somebody has to
    /// know of them. Those of this daemon take the others' place.
    pub(crate) fn forget(&self) {
        let files = [&self.files.job, &self.files.checks];
        for (file, stood) in files.into_iter().zip(&self.stood) {
            let held: Vec<RunRecord> = stood.iter().filter(|run| run.is_held()).copied().collect();
            // What stays is about processes that are dead.
            drop(file.write_all_at(&runs::listing(&held), 0));
        }
    }
}

fn open(dir: &Dir, name: &str) -> io::Result<(File, Vec<RunRecord>)> {
    let mut file = dir.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let found = runs::read(&text);
    if found.is_empty() {
        // All the room that it will need: there may be none later on.
        file.set_len(0)?;
        file.write_all_at(&runs::listing(&[]), 0)?;
    }
    Ok((file, found))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::proc::Process;

    #[test]
    fn those_that_a_living_guardian_holds_are_kept_and_the_others_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let mut guardian = Command::new("sleep").arg("60").spawn().unwrap();
        let held = RunRecord {
            session: 5,
            at: 50,
            guardian: Process::with_pid(i32::try_from(guardian.id()).unwrap()).unwrap(),
        };
        let dead = Process {
            start_time: held.guardian.start_time + 2,
            ..held.guardian
        };
        let orphaned = RunRecord {
            session: 6,
            guardian: dead,
            ..held
        };
        let text = runs::listing(&[orphaned, held]);
        for name in [OF_JOB, OF_CHECKS] {
            std::fs::write(folder.path().join(name), &text).unwrap();
        }
        let again = || Leftovers::open(&dir).unwrap();
        let left = again();
        assert_eq!(left.runs(), [orphaned, held, orphaned, held]);
        left.forget();
        assert_eq!(again().runs(), [held, held]);
        guardian.kill().unwrap();
        guardian.wait().unwrap();
        again().forget();
        assert_eq!(again().runs(), []);
    }
}
