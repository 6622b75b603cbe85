//! The mark of what came of a Rust job, threads and processes alike.
//!
//! A thread begins with the signal mask of the one that started it, and so does a process, which
//! keeps it when it executes a program and hands it on in its turn. So the first thread of a run
//! blocks signals that nobody uses, and whoever blocks them came of that one, at however many
//! removes. Which of them are blocked says of which daemon, and of which of the runs that go on in it
//! beside each other.
//!
//! A program that empties its mask sheds the mark; few do.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::proc::look::seen;
use crate::proc::{self, Process};

/// Blocked in everything of any job. The last real-time signal but one.
pub(crate) const SIGNAL: i32 = 63;

/// The first of the signals that say of which daemon, and how many they are.
const NAMES: (i32, u32) = (44, 18);

/// The first of the signals that say of which run, and how many they are. None is blocked in the first:
/// a program that uses one of them itself sees no difference there.
const RUNS: (i32, u32) = (37, 7);

/// The signals that say of which daemon, whether they are blocked or not. Those around [`SIGNAL`]
/// never are: programs that block everything bear no mark.
const FIELD: u64 = !0 << (NAMES.0 - 1);

/// Those that say of which run, too.
const RUN_FIELD: u64 = !0 << (RUNS.0 - 1);

/// The runs that go on in this process; a bit for each by its number.
static GOING_ON: Mutex<u128> = Mutex::new(0);

/// The signals that are blocked in what came of the Rust jobs of one daemon; a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// The mark of what comes of the jobs in the daemon with this number, which shares its namespace
    /// of processes with this one. Asks nothing of the daemon, which may hide from its guardian.
    pub(super) fn of(daemon: i32) -> Self {
        // Elsewhere on the host others may have the same number.
        let namespace = std::fs::metadata("/proc/self/ns/pid");
        Self::named(daemon, namespace.map_or(0, |it| it.ino()))
    }

    /// The mark of what comes of the run with this number in this process.
    fn of_run(number: u32) -> Self {
        let Self(daemon) = Self::of(Process::this().pid);
        Self(daemon | u64::from(number) << (RUNS.0 - 1))
    }

    const fn named(daemon: i32, namespace: u64) -> Self {
        let mixed = namespace ^ (daemon.unsigned_abs() as u64) << 40;
        let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let name = mixed >> (u64::BITS - NAMES.1);
        Self(name << (NAMES.0 - 1) | 1 << (SIGNAL - 1))
    }

    /// The signals that are blocked in it.
    pub(crate) fn signals(self) -> impl Iterator<Item = i32> {
        (1..=64).filter(move |signal| self.0 >> (signal - 1) & 1 == 1)
    }

    /// Whether whoever blocks these signals bears it, or that of another run in the same daemon.
    const fn is_in(self, blocked: u64) -> bool {
        blocked & FIELD == self.0 & FIELD
    }

    /// Whether whoever blocks these signals bears this very mark.
    const fn is_all_of(self, blocked: u64) -> bool {
        blocked & RUN_FIELD == self.0
    }
}

/// The mark of a run in this process, which no other has as long as it goes on.
#[derive(Debug)]
pub(crate) struct RunMark {
    number: u32,
    mark: Mark,
}

impl RunMark {
    /// That of a run that begins now.
    ///
    /// # Errors
    /// When there are more runs than marks.
    pub(crate) fn take() -> io::Result<Arc<Self>> {
        let mut going_on = going_on();
        let number = going_on.trailing_ones();
        if number >= 1 << RUNS.1 {
            return Err(io::Error::other("too many runs in one daemon"));
        }
        *going_on |= 1 << number;
        let mark = Mark::of_run(number);
        Ok(Arc::new(Self { number, mark }))
    }

    /// The signals that are blocked in what comes of it.
    pub(crate) fn signals(&self) -> impl Iterator<Item = i32> {
        self.mark.signals()
    }
}

impl Drop for RunMark {
    fn drop(&mut self) {
        *going_on() &= !(1 << self.number);
    }
}

/// The marks of all runs that go on in this process but this one.
pub(crate) fn others(own: Option<&RunMark>) -> Vec<Mark> {
    let going_on = *going_on();
    let numbers = (0..1 << RUNS.1).filter(|number| going_on >> number & 1 == 1);
    let others = numbers.filter(|number| own.is_none_or(|own| own.number != *number));
    others.map(Mark::of_run).collect()
}

fn going_on() -> MutexGuard<'static, u128> {
    GOING_ON.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `/proc/PID/status` says of a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkStatus {
    /// The parent's process id.
    pub(crate) parent: i32,
    /// The signals that it blocks; a bit each.
    blocked: u64,
}

impl MarkStatus {
    /// The process with this number now, unless it is gone or hides from us.
    ///
    /// # Errors
    /// Where it can't be looked at.
    pub(super) fn of(pid: i32) -> io::Result<Option<Self>> {
        Self::in_text(proc::read(pid, "status"))
    }

    /// The thread of this process that has this folder in `/proc`, unless it is gone.
    ///
    /// # Errors
    /// Where it can't be looked at.
    pub(crate) fn of_thread(folder: &Path) -> io::Result<Option<Self>> {
        Self::in_text(std::fs::read(folder.join("status")))
    }

    fn in_text(text: io::Result<Vec<u8>>) -> io::Result<Option<Self>> {
        let Some(text) = seen(text)? else {
            return Ok(None);
        };
        let status = Self::parse(&String::from_utf8_lossy(&text));
        status
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads the text of such a file.
    fn parse(text: &str) -> Option<Self> {
        let field = |name| {
            let mut lines = text.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
        };
        Some(Self {
            parent: field("PPid:")?.parse().ok()?,
            blocked: u64::from_str_radix(field("SigBlk:")?, 16).ok()?,
        })
    }

    /// Whether it bears this mark.
    pub(super) const fn bears(self, mark: Mark) -> bool {
        mark.is_in(self.blocked)
    }

    /// Whether it came of one of these runs of this daemon.
    pub(crate) fn is_of(self, runs: &[Mark]) -> bool {
        runs.iter().any(|run| run.is_all_of(self.blocked))
    }

    /// Whether it blocks all signals that make a mark, as no mark has it.
    pub(crate) const fn blocks_all(self) -> bool {
        self.blocked & RUN_FIELD == RUN_FIELD
    }

    /// Whether it blocks this signal.
    pub(crate) const fn blocks(self, signal: i32) -> bool {
        self.blocked >> (signal - 1) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read_by_its_bits() {
        let text = "Name:\tx\nPPid:\t7\nSigBlk:\t4000000000000000\nSigIgn:\t0000000000000001\n";
        let status = MarkStatus::parse(text).unwrap();
        assert_eq!(status.parent, 7);
        assert!(status.blocks(63));
        assert!(!status.blocks(62) && !status.blocks(1));
        assert_eq!(MarkStatus::parse("Name:\tx\n"), None);
    }

    #[test]
    fn a_mark_is_one_daemons_and_nobodys_else() {
        let mark = Mark::named(4711, 123_456);
        let blocked = mark
            .signals()
            .fold(0, |mask, signal| mask | 1 << (signal - 1));
        assert!(mark.is_in(blocked));
        assert!(mark.is_in(blocked | 1 << 14), "SIGTERM blocked besides");
        for (pid, namespace) in [(4712, 123_456), (4711, 123_457), (4711, 123_356)] {
            assert!(!Mark::named(pid, namespace).is_in(blocked));
        }
        for stranger in [0, !0, 1 << 62, !0 >> 1] {
            assert!(!mark.is_in(stranger), "{stranger:x}");
        }
    }

    #[test]
    fn runs_beside_each_other_are_told_apart_and_are_of_one_daemon() {
        let marks: Vec<_> = (0..8).map(|_| RunMark::take().unwrap()).collect();
        for (at, run) in marks.iter().enumerate() {
            let blocked = run.signals().fold(0, |mask, it| mask | 1 << (it - 1));
            let status = MarkStatus { parent: 1, blocked };
            assert!(status.bears(Mark::of(Process::this().pid)));
            assert!(!status.is_of(&others(Some(run))), "{at}");
            let another = marks.get(at + 1).or(marks.first()).unwrap();
            assert!(status.is_of(&others(Some(another))), "{at}");
        }
        let last = marks.last().unwrap().mark;
        assert!(others(None).contains(&last));
        drop(marks);
        assert!(!others(None).contains(&last));
    }
}
