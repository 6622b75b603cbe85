//! One run, from when it was asked for until its tree is proven empty.

use std::time::Duration;

use crate::clock::Instant;

/// A run that was asked for.
#[derive(Debug)]
pub(super) struct Run {
    /// Its number; never used twice.
    pub(super) id: u64,
    pub(super) what: What,
    pub(super) began: Instant,
    pub(super) pid: Option<u32>,
    /// Whether its start was said, so that its end must be.
    pub(super) said: bool,
    /// Since when it is being stopped for good.
    pub(super) stopping_since: Option<Instant>,
    /// Why it is being stopped in a term that goes on.
    pub(super) cut: Option<Cut>,
}

/// Why a run is stopped in a term that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It has taken too long: it failed.
    TimedOut,
    /// Another is to run instead.
    Replaced,
}

/// What it runs.
#[derive(Debug)]
pub(super) enum What {
    /// The command of the job.
    Command,
    /// The hook before the job, which is killed at this time.
    Hook { until: Instant, timed_out: bool },
    /// The Rust job, once the guardian has acknowledged the term: a daemon that is stopped just now,
    /// and wakes after its term, must find itself killed.
    NativeToBe,
    /// The Rust job, while anything of it lives.
    Native(Native),
    /// What a Rust job has left behind.
    NativeOver,
}

/// A Rust job that runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Native {
    /// When one that does not end takes the daemon with it.
    pub(super) kill_daemon_at: Option<Instant>,
    /// What was proven meanwhile of its processes.
    pub(super) proof: Option<Proof>,
}

/// That no process of a term is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The guardian says so: whether it took SIGKILL, and whether a hook has yet to run in the tree.
    Empty { killed: bool, unfinished: bool },
    /// Guardian and tree were fenced.
    Fenced,
}

impl Run {
    pub(super) const fn new(id: u64, what: What, now: Instant) -> Self {
        Self {
            id,
            what,
            began: now,
            pid: None,
            said: false,
            stopping_since: None,
            cut: None,
        }
    }

    /// Begins to stop it for good, if that has not begun, and gives a Rust job until `at`. An
    /// earlier time stays.
    pub(super) fn stop(&mut self, at: Instant, now: Instant) {
        self.stopping_since.get_or_insert(now);
        self.end_by(at);
    }

    /// Gives a Rust job until `at` to end wholly. An earlier time stays.
    pub(super) fn end_by(&mut self, at: Instant) {
        if let Some(native) = self.native_mut() {
            let earlier = native.kill_daemon_at.map_or(at, |earlier| earlier.min(at));
            native.kill_daemon_at = Some(earlier);
        }
    }

    /// The Rust job, while anything of it lives.
    pub(super) const fn native(&self) -> Option<&Native> {
        match &self.what {
            What::Native(native) => Some(native),
            _ => None,
        }
    }

    /// As [`native`](Self::native).
    pub(super) const fn native_mut(&mut self) -> Option<&mut Native> {
        match &mut self.what {
            What::Native(native) => Some(native),
            _ => None,
        }
    }

    /// When a hook is to be killed for its time.
    pub(super) fn hook_due(&self) -> Option<Instant> {
        match self.what {
            What::Hook {
                until,
                timed_out: false,
            } if self.stopping_since.is_none() => Some(until),
            _ => None,
        }
    }

    /// When a Rust job that still runs takes the daemon with it.
    pub(super) fn kills_daemon_at(&self) -> Option<Instant> {
        self.native().and_then(|native| native.kill_daemon_at)
    }

    /// How long what runs may take to stop, where the job may take `grace`: a hook has no more than
    /// the rest of its own time, and what it has left behind has none.
    pub(super) fn grace(&self, grace: Duration, now: Instant) -> Duration {
        match self.what {
            What::Hook { until, .. } => grace.min(until.after(now)),
            _ => grace,
        }
    }

    /// How long it has run.
    pub(super) const fn ran(&self, now: Instant) -> Duration {
        now.since(self.began)
    }
}
