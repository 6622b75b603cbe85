//! When a term ends on our side, and whether a TTL leaves room for the graces: rules R1 to R3.
//!
//! Pure arithmetic, with the letters of the design: `T` the TTL, `s` the instant before a grant or
//! renewal is sent, `D` the deadline, `G` the job's `lost_grace`, `K` its `kill_budget`, `R` the
//! renewal interval, `Q` the limit of one attempt, `b` the longest pause between attempts, `rho`
//! the bound of the clocks' rates and `mu` the slack of scheduling. The configuration is checked
//! with it when it is loaded, and again with the TTL that the store granted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;

pub mod advice;

use advice::{Advice, Chosen, smallest_ttl};

/// `b`: the longest pause between two attempts while a lease is held. R3 counts on it.
pub const LARGEST_BACKOFF: Duration = Duration::from_millis(50);

/// `mu`: how late a thread may get to run.
pub const SLACK: Duration = Duration::from_millis(200);

/// Between the election and all that can wait: the job starts in these milliseconds, and neither its
/// replica nor the store should be busy with less.
pub const JOBS_TURN: Duration = Duration::from_millis(10);

/// One over `rho`: two clocks drift by at most one part in so many.
const DRIFT: u128 = 1000;

/// The limit of one whole attempt, connecting included, however long the TTL.
const LONGEST_ATTEMPT: Duration = Duration::from_millis(1500);

/// The smallest TTL that etcd grants with its default election timeout.
pub const SMALLEST_TTL: Duration = Duration::from_secs(2);

/// The largest TTL that etcd grants: `maxLeaseTTL`, 9,000,000,000 seconds.
#[expect(clippy::duration_suboptimal_units, reason = "etcd counts seconds")]
pub const LARGEST_TTL: Duration = Duration::from_secs(9_000_000_000);

/// From this TTL on, a term outlives a follower of the store that hangs.
pub const SURVIVES_HUNG_FOLLOWER: Duration = Duration::from_secs(5);

/// From this TTL on, a term outlives a leader of the store that hangs, until a new one is elected.
pub const SURVIVES_HUNG_LEADER: Duration = Duration::from_secs(15);

/// `job.lost_grace` where the user doesn't set it.
pub fn default_lost_grace(ttl: Duration) -> Duration {
    (ttl / 5).min(Duration::from_secs(2))
}

/// `job.kill_budget` where the user doesn't set it.
pub fn default_kill_budget(ttl: Duration) -> Duration {
    (ttl / 5).min(Duration::from_secs(1))
}

/// `election.takeover_delay` where the user doesn't set it.
pub fn default_takeover_delay(kill_budget: Duration) -> Duration {
    kill_budget.saturating_add(Duration::from_millis(500))
}

/// The shortest `election.takeover_delay` that covers a lease revoked early (R13).
pub fn smallest_takeover_delay(kill_budget: Duration) -> Duration {
    kill_budget.saturating_add(SLACK)
}

/// What a job gets when its term is being lost, counted back from the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graces {
    /// `G`: what a polite stop gets.
    pub lost_grace: Duration,
    /// `K`: what a SIGKILL gets to take effect.
    pub kill_budget: Duration,
}

impl Graces {
    /// `D−G−K`: from here on the job is asked to stop, and the candidate leads no more (R2).
    pub fn polite_stop(&self, deadline: Instant) -> Instant {
        self.kill(deadline) - self.lost_grace
    }

    /// `D−K`: from here on the job's whole tree is killed (R2).
    pub fn kill(&self, deadline: Instant) -> Instant {
        deadline - self.kill_budget
    }

    fn sum(&self) -> Duration {
        self.lost_grace.saturating_add(self.kill_budget)
    }
}

/// The times of a term that follow from its TTL and the job's graces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    ttl: Duration,
    graces: Graces,
}

impl Timing {
    /// The times for `T`, `G` and `K`.
    pub const fn new(ttl: Duration, lost_grace: Duration, kill_budget: Duration) -> Self {
        let graces = Graces {
            lost_grace,
            kill_budget,
        };
        Self { ttl, graces }
    }

    /// The same graces under another TTL: the one that the store granted.
    #[must_use]
    pub const fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// `G` and `K`.
    pub const fn graces(&self) -> Graces {
        self.graces
    }

    /// `T`.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// `G`.
    pub const fn lost_grace(&self) -> Duration {
        self.graces.lost_grace
    }

    /// `K`.
    pub const fn kill_budget(&self) -> Duration {
        self.graces.kill_budget
    }

    /// `R`: from one renewal to the next, `T/5`.
    pub fn renewal_interval(&self) -> Duration {
        self.ttl / 5
    }

    /// From one renewal to the next while the lease carries no term, `R + Q`: whoever comes to lead with
    /// a renewal as old as that is where a leader is whose last one has failed, and renews at once.
    pub fn waiting_interval(&self) -> Duration {
        self.renewal_interval() + self.attempt_limit()
    }

    /// `Q`: the limit of one whole attempt, connecting included, `min(1.5 s, T/7)`.
    pub fn attempt_limit(&self) -> Duration {
        (self.ttl / 7).min(LONGEST_ATTEMPT)
    }

    /// How long after it was sent a proven renewal is good for: `T·(1−rho) − mu`.
    pub fn lifetime(&self) -> Duration {
        self.ttl.saturating_sub(self.drift() + SLACK)
    }

    /// `D`: the instant by which the job must be dead if nothing sent after `sent` is proven (R1).
    pub fn deadline(&self, sent: Instant) -> Instant {
        sent + self.lifetime()
    }

    /// `D−G−K`; see [`Graces::polite_stop`].
    pub fn polite_stop(&self, deadline: Instant) -> Instant {
        self.graces.polite_stop(deadline)
    }

    /// `D−K`; see [`Graces::kill`].
    pub fn kill(&self, deadline: Instant) -> Instant {
        self.graces.kill(deadline)
    }

    /// Whether two failed attempts leave a term standing (R3).
    ///
    /// # Errors
    /// The advice takes each setting as the user's own choice, which stays when another one moves.
    pub fn check(&self) -> Result<(), Advice> {
        let chosen = Chosen {
            ttl: self.ttl,
            lost_grace: Some(self.lost_grace()),
            kill_budget: Some(self.kill_budget()),
            takeover_delay: None,
        };
        chosen.check()
    }

    /// The smallest TTL in whole seconds under which these graces pass [`check`](Self::check).
    ///
    /// `None` if they need a longer one than etcd grants.
    pub fn smallest_ttl(&self) -> Option<Duration> {
        smallest_ttl(|ttl| self.with_ttl(ttl))
    }

    /// `T·rho`, rounded up.
    fn drift(&self) -> Duration {
        Duration::from_nanos_u128(self.ttl.as_nanos().div_ceil(DRIFT))
    }

    /// What a TTL must hold beside the graces: `T·rho + mu + R + 2·(Q+b)`.
    pub(super) fn overhead(&self) -> Duration {
        let attempts = 2 * (self.attempt_limit() + LARGEST_BACKOFF);
        self.drift() + SLACK + self.renewal_interval() + attempts
    }

    /// R3, with all terms on one side.
    pub(super) fn passes(&self) -> bool {
        self.graces.sum().saturating_add(self.overhead()) <= self.ttl
    }
}

#[cfg(test)]
mod tests;
