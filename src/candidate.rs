//! The candidate: what it decides, and the loop around that.
//!
//! `decide` is told what happened and answers what is to be done; it alone decides, without I/O or
//! clock. [`Candidate::run`] is the daemon's main loop: it turns what comes over its channels into
//! events, and `actions` carries out what is answered. It waits for nobody: the contest has a thread
//! of its own, the guardian is a process of its own, files are written by a thread of their own. The
//! exceptions are two, and short: after this process stood still it gives the guardian's words
//! a few milliseconds to arrive, and before it kills itself it has some to say why.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::backoff;
use crate::clock::{self, Alarm, Tick};
use crate::config::Config;
use crate::etcd::{AuthToken, Store};
use crate::guardian::client::ClientEvent as GuardianEvent;
use crate::guardian::protocol::Report as GuardianReport;
use crate::job::Jobs;
use crate::job::native::{self, NativeJob, Stage};
use crate::job::process::SpawnRequest;
use crate::log;
use crate::metrics::Metrics;
use crate::runtime_dir::lease_file::{Keeper, UnitPlace};
use crate::schedule::planner::Now;
use crate::session::Status;
use crate::shortage::until_had;
use crate::term::Term;
use crate::term::record::Turn;
use crate::vital;
use crate::wall;

mod actions;
mod checking;
mod cluster;
mod contest;
mod decide;
mod guarding;
#[cfg(test)]
mod histories;
mod lines;
mod processes;
mod pulse;
mod shown;
mod slots;
mod successor;
mod view;
mod watchdog;

use checking::Checking;
pub(crate) use cluster::Cluster;
use contest::{Contest, ContestReport, Setup};
use decide::Mind;
use decide::words::{Elected, Event};
pub(crate) use decide::{OnceOutcome, Order, Role};
use guarding::Guarding;
use lines::Lines;
use processes::Processes;
use slots::WallAlarm;

use pulse::Pulses;
pub(crate) use pulse::{Pulse, ended};
use view::MAIN_LOOP;
pub(crate) use view::{JobStanding, JobView, Public, Standings, View};
pub(crate) use watchdog::{UnwatchedTerm, Watchdog};

/// How long the guardian has to leave at the end.
const DISMISSAL: Duration = Duration::from_millis(500);

/// How long the lease file may take to be as it should be at the end; what is left of it costs the stop
/// hook a request, no more.
const LAST_FILE: Duration = Duration::from_secs(5);

/// A wake-up that comes so late means that this process, or the whole machine, stood still.
const STOPPED: Duration = Duration::from_millis(100);

/// How long the guardian's words take from its socket to the candidate.
const CATCH_UP: Duration = Duration::from_millis(5);

/// A word from one of the candidate's own tasks.
#[derive(Debug)]
enum Word {
    /// What is decided on as it is.
    Event(Event),
    /// There is a new guardian.
    Guardian(guarding::NewGuardian),
    /// There is a new guardian of checks.
    Checks(guarding::NewGuardian),
}

/// What the main loop wakes up for.
enum Next {
    Order(Order),
    Guardian(GuardianEvent),
    Checks(GuardianEvent),
    Contest(ContestReport),
    Job(native::NativeProgress),
    Spawn(SpawnRequest),
    Word(Word),
    Lease,
    Asked,
    Time,
}

/// The candidate of one election, for the whole life of the daemon.
pub(crate) struct Candidate {
    mind: Mind,
    config: Arc<Config>,
    jobs: Jobs,
    lines: Lines,
    contest: Contest,
    reports: mpsc::UnboundedReceiver<ContestReport>,
    guarding: Guarding,
    /// The guardian of checks, where there are any.
    checking: Option<Checking>,
    files: Keeper,
    logs: Arc<log::LogGuard>,
    place: UnitPlace,
    /// Of the contest's login, for the stop hook.
    token: Option<AuthToken>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// The service manager's, where there is one.
    watchdog: Option<Watchdog>,
    publish: watch::Sender<Public>,
    tick: Tick,
    pulse: Pulse,
    /// Of this loop and of the contest's.
    pulses: Pulses<2>,
    metrics: Metrics,
    words: (mpsc::UnboundedSender<Word>, mpsc::UnboundedReceiver<Word>),
    natives: (
        mpsc::UnboundedSender<native::NativeProgress>,
        mpsc::UnboundedReceiver<native::NativeProgress>,
    ),
    spawns: (
        mpsc::UnboundedSender<SpawnRequest>,
        mpsc::UnboundedReceiver<SpawnRequest>,
    ),
    processes: Processes,
    /// The process that a Rust job wants, while that is decided on.
    wanted: Option<SpawnRequest>,
    /// News of the lease that was granted last.
    status: Option<watch::Receiver<Status>>,
    /// The term that was claimed last.
    term: Option<Term>,
    /// The Rust job that was started last.
    native: Option<NativeJob>,
    /// What the runs before came to.
    job: JobView,
    /// Wakes the loop for a slot.
    wall: WallAlarm,
    exiting: bool,
    /// Who is told what became of the one run, where there is to be one.
    tell: Option<oneshot::Sender<OnceOutcome>>,
}

/// What a candidate is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The Rust jobs of this binary.
    pub jobs: Jobs,
    /// Keeps the lease file.
    pub files: Keeper,
    /// Flushed before the process is killed.
    pub logs: Arc<log::LogGuard>,
    /// What the daemon asks for.
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// The service manager's, where there is one.
    pub watchdog: Option<Watchdog>,
}

impl Candidate {
    /// Starts the guardian and the contest's thread; nothing is contended for yet.
    ///
    /// # Errors
    /// When a process or a thread can't be started.
    pub(crate) async fn start(parts: Parts) -> io::Result<(Self, View)> {
        Self::start_with(parts, None).await
    }

    /// As [`start`](Self::start), for a candidate that runs its command once, with this process's
    /// standard input, and is done with its end. `tell` is told at the very end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) async fn start_once(
        parts: Parts,
        tell: oneshot::Sender<OnceOutcome>,
    ) -> io::Result<(Self, View)> {
        Self::start_with(parts, Some(tell)).await
    }

    async fn start_with(
        parts: Parts,
        tell: Option<oneshot::Sender<OnceOutcome>>,
    ) -> io::Result<(Self, View)> {
        let config = parts.config;
        let timing = config.timing();
        let tick = Tick::new();
        let pulse = Pulse::new(tick.clone());
        let contest_pulse = Pulse::new(Tick::new());
        let metrics = Metrics::default();
        let lines = Lines {
            election: config.election.prefix.clone(),
            candidate: config.candidate_name.clone(),
        };
        let store = Store::new(&config.etcd);
        let setup = Setup {
            store: store.clone(),
            prefix: config.election.prefix.clone(),
            candidate: config.candidate_name.clone(),
            takeover_delay: config.election.takeover_delay.into(),
            attempt_limit: timing.attempt_limit(),
            digest: config.digest().into(),
            tick: tick.clone(),
            pulse: contest_pulse.clone(),
            metrics: metrics.clone(),
        };
        let contest = || Contest::start(setup.clone());
        let (contest, reports) = until_had("a thread for the contest", contest).await?;
        let guarding = Guarding::start(&lines, &config, &parts.files, tell.is_some());
        let checking = Checking::start(&lines, &config, &parts.files);
        let (guarding, checking) = tokio::try_join!(guarding, checking)?;
        let (publish, public) = watch::channel(Public::new(timing));
        let now = clock::now();
        let candidate = Self {
            mind: match tell {
                Some(_) => Mind::for_one_run(Arc::clone(&config), now),
                None => Mind::new(Arc::clone(&config), parts.jobs.kinds(), now),
            },
            config,
            jobs: parts.jobs,
            lines,
            contest,
            reports,
            guarding,
            checking,
            files: parts.files,
            logs: parts.logs,
            place: UnitPlace::here(),
            token: None,
            orders: parts.orders,
            watchdog: parts.watchdog,
            publish,
            tick,
            pulses: Pulses([pulse.clone(), contest_pulse.clone()]),
            pulse: pulse.clone(),
            metrics: metrics.clone(),
            words: mpsc::unbounded_channel(),
            natives: mpsc::unbounded_channel(),
            spawns: mpsc::unbounded_channel(),
            processes: Processes::default(),
            wanted: None,
            status: None,
            term: None,
            native: None,
            job: JobView::default(),
            wall: WallAlarm::default(),
            exiting: false,
            tell,
        };
        let view = View {
            public,
            pulses: vec![(MAIN_LOOP, pulse), ("contest", contest_pulse)],
            metrics,
            cluster: Cluster::of(store),
        };
        Ok((candidate, view))
    }

    /// It first stands in this turn of a cold start.
    pub(crate) const fn in_turn(&mut self, turn: Option<Turn>) {
        self.mind.in_turn(turn);
    }

    /// Contends, leads, and contends again, until a shutdown is complete.
    pub(crate) async fn run(mut self) {
        self.on(Event::Tick);
        let mut alarm = Alarm::default();
        while !self.exiting {
            self.tick.tick();
            self.publish();
            // Seldom the first to come: there is news of each renewal.
            let round = clock::now() + self.config.election.ttl / 2;
            let timer = self.mind.next_timer();
            let wake = timer.map_or(round, |at| at.min(round));
            self.wall.arm(self.mind.next_wall());
            let next = tokio::select! {
                biased;
                order = vital::heard(&mut self.orders, "control") => Next::Order(order),
                event = self.guarding.next() => Next::Guardian(event),
                report = vital::heard(&mut self.reports, "contest") => Next::Contest(report),
                event = checking::said(&mut self.checking) => Next::Checks(event),
                Some(progress) = self.natives.1.recv() => Next::Job(progress),
                Some(request) = self.spawns.1.recv() => Next::Spawn(request),
                Some(word) = self.words.1.recv() => Next::Word(word),
                () = changed(&mut self.status) => Next::Lease,
                () = self.pulse.asked() => Next::Asked,
                () = alarm.about(round, timer) => Next::Time,
                () = self.wall.woken() => Next::Time,
            };
            if clock::now().since(wake) > STOPPED {
                self.catch_up().await;
            }
            match next {
                Next::Order(order) => self.ordered(order),
                Next::Guardian(event) => self.guardian_said(event),
                Next::Contest(report) => self.reported(report),
                Next::Checks(event) => self.checks_said(event),
                Next::Job(progress) => self.native_came(progress),
                Next::Spawn(request) => {
                    self.wanted = Some(request);
                    self.on(Event::ProcessWanted);
                }
                Next::Word(word) => self.heard(word),
                Next::Lease => self.hear_of_lease(),
                Next::Asked => self.pulse.answer(),
                Next::Time => self.on(Event::Tick),
            }
        }
        self.publish();
        self.pulses.end();
        // Everything is given back, or can't be.
        self.leave().await;
        if let (Some(tell), Some(outcome)) = (self.tell, self.mind.outcome()) {
            // Who doesn't wait any more has no need to know.
            drop(tell.send(outcome));
        }
    }

    /// Lets the guardian go, which has nothing left to guard, or had nothing yet, and that of checks, and
    /// waits for what is still to be done with the lease file.
    pub(crate) async fn leave(&self) {
        let guardian = self.guarding.guardian();
        let checks = async {
            if let Some(checking) = &self.checking {
                checking.dismiss().await;
            }
        };
        let file = async {
            tokio::select! {
                () = self.files.settled() => {}
                () = clock::sleep(LAST_FILE) => {}
            }
        };
        tokio::join!(guardian.dismiss(DISMISSAL), checks, file);
    }

    /// Decides on an event, by the newest that is known of the lease, and does what is to be done.
    fn on(&mut self, event: Event) {
        self.hear_of_lease();
        self.decide(event);
    }

    fn decide(&mut self, event: Event) {
        tracing::debug!(?event, role = self.mind.role().word(), "event");
        let now = Now {
            wall: wall::now(),
            clock: clock::now(),
        };
        let actions = self.mind.handle(event, now, backoff::random());
        // Whoever asks must not be told that it leads once its job is being stopped.
        self.publish();
        for action in actions {
            tracing::debug!(?action, "action");
            self.carry_out(action);
        }
    }

    /// Lets everybody see how it stands now. Nothing is awaited.
    fn publish(&mut self) {
        let public = self.mind.public(&self.job);
        self.publish.send_if_modified(|now| {
            let changed = *now != public;
            *now = public;
            changed
        });
    }

    // === from channels to events ===

    /// After this process stood still: hears what the guardian did meanwhile before it acts on
    /// anything else, or it would take the guardian's work for undone.
    async fn catch_up(&mut self) {
        // Long enough for what lies in the socket to be read.
        tokio::time::sleep(CATCH_UP).await;
        let events = self.guarding.waiting();
        // What it gave back in our place is known before all that it did for that.
        for event in &events {
            if let GuardianEvent::Report(report @ GuardianReport::Resigned { .. }) = event {
                self.on(Event::Guardian(report.clone()));
            }
        }
        for event in events {
            self.guardian_said(event);
        }
        let said = self.checking.as_mut().map(Checking::waiting);
        for event in said.into_iter().flatten() {
            self.checks_said(event);
        }
    }

    fn ordered(&mut self, order: Order) {
        if let Order::Reload(config) = &order {
            self.config = Arc::clone(config);
        }
        self.on(Event::Order(order));
    }

    fn guardian_said(&mut self, event: GuardianEvent) {
        match event {
            GuardianEvent::Report(report) => {
                // Those of a Rust job's processes are that job's to know.
                if !self.processes.heard(&report) {
                    self.on(Event::Guardian(report));
                }
            }
            GuardianEvent::Gone => self.on(Event::GuardianGone),
        }
    }

    fn checks_said(&mut self, event: GuardianEvent) {
        match event {
            GuardianEvent::Report(report) => self.on(Event::Checks(report)),
            GuardianEvent::Gone => self.on(Event::ChecksGone),
        }
    }

    fn reported(&mut self, report: ContestReport) {
        match report {
            ContestReport::Event(event @ Event::Left(_)) => {
                self.on(event);
                // Nothing that they come to is the next candidacy's.
                (self.status, self.term) = (None, None);
            }
            ContestReport::Event(event) => self.on(event),
            ContestReport::LoggedIn(token) => {
                self.token = Some(token);
                self.on(Event::LoggedIn);
            }
            ContestReport::Granted(timing, mut status) => {
                let known = status.borrow_and_update().clone();
                self.status = Some(status);
                self.decide(Event::Granted(timing, known));
            }
            ContestReport::Elected(term, at, recorded) => {
                // Nothing that is asked for from now on overtakes the record of the term.
                self.guarding.hold(recorded);
                // Nor is there a moment in which daemon and guardian could be stopped, and nobody would strike.
                if let Some(watchdog) = &self.watchdog {
                    let (prefix, timing) = (&self.config.election.prefix, term.timing());
                    self.guarding.hold(watchdog.arm(prefix, timing));
                }
                let elected = Elected {
                    token: term.token(),
                    cluster: term.cluster(),
                    status: term.status().borrow().clone(),
                    at: at.into(),
                };
                self.term = Some(term);
                self.on(Event::Elected(elected));
            }
        }
    }

    fn native_came(&mut self, progress: native::NativeProgress) {
        let run = progress.run;
        match progress.stage {
            Stage::Returned => self.on(Event::NativeReturned(run)),
            Stage::Ended(result) => {
                self.native = None;
                self.on(Event::NativeEnded(run, result));
            }
        }
    }

    fn heard(&mut self, word: Word) {
        match word {
            Word::Event(event) => self.on(event),
            Word::Guardian(started) => {
                self.guarding.replace(started);
                self.on(Event::Guarded);
            }
            Word::Checks(started) => {
                if let Some(checking) = &mut self.checking {
                    checking.replace(started);
                }
                self.on(Event::ChecksGuarded);
            }
        }
    }

    /// Decides on what the renewals have come to, if there is news.
    fn hear_of_lease(&mut self) {
        let Some(status) = &mut self.status else {
            return;
        };
        match now(status.changed()) {
            Poll::Ready(Ok(())) => {
                let news = status.borrow_and_update().clone();
                self.decide(Event::Lease(news));
            }
            // The renewals have ended, and said how before.
            Poll::Ready(Err(_)) => self.status = None,
            Poll::Pending => {}
        }
    }
}

/// What a future comes to without waiting.
fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits until there is news of the lease; for ever if there is none.
async fn changed(status: &mut Option<watch::Receiver<Status>>) {
    if let Some(status) = status
        && status.changed().await.is_ok()
    {
        // It is yet to be heard.
        status.mark_changed();
        return;
    }
    // There are no renewals, or they have ended, and said how before.
    std::future::pending::<()>().await;
}
