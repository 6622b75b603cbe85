//! The daemon's last resort: to kill everything below it, the guardian first of all, and prove it.
//!
//! Called by [`client`](super::client), and by whoever else has to be sure that nothing below
//! this process lives. Needs no guardian and no socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use super::proc::{self, Reaped};
use crate::clock::{self, Instant};
use crate::proc::survivor::{InVain, Survivor};
use crate::proc::{Handle, Process, Stat};

/// Between two rounds of SIGKILL, at most.
const ROUND: Duration = Duration::from_millis(10);

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

/// The killing of every descendant of this process, until none is left.
#[derive(Clone)]
pub(super) struct Fence {
    /// Killed first: what it runs falls to this process then, and nothing is started any more. A
    /// look at `/proc` may not show it.
    pub(super) guardian: Arc<Handle>,
    pub(super) until: Option<Instant>,
    pub(super) in_vain: InVain,
    pub(super) tell: Tell,
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
    /// Kills and reaps once.
    ///
    /// Takes the exit status of every child away from whoever waits for it.
    pub(super) fn round(&mut self) -> Fenced {
        let me = getpid();
        // One that can't be killed is named among the others.
        self.guardian.kill().ok();
        let one = proc::kill_descendants(me);
        loop {
            match proc::reap() {
                Reaped::One(..) => {}
                Reaped::Alive => break,
                Reaped::Empty => return Fenced::Empty,
            }
        }
        if let Some(held) = proc::held() {
            proc::say_held(&held);
            return Fenced::Empty;
        }
        let now = clock::now();
        if self.in_vain.is_due(now) {
            (self.tell)(proc::survivors(me));
        }
        if self.until.is_some_and(|until| now >= until) {
            return Fenced::GivenUp;
        }
        Fenced::Alive(one)
    }

    /// Kills and reaps until none is left or the time is over; returns whether none is left.
    ///
    /// Blocks the calling thread.
    pub(super) fn run(mut self) -> bool {
        loop {
            match self.round() {
                Fenced::Empty => return true,
                Fenced::GivenUp => return false,
                Fenced::Alive(one) => pause(one.as_ref(), self.until),
            }
        }
    }

    /// The pause between two rounds, for whoever can't block.
    pub(super) async fn pause() {
        clock::sleep(ROUND).await;
    }
}

/// Kills what fell to this process when a guardian of checks was killed, and reaps it, for at most
/// `limit`: the check's main process, which the kernel has killed already, and those that carry all of
/// `variables` in their environment. Leaves every other child of this process alone.
///
/// Blocks the calling thread.
pub fn fence_check(main: Option<i32>, variables: &[String], limit: Duration) {
    let this = Process::this().pid;
    // Whoever is started with these variables itself hands them on to each of its children.
    let told_apart = !carries(this, variables);
    let until = clock::now() + limit;
    let mut left: Vec<i32> = main.into_iter().collect();
    loop {
        // The children of one that was killed have fallen to this process in their turn.
        let children = crate::proc::all().into_iter().filter(|pid| {
            Stat::of(*pid).is_some_and(|stat| stat.parent == this && !stat.has_ended())
        });
        left.extend(children.filter(|pid| told_apart && carries(*pid, variables)));
        if left.is_empty() || until.has_passed() {
            return;
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

/// Whether the environment of a process has all of these, each `NAME=value`.
fn carries(pid: i32, variables: &[String]) -> bool {
    let environ = crate::proc::read(pid, "environ").unwrap_or_default();
    let has = |variable: &String| {
        environ
            .split(|byte| *byte == 0)
            .any(|it| it == variable.as_bytes())
    };
    variables.iter().all(has)
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
