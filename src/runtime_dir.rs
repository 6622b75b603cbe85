//! The runtime directory: one daemon's lock, lease file and control socket.
//!
//! It belongs to one daemon at a time, from its start to its end, and to nobody else on the host:
//! what lies in it opens the store. The unit's stop hook reads the [lease file](lease_file) after
//! the daemon's death, without holding the lock.

pub(crate) mod lease_file;
pub(crate) mod own;

mod dir;
mod left;

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;

use crate::faults;
use crate::keys::JobName;
use crate::proc::Process;

pub(crate) use dir::Dir;
pub(crate) use left::{Leftovers, RunFiles};

/// Held with flock by the daemon; its text is the daemon's process id.
const LOCK: &str = "lock";

/// The control socket's name.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// The directory in it that has one for each job, where there may be several.
const JOBS: &str = "jobs";

/// What of ours may lie in the directory; the lease file's temporary name included.
const OURS: [&str; 7] = [
    JOBS,
    left::OF_JOB,
    left::OF_CHECKS,
    LOCK,
    CONTROL_SOCKET,
    lease_file::NAME,
    lease_file::UNFINISHED,
];

/// How often the lock is taken anew whose file was removed meanwhile.
const TRIES: usize = 16;

/// Why the runtime directory can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another daemon has it.
    #[error(
        "runtime_dir: {path} is held by process {holder}; each daemon on a host needs its own (runtime_dir, or INCUMBENT__RUNTIME_DIR)",
        path = path.display(),
        holder = holder.map_or_else(|| "?".to_owned(), |pid| pid.to_string())
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// The daemon that has it, as far as its lock file says.
        holder: Option<i32>,
    },
    /// It can't be made, or nothing can be written in it.
    #[error("runtime_dir: cannot use {path}", path = path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is another user's.
    #[error(
        "runtime_dir: expected a directory of user {ours}, found {path} of user {theirs}",
        path = path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Our user id.
        ours: u32,
        /// Its owner's.
        theirs: u32,
    },
    /// Others may enter it, and it holds more than our own files, so we leave its mode alone.
    #[error(
        "runtime_dir: expected a directory with mode 0700, found {path} with {mode:04o} and other \
         files in it; name one of its own",
        path = path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Error {
    /// Whether this very process has it already.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Held { holder: Some(holder), .. } if *holder == Process::this().pid)
    }

    /// Whether the user has to mend it before another try can do better, as
    /// [`faults::is_the_users`] has it.
    pub(crate) fn is_the_users(&self) -> bool {
        let Self::Unusable { source, .. } = self else {
            return true;
        };
        faults::is_the_users(source)
    }
}

/// A runtime directory that this process holds until the value is dropped.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
    dir: Arc<Dir>,
    left: Leftovers,
    /// Open, and with it locked.
    _lock: File,
}

impl RuntimeDir {
    /// Makes the directory if it isn't there, its parents too, and takes its lock.
    ///
    /// # Errors
    /// Names `runtime_dir` and what is wrong with it; [`Error::Held`] names the holder.
    pub(crate) fn hold(path: &Path) -> Result<Self, Error> {
        let unusable = |source| unusable(path, source);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(unusable)?;
        Self::hold_open(Dir::open(path).map_err(unusable)?, path)
    }

    /// As [`hold`](Self::hold), for a directory that is open, and was opened by this path.
    fn hold_open(dir: Dir, path: &Path) -> Result<Self, Error> {
        let unusable = |source| unusable(path, source);
        close_to_others(&dir, path)?;
        let lock = lock(&dir, path)?;
        let left = Leftovers::open(&dir).map_err(unusable)?;
        Ok(Self {
            path: path.into(),
            dir: Arc::new(dir),
            left,
            _lock: lock,
        })
    }

    /// Takes the directory of a job of this name in it, made if it isn't there. Blocks.
    ///
    /// # Errors
    /// As of [`hold`](Self::hold).
    pub(crate) fn hold_job(&self, name: &JobName) -> Result<Self, Error> {
        let path = self.path.join(JOBS).join(name.as_str());
        let unusable = |source| unusable(&path, source);
        let all = self
            .dir
            .open_or_make_below(JOBS.as_ref())
            .map_err(unusable)?;
        let own = all.open_or_make_below(name.as_str().as_ref());
        let mut held = Self::hold_open(own.map_err(unusable)?, &path)?;
        // A job without a name may have stood for the same election.
        held.left.add(&self.left.own());
        Ok(held)
    }

    /// Takes what jobs with names have left for left by the job without one, which may stand for the
    /// election of one of them.
    pub(crate) fn take_over_jobs(&mut self) {
        for dir in with_jobs(&self.dir).into_iter().skip(1).flatten() {
            self.left.add(&Leftovers::in_abandoned(&dir));
        }
    }

    /// The names of the jobs that have a directory in it. Blocks.
    pub(crate) fn job_names(&self) -> io::Result<Vec<JobName>> {
        job_names(&self.dir)
    }

    /// Removes the directory of a job, which is `held`. Blocks.
    pub(crate) fn remove_job(&self, held: &Self, name: &JobName) -> io::Result<()> {
        let all = self.dir.open_below(JOBS.as_ref())?;
        held.dir.remove_from(&all, name.as_str().as_ref())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// The runs that an earlier daemon may have left.
    pub(crate) fn left(&self) -> &Leftovers {
        &self.left
    }
}

/// The names of the jobs that have a directory in the runtime directory `dir`.
fn job_names(dir: &Dir) -> io::Result<Vec<JobName>> {
    let all = match dir.open_below(JOBS.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        all => all?,
    };
    let names = all.names()?.into_iter();
    Ok(names
        .filter_map(|name| JobName::new(name.to_str()?))
        .collect())
}

/// The runtime directory, and that of each job which has one in it.
///
/// # Errors
/// For each that can't be looked into; the others are there all the same.
pub(crate) fn with_jobs(dir: &Arc<Dir>) -> Vec<io::Result<Arc<Dir>>> {
    let mut all = vec![Ok(Arc::clone(dir))];
    let names = match job_names(dir) {
        Ok(names) => names,
        Err(error) => {
            all.push(Err(error));
            return all;
        }
    };
    all.extend(names.into_iter().map(|name| {
        let jobs = dir.open_below(JOBS.as_ref())?;
        jobs.open_below(name.as_str().as_ref()).map(Arc::new)
    }));
    all
}

fn unusable(path: &Path, source: io::Error) -> Error {
    Error::Unusable {
        path: path.into(),
        source,
    }
}

/// Takes the directory's lock: its own, which nobody can remove, and that of the file in it, whose
/// text tells who has it.
fn lock(dir: &Dir, path: &Path) -> Result<File, Error> {
    let unusable = |source| unusable(path, source);
    for _ in 0..TRIES {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let mut lock = dir.open_file(LOCK, flags).map_err(unusable)?;
        for taken in [
            flock(dir, FlockOperation::NonBlockingLockExclusive),
            flock(&lock, FlockOperation::NonBlockingLockExclusive),
        ] {
            match taken {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::Held {
                        path: path.into(),
                        holder: holder(&mut lock),
                    });
                }
                Err(error) => return Err(unusable(error.into())),
            }
        }
        // One that lost its name meanwhile keeps nobody out.
        if dir.is_named(&lock, LOCK).map_err(unusable)? {
            write_pid(&mut lock).map_err(unusable)?;
            return Ok(lock);
        }
    }
    Err(unusable(io::Error::other(
        "its lock file is removed again and again",
    )))
}

/// Sees to it that the directory is ours and 0700. One that we were handed with a wider mode is
/// narrowed, unless something else lives there: `runtime_dir = "/run"` must not shut the host out.
fn close_to_others(dir: &Dir, path: &Path) -> Result<(), Error> {
    let unusable = |source| unusable(path, source);
    let folder = dir.stat().map_err(unusable)?;
    let ours = rustix::process::geteuid().as_raw();
    if folder.st_uid != ours {
        return Err(Error::Foreign {
            path: path.into(),
            ours,
            theirs: folder.st_uid,
        });
    }
    let mode = folder.st_mode & 0o7777;
    if mode & 0o777 == 0o700 {
        return Ok(());
    }
    for name in dir.names().map_err(unusable)? {
        if !OURS.iter().any(|ours| *ours == name) {
            return Err(Error::Open {
                path: path.into(),
                mode,
            });
        }
    }
    fchmod(dir, Mode::from_raw_mode(0o700)).map_err(|error| unusable(error.into()))
}

/// The process id in a lock file; `None` while its holder has not written it yet.
fn holder(lock: &mut File) -> Option<i32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn it_is_made_with_its_parents_and_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let held = RuntimeDir::hold(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
        assert_eq!(held.path(), path);
    }

    #[test]
    fn a_second_daemon_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = RuntimeDir::hold(folder.path()).unwrap();
        let text = RuntimeDir::hold(folder.path()).unwrap_err().to_string();
        assert!(text.starts_with("runtime_dir: "), "{text}");
        let pid = format!("process {};", std::process::id());
        assert!(text.contains(&pid), "{text}");
        drop(held);
        RuntimeDir::hold(folder.path()).unwrap();
    }

    #[test]
    fn a_wide_mode_is_narrowed_where_only_our_files_are() {
        let folder = tempfile::tempdir().unwrap();
        let wide = Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), wide.clone()).unwrap();
        drop(RuntimeDir::hold(folder.path()).unwrap());
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);

        fs::set_permissions(folder.path(), wide).unwrap();
        drop(RuntimeDir::hold(folder.path()).unwrap());
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_others_use_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("theirs"), "").unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let error = RuntimeDir::hold(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Open { mode: 0o755, .. }), "{error}");
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let below_a_file = folder.path().join("file/below");
        for path in [below_a_file, "/proc/incumbent".into()] {
            let error = RuntimeDir::hold(&path).unwrap_err();
            assert!(error.is_the_users(), "{error}");
            let text = error.to_string();
            assert!(text.starts_with("runtime_dir: "), "{text}");
        }
    }

    #[test]
    fn a_link_is_no_directory() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("a", &link).unwrap();
        for path in [link.clone(), link.join("")] {
            let error = RuntimeDir::hold(&path).unwrap_err();
            assert!(error.is_the_users(), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn a_removed_lock_file_makes_no_room_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let _held = RuntimeDir::hold(folder.path()).unwrap();
        fs::remove_file(folder.path().join(LOCK)).unwrap();
        let error = RuntimeDir::hold(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Held { .. }), "{error}");
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_configuration() {
        let error = |errno: Errno| unusable(Path::new("/run"), errno.into());
        for errno in [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::MFILE,
            Errno::NFILE,
            Errno::IO,
        ] {
            assert!(!error(errno).is_the_users());
        }
        assert!(error(Errno::ACCESS).is_the_users());
    }
}
