//! The descendants of a process, as `/proc` shows them, and signals that reach no stranger.
//!
//! A scan is no snapshot: processes come and go while it reads. It only finds whom to signal;
//! that a tree is empty is proven by [`reap`] alone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, wait,
};

/// How often one round of SIGKILL looks for processes that were forked meanwhile.
const SCANS: usize = 16;

/// A process, as one scan saw it.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: Pid,
    stat: Stat,
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    /// When it started, in clock ticks after boot: tells it from a later one of the same id.
    started: u64,
    /// Whether it awaits being reaped, or only its first thread has ended, which looks the same.
    zombie: bool,
}

impl Stat {
    fn read(pid: Pid) -> Option<Self> {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        // Names are bytes as their owners chose them.
        Self::parse(&String::from_utf8_lossy(&fs::read(path).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold parentheses and spaces itself.
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self {
            parent,
            started,
            zombie: matches!(state, "Z" | "X"),
        })
    }
}

/// Every descendant of `root` that was not reaped; none where `/proc` can't be read.
fn descendants(root: Pid) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<(Pid, Stat)>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Some(stat) = Stat::read(pid)
        {
            children.entry(stat.parent).or_default().push((pid, stat));
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        // Taken out, since a scan that was overtaken may show a circle.
        for (pid, stat) in children.remove(&parent.as_raw_pid()).unwrap_or_default() {
            parents.push(pid);
            found.push(Process { pid, stat });
        }
    }
    found
}

/// Sends signals to a process, unless it has ended; returns its pidfd.
fn signal(process: Process, signals: &[Signal]) -> io::Result<OwnedFd> {
    let pidfd = pidfd_open(process.pid, PidfdFlags::empty())?;
    // Still the same one now, so the pidfd, which is older, is of no other.
    let same = Stat::read(process.pid).is_some_and(|stat| stat.started == process.stat.started);
    if !same {
        return Err(Errno::SRCH.into());
    }
    for signal in signals {
        pidfd_send_signal(&pidfd, *signal)?;
    }
    Ok(pidfd)
}

/// Sends signals to every living descendant of `root`, in one scan.
pub(super) fn signal_descendants(root: Pid, signals: &[Signal]) {
    for process in descendants(root) {
        // One that has ended needs no signal, and one that may not be signalled is named later on.
        signal(process, signals).ok();
    }
}

/// Sends SIGKILL to every living descendant of `root`, until a scan shows nobody new; returns the
/// pidfd of one whose end is worth waiting for.
pub(super) fn kill_descendants(root: Pid) -> Option<OwnedFd> {
    let mut known = HashSet::new();
    let mut one = None;
    for _ in 0..SCANS {
        let mut news = false;
        for process in descendants(root) {
            if known.insert((process.pid, process.stat.started)) {
                news = true;
                let pidfd = signal(process, &[Signal::KILL]).ok();
                one = pidfd.filter(|_| !process.stat.zombie).or(one);
            }
        }
        if !news {
            break;
        }
    }
    one
}

/// The ids of every living descendant of `root`.
pub(super) fn living(root: Pid) -> Vec<u32> {
    let all = descendants(root);
    let living = all.iter().filter(|process| !process.stat.zombie);
    living.map(|process| id(process.pid)).collect()
}

/// The id as a message has it.
pub(super) fn id(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// What [`reap`] found.
#[derive(Debug)]
pub(super) enum Reaped {
    /// A child that has ended.
    One(Pid, WaitStatus),
    /// Children are left, and none of them has ended.
    Alive,
    /// No child is left. In a subreaper, this proves that no descendant is.
    Empty,
}

/// Reaps one child of this process that has ended, of whichever thread; never blocks.
pub(super) fn reap() -> Reaped {
    // Children of every kind, or one that was cloned in an unusual way would pass for none.
    let all = WaitOptions::from_bits_retain(libc::__WALL.unsigned_abs());
    loop {
        match wait(WaitOptions::NOHANG | all) {
            Ok(Some((pid, status))) => return Reaped::One(pid, status),
            Err(Errno::CHILD) => return Reaped::Empty,
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return Reaped::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_no_obstacle() {
        let text = "42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1000";
        let stat = Stat {
            parent: 7,
            started: 99,
            zombie: false,
        };
        assert_eq!(Stat::parse(text), Some(stat));
    }

    #[test]
    fn this_process_can_be_read() {
        let me = rustix::process::getpid();
        let stat = Stat::read(me).unwrap();
        let parent = rustix::process::getppid().unwrap();
        assert_eq!(stat.parent, parent.as_raw_pid());
        assert!(descendants(parent).iter().any(|process| process.pid == me));
    }
}
