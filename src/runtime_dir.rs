//! The runtime directory: one daemon's lock, lease file and control socket.
//!
//! It belongs to one daemon at a time, from its start to its end, and to nobody else on the host:
//! what lies in it opens the store. The unit's stop hook reads the [lease file](lease_file) after
//! the daemon's death, without holding the lock.

pub mod lease_file;
pub mod own;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Held with flock by the daemon; its text is the daemon's process id.
const LOCK: &str = "lock";

/// The control socket's name.
const CONTROL_SOCKET: &str = "control.sock";

/// The longest path that a Unix socket can have, without the zero at its end.
const LONGEST_SOCKET_PATH: usize = 107;

/// What of ours may lie in the directory; the lease file's temporary name included.
const OURS: [&str; 4] = [
    LOCK,
    CONTROL_SOCKET,
    lease_file::NAME,
    lease_file::UNFINISHED,
];

/// Why the runtime directory can't be had. All of them are the user's to mend: exit 78.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// The control socket's path would be longer than a socket's can be.
    #[error(
        "runtime_dir: expected a path of at most {most} bytes, found {path}",
        most = LONGEST_SOCKET_PATH - CONTROL_SOCKET.len() - 1,
        path = path.display()
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
    },
}

/// A runtime directory that this process holds until the value is dropped.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Open, and with it locked. It is never removed: a daemon that waits for a lock on a file
    /// that is gone would share the directory with one that made it anew.
    _lock: File,
}

impl RuntimeDir {
    /// Makes the directory if it isn't there, its parents too, and takes its lock.
    ///
    /// # Errors
    /// Names `runtime_dir` and what is wrong with it; [`Error::Held`] names the holder.
    pub fn hold(path: &Path) -> Result<Self, Error> {
        if path.join(CONTROL_SOCKET).as_os_str().as_bytes().len() > LONGEST_SOCKET_PATH {
            return Err(Error::TooLong { path: path.into() });
        }
        let unusable = |source| Error::Unusable {
            path: path.into(),
            source,
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(unusable)?;
        close_to_others(path)?;

        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Held {
                    path: path.into(),
                    holder: holder(&mut lock),
                });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        write_pid(&mut lock).map_err(unusable)?;
        Ok(Self {
            path: path.into(),
            _lock: lock,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the control socket belongs.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }
}

/// Where the daemon that holds the runtime directory `path` has its control socket.
pub fn control_socket(path: &Path) -> PathBuf {
    path.join(CONTROL_SOCKET)
}

/// Sees to it that the directory is ours and 0700. One that we were handed with a wider mode is
/// narrowed, unless something else lives there: `runtime_dir = "/run"` must not shut the host out.
fn close_to_others(path: &Path) -> Result<(), Error> {
    let unusable = |source| Error::Unusable {
        path: path.into(),
        source,
    };
    let folder = fs::metadata(path).map_err(unusable)?;
    let ours = rustix::process::geteuid().as_raw();
    if folder.uid() != ours {
        return Err(Error::Foreign {
            path: path.into(),
            ours,
            theirs: folder.uid(),
        });
    }
    let mode = folder.mode() & 0o7777;
    if mode & 0o777 == 0o700 {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        if !OURS.iter().any(|ours| *ours == name) {
            return Err(Error::Open {
                path: path.into(),
                mode,
            });
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(unusable)
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
    use super::*;

    #[test]
    fn it_is_made_with_its_parents_and_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let held = RuntimeDir::hold(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
        assert_eq!(held.control_socket(), path.join("control.sock"));
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
        let too_long = folder.path().join("x".repeat(100));
        for path in [below_a_file, too_long, "/proc/incumbent".into()] {
            let text = RuntimeDir::hold(&path).unwrap_err().to_string();
            assert!(text.starts_with("runtime_dir: "), "{text}");
        }
    }
}
