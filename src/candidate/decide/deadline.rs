//! The daemon's own watch over the deadline, beside its guardian's (R2).

use crate::clock::Instant;
use crate::config::timing::Timing;

/// What the deadline of a term has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Nothing yet.
    #[default]
    Quiet,
    /// The polite stop, at D−G−K.
    Stop,
    /// The SIGKILL, at D−K.
    Kill,
}

impl Due {
    /// The next of the polite stop and the SIGKILL.
    pub(super) fn next_at(self, timing: &Timing, deadline: Instant) -> Option<Instant> {
        match self {
            Self::Quiet => Some(timing.polite_stop(deadline)),
            Self::Stop => Some(timing.kill(deadline)),
            Self::Kill => None,
        }
    }

    /// What the deadline asks for by `now`, each once.
    pub(super) fn take(&mut self, timing: &Timing, deadline: Instant, now: Instant) -> Vec<Self> {
        let mut due = Vec::new();
        if *self < Self::Stop && now >= timing.polite_stop(deadline) {
            *self = Self::Stop;
            due.push(Self::Stop);
        }
        if *self < Self::Kill && now >= timing.kill(deadline) {
            *self = Self::Kill;
            due.push(Self::Kill);
        }
        due
    }
}
