//! The renewals of one lease: one in flight, one attempt at a time, proven while it carries a term.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::deadline::is_proven;
use super::status::LeaseTrouble;
use super::{Counter, Loss, Options, OwnKey, Renewed as Counted, SharedReads, Status};
use crate::backoff::{Backoff, jitter};
use crate::clock::{self, Alarm, Instant, Tick};
use crate::etcd::keep_alive::{Ack, KeepAlive};
use crate::etcd::{Error, Store};
use crate::keys::LeaseId;
use crate::revision::Token;
use crate::timing::{JOBS_TURN, LARGEST_BACKOFF, Timing};

/// The first pause after a failed attempt: a refused connection fails in less than that, and would
/// be tried in a spin.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);

/// Sessions that share reads are renewed at so many moments within the time of one renewal: few, so
/// that there is something to read together, but no herd.
const BEATS: u32 = 5;

/// How long the store may take to elect a leader: twice etcd's default election timeout.
const LEADERLESS: Duration = Duration::from_secs(2);

/// The pauses between attempts while a lease is held.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(FIRST_BACKOFF, LARGEST_BACKOFF)
}

/// What the session tells its renewals.
#[derive(Debug)]
pub(super) enum RenewalOrder {
    /// The lease carries a term now; `proven` is the renewal that the claim has proven, if any.
    Lead { own: OwnKey, proven: Option<Ack> },
    /// The term is gone.
    Lose(Loss),
}

/// The task that renews.
pub(super) struct Renewal {
    store: Store,
    lease: LeaseId,
    timing: Timing,
    tick: Option<Tick>,
    counter: Counter,
    reads: Option<SharedReads>,
    publish: watch::Sender<Status>,
    /// The open stream; dropped after any failure.
    stream: Option<KeepAlive>,
    /// The key that every renewal proves, once the lease carries a term.
    own: Option<OwnKey>,
    /// Since when members say that the lease is gone, and nobody how it is with the own key.
    doubted: Option<Instant>,
    backoff: Backoff,
}

impl Renewal {
    pub(super) fn new(
        store: Store,
        lease: LeaseId,
        options: &Options,
        timing: Timing,
        publish: watch::Sender<Status>,
    ) -> Self {
        Self {
            store,
            lease,
            timing,
            tick: options.tick.clone(),
            counter: options.counter.clone(),
            reads: options.reads.clone(),
            publish,
            stream: None,
            own: None,
            doubted: None,
            backoff: backoff(),
        }
    }

    /// Renews until the lease is lost or the session is dropped.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<RenewalOrder>) {
        let loss = self.renew_until_lost(&mut inbox).await;
        tracing::debug!(lease = %self.lease, reason = loss.reason().word(), "session over");
        let expired = loss == Loss::Expired;
        self.publish.send_modify(|status| {
            status.loss.get_or_insert(loss);
        });
        if expired && self.own.is_some() {
            self.hold_on().await;
        }
    }

    /// Goes on renewing after the deadline has passed, until the store says that the lease is
    /// gone: should a process of the job outlive its SIGKILL, nobody else may start (R5). The
    /// session is dropped once the tree is empty, and this with it.
    async fn hold_on(&mut self) {
        loop {
            if self.main_loop_hangs() {
                clock::sleep(self.timing.renewal_interval()).await;
                continue;
            }
            match self.renew().await {
                Err(Failed::Lost(_)) => return,
                Ok(_) => clock::sleep(self.timing.renewal_interval()).await,
                Err(Failed::Attempt(_)) => {
                    self.stream = None;
                    clock::sleep(self.backoff.next(jitter())).await;
                }
            }
        }
    }

    async fn renew_until_lost(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<RenewalOrder>,
    ) -> Loss {
        let mut due = self.next_due();
        // One for all that is waited for here: a process may have hundreds of sessions.
        let mut alarm = Alarm::default();
        loop {
            let deadline = self.publish.borrow().deadline;
            tokio::select! {
                biased;
                order = inbox.recv() => match order {
                    Some(RenewalOrder::Lead { own, proven }) => {
                        self.own = Some(own);
                        due = match proven {
                            Some(ack) => {
                                self.prove(ack);
                                // A waiter's renewal may be older by now than a leader's ever is.
                                self.next_due().max(clock::now() + JOBS_TURN)
                            }
                            None => clock::now(),
                        };
                    }
                    Some(RenewalOrder::Lose(loss)) => return loss,
                    None => return Loss::Closed,
                },
                () = alarm.about(due, Some(deadline)) => {
                    if deadline.has_passed() {
                        return Loss::Expired;
                    }
                    if due.has_passed() {
                        match self.attempt(inbox, &mut alarm).await {
                            Ok(next) => due = next,
                            Err(loss) => return loss,
                        }
                    }
                }
            }
        }
    }

    /// Makes one attempt, but heeds a loss that is reported meanwhile and the deadline. Returns
    /// when the next one is due.
    async fn attempt(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<RenewalOrder>,
        alarm: &mut Alarm,
    ) -> Result<Instant, Loss> {
        if self.main_loop_hangs() {
            tracing::error!(lease = %self.lease, "the main loop hangs: not renewing");
            return Ok(clock::now() + self.timing.renewal_interval());
        }
        let deadline = self.publish.borrow().deadline;
        let had_stream = self.stream.is_some();
        let outcome = tokio::select! {
            biased;
            order = inbox.recv() => match order {
                Some(RenewalOrder::Lose(loss)) => return Err(loss),
                // The claim proves an earlier renewal; with one in flight, that one is followed
                // by another at once instead, which does the same.
                Some(RenewalOrder::Lead { own, .. }) => Ok(RenewalOutcome::Interrupted(own)),
                None => return Err(Loss::Closed),
            },
            () = alarm.until(deadline) => return Err(Loss::Expired),
            outcome = self.renew() => outcome.map(RenewalOutcome::Acked),
        };
        match outcome {
            Ok(RenewalOutcome::Acked(true)) => {
                self.backoff.reset();
                Ok(self.next_due())
            }
            Ok(RenewalOutcome::Acked(false)) => Ok(self.after_pause()),
            Ok(RenewalOutcome::Interrupted(own)) => {
                self.stream = None;
                self.own = Some(own);
                Ok(clock::now())
            }
            Err(Failed::Lost(loss)) => Err(loss),
            Err(Failed::Attempt(error)) => {
                self.stream = None;
                tracing::debug!(lease = %self.lease, %error, "renewal failed");
                // That a stream has ended says little of the store: what a new one meets does,
                // and tells operators why.
                if had_stream && !matches!(error, Error::Timeout { .. }) {
                    return Ok(self.after_pause());
                }
                self.publish.send_modify(|status| {
                    let since = status.trouble.as_ref().map_or_else(clock::now, |t| t.since);
                    let error = error.clone();
                    status.trouble = Some(LeaseTrouble { since, error });
                });
                // A silent member has cost its limit already.
                match error {
                    Error::Timeout { .. } => Ok(clock::now()),
                    _ => Ok(self.after_pause()),
                }
            }
        }
    }

    /// One whole attempt, counted.
    async fn renew(&mut self) -> Result<bool, Failed> {
        let begun = clock::now();
        let outcome = self.renew_once().await;
        let counted = match &outcome {
            Ok(true) => Counted::Ok,
            Ok(false) => Counted::Unproven,
            Err(_) => Counted::Failed,
        };
        self.counter.renewed(counted, clock::now().since(begun));
        outcome
    }

    /// One whole attempt within `Q`: open a stream if there is none, renew, and while the lease
    /// carries a term read the own key. Returns whether the deadline has moved.
    async fn renew_once(&mut self) -> Result<bool, Failed> {
        let end = clock::now() + self.timing.attempt_limit();
        let ack = self.acknowledgement(end).await;
        let ack = match (ack, self.own.clone()) {
            (Err(Error::LeaseGone), Some(own)) => {
                return Err(self.gone(&own, end.remaining()).await);
            }
            (ack, _) => ack?,
        };
        let Some(own) = self.own.clone() else {
            let timing = self.timing;
            self.publish
                .send_modify(|status| status.acknowledged(ack, timing));
            return Ok(true);
        };
        let Some(read_in) = self.read_own_key(&own, end.remaining()).await? else {
            // Nobody could ever follow a term whose key outlives it: it is put back, or the term ends.
            tracing::info!(lease = %self.lease, "renewal not proven: the own key is off its lease");
            return Ok(false);
        };
        if !is_proven(ack, read_in, self.store.seen().raft_term) {
            // The acknowledgement may come from a leader of the store that was deposed while it
            // was frozen, and that nobody else heard of (R1).
            tracing::info!(lease = %self.lease, "renewal not proven: the store has a new leader");
            return Ok(false);
        }
        self.doubted = None;
        self.prove(ack);
        Ok(true)
    }

    /// Opens a stream if there is none, and renews.
    async fn acknowledgement(&mut self, end: Instant) -> Result<Ack, Error> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => KeepAlive::open(&self.store, end.remaining(), self.lease).await?,
        };
        let stream = self.stream.insert(stream);
        stream.renew(&self.store, end.remaining()).await
    }

    /// What it means that a member says that the lease is gone: the key that hangs on it must be, too.
    ///
    /// A member asks the store's leader for a renewal by its address, and whoever listens there
    /// answers: just after a wiped leader has come back as a cluster of its own, that one, until the
    /// others have a leader. If nobody can tell for longer how it is with the key, the word counts.
    async fn gone(&mut self, own: &OwnKey, limit: Duration) -> Failed {
        match self.read_own_key(own, limit).await {
            // Off its lease, the key tells nothing of it.
            Err(Failed::Lost(Loss::Deleted)) | Ok(None) => Failed::Lost(Loss::Revoked),
            Err(lost @ Failed::Lost(_)) => lost,
            Err(Failed::Attempt(_)) if self.is_doubted_for(LEADERLESS) => {
                Failed::Lost(Loss::Revoked)
            }
            Ok(Some(_)) | Err(Failed::Attempt(_)) => Failed::Attempt(Error::Unreachable {
                endpoint: self.store.current().endpoint.clone(),
                reason: "says that the lease is gone, whose key is not".to_owned(),
            }),
        }
    }

    /// Doubts the lease from now on, if it wasn't doubted before; returns whether that is for so long.
    fn is_doubted_for(&mut self, span: Duration) -> bool {
        let now = clock::now();
        let since = *self.doubted.get_or_insert(now);
        now.since(since) >= span
    }

    /// Reads the own key linearizably; returns the raft term that it was read in (R1, R7), unless the
    /// key is off its lease.
    async fn read_own_key(&self, own: &OwnKey, limit: Duration) -> Result<Option<u64>, Failed> {
        let (found, seen) = match &self.reads {
            Some(reads) => reads.first(&self.store, limit, &own.key).await?,
            None => self.store.first(limit, own.key.as_bytes()).await?,
        };
        match found {
            Some(kv) if Token::of(&kv) == own.token => {
                Ok((kv.lease() == self.lease.get()).then_some(seen.raft_term))
            }
            _ => Err(Failed::Lost(Loss::Deleted)),
        }
    }

    /// Moves the deadline to what the proven `ack` gives; never back within a term.
    fn prove(&self, ack: Ack) {
        let timing = self.timing;
        self.publish
            .send_modify(|status| status.proven(ack, timing));
    }

    fn main_loop_hangs(&self) -> bool {
        let tick = self.tick.as_ref();
        tick.is_some_and(|tick| tick.age() > self.timing.ttl())
    }

    fn next_due(&self) -> Instant {
        let interval = match self.own {
            Some(_) => self.timing.renewal_interval(),
            None => self.timing.waiting_interval(),
        };
        let due = self.publish.borrow().ack.sent + interval;
        if self.reads.is_some() {
            due.at_beat(interval / BEATS)
        } else {
            due
        }
    }

    fn after_pause(&mut self) -> Instant {
        clock::now() + self.backoff.next(jitter())
    }
}

/// Who holds a term without renewals holds it no longer.
impl Drop for Renewal {
    fn drop(&mut self) {
        self.publish.send_modify(|status| {
            status.loss.get_or_insert(Loss::Closed);
        });
    }
}

/// How an attempt came out that did not fail.
enum RenewalOutcome {
    /// The store acknowledged; whether the deadline has moved.
    Acked(bool),
    /// A term began meanwhile.
    Interrupted(OwnKey),
}

/// How an attempt failed.
enum Failed {
    /// For good.
    Lost(Loss),
    /// It may be tried again.
    Attempt(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match Loss::from_error(&error) {
            Some(loss) => Self::Lost(loss),
            None => Self::Attempt(error),
        }
    }
}
