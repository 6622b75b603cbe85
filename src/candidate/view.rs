//! What everybody may know of the candidate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::cluster::Cluster;
use super::decide::End;
use super::decide::words::{Over, Role};
use super::pulse::Pulse;
use crate::clock::Instant;
use crate::config::Config;
use crate::config::timing::Timing;
use crate::etcd::Store;
use crate::keys::{JobName, LeaseId};
use crate::metrics::{Metrics, RunResult};
use crate::proc::survivor::Survivor;
use crate::revision::Token;
use crate::schedule::Slot;
use crate::schedule::record::State;
use crate::term::record::Turn;

/// What the candidate's own loop is called.
pub(super) const MAIN_LOOP: &str = "main loop";

/// How many runs that are over are kept for people to look at.
const KEPT: usize = 10;

/// How the candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Public {
    /// Its role.
    pub role: Role,
    /// The lease of its candidacy.
    pub lease: Option<LeaseId>,
    /// `create_revision` of its candidate key; the fencing token, once it leads.
    pub revision: Option<Token>,
    /// The fencing token, while it leads.
    pub token: Option<Token>,
    /// `D`, while it leads.
    pub deadline: Option<Instant>,
    /// Up to when the lease is held for certain, by whatever role.
    pub held_until: Option<Instant>,
    /// The times that follow from the granted TTL.
    pub timing: Timing,
    /// The job's process.
    pub pid: Option<u32>,
    /// How many stood in front of it when it joined.
    pub position: Option<i64>,
    /// When it joined, RFC 3339 in UTC.
    pub joined: Option<Arc<str>>,
    /// Its turn, where it joined at a cold start.
    pub turn: Option<Turn>,
    /// When its term began, RFC 3339 in UTC, while it leads.
    pub since: Option<Arc<str>>,
    /// What the job does and did.
    pub job: JobView,
    /// What is known of the job's schedule, while it leads and there is one.
    pub slots: Option<SlotsView>,
    /// How its check stands, if it has one.
    pub health: Option<HealthView>,
    /// Whether its job is being killed, so that its term ends.
    pub is_killing: bool,
    /// What of its job was sent SIGKILL and lives on.
    pub survivors: Arc<[Survivor]>,
    /// What keeps it from standing, or from renewing.
    pub trouble: Option<Arc<str>>,
}

/// How the check of a candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthView {
    /// Whether it is healthy; unknown before the first check has ended.
    pub healthy: Option<bool>,
    /// What the last check came to.
    pub last: Option<Arc<str>>,
}

impl HealthView {
    /// The word for status and pages.
    pub(crate) const fn word(&self) -> &'static str {
        match self.healthy {
            None => "unknown",
            Some(true) => "healthy",
            Some(false) => "unhealthy",
        }
    }
}

/// What the job does and did since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobView {
    /// Whether it runs.
    pub up: bool,
    /// How many runs were started.
    pub runs: u64,
    /// The last runs that are over, the latest first.
    pub last: Arc<VecDeque<PastRun>>,
}

/// What a leader knows of its job's schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotsView {
    /// The next slot that isn't settled.
    pub next: Option<Slot>,
    /// What the store holds.
    pub state: State,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastRun {
    /// Its term.
    pub token: Token,
    /// How it came out.
    pub result: RunResult,
    /// How it ended.
    pub end: End,
    /// How long it ran.
    pub ran: Duration,
    /// When it ended, RFC 3339 in UTC.
    pub ended: String,
}

/// Where to look at a candidate.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// How it stands.
    pub public: watch::Receiver<Public>,
    /// Its loops, by name.
    pub pulses: Vec<(&'static str, Pulse)>,
    /// What it has counted.
    pub metrics: Metrics,
    /// Where it stands.
    pub cluster: Cluster,
}

/// What a daemon stands for: a job, and where to look at its candidate.
#[derive(Clone, Debug)]
pub(crate) struct JobStanding {
    /// The job's configuration.
    pub config: Arc<Config>,
    /// Its candidate.
    pub view: View,
}

/// What a daemon stands for, in the order of the jobs' names; it changes with a reload.
pub(crate) type Standings = watch::Receiver<Arc<[JobStanding]>>;

/// Answers for a loop until it is dropped.
#[derive(Debug)]
pub(crate) struct Beating(tokio::task::JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl View {
    /// Answers for the main loop of a candidate that has yet to run.
    pub(crate) fn beat_aside(&self) -> Beating {
        let pulses = self.pulses.iter().filter(|(name, _)| *name == MAIN_LOOP);
        let pulse = pulses.map(|(_, pulse)| pulse.clone()).next();
        Beating(tokio::spawn(async move {
            if let Some(pulse) = pulse {
                pulse.beat().await;
            }
        }))
    }
}

impl JobStanding {
    /// A job that has no candidate yet.
    pub(crate) fn of_none(config: Arc<Config>) -> Self {
        let view = View {
            public: watch::channel(Public::new(config.timing())).1,
            pulses: Vec::new(),
            metrics: Metrics::default(),
            cluster: Cluster::of(Store::new(&config.etcd)),
        };
        Self { config, view }
    }

    pub(crate) const fn new(config: Arc<Config>, view: View) -> Self {
        Self { config, view }
    }

    /// The job's name, where there may be several.
    pub(crate) fn name(&self) -> Option<&JobName> {
        self.config.job_name.as_ref()
    }

    /// The same by another configuration.
    pub(crate) fn with_config(self, config: Arc<Config>) -> Self {
        Self { config, ..self }
    }
}

impl Public {
    /// A candidate that stands nowhere yet.
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            role: Role::Waiting,
            lease: None,
            revision: None,
            token: None,
            deadline: None,
            held_until: None,
            timing,
            pid: None,
            position: None,
            joined: None,
            turn: None,
            since: None,
            job: JobView::default(),
            slots: None,
            health: None,
            is_killing: false,
            survivors: Arc::default(),
            trouble: None,
        }
    }

    /// Whether a run goes on, or is claimed.
    pub(crate) fn is_in_run(&self) -> bool {
        let slots = self.slots.as_ref();
        self.job.up || slots.is_some_and(|slots| slots.state.open.is_some())
    }

    /// Whether it leads, and may go on: from `D−G−K` on the job is being stopped, whether or not
    /// the main loop has come round to say so (R2).
    pub(crate) fn leads(&self) -> bool {
        let stops = self
            .deadline
            .map(|deadline| self.timing.polite_stop(deadline));
        self.role == Role::Leading && stops.is_some_and(|stops| !stops.has_passed())
    }
}

impl JobView {
    /// A run is over, at this time of the day.
    pub(super) fn over(&mut self, run: Over, ended: String) {
        let Over {
            token,
            ran,
            result,
            end,
        } = run;
        let last = Arc::make_mut(&mut self.last);
        last.push_front(PastRun {
            token,
            result,
            end,
            ran,
            ended,
        });
        last.truncate(KEPT);
    }
}
