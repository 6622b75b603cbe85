//! The descendants of a process, as `/proc` shows them, and signals that reach no stranger.
//!
//! A scan is no snapshot: processes come and go while it reads. It only finds whom to signal;
//! that a tree is empty is proven by [`reap`] alone.

use std::collections::{HashMap, HashSet};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait, waitpid};

use crate::proc::{self, Handle, Process, Stat};

/// How often one round of SIGKILL looks for processes that were forked meanwhile.
const SCANS: usize = 16;

/// Every living descendant of `root`; none where `/proc` can't be read.
fn descendants(root: Pid) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<(i32, Stat)>> = HashMap::new();
    for pid in proc::all() {
        if let Some(stat) = Stat::of(pid) {
            children.entry(stat.parent).or_default().push((pid, stat));
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![root.as_raw_pid()];
    while let Some(parent) = parents.pop() {
        // Taken out, since a scan that was overtaken may show a circle.
        for (pid, stat) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            if !stat.has_ended() {
                found.push(stat.process(pid));
            }
        }
    }
    found
}

/// Sends signals to a process; returns it, open, unless it has ended or may not be signalled.
fn signal(process: Process, signals: &[Signal]) -> Option<Handle> {
    let handle = process.open().ok()??;
    for signal in signals {
        handle.signal(*signal).ok()?;
    }
    Some(handle)
}

/// Sends signals to every living descendant of `root`, in one scan.
pub(super) fn signal_descendants(root: Pid, signals: &[Signal]) {
    for process in descendants(root) {
        // One that may not be signalled is named later on.
        drop(signal(process, signals));
    }
}

/// Sends SIGKILL to every living descendant of `root`, until a scan shows nobody new; returns one
/// whose end is worth waiting for.
pub(super) fn kill_descendants(root: Pid) -> Option<Handle> {
    let mut known = HashSet::new();
    let mut one = None;
    for _ in 0..SCANS {
        let mut news = false;
        for process in descendants(root) {
            if known.insert(process) {
                news = true;
                one = signal(process, &[Signal::KILL]).or(one);
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
    let living = descendants(root).into_iter();
    living.map(|process| process.pid.unsigned_abs()).collect()
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

/// Reaps one child as [`reap`] does, after `look` was called with it still there. Only while a child
/// is left for sure: says [`Reaped::Alive`] where none has ended.
pub(super) fn reap_after(look: impl FnOnce()) -> Reaped {
    #[allow(
        unsafe_code,
        reason = "nothing safe tells which child has ended without reaping it; zeroes are a valid \
                  `siginfo_t`, and the call fills in the id or leaves it 0"
    )]
    // SAFETY: see the reason above.
    let pid = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        libc::waitid(libc::P_ALL, 0, &raw mut info, options);
        info.si_pid()
    };
    let Some(pid) = Pid::from_raw(pid) else {
        return Reaped::Alive;
    };
    look();
    let all = WaitOptions::from_bits_retain(libc::__WALL.unsigned_abs());
    match waitpid(Some(pid), WaitOptions::NOHANG | all) {
        Ok(Some((pid, status))) => Reaped::One(pid, status),
        _ => Reaped::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_below_its_parent() {
        let parent = rustix::process::getppid().unwrap();
        assert!(descendants(parent).contains(&Process::this()));
    }
}
