//! What `/proc` says about processes, and a kill that can't hit the wrong one.
//!
//! A leaf: knows nothing of elections. Reading `/proc` never waits for a disk or a network.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

pub(crate) mod look;
pub(crate) mod survivor;
pub(crate) mod ticks;

/// The name that the kernel knows this process by, and by which a daemon that starts on a host
/// finds the guardians of earlier ones.
pub(crate) const GUARDIAN: &CStr = c"incumbent-guard";

/// The same of the guardian that runs checks, and guards no job.
pub(crate) const CHECKS: &CStr = c"incumbent-check";

/// The variable in which a guardian names itself to what it starts.
pub(crate) const GUARDIAN_VARIABLE: &str = "INCUMBENT_GUARDIAN";

/// How long whoever can't wait for a process sleeps instead.
const BLIND: Duration = Duration::from_millis(10);

/// One process, told apart from any other that had or will have the same number on this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its process id.
    pub pid: i32,
    /// When it started, in [`ticks`] since the machine's boot.
    pub start_time: u64,
}

impl Process {
    /// This process.
    pub(crate) fn this() -> Self {
        static THIS: OnceLock<Process> = OnceLock::new();
        *THIS.get_or_init(|| {
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            Self {
                pid,
                start_time: Stat::of(pid).map_or(0, |stat| stat.start_time),
            }
        })
    }

    /// What [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (pid, start_time) = text.split_once(':')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start_time: start_time.parse().ok()?,
        })
    }

    /// The process that has this number now, if there is one.
    pub(crate) fn with_pid(pid: i32) -> Option<Self> {
        Stat::of(pid).map(|stat| stat.process(pid))
    }

    /// Whether it lives. One that has ended but was not reaped yet is dead, and so is to us who
    /// hides from us.
    ///
    /// # Errors
    /// Where it can't be looked at: then it may live.
    pub(crate) fn lives(self) -> io::Result<bool> {
        let stat = look::seen(Stat::read(self.pid))?;
        Ok(stat.is_some_and(|stat| self.is_told_by(&stat) && !stat.has_ended()))
    }

    /// Whether `stat`, which is about a process of its number, is about itself and no other.
    pub(crate) const fn is_told_by(self, stat: &Stat) -> bool {
        ticks::are_one(self.start_time, stat.start_time)
    }

    /// Opens it, so that a signal can hit no other process; `None` if it is gone.
    ///
    /// # Errors
    /// Fails where the process has no file descriptors left.
    pub(crate) fn open(self) -> io::Result<Option<Handle>> {
        let handle = Handle::open(self.pid)?;
        // The number may have passed to another process before it was opened, not after.
        Ok(if self.lives()? { handle } else { None })
    }

    /// Sends it SIGKILL, if it is there still, and no other process in its place.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`Handle::kill`]: it may live on then.
    pub(crate) fn kill(self) -> io::Result<()> {
        self.open()?.map_or(Ok(()), |handle| handle.kill())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.start_time)
    }
}

/// An open process.
#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// Opens the process that has this number now; `None` if there is none. Works for processes
    /// that a sandbox hides from `/proc`, too.
    ///
    /// # Errors
    /// Fails where the process has no file descriptors left.
    pub(crate) fn open(pid: i32) -> io::Result<Option<Self>> {
        // No process has the number 0, and negative ones mean something else.
        let Some(pid) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self(fd))),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends SIGKILL. That it arrived doesn't mean that the process is gone: see [`wait`](Self::wait).
    ///
    /// # Errors
    /// EPERM, where the process is another user's.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends a signal; one that has ended needs none.
    ///
    /// # Errors
    /// EPERM, where the process is another user's.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, for at most `limit`; returns whether that was seen.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready > 0,
            // Asks about more descriptors than this process may have.
            Err(Errno::INVAL) => {
                std::thread::sleep(limit.min(BLIND));
                false
            }
            Err(_) => false,
        }
    }
}

/// The parts of `/proc/PID/stat` that we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The name of the process: what it was executed as, or calls itself; at most 15 bytes.
    pub comm: String,
    /// The state's letter.
    pub state: char,
    /// The parent's process id; 0 where it is in another namespace or there is none.
    pub parent: i32,
    /// Its session; 0 where that began in another namespace.
    pub session: i32,
    /// Whether it is a part of the kernel.
    pub is_kernel_thread: bool,
    /// Whether it was executed since it was forked.
    pub was_executed: bool,
    /// How many threads it has left, its first one included even where that has ended.
    pub threads: u32,
    /// When it started, in [`ticks`] since the machine's boot.
    pub start_time: u64,
}

/// The kernel's mark on threads of its own, in the flags of a process.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The same on processes that were forked and not executed since.
const PF_FORKNOEXEC: u32 = 0x40;

impl Stat {
    /// The process with this number now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::read(pid).ok()
    }

    /// As [`of`](Self::of), for whoever must know a process that is gone from one that can't be looked at.
    ///
    /// # Errors
    /// See [`look::seen`].
    pub(crate) fn read(pid: i32) -> io::Result<Self> {
        let text = read(pid, "stat")?;
        let stat = Self::parse(&String::from_utf8_lossy(&text));
        let stat = stat.ok_or(io::ErrorKind::InvalidData)?;
        let start_time = ticks::on_the_machine(stat.start_time)?;
        Ok(Self { start_time, ..stat })
    }

    /// As the text has it, whose start is by the reader's clock. The name may hold spaces and brackets, so
    /// it reaches to the last closing one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(") ")?;
        let (_, comm) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Fields 6, 9, 20 and 22 of the whole line; the first four are gone by then.
        let session = fields.nth(1)?.parse().ok()?;
        let flags: u32 = fields.nth(2)?.parse().ok()?;
        Some(Self {
            comm: comm.to_owned(),
            state,
            parent,
            session,
            is_kernel_thread: flags & PF_KTHREAD != 0,
            was_executed: flags & PF_FORKNOEXEC == 0,
            threads: fields.nth(10)?.parse().ok()?,
            start_time: fields.nth(1)?.parse().ok()?,
        })
    }

    /// The process that this is about, if its number is `pid`.
    pub(crate) fn process(&self, pid: i32) -> Process {
        Process {
            pid,
            start_time: self.start_time,
        }
    }

    /// Whether this thread has ended.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether it has ended and only waits to be reaped. One whose first thread alone has ended
    /// looks the same but for its other threads.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_over() && self.threads <= 1
    }
}

/// Whether the whole process has ended: every thread of it, whoever is to reap them. It runs no more.
pub(crate) fn has_ended_wholly(pid: i32) -> bool {
    let by_stat = |stat: Stat| {
        // Threads that have ended wait for a tracer, too.
        let others_over = || threads(pid).is_ok_and(|all| all.iter().all(Stat::is_over));
        stat.is_over() && (stat.threads <= 1 || others_over())
    };
    // Readable once all threads have ended, and even where `/proc` shows us nothing of it.
    let by_handle = |handle: Handle| handle.wait(Duration::ZERO);
    Handle::open(pid).is_ok_and(|handle| handle.is_some_and(by_handle))
        || Stat::of(pid).is_some_and(by_stat)
}

/// What stands in the `stat` of each thread of a process.
fn threads(pid: i32) -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(entry?.path().join("stat")) {
            Ok(text) => all.push(Stat::parse(&text).ok_or(io::ErrorKind::InvalidData)?),
            // It has ended meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The children of a process, whoever may look at them: no mount option of `/proc` hides them.
///
/// Exact where none of them is reaped meanwhile.
///
/// # Errors
/// Fails where the process itself is hidden or gone, and on kernels that don't tell.
pub(crate) fn children(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(entry?.path().join("children")) {
            Ok(text) => children.extend(text.split_ascii_whitespace().filter_map(number)),
            // A thread that has ended has handed its own on, to one that is looked at next time.
            Err(error) if is_gone(&error) && lists_children() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

/// Opened while there were descriptors to be had.
static OWN_CHILDREN: OnceLock<fs::File> = OnceLock::new();

/// Makes sure of [`kept_children`].
///
/// # Errors
/// Fails where the process has no descriptor left. Kernels that don't list children are no error.
pub(crate) fn keep_children() -> io::Result<()> {
    if OWN_CHILDREN.get().is_some() {
        return Ok(());
    }
    let this = Process::this().pid;
    match fs::File::open(format!("/proc/{this}/task/{this}/children")) {
        Ok(file) => drop(OWN_CHILDREN.set(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The children of the first thread of this process, to which those fall that lose their parents; read
/// without another descriptor. No proof of anything: other threads may have some.
pub(crate) fn kept_children() -> Vec<i32> {
    let mut text = Vec::new();
    let Some(file) = OWN_CHILDREN.get() else {
        return Vec::new();
    };
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = file.read_at(&mut part, text.len() as u64) {
        text.extend_from_slice(&part[..length]);
    }
    let text = String::from_utf8_lossy(&text);
    text.split_ascii_whitespace().filter_map(number).collect()
}

fn number(text: &str) -> Option<i32> {
    text.parse().ok()
}

/// Whether this error of a file in `/proc` says that its process or thread is gone, and not that it can't be
/// looked at for a moment.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether the kernel lists children.
pub(crate) fn lists_children() -> bool {
    fs::metadata("/proc/thread-self/children").is_ok()
}

/// Whether this process can see all of its own children, so that none of them can hide from a kill.
///
/// # Errors
/// Says what is missing.
pub(crate) fn sees_own_children() -> io::Result<()> {
    if lists_children() {
        return Ok(());
    }
    // A scan does as well where it shows everybody, strangers included.
    let euid = rustix::process::geteuid();
    let strangers = euid.is_root() || uid_of(1).is_some_and(|uid| uid != euid.as_raw());
    if strangers && Stat::of(1).is_some() {
        return Ok(());
    }
    let what = match Stat::of(Process::this().pid) {
        Some(_) => {
            "/proc hides processes (hidepid), and this kernel does not list children in \
                    /proc/PID/task/TID/children"
        }
        None => "/proc is not mounted",
    };
    Err(io::Error::other(format!(
        "the job's processes can't be seen, so they could not be killed for certain: {what}"
    )))
}

/// The user that a process acts as. The folder tells even of one whose files are root's, since it
/// hides them.
pub(crate) fn uid_of(pid: i32) -> Option<u32> {
    let folder = fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(std::os::unix::fs::MetadataExt::uid(&folder))
}

/// What `/proc/PID/name` says, in few system calls: such a file has no size that would tell how much
/// to read, and those who start from little read most of them eight times.
///
/// # Errors
/// As [`fs::read`].
pub(crate) fn read(pid: i32, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(8 * 1024);
    let file = fs::File::open(format!("/proc/{pid}/{name}"))?;
    // Through `take`, which doesn't ask for the size.
    file.take(u64::MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The number that a process has in the innermost namespace that it is in, as it sees itself.
///
/// # Errors
/// See [`is_gone`].
pub(crate) fn own_number(pid: i32) -> io::Result<i32> {
    let text = read(pid, "status")?;
    let text = String::from_utf8_lossy(&text);
    let Some(numbers) = text.lines().find_map(|line| line.strip_prefix("NSpid:")) else {
        // There are no such namespaces.
        return Ok(pid);
    };
    let number = numbers.split_ascii_whitespace().last().and_then(number);
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The id of this boot of the machine.
pub(crate) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_whole() {
        let text = "7 (a) (b c) S 3 7 8 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 99 1 18 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.comm, "a) (b c");
        assert_eq!((stat.state, stat.parent), ('S', 3));
        assert!(!stat.is_kernel_thread);
        assert_eq!(stat.session, 8);
        assert_eq!((stat.threads, stat.start_time), (1, 12345));
    }

    #[test]
    fn a_process_lives_while_any_of_its_threads_does() {
        let ended = |threads| {
            let text = format!("7 (a) Z 3 7 7 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 5 0 0 0");
            Stat::parse(&text).unwrap().has_ended()
        };
        assert!(ended(0) && ended(1));
        assert!(!ended(2));
    }

    #[test]
    fn this_process_is_alive_and_the_same_number_at_another_time_is_not() {
        let this = Process::this();
        assert!(this.lives().unwrap());
        let other = Process {
            start_time: this.start_time + 2,
            ..this
        };
        assert!(!other.lives().unwrap());
        assert!(other.open().unwrap().is_none());
    }

    #[test]
    fn own_children_are_seen() {
        sees_own_children().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children(Process::this().pid).unwrap().contains(&pid));
        assert!(!has_ended_wholly(pid));
        child.kill().unwrap();
        let handle = Handle::open(pid).unwrap().unwrap();
        assert!(handle.wait(Duration::from_secs(5)));
        assert!(has_ended_wholly(pid), "not reaped, and over all the same");
        assert!(children(Process::this().pid).unwrap().contains(&pid));
        child.wait().unwrap();
        assert!(children(pid).is_err());
    }

    #[test]
    fn a_killed_process_is_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::with_pid(pid).unwrap();
        let handle = process.open().unwrap().unwrap();
        assert!(!handle.wait(Duration::from_millis(1)));
        handle.kill().unwrap();
        assert!(handle.wait(Duration::from_secs(5)));
        assert!(
            !process.lives().unwrap(),
            "not reaped, and dead all the same"
        );
        child.wait().unwrap();
    }
}
