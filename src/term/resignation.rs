//! Giving a term or a candidacy back: by the daemon, its guardian, or the unit's stop hook.

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::etcd::Settings;
use crate::keys::{LeaseId, Prefix};

/// All that is needed to give back one lease and what hangs on it, from any process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resignation {
    /// How to reach the store.
    pub store: Settings,
    /// The election.
    pub prefix: Prefix,
    /// The candidate's name.
    pub candidate: String,
    /// The lease of the candidacy.
    pub lease: LeaseId,
    /// The fencing token, once the claim is complete.
    pub token: Option<i64>,
    /// Whether the marker may be set to the token: only after a complete claim (R13).
    pub may_mark: bool,
}

impl Resignation {
    /// Deletes the candidate key if it is still ours, then revokes the lease; tries until both are
    /// answered or `until` has come. Returns whether the store confirmed that the lease is gone.
    ///
    /// Only for a job whose tree is proven empty (R5).
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown; it may be called again.
    pub async fn carry_out(&self, until: Instant) -> bool {
        let _ = until;
        todo!()
    }

    /// Renews the lease once, for a tree that can't be emptied while the daemon is gone.
    pub async fn renew(&self) -> bool {
        todo!()
    }
}
