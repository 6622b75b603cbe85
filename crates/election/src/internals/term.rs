//! The term: one unbroken leadership of one candidate, and how it is given back.
//!
//! A [`Term`] exists only after a complete claim: the election makes it, nothing else can. It has the
//! fencing token, how long the term is certain to last, and writes that the store refuses once it is
//! over.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::PbTxnOpRequest as Request;
use etcd_client::{Compare, CompareOp, PutOptions, Txn};
use tokio::sync::watch;

use crate::clock::{self, Instant};
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::revision::{Revision, Token};
use crate::session::Status;
use crate::timing::Timing;

pub mod completion;
pub mod history;
pub mod member;
pub mod record;
pub mod resignation;
pub mod run_book;
pub mod slots;

pub use etcd_client::{TxnOp, TxnOpResponse, TxnResponse};
use member::MemberPlace;
use record::MemberRecord;

/// First and largest pause after a refusal that may be taken back.
const REFUSED_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// One leadership, from its complete claim to its end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Term {
    facts: Arc<Facts>,
    status: watch::Receiver<Status>,
    store: Store,
}

/// What never changes in a term.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) prefix: Prefix,
    pub(crate) candidate: String,
    pub(crate) lease: LeaseId,
    pub(crate) key: Arc<str>,
    pub(crate) token: Token,
    /// The revision at which the claim was complete.
    pub(crate) claimed_at: Revision,
    /// What the claim found of the terms before.
    pub(crate) before: Before,
    pub(crate) timing: Timing,
}

/// What a claim found of the terms before its own.
#[derive(Debug)]
pub(crate) struct Before {
    /// The token of an earlier term whose end nobody proved, and that was waited out (R13).
    pub(crate) waited_out: Option<Token>,
    /// The term on record.
    pub(crate) recorded: Option<record::TermRecord>,
}

/// A guarded write was not done, or a guarded read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The term is over; nothing was written.
    #[error("not the leader: the term is over")]
    NotLeader,
    /// The key is the election's own: under its prefix it would be taken for a candidate's, and block
    /// the queue for ever, or for one of its records. Nothing was written.
    #[error("{key:?} is the election's own, and would block it; nothing was written")]
    Blocks {
        /// The key, or the first of a range.
        key: String,
    },
    /// The store didn't answer in time, or refused.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Term {
    /// The term of a complete claim (R8, R13).
    pub(crate) fn new(facts: Facts, status: watch::Receiver<Status>, store: Store) -> Self {
        Self {
            facts: Arc::new(facts),
            status,
            store,
        }
    }

    /// The same term with reads and writes over another store: connections belong to the runtime on
    /// which they were opened, and the session's should have no other work.
    #[must_use]
    pub fn with_store(&self, store: Store) -> Self {
        Self {
            store,
            ..self.clone()
        }
    }

    /// The id of the cluster that it is a term of.
    pub fn cluster(&self) -> u64 {
        self.store.seen().cluster
    }

    /// The fencing token: it rises with every term of the election, whoever leads. [`Token::get`] is
    /// its number, for another store or the field of a log.
    pub fn token(&self) -> Token {
        self.facts.token
    }

    /// The revision of the store at which the claim was complete.
    pub fn claimed_at(&self) -> Revision {
        self.facts.claimed_at
    }

    /// The leader's key in the store.
    pub fn key(&self) -> &str {
        &self.facts.key
    }

    /// The lease that the term hangs on.
    pub fn lease(&self) -> LeaseId {
        self.facts.lease
    }

    /// The election.
    pub fn election(&self) -> &Prefix {
        &self.facts.prefix
    }

    /// The candidate's name.
    pub fn candidate(&self) -> &str {
        &self.facts.candidate
    }

    /// The times that follow from the granted TTL.
    pub fn timing(&self) -> Timing {
        self.facts.timing
    }

    /// What is known of the lease, as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// `D`: the instant by which the job must be dead if no further renewal is proven.
    pub fn deadline(&self) -> Instant {
        self.status.borrow().deadline
    }

    /// How long this is certainly the leader, by [`clock`]: until the polite stop is due,
    /// not until the deadline. Zero once the term is lost.
    pub fn remaining(&self) -> Duration {
        let status = self.status.borrow();
        if status.loss.is_some() {
            return Duration::ZERO;
        }
        self.timing().polite_stop(status.deadline).remaining()
    }

    /// Waits until the term is lost: the store says so, or the time of the polite stop has come.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn lost(&self) {
        let mut status = self.status();
        loop {
            let now = status.borrow_and_update().clone();
            if now.loss.is_some() {
                return;
            }
            let stop = self.timing().polite_stop(now.deadline);
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = clock::sleep_until(stop) => if self.remaining().is_zero() { return },
            }
        }
    }

    /// Reads the value under `key`, linearizably, if the term still is in the store's eyes.
    ///
    /// Tries other members until the term is over.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] if the term is over.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>, WriteError> {
        let answer = self.repeat(vec![TxnOp::get(key, None)]).await?;
        let mut responses = answer.op_responses().into_iter();
        let value = responses.find_map(|response| match response {
            TxnOpResponse::Get(mut get) => get.take_kvs().pop(),
            _ => None,
        });
        Ok(value.map(|kv| kv.value().to_vec()))
    }

    /// Writes `value` under `key` if the term still is in the store's eyes.
    ///
    /// Tries other members until the term is over: repeating it does no harm to a key that the leader
    /// alone writes.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] if the term is over; then nothing was written.
    /// [`WriteError::Blocks`] for a key of the election itself.
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown; it is guarded even then.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), WriteError> {
        let put = TxnOp::put(key, value, None);
        self.refuse_own([put.clone().into()])?;
        self.repeat(vec![put]).await.map(drop)
    }

    /// Deletes `key`, guarded as [`put`](Self::put).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<(), WriteError> {
        let delete = TxnOp::delete(key, None);
        self.refuse_own([delete.clone().into()])?;
        self.repeat(vec![delete]).await.map(drop)
    }

    /// Runs `operations` in one transaction if the term still is, in one attempt.
    ///
    /// # Errors
    /// [`WriteError::Store`] with a time-out leaves the outcome unknown, guarded even then.
    /// [`WriteError::Blocks`] for a write to keys of the election itself.
    pub async fn txn(&self, operations: Vec<TxnOp>) -> Result<TxnResponse, WriteError> {
        self.refuse_own(operations.iter().cloned().map(Request::from))?;
        self.once(operations).await
    }

    /// Refuses what would write to the election's own keys.
    fn refuse_own(&self, operations: impl IntoIterator<Item = Request>) -> Result<(), WriteError> {
        let mut open: Vec<Request> = operations.into_iter().collect();
        while let Some(operation) = open.pop() {
            let (key, end) = match operation {
                Request::RequestRange(_) => continue,
                Request::RequestPut(put) => (put.key, Vec::new()),
                Request::RequestDeleteRange(delete) => (delete.key, delete.range_end),
                Request::RequestTxn(txn) => {
                    let nested = txn.success.into_iter().chain(txn.failure);
                    open.extend(nested.filter_map(|operation| operation.request));
                    continue;
                }
            };
            if self.election().owns_any(&key, &end) {
                let key = String::from_utf8_lossy(&key).into_owned();
                return Err(WriteError::Blocks { key });
            }
        }
        Ok(())
    }

    async fn once(&self, operations: Vec<TxnOp>) -> Result<TxnResponse, WriteError> {
        let limit = self.timing().attempt_limit();
        let txn = guarded(&self.facts.key, self.token(), operations);
        let (answer, _) = self.store.txn(limit, txn).await?;
        if answer.succeeded() {
            Ok(answer)
        } else {
            Err(WriteError::NotLeader)
        }
    }

    /// Sets the public value: what everyone reads under the leader's key.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<(), WriteError> {
        let lease = PutOptions::new().with_lease(self.lease().get());
        let put = TxnOp::put(self.key(), value, Some(lease));
        self.repeat(vec![put]).await.map(drop)
    }

    /// Says in the member record, `member` if there is none, that this term heeds the pause with
    /// this mod_revision; tries until it stands or the term is over.
    pub async fn heed_pause(&self, member: &MemberRecord, paused_at: Revision) {
        let place = MemberPlace {
            prefix: self.election(),
            lease: self.lease(),
        };
        let limit = self.timing().attempt_limit();
        let mut pauses = crate::backoff::Backoff::new(REFUSED_PAUSES.0, REFUSED_PAUSES.1);
        while !self.remaining().is_zero() {
            let heed =
                |member: &mut MemberRecord| member.paused = member.paused.max(Some(paused_at));
            match place.amend(&self.store, limit, Some(member), heed).await {
                Ok(true) => return,
                Ok(false) => {}
                // What the store refuses now, such as one that is full, it may take later.
                Err(_) => clock::sleep(pauses.next(crate::backoff::jitter())).await,
            }
        }
    }

    /// Repeats `operations` until they stand or the term is over: what the store refuses now, such as
    /// one that is full, it may take later. The first refusal is told to `refused`.
    async fn until_they_stand(
        &self,
        operations: Vec<TxnOp>,
        refused: impl Fn(&Error),
    ) -> Result<(), WriteError> {
        let mut pauses = crate::backoff::Backoff::new(REFUSED_PAUSES.0, REFUSED_PAUSES.1);
        let mut is_said = false;
        loop {
            match self.repeat(operations.clone()).await {
                Err(WriteError::Store(error)) if !self.remaining().is_zero() => {
                    if !is_said {
                        refused(&error);
                        is_said = true;
                    }
                    clock::sleep(pauses.next(crate::backoff::jitter())).await;
                }
                done => return done.map(drop),
            }
        }
    }

    async fn repeat(&self, operations: Vec<TxnOp>) -> Result<TxnResponse, WriteError> {
        let mut backoff = crate::session::backoff();
        loop {
            match self.once(operations.clone()).await {
                Err(WriteError::Store(error)) if !error.is_definite() => {
                    if self.remaining().is_zero() {
                        return Err(WriteError::Store(error));
                    }
                    tokio::time::sleep(backoff.next(crate::backoff::jitter())).await;
                }
                done => return done,
            }
        }
    }
}

/// `operations`, if `key` is still the one that was created at `token`.
pub(crate) fn guarded(key: &str, token: Token, operations: Vec<TxnOp>) -> Txn {
    let own = Compare::create_revision(key, CompareOp::Equal, token.get());
    Txn::new().when([own]).and_then(operations)
}
