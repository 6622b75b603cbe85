//! The daemon: config, guardian, candidate, signals and notifications put together.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::candidate::{Candidate, Order, Parts};
use crate::config::{self, Config, Loaded, Problems, Source};
use crate::fencing;
use crate::guardian;
use crate::job::Jobs;
use crate::log;
use crate::runtime_dir::RuntimeDir;
use crate::runtime_dir::lease_file::Keeper;
use crate::signals::{Arriving, Signal};

mod service;

/// How long one round of fencing what an earlier daemon left may take before it is said again.
const FENCE_ROUND: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop. Blocks.
///
/// `config` was loaded from `source`, which is read again on SIGHUP; `jobs` are the Rust jobs of
/// this binary; `directory` is the runtime directory of `config`, held.
pub fn run(config: Config, source: Source, jobs: Jobs, directory: &RuntimeDir) -> ExitCode {
    let logs = Arc::new(log::init(&config.log));
    let outcome = serve(config, source, jobs, &logs, directory);
    if let Err(error) = outcome {
        tracing::error!(error = format!("{error:#}"), "daemon failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(
    config: Config,
    source: Source,
    jobs: Jobs,
    logs: &Arc<log::Guard>,
    directory: &RuntimeDir,
) -> anyhow::Result<()> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        election = %config.election.prefix,
        candidate = config.candidate_name,
        endpoints = config.etcd.endpoints.join(","),
        "incumbent starts"
    );
    // Whoever started us may have blocked what we are to hear.
    guardian::signals::empty_mask().context("the signal mask can't be emptied")?;
    fence_leftovers(&config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(log::idle)
        .enable_all()
        .build()
        .context("no runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = Arriving::new().context("signals can't be handled")?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let config = Arc::new(config);
        let parts = Parts {
            config: Arc::clone(&config),
            jobs,
            files: Keeper::start(directory.path()).context("no thread for the lease file")?,
            logs: Arc::clone(logs),
            orders: inbox,
        };
        let (candidate, public) = Candidate::start(parts).await.context("no guardian")?;
        let service = service::Service::new(public);
        let (loads, mut loaded) = mpsc::unbounded_channel();
        let mut control = Control {
            orders,
            config,
            source,
            loads,
            logs: Arc::clone(logs),
            loading: Loading::No,
            stops: 0,
        };
        let running = candidate.run();
        tokio::pin!(running);
        let telling = service.run();
        tokio::pin!(telling);
        loop {
            tokio::select! {
                () = &mut running => return Ok(()),
                signal = signals.next() => control.obey(signal),
                Some(loaded) = loaded.recv() => control.loaded(loaded),
                () = &mut telling => {}
            }
        }
    });
    // A reload that hangs on its disk must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// Kills what an earlier daemon of this election left on the host; while there is any of it,
/// nothing may start here (R4).
fn fence_leftovers(config: &Config) {
    loop {
        let left = fencing::fence(&config.election.prefix, FENCE_ROUND);
        if left.is_empty() {
            return;
        }
        let pids: Vec<i32> = left.iter().map(|process| process.pid).collect();
        tracing::error!(election = %config.election.prefix, ?pids, "processes left behind can't be killed");
    }
}

/// Turns signals into orders.
struct Control {
    orders: mpsc::UnboundedSender<Order>,
    config: Arc<Config>,
    source: Source,
    loads: mpsc::UnboundedSender<Result<Loaded, Problems>>,
    logs: Arc<log::Guard>,
    loading: Loading,
    stops: u32,
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
    fn obey(&mut self, signal: Signal) {
        let (election, candidate) = self.who();
        let order = match signal {
            Signal::Stop => {
                self.stops += 1;
                if self.stops == 1 {
                    tracing::info!(election, candidate, "stopping");
                    Order::Shutdown
                } else {
                    tracing::warn!(election, candidate, "stopping at once");
                    Order::ShutdownNow
                }
            }
            Signal::StepDown => Order::StepDown,
            Signal::Reload => return self.load(),
        };
        // The candidate's loop ends only with the daemon.
        drop(self.orders.send(order));
    }

    /// What every log line has.
    fn who(&self) -> (String, String) {
        let config = &self.config;
        (
            config.election.prefix.to_string(),
            config.candidate_name.clone(),
        )
    }

    /// Reads the configuration anew, off the main loop: the disk that it lies on may hang.
    fn load(&mut self) {
        if self.loading != Loading::No {
            // The file may have changed since it was read.
            self.loading = Loading::Again;
            return;
        }
        let (source, loads) = (self.source.clone(), self.loads.clone());
        self.loading = Loading::Once;
        tokio::task::spawn_blocking(move || drop(loads.send(config::load(&source))));
    }

    /// Takes over what was read; a bad configuration, or one that changes what can't change,
    /// changes nothing.
    fn loaded(&mut self, loaded: Result<Loaded, Problems>) {
        if std::mem::replace(&mut self.loading, Loading::No) == Loading::Again {
            return self.load();
        }
        let (election, candidate) = self.who();
        let new = match loaded {
            Ok(loaded) => loaded.config,
            Err(problems) => {
                for problem in problems.iter() {
                    tracing::error!(election, candidate, %problem, "reload refused");
                }
                return;
            }
        };
        match config::reload(&self.config, new) {
            Ok(new) => {
                let new = Arc::new(new);
                self.logs.reload(&new.log);
                self.config = Arc::clone(&new);
                tracing::info!(election, candidate, "reloaded");
                // The candidate's loop ends only with the daemon.
                drop(self.orders.send(Order::Reload(new)));
            }
            Err(keys) => {
                let keys = keys.join(", ");
                tracing::error!(
                    election,
                    candidate,
                    keys,
                    "reload refused: these can't change at run time"
                );
            }
        }
    }
}
