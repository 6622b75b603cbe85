//! One run of the job, from its start until its tree is proven empty.

use std::time::Duration;

use super::hooks::BeforeJob;
use crate::clock::{self, Instant};
use crate::job::native::Native;

/// A run that was asked for.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) pid: Option<u32>,
    pub(super) started: Instant,
    /// It is the hook before the job.
    pub(super) hook: Option<BeforeJob>,
    /// Whether its start was said, so that its end must be.
    pub(super) said: bool,
    /// It is a Rust job that starts once the guardian has acknowledged the term.
    pub(super) awaits_guardian: bool,
    /// The Rust job, while its `run()` has not returned.
    pub(super) native: Option<Native>,
    /// Since when it is being stopped for good.
    pub(super) stopping_since: Option<Instant>,
    /// Its tree was proven empty while the Rust job still ran; whether by SIGKILL, and whether a
    /// hook has yet to run in it.
    pub(super) tree_empty: Option<(bool, bool)>,
    /// The same, after the guardian was lost.
    pub(super) fenced: bool,
    /// When a Rust job that does not end takes the daemon with it.
    kill_daemon_at: Option<Instant>,
}

impl Run {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            pid: None,
            started: clock::now(),
            hook: None,
            said: false,
            awaits_guardian: false,
            native: None,
            stopping_since: None,
            tree_empty: None,
            fenced: false,
            kill_daemon_at: None,
        }
    }

    /// Begins to stop it for good, if that has not begun, and gives a Rust job until `at`. An
    /// earlier time stays.
    pub(super) fn stop(&mut self, at: Instant) {
        self.stopping_since.get_or_insert_with(clock::now);
        if let Some(native) = &self.native {
            native.stop();
        }
        self.end_by(at);
    }

    /// Gives a Rust job until `at` to end wholly. An earlier time stays.
    pub(super) fn end_by(&mut self, at: Instant) {
        let earlier = self.kill_daemon_at.map_or(at, |earlier| earlier.min(at));
        self.kill_daemon_at = Some(earlier);
    }

    /// When a hook is to be killed for its time.
    pub(super) fn hook_due(&self) -> Option<Instant> {
        let hook = self.hook.filter(|_| self.stopping_since.is_none());
        hook.as_ref().and_then(BeforeJob::due)
    }

    /// When a Rust job that still runs takes the daemon with it.
    pub(super) fn killed_at(&self) -> Option<Instant> {
        self.native.as_ref().and(self.kill_daemon_at)
    }

    /// How long it has run.
    pub(super) fn ran(&self) -> Duration {
        clock::now().since(self.started)
    }
}
