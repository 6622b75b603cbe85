//! The Rust job: a run in the daemon, on a runtime of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Factory, JobError};
use crate::etcd::{Settings, Store};
use crate::term::Term;
use crate::term::process::Spawner;

/// Longer than any term can wait: the deadlines of the term end a runtime that hangs, not this.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// A run of a Rust job is over: `run()` has returned, and no thread of its runtime is left.
#[derive(Debug)]
pub struct Ended {
    /// The daemon's number for the run.
    pub run: u64,
    /// What it returned, or how it panicked.
    pub result: Result<(), String>,
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
    /// Starts a run on a thread of its own; its end is told to `ended`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(start: Start, ended: mpsc::UnboundedSender<Ended>) -> io::Result<Self> {
        let (stopping, stop) = watch::channel(false);
        std::thread::Builder::new()
            .name("job".to_owned())
            .spawn(move || {
                let run = start.run;
                let result = run_to_end(start, stop).map_err(|error| error.to_string());
                // Nobody listens only when the daemon is ending.
                drop(ended.send(Ended { run, result }));
            })?;
        Ok(Self { stopping })
    }

    /// Tells the job to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

/// Runs the job and shuts its runtime down; returns only when no thread of it is left.
fn run_to_end(start: Start, stop: watch::Receiver<bool>) -> Result<(), JobError> {
    let threads = Arc::new(AtomicUsize::new(0));
    let (begun, ended) = (Arc::clone(&threads), Arc::clone(&threads));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("job-worker")
        .enable_all()
        .on_thread_start(move || _ = begun.fetch_add(1, Ordering::SeqCst))
        .on_thread_stop(move || _ = ended.fetch_sub(1, Ordering::SeqCst))
        .build()?;
    let result = runtime.block_on(async {
        let store = Store::new(&start.store);
        let term = start.term.of_job(store, stop, start.spawner);
        let job = (start.factory)(start.settings)?;
        // As a task of its own, so that a panic is a failed run and not the daemon's end.
        tokio::spawn(job(term)).await.map_err(|error| {
            let panic = error.try_into_panic().ok();
            let text = panic.as_ref().and_then(|panic| {
                let text = panic.downcast_ref::<&str>().copied();
                text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            });
            JobError::from(format!("panicked: {}", text.unwrap_or("no message")))
        })?
    });
    runtime.shutdown_timeout(FOR_EVER);
    while threads.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    result
}
