//! What a leader holds: the right to give the term back, and clones of the term for the work.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::engine::Engine;
use super::stage::{self, Stage};
use super::{Answers, Ending, GuardedTxn, ResignError, WriteError};
use crate::revision::Token;
use crate::term;

/// How a term ended that was to be given back.
pub(super) type Resigned = Result<(), ResignError>;

/// What whoever holds a leadership asks of its candidacy.
#[derive(Debug)]
pub(super) enum Order {
    /// The work is to end.
    Stop,
    /// Give back once it has ended.
    Resign(oneshot::Sender<Resigned>),
}

/// A leadership from its complete claim on: the right to give it back, once.
///
/// Dropping it gives the term back in the background, if no [`Term`] of it is left; else renewals end,
/// and the TTL decides. At the end of a program, [`resign`](Self::resign) instead: it waits.
#[derive(Debug)]
#[must_use = "dropping it gives the term back"]
pub struct Leadership {
    // The order in which they are dropped: whoever hears that this is gone finds its term gone.
    term: Term,
    orders: mpsc::UnboundedSender<Order>,
}

impl Leadership {
    pub(super) const fn new(term: Term, orders: mpsc::UnboundedSender<Order>) -> Self {
        Self { term, orders }
    }

    /// The term, for whoever works in it: while a clone is left the work may still run, and nothing is
    /// given back.
    pub fn term(&self) -> Term {
        self.term.clone()
    }

    /// Gives the term back once no clone of it is left, so that another may lead at once. Clones are
    /// [ending](Term::ending) from now on, and the lease is renewed while it waits: at most until the
    /// deadline as it is now, which is less than a TTL away.
    ///
    /// # Errors
    /// [`ResignError::StillWorking`] at the deadline; the others say that nobody confirmed it.
    ///
    /// # Cancel safety
    /// Safe: it goes on in the background.
    pub async fn resign(self) -> Result<(), ResignError> {
        let (reply, told) = oneshot::channel();
        let Self { term, orders } = self;
        let engine = Arc::clone(&term.engine);
        // A candidacy that is gone tells of it below.
        drop(orders.send(Order::Resign(reply)));
        drop((term, orders));
        let outcome = told.await.unwrap_or(Err(ResignError::Gone));
        drop(engine);
        outcome
    }

    /// Tells all clones that the work is to end, which goes on being renewed for until it has.
    pub(super) fn stop(&self) {
        // As above.
        drop(self.orders.send(Order::Stop));
    }

    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.term.stage.clone()
    }
}

impl Deref for Leadership {
    type Target = Term;

    fn deref(&self) -> &Term {
        &self.term
    }
}

/// One term: the proof that its work may still run. Cheap to clone, and counted: hold one for as long as
/// you work, and no longer.
///
/// Reads and writes go through only while the term still is in etcd's eyes, whatever this process
/// believes.
#[derive(Clone, Debug)]
pub struct Term {
    inner: term::Term,
    stage: watch::Receiver<Stage>,
    engine: Arc<Engine>,
    /// Counts the clones.
    _alive: mpsc::Sender<()>,
}

impl Term {
    pub(super) const fn new(
        inner: term::Term,
        stage: watch::Receiver<Stage>,
        engine: Arc<Engine>,
        alive: mpsc::Sender<()>,
    ) -> Self {
        Self {
            inner,
            stage,
            engine,
            _alive: alive,
        }
    }

    /// The fencing token: it rises with every term of the election, whoever leads. Go calls it the
    /// revision. [`Token::get`] is its number, for another store or the field of a log.
    pub fn token(&self) -> Token {
        self.inner.token()
    }

    /// The leader's key in etcd.
    pub fn key(&self) -> &str {
        self.inner.key()
    }

    /// The candidate's name.
    pub fn candidate(&self) -> &str {
        self.inner.candidate()
    }

    /// The election's prefix.
    pub fn election(&self) -> &str {
        self.inner.election().as_str()
    }

    /// How long this is certainly the leader, by a clock that goes on while the machine is suspended:
    /// until the work is to be asked to end. Zero once it is [ending](Self::is_ending).
    pub fn remaining(&self) -> Duration {
        match self.stage.borrow().ending() {
            Some(_) => Duration::ZERO,
            None => self.inner.remaining(),
        }
    }

    /// Whether the work is to end.
    pub fn is_ending(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Waits until the work is to end, and says why. What is left then is `lost_grace` and `kill_budget`,
    /// unless etcd says that the term is gone already.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ending(&self) -> Ending {
        stage::ending(&mut self.stage.clone()).await
    }

    /// Runs `work` until the term is [ending](Self::ending), and drops it then. What it has spawned is not
    /// dropped with it: that wants a clone of the term.
    ///
    /// # Errors
    /// Why the term ends, if that came first.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> Result<T, Ending> {
        tokio::select! {
            biased;
            ending = self.ending() => Err(ending),
            done = work => Ok(done),
        }
    }

    /// Reads the value under `key`, linearizably, if the term still is. Tries member after member until
    /// the term is over.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>, WriteError> {
        let (term, key) = (self.inner.clone(), key.into());
        self.run(async move { term.get(key).await }).await
    }

    /// Writes `value` under `key` if the term still is. Tries member after member until the term is over:
    /// repeating it does no harm to a key that the leader alone writes.
    ///
    /// # Errors
    /// [`WriteError`] says of each whether something was written.
    ///
    /// # Cancel safety
    /// Dropping it leaves open whether it is written, guarded even then.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), WriteError> {
        let (term, key, value) = (self.inner.clone(), key.into(), value.into());
        self.run(async move { term.put(key, value).await }).await
    }

    /// Deletes `key`, guarded as [`put`](Self::put).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<(), WriteError> {
        let (term, key) = (self.inner.clone(), key.into());
        self.run(async move { term.delete(key).await }).await
    }

    /// Runs a transaction if the term still is, in one attempt.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn txn(&self, txn: GuardedTxn) -> Result<Answers, WriteError> {
        let (term, operation) = (self.inner.clone(), txn.operation());
        let answer = self.run(async move { term.txn(vec![operation]).await });
        Ok(Answers::read(&answer.await?))
    }

    /// Sets the public value, which everyone who looks on reads as the leader's name.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<(), WriteError> {
        let (term, value) = (self.inner.clone(), value.into());
        self.run(async move { term.proclaim(value).await }).await
    }

    async fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, term::WriteError>> + Send + 'static,
    ) -> Result<T, WriteError> {
        let answer = self.engine.run(request).await;
        Ok(answer.ok_or(WriteError::Gone)??)
    }
}
