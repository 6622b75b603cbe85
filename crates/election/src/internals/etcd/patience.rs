//! How long a command that asks once goes on asking: member after member, up to a total.
//!
//! The daemon never gives up and has limits of its own; this is for the commands that people and
//! scripts wait for.

use std::time::Duration;

use super::{Error, Store};
use crate::backoff::{self, Backoff};
use crate::clock::{self, Instant};

/// The limit of one attempt, however long the total: a member that hangs must not eat it up.
pub const LONGEST_ATTEMPT: Duration = Duration::from_millis(1500);

/// The pauses between attempts. Short: the next attempt is another member's, as a rule.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A total time, and a limit for each attempt in it that leaves every member its turn.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    total: Duration,
    until: Instant,
    attempt: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody answered within the total.
    #[error("the store is unreachable: no answer within {}: {last}", humantime::format_duration(*total))]
    TimedOut {
        /// The total.
        total: Duration,
        /// Why the last attempt failed.
        last: Error,
    },
    /// The store, or our way to it, said no for good.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Patience {
    /// `total` from now on, for the members of `store`.
    pub fn new(store: &Store, total: Duration) -> Self {
        let members = u32::try_from(store.member_count()).unwrap_or(u32::MAX);
        Self {
            total,
            until: clock::now() + total,
            attempt: LONGEST_ATTEMPT.min(total / members.max(1)),
        }
    }

    /// The limit of an attempt that begins now.
    pub fn attempt(&self) -> Duration {
        self.attempt.min(self.remaining())
    }

    /// What is left of the total.
    pub fn remaining(&self) -> Duration {
        self.until.remaining()
    }

    /// That the time is up after the last attempt failed so.
    pub const fn timed_out(&self, last: Error) -> Failure {
        Failure::TimedOut {
            total: self.total,
            last,
        }
    }

    /// Makes attempts until one is answered or the total is over. Only for what may be done twice.
    ///
    /// # Errors
    /// At once what another member would say too.
    pub async fn ask<T>(
        &self,
        mut attempt: impl AsyncFnMut(Duration) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let mut attempts = self.attempts();
        loop {
            match attempt(self.attempt()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.weigh(error).await?,
            }
        }
    }

    /// The account of a series of attempts, for who makes them one by one.
    pub fn attempts(&self) -> Attempts {
        let (first, largest) = PAUSES;
        Attempts {
            patience: *self,
            pauses: Backoff::new(first, largest),
            last: None,
        }
    }

    /// Whether all that the error says is that the total was nearly over when the attempt began.
    fn is_cut_short(&self, error: &Error) -> bool {
        matches!(error, Error::Timeout { limit, .. } if *limit < self.attempt)
    }
}

/// What became of the attempts so far.
#[derive(Debug)]
pub struct Attempts {
    patience: Patience,
    pauses: Backoff,
    /// Why the last attempt failed that had its full time.
    last: Option<Error>,
}

impl Attempts {
    /// As [`failed`](Self::failed), but for what another member would say too.
    ///
    /// # Errors
    /// As there, and that at once.
    pub async fn weigh(&mut self, error: Error) -> Result<(), Failure> {
        match error {
            // A password that is wrong now is wrong on every member.
            Error::LoginRefused { .. } => Err(error.into()),
            error if !error.may_pass() => Err(error.into()),
            error => self.failed(error).await,
        }
    }

    /// Takes note that an attempt failed, and pauses before the next.
    ///
    /// # Errors
    /// The total is over, or would be after the pause.
    pub async fn failed(&mut self, error: Error) -> Result<(), Failure> {
        if self.last.is_none() || !self.patience.is_cut_short(&error) {
            self.last = Some(error.clone());
        }
        let pause = self.pauses.next(backoff::jitter());
        if self.patience.remaining() <= pause {
            return Err(self.telling(self.patience.timed_out(error)));
        }
        clock::sleep(pause).await;
        Ok(())
    }

    /// The failure, with an earlier error in place of one that tells nothing.
    pub fn telling(&self, failure: Failure) -> Failure {
        match (failure, &self.last) {
            (Failure::TimedOut { last, .. }, Some(earlier))
                if self.patience.is_cut_short(&last) =>
            {
                self.patience.timed_out(earlier.clone())
            }
            (failure, _) => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(total: Duration) -> Patience {
        Patience {
            total,
            until: clock::now() + total,
            attempt: total,
        }
    }

    fn timeout(limit: Duration) -> Error {
        let endpoint = "http://a:1".to_owned();
        Error::Timeout { endpoint, limit }
    }

    fn unreachable() -> Error {
        Error::Unreachable {
            endpoint: "http://a:1".to_owned(),
            reason: "refused".to_owned(),
        }
    }

    #[tokio::test]
    async fn attempts_that_fail_at_once_are_made_with_pauses() {
        let mut count = 0;
        let total = Duration::from_millis(400);
        let refused = async |_| {
            count += 1;
            Err::<(), Error>(unreachable())
        };
        let failure = patience(total).ask(refused).await.unwrap_err();
        let last = unreachable();
        assert_eq!(failure, Failure::TimedOut { total, last });
        assert!((2..=20).contains(&count), "{count}");
    }

    #[tokio::test]
    async fn an_attempt_that_was_cut_short_hides_no_earlier_error() {
        let patience = patience(Duration::from_mins(1));
        let short = Duration::from_millis(1);
        let mut attempts = patience.attempts();
        attempts.failed(timeout(short)).await.unwrap();
        attempts.failed(unreachable()).await.unwrap();
        attempts.failed(timeout(short)).await.unwrap();
        let told = attempts.telling(patience.timed_out(timeout(short)));
        assert_eq!(told, patience.timed_out(unreachable()));
        let full = patience.timed_out(timeout(patience.attempt));
        assert_eq!(attempts.telling(full.clone()), full);
    }
}
