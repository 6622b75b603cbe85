//! The election: a contest under one key prefix.
//!
//! The keys are those of Go's `clientv3/concurrency`, so both can stand in one queue; what is
//! done with them is stricter. Being first in the queue is not leadership: a claim (R8) proves it,
//! and after an unclean end it has to be made twice, `takeover_delay` apart (R13).
//!
//! ```text
//! join ─▶ claim ─┬─ behind ──▶ watch predecessor, own key, control/ ──▶ claim …
//!                ├─ paused ──▶ watch own key, control/ ──────────────▶ claim …
//!                ├─ unclean ─▶ wait takeover_delay, still renewing ──▶ claim …
//!                ├─ gone ────▶ lost
//!                └─ first ───▶ prove the last renewal (R1) ──────────▶ Term
//! ```
//!
//! A join that finds nobody in front is a claim as well.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnResponse};

use crate::clock::{self, Instant};
use crate::etcd::keep_alive::Ack;
use crate::etcd::{Error, Seen, Store, reads};
use crate::keys::Prefix;
use crate::revision::{Revision, Token};
use crate::session::{self, Loss, Session};
use crate::term::record::MemberRecord;
use crate::term::resignation::Resignation;
use crate::term::{self, Term, WriteError};

pub mod campaign;
pub mod claim;
pub mod control;
mod delay;
pub mod digest;
pub mod follow;
pub mod hosts;
pub mod make_way;
mod neighbour;
pub mod observe;
mod own_key;
pub mod queue;
pub mod successor;
pub mod wishes;

pub use campaign::{CampaignError, Progress};
pub use delay::TakeoverDelay;
pub use digest::Digest;
pub use observe::Observer;
pub use queue::{Queue, QueuedCandidate};

/// One contest, as one candidate sees it. Lives longer than its candidacies: what it waited for
/// last is kept across them (R13).
#[derive(Debug)]
pub struct Election {
    store: Store,
    prefix: Prefix,
    candidate: String,
    takeover_delay: TakeoverDelay,
    /// The candidate that this process last waited for.
    waited_for: claim::WaitedFor,
    /// Of this candidate's settings.
    digest: Digest,
    /// The own digest and another candidate's that were last found to differ.
    differed: Option<(Option<String>, String)>,
}

/// A place in the queue: a candidate key under a session's lease.
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// The candidate key.
    pub key: Arc<str>,
    /// Its create_revision; the fencing token, should the claim succeed.
    pub create_revision: Token,
    /// How many stood in front on joining.
    pub position: i64,
    /// Its member record.
    pub member: MemberRecord,
    /// What joining has found, if nobody stood in front: as good as the answer to a claim.
    found: Option<Found>,
}

/// The answer to a claim, or to a join that found nobody in front: that goes through consensus, too, and
/// says as of one revision that the own key is there, and no older one.
#[derive(Clone, Debug)]
struct Found {
    claim: claim::Claim,
    seen: Seen,
    /// The last renewal that was acknowledged before that (R1).
    acked: Ack,
    /// When it was sent.
    sent: Instant,
}

impl Election {
    /// The contest under `prefix`, for a candidate of this name. A prefix that was not
    /// [checked](Prefix::checked) is, as soon as the candidate stands.
    ///
    /// `takeover_delay` is waited after an end that was not proven clean; it must cover what an
    /// overrunning predecessor may take (R13).
    pub fn new(
        store: Store,
        prefix: Prefix,
        candidate: impl Into<String>,
        takeover_delay: impl Into<TakeoverDelay>,
    ) -> Self {
        Self {
            store,
            prefix,
            candidate: candidate.into(),
            takeover_delay: takeover_delay.into(),
            waited_for: claim::WaitedFor::default(),
            digest: Digest::default(),
            differed: None,
        }
    }

    /// The same contest, for a candidate whose settings have this digest.
    #[must_use]
    pub fn with_digest(self, digest: Digest) -> Self {
        Self { digest, ..self }
    }

    /// The prefix of the contest.
    pub const fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Takes a place in the queue: candidate key and member record in one transaction, tried
    /// until it is answered or the session is lost.
    ///
    /// A session serves one candidacy: its lease is given back with that, and renewed for no other.
    ///
    /// # Errors
    /// The loss of the session; a store that refuses is one too. A session that has joined before.
    ///
    /// # Cancel safety
    /// Dropping it may leave the key in the queue: close the session, which revokes its lease.
    pub async fn join(
        &self,
        session: &Session,
        member: &MemberRecord,
    ) -> Result<Candidacy, CampaignError> {
        self.prefix.check()?;
        if let Some(loss) = session.loss() {
            return Err(loss.into());
        }
        if !session.take_for(&self.prefix) {
            return Err(CampaignError::SessionTaken);
        }
        let key: Arc<str> = self.prefix.candidate(session.lease()).into();
        let lease = || Some(PutOptions::new().with_lease(session.lease().get()));
        let member = member.clone().with_digest(self.digest.get());
        let record = serde_json::to_string(&member).unwrap_or_default();
        let count = GetOptions::new().with_prefix().with_count_only();
        let everyone = TxnOp::get(self.prefix.candidates(), Some(count));
        let [ended, term, pause, foreign] = claim::records(&self.prefix);
        let txn = Txn::new()
            .when([Compare::create_revision(&*key, CompareOp::Equal, 0)])
            .and_then([
                TxnOp::put(&*key, self.candidate.as_str(), lease()),
                TxnOp::put(self.prefix.member(session.lease()), record, lease()),
                everyone.clone(),
                ended,
                term,
                pause,
                foreign,
            ])
            // A join that timed out was applied after all: the key tells when.
            .or_else([everyone, TxnOp::get(&*key, None)]);
        let join = || self.ask(session, &txn);
        let (answer, seen, acked, sent) = until_lost(session, join).await?;
        let mut gets = reads::gets(&answer);
        let position = gets.next().map_or(0, |all| all.count() - 1);
        let mut kvs = gets.map(|mut get| get.take_kvs().into_iter().next());
        let mut next = || kvs.next().flatten();
        let mut found = None;
        let create_revision = if answer.succeeded() {
            if position == 0 {
                let records = [next(), next(), next(), next()];
                found = Some(Found {
                    claim: claim::Claim::First(claim::Standing::read(&self.prefix, records)),
                    seen,
                    acked,
                    sent,
                });
            }
            Token::at(seen.revision)
        } else {
            next().map_or_else(|| Token::at(seen.revision), |own| Token::of(&own))
        };
        Ok(Candidacy {
            key,
            create_revision,
            position,
            member,
            found,
        })
    }

    /// Takes a place in the queue and waits until it leads: [`join`](Self::join), then
    /// [`campaign`](Self::campaign).
    ///
    /// # Errors
    /// As theirs.
    ///
    /// # Cancel safety
    /// Dropping it leaves the candidate in the queue, and possibly first: close the session.
    pub async fn stand(&mut self, session: &Session) -> Result<Term, CampaignError> {
        let member = MemberRecord::of_this_process(&self.candidate);
        let candidacy = self.join(session, &member).await?;
        let (election, candidate) = (self.prefix.clone(), self.candidate.clone());
        let told = |progress| {
            if let Progress::Blocked(key) = progress {
                tracing::error!(%election, candidate, key, "queue blocked by a key that is no candidate");
            }
        };
        let term = self.campaign(session, &candidacy, told).await?;
        if term.put_record(&term.record()).await.is_err() {
            session.lose(Loss::Deleted);
            return Err(session.lost().await.into());
        }
        Ok(term)
    }

    /// Gives the place or the term back: deletes the key if it is still ours, sets the marker if
    /// there was a term, revokes the lease. Only once the job is over (R5). Tries until answered
    /// or past the deadline; returns whether the store confirmed it.
    ///
    /// A session or a term of another candidacy is refused: nothing is given back, and the session,
    /// which ends here, leaves its lease to the TTL.
    pub async fn resign(&self, session: Session, term: Option<&Term>) -> bool {
        let of_another =
            |term: &Term| term.lease() != session.lease() || *term.election() != self.prefix;
        if session.is_of_another(&self.prefix) || term.is_some_and(of_another) {
            let (election, lease) = (&self.prefix, session.lease());
            tracing::error!(%election, %lease, "not resigned: session, term and election don't belong together");
            return false;
        }
        let timing = session.timing();
        let resignation = Resignation {
            store: self.store.settings(),
            cluster: self.store.seen().cluster,
            prefix: self.prefix.clone(),
            candidate: self.candidate.clone(),
            lease: session.lease(),
            ttl: timing.ttl(),
            attempt_limit: timing.attempt_limit(),
            token: term.map(Term::token),
            may_mark: term.is_some(),
            step_down: None,
            close: None,
        };
        let until = session.deadline();
        session.stop_renewing();
        resignation.carry_out(&self.store, until).await
    }

    /// Follows the election, with attempts of at most `limit`; see [`Observer`].
    pub fn observe(&self, limit: Duration) -> Observer {
        Observer::new(self.store.clone(), self.prefix.clone(), limit)
    }

    /// Who leads right now, read linearizably in one attempt of at most `limit`.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    pub async fn leader(&self, limit: Duration) -> Result<Option<QueuedCandidate>, Error> {
        let queue = Queue::read(&self.store, limit, &self.prefix).await?;
        Ok(queue.leader().cloned())
    }

    /// Sets the public value: everyone who observes the election reads it.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] if the term is over.
    pub async fn proclaim(&self, term: &Term, value: &str) -> Result<(), WriteError> {
        term.proclaim(value).await
    }

    /// Says in the member record that the pause with this mod_revision is heeded.
    async fn heed_pause(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        paused_at: Revision,
    ) -> Result<(), Loss> {
        let member = candidacy.member.clone().with_digest(self.digest.get());
        let record = member.heeding(paused_at);
        let lease = PutOptions::new().with_lease(session.lease().get());
        let put = TxnOp::put(self.prefix.member(session.lease()), record, Some(lease));
        let txn = term::guarded(&candidacy.key, candidacy.create_revision, vec![put]);
        let said = until_lost(session, || self.txn(session, txn.clone())).await;
        said.map(drop)
    }

    /// As [`txn`](Self::txn); returns also the last renewal that was acknowledged before it was sent, and
    /// when that was.
    async fn ask(
        &self,
        session: &Session,
        txn: &Txn,
    ) -> Result<(TxnResponse, Seen, Ack, Instant), Error> {
        let (acked, sent) = (session.last_ack(), clock::now());
        let (answer, seen) = self.txn(session, txn.clone()).await?;
        Ok((answer, seen, acked, sent))
    }

    async fn txn(&self, session: &Session, txn: Txn) -> Result<(TxnResponse, Seen), Error> {
        self.store.txn(session.timing().attempt_limit(), txn).await
    }
}

/// Repeats `attempt`, which must be idempotent, until the store answers or the session is lost.
async fn until_lost<T, F: Future<Output = Result<T, Error>>>(
    session: &Session,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Loss> {
    let mut backoff = session::backoff();
    loop {
        let outcome = tokio::select! {
            biased;
            loss = session.lost() => return Err(loss),
            outcome = attempt() => outcome,
        };
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(Error::LeaseGone) => return Err(Loss::Revoked),
            Err(Error::ClusterChanged(what)) => return Err(Loss::ClusterChanged(what)),
            Err(error) if error.is_definite() => return Err(Loss::Refused(error)),
            Err(Error::Timeout { .. }) => {}
            Err(_) => clock::sleep(backoff.next(crate::backoff::jitter())).await,
        }
    }
}
