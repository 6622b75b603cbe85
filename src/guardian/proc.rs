//! The descendants of a process, and signals that reach no stranger.
//!
//! A look is no snapshot: processes come and go meanwhile. It only finds whom to signal. Whom it finds
//! is another matter: `/proc` may hide processes of our own (hidepid), but not our children, and whoever
//! loses its parent becomes one. That a tree is empty is proven by [`reap`], or where a tracer keeps
//! what has ended from us, by [`held`].

use std::collections::{HashMap, HashSet};
use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, kill_process, wait,
    waitid, waitpid,
};

use crate::proc::look::{listed, own_children};
use crate::proc::survivor::{Survivor, tracer};
use crate::proc::{self, Handle, Process, Stat};

/// How often one round of SIGKILL looks for processes that were forked meanwhile.
const LOOKS: usize = 16;

/// A living process, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FoundProcess {
    /// Told apart from all others.
    Seen(Process),
    /// A child of this process, of which `/proc` shows us nothing.
    Hidden(i32),
}

impl FoundProcess {
    fn pid(self) -> i32 {
        match self {
            Self::Seen(process) => process.pid,
            Self::Hidden(pid) => pid,
        }
    }

    /// Opens it; nothing where it has ended.
    fn open(self) -> io::Result<Option<Handle>> {
        match self {
            Self::Seen(process) => process.open(),
            Self::Hidden(pid) => {
                Ok(Handle::open(pid)?.filter(|handle| is_child(WaitId::PidFd(handle.fd()))))
            }
        }
    }
}

/// Whether it is a child of this process, and so has kept its number.
fn is_child(child: WaitId<'_>) -> bool {
    peek(child).is_ok()
}

/// Whether the process with this number is a child of this one.
pub(super) fn is_own_child(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| is_child(WaitId::Pid(pid)))
}

/// Sends SIGKILL to a child of this process.
pub(super) fn kill_child(pid: i32) {
    signal_child(pid, &[Signal::KILL]);
}

/// Whether a child can be reaped, without reaping it; fails on whoever is none.
fn peek(child: WaitId<'_>) -> rustix::io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let all = WaitIdOptions::from_bits_retain(libc::__WALL.unsigned_abs());
    Ok(waitid(child, options | all)?.is_some())
}

/// Whether a child has ended and can't be reaped.
pub(super) fn is_kept(pid: i32) -> bool {
    let child = Pid::from_raw(pid).map(WaitId::Pid);
    proc::has_ended_wholly(pid) && child.is_some_and(|child| peek(child) == Ok(false))
}

/// Which children of the root are to be left alone, with all below them.
type Spares<'a> = &'a dyn Fn(i32) -> bool;

/// Nobody is.
pub(super) fn nobody(_: i32) -> bool {
    false
}

/// Every living descendant of `root` that can be seen, its own children in any case; but for those
/// that `spares` names.
fn descendants(root: Pid, spares: Spares<'_>) -> Vec<FoundProcess> {
    let root = root.as_raw_pid();
    let mut family = Family {
        spares,
        spared: HashSet::new(),
        known: HashSet::new(),
        found: Vec::new(),
    };
    if !family.descend(root) {
        // Whose children can't be listed may have some all the same.
        family.scan(root);
    }
    family.found
}

/// What a look has found.
struct Family<'a> {
    spares: Spares<'a>,
    spared: HashSet<i32>,
    known: HashSet<i32>,
    found: Vec<FoundProcess>,
}

impl Family<'_> {
    /// Follows the kernel's lists of children. Returns whether all of them could be read.
    fn descend(&mut self, root: i32) -> bool {
        let mut whole = true;
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            let children = match proc::children(parent) {
                Err(_) if parent == getpid().as_raw_pid() => {
                    whole = false;
                    Ok(proc::kept_children())
                }
                children => children,
            };
            let Ok(children) = children else {
                // One that has ended meanwhile has none.
                whole &= parent != root && Stat::of(parent).is_none_or(|stat| stat.has_ended());
                whole &= !self.found.contains(&FoundProcess::Hidden(parent));
                continue;
            };
            for pid in children {
                if self.known.contains(&pid) || self.is_spared(parent == root, pid) {
                    continue;
                }
                self.known.insert(pid);
                parents.push(pid);
                match Stat::of(pid) {
                    Some(stat) if is_over(pid, &stat) => {}
                    Some(stat) => self.found.push(FoundProcess::Seen(stat.process(pid))),
                    // Only own children are sure to be there still.
                    None if parent == root && root == getpid().as_raw_pid() => {
                        self.found.push(FoundProcess::Hidden(pid));
                    }
                    None => whole = false,
                }
            }
        }
        whole
    }

    fn is_spared(&mut self, is_child: bool, pid: i32) -> bool {
        if is_child && (self.spares)(pid) {
            self.spared.insert(pid);
        }
        self.spared.contains(&pid)
    }

    /// Looks at all processes that are shown, for those whose parents are known.
    fn scan(&mut self, root: i32) {
        let mut children: HashMap<i32, Vec<(i32, Stat)>> = HashMap::new();
        for pid in listed().unwrap_or_default() {
            if let Some(stat) = Stat::of(pid) {
                children.entry(stat.parent).or_default().push((pid, stat));
            }
        }
        let mut parents = vec![root];
        parents.extend(&self.known);
        while let Some(parent) = parents.pop() {
            // Taken out, since a scan that was overtaken may show a circle.
            for (pid, stat) in children.remove(&parent).unwrap_or_default() {
                if self.is_spared(parent == root, pid) {
                    continue;
                }
                parents.push(pid);
                if self.known.insert(pid) && !is_over(pid, &stat) {
                    self.found.push(FoundProcess::Seen(stat.process(pid)));
                }
            }
        }
    }
}

/// Whether no thread of the process runs any more.
fn is_over(pid: i32, stat: &Stat) -> bool {
    stat.has_ended() || (matches!(stat.state, 'Z' | 'X') && proc::has_ended_wholly(pid))
}

/// Sends signals to a process; returns it, open, unless it has ended or may not be signalled.
fn signal(found: FoundProcess, signals: &[Signal]) -> Option<Handle> {
    let Ok(handle) = found.open() else {
        signal_child(found.pid(), signals);
        return None;
    };
    let handle = handle?;
    for signal in signals {
        handle.signal(*signal).ok()?;
    }
    Some(handle)
}

/// Sends signals to a child of this process, which keeps its number until it is reaped, without a
/// descriptor for it. Whoever is none becomes one once those above it are dead.
fn signal_child(pid: i32, signals: &[Signal]) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    if is_child(WaitId::Pid(pid)) {
        for signal in signals {
            kill_process(pid, *signal).ok();
        }
    }
}

/// Sends signals to every living descendant of `root`, in one look.
pub(super) fn signal_descendants(root: Pid, signals: &[Signal]) {
    for found in descendants(root, &nobody) {
        // One that may not be signalled is named later on.
        drop(signal(found, signals));
    }
}

/// Sends SIGKILL to every living descendant of `root` but those that `spares` names, until a look shows
/// nobody new; returns one whose end is worth waiting for.
pub(super) fn kill_descendants(root: Pid, spares: Spares<'_>) -> Option<Handle> {
    let mut known = HashSet::new();
    let mut one = None;
    for _ in 0..LOOKS {
        let mut news = false;
        for found in descendants(root, spares) {
            if known.insert(found) {
                news = true;
                one = signal(found, &[Signal::KILL]).or(one);
            }
        }
        if !news {
            break;
        }
    }
    one
}

/// Every living descendant of `root` but those that `spares` names, as people want to know it.
pub(super) fn survivors(root: Pid, spares: Spares<'_>) -> Vec<Survivor> {
    let living = descendants(root, spares).into_iter();
    living.map(|found| Survivor::of(found.pid())).collect()
}

/// The children of this process, if all of them have ended and only others can reap them: then nothing
/// below it runs, since whoever ends hands its children on before. `None` if any may live. To be asked
/// while there are children: a list without any was not read whole.
pub(super) fn held() -> Option<Vec<i32>> {
    let before = own_children().ok()?;
    if before.is_empty() || !before.iter().all(|pid| is_kept(*pid)) {
        return None;
    }
    // Any that came meanwhile came of one that has ended since.
    let after = own_children().ok()?;
    after
        .iter()
        .all(|pid| before.contains(pid))
        .then_some(after)
}

/// Says who holds what has ended.
pub(super) fn say_held(held: &[i32]) {
    for pid in held {
        let process = Survivor::of(*pid);
        let tracer = tracer(*pid).map(|tracer| Survivor::of(tracer).to_string());
        tracing::warn!(process = %process, tracer, "a process that has ended is kept by its tracer");
    }
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
    /// Children are left, and none of them can be reaped.
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
        assert!(descendants(parent, &nobody).contains(&FoundProcess::Seen(Process::this())));
        let mut family = Family {
            spares: &nobody,
            spared: HashSet::new(),
            known: HashSet::new(),
            found: Vec::new(),
        };
        family.scan(parent.as_raw_pid());
        assert!(family.found.contains(&FoundProcess::Seen(Process::this())));
    }
}
