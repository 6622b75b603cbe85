//! A lock: an election that is led for as long as a guard is held.

use std::ops::Deref;
use std::time::Duration;

use super::{CampaignError, Candidate, Election, Leadership, ResignError, Term};
use crate::election::Progress;
use crate::term::record::host_name;

/// A lock over the queue of an election: whoever holds it leads. Not reentrant: a program that locks it
/// twice waits for itself.
///
/// Its guard is a [`Term`] with a fencing token. That a lock is held is never more than a belief of this
/// process; that a guarded write goes through is a fact.
#[derive(Clone, Debug)]
pub struct Lock {
    election: Election,
    holder: String,
    ttl: Option<Duration>,
}

impl Lock {
    pub(super) fn new(election: Election) -> Self {
        let holder = format!("{}:{}", host_name(), std::process::id());
        Self {
            election,
            holder,
            ttl: None,
        }
    }

    /// The name that others see of who holds it; host and process id if nothing is said.
    #[must_use]
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holder = name.into();
        self
    }

    /// The TTL, as of [`Candidate::ttl`].
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// As [`Candidate::campaign`].
    ///
    /// # Cancel safety
    /// Safe: dropping it gives up the place in the queue.
    pub async fn lock(&self) -> Result<LockGuard, CampaignError> {
        let leadership = self.candidate().campaign().await?;
        Ok(LockGuard { leadership })
    }

    /// Takes the lock if nobody has it and nobody waits for it; `None` otherwise.
    ///
    /// # Errors
    /// As [`Candidate::campaign`].
    ///
    /// # Cancel safety
    /// As [`lock`](Self::lock).
    pub async fn try_lock(&self) -> Result<Option<LockGuard>, CampaignError> {
        let mut candidate = self.candidate();
        let mut waiting = candidate.progress();
        let taken = async {
            while let Some(progress) = waiting.next().await {
                // It is free, and only waits out a holder whose end nobody proved.
                if !matches!(progress, Progress::Delayed(_) | Progress::Unreadable(_)) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            led = candidate.campaign() => led.map(|leadership| Some(LockGuard { leadership })),
            () = taken => Ok(None),
        }
    }

    fn candidate(&self) -> Candidate {
        let candidate = self.election.candidate(self.holder.clone());
        match self.ttl {
            Some(ttl) => candidate.ttl(ttl),
            None => candidate,
        }
    }
}

/// A lock that is held, until it is [ending](Term::ending). Dropping it unlocks in the background, as
/// dropping a [`Leadership`] does.
#[derive(Debug)]
#[must_use = "dropping it unlocks"]
pub struct LockGuard {
    leadership: Leadership,
}

impl LockGuard {
    /// The term, for work in other tasks: the lock isn't given back while a clone is left.
    pub fn term(&self) -> Term {
        self.leadership.term()
    }

    /// Unlocks, as [`Leadership::resign`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn unlock(self) -> Result<(), ResignError> {
        self.leadership.resign().await
    }
}

impl Deref for LockGuard {
    type Target = Term;

    fn deref(&self) -> &Term {
        &self.leadership
    }
}
