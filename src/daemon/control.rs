//! Signals and what is asked on the control socket, turned into orders.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::candidates::Candidates;
use super::stops::{DaemonStop, Stops};
use crate::candidate::Order;
use crate::clock;
use crate::config::{self, JobConfigs, LoadedJobs, Problems, Source};
use crate::http::{Reloaded, Server};
use crate::log;
use crate::signals::Signal;

/// Why nothing is taken over at the end.
const STOPPING: &str = "the daemon is stopping";

/// Turns signals and requests into orders.
pub(super) struct Control {
    configs: JobConfigs,
    source: Source,
    loads: mpsc::UnboundedSender<Load>,
    logs: Arc<log::LogGuard>,
    loading: Loading,
    server: Server,
    /// Who waits for the outcome of a reload.
    waiting: Vec<oneshot::Sender<Reloaded>>,
    stops: Stops,
    /// Nothing is taken over any more.
    stopping: bool,
}

/// A configuration as it was read anew.
#[derive(Debug)]
pub(super) struct Load {
    read: Result<LoadedJobs, Problems>,
    /// Why it can't be gone over to though nothing is wrong with it.
    refusal: Option<String>,
}

/// Whether the configuration is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loading {
    No,
    Once,
    /// And must be read once more after that.
    Again,
}

impl Control {
    /// Of a daemon that reads its configuration from `source`, and whose loads arrive by `loads`.
    pub(super) fn new(
        configs: JobConfigs,
        source: Source,
        loads: mpsc::UnboundedSender<Load>,
        logs: Arc<log::LogGuard>,
        server: Server,
    ) -> Self {
        Self {
            configs,
            source,
            loads,
            logs,
            loading: Loading::No,
            server,
            waiting: Vec::new(),
            stops: Stops::default(),
            stopping: false,
        }
    }

    pub(super) fn obey(&mut self, signal: Signal, candidates: &mut Candidates) {
        let (election, candidate) = self.who();
        self.stopping |= matches!(signal, Signal::Stop | Signal::StopNow);
        let order = match signal {
            Signal::Stop => match self.stops.asked(clock::now()) {
                DaemonStop::Begin => {
                    tracing::info!(election, candidate, "stopping");
                    Order::Shutdown
                }
                DaemonStop::Same => return,
                DaemonStop::Hurry => {
                    tracing::warn!(election, candidate, "stopping at once");
                    Order::ShutdownNow
                }
            },
            Signal::StopNow => {
                tracing::warn!(election, candidate, "stopping at once");
                Order::ShutdownNow
            }
            Signal::StepDown => Order::StepDown,
            Signal::Reload => return self.load(None, candidates),
        };
        candidates.order(&order);
    }

    /// What every log line has.
    fn who(&self) -> (String, String) {
        let shared = self.configs.shared();
        (
            self.configs.election().to_owned(),
            shared.candidate_name.clone(),
        )
    }

    /// Reads the configuration anew, off the main loop: the disk that it lies on may hang, and so may
    /// the store that it names.
    /// `answer` is told what comes of it.
    pub(super) fn load(
        &mut self,
        answer: Option<oneshot::Sender<Reloaded>>,
        candidates: &Candidates,
    ) {
        self.waiting.extend(answer);
        if self.stopping {
            return self.answer(Err(vec![STOPPING.to_owned()]));
        }
        if self.loading != Loading::No {
            // The file may have changed since it was read.
            self.loading = Loading::Again;
            return;
        }
        let (source, loads) = (self.source.clone(), self.loads.clone());
        self.loading = Loading::Once;
        let thread = std::thread::Builder::new().name("reload".to_owned());
        let cluster = candidates.cluster();
        let endpoints = self.configs.shared().etcd.endpoints.clone();
        let started = thread.spawn(move || {
            let read = config::load_jobs(&source);
            let new = read.as_ref().ok().map(|loaded| loaded.configs.shared());
            let elsewhere = new.filter(|config| config.etcd.endpoints != endpoints);
            let refusal = elsewhere.and_then(|config| cluster?.refuses(config));
            drop(loads.send(Load { read, refusal }));
        });
        if let Err(error) = started {
            self.loading = Loading::No;
            self.answer(Err(vec![format!("no thread to read it: {error}")]));
        }
    }

    /// Takes over what was read, and says so to whoever waits for it.
    pub(super) fn loaded(&mut self, loaded: Load, candidates: &mut Candidates) {
        if std::mem::replace(&mut self.loading, Loading::No) == Loading::Again {
            return self.load(None, candidates);
        }
        let taken_over = self.take_over(loaded, candidates);
        self.answer(taken_over);
    }

    /// Says what came of a reload, and tells it to whoever waits for it.
    fn answer(&mut self, taken_over: Result<(), Vec<String>>) {
        let (election, candidate) = self.who();
        let outcome = match taken_over {
            Ok(()) => {
                tracing::info!(election, candidate, "reloaded");
                Reloaded {
                    reloaded: true,
                    problems: vec![],
                }
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(election, candidate, problem, "reload refused");
                }
                Reloaded {
                    reloaded: false,
                    problems,
                }
            }
        };
        for answer in self.waiting.drain(..) {
            // Who doesn't wait any longer need not know.
            drop(answer.send(outcome.clone()));
        }
    }

    /// A bad configuration, or one that changes what can't change, changes nothing.
    fn take_over(
        &mut self,
        Load { read, refusal }: Load,
        candidates: &mut Candidates,
    ) -> Result<(), Vec<String>> {
        if self.stopping {
            return Err(vec![STOPPING.to_owned()]);
        }
        let loaded = read.map_err(|problems| {
            let lines = problems.iter().map(ToString::to_string);
            lines.collect::<Vec<_>>()
        })?;
        let new = config::reload(&self.configs, loaded.configs)?;
        if let Some(refusal) = refusal {
            return Err(vec![refusal]);
        }
        let shared = new.shared();
        self.server.reload(shared).map_err(|error| {
            let address = shared.http_listen.map(|address| address.to_string());
            let address = address.unwrap_or_default();
            vec![format!("http.listen: cannot listen on {address}: {error}")]
        })?;
        self.logs.reload(&shared.log);
        candidates.reload(&new);
        self.configs = new;
        Ok(())
    }
}
