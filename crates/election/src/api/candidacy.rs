//! One candidacy, on the client's thread: from the grant of its lease until that is given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::engine::Engine;
use super::stage::Stage;
use super::term::{Order, Resigned};
use super::{CampaignError, Ending, Leadership, OptionsError, ResignError, Term};
use crate::clock::{self, Instant};
use crate::election::control::{Lookout, Notice};
use crate::election::successor::{self, SuccessorWish};
use crate::election::{self, Progress, wishes};
use crate::keys::{LeaseId, Prefix};
use crate::reason::EndReason;
use crate::revision::Revision;
use crate::session::{self, Loss, Options, Session};
use crate::term;
use crate::term::history::put_past;
use crate::term::record::{MemberRecord, PastTerm, Record, TermRecord};
use crate::term::resignation::Resignation;
use crate::timing::Timing;

/// What a candidacy needs.
pub(super) struct Candidacy {
    pub(super) engine: Arc<Engine>,
    /// Taken for as long as it stands: one candidate has one place in the queue.
    pub(super) election: Arc<Mutex<election::Election>>,
    pub(super) prefix: Prefix,
    pub(super) name: String,
    pub(super) timing: Timing,
    /// What work gets to end after a planned stop.
    pub(super) stop_grace: Duration,
    /// What it waits for.
    pub(super) progress: watch::Sender<Option<Progress>>,
}

/// What a campaign comes to.
pub(super) type Outcome = Result<Leadership, CampaignError>;

impl Candidacy {
    /// Stands until it leads, or nobody waits for it any more; then leads until the term is over.
    /// Withdraws or gives back in either case, before it returns.
    pub(super) async fn run(self, mut outcome: oneshot::Sender<Outcome>) {
        let lease = LeaseId::random(crate::backoff::random());
        let mut session = None;
        let stood = tokio::select! {
            biased;
            () = outcome.closed() => None,
            stood = self.stand(lease, &mut session) => Some(stood),
        };
        match (stood, session) {
            (Some(Ok(term)), Some(session)) => self.lead(session, term, outcome).await,
            (stood, session) => {
                // And with it the renewals.
                drop(session);
                self.withdraw(lease).await;
                if let Some(Err(error)) = stood {
                    // Whoever waits no more needs no error.
                    drop(outcome.send(Err(error)));
                }
            }
        }
    }

    /// From the grant to the term record.
    async fn stand(
        &self,
        lease: LeaseId,
        session: &mut Option<Session>,
    ) -> Result<term::Term, CampaignError> {
        let mut election = self.election.lock().await;
        // Never closed.
        let turn = self.engine.turns.acquire().await.ok();
        let mut options = Options::new(self.timing);
        options.reads = Some(self.engine.reads.clone());
        let opened = Session::open_as(&self.engine.store, lease, options).await;
        let session = &*session.insert(opened.map_err(CampaignError::NoLease)?);
        if let Err(advice) = session.timing().check() {
            // Etcd may grant another TTL than it was asked for (R3).
            return Err(OptionsError::NoRoom(advice.in_words_of_the_options()).into());
        }
        let member = MemberRecord::of_this_process(&self.name);
        let candidacy = election.join(session, &member).await?;
        drop(turn);
        let told = |progress| {
            if let Progress::Blocked(key) = &progress {
                tracing::error!(
                    election = %self.prefix, candidate = self.name, key,
                    "queue blocked by a key that is no candidate"
                );
            }
            self.progress.send_replace(Some(progress));
        };
        let term = election.campaign(session, &candidacy, told).await?;
        // Before any work: whoever comes after an unclean end has to know of it (R13).
        if term.put_record(&term.record()).await.is_err() {
            session.lose(Loss::Deleted);
            return Err(CampaignError::Lost(session.lost().await));
        }
        Ok(term)
    }

    /// Revokes the lease, which may not have been granted, and with it the key (R10).
    async fn withdraw(&self, lease: LeaseId) {
        let until = clock::now() + self.timing.ttl();
        let limit = self.timing.attempt_limit();
        session::revoke(&self.engine.store, lease, limit, until).await;
    }

    /// From the term record until the term is given back, or left to the TTL.
    async fn lead(self, session: Session, term: term::Term, outcome: oneshot::Sender<Outcome>) {
        let (stage, shown) = watch::channel(Stage::Leading);
        let (alive, mut clones) = mpsc::channel(1);
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let count = alive.downgrade();
        let engine = Arc::clone(&self.engine);
        let handed = Term::new(term.clone(), shown, engine, alive);
        let record = term.record();
        // Whoever waits no more drops it here, and with it the term.
        drop(outcome.send(Ok(Leadership::new(handed, orders))));
        let mut tenure = Tenure {
            session,
            term,
            stage,
            reply: None,
            wish: None,
        };
        let ending = tenure.until_ending(&self, &mut inbox).await;
        let ended = tenure.until_free(&ending, &mut clones, &mut inbox, self.stop_grace);
        let is_free = ended.await;
        if !is_free {
            let left = count.upgrade().map_or(0, |alive| alive.strong_count() - 1);
            // Whoever works on can't be stopped: the TTL decides. With the session renewals end.
            tenure.answer(Err(ResignError::StillWorking(left)));
            return;
        }
        let given_back = self.give_back(&tenure, record, &ending).await;
        tenure.answer(given_back);
    }

    /// Deletes the key and sets the marker, revokes the lease, and writes the term's place in the
    /// history: all for work that is over (R5).
    async fn give_back(&self, tenure: &Tenure, record: TermRecord, ending: &Ending) -> Resigned {
        let (store, timing) = (&self.engine.store, tenure.session.timing());
        let resignation = Resignation {
            store: store.settings(),
            cluster: store.seen().cluster,
            prefix: self.prefix.clone(),
            candidate: self.name.clone(),
            lease: tenure.session.lease(),
            ttl: timing.ttl(),
            attempt_limit: timing.attempt_limit(),
            token: Some(tenure.term.token()),
            may_mark: true,
            step_down: tenure.wish,
            close: None,
        };
        let until = tenure.session.deadline();
        tenure.session.stop_renewing();
        let ended = clock::wall_time();
        let attempt = || resignation.attempt(store);
        let given_back = session::insist(until, attempt).await;
        given_back.map_err(ResignError::Unconfirmed)?;
        let past = PastTerm::ended_at(record, ended, reason(ending));
        let put = put_past(store, timing.attempt_limit(), &self.prefix, &past);
        if let Err(error) = put.await {
            tracing::debug!(%error, "history not written");
        }
        Ok(())
    }
}

/// A term, as its candidacy sees it.
struct Tenure {
    session: Session,
    term: term::Term,
    stage: watch::Sender<Stage>,
    /// Who waits for its resignation.
    reply: Option<oneshot::Sender<Resigned>>,
    /// The record that asked it to step down.
    wish: Option<Revision>,
}

impl Tenure {
    /// Watches over the term until its work is to end, and says so.
    async fn until_ending(
        &mut self,
        candidacy: &Candidacy,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Ending {
        let store = &candidacy.engine.store;
        let mut lookout = Lookout::new(store.clone(), self.term.clone());
        let term = self.term.clone();
        // The next term tries again.
        drop(
            candidacy
                .engine
                .spawn(async move { drop(term.trim_history().await) }),
        );
        let ending = loop {
            let notice = tokio::select! {
                biased;
                loss = self.session.lost() => break Ending::Lost(loss),
                () = self.term.lost() => {
                    let loss = self.session.loss().unwrap_or(Loss::Expired);
                    break Ending::Lost(loss);
                }
                order = inbox.recv() => {
                    if let Some(Order::Resign(reply)) = order {
                        self.reply = Some(reply);
                    }
                    break Ending::Stopping;
                }
                notice = lookout.next() => notice,
            };
            if let Some(ending) = self.heed(candidacy, notice).await {
                break ending;
            }
        };
        self.stage.send_replace(Stage::Ending(ending.clone()));
        ending
    }

    /// What a notice of the lookout makes the term end for, if it does.
    async fn heed(&mut self, candidacy: &Candidacy, notice: Notice) -> Option<Ending> {
        let (store, limit) = (&candidacy.engine.store, self.term.timing().attempt_limit());
        match notice {
            Notice::Lost(loss) => {
                self.session.lose(loss.clone());
                Some(Ending::Lost(loss))
            }
            Notice::Paused {
                pause: Record::Read(pause),
                at,
            } if pause.keep_leader => {
                let (term, name) = (self.term.clone(), candidacy.name.clone());
                let heed = async move {
                    let member = MemberRecord::of_this_process(&name);
                    term.heed_pause(&member, at).await;
                };
                drop(candidacy.engine.spawn(heed));
                None
            }
            Notice::Paused { .. } => Some(Ending::Paused),
            Notice::StepDown { request, asked_at } => {
                let wish = SuccessorWish {
                    token: self.term.token(),
                    to: request.to,
                    force: request.force,
                    limit,
                };
                let look = successor::look(store, &candidacy.prefix, &wish);
                let found = tokio::select! {
                    biased;
                    loss = self.session.lost() => return Some(Ending::Lost(loss)),
                    found = look => found,
                };
                if let Ok(Ok(())) = found {
                    self.wish = Some(asked_at);
                    return Some(Ending::StepDown);
                }
                tracing::info!(token = wish.token.get(), ?found, "not stepping down");
                let taken_back = wishes::take_back(store, limit, &candidacy.prefix, asked_at);
                drop(taken_back.await);
                None
            }
            // Of schedules, or not to be read.
            _ => None,
        }
    }

    /// Waits until nobody works in the term any more; returns whether that came before the limit. Lost,
    /// that is the deadline; planned, none until somebody resigns or lets go of it.
    async fn until_free(
        &mut self,
        ending: &Ending,
        clones: &mut mpsc::Receiver<()>,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
        stop_grace: Duration,
    ) -> bool {
        let deadline = self.session.deadline();
        let never = clock::now() + Duration::from_secs(u32::MAX.into());
        let mut is_lost = matches!(ending, Ending::Lost(_));
        let has_resigned = self.reply.is_some();
        let mut limit = if is_lost || has_resigned {
            deadline
        } else {
            never
        };
        let mut over = match ending {
            Ending::Lost(loss) => self.cut(loss),
            _ => clock::now() + stop_grace,
        };
        let mut listens = !has_resigned;
        loop {
            tokio::select! {
                biased;
                none = clones.recv() => if none.is_none() {
                    // Who resigns drops the last clone after asking, and may have done both.
                    while let Ok(order) = inbox.try_recv() {
                        if let Order::Resign(reply) = order {
                            self.reply = Some(reply);
                        }
                    }
                    return true;
                },
                loss = self.session.lost(), if !is_lost => {
                    is_lost = true;
                    (over, limit) = (over.min(self.cut(&loss)), limit.min(deadline));
                }
                order = inbox.recv(), if listens => match order {
                    Some(Order::Stop) => {}
                    Some(Order::Resign(reply)) => {
                        self.reply = Some(reply);
                        listens = false;
                        limit = limit.min(self.session.deadline());
                    }
                    // Let go of, with clones left.
                    None => return false,
                },
                () = clock::sleep_until(over) => {
                    self.stage.send_replace(Stage::Over(ending.clone()));
                    over = never;
                }
                () = clock::sleep_until(limit) => return false,
            }
        }
    }

    /// When work has to be gone that ends for this loss: at once where etcd says that the term is gone
    /// (R7), else in time for the deadline (R2).
    fn cut(&self, loss: &Loss) -> Instant {
        match loss {
            Loss::Expired => self.term.timing().kill(self.session.deadline()),
            _ => clock::now(),
        }
    }

    fn answer(&mut self, resigned: Resigned) {
        if let Some(reply) = self.reply.take() {
            // Whoever waits no more needs no answer.
            drop(reply.send(resigned));
        }
    }
}

/// The word of the history for it.
fn reason(ending: &Ending) -> EndReason {
    match ending {
        Ending::Lost(loss) => loss.reason(),
        Ending::StepDown | Ending::Paused | Ending::Stopping => EndReason::Resigned,
    }
}
