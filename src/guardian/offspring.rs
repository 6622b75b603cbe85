//! The processes that a Rust job started by itself, past the guardian: killed when the run is over,
//! by the daemon in which it ran, or by the guardian once that is dead.
//!
//! To the daemon they are children: it is a subreaper, so whoever loses its parent falls to it. When
//! it dies they fall to strangers, and are told by their [mark](super::mark).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};

use super::client::is_guardian;
use super::mark::{Mark, Status};
use crate::clock::Instant;
use crate::proc::{self, Process, Stat};

/// So many looks in a row have to find nobody: one can miss the child of a process that forks and
/// ends in the midst of it.
const CLEAN_LOOKS: u32 = 2;

/// Between two rounds of SIGKILL; and once they have been in vain for [`LONG`].
const ROUNDS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// After so long somebody who can't be killed is named, and then every [`WORD`].
const LONG: Duration = Duration::from_secs(1);

/// From one such word to the next.
const WORD: Duration = Duration::from_secs(5);

/// The processes of one run, in the daemon.
#[derive(Debug)]
pub(crate) struct Offspring {
    /// The children that were there before it.
    others: HashSet<Process>,
}

impl Offspring {
    /// Of a run that begins now.
    pub(crate) fn of_new_run() -> Self {
        let others = children().into_iter().map(|(process, _)| process);
        Self {
            others: others.collect(),
        }
    }

    /// Kills all that live, in one round; returns whether none was left.
    pub(crate) fn kill(&self) -> bool {
        (0..CLEAN_LOOKS).all(|_| {
            let living = self.children().filter(|(_, stat)| !stat.has_ended());
            // Its children fall to this process once it is dead, and are met in the next round.
            living.map(|(process, _)| kill(process)).count() == 0 && proc::can_look()
        })
    }

    /// Reaps those that have ended. Only once nobody else can wait for them.
    pub(crate) fn reap(&self) {
        for (process, _) in self.children() {
            _ = waitpid(Pid::from_raw(process.pid), WaitOptions::NOHANG);
        }
    }

    fn children(&self) -> impl Iterator<Item = (Process, Stat)> {
        let children = children().into_iter();
        // Guardians are no less our children. They are known before they are told from others here.
        children.filter(|(process, _)| !self.others.contains(process) && !is_guardian(*process))
    }
}

/// The children of this process, dead ones included.
fn children() -> Vec<(Process, Stat)> {
    let this = Process::this().pid;
    let pids = listed_children().unwrap_or_else(proc::all);
    let children = pids
        .into_iter()
        .filter_map(|pid| Some((pid, Stat::of(pid)?)));
    children
        .filter(|(_, stat)| stat.parent == this)
        .map(|(pid, stat)| (stat.process(pid), stat))
        .collect()
}

/// The children of each of our threads, as the kernel lists them; `None` where it doesn't.
fn listed_children() -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(
                list.split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            // A thread that has ended meanwhile has handed its children on.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(children)
}

/// Sends SIGKILL; one that may not be killed lives on, and is found again.
fn kill(process: Process) {
    if let Ok(Some(handle)) = process.open() {
        handle.kill().ok();
    }
}

/// The processes of the Rust job of a daemon that is dead, in its guardian.
#[derive(Debug)]
pub(super) struct Orphans {
    mark: Mark,
    /// When they were looked for first.
    since: Option<Instant>,
    next_round: Option<Instant>,
    next_word: Option<Instant>,
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Nobody was left.
    Clean,
    /// Not yet; these were to be named, if any.
    Left(Vec<u32>),
}

impl Orphans {
    /// What the jobs of `daemon` leave behind when it dies.
    pub(super) fn of(daemon: i32) -> Self {
        Self {
            mark: Mark::of(daemon),
            since: None,
            next_round: None,
            next_word: None,
        }
    }

    /// When the next round is due, once there was a first.
    pub(super) const fn next_round(&self) -> Option<Instant> {
        self.next_round
    }

    /// Kills all that live, in one round, unless it is too soon for that.
    pub(super) fn round(&mut self, now: Instant) -> Round {
        if self.next_round.is_some_and(|at| now < at) {
            return Round::Left(Vec::new());
        }
        let since = *self.since.get_or_insert(now);
        let mut left = Vec::new();
        let mut looked = proc::can_look();
        for _ in 0..CLEAN_LOOKS {
            left = bearers(self.mark);
            looked &= proc::can_look();
            if !left.is_empty() {
                break;
            }
        }
        if left.is_empty() && looked {
            self.next_round = None;
            return Round::Clean;
        }
        left.iter().copied().for_each(kill);
        let vain = now.since(since) > LONG;
        self.next_round = Some(now + if vain { ROUNDS.1 } else { ROUNDS.0 });
        if !vain || self.next_word.is_some_and(|at| now < at) {
            return Round::Left(Vec::new());
        }
        self.next_word = Some(now + WORD);
        Round::Left(
            left.iter()
                .map(|process| process.pid.unsigned_abs())
                .collect(),
        )
    }
}

/// The living processes that bear `mark`, and all that are below them.
fn bearers(mark: Mark) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut open = Vec::new();
    for pid in proc::all() {
        if let Some(status) = Status::of(pid) {
            children.entry(status.parent).or_default().push(pid);
            if status.bears(mark) {
                open.push(pid);
            }
        }
    }
    let mut found = HashSet::new();
    let mut bearers = Vec::new();
    while let Some(pid) = open.pop() {
        if found.insert(pid)
            && let Some(stat) = Stat::of(pid)
        {
            open.extend(children.remove(&pid).unwrap_or_default());
            if !stat.has_ended() {
                bearers.push(stat.process(pid));
            }
        }
    }
    bearers
}
