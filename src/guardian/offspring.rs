//! The processes that a Rust job started by itself, past the guardian: killed when the run is over,
//! by the daemon in which it ran, or by the guardian once that is dead.
//!
//! To the daemon they are children: it is a subreaper, so whoever loses its parent falls to it. When
//! it dies they fall to strangers, and are told by their [mark](super::mark).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};

use super::claims;
use super::client::{Kinship, kinship};
use super::mark::{self, Mark, MarkStatus, RunMark};
use super::proc::{is_own_child, kill_child};
use crate::clock::Instant;
use crate::proc::look::{listed, own_children, own_threads, seen};
use crate::proc::{self, Process, Stat};

/// So many looks in a row have to find nobody: one can miss the child of a process that forks and
/// ends in the midst of it.
const CLEAN_LOOKS: u32 = 2;

/// Between two rounds of SIGKILL; and once they have been in vain for [`LONG`].
const ROUNDS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// After so long somebody who can't be killed is named, and then every [`WORD`].
const LONG: Duration = Duration::from_secs(1);

/// How often a child that blocks every signal is looked at, in case it is just being started; and how
/// long after each time.
const STARTING_LOOKS: u32 = 20;
const STARTING_PAUSE: Duration = Duration::from_millis(1);

/// From one such word to the next.
const WORD: Duration = Duration::from_secs(5);

/// The processes of one run, in the daemon.
#[derive(Debug)]
pub(crate) struct Offspring {
    /// The children that were there before it.
    others: HashSet<Child>,
    run: Arc<RunMark>,
}

/// A child of this process, which keeps its number until it is reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Child {
    /// Told apart from all others.
    Seen(Process),
    /// One of which `/proc` shows us nothing.
    Hidden(i32),
}

impl Offspring {
    /// Of a run that begins now, and has this mark.
    ///
    /// # Errors
    /// Where the children of this process can't be looked at.
    pub(crate) fn of_new_run(run: &Arc<RunMark>) -> io::Result<Self> {
        let others = children()?.into_iter().map(|(child, _)| child);
        Ok(Self {
            others: others.collect(),
            run: Arc::clone(run),
        })
    }

    /// Kills all that live, in one round; returns whether none was left.
    pub(crate) fn kill(&self) -> bool {
        (0..CLEAN_LOOKS).all(|_| {
            let Ok(children) = self.children() else {
                return false;
            };
            let living = children.filter(|(_, has_ended)| !has_ended);
            // Its children fall to this process once it is dead, and are met in the next round.
            living.map(|(child, _)| child.kill()).count() == 0
        })
    }

    /// Reaps those that have ended. Only once nobody else can wait for them.
    pub(crate) fn reap(&self) {
        for (child, _) in self.children().into_iter().flatten() {
            _ = waitpid(Pid::from_raw(child.pid()), WaitOptions::NOHANG);
        }
    }

    /// As [`children`], those of the run alone. A child that bears no mark at all may be, and counts
    /// as one.
    fn children(&self) -> io::Result<impl Iterator<Item = (Child, bool)>> {
        let mut own = Vec::new();
        let others = mark::others(Some(&self.run));
        for (child, has_ended) in children()? {
            if !self.others.contains(&child) && !is_others(child, &others)? {
                own.push((child, has_ended));
            }
        }
        Ok(own.into_iter())
    }
}

/// Whether a child of this process is a guardian, or came of one of these runs.
fn is_others(child: Child, runs: &[Mark]) -> io::Result<bool> {
    // Guardians are no less our children, nor what a guardian has left that is dead.
    if let Child::Seen(process) = child {
        match kinship(process) {
            Kinship::Guardian => return Ok(true),
            // Neither to be killed nor to be passed over.
            Kinship::Starting => return Err(io::ErrorKind::WouldBlock.into()),
            Kinship::Other if claims::is_claimed(process, None) => return Ok(true),
            Kinship::Other => {}
        }
    }
    is_of_runs(child.pid(), runs)
}

/// Whether this child of ours came of one of these runs.
pub(super) fn is_of_runs(child: i32, runs: &[Mark]) -> io::Result<bool> {
    if runs.is_empty() {
        return Ok(false);
    }
    // Rust's own library empties the mask of what it starts; the kernel knows which thread that was.
    if by_threads_of(runs)?.contains(&child) {
        return Ok(true);
    }
    // While it is being started the C library has it block every signal.
    for _ in 0..STARTING_LOOKS {
        let Some(status) = MarkStatus::of(child)? else {
            return Ok(false);
        };
        if !status.blocks_all() {
            return Ok(status.is_of(runs));
        }
        std::thread::sleep(STARTING_PAUSE);
    }
    Ok(false)
}

/// The children of this process that threads of these runs have started, and not ended since: those of
/// a thread that has ended are another's.
fn by_threads_of(runs: &[Mark]) -> io::Result<HashSet<i32>> {
    let mut found = HashSet::new();
    for folder in own_threads()? {
        let children = seen(fs::read_to_string(folder.join("children")))?.unwrap_or_default();
        let mut children = children
            .split_whitespace()
            .flat_map(str::parse::<i32>)
            .peekable();
        if children.peek().is_none() {
            continue;
        }
        let status = MarkStatus::of_thread(&folder)?;
        if status.is_some_and(|status| status.is_of(runs)) {
            found.extend(children);
        }
    }
    Ok(found)
}

impl Child {
    const fn pid(self) -> i32 {
        match self {
            Self::Seen(process) => process.pid,
            Self::Hidden(pid) => pid,
        }
    }

    fn kill(self) {
        match self {
            // One that may not be killed lives on, and is found again.
            Self::Seen(process) => drop(process.kill()),
            Self::Hidden(pid) => kill_child(pid),
        }
    }
}

/// The children of this process, and whether each has ended.
fn children() -> io::Result<Vec<(Child, bool)>> {
    let mut children = Vec::new();
    for pid in own_children()? {
        match seen(Stat::read(pid))? {
            Some(stat) => children.push((Child::Seen(stat.process(pid)), stat.has_ended())),
            // Reaped meanwhile, or hidden.
            None if is_own_child(pid) => {
                children.push((Child::Hidden(pid), proc::has_ended_wholly(pid)));
            }
            None => {}
        }
    }
    Ok(children)
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
        let is_clean = |left: &io::Result<Vec<_>>| left.as_ref().is_ok_and(Vec::is_empty);
        let mut looks = (0..CLEAN_LOOKS).map(|_| bearers(self.mark));
        let Some(left) = looks.find(|left| !is_clean(left)) else {
            self.next_round = None;
            return Round::Clean;
        };
        // A look that may have been blind is no proof of anything.
        let left = left.unwrap_or_default();
        for process in &left {
            process.kill().ok();
        }
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
fn bearers(mark: Mark) -> io::Result<Vec<Process>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut open = Vec::new();
    for pid in listed()? {
        if let Some(status) = MarkStatus::of(pid)? {
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
            && let Some(stat) = seen(Stat::read(pid))?
        {
            open.extend(children.remove(&pid).unwrap_or_default());
            if !stat.has_ended() {
                bearers.push(stat.process(pid));
            }
        }
    }
    Ok(bearers)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::clock;
    use crate::proc::look::tests::{all_descriptors, is_alone};

    #[test]
    fn a_look_that_is_blind_proves_no_offspring_gone() {
        if !is_alone("guardian::offspring::tests::a_look_that_is_blind_proves_no_offspring_gone") {
            return;
        }
        let mut before = Command::new("sleep").arg("60").spawn().unwrap();
        let run = RunMark::take().unwrap();
        let processes = Offspring::of_new_run(&run).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut orphans = Orphans::of(1);
        let held = all_descriptors();
        let blind = (processes.kill(), Offspring::of_new_run(&run).is_err());
        let round = orphans.round(clock::now());
        drop(held);
        assert_eq!(blind, (false, true));
        assert_eq!(round, Round::Left(Vec::new()));
        while !processes.kill() {
            std::thread::yield_now();
        }
        processes.reap();
        assert!(child.wait().is_err(), "it was reaped");
        assert!(before.try_wait().unwrap().is_none(), "it is not the run's");
        before.kill().unwrap();
        before.wait().unwrap();
        let next = orphans.next_round().unwrap();
        assert_eq!(orphans.round(next), Round::Clean);
    }
}
