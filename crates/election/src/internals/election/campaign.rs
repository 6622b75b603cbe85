//! Campaigning: waiting for one's turn and claiming it (R8, R9, R13).

use std::sync::Arc;
use std::time::Duration;

use etcd_client::KeyValue;

use super::claim::{self, Claim, ClaimStep, WaitedFor};
use super::{Candidacy, Election, Found, until_lost};
use crate::clock;
use crate::etcd::Error;
use crate::etcd::watch::{Change, Target, Watch};
use crate::keys::{NotAPrefix, shown};
use crate::revision::{Revision, Token};
use crate::session::{Loss, OwnKey, Session};
use crate::term::{Before, Facts, Term};

/// Pause after a broken watch, so that a store that breaks them all isn't asked in a spin.
const RELOOK_PAUSE: Duration = Duration::from_millis(10);

/// Why a campaign ended without a term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CampaignError {
    /// The candidacy is over: join again with a new session.
    #[error("the candidacy was lost")]
    Lost(#[source] Loss),
    /// The store's memory rules this candidacy out.
    #[error("refusing to lead: {0}")]
    Refused(String),
    /// The leader was asked to step down for one behind this candidate: join again, behind that.
    #[error("making way for the one that is to lead")]
    MakeWay,
    /// The session has stood in an election before, this one or another: open a new one.
    #[error(
        "the session is taken: it has stood in an election before, and each candidacy needs its own"
    )]
    SessionTaken,
    /// No election is held under such a prefix.
    #[error(transparent)]
    Prefix(#[from] NotAPrefix),
}

impl From<Loss> for CampaignError {
    fn from(loss: Loss) -> Self {
        Self::Lost(loss)
    }
}

/// What a campaign is waiting for, as it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
// The daemon has a line for each.
#[cfg_attr(not(feature = "daemon"), non_exhaustive)]
pub enum Progress {
    /// For the candidate in front of it, with this create_revision.
    Behind(Token),
    /// For a key in front of it that is no candidate and will never go away by itself.
    Blocked(String),
    /// For a candidate in front of it whose key is off its lease, until it has put that back.
    OffLease(String),
    /// For the end of a pause.
    Paused,
    /// The record under this key can't be read: it is taken to forbid or to tell of all that it may.
    Unreadable(String),
    /// The candidate of this name in front of it has other settings.
    Differs(String),
    /// For `takeover_delay`, which is so long: the last term's end was not proven.
    Delayed(Duration),
}

impl Election {
    /// Waits until `candidacy` leads, and returns its term once the claim is complete.
    ///
    /// `progress` is told what is waited for, for logs and status.
    ///
    /// # Errors
    /// When the candidacy is over, or can never lead. Either way close the session.
    ///
    /// # Cancel safety
    /// Dropping it leaves the candidate in the queue, and possibly first: close the session.
    pub async fn campaign(
        &mut self,
        session: &Session,
        candidacy: &Candidacy,
        mut progress: impl FnMut(Progress),
    ) -> Result<Term, CampaignError> {
        let mine = candidacy.create_revision;
        self.waited_for.in_front = false;
        // What was waited with stays open during the claim: to end it first would hold that up.
        let mut watch = None;
        // The end of the last term, where it had to be waited out.
        let mut waited_out = None;
        // The pause that was heeded last, so that it is said once.
        let mut heeded = None;
        // Joining was as good as a claim, just now.
        let found = candidacy.found.clone();
        let limit = session.timing().attempt_limit();
        let mut found = found.filter(|found| clock::now().since(found.sent) < limit);
        loop {
            let Found {
                claim, seen, acked, ..
            } = match found.take() {
                Some(found) => found,
                None => self.claim(session, candidacy).await?,
            };
            match claim {
                Claim::OffLease(at) => {
                    self.put_back(session, candidacy, at).await?;
                }
                Claim::Gone => {
                    session.lose(Loss::Deleted);
                    return Err(Loss::Deleted.into());
                }
                Claim::Behind(front) => {
                    waited_out = None;
                    let predecessor = &front.predecessor;
                    if let Some(record) = front.wish.as_ref().filter(|record| record.to.is_some()) {
                        let look = || self.is_to_make_way(session, record, mine);
                        if until_lost(session, look).await? {
                            return Err(CampaignError::MakeWay);
                        }
                    }
                    self.waited_for = WaitedFor {
                        token: Some(Token::of(predecessor)),
                        in_front: true,
                    };
                    let waits_for = match self.prefix.lease_of(predecessor.key()) {
                        Some(of) => {
                            let told = &mut progress;
                            let found = self.neighbour(session, candidacy, &front, of, told);
                            let Some(waits_for) = found.await? else {
                                continue;
                            };
                            waits_for
                        }
                        None => Progress::Blocked(shown(predecessor.key())),
                    };
                    progress(waits_for);
                    let front = Some(predecessor);
                    self.wait(session, candidacy, front, seen.revision, &mut watch)
                        .await?;
                }
                Claim::First(standing) => {
                    match standing.next(&self.prefix, mine, self.waited_for, waited_out.is_some()) {
                        ClaimStep::Refuse(why) => return Err(CampaignError::Refused(why)),
                        ClaimStep::Pause(at) => {
                            if heeded != Some(at) {
                                progress(Progress::Paused);
                                if standing.pause_unreadable {
                                    progress(Progress::Unreadable(self.prefix.pause()));
                                }
                                self.heed_pause(session, candidacy, at).await?;
                                heeded = Some(at);
                            }
                            self.wait(session, candidacy, None, seen.revision, &mut watch)
                                .await?;
                        }
                        ClaimStep::Delay => {
                            let delay = standing.delay(self.takeover_delay.get());
                            for key in &standing.unreadable {
                                progress(Progress::Unreadable(key.clone()));
                            }
                            progress(Progress::Delayed(delay));
                            self.delay(session, candidacy, seen.revision, delay).await?;
                            waited_out = standing.last(mine, self.waited_for);
                        }
                        ClaimStep::Lead => {
                            let own = OwnKey {
                                key: candidacy.key.clone(),
                                token: mine,
                            };
                            session.lead(own, acked, seen.raft_term).await?;
                            return Ok(self.term(
                                session,
                                candidacy,
                                seen.revision,
                                Before {
                                    waited_out,
                                    recorded: standing.recorded,
                                },
                            ));
                        }
                    }
                }
            }
        }
    }

    /// Claims once, trying until the store answers or the session is lost.
    async fn claim(&self, session: &Session, candidacy: &Candidacy) -> Result<Found, Loss> {
        let mine = candidacy.create_revision;
        let txn = claim::txn(&self.prefix, &candidacy.key, mine);
        // The renewal that the claim proves is one acknowledged before the attempt that was
        // answered began (R1).
        let claim = || self.ask(session, &txn);
        let (answer, seen, acked, sent) = until_lost(session, claim).await?;
        Ok(Found {
            claim: Claim::read(&answer, &self.prefix, mine, session.lease()),
            seen,
            acked,
            sent,
        })
    }

    fn term(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        claimed_at: Revision,
        before: Before,
    ) -> Term {
        let facts = Facts {
            prefix: self.prefix.clone(),
            candidate: self.candidate.clone(),
            lease: session.lease(),
            key: Arc::clone(&candidacy.key),
            token: candidacy.create_revision,
            claimed_at,
            before,
            timing: session.timing(),
        };
        Term::new(facts, session.status(), self.store.clone())
    }

    /// Waits until `front` is gone or changes its lease, or something under `control/` has changed;
    /// leaves the watch that saw it in `watch`.
    async fn wait(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        front: Option<&KeyValue>,
        looked_at: Revision,
        watch: &mut Option<Watch>,
    ) -> Result<(), Loss> {
        *watch = None;
        let mut targets = vec![Target::Prefix(self.prefix.control())];
        targets.extend(front.map(|front| Target::Key(front.key().to_vec())));
        let off_lease = front.and_then(|front| {
            let lease = self.prefix.lease_of(front.key())?;
            (lease.get() != front.lease()).then_some(lease)
        });
        // Its end is then seen by what is on its lease yet.
        targets.extend(off_lease.map(|lease| Target::Key(self.prefix.member(lease).into())));
        let changed = |change: &Change| match change {
            Change::Delete { .. } => true,
            // A predecessor that proclaims something is still there.
            Change::Put(kv) => {
                front.is_none_or(|front| kv.key() != front.key() || kv.lease() != front.lease())
            }
        };
        *watch = self
            .watch(session, candidacy, targets, looked_at, changed)
            .await?;
        Ok(())
    }

    /// Waits for so long at least, unless the candidacy is lost before.
    async fn delay(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        looked_at: Revision,
        delay: Duration,
    ) -> Result<(), Loss> {
        let over = clock::now() + delay;
        loop {
            let left = over.after_by_both(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::select! {
                () = clock::sleep(left) => {}
                watched = self.watch(session, candidacy, Vec::new(), looked_at, |_| false) => {
                    watched?;
                }
            }
        }
    }

    /// Watches the own key and `targets` from just after `looked_at` on, until a change counts.
    /// A watch that breaks counts, and none is returned: whoever waited must look again.
    async fn watch(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        mut targets: Vec<Target>,
        looked_at: Revision,
        counts: impl Fn(&Change) -> bool,
    ) -> Result<Option<Watch>, Loss> {
        let own = candidacy.key.as_bytes();
        targets.push(Target::Key(own.to_vec()));
        let changed = async {
            let limit = session.timing().attempt_limit();
            let mut watch = Watch::open(&self.store, limit, targets, looked_at.next()).await?;
            let mut status = session.status();
            loop {
                for change in watch.next_beside(&mut status).await? {
                    match &change {
                        Change::Delete { key, .. } if key == own => return Ok(Err(Loss::Deleted)),
                        Change::Put(kv) if kv.key() == own => {
                            let same = Token::of(kv) == candidacy.create_revision;
                            if !same {
                                return Ok(Err(Loss::Deleted));
                            }
                            if kv.lease() != session.lease().get()
                                && let Err(loss) = self
                                    .put_back(session, candidacy, Revision::written(kv))
                                    .await
                            {
                                return Ok(Err(loss));
                            }
                        }
                        other if counts(other) => return Ok(Ok(watch)),
                        _ => {}
                    }
                }
            }
        };
        let outcome: Result<Result<Watch, Loss>, Error> = tokio::select! {
            biased;
            loss = session.lost() => return Err(loss),
            outcome = changed => outcome,
        };
        match outcome {
            Ok(Ok(watch)) => Ok(Some(watch)),
            Ok(Err(loss)) => {
                session.lose(loss.clone());
                Err(loss)
            }
            Err(Error::ClusterChanged(what)) => {
                session.lose(Loss::ClusterChanged(what.clone()));
                Err(Loss::ClusterChanged(what))
            }
            Err(error) => {
                tracing::debug!(%error, "the watch broke");
                clock::sleep(RELOOK_PAUSE).await;
                Ok(None)
            }
        }
    }
}
