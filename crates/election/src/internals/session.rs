//! The session: a lease, its renewals and its local deadline.
//!
//! The election stands on it: a candidacy lives as long as its session. [`Session::open`] grants
//! a lease under a fresh id, and a task renews it until the session is closed or
//! lost. What it knows is published as [`Status`]; a loss is final, and a new session has a new
//! lease (R9, R10).
//!
//! While the session carries no term, every acknowledged renewal moves the deadline. Once
//! [`lead`](Session::lead) has tied it to a term, only *proven* ones do (R1), and the own key is
//! read with each of them (R7).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::{self, Instant, Tick};
use crate::etcd::keep_alive::Ack;
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::revision::Token;
use crate::timing::Timing;

pub mod counter;
pub mod deadline;
pub mod loss;
mod renewal;
mod shared_reads;
pub mod status;

pub use counter::{Counter, Renewed};
pub use loss::Loss;
pub(crate) use renewal::backoff;
use renewal::{Renewal, RenewalOrder};
pub use shared_reads::SharedReads;
pub use status::Status;

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The TTL to ask for, in whole seconds, and the graces of the job that depends on it.
    pub timing: Timing,
    /// Renewals stop if this has not ticked within the TTL; `None` renews for ever.
    pub tick: Option<Tick>,
    /// Who is told of each attempt to renew.
    pub counter: Counter,
    /// Where a process has many sessions: what reads the own keys of all. They are renewed at the same
    /// moments then, so that there is something to read together.
    pub reads: Option<SharedReads>,
}

impl Options {
    /// A lease that is renewed for as long as the session lives.
    ///
    /// The graces in `timing` are what the holder's work takes to end: a term counts as lost so
    /// much before its deadline.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            tick: None,
            counter: Counter::default(),
            reads: None,
        }
    }
}

/// A lease that is being renewed.
///
/// Dropping it stops the renewals, which ends its term, and leaves the lease to its TTL; call
/// [`close`](Self::close).
#[derive(Debug)]
pub struct Session {
    store: Store,
    lease: LeaseId,
    timing: Timing,
    orders: mpsc::UnboundedSender<RenewalOrder>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
    /// The election that it stands in. One and no other: a term is lost with its own key (R7), and
    /// given back with its lease (R5).
    taken: OnceLock<Prefix>,
    /// The loss that was declared, which the renewals may not have heard of yet.
    declared: OnceLock<Loss>,
}

/// The own key of a term, as the renewals prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    /// The candidate key.
    pub key: Arc<str>,
    /// Its create_revision: the fencing token.
    pub token: Token,
}

impl Session {
    /// Grants a fresh lease, in one attempt for each member, and begins to renew it.
    ///
    /// Must run on the runtime that is to carry the renewals: one that nothing else can hold up.
    ///
    /// # Errors
    /// Whatever it is, the grant may be applied: the lease is revoked in the background then (R10).
    /// The granted TTL can be longer than the one asked for.
    ///
    /// # Cancel safety
    /// Dropping it is as an error.
    pub async fn open(store: &Store, options: Options) -> Result<Self, Error> {
        let lease = LeaseId::random(crate::backoff::random());
        let unwanted = Unwanted {
            store,
            lease: Some(lease),
            timing: options.timing,
        };
        let session = Self::open_as(store, lease, options).await?;
        unwanted.keep();
        Ok(session)
    }

    /// The same under an id that was never used before, and that somebody else knows already: whoever
    /// gives the lease back, whatever comes of the grant (R6, R10).
    pub async fn open_as(store: &Store, lease: LeaseId, options: Options) -> Result<Self, Error> {
        let asked = options.timing;
        let limit = asked.attempt_limit();
        // Side by side: a launch should not pay for a question that members all answer alike.
        let (found, granted) =
            tokio::join!(store.find_member(limit), grant(store, lease, &options));
        if let Err(proxied) = found {
            revoke(store, lease, limit, clock::now() + limit).await;
            return Err(proxied);
        }
        let ack = granted?;
        let ttl = Duration::from_secs(u64::try_from(ack.ttl).unwrap_or(0));
        let timing = asked.with_ttl(ttl);
        let (publish, status) = watch::channel(Status::granted(ack, timing));
        let (orders, inbox) = mpsc::unbounded_channel();
        let renewal = Renewal::new(store.clone(), lease, &options, timing, publish);
        let task = tokio::spawn(renewal.run(inbox));
        Ok(Self {
            store: store.clone(),
            lease,
            timing,
            orders,
            status,
            task,
            taken: OnceLock::new(),
            declared: OnceLock::new(),
        })
    }

    /// Takes it for the candidacy in an election, if it has none yet; returns whether it hadn't.
    pub(crate) fn take_for(&self, election: &Prefix) -> bool {
        self.taken.set(election.clone()).is_ok()
    }

    /// Whether it stands in another election than this.
    pub(crate) fn is_of_another(&self, election: &Prefix) -> bool {
        self.taken.get().is_some_and(|taken| taken != election)
    }

    /// How it was lost, if it was.
    pub fn loss(&self) -> Option<Loss> {
        let known = self.status.borrow().loss.clone();
        known.or_else(|| self.declared.get().cloned())
    }

    /// The id of the lease.
    pub const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The times that follow from the granted TTL.
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// The store that granted the lease.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of the lease, as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The instant up to which the lease is held for certain.
    pub fn deadline(&self) -> Instant {
        self.status.borrow().deadline
    }

    /// Waits until the lease is lost, and says how.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn lost(&self) -> Loss {
        let mut status = self.status();
        status::lost(&mut status).await
    }

    /// Ties the session to a term: from now on the deadline counts from proven renewals only.
    ///
    /// `claimed_in` is the raft term of the claim's own header. If the last renewal was
    /// acknowledged before the claim was sent (`acked`) and in the same raft term, the claim has
    /// proven it; otherwise, or if that was too long ago, this renews and proves once more (R1).
    ///
    /// # Errors
    /// The loss, if the lease or the key is gone, or the deadline came first.
    ///
    /// # Cancel safety
    /// Dropping it may leave the session tied to the term; close it then.
    pub async fn lead(&self, own: OwnKey, acked: Ack, claimed_in: u64) -> Result<(), Loss> {
        let newest = self.store.seen().raft_term;
        let proven = deadline::is_enough(acked, claimed_in, newest, self.timing, clock::now());
        let order = RenewalOrder::Lead {
            own,
            proven: proven.then_some(acked),
        };
        // A closed inbox means that the renewals have ended, which the status says.
        let sent = self.orders.send(order);
        let mut status = self.status();
        let current = status
            .wait_for(|status| status.loss.is_some() || status.proven)
            .await;
        match current.as_deref() {
            Ok(Status { loss: None, .. }) if sent.is_ok() => Ok(()),
            Ok(Status {
                loss: Some(loss), ..
            }) => Err(loss.clone()),
            _ => Err(Loss::Closed),
        }
    }

    /// The last acknowledged renewal, or the grant.
    pub fn last_ack(&self) -> Ack {
        self.status.borrow().ack
    }

    /// Declares the term lost: somebody saw its end first, on a watch of the own key (R7).
    pub fn lose(&self, loss: Loss) {
        self.declared.get_or_init(|| loss.clone());
        // A closed inbox means that the session is over already.
        drop(self.orders.send(RenewalOrder::Lose(loss)));
    }

    /// Stops the renewals without a word to the store; the lease lives on for its TTL, and the
    /// session counts as lost.
    pub fn stop_renewing(&self) {
        self.task.abort();
    }

    /// Stops the renewals and revokes the lease, trying until the store answers or `until`.
    /// Returns whether it did.
    ///
    /// # Cancel safety
    /// Dropping it leaves the lease to its TTL.
    pub async fn close(self, until: Instant) -> bool {
        self.task.abort();
        revoke(&self.store, self.lease, self.timing.attempt_limit(), until).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A lease that may be granted, and that nobody will use.
struct Unwanted<'a> {
    store: &'a Store,
    lease: Option<LeaseId>,
    timing: Timing,
}

impl Unwanted<'_> {
    fn keep(mut self) {
        self.lease = None;
    }
}

impl Drop for Unwanted<'_> {
    fn drop(&mut self) {
        // Without a runtime, as where a whole program ends, it has its TTL.
        if let (Some(lease), Ok(runtime)) = (self.lease, Handle::try_current()) {
            let (store, limit) = (self.store.clone(), self.timing.attempt_limit());
            let until = clock::now() + self.timing.ttl();
            runtime.spawn(async move { revoke(&store, lease, limit, until).await });
        }
    }
}

/// Grants the lease. A member that is away or hangs costs its attempt and no more.
async fn grant(store: &Store, lease: LeaseId, options: &Options) -> Result<Ack, Error> {
    let limit = options.timing.attempt_limit();
    let seconds = i64::try_from(options.timing.ttl().as_secs()).unwrap_or(i64::MAX);
    // An attempt that timed out may have been applied, so the lease may run since the first.
    let sent = clock::now();
    let mut tries = store.member_count();
    loop {
        tries -= 1;
        match store.grant(limit, lease, seconds).await {
            Ok((ttl, seen)) => {
                // A grant goes through consensus, so its raft term is as good as a renewal's.
                let raft_term = seen.raft_term;
                return Ok(Ack {
                    sent,
                    ttl,
                    raft_term,
                });
            }
            Err(Error::LeaseExists) => {
                let lifetime = store.time_to_live(limit, lease).await?;
                let ttl = lifetime.ok_or(Error::LeaseGone)?.granted.as_secs();
                let ttl = i64::try_from(ttl).unwrap_or(i64::MAX);
                // Nobody heard in which raft term: it proves nothing to a claim.
                let raft_term = 0;
                return Ok(Ack {
                    sent,
                    ttl,
                    raft_term,
                });
            }
            Err(error) if error.is_definite() || tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// Revokes `lease`, trying with attempts of at most `limit` until the store answers or `until`.
/// Returns whether the lease is known to be gone.
///
/// It is what makes sure that no write of this candidacy is applied later on (R10).
pub async fn revoke(store: &Store, lease: LeaseId, limit: Duration, until: Instant) -> bool {
    match insist(until, || store.revoke(limit, lease)).await {
        Ok(_) => true,
        Err(error) => {
            if error.is_definite() {
                tracing::warn!(%lease, %error, "revoke refused");
            }
            false
        }
    }
}

/// Makes attempts until the store answers one or refuses it, or `until` has come.
///
/// # Errors
/// The refusal, or what was wrong with the last attempt.
pub(crate) async fn insist<T, F>(until: Instant, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = backoff();
    loop {
        match attempt().await {
            Err(error) if !error.is_definite() && !until.has_passed() => {
                let pause = backoff.next(crate::backoff::jitter());
                clock::sleep_until(until.min(clock::now() + pause)).await;
            }
            done => return done,
        }
    }
}
