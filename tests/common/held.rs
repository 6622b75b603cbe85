//! A program whose exec hangs until it is let go, as on a file server that doesn't answer.

#![allow(unsafe_code, reason = "nothing safe speaks fanotify")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::command::skipped;
use super::wait::{patience, secs};

/// A copy of a program that nobody can execute until it is dropped, or
/// [let go](HeldProgram::let_go).
pub struct HeldProgram {
    path: PathBuf,
    group: Option<File>,
}

impl HeldProgram {
    /// Holds a copy of `program` in `folder`; `None`, and said, where this can't be done.
    pub fn copy(program: &str, folder: &Path) -> Option<Self> {
        let path = folder.join("held");
        fs::copy(program, &path).unwrap();
        Self::hold(path)
    }

    /// Holds the program that stands here.
    pub fn hold(path: PathBuf) -> Option<Self> {
        let file = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the descriptor is new and nobody else's, and the path is terminated.
        let group = unsafe {
            let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC;
            let group = libc::fanotify_init(flags, libc::O_RDONLY.unsigned_abs());
            if group == -1 {
                skipped("execs that hang need root and fanotify");
                return None;
            }
            let group = File::from(OwnedFd::from_raw_fd(group));
            let marked = libc::fanotify_mark(
                std::os::fd::AsRawFd::as_raw_fd(&group),
                libc::FAN_MARK_ADD,
                libc::FAN_OPEN_EXEC_PERM,
                libc::AT_FDCWD,
                file.as_ptr(),
            );
            if marked == -1 {
                skipped("execs that hang need a kernel that lets them be held");
                return None;
            }
            group
        };
        Some(Self {
            path,
            group: Some(group),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Waits until one more process hangs in its exec; its id.
    #[track_caller]
    pub fn wait_hangs(&self) -> i32 {
        let mut group = self.group.as_ref().unwrap();
        let limit = Timespec {
            tv_sec: patience(secs(15)).as_secs().try_into().unwrap(),
            tv_nsec: 0,
        };
        let mut polled = [PollFd::from_borrowed_fd(group.as_fd(), PollFlags::IN)];
        let ready = poll(&mut polled, Some(&limit)).unwrap();
        assert!(ready > 0, "nobody executes {}", self.path.display());
        let mut event = [0; size_of::<libc::fanotify_event_metadata>()];
        group.read_exact(&mut event).unwrap();
        let number = |at: usize| i32::from_ne_bytes(event[at..at + 4].try_into().unwrap());
        // SAFETY: the event brings a descriptor that nobody else closes.
        drop(unsafe { OwnedFd::from_raw_fd(number(16)) });
        number(20)
    }

    /// Lets all go on that hang in its exec.
    pub fn let_go(&mut self) {
        self.group = None;
    }
}
