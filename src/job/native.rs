//! The Rust job: a run in the daemon, on a runtime of its own.
//!
//! A run has ended only when `run()` has returned and no thread and no process is left that came of
//! it, whether its runtime started it or the job itself. Processes are killed as soon as `run()` has
//! returned; those that the guardian started are the guardian's. Code in the same process can't be killed alone: of a
//! run that doesn't end the candidate rids itself by killing the process, and so does the guardian.

use std::any::Any;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::process::Spawner;
use super::threads::Threads;
use super::{Factory, JobError, JobLayers, JobTerm};
use crate::etcd::{Settings, Store};
use crate::guardian::mark::RunMark;
use crate::guardian::offspring::Offspring;
use crate::schedule::Run;
use crate::term::Term;
use crate::vital;

/// First and longest pause between two looks at the threads and processes that are left.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// The threads of a run's runtime, beside those for what blocks.
const WORKERS: usize = 2;

/// What becomes of a run.
#[derive(Debug)]
pub(crate) struct NativeProgress {
    /// The daemon's number for the run.
    pub run: u64,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a run has come to its end.
#[derive(Debug)]
pub(crate) enum Stage {
    /// `run()` has returned, but threads of the run may be left. Always followed by the end.
    Returned,
    /// Nothing of the run is left. What it returned, or how it panicked.
    Ended(Result<(), String>),
}

/// A run of a Rust job.
#[derive(Debug)]
pub(crate) struct NativeJob {
    stopping: watch::Sender<bool>,
    /// As long as anything of it is left.
    mark: Weak<RunMark>,
}

/// What a run needs.
pub(crate) struct Start {
    /// Makes the job.
    pub(crate) factory: Factory,
    /// The table `job.settings`.
    pub settings: toml::Table,
    /// The term it runs in.
    pub term: Term,
    /// What it is for, where the job has a schedule.
    pub slot: Option<Arc<Run>>,
    /// How the term's writes reach the store, over connections of the job's own.
    pub store: Settings,
    /// How the job's processes reach the guardian.
    pub(crate) spawner: Spawner,
    /// What listens to what it logs.
    pub layers: JobLayers,
    /// The daemon's number for the run.
    pub run: u64,
}

impl NativeJob {
    /// Starts a run on a thread of its own, which tells `progress` of its end.
    ///
    /// # Errors
    /// When there is no thread to be had, or no mark.
    pub(crate) fn start(
        start: Start,
        progress: mpsc::UnboundedSender<NativeProgress>,
    ) -> io::Result<Self> {
        let (stopping, stop) = watch::channel(false);
        let own = RunMark::take()?;
        let mark = Arc::downgrade(&own);
        std::thread::Builder::new()
            .name("job".to_owned())
            .spawn(move || {
                let run = start.run;
                // Nobody listens only when the daemon is ending.
                let tell = |stage| drop(progress.send(NativeProgress { run, stage }));
                let returned = || tell(Stage::Returned);
                let ran =
                    catch_unwind(AssertUnwindSafe(|| run_to_end(start, &own, stop, returned)));
                tell(match ran {
                    Ok(result) => Stage::Ended(result),
                    // Nobody knows what is left of it: the daemon's end, if it has to be.
                    Err(_) => Stage::Returned,
                });
            })?;
        Ok(Self { stopping, mark })
    }

    /// What tells its threads and processes from those of other runs, as long as any is left.
    pub(crate) fn mark(&self) -> Weak<RunMark> {
        Weak::clone(&self.mark)
    }

    /// Tells the job to stop.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

/// Runs the job; returns only when nothing of the run is left.
fn run_to_end(
    start: Start,
    mark: &Arc<RunMark>,
    stop: watch::Receiver<bool>,
    returned: impl FnOnce(),
) -> Result<(), String> {
    let before = Threads::mark_this_one(mark).and_then(|it| Ok((it, Offspring::of_new_run(mark)?)));
    let (threads, processes) = match before {
        Ok(before) => before,
        Err(error) => {
            // Nothing of the run would be told from what was there before it.
            returned();
            return Err(format!("this process can't be looked at: {error}"));
        }
    };
    // A runtime that gets no thread panics; that is a failed run too.
    let result = catch_unwind(AssertUnwindSafe(|| run(start, stop)));
    let result = result.unwrap_or_else(|panic| Err(panicked(panic)));
    returned();
    // Until then somebody may start another, or wait for one.
    let (mut pause, longest) = PAUSES;
    loop {
        // In this order: the last thread may have started a process.
        let no_thread = !threads.are_left();
        if processes.kill() && no_thread {
            break;
        }
        std::thread::sleep(pause);
        pause = longest.min(pause * 2);
    }
    processes.reap();
    result
}

/// Runs the job on a runtime that is left to end by itself.
fn run(start: Start, stop: watch::Receiver<bool>) -> Result<(), String> {
    let runtime = runtime(&start.layers).map_err(|error| format!("no runtime: {error}"))?;
    // All of the user's code runs in this task, so that a panic is a failed run and not the
    // daemon's end, nor a run that never ends.
    let running = runtime.spawn(async move {
        // Connections belong to the runtime on which they were opened.
        let store = Store::of_cluster(&start.store, start.term.cluster());
        let term = start.term.with_store(store);
        let term = JobTerm::new(term, start.slot, stop, start.spawner);
        let outcome: Result<(), JobError> = async {
            let job = (start.factory)(start.settings)?;
            job(term).await
        }
        .await;
        outcome.map_err(|error| chain(&*error))
    });
    let result = runtime.block_on(running);
    // Its workers and blocking tasks are threads of the run.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| {
        Err(match error.try_into_panic() {
            Ok(panic) => panicked(panic),
            Err(_) => "cancelled".to_owned(),
        })
    })
}

/// Whether a job can be made of these settings, and why not; what was made is dropped.
pub(super) fn try_to_make(factory: &Factory, settings: toml::Table) -> Result<(), String> {
    // Where the real one will be made there is a runtime, too.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let made = catch_unwind(AssertUnwindSafe(|| {
        let _inside = runtime.enter();
        factory(settings).map(drop).map_err(|error| chain(&*error))
    }));
    runtime.shutdown_background();
    let why = match made {
        Ok(made) => made.err(),
        Err(panic) => Some(panicked(panic)),
    };
    // A problem of the configuration is one line.
    why.map_or(Ok(()), |why| {
        let lines = why.lines().map(str::trim).filter(|line| !line.is_empty());
        Err(lines.collect::<Vec<_>>().join(", "))
    })
}

/// An error and what it came of, as one text.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some say themselves what they came of.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// The runtime of a run.
///
/// # Errors
/// Fails, and leaves no thread, where one of its threads can't be had: tokio panics there, after it has
/// started some of the others.
fn runtime(layers: &JobLayers) -> io::Result<Runtime> {
    // Whether there is room for its workers: what is free now is free a moment later, as a rule.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let probes: Vec<_> = (0..WORKERS)
        .map(|_| {
            let wait = Arc::clone(&wait);
            let waits = move || drop(wait.lock().map(|wait| wait.recv()));
            std::thread::Builder::new()
                .name("job-worker".to_owned())
                .spawn(waits)
        })
        .collect();
    drop(go);
    let mut had = Ok(());
    for probe in probes {
        match probe {
            Ok(probe) => drop(probe.join()),
            Err(error) => had = Err(error),
        }
    }
    had?;
    let listen = layers.listen();
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("job-worker")
            .on_thread_start(listen)
            .enable_all()
            .build()
    };
    catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| {
        let text = vital::message(panic.as_ref()).to_owned();
        Err(io::Error::other(text))
    })
}

/// What a panic said.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> String {
    let text = format!("panicked: {}", vital::message(panic.as_ref()));
    // To drop it is the user's code once more, and may panic.
    std::mem::forget(panic);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no database")]
    struct NoDatabase(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot index: {0}")]
    struct CannotIndex(#[source] NoDatabase);

    #[test]
    fn an_error_says_all_that_it_came_of_and_nothing_twice() {
        let refused = std::io::Error::other("connection refused");
        let error: JobError = CannotIndex(NoDatabase(refused)).into();
        assert_eq!(
            chain(&*error),
            "cannot index: no database: connection refused"
        );
        let error: JobError = "it is to fail".into();
        assert_eq!(chain(&*error), "it is to fail");
    }

    #[test]
    fn a_panic_says_its_text_whatever_it_carries() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        assert_eq!(panicked(Box::new("text")), "panicked: text");
        assert_eq!(panicked(Box::new("text".to_owned())), "panicked: text");
        assert_eq!(panicked(Box::new(Bomb)), "panicked: no message");
    }
}
