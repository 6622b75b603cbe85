//! The Rust job: a run in the daemon, on a runtime of its own.
//!
//! A run has ended only when `run()` has returned and no thread is left that came of it, whether
//! its runtime started it or the job itself. Code in the same process can't be killed alone: of a
//! run that doesn't end the candidate rids itself by killing the process, and so does the guardian.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;

use super::threads::Threads;
use super::{Factory, JobError};
use crate::etcd::{Settings, Store};
use crate::term::Term;
use crate::term::process::Spawner;

/// First and longest pause between two looks at the threads that are left.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// What becomes of a run.
#[derive(Debug)]
pub struct Progress {
    /// The daemon's number for the run.
    pub run: u64,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a run has come to its end.
#[derive(Debug)]
pub enum Stage {
    /// `run()` has returned, but threads of the run may be left. Always followed by the end.
    Returned,
    /// Nothing of the run is left. What it returned, or how it panicked.
    Ended(Result<(), String>),
}

/// A run of a Rust job.
#[derive(Debug)]
pub struct Native {
    stopping: watch::Sender<bool>,
}

/// What a run needs.
pub struct Start {
    /// Makes the job.
    pub(crate) factory: Factory,
    /// The table `job.settings`.
    pub settings: toml::Table,
    /// The term it runs in.
    pub term: Term,
    /// How the term's writes reach the store, over connections of the job's own.
    pub store: Settings,
    /// How the job's processes reach the guardian.
    pub(crate) spawner: Spawner,
    /// The daemon's number for the run.
    pub run: u64,
}

impl Native {
    /// Starts a run on a thread of its own, which tells `progress` of its end.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(start: Start, progress: mpsc::UnboundedSender<Progress>) -> io::Result<Self> {
        let (stopping, stop) = watch::channel(false);
        std::thread::Builder::new()
            .name("job".to_owned())
            .spawn(move || {
                let run = start.run;
                // Nobody listens only when the daemon is ending.
                let tell = |stage| drop(progress.send(Progress { run, stage }));
                let returned = || tell(Stage::Returned);
                let result = run_to_end(start, stop, returned);
                tell(Stage::Ended(result));
            })?;
        Ok(Self { stopping })
    }

    /// Tells the job to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

/// Runs the job; returns only when nothing of the run is left.
fn run_to_end(
    start: Start,
    stop: watch::Receiver<bool>,
    returned: impl FnOnce(),
) -> Result<(), String> {
    let threads = Threads::mark_this_one();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("job-worker")
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    // All of the user's code runs in this task, so that a panic is a failed run and not the
    // daemon's end, nor a run that never ends.
    let running = runtime.spawn(async move {
        let store = Store::of_cluster(&start.store, start.term.cluster());
        let term = start.term.of_job(store, stop, start.spawner);
        let outcome: Result<(), JobError> = async {
            let job = (start.factory)(start.settings)?;
            job(term).await
        }
        .await;
        outcome.map_err(|error| error.to_string())
    });
    let result = runtime.block_on(running);
    returned();
    // Waits for its workers and its blocking tasks, for ever if need be.
    drop(runtime);
    let (mut pause, longest) = PAUSES;
    while threads.are_left() {
        std::thread::sleep(pause);
        pause = longest.min(pause * 2);
    }
    result.unwrap_or_else(|error| Err(panicked(error)))
}

/// What a panic said.
fn panicked(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "cancelled".to_owned();
    };
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
