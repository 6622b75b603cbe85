//! The contest: session and election on a thread of their own, so that nothing the daemon or a
//! job does can delay a renewal.
//!
//! The candidate's main loop sends [`Command`]s and gets [`ContestReport`]s; neither side ever waits for
//! the other.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::decide::words::{Command, Event, Joined, Left};
use super::pulse::Pulse;
use super::shown::{ShownUnkillable, show_unkillable};
use super::slots;
use super::successor::SuccessorLook;
use crate::backoff::{Backoff, jitter};
use crate::clock::{self, Tick};
use crate::config::timing::{JOBS_TURN, Timing};
use crate::election::control::{Lookout, Notice};
use crate::election::digest::tell_digest;
use crate::election::{CampaignError, Digest, Election, TakeoverDelay, wishes};
use crate::etcd::{AuthToken, Error, Store, departure};
use crate::keys::{LeaseId, Prefix};
use crate::log;
use crate::metrics::Metrics;
use crate::reason::EndReason;
use crate::session::{Counter, Loss, Options, Session, Status};
use crate::term::Term;
use crate::term::history::put_past;
use crate::term::record::{self, MemberRecord, PastTerm, Record};
use crate::term::resignation::Resignation;
use crate::vital;

/// First and largest pause between attempts to give back to a store that is away.
const GIVE_BACK_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What the candidate is told.
#[derive(Debug)]
pub(super) enum ContestReport {
    /// What is decided on as it is.
    Event(Event),
    /// The lease is granted, and there will be news of it.
    Granted(Timing, watch::Receiver<Status>),
    /// The claim is complete; the job may start once the term record, which says since when, is on
    /// its way, as the receiver tells.
    Elected(Term, String, oneshot::Receiver<()>),
    /// The login has this token now.
    LoggedIn(AuthToken),
}

/// What the contest needs to know from the start.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) store: Store,
    pub(super) prefix: Prefix,
    pub(super) candidate: String,
    pub(super) takeover_delay: TakeoverDelay,
    pub(super) attempt_limit: Duration,
    /// Of the settings that all replicas should share.
    pub(super) digest: Digest,
    pub(super) tick: Tick,
    /// Of the thread itself.
    pub(super) pulse: Pulse,
    pub(super) metrics: Metrics,
}

/// The candidate's end of the contest.
#[derive(Debug)]
pub(super) struct Contest {
    commands: mpsc::UnboundedSender<Command>,
}

impl Contest {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub(super) fn start(
        setup: Setup,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<ContestReport>)> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.on_thread_park(log::idle);
        let (commands, inbox) = mpsc::unbounded_channel();
        let (reports, outbox) = mpsc::unbounded_channel();
        vital::spawn_with_runtime("contest", builder, move |runtime| {
            // Until the candidate lets go of it.
            runtime.block_on(Contestant::new(setup, reports).run(inbox));
            Ok(())
        })?;
        Ok((Self { commands }, outbox))
    }

    /// Sends a command; never blocks.
    pub(super) fn send(&self, command: Command) {
        // The thread ends only with the daemon.
        drop(self.commands.send(command));
    }
}

/// How a candidacy is over before it leads.
fn over(error: CampaignError) -> Event {
    match error {
        CampaignError::Lost(loss) => Event::Lost(loss),
        CampaignError::MakeWay => Event::MakeWay,
        refused => Event::Refused(refused.to_string()),
    }
}

/// The thread's own state.
struct Contestant {
    setup: Setup,
    store: Store,
    reports: mpsc::UnboundedSender<ContestReport>,
}

/// What goes on beside a candidacy.
#[derive(Debug, Default)]
struct Aside {
    /// The lease that was contended with last.
    lease: Option<LeaseId>,
    /// For a successor.
    look: SuccessorLook,
    /// What can't be killed, as last told.
    unkillable: watch::Sender<ShownUnkillable>,
}

/// What a candidacy has come to.
#[derive(Debug, Default)]
struct Contention {
    /// Whether its job has a schedule.
    scheduled: bool,
    /// Whose turn it was to join, at a cold start.
    turn: Option<record::Turn>,
    /// Renewing for as long as its lease can be: what hangs on it may not be over (R5).
    session: Option<Session>,
    /// The record of its term, once its claim is complete: the candidate may be giving it back
    /// before it has heard of it.
    claimed: Option<record::TermRecord>,
}

impl Contestant {
    fn new(setup: Setup, reports: mpsc::UnboundedSender<ContestReport>) -> Self {
        let store = setup.store.clone();
        Self {
            setup,
            store,
            reports,
        }
    }

    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut aside = Aside::default();
        tokio::spawn(self.setup.pulse.clone().beat());
        let (store, limit) = (self.store.clone(), self.setup.attempt_limit);
        // While the guardian starts: connected, and told from a proxy, by the time of the grant.
        tokio::spawn(async move {
            store.go_to_leader(limit).await;
            drop(store.find_member(limit).await);
            store.follow_leader(limit).await;
        });
        let (store, key) = (self.store.clone(), self.setup.prefix.term());
        tokio::spawn(async move { store.stay_logged_in(limit, &key).await });
        tokio::spawn(tell_tokens(self.store.token(), self.reports.clone()));
        let (store, prefix) = (self.store.clone(), self.setup.prefix.clone());
        tokio::spawn(show_unkillable(
            store,
            prefix,
            limit,
            aside.unkillable.subscribe(),
        ));
        let mut election = Election::new(
            self.store.clone(),
            self.setup.prefix.clone(),
            self.setup.candidate.clone(),
            self.setup.takeover_delay.clone(),
        )
        .with_digest(self.setup.digest.clone());
        while let Some(command) = inbox.recv().await {
            let mut candidacy = Contention::default();
            let given_back = match command {
                Command::Contend {
                    lease,
                    timing,
                    scheduled,
                    turn,
                } => {
                    aside.lease = Some(lease);
                    (candidacy.scheduled, candidacy.turn) = (scheduled, turn);
                    let standing = self.stand(lease, timing, &mut election, &mut candidacy);
                    Box::pin(self.until_given_back(&mut inbox, &mut aside, standing)).await
                }
                other => self.aside(&mut aside, other),
            };
            let Contention {
                session,
                claimed: term,
                ..
            } = candidacy;
            // And with it the renewals.
            drop(session);
            if let Some((mut resignation, reason)) = given_back {
                if let Some(term) = &term {
                    resignation.token = Some(term.token);
                    resignation.may_mark = true;
                }
                // It is given back as soon as its job is proven dead.
                let ended = clock::wall_time();
                let left = self.give_back(&mut inbox, &mut aside, &resignation).await;
                if let (Some(term), Left::Revoked | Left::Gone) = (term, left) {
                    let past = PastTerm::ended_at(term, ended, left.explain(reason));
                    let limit = resignation.attempt_limit;
                    let put = put_past(&self.store, limit, &resignation.prefix, &past);
                    if let Err(error) = put.await {
                        tracing::debug!(%error, "history not written");
                    }
                }
                self.tell(Event::Left(left));
            }
        }
    }

    /// Stands for election while commands are heeded; ends when everything is to be given back.
    async fn until_given_back(
        &self,
        inbox: &mut mpsc::UnboundedReceiver<Command>,
        aside: &mut Aside,
        standing: impl Future<Output = ()>,
    ) -> Option<(Resignation, EndReason)> {
        tokio::pin!(standing);
        let mut over = false;
        loop {
            tokio::select! {
                command = inbox.recv() => {
                    let given_back = self.aside(aside, command?);
                    if given_back.is_some() {
                        return given_back;
                    }
                }
                () = &mut standing, if !over => over = true,
            }
        }
    }

    /// Heeds a command that leaves the candidacy as it is; returns what ends it.
    fn aside(&self, aside: &mut Aside, command: Command) -> Option<(Resignation, EndReason)> {
        match command {
            Command::GiveBack(resignation, reason) => return Some((resignation, reason)),
            Command::Reload(settings, takeover_delay, digest) => {
                self.store.reload(&settings);
                self.setup.takeover_delay.raise(takeover_delay);
                if self.setup.digest.set(Some(digest)) {
                    self.tell_digest(aside.lease);
                }
            }
            Command::LookForSuccessor(asked) => {
                let (store, reports) = (self.store.clone(), self.reports.clone());
                let (prefix, wish) = (self.setup.prefix.clone(), asked.wish);
                aside.look.begin(store, prefix, asked, move |found| {
                    drop(reports.send(ContestReport::Event(Event::Successor(wish, found))));
                });
            }
            Command::TakeBack(asked_at, limit) => {
                let (store, prefix) = (self.store.clone(), self.setup.prefix.clone());
                tokio::spawn(async move {
                    drop(wishes::take_back(&store, limit, &prefix, asked_at).await);
                });
            }
            Command::Slots {
                lease,
                limit,
                request,
            } => {
                let (store, prefix) = (self.store.clone(), self.setup.prefix.clone());
                let reports = self.reports.clone();
                tokio::spawn(async move {
                    let answer = slots::ask(&store, limit, (&prefix, lease), request).await;
                    if let Some(event) = answer {
                        drop(reports.send(ContestReport::Event(event)));
                    }
                });
            }
            Command::ShowUnkillable(lease, unkillable) => {
                aside.unkillable.send_replace(Some((lease, unkillable)));
            }
            Command::Contend { .. } | Command::Hurry(_) => {}
        }
        None
    }

    /// Puts the digest of new settings into the member record, if there is one yet.
    fn tell_digest(&self, lease: Option<LeaseId>) {
        let Some(lease) = lease else {
            return;
        };
        let (store, digest) = (self.store.clone(), self.setup.digest.clone());
        let (prefix, limit) = (self.setup.prefix.clone(), self.setup.attempt_limit);
        tokio::spawn(async move {
            let told = tell_digest(&store, limit, &prefix, lease, &digest).await;
            if let Err(error) = told {
                tracing::debug!(%error, "member record not changed");
            }
        });
    }

    /// One candidacy, from its grant to its loss.
    async fn stand(
        &self,
        lease: LeaseId,
        timing: Timing,
        election: &mut Election,
        candidacy: &mut Contention,
    ) {
        let metrics = self.setup.metrics.clone();
        let options = Options {
            timing,
            tick: Some(self.setup.tick.clone()),
            counter: Counter::new(move |result, took| metrics.renewed(result, took)),
            reads: None,
        };
        let Err(event) = self.try_to_stand(lease, options, election, candidacy).await;
        self.tell(event);
    }

    async fn try_to_stand(
        &self,
        lease: LeaseId,
        options: Options,
        election: &mut Election,
        Contention {
            scheduled,
            turn,
            session,
            claimed,
        }: &mut Contention,
    ) -> Result<Infallible, Event> {
        let opened = Session::open_as(&self.store, lease, options).await;
        let session = &*session.insert(opened.map_err(|error| match error {
            Error::ClusterChanged(what) => Event::Lost(Loss::ClusterChanged(what)),
            error if error.is_definite() => Event::Refused(error.to_string()),
            error => Event::Unreachable(error),
        })?);
        if let Err(advice) = session.timing().check() {
            // The store may grant another TTL than it was asked for (R3).
            return Err(Event::Refused(advice.to_string()));
        }
        self.report(ContestReport::Granted(session.timing(), session.status()));
        let member = MemberRecord::of_this_process(&self.setup.candidate).in_turn(*turn);
        let joined = election.join(session, &member).await;
        let candidacy = joined.map_err(over)?;
        self.tell(Event::Joined(Joined {
            position: candidacy.position,
            revision: candidacy.create_revision,
            at: clock::wall_time().into(),
        }));
        let progress = |progress| self.tell(Event::Progress(progress));
        let campaign = election.campaign(session, &candidacy, progress).await;
        let term = campaign.map_err(over)?;
        let record = term.record();
        *claimed = Some(record.clone());
        // The candidate gets ready meanwhile, but asks for nothing before the record is on its
        // way: no fork comes first (R8).
        let (recorded, on_its_way) = oneshot::channel();
        self.report(ContestReport::Elected(
            term.clone(),
            record.since.clone(),
            on_its_way,
        ));
        tokio::spawn(put_record(term.clone(), record, recorded));
        let mut lookout = Lookout::new(self.store.clone(), term).with_schedule(*scheduled);
        tokio::select! {
            biased;
            loss = session.lost() => return Err(Event::Lost(loss)),
            // The lookout sees all that came before its first look.
            () = clock::sleep(JOBS_TURN) => {}
        }
        loop {
            let notice = tokio::select! {
                biased;
                loss = session.lost() => return Err(Event::Lost(loss)),
                notice = lookout.next() => notice,
            };
            match notice {
                Notice::Lost(loss) => session.lose(loss),
                Notice::Paused {
                    pause: Record::Read(pause),
                    at,
                } if pause.keep_leader => {
                    if *scheduled {
                        let pause = Record::Read(pause);
                        self.tell(Event::Notice(Notice::Paused { pause, at }));
                    }
                    let term = lookout.term().clone();
                    let member = member.clone().with_digest(self.setup.digest.get());
                    // A term that is over needs to heed nothing.
                    tokio::spawn(async move { term.heed_pause(&member, at).await });
                }
                notice => self.tell(Event::Notice(notice)),
            }
        }
    }

    /// Tries to give back until the store answers, for ever unless it is hurried: nothing can be
    /// contended for before it answers anyway, and the sooner the lease is gone the sooner the
    /// next candidate may lead.
    async fn give_back(
        &self,
        inbox: &mut mpsc::UnboundedReceiver<Command>,
        aside: &mut Aside,
        resignation: &Resignation,
    ) -> Left {
        let trying = self.try_to_give_back(resignation);
        tokio::pin!(trying);
        let mut until = None;
        loop {
            let over = async {
                match until {
                    Some(until) => clock::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                left = &mut trying => return left,
                () = over => return Left::Unconfirmed,
                command = inbox.recv() => match command {
                    Some(Command::Hurry(at)) => until = Some(at),
                    Some(other) => drop(self.aside(aside, other)),
                    None => return Left::Unconfirmed,
                },
            }
        }
    }

    async fn try_to_give_back(&self, resignation: &Resignation) -> Left {
        let mut backoff = Backoff::new(GIVE_BACK_PAUSES.0, GIVE_BACK_PAUSES.1);
        let mut strangers = 0;
        loop {
            match resignation.attempt(&self.store).await {
                Ok(true) => return Left::Revoked,
                Ok(false) => return Left::Gone,
                // A member of another cluster knows nothing of our lease; the next one may.
                Err(Error::ClusterChanged(_)) if strangers + 1 < self.store.member_count() => {
                    strangers += 1;
                }
                Err(error) if error.is_definite() => {
                    tracing::warn!(
                        election = %resignation.prefix, candidate = resignation.candidate,
                        lease = %resignation.lease, %error, "resignation refused"
                    );
                    return Left::Unconfirmed;
                }
                Err(error) => {
                    self.tell(Event::Unreachable(error));
                    clock::sleep(backoff.next(jitter())).await;
                }
            }
        }
    }

    fn tell(&self, event: Event) {
        self.report(ContestReport::Event(event));
    }

    fn report(&self, report: ContestReport) {
        // The candidate ends only with the daemon.
        drop(self.reports.send(report));
    }
}

/// Tells of each token that a login brings.
async fn tell_tokens(
    mut tokens: watch::Receiver<Option<AuthToken>>,
    reports: mpsc::UnboundedSender<ContestReport>,
) {
    while tokens.changed().await.is_ok() {
        if let Some(token) = tokens.borrow_and_update().clone() {
            drop(reports.send(ContestReport::LoggedIn(token)));
        }
    }
}

/// Writes the term record, and later tidies the history; see [`Term::put_record`]. Drops `pending`
/// once the record is on its way.
async fn put_record(term: Term, record: record::TermRecord, pending: oneshot::Sender<()>) {
    // Who leads no more needs none.
    let put = departure::until_first(pending, term.put_record(&record));
    if put.await.is_ok() {
        clock::sleep(JOBS_TURN).await;
        if let Err(error) = term.trim_history().await {
            tracing::debug!(%error, "history not trimmed");
        }
    }
}
