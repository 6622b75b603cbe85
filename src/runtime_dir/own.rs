//! A runtime directory of one command's own, made for it and removed with it: several of one user
//! may wait at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::{Error, LOCK, RuntimeDir};

/// What the names of such directories begin with.
const PREFIX: &str = "incumbent-exec-";

/// How often one is made that another command may sweep before it is locked.
const TRIES: usize = 16;

/// A directory that is removed when the value is dropped.
#[derive(Debug)]
pub struct OwnDir {
    held: RuntimeDir,
}

impl OwnDir {
    /// Makes one in the first of `parents` where that can be done, and removes what earlier
    /// commands that were killed have left there. A parent that isn't there is made.
    ///
    /// # Errors
    /// What is wrong with the last of them.
    pub fn hold(parents: &[PathBuf]) -> Result<Self, Error> {
        let mut outcome = Err(Error::Unusable {
            path: PathBuf::new(),
            source: io::ErrorKind::NotFound.into(),
        });
        for parent in parents {
            outcome = make(parent);
            if outcome.is_ok() {
                sweep(parent);
                break;
            }
        }
        outcome.map(|held| Self { held })
    }

    /// The directory.
    pub const fn dir(&self) -> &RuntimeDir {
        &self.held
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        // Nobody waits for its lock: its name is used once. What stays is swept by the next one.
        drop(fs::remove_dir_all(self.held.path()));
    }
}

fn make(parent: &Path) -> Result<RuntimeDir, Error> {
    let unusable = |source| Error::Unusable {
        path: parent.into(),
        source,
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(unusable)?;
    for _ in 1..TRIES {
        match make_one(parent) {
            // Another command took it for left behind, its lock file being there and no lock: it
            // holds the lock now, or has removed all.
            Err(Error::Held { .. }) => {}
            Ok(held) if !held.path().join(LOCK).exists() => {}
            outcome => return outcome,
        }
    }
    make_one(parent)
}

fn make_one(parent: &Path) -> Result<RuntimeDir, Error> {
    let name = format!("{PREFIX}{:x}", crate::backoff::random());
    let path = parent.join(name);
    // Not one that is there: in a shared directory it could be another's.
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|source| Error::Unusable {
        path: parent.into(),
        source,
    })?;
    RuntimeDir::hold(&path).inspect_err(|_| drop(fs::remove_dir_all(&path)))
}

/// Removes those of our user that nobody holds.
fn sweep(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_ours = fs::symlink_metadata(entry.path())
            .is_ok_and(|found| found.is_dir() && found.uid() == user);
        // Locked until all is removed: who has made it just now sees that one way or the other.
        if is_one
            && is_ours
            && let Some(_locked) = lock(&entry.path())
        {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// The lock of a directory that nobody holds; one without a lock file yet is just being made.
fn lock(path: &Path) -> Option<File> {
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path.join(LOCK))
        .ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
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
