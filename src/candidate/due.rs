//! What is due when: pauses, the deadline's two stops, a guardian's silence.

use super::{Candidate, Checking, Held, Run};
use crate::clock::{self, Instant};
use crate::role::Event;

impl Candidate {
    /// The next instant at which something is due; at the latest the next tick.
    pub(super) fn next_wake(&self) -> Instant {
        let tick = clock::now() + self.timing.ttl() / 4;
        let held = self.held.as_ref().and_then(Held::next_due);
        let term = self.held.as_ref().filter(|held| held.term.is_some());
        let silent = term.and_then(|held| self.guarding.silent_at(held));
        let native = self.run.as_ref().and_then(Run::killed_at);
        let hook = self.run.as_ref().and_then(Run::hook_due);
        let check = self.checking.as_ref().map(Checking::due);
        [
            self.restart_at,
            self.rejoin_at,
            held,
            silent,
            native,
            hook,
            check,
        ]
        .into_iter()
        .flatten()
        .fold(tick, Instant::min)
    }

    /// Does what is due by now.
    pub(super) fn time_came(&mut self) {
        let due = |at: &mut Option<Instant>| at.take_if(|at| at.has_passed()).is_some();
        if due(&mut self.rejoin_at) {
            self.on(Event::RejoinDue);
        }
        if due(&mut self.restart_at) {
            self.on(Event::RestartDue);
        }
        if self
            .run
            .as_ref()
            .and_then(Run::killed_at)
            .is_some_and(Instant::has_passed)
        {
            self.kill_daemon();
        }
        let passed = |at: Option<Instant>| at.is_some_and(Instant::has_passed);
        if passed(self.run.as_ref().and_then(Run::hook_due)) {
            self.hook_due();
        }
        if passed(self.checking.as_ref().map(Checking::due)) {
            self.check_due();
        }
        let Some(held) = &mut self.held else { return };
        let due = held.take_due();
        let silent = held.term.is_some() && {
            let at = self.guarding.silent_at(held);
            at.is_some_and(Instant::has_passed)
        };
        if silent {
            self.guardian_gone();
        }
        for event in due {
            self.on(event);
        }
    }
}
