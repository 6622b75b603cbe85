//! The candidates of a daemon, one for each of its jobs, each from its start to its end.
//!
//! Each has an election, a lease, a guardian and a directory of its own, and nothing that befalls one
//! is waited for by another: not its start, nor what was left behind by it, nor its end.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::placement::{Sight, Starting};
use super::{Begun, abandoned, keeper, start_and_fence};
use crate::candidate::{Candidate, Cluster, JobStanding, Order, Parts, Standings, Watchdog, ended};
use crate::clock;
use crate::config::{Config, JobConfigs};
use crate::job::Jobs;
use crate::keys::JobName;
use crate::log;
use crate::placement::rank;
use crate::placement::roster::{AfterEnd, JobChange, Name, Roster};
use crate::runtime_dir::RuntimeDir;
use crate::worker::FENCE;

/// Between two tries to start one among several.
const START_PAUSE: Duration = Duration::from_secs(10);

/// Between two tries to have a directory that this process still has.
const FORGOTTEN_SOON: Duration = Duration::from_millis(20);

/// All candidates of this process.
pub(super) struct Candidates {
    directory: Arc<RuntimeDir>,
    jobs: Jobs,
    logs: Arc<log::LogGuard>,
    watchdog: Option<Watchdog>,
    lives: JoinSet<(Name, anyhow::Result<()>)>,
    roster: Roster<Arc<Config>>,
    told: BTreeMap<Name, CandidateHandle>,
    standings: watch::Sender<Arc<[JobStanding]>>,
    news: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
    /// Whether they may contend.
    open: watch::Sender<bool>,
    sight: Sight,
}

/// How a candidate is told what to do.
struct CandidateHandle {
    orders: mpsc::UnboundedSender<Order>,
    /// Whether it is to end, at once if it hasn't begun.
    over: watch::Sender<bool>,
}

/// What is heard of a candidate that starts.
enum News {
    /// It can be looked at.
    Stands(JobStanding),
    /// Nothing of an earlier daemon is left of its job, and it may contend.
    Ready,
}

impl Candidates {
    pub(super) fn new(
        directory: &Arc<RuntimeDir>,
        jobs: Jobs,
        logs: Arc<log::LogGuard>,
        watchdog: Option<Watchdog>,
    ) -> Self {
        Self {
            directory: Arc::clone(directory),
            jobs,
            logs,
            watchdog,
            lives: JoinSet::new(),
            roster: Roster::default(),
            told: BTreeMap::new(),
            standings: watch::Sender::new(Arc::new([])),
            news: mpsc::unbounded_channel(),
            open: watch::Sender::new(false),
            sight: Sight::new(),
        }
    }

    /// Where to look at those that have started.
    pub(super) fn standings(&self) -> Standings {
        self.standings.subscribe()
    }

    /// Has the other hosts know that this one starts, where its jobs are spread over several.
    pub(super) fn show_host(&self, configs: &JobConfigs) {
        if configs.names().is_some() {
            self.sight.show(configs.shared());
        }
    }

    /// Starts the candidate of a job, which waits until all may [contend](Self::let_contend).
    pub(super) fn start(&mut self, config: Arc<Config>) {
        self.start_after(Duration::ZERO, config);
    }

    fn start_after(&mut self, pause: Duration, config: Arc<Config>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (over, is_over) = watch::channel(false);
        let name = config.job_name.clone();
        if name.is_some() {
            // A job is seen before it has a candidate, and where it gets none.
            self.show(JobStanding::of_none(Arc::clone(&config)));
        }
        let life = CandidateLife {
            config: Arc::clone(&config),
            directory: Arc::clone(&self.directory),
            jobs: self.jobs.clone(),
            logs: Arc::clone(&self.logs),
            watchdog: self.watchdog.clone(),
            news: self.news.0.clone(),
            pause,
            starting: self.sight.starts(),
            sight: self.sight.clone(),
            open: self.open.subscribe(),
            is_over,
        };
        self.roster.started(name.clone(), config);
        self.told
            .insert(name.clone(), CandidateHandle { orders, over });
        self.lives
            .spawn(async move { (name, life.live(inbox).await) });
    }

    /// Waits until the first of them is ready to contend; false if all have ended before.
    ///
    /// # Errors
    /// When the only one can't be started.
    pub(super) async fn until_one_is_ready(&mut self) -> anyhow::Result<bool> {
        loop {
            tokio::select! {
                biased;
                Some(news) = self.news.1.recv() => if self.heard(news) {
                    return Ok(true);
                },
                Some(ended) = self.lives.join_next() => {
                    self.ended(ended)?;
                    if self.lives.is_empty() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Ends those that don't contend yet.
    ///
    /// # Errors
    /// When the only one could not be started.
    pub(super) async fn end_now(&mut self) -> anyhow::Result<()> {
        self.order(&Order::Shutdown);
        self.all_ended().await
    }

    /// Lets them contend, and those too that start from now on.
    pub(super) fn let_contend(&self) {
        self.open.send_replace(true);
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// When the only one can't be started.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn all_ended(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                Some(news) = self.news.1.recv() => drop(self.heard(news)),
                ended = self.lives.join_next() => match ended {
                    Some(ended) => self.ended(ended)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Tells all of them.
    pub(super) fn order(&mut self, order: &Order) {
        if order.is_shutdown() {
            self.roster.all_end();
        }
        for told in self.told.values() {
            told.order(order.clone());
        }
    }

    fn tell(&self, name: &Name, order: Order) {
        if let Some(told) = self.told.get(name) {
            told.order(order);
        }
    }

    /// Goes over to other configurations: those that are there no more stop as planned, and new ones
    /// start.
    pub(super) fn reload(&mut self, configs: &JobConfigs) {
        let jobs = configs.iter().map(|config| (&config.job_name, config));
        for change in self.roster.reload(jobs) {
            match change {
                JobChange::Start(config) => self.start(config),
                JobChange::Reload(name, config) => self.tell(&name, Order::Reload(config)),
                JobChange::Remove(name) => self.tell(&name, Order::Shutdown),
            }
        }
        self.standings.send_modify(|standings| {
            let changed = standings.iter().map(|standing| {
                let config = configs.get(standing.config.job_name.as_ref());
                let config = config.unwrap_or(&standing.config);
                standing.clone().with_config(Arc::clone(config))
            });
            *standings = changed.collect();
        });
    }

    /// The cluster that they stand in, if one of them knows.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        let standings = self.standings.borrow();
        let mut clusters = standings.iter().map(|it| &it.view.cluster);
        clusters.find(|cluster| cluster.is_known()).cloned()
    }

    /// Takes note of the news; whether it is of one that is ready.
    fn heard(&self, news: News) -> bool {
        let News::Stands(new) = news else {
            return true;
        };
        // It may have been changed since the candidate was started with it.
        let now = self.roster.config(&new.name().cloned());
        let config = Arc::clone(now.unwrap_or(&new.config));
        self.show(new.with_config(config));
        false
    }

    /// Has everybody look at the job there.
    fn show(&self, new: JobStanding) {
        self.show_in_place_of(new.name().cloned().as_ref(), Some(new));
    }

    /// Has nobody look any more at the job of this name where it was, but there, if it is anywhere.
    fn show_in_place_of(&self, name: Option<&JobName>, new: Option<JobStanding>) {
        self.standings.send_modify(|standings| {
            let others = standings.iter().filter(|it| it.name() != name);
            let mut all: Vec<JobStanding> = others.cloned().chain(new).collect();
            all.sort_by(|one, other| one.name().cmp(&other.name()));
            *standings = all.into();
        });
    }

    fn ended(
        &mut self,
        ended: Result<(Name, anyhow::Result<()>), tokio::task::JoinError>,
    ) -> anyhow::Result<()> {
        let (name, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // Nobody cancels one.
                Err(_) => return Ok(()),
            },
        };
        let Some(name) = name else {
            return outcome;
        };
        let named = Some(name.clone());
        self.told.remove(&named);
        if let (Err(error), Some(config)) = (&outcome, self.roster.config(&named)) {
            let (election, candidate) = (&config.election.prefix, &config.candidate_name);
            tracing::error!(
                %election, candidate, error = format!("{error:#}"),
                "candidate not started: trying again"
            );
        }
        match self.roster.ended(&named) {
            Some(AfterEnd::Successor(successor)) => self.start(successor),
            Some(AfterEnd::Again(config)) => self.start_after(START_PAUSE, config),
            Some(AfterEnd::Nothing { config, removed }) => {
                self.show_in_place_of(Some(&name), None);
                if removed {
                    abandoned::forget_aside(&self.directory, &config, name);
                }
            }
            None => {}
        }
        Ok(())
    }
}

impl CandidateHandle {
    fn order(&self, order: Order) {
        if order.is_shutdown() {
            self.over.send_replace(true);
        }
        // Who has ended needs no word.
        drop(self.orders.send(order));
    }
}

/// What a candidate lives by.
struct CandidateLife {
    config: Arc<Config>,
    directory: Arc<RuntimeDir>,
    jobs: Jobs,
    logs: Arc<log::LogGuard>,
    watchdog: Option<Watchdog>,
    news: mpsc::UnboundedSender<News>,
    /// Before it begins.
    pause: Duration,
    sight: Sight,
    starting: Starting,
    open: watch::Receiver<bool>,
    is_over: watch::Receiver<bool>,
}

impl CandidateLife {
    /// Starts, contends, and ends when it is told to by `inbox`.
    async fn live(mut self, inbox: mpsc::UnboundedReceiver<Order>) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = until(&mut self.is_over) => return Ok(()),
            () = clock::sleep(self.pause) => {}
        }
        let mut is_over = self.is_over.clone();
        let directory = tokio::select! {
            directory = self.own_directory() => directory?,
            () = until(&mut is_over) => return Ok(()),
        };
        let mut beating = None;
        let starting = async {
            let parts = Parts {
                config: Arc::clone(&self.config),
                jobs: self.jobs,
                files: keeper(&directory).await?,
                logs: self.logs,
                orders: inbox,
                watchdog: self.watchdog,
            };
            let started = Candidate::start(parts).await.context("no guardian")?;
            // Its loop doesn't go round yet, and is no dead one for that.
            beating = Some(started.1.beat_aside());
            let standing = JobStanding::new(Arc::clone(&self.config), started.1.clone());
            // The daemon hears as long as it lives.
            drop(self.news.send(News::Stands(standing)));
            Ok(started)
        };
        let over = until(&mut self.is_over);
        let begun = start_and_fence(starting, &self.config, directory.left(), over).await?;
        let Begun::Ready(mut candidate, _) = begun else {
            return Ok(());
        };
        drop(self.news.send(News::Ready));
        let may_contend = async {
            until(&mut self.open).await;
            self.config.job_name.as_ref()?;
            // At once where somebody leads; else by turns, so that not one host has all.
            let turn = self.sight.turn(&self.config, self.starting).await;
            clock::sleep(turn.map_or(Duration::ZERO, rank::delay)).await;
            turn
        };
        tokio::select! {
            biased;
            () = until(&mut self.is_over) => candidate.leave().await,
            turn = may_contend => {
                drop(beating);
                candidate.in_turn(turn);
                candidate.run().await;
            }
        }
        Ok(())
    }

    /// The job's own directory.
    async fn own_directory(&self) -> anyhow::Result<Arc<RuntimeDir>> {
        let Some(name) = self.config.job_name.clone() else {
            return Ok(Arc::clone(&self.directory));
        };
        loop {
            let (directory, name) = (Arc::clone(&self.directory), name.clone());
            // It lies on a disk, which may hang.
            let held = FENCE.outcome(move || directory.hold_job(&name)).await;
            match held.context("no thread for it")? {
                // What the job had left is being forgotten, since a reload took it away just before.
                Err(error) if error.is_ours() => clock::sleep(FORGOTTEN_SOON).await,
                held => return Ok(Arc::new(held?)),
            }
        }
    }
}

/// Waits until it is so; for ever if that can't be any more.
async fn until(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|is_so| *is_so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until a loop of one of the candidates has ended, however it did; returns which.
pub(super) async fn silent(mut standings: Standings) -> &'static str {
    loop {
        let now = standings.borrow_and_update().clone();
        let pulses: Vec<_> = now.iter().flat_map(|it| it.view.pulses.clone()).collect();
        tokio::select! {
            who = ended(&pulses) => return who,
            Ok(()) = standings.changed() => {}
        }
    }
}
