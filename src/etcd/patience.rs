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
        let (first, largest) = PAUSES;
        let mut pauses = Backoff::new(first, largest);
        loop {
            let error = match attempt(self.attempt()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if !error.may_pass() => return Err(error.into()),
                Err(error) => error,
            };
            let pause = pauses.next(backoff::jitter());
            if self.remaining() <= pause {
                return Err(self.timed_out(error));
            }
            clock::sleep(pause).await;
        }
    }
}
