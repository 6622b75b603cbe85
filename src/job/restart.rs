//! What follows when a run ends by itself: pure policy, with the caller's random numbers.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::{self, Restart};

/// What is to follow a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartVerdict {
    /// Another run in this term, after this pause.
    Again(Duration),
    /// The term is given back; this candidate stays out of the queue for this long.
    GiveBack(Duration),
}

/// Counts the runs of a candidate and decides what follows each.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: Restart,
    backoff: Backoff,
    /// A run longer than this wipes the slate clean: restart_delay_max.
    long: Duration,
    yield_after: u32,
    yield_cooldown: Duration,
    failures: u32,
}

impl Restarts {
    /// The policy of `job.restart` and its neighbours.
    pub(crate) fn new(job: &config::Job) -> Self {
        Self {
            policy: job.restart,
            backoff: Backoff::new(job.restart_delay, job.restart_delay_max),
            long: job.restart_delay_max,
            yield_after: job.yield_after,
            yield_cooldown: job.yield_cooldown,
            failures: 0,
        }
    }

    /// Decides what follows a run that took `ran`, and failed or not.
    pub(crate) fn decide(&mut self, failed: bool, ran: Duration, random: u32) -> RestartVerdict {
        if ran > self.long {
            self.backoff.reset();
            self.failures = 0;
        }
        self.failures = if failed { self.failures + 1 } else { 0 };
        let again = match self.policy {
            Restart::Always => true,
            Restart::OnFailure => failed,
            Restart::Never => false,
        };
        if !again {
            self.failures = 0;
            self.backoff.reset();
            return RestartVerdict::GiveBack(self.long);
        }
        if self.yield_after > 0 && self.failures >= self.yield_after {
            self.failures = 0;
            self.backoff.reset();
            return RestartVerdict::GiveBack(self.yield_cooldown);
        }
        RestartVerdict::Again(self.backoff.next(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn restarts(policy: Restart) -> Restarts {
        Restarts {
            policy,
            backoff: Backoff::new(SECOND, 8 * SECOND),
            long: 8 * SECOND,
            yield_after: 3,
            yield_cooldown: 60 * SECOND,
            failures: 0,
        }
    }

    #[test]
    fn pauses_double_and_a_long_run_resets_them() {
        let mut restarts = restarts(Restart::Always);
        let mut next = |failed, ran| restarts.decide(failed, ran, u32::MAX);
        assert_eq!(next(false, SECOND), RestartVerdict::Again(SECOND));
        assert_eq!(next(false, SECOND), RestartVerdict::Again(2 * SECOND));
        assert_eq!(next(false, 9 * SECOND), RestartVerdict::Again(SECOND));
    }

    #[test]
    fn so_many_failures_in_a_row_yield() {
        let mut restarts = restarts(Restart::Always);
        let mut next = |failed| restarts.decide(failed, SECOND, u32::MAX);
        assert!(matches!(next(true), RestartVerdict::Again(_)));
        assert!(matches!(next(true), RestartVerdict::Again(_)));
        assert!(matches!(next(false), RestartVerdict::Again(_)));
        assert!(matches!(next(true), RestartVerdict::Again(_)));
        assert!(matches!(next(true), RestartVerdict::Again(_)));
        assert_eq!(next(true), RestartVerdict::GiveBack(60 * SECOND));
        assert!(matches!(next(true), RestartVerdict::Again(_)));
    }

    #[test]
    fn the_policy_says_who_runs_again() {
        let mut never = restarts(Restart::Never);
        assert_eq!(
            never.decide(true, SECOND, 0),
            RestartVerdict::GiveBack(8 * SECOND)
        );
        let mut on_failure = restarts(Restart::OnFailure);
        assert!(matches!(
            on_failure.decide(true, SECOND, 0),
            RestartVerdict::Again(_)
        ));
        let done = on_failure.decide(false, SECOND, 0);
        assert_eq!(done, RestartVerdict::GiveBack(8 * SECOND));
    }
}
