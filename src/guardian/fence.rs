//! The daemon's last resort: to kill everything below it, the guardian first of all, and prove it.
//!
//! Called by [`client`](super::client), and by whoever else has to be sure that nothing below
//! this process lives. Needs no guardian and no socket.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use super::claims;
use super::client::{Kinship, kinship, others};
use super::mark::{self, Mark, RunMark};
use super::offspring::is_of_runs;
use super::proc::{self, Reaped};
use crate::clock::{self, Instant};
use crate::proc::look::{own_children, seen};
use crate::proc::survivor::{InVain, Survivor};
use crate::proc::{Handle, Process, Stat};

/// Between two rounds of SIGKILL, at most.
const ROUND: Duration = Duration::from_millis(10);

/// So many looks in a row have to find nobody.
const CLEAN_LOOKS: u32 = 2;

/// Makes this process the one to which processes fall whose parents die. The daemon is one from
/// before its guardian starts, so that it can fence in the guardian's place.
///
/// # Errors
/// Fails where the process has no file descriptors left.
pub fn become_subreaper() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    crate::proc::keep_children()
}

/// What is told of who lives on.
pub type Tell = Arc<dyn Fn(Vec<Survivor>) + Send + Sync>;

/// How a fence goes about it.
#[derive(Clone)]
pub struct FenceSettings {
    /// When it gives up; never, if nothing is said.
    pub until: Option<Instant>,
    /// After so long whoever lives is told of.
    pub kill_budget: Duration,
    /// Told of them.
    pub tell: Tell,
    /// The run of the guardian's own Rust job; what came of others lives on.
    pub(crate) own_run: Weak<RunMark>,
}

impl FenceSettings {
    /// With a process that runs no job in Rust.
    pub fn new(until: Option<Instant>, kill_budget: Duration, tell: Tell) -> Self {
        Self {
            until,
            kill_budget,
            tell,
            own_run: Weak::new(),
        }
    }
}

/// The killing of every descendant of this process that is nobody else's, until none is left.
#[derive(Clone)]
pub(super) struct Fence {
    /// Killed first: what it runs falls to this process then, and nothing is started any more. A
    /// look at `/proc` may not show it.
    guardian: Arc<Handle>,
    pid: Pid,
    in_vain: InVain,
    settings: FenceSettings,
}

/// How far a fence has come.
pub(super) enum Fenced {
    /// None is left, which is proven for processes that lost their parents after
    /// [`become_subreaper`].
    Empty,
    /// Some live; one whose end is worth waiting for.
    Alive(Option<Handle>),
    /// Some live, and the time is over.
    GivenUp,
}

impl Fence {
    /// Of the tree of this guardian.
    pub(super) fn new(guardian: Arc<Handle>, pid: Pid, settings: FenceSettings) -> Self {
        Self {
            guardian,
            pid,
            in_vain: InVain::from(clock::now(), settings.kill_budget),
            settings,
        }
    }

    /// Kills and reaps once.
    ///
    /// Takes their exit status away from whoever waits for it.
    pub(super) fn round(&mut self) -> Fenced {
        let me = getpid();
        // One that can't be killed is named among the others.
        self.guardian.kill().ok();
        let one = proc::kill_descendants(me, &|child| self.spares(child));
        if self.is_alone() {
            if reaped_all() {
                return self.done();
            }
            if let Some(held) = proc::held() {
                proc::say_held(&held);
                return self.done();
            }
        } else {
            self.reap();
            if self.proves_empty() {
                return self.done();
            }
        }
        let now = clock::now();
        if self.in_vain.is_due(now) {
            (self.settings.tell)(proc::survivors(me, &|child| self.spares(child)));
        }
        if self.settings.until.is_some_and(|until| now >= until) {
            return Fenced::GivenUp;
        }
        Fenced::Alive(one)
    }

    fn done(&self) -> Fenced {
        claims::give_up(self.pid.as_raw_pid());
        Fenced::Empty
    }

    /// Whether nobody is below this process but what this guardian has guarded.
    fn is_alone(&self) -> bool {
        let (others, starting) = others(self.pid);
        others.is_empty() && !starting && self.other_runs().is_empty()
    }

    fn other_runs(&self) -> Vec<Mark> {
        let own = self.settings.own_run.upgrade();
        mark::others(own.as_deref())
    }

    /// Whether this child of this process is to be left alone, with all that is below it: it is another's,
    /// or may be. To be asked when it is about to be killed, since guardians come and go.
    fn spares(&self, child: i32) -> bool {
        let ((others, starting), runs) = (others(self.pid), self.other_runs());
        if others.is_empty() && !starting && runs.is_empty() {
            return false;
        }
        match self.is_others(child, &runs) {
            Ok(is_others) => is_others,
            // Whoever can't be looked at: of guardians it is enough to know the numbers.
            Err(_) => starting || !runs.is_empty() || others.contains(&child),
        }
    }

    /// Whether a child of this process is another's; what isn't is this guardian's from here on.
    ///
    /// # Errors
    /// Where that can't be told yet.
    fn is_others(&self, child: i32, runs: &[Mark]) -> io::Result<bool> {
        let own = self.pid.as_raw_pid();
        let Some(stat) = seen(Stat::read(child))? else {
            // It hides, as no guardian does.
            return is_of_runs(child, runs);
        };
        let process = stat.process(child);
        match kinship(process) {
            Kinship::Guardian => return Ok(child != own),
            Kinship::Starting => return Err(io::ErrorKind::WouldBlock.into()),
            Kinship::Other => {}
        }
        if claims::is_claimed(process, Some(own)) || is_of_runs(child, runs)? {
            return Ok(true);
        }
        claims::claim(process, own);
        Ok(false)
    }

    /// Those children of this process that aren't another's, those that have ended included.
    ///
    /// # Errors
    /// Where one of them can't be told yet.
    fn children(&self) -> io::Result<Vec<i32>> {
        let runs = self.other_runs();
        let mut ours = Vec::new();
        for child in own_children()? {
            if !self.is_others(child, &runs)? {
                ours.push(child);
            }
        }
        Ok(ours)
    }

    fn reap(&self) {
        for child in self.children().unwrap_or_default() {
            _ = has_left(child);
        }
    }

    /// Whether all children of this process are others'. Who loses its parent goes to the end of the
    /// kernel's list of them before that parent leaves it, and none of the others' leaves its place:
    /// so one look finds it; the second is for those that do leave.
    fn proves_empty(&self) -> bool {
        (0..CLEAN_LOOKS).all(|_| {
            let children = self.children();
            children.is_ok_and(|ours| ours.iter().all(|child| proc::is_kept(*child)))
        })
    }

    /// Kills and reaps until none is left or the time is over; returns whether none is left.
    ///
    /// Blocks the calling thread.
    pub(super) fn run(mut self) -> bool {
        loop {
            match self.round() {
                Fenced::Empty => return true,
                Fenced::GivenUp => return false,
                Fenced::Alive(one) => pause(one.as_ref(), self.settings.until),
            }
        }
    }

    /// The pause between two rounds, for whoever can't block.
    pub(super) async fn pause() {
        clock::sleep(ROUND).await;
    }
}

/// Reaps all children of this process that have ended; whether there is none any more.
fn reaped_all() -> bool {
    loop {
        match proc::reap() {
            Reaped::One(..) => {}
            Reaped::Alive => return false,
            Reaped::Empty => return true,
        }
    }
}

/// Kills what fell to this process when a guardian of checks was killed, and reaps it, for at most
/// `limit`: the check's main process, which the kernel has killed already, and those that carry all of
/// `variables` in their environment. Leaves every other child of this process alone.
///
/// Blocks the calling thread.
///
/// # Errors
/// Where the children can't be looked at by then: some may live.
pub fn fence_check(main: Option<i32>, variables: &[String], limit: Duration) -> io::Result<()> {
    let until = clock::now() + limit;
    let mut left: Vec<i32> = main.into_iter().collect();
    loop {
        // The children of one that was killed have fallen to this process in their turn.
        let looked = carriers(variables).map(|found| left.extend(found));
        if until.has_passed() || (left.is_empty() && looked.is_ok()) {
            return looked;
        }
        if left.is_empty() {
            std::thread::sleep(ROUND);
        }
        for pid in &left {
            if let Ok(Some(handle)) = Handle::open(*pid) {
                handle.kill().ok();
                handle.wait(ROUND);
            }
        }
        left.retain(|pid| !has_left(*pid));
    }
}

/// The living children of this process that carry all of these in their environment.
fn carriers(variables: &[String]) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    // Whoever is started with these variables itself hands them on to each of its children.
    if carries(Process::this().pid, variables)? {
        return Ok(found);
    }
    for pid in own_children()? {
        let stat = seen(Stat::read(pid))?;
        if stat.is_some_and(|stat| !stat.has_ended()) && carries(pid, variables)? {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether the environment of a process has all of these, each `NAME=value`.
fn carries(pid: i32, variables: &[String]) -> io::Result<bool> {
    let environ = seen(crate::proc::read(pid, "environ"))?.unwrap_or_default();
    let has = |variable: &String| {
        environ
            .split(|byte| *byte == 0)
            .any(|it| it == variable.as_bytes())
    };
    Ok(variables.iter().all(has))
}

/// Whether no child of this number is left; reaps one that has ended.
fn has_left(pid: i32) -> bool {
    let pid = Pid::from_raw(pid);
    !matches!(waitpid(pid, WaitOptions::NOHANG), Ok(None))
}

/// Waits for the end of one process, for one round at most.
fn pause(one: Option<&Handle>, until: Option<Instant>) {
    let limit = until.map_or(ROUND, |until| until.remaining().min(ROUND));
    match one {
        Some(process) => drop(process.wait(limit)),
        None => std::thread::sleep(limit),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::proc::look::tests::{all_descriptors, is_alone};

    #[test]
    fn what_is_left_of_a_check_is_looked_for_until_it_can_be_seen() {
        let name =
            "guardian::fence::tests::what_is_left_of_a_check_is_looked_for_until_it_can_be_seen";
        if !is_alone(name) {
            return;
        }
        let mut left = Command::new("sleep")
            .arg("60")
            .env("A_CHECK", "1")
            .spawn()
            .unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let variables = ["A_CHECK=1".to_owned()];
        let held = all_descriptors();
        let blind = fence_check(None, &variables, ROUND * 5);
        // Seen once there are descriptors again.
        let later = std::thread::spawn(move || {
            std::thread::sleep(ROUND * 5);
            drop(held);
        });
        let mended = fence_check(None, &variables, Duration::from_secs(10));
        later.join().unwrap();
        assert!(blind.is_err() && mended.is_ok());
        assert!(left.wait().is_err(), "it was killed and reaped");
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
