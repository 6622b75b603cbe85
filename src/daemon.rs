//! The daemon: config, guardian, candidate, signals and notifications put together.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::candidate::{Candidate, View};
use crate::clock;
use crate::config::{Config, JobConfigs, Source};
use crate::fencing;
use crate::guardian;
use crate::http::{Ask, Server};
use crate::job::Jobs;
use crate::lines::{Speaker, Voice, ms};
use crate::log;
use crate::proc::survivor::{REPEATED, Survivor, listed};
use crate::runtime_dir::lease_file::Keeper;
use crate::runtime_dir::{Leftovers, RuntimeDir};
use crate::shortage::{until_had, until_had_blocking};
use crate::signals::{Arriving, Signal};
use crate::vital;
use crate::worker::{FENCE, STORE};

mod abandoned;
mod candidates;
mod control;
pub(crate) mod once;
mod placement;
mod service;
mod stops;

use candidates::Candidates;
use control::Control;

/// After so long it is said that what an earlier daemon left is still being looked for, and again.
const LONG_LOOK: Duration = Duration::from_secs(10);

/// Runs the daemon until it is told to stop. Blocks.
///
/// `configs` were loaded from `source`, which is read again on SIGHUP; `jobs` are the Rust jobs of
/// this binary; `directory` is the runtime directory of `configs`, held.
pub(crate) fn run(
    configs: JobConfigs,
    source: Source,
    jobs: Jobs,
    directory: RuntimeDir,
) -> ExitCode {
    let Ok(logs) = start_log(configs.shared(), configs.election()) else {
        // It has been said.
        return ExitCode::FAILURE;
    };
    let outcome = serve(configs, source, jobs, &logs, directory);
    if let Err(error) = outcome {
        tracing::error!(error = format!("{error:#}"), "daemon failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(
    configs: JobConfigs,
    source: Source,
    jobs: Jobs,
    logs: &Arc<log::LogGuard>,
    directory: RuntimeDir,
) -> anyhow::Result<()> {
    let runtime = make_ready()?;
    let outcome = runtime.block_on(async {
        // First of all: what a signal does by default is to kill.
        let signals = until_had("what hears signals", Arriving::new).await;
        let mut signals = signals.context("signals can't be handled")?;
        let binary = jobs.binary();
        let shared = configs.shared();
        tracing::info!(
            app = binary.map(|(name, _)| name),
            app_version = binary.map(|(_, version)| version),
            version = env!("CARGO_PKG_VERSION"),
            election = configs.election(),
            candidate = shared.candidate_name,
            jobs = configs.names(),
            endpoints = shared.etcd.endpoints.join(","),
            "incumbent starts"
        );
        let mut early = Vec::new();
        reap_orphans(!jobs.kinds().is_empty());
        let mut directory = directory;
        if configs.names().is_none() {
            directory.take_over_jobs();
        }
        let directory = Arc::new(directory);
        let (service, watchdog) = service::Service::new();
        let mut candidates = Candidates::new(&directory, jobs, Arc::clone(logs), watchdog);
        candidates.show_host(&configs);
        for config in configs.iter() {
            candidates.start(Arc::clone(config));
        }
        abandoned::sweep(&directory, &configs);
        tokio::select! {
            is_any = candidates.until_one_is_ready() => if !is_any? {
                return Ok(());
            },
            () = stop(&mut signals, &mut early) => return candidates.end_now().await,
        }
        let standings = candidates.standings();
        let ended = candidates::silent(standings.clone());
        tokio::pin!(ended);
        let (asks, mut asked) = mpsc::unbounded_channel();
        let start = || Server::start(directory.dir(), configs.shared(), &standings, &asks);
        let server = tokio::select! {
            server = until_had("the control socket", start) => server
                .with_context(|| format!("cannot listen in {}", directory.path().display()))?,
            () = stop(&mut signals, &mut early) => return candidates.end_now().await,
        };
        let (loads, mut loaded) = mpsc::unbounded_channel();
        let mut control = Control::new(configs, source, loads, Arc::clone(logs), server);
        for signal in early {
            control.obey(signal, &mut candidates);
        }
        candidates.let_contend();
        let telling = service.run(standings.clone());
        tokio::pin!(telling);
        let placing = placement::hand_over(standings);
        tokio::pin!(placing);
        loop {
            tokio::select! {
                ended = candidates.all_ended() => return ended,
                signal = signals.next() => control.obey(signal, &mut candidates),
                ask = vital::heard(&mut asked, "http") => match ask {
                    Ask::Reload(answer) => control.load(Some(answer), &candidates),
                },
                loaded = vital::heard(&mut loaded, "reload") => {
                    control.loaded(loaded, &mut candidates);
                }
                () = &mut telling => {}
                never = &mut placing => match never {},
                who = &mut ended => vital::gone(who),
            }
        }
    });
    // A reload that hangs on its disk must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// The log of a process that speaks for the candidate of `config`, or for several in elections below
/// `election`.
fn start_log(config: &Config, election: &str) -> io::Result<Arc<log::LogGuard>> {
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
    logs.speak_for(election, &config.candidate_name);
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
    config: &Config,
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

/// Kills what an earlier daemon of this election left on the host; while there is any of it,
/// nothing may start here (R4). Says who lives after `kill_budget`, and again and again.
async fn fence(config: &Config, left: &Leftovers) -> anyhow::Result<()> {
    let (election, candidate) = (&config.election.prefix, &config.candidate_name);
    let mut limit = config.job.kill_budget;
    loop {
        let (prefix, earlier) = (election.clone(), left.clone());
        // Off this thread, and each time in its turn: others have something to fence, too.
        let fencing = FENCE.run(move || {
            let left = fencing::fence(&prefix, earlier.runs(), limit)?;
            if left.is_empty() {
                earlier.forget();
            }
            Ok::<_, io::Error>(left)
        });
        let fencing = fencing.context("no thread to fence what an earlier daemon left")?;
        tokio::pin!(fencing);
        let begun = clock::now();
        let done = loop {
            tokio::select! {
                done = &mut fencing => break done,
                // The kernel may hold up whoever looks at a process; nothing starts before it is done.
                () = clock::sleep(LONG_LOOK) => tracing::warn!(
                    %election,
                    candidate,
                    since_ms = ms(clock::now().since(begun)),
                    "processes are still being looked through"
                ),
            }
        };
        match done.context("what an earlier daemon left can't be looked for")? {
            Ok(left) if left.is_empty() => return Ok(()),
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
