//! A stream of renewals for one lease on one member.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper};

use super::member::Member;
use super::{Error, Seen, Store};
use crate::clock::{self, Instant};
use crate::keys::LeaseId;

/// An open stream. Drop it after any error: an answer that comes late would be taken for the next
/// renewal's.
pub struct KeepAlive {
    lease: LeaseId,
    member: Arc<Member>,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// An acknowledged renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// When the renewal was sent, read just before.
    pub sent: Instant,
    /// The TTL in the answer, in seconds.
    pub ttl: i64,
    /// The raft term that the member was in.
    pub raft_term: u64,
}

impl KeepAlive {
    /// Opens a stream on the current member.
    ///
    /// That renews once already, but the crate keeps the header of the first answer to itself, so
    /// it counts for nothing.
    ///
    /// # Errors
    /// [`Error::LeaseGone`] if there is no such lease; [`Error::Proxied`] if it isn't a member that
    /// would answer.
    pub async fn open(store: &Store, limit: Duration, lease: LeaseId) -> Result<Self, Error> {
        let opened = store.attempt_on(limit, async |client: Client| {
            client.lease_client().keep_alive(lease.get()).await
        });
        // Half of the time, so that a member that is slow to tell may be renewed through yet.
        let (opened, shown) = tokio::join!(opened, store.require_member(limit / 2));
        if let Err(error @ Error::Proxied { .. }) = shown {
            return Err(error);
        }
        let ((keeper, answers), member) = opened?;
        Ok(Self {
            lease,
            member,
            keeper,
            answers,
        })
    }

    /// Renews once: one request, one answer.
    ///
    /// # Errors
    /// [`Error::LeaseGone`] if the answer is a TTL of zero. After a time-out the member is given
    /// up on.
    ///
    /// # Cancel safety
    /// None: drop the stream with the future.
    pub async fn renew(&mut self, store: &Store, limit: Duration) -> Result<Ack, Error> {
        let outcome = tokio::time::timeout(limit, self.exchange(store))
            .await
            .unwrap_or_else(|_| {
                Err(Error::Timeout {
                    endpoint: self.member.endpoint.clone(),
                    limit,
                })
            });
        if let Err(error) = &outcome
            && error.blames_member()
        {
            store.give_up_on(&self.member);
        }
        outcome
    }

    async fn exchange(&mut self, store: &Store) -> Result<Ack, Error> {
        let endpoint = &self.member.endpoint;
        let classify = |error| self.member.classify(&error);
        let sent = clock::now();
        self.keeper.keep_alive().await.map_err(classify)?;
        let answer = self.answers.message().await.map_err(classify)?;
        let answer = answer.ok_or_else(|| Error::Unreachable {
            endpoint: endpoint.clone(),
            reason: "the member ended the stream of renewals".to_owned(),
        })?;
        // First: who is of another cluster knows nothing of the lease.
        let Seen { raft_term, .. } = store.note(&self.member, answer.header(), None)?;
        if answer.ttl() <= 0 {
            return Err(Error::LeaseGone);
        }
        debug_assert_eq!(answer.id(), self.lease.get());
        Ok(Ack {
            sent,
            ttl: answer.ttl(),
            raft_term,
        })
    }
}
