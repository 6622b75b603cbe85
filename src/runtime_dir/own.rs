//! A runtime directory of one command's own, made for it and removed with it: several of one user
//! may wait at once.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::{Dir, Error, LOCK, Leftovers, RuntimeDir, unusable};

/// What the names of such directories begin with.
const PREFIX: &str = "incumbent-exec-";

/// How often one is made that another command may sweep before it is locked.
const TRIES: usize = 16;

/// A directory that is removed when the value is dropped.
#[derive(Debug)]
pub(crate) struct OwnDir {
    held: RuntimeDir,
    parent: Dir,
    name: String,
}

impl OwnDir {
    /// Makes one in the first of `parents` where that can be done, and removes what earlier
    /// commands that were killed have left there. A parent that isn't there is made.
    ///
    /// # Errors
    /// What is wrong with the last of them.
    pub(crate) fn hold(parents: &[PathBuf]) -> Result<Self, Error> {
        let mut outcome = Err(unusable(Path::new(""), io::ErrorKind::NotFound.into()));
        for parent in parents {
            outcome = make(parent);
            if let Ok(own) = &mut outcome {
                own.sweep();
                break;
            }
        }
        outcome
    }

    /// The directory.
    pub(crate) const fn dir(&self) -> &RuntimeDir {
        &self.held
    }

    /// Removes those of our user that nobody holds; those whose runs live are left for who fences, or
    /// for the guardian that holds them.
    fn sweep(&mut self) {
        let user = rustix::process::geteuid().as_raw();
        for name in self.parent.names().unwrap_or_default() {
            if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let Ok(dir) = self.parent.open_below(&name) else {
                continue;
            };
            let is_ours = dir.stat().is_ok_and(|found| found.st_uid == user);
            // Locked until all is removed: who has made it just now sees that one way or the other.
            if is_ours && let Some(_locked) = lock(&dir) {
                let mut left = Leftovers::in_abandoned(&dir);
                left.retain(|run| run.lives().unwrap_or(true));
                if left.is_empty() {
                    drop(dir.remove_from(&self.parent, &name));
                }
                self.held.left.add(&left);
            }
        }
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        // Nobody waits for its lock: its name is used once. What stays is swept by the next one.
        drop(self.held.dir.remove_from(&self.parent, self.name.as_ref()));
    }
}

fn make(parent: &Path) -> Result<OwnDir, Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| unusable(parent, error))?;
    for _ in 1..TRIES {
        match make_one(parent) {
            // Another command took it for left behind, its lock file being there and no lock: it
            // holds the lock now, or has removed all.
            Err(Error::Held { .. }) => {}
            Err(Error::Unusable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Ok(own) if !matches!(own.held.dir.read(LOCK), Ok(Some(_))) => {}
            outcome => return outcome,
        }
    }
    make_one(parent)
}

fn make_one(parent: &Path) -> Result<OwnDir, Error> {
    let name = format!("{PREFIX}{:x}", crate::backoff::random());
    let path = parent.join(&name);
    let unusable = |source| unusable(parent, source);
    let parent = Dir::open_shared(parent).map_err(unusable)?;
    // Not one that is there: in a shared directory it could be another's.
    let dir = parent.make_below(name.as_ref()).map_err(unusable)?;
    let held = RuntimeDir::hold_open(dir, &path).inspect_err(|_| {
        if let Ok(dir) = parent.open_below(name.as_ref()) {
            drop(dir.remove_from(&parent, name.as_ref()));
        }
    })?;
    Ok(OwnDir { held, parent, name })
}

/// The lock of a directory that nobody holds; one without a lock file yet is just being made.
fn lock(dir: &Dir) -> Option<File> {
    let lock = dir.open_file(LOCK, OFlags::RDWR).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_is_its_own_and_goes_with_its_holder() {
        let parent = tempfile::tempdir().unwrap();
        let parents = [PathBuf::from("/proc/none"), parent.path().join("a")];
        let one = OwnDir::hold(&parents).unwrap();
        let two = OwnDir::hold(&parents).unwrap();
        assert_ne!(one.dir().path(), two.dir().path());
        assert!(one.dir().path().exists(), "the second swept the first");
        drop((one, two));
        assert_eq!(fs::read_dir(&parents[1]).unwrap().count(), 0);
    }

    #[test]
    fn those_that_start_at_once_leave_each_other_theirs() {
        let parent = tempfile::tempdir().unwrap();
        let parents = [parent.path().to_owned()];
        let starts = || {
            for _ in 0..300 {
                let own = OwnDir::hold(&parents).unwrap();
                let file = own.dir().path().join("lease.json");
                fs::write(&file, "").unwrap();
                assert!(own.dir().path().join(LOCK).exists());
                assert!(file.exists());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(starts);
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_one_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("incumbent-exec-1");
        drop(RuntimeDir::hold(&left).unwrap());
        fs::write(parent.path().join("theirs"), "").unwrap();
        let held = OwnDir::hold(&[parent.path().to_owned()]).unwrap();
        assert!(!left.exists());
        assert!(parent.path().join("theirs").exists());
        drop(held);
    }
}
