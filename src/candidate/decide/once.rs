//! A candidacy for one run: the job is started once, and with its end the candidate is done.

use std::sync::Arc;

use super::end::End;
use crate::reason::EndReason;

/// What became of the one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnceOutcome {
    /// Whether the job was started, or tried to be.
    pub ran: bool,
    /// How it ended; `None` where nobody saw it.
    pub ended: Option<End>,
    /// The signal that ended the candidacy before there was a run.
    pub signal: Option<i32>,
    /// Why the term was lost, which stopped the job.
    pub lost: Option<EndReason>,
    /// Why the store can't be reached, where that was so in the end and there was no run.
    pub unreachable: Option<Arc<str>>,
}

/// The one run.
#[derive(Debug, Default)]
pub(super) struct Once {
    outcome: OnceOutcome,
    /// The time to wait for leadership is over.
    given_up: bool,
    /// The first signal that was passed on to its run and ends processes.
    passed_on: Option<i32>,
}

impl Once {
    /// Its run was asked for.
    pub(super) fn asked(&mut self) {
        self.outcome.ran = true;
    }

    /// Its run was refused, and never began: there was nobody to heed the signals passed on.
    pub(super) fn refused(&mut self) {
        self.outcome.ran = false;
        self.outcome.signal = self.passed_on;
    }

    /// The run ended, by itself or not.
    pub(super) fn ended(&mut self, end: &End) {
        self.outcome.ended = Some(end.clone());
    }

    /// The term was lost; the first reason is the one that counts.
    pub(super) fn lost(&mut self, reason: EndReason) {
        if self.outcome.ran && self.outcome.ended.is_none() {
            self.outcome.lost.get_or_insert(reason);
        }
    }

    /// Its run is begun, or may be, and this signal is passed on to it.
    pub(super) fn passes_on(&mut self, signal: i32) {
        self.passed_on.get_or_insert(signal);
    }

    /// A signal ends the candidacy; the first is the one that counts.
    pub(super) fn signalled(&mut self, signal: i32) {
        if !self.is_done() {
            self.outcome.signal.get_or_insert(signal);
        }
    }

    /// The time to wait is over; returns whether it is still being waited.
    pub(super) fn give_up(&mut self) -> bool {
        self.given_up = true;
        !self.is_done()
    }

    /// Whether its run is begun, or may be: there must not be another one.
    pub(super) fn is_done(&self) -> bool {
        self.outcome.ran
    }

    /// Whether it is not to stand any more, were it to lose its place now.
    pub(super) fn is_over(&self) -> bool {
        self.is_done() || self.given_up || self.outcome.signal.is_some()
    }

    /// What became of it; `away` is what is wrong with the store by now.
    pub(super) fn outcome(&self, away: Option<&Arc<str>>) -> OnceOutcome {
        OnceOutcome {
            unreachable: away.filter(|_| !self.outcome.ran).cloned(),
            ..self.outcome.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_run_is_tried_again_unless_the_time_to_wait_was_over_when_it_was_asked_for() {
        let mut once = Once::default();
        once.asked();
        once.refused();
        assert!(!once.is_over(), "it stands again");
        once.asked();
        assert!(!once.give_up(), "its run may have begun");
        once.refused();
        assert!(once.is_over(), "nobody waits for it any more");
        assert_eq!(once.outcome, OnceOutcome::default());
    }

    #[test]
    fn a_signal_that_was_passed_on_to_a_refused_run_ends_the_candidacy() {
        let mut once = Once::default();
        once.asked();
        once.passes_on(15);
        once.passes_on(2);
        once.refused();
        assert!(once.is_over());
        assert_eq!(once.outcome.signal, Some(15));
    }

    #[test]
    fn the_signals_of_a_run_that_began_are_its_own() {
        let mut once = Once::default();
        once.asked();
        once.passes_on(15);
        once.signalled(2);
        let end = End {
            code: Some(0),
            ..End::default()
        };
        once.ended(&end);
        assert!(once.is_over());
        assert_eq!((once.outcome.ended, once.outcome.signal), (Some(end), None));
    }
}
