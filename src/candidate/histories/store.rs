//! The simulated store: one lease, and the leaders of the store that keep it or only think they do.

use super::daemon::Word;
use crate::clock::Instant;

/// What the store hears.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard {
    /// The renewal of this attempt, sent when the candidate's clock showed that.
    Renewal { attempt: u64, sent: Instant },
    /// The proving read of this attempt.
    Read { attempt: u64 },
    /// The claim.
    Claim,
    /// The lease is given back, by the daemon or its guardian.
    Revocation,
}

/// The lease in true time, which is that of the store's leader.
#[derive(Debug)]
pub(super) struct Store {
    ttl: u64,
    /// When the lease ends if nothing more is heard of.
    pub(super) expiry: u64,
    /// The raft term of the leader that counts.
    pub(super) raft_term: u64,
    /// A leader that was deposed while it was frozen, and doesn't know it yet: its raft term.
    pub(super) deposed: Option<u64>,
}

/// The answer to a renewal: the raft term of who gave it, unless the lease was gone.
pub(super) type Answer = Result<u64, Gone>;

/// The lease, and the candidate key with it, is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Store {
    /// Grants the lease.
    pub(super) const fn new(ttl: u64, now: u64) -> Self {
        Self {
            ttl,
            expiry: now + ttl,
            raft_term: 1,
            deposed: None,
        }
    }

    /// Takes in what arrives; returns the answer for the daemon.
    pub(super) fn hears(&mut self, heard: Heard, now: u64) -> Option<Word> {
        Some(match heard {
            Heard::Renewal { attempt, sent } => Word::Renewed {
                attempt,
                sent,
                answer: self.renew(now),
            },
            Heard::Read { attempt } => Word::Read {
                attempt,
                answer: self.read(now),
            },
            Heard::Claim => Word::Claimed(self.read(now)),
            Heard::Revocation => {
                self.expiry = self.expiry.min(now);
                return None;
            }
        })
    }

    /// A renewal arrives, at the deposed leader if that is who the candidate is connected to.
    fn renew(&mut self, now: u64) -> Answer {
        if let Some(raft_term) = self.deposed {
            // Nobody else hears of it.
            return Ok(raft_term);
        }
        self.read(now)?;
        self.expiry = self.expiry.max(now + self.ttl);
        Ok(self.raft_term)
    }

    /// A linearizable read arrives, or the claim: only the leader that counts can answer.
    const fn read(&self, now: u64) -> Answer {
        if now < self.expiry {
            Ok(self.raft_term)
        } else {
            Err(Gone)
        }
    }

    /// A new leader is elected. At best it gives every lease its whole TTL again.
    pub(super) fn depose(&mut self, now: u64, extends: bool, deposed_answers: bool) {
        self.deposed = deposed_answers.then_some(self.raft_term);
        self.raft_term += 1;
        if extends && now < self.expiry {
            self.expiry = now + self.ttl;
        }
    }
}
