//! The candidate: carries out what the role machine decides, with the session, the election and
//! the job.
//!
//! [`Candidate::run`] is the daemon's main loop. It never waits for anybody: the contest
//! has a thread of its own, the guardian is a process of its own, files are written by a thread of
//! their own; all of them send word, and every word becomes an [event](crate::role::Event).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::backoff::Backoff;
use crate::clock::{self, Instant, Tick};
use crate::config::Config;
use crate::config::timing::Timing;
use crate::etcd::{Store, Token};
use crate::guardian;
use crate::job::Jobs;
use crate::job::native;
use crate::job::restart::Restarts;
use crate::keys::LeaseId;
use crate::log;
use crate::metrics::Metrics;
use crate::proc::survivor::Survivor;
use crate::role::{Event, Machine};
use crate::runtime_dir::lease_file::{Keeper, Place};
use crate::term::process::SpawnRequest;
use crate::vital;

mod acting;
mod checking;
mod cluster;
mod contest;
mod contest_words;
mod due;
mod end;
mod guarding;
mod health;
mod held;
#[cfg(test)]
mod histories;
mod hooks;
mod job_words;
mod left;
mod lines;
mod once;
mod processes;
mod pulse;
mod run;
mod second_line;
mod shown;
mod successor;
mod told;
mod trouble;
mod view;

use checking::Checking;
pub use cluster::Cluster;
use contest::{Contest, Report, Setup};
pub use end::End;
use guarding::Guarding;
use held::Held;
use lines::Lines;
use once::Once;
pub use once::Outcome;
use processes::Processes;
use run::Run;
use trouble::StoreTrouble;

pub use pulse::{Pulse, ended};
pub use view::{HealthView, JobView, PastRun, Public, View};

/// First and largest pause before a candidate that lost its place stands again.
const REJOIN_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long the guardian has to leave at the end.
const DISMISSAL: Duration = Duration::from_millis(500);

/// A wake-up that comes so late means that this process, or the whole machine, stood still.
const STOPPED: Duration = Duration::from_millis(100);

/// What the daemon asks of its candidate.
#[derive(Debug)]
pub enum Order {
    /// Stop in an orderly way, and exit.
    Shutdown,
    /// Kill the job, and exit.
    ShutdownNow,
    /// Let somebody else lead.
    StepDown,
    /// Pass this signal on to the job; where none runs, end the candidacy if it `ends` processes.
    PassOn {
        /// Its number.
        signal: i32,
        /// Whether a process that doesn't handle it ends.
        ends: bool,
    },
    /// Stop and exit, unless it leads or its one run has begun.
    GiveUp,
    /// Go on with this configuration; only what may change at run time differs.
    Reload(Arc<Config>),
}

/// A word from one of the candidate's own tasks.
#[derive(Debug)]
enum Word {
    /// Guardian and lease file know the lease: it may be granted.
    Prepared(LeaseId),
    /// The guardian did not acknowledge the lease.
    Silent(LeaseId),
    /// Guardian and tree are dead, proven.
    Fenced,
    /// What is being fenced can't be killed.
    InVain(Vec<Survivor>),
    /// There is a new guardian.
    Guardian(guarding::Started),
    /// There is a new guardian of checks.
    Checks(guarding::Started),
}

/// What the main loop wakes up for.
enum Next {
    Order(Order),
    Guardian(guardian::client::Event),
    Check(guardian::client::Event),
    Contest(Report),
    Job(native::Progress),
    Spawn(SpawnRequest),
    Word(Word),
    Status,
    Asked,
    Time,
}

/// The candidate of one election, for the whole life of the daemon.
pub struct Candidate {
    config: Arc<Config>,
    jobs: Jobs,
    lines: Lines,
    timing: Timing,
    machine: Machine,
    contest: Contest,
    reports: mpsc::UnboundedReceiver<Report>,
    guarding: Guarding,
    /// What tells whether it may stand, where something does.
    checking: Option<Checking>,
    files: Keeper,
    logs: Arc<log::Guard>,
    place: Place,
    /// Of the contest's login, for the stop hook.
    token: Option<Token>,
    orders: mpsc::UnboundedReceiver<Order>,
    publish: watch::Sender<Public>,
    tick: Tick,
    pulse: Pulse,
    metrics: Metrics,
    words: (mpsc::UnboundedSender<Word>, mpsc::UnboundedReceiver<Word>),
    natives: (
        mpsc::UnboundedSender<native::Progress>,
        mpsc::UnboundedReceiver<native::Progress>,
    ),
    spawns: (
        mpsc::UnboundedSender<SpawnRequest>,
        mpsc::UnboundedReceiver<SpawnRequest>,
    ),
    processes: Processes,
    restarts: Restarts,
    rejoin: Backoff,
    trouble: StoreTrouble,
    held: Option<Held>,
    run: Option<Run>,
    /// What the runs before came to.
    job: JobView,
    /// The number of the last run; never used twice.
    runs: u64,
    /// The last run that the guardian was asked to start.
    asked: u64,
    /// The number of the last wish to step down; never used twice.
    wishes: u64,
    restart_at: Option<Instant>,
    rejoin_at: Option<Instant>,
    /// What was sent SIGKILL and lives on.
    survivors: Arc<[Survivor]>,
    exiting: bool,
    /// The one run of a candidate that is to have no other.
    once: Option<Once>,
}

/// What a candidate is made of.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The Rust jobs of this binary.
    pub jobs: Jobs,
    /// Keeps the lease file.
    pub files: Keeper,
    /// Flushed before the process is killed.
    pub logs: Arc<log::Guard>,
    /// What the daemon asks for.
    pub orders: mpsc::UnboundedReceiver<Order>,
}

impl Candidate {
    /// Starts the guardian and the contest's thread; nothing is contended for yet.
    ///
    /// # Errors
    /// When a process or a thread can't be started.
    pub async fn start(parts: Parts) -> io::Result<(Self, View)> {
        Self::start_with(parts, None).await
    }

    /// As [`start`](Self::start), for a candidate that runs its command once, with this process's
    /// standard input, and is done with its end. `tell` is told at the very end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_once(
        parts: Parts,
        tell: oneshot::Sender<Outcome>,
    ) -> io::Result<(Self, View)> {
        Self::start_with(parts, Some(Once::new(tell))).await
    }

    async fn start_with(parts: Parts, once: Option<Once>) -> io::Result<(Self, View)> {
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
        let (contest, reports) = Contest::start(Setup {
            store: store.clone(),
            prefix: config.election.prefix.clone(),
            candidate: config.candidate_name.clone(),
            takeover_delay: config.election.takeover_delay.into(),
            attempt_limit: timing.attempt_limit(),
            digest: config.digest().into(),
            tick: tick.clone(),
            pulse: contest_pulse.clone(),
            metrics: metrics.clone(),
        })?;
        let guarding = Guarding::start(&config, &parts.files, once.is_some());
        let (guarding, checking) =
            tokio::try_join!(guarding, Checking::start(&config, &parts.files))?;
        let (publish, public) = watch::channel(Public::new(timing));
        let candidate = Self {
            processes: Processes::default(),
            restarts: Restarts::new(&config.job),
            config,
            jobs: parts.jobs,
            lines,
            timing,
            machine: match checking {
                Some(_) => Machine::checked(),
                None => Machine::new(),
            },
            contest,
            reports,
            guarding,
            checking,
            files: parts.files,
            logs: parts.logs,
            place: Place::here(),
            token: None,
            orders: parts.orders,
            publish,
            tick,
            pulse: pulse.clone(),
            metrics: metrics.clone(),
            words: mpsc::unbounded_channel(),
            natives: mpsc::unbounded_channel(),
            spawns: mpsc::unbounded_channel(),
            rejoin: Backoff::new(REJOIN_PAUSES.0, REJOIN_PAUSES.1),
            trouble: StoreTrouble::default(),
            held: None,
            run: None,
            job: JobView::default(),
            runs: 0,
            asked: 0,
            wishes: 0,
            restart_at: None,
            rejoin_at: None,
            survivors: Arc::default(),
            exiting: false,
            once,
        };
        let view = View {
            public,
            pulses: vec![("main loop", pulse), ("contest", contest_pulse)],
            metrics,
            cluster: Cluster::of(store),
        };
        Ok((candidate, view))
    }

    /// Contends, leads, and contends again, until a shutdown is complete.
    pub async fn run(mut self) {
        self.on(Event::RejoinDue);
        while !self.exiting {
            self.tick.tick();
            self.publish();
            let wake = self.next_wake();
            let next = tokio::select! {
                biased;
                order = vital::heard(&mut self.orders, "control") => Next::Order(order),
                event = self.guarding.next() => Next::Guardian(event),
                report = vital::heard(&mut self.reports, "contest") => Next::Contest(report),
                event = checking::said(&mut self.checking) => Next::Check(event),
                Some(progress) = self.natives.1.recv() => Next::Job(progress),
                Some(request) = self.spawns.1.recv() => Next::Spawn(request),
                Some(word) = self.words.1.recv() => Next::Word(word),
                () = held::changed(&mut self.held) => Next::Status,
                () = self.pulse.asked() => Next::Asked,
                () = clock::sleep_until(wake) => Next::Time,
            };
            if clock::now().since(wake) > STOPPED {
                self.catch_up().await;
            }
            match next {
                Next::Order(order) => self.ordered(order),
                Next::Guardian(event) => self.guardian_said(event),
                Next::Contest(report) => self.reported(report),
                Next::Check(event) => self.check_said(event),
                Next::Job(progress) => self.native_came(progress),
                Next::Spawn(request) => self.spawn(request),
                Next::Word(word) => self.heard(word),
                Next::Status => self.status_changed(),
                // The tick of the next round is the answer.
                Next::Asked => {}
                Next::Time => self.time_came(),
            }
        }
        self.publish();
        // Everything is given back, or can't be.
        self.leave().await;
        if let Some(once) = self.once {
            once.tell(self.trouble.away());
        }
    }

    /// Lets the guardian go, which has nothing left to guard, or had nothing yet, and that of checks.
    pub async fn leave(&self) {
        let guardian = self.guarding.guardian();
        let checks = async {
            if let Some(checking) = &self.checking {
                checking.dismiss().await;
            }
        };
        tokio::join!(guardian.dismiss(DISMISSAL), checks);
    }

    /// Feeds the machine and does what it says.
    fn on(&mut self, event: Event) {
        tracing::debug!(?event, role = self.machine.role().word(), "event");
        let actions = self.machine.on(event);
        // Whoever asks must not be told that it leads once its job is being stopped.
        self.publish();
        for action in actions {
            self.act(action);
        }
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Shutdown => self.on(Event::Shutdown),
            Order::ShutdownNow => self.on(Event::ShutdownNow),
            Order::StepDown => self.step_down(None),
            Order::PassOn { signal, ends } => self.pass_on(signal, ends),
            Order::GiveUp => self.give_up(),
            Order::Reload(config) => {
                // Even with the same settings: the files that they name may have changed.
                let takeover_delay = config.election.takeover_delay;
                self.contest.send(contest::Command::Reload(
                    config.etcd.clone(),
                    takeover_delay,
                    config.digest(),
                ));
                if config.job != self.config.job {
                    self.restarts = Restarts::new(&config.job);
                }
                self.timing = config.timing();
                self.config = config;
                self.tell_of_reload();
            }
        }
    }

    fn heard(&mut self, word: Word) {
        match word {
            Word::Prepared(lease) => {
                if let Some(held) = &mut self.held
                    && held.lease == lease
                    && !held.leaving
                {
                    self.contest
                        .send(contest::Command::Contend(lease, held.timing));
                }
            }
            Word::Silent(lease) => {
                if self.held.as_ref().is_some_and(|held| held.lease == lease) {
                    self.guardian_gone();
                }
            }
            Word::Fenced => self.fenced(),
            Word::InVain(survivors) => self.can_not_be_killed(survivors),
            Word::Guardian(started) => self.guarded_anew(started),
            Word::Checks(started) => self.checks_started(started),
        }
    }
}
