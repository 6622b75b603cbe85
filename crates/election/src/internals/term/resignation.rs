//! Giving a term or a candidacy back: by the daemon, its guardian, or the unit's stop hook.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use serde::{Deserialize, Serialize};

use super::history::put_past;
use super::member::MemberPlace;
use super::record::Unkillable;
use super::slots::Close;
use super::{guarded, record};
use crate::clock::{self, Instant};
use crate::etcd::keep_alive::KeepAlive;
use crate::etcd::{Error, Settings, Store, reads};
use crate::keys::{LeaseId, Prefix};
use crate::reason::EndReason;
use crate::revision::{Revision, Token};
use crate::session;

/// Between the deletion of a leader's key and the revocation of its lease. The successor claims in
/// these milliseconds, and its read would have to wait for the commit of a revocation.
const SUCCESSORS_TURN: Duration = Duration::from_millis(20);

/// All that is needed to give back one lease and what hangs on it, from any process.
///
/// Everything in it may be repeated: what was done already is found done (R10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resignation {
    /// How to reach the store.
    pub store: Settings,
    /// The cluster that granted the lease; 0 where that isn't known yet.
    #[serde(default)]
    pub cluster: u64,
    /// The election.
    pub prefix: Prefix,
    /// The candidate's name.
    pub candidate: String,
    /// The lease of the candidacy.
    pub lease: LeaseId,
    /// The TTL of the lease.
    pub ttl: Duration,
    /// Limit of one attempt (Q).
    pub attempt_limit: Duration,
    /// The fencing token, once the claim is complete.
    pub token: Option<Token>,
    /// Whether the marker may be set to the token: only after a complete claim (R13).
    pub may_mark: bool,
    /// mod_revision of the record that asked this term to step down, to be deleted with it.
    #[serde(default)]
    pub step_down: Option<Revision>,
    /// How the run of a scheduled job is closed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Box<Close>>,
}

impl Resignation {
    /// The store, over connections of its own. It believes the cluster that granted the lease and
    /// no other: of a stranger, who knows of no such lease, that is no answer.
    pub fn open_store(&self) -> Store {
        Store::of_cluster(&self.store, self.cluster)
    }

    /// Deletes the candidate key if it is still ours, then revokes the lease; tries until both are
    /// answered or `until` has come. Returns whether the store confirmed that the lease is gone.
    ///
    /// Only for a job whose tree is proven empty (R5).
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown; it may be called again.
    pub async fn carry_out(&self, store: &Store, until: Instant) -> bool {
        match session::insist(until, || self.attempt(store)).await {
            Ok(_) => true,
            Err(error) => {
                if error.is_definite() {
                    tracing::warn!(lease = %self.lease, %error, "resignation refused");
                }
                false
            }
        }
    }

    /// Gives the term, whose job was proven dead at `ended`, its place in the history, for a daemon
    /// that can't; one attempt, since the next term says at least that it was.
    pub async fn explain(&self, store: &Store, ended: String, reason: EndReason) {
        if let Err(error) = self.try_to_explain(store, ended, reason).await {
            tracing::debug!(%error, "history not written");
        }
    }

    async fn try_to_explain(
        &self,
        store: &Store,
        ended: String,
        reason: EndReason,
    ) -> Result<(), Error> {
        let Some(token) = self.token else {
            return Ok(());
        };
        // The next leader's record may be where this term's was, which is then in the history. Both
        // are read at one revision: it may come to move it at any moment.
        let places = [self.prefix.term(), self.prefix.past_term(token)];
        let read = Txn::new().and_then(places.map(|place| TxnOp::get(place, None)));
        let (answer, _) = store.txn(self.attempt_limit, read).await?;
        let mut records = reads::firsts(&answer).flatten().filter_map(|kv| {
            let record: Option<record::TermRecord> = record::json(kv.value()).read();
            record.filter(|term| term.token == token)
        });
        let Some(term) = records.next() else {
            return Ok(());
        };
        let past = record::PastTerm::ended_at(term, ended, reason);
        put_past(store, self.attempt_limit, &self.prefix, &past).await
    }

    /// Tries once to delete the key, and once to revoke the lease, a few milliseconds later;
    /// returns whether the lease was still there.
    ///
    /// # Errors
    /// The revocation's, which decides: it takes the key away even where the first is refused.
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown; it may be called again.
    pub async fn attempt(&self, store: &Store) -> Result<bool, Error> {
        if let Some(txn) = self.txn() {
            match store.txn(self.attempt_limit, txn).await {
                Ok((answer, _)) if answer.succeeded() => clock::sleep(SUCCESSORS_TURN).await,
                // The key was gone, and whoever follows has claimed already.
                Ok(_) => {}
                Err(error) if error.is_definite() => {
                    tracing::warn!(lease = %self.lease, %error, "resignation refused");
                }
                Err(error) => return Err(error),
            }
        }
        store.revoke(self.attempt_limit, self.lease).await
    }

    /// Connects to a member, so that what follows is quick.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    pub async fn connect(&self, store: &Store) -> Result<(), Error> {
        store.go_to_leader(self.attempt_limit).await;
        self.is_key_gone(store).await.map(drop)
    }

    /// Whether the candidate's key is gone, or another's, by one linearizable read.
    ///
    /// # Errors
    /// As [`Store::attempt`]; it says nothing of the key.
    pub async fn is_key_gone(&self, store: &Store) -> Result<bool, Error> {
        let key = self.prefix.candidate(self.lease);
        let (found, _) = store.get(self.attempt_limit, key, None).await?;
        let own = found.kvs().first().map(Token::of);
        Ok(own.is_none() || self.token.is_some_and(|token| own != Some(token)))
    }

    /// Renews the lease once, for a tree that can't be emptied while the daemon is gone. Returns
    /// whether the store acknowledged.
    pub async fn renew(&self, store: &Store) -> bool {
        for _ in 0..store.member_count() {
            let opened = KeepAlive::open(store, self.attempt_limit, self.lease).await;
            match opened {
                Ok(_) => return true,
                Err(error) if error.is_definite() => return false,
                Err(_) => {}
            }
        }
        false
    }

    /// Shows in the member record what of the job can't be killed, for a daemon that can't; one
    /// attempt with each renewal. Nothing is said there of nothing: the record goes with the lease.
    pub async fn show_unkillable(&self, store: &Store, unkillable: Vec<Unkillable>) {
        if unkillable.is_empty() {
            return;
        }
        let place = MemberPlace {
            prefix: &self.prefix,
            lease: self.lease,
        };
        let show = |member: &mut record::MemberRecord| member.unkillable = unkillable;
        if let Err(error) = place.amend(store, self.attempt_limit, None, show).await {
            tracing::debug!(%error, "member record not changed");
        }
    }

    /// The transaction that gives the key back, guarded by its create_revision.
    fn txn(&self) -> Option<Txn> {
        let token = self.token?;
        let key = self.prefix.candidate(self.lease);
        let mut operations = vec![
            TxnOp::delete(key.as_str(), None),
            TxnOp::delete(self.prefix.member(self.lease), None),
        ];
        if self.may_mark {
            operations.push(TxnOp::put(self.prefix.ended(), token.to_string(), None));
        }
        if let Some(asked_at) = self.step_down {
            let record = self.prefix.step_down();
            let same = Compare::mod_revision(record.as_str(), CompareOp::Equal, asked_at.get());
            let delete = TxnOp::delete(record, None);
            operations.push(TxnOp::txn(Txn::new().when([same]).and_then([delete])));
        }
        let close = self.close.as_ref();
        operations.extend(close.map(|close| close.operation(&self.prefix)));
        Some(guarded(&key, token, operations))
    }
}
