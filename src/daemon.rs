//! The daemon: config, guardian, candidate, signals and notifications put together.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::candidate::{Candidate, Parts, View, ended};
use crate::config::{Config, Source};
use crate::fencing;
use crate::guardian;
use crate::http::{Ask, Server};
use crate::job::Jobs;
use crate::lines::{Speaker, Voice};
use crate::log;
use crate::proc::survivor::{REPEATED, Survivor, listed};
use crate::runtime_dir::lease_file::Keeper;
use crate::runtime_dir::{Leftovers, RuntimeDir};
use crate::shortage::{until_had, until_had_blocking};
use crate::signals::{Arriving, Signal};
use crate::vital;
use crate::worker::{FENCE, STORE};

mod control;
pub(crate) mod once;
mod service;
mod stops;

use control::Control;

/// Runs the daemon until it is told to stop. Blocks.
///
/// `config` was loaded from `source`, which is read again on SIGHUP; `jobs` are the Rust jobs of
/// this binary; `directory` is the runtime directory of `config`, held.
pub(crate) fn run(config: Config, source: Source, jobs: Jobs, directory: &RuntimeDir) -> ExitCode {
    let Ok(logs) = start_log(&config) else {
        // It has been said.
        return ExitCode::FAILURE;
    };
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
    logs: &Arc<log::LogGuard>,
    directory: &RuntimeDir,
) -> anyhow::Result<()> {
    let runtime = make_ready()?;
    let outcome = runtime.block_on(async {
        // First of all: what a signal does by default is to kill.
        let signals = until_had("what hears signals", Arriving::new).await;
        let mut signals = signals.context("signals can't be handled")?;
        let binary = jobs.binary();
        tracing::info!(
            app = binary.map(|(name, _)| name),
            app_version = binary.map(|(_, version)| version),
            version = env!("CARGO_PKG_VERSION"),
            election = %config.election.prefix,
            candidate = config.candidate_name,
            endpoints = config.etcd.endpoints.join(","),
            "incumbent starts"
        );
        let config = Arc::new(config);
        let mut early = Vec::new();
        let stopped = stop(&mut signals, &mut early);
        let (orders, inbox) = mpsc::unbounded_channel();
        reap_orphans(!jobs.kinds().is_empty());
        let starting = async {
            let parts = Parts {
                config: Arc::clone(&config),
                jobs,
                files: keeper(directory).await?,
                logs: Arc::clone(logs),
                orders: inbox,
            };
            Candidate::start(parts).await.context("no guardian")
        };
        let begun = start_and_fence(starting, &config, directory.left(), stopped).await?;
        let Begun::Ready(candidate, view) = begun else {
            return Ok(());
        };
        let service = service::Service::new(&view);
        let (pulses, cluster) = (view.pulses.clone(), view.cluster.clone());
        let ended = ended(&pulses);
        tokio::pin!(ended);
        let (asks, mut asked) = mpsc::unbounded_channel();
        let start = || Server::start(directory.dir(), &config, &view, &asks);
        let server = tokio::select! {
            server = until_had("the control socket", start) => server
                .with_context(|| format!("cannot listen in {}", directory.path().display()))?,
            () = stop(&mut signals, &mut early) => {
                candidate.leave().await;
                return Ok(());
            }
        };
        let (loads, mut loaded) = mpsc::unbounded_channel();
        let mut control = Control::new(
            orders,
            config,
            source,
            loads,
            cluster,
            Arc::clone(logs),
            server,
        );
        for signal in early {
            control.obey(signal);
        }
        let running = candidate.run();
        tokio::pin!(running);
        let telling = service.run();
        tokio::pin!(telling);
        loop {
            tokio::select! {
                () = &mut running => return Ok(()),
                signal = signals.next() => control.obey(signal),
                ask = vital::heard(&mut asked, "http") => match ask {
                    Ask::Reload(answer) => control.load(Some(answer)),
                },
                loaded = vital::heard(&mut loaded, "reload") => control.loaded(loaded),
                () = &mut telling => {}
                who = &mut ended => vital::gone(who),
            }
        }
    });
    // A reload that hangs on its disk must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// The log of a process that speaks for the candidate of `config`.
fn start_log(config: &Config) -> io::Result<Arc<log::LogGuard>> {
    // Whoever started us may have blocked what we are to hear, or are to be ended by.
    guardian::signals::empty_mask()?;
    let mut said = false;
    let start = || {
        log::init(&config.log).inspect_err(|error| {
            // Nothing runs yet that a reader who doesn't read this could hold up.
            if !said {
                writeln!(
                    io::stderr(),
                    "incumbent: a thread for the log is not to be had yet: {error}"
                )
                .ok();
            }
            said = true;
        })
    };
    let logs = until_had_blocking("a thread for the log", start)?;
    logs.speak_for(&config.election.prefix, &config.candidate_name);
    Ok(Arc::new(logs))
}

/// Waits for a signal to stop; others are kept in `early`.
async fn stop(signals: &mut Arriving, early: &mut Vec<Signal>) {
    while let signal @ (Signal::Reload | Signal::StepDown) = signals.next().await {
        early.push(signal);
    }
}

/// Who keeps the files of the runtime directory that is held.
async fn keeper(held: &RuntimeDir) -> anyhow::Result<Keeper> {
    let keeper = until_had("a thread for the lease file", || Keeper::start(held)).await;
    keeper.context("no thread for the lease file")
}

/// Reaps what falls to this process, as long as the runtime lives. `spares_own`: as of
/// [`reap`](guardian::orphans::reap).
fn reap_orphans(spares_own: bool) {
    tokio::spawn(async move {
        if let Err(error) = guardian::orphans::reap(spares_own).await {
            tracing::warn!(%error, "orphans are not reaped");
        }
    });
}

/// The runtime of the main loop, on a thread that hears every signal, and the threads for what blocks.
/// The process ends with any of them.
fn make_ready() -> anyhow::Result<Runtime> {
    vital::watch(log::flush);
    for pool in [&STORE, &FENCE] {
        until_had_blocking("a thread for what blocks", || pool.start())?;
    }
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.on_thread_park(log::idle).enable_all();
    until_had_blocking("the main loop", || builder.build()).context("no runtime")
}

/// What a start has come to.
enum Begun<T> {
    Ready(Box<Candidate>, View),
    /// It was told to end first, by these words; nothing is left of it.
    Over(T),
}

/// Starts the candidate, which contends for nothing yet, while what an earlier daemon left is
/// fenced, unless `over` comes first.
async fn start_and_fence<T>(
    starting: impl Future<Output = anyhow::Result<(Candidate, View)>>,
    config: &Arc<Config>,
    left: &Leftovers,
    over: impl Future<Output = T>,
) -> anyhow::Result<Begun<T>> {
    let fencing = fence(config, left);
    tokio::pin!(starting, fencing, over);
    let (mut started, mut is_fenced) = (None, false);
    loop {
        tokio::select! {
            candidate = &mut starting, if started.is_none() => started = Some(candidate?),
            done = &mut fencing, if !is_fenced => {
                done?;
                is_fenced = true;
            }
            words = &mut over => {
                // Where it wasn't there yet, a guardian that guards nothing leaves by itself.
                if let Some((candidate, _)) = started {
                    candidate.leave().await;
                }
                return Ok(Begun::Over(words));
            }
        }
        if is_fenced && let Some((candidate, view)) = started {
            return Ok(Begun::Ready(Box::new(candidate), view));
        }
    }
}

/// Fences what an earlier daemon left, off this thread.
async fn fence(config: &Arc<Config>, left: &Leftovers) -> anyhow::Result<()> {
    let (config, left) = (Arc::clone(config), left.clone());
    let fencing = FENCE.run(move || fence_leftovers(&config, &left));
    let fencing = fencing.context("no thread to fence what an earlier daemon left")?;
    let done = fencing.await;
    done.context("what an earlier daemon left can't be looked for")
}

/// Kills what an earlier daemon of this election left on the host; while there is any of it,
/// nothing may start here (R4). Says who lives after `kill_budget`, and again and again. Blocks.
fn fence_leftovers(config: &Config, earlier: &Leftovers) {
    let mut limit = config.job.kill_budget;
    loop {
        let left = fencing::fence(&config.election.prefix, earlier.runs(), limit);
        let (election, candidate) = (&config.election.prefix, &config.candidate_name);
        match left {
            Ok(left) if left.is_empty() => return earlier.forget(),
            Ok(left) => {
                let survivors: Vec<_> = left.iter().map(|left| Survivor::of(left.pid)).collect();
                let speaker = Speaker {
                    voice: Voice::Daemon,
                    election,
                    candidate,
                };
                speaker.leftovers_can_not_be_killed(&listed(&survivors));
            }
            Err(error) => {
                tracing::error!(%election, candidate, %error, "processes can't be looked through");
            }
        }
        limit = REPEATED;
    }
}
