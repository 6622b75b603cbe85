//! Jobs: what a leader runs.
//!
//! A job is a command, started by the guardian, or Rust code that runs in the daemon on a runtime
//! of its own. [`Jobs`] holds the Rust jobs of a binary; its author registers them in `main`.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::process::{ExitCode, Termination};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Judge;

pub mod command;
pub mod native;
pub mod process;
pub mod restart;
mod term;
mod threads;

pub use term::{CompletionError, JobTerm, ScheduledRun};

/// Why a Rust job failed; any error will do.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

/// A job in Rust.
///
/// ```
/// use incumbent::{Job, JobError, JobTerm};
///
/// struct Reindex;
///
/// impl Job for Reindex {
///     async fn run(&self, term: JobTerm) -> Result<(), JobError> {
///         while !term.is_stopping() {
///             term.put("/reindex/progress", "…").await?;
///             term.stopping().await;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Job: Send + Sync + 'static {
    /// Runs the job for one term, or for one run of several in it.
    ///
    /// It should return soon after [`JobTerm::stopping`] or [`JobTerm::lost`]. It runs on a runtime of its
    /// own, and has ended when it has returned and no thread is left that came of it: no worker, no
    /// blocking task, no [thread](std::thread) that it started, or that those started; and no process.
    /// Such code can't be killed alone, so if any of it goes on, the whole daemon is killed: at the end of
    /// `stop_grace` on a planned stop, or once this has returned; in time for the next leader when
    /// the term is lost.
    ///
    /// A pool of threads that a library keeps for good, as rayon's global one, would be taken for
    /// the job's. Start it in [`Jobs::prepare`], or end it with the run.
    ///
    /// Start processes with [`JobTerm::command`]: they have their grace when the run ends, and their end
    /// is proven. One that is started past it, by [`std::process`] or in any other way, is killed as
    /// soon as this has returned, and with the daemon; nothing else starts before it is dead. After a
    /// kill of the daemon from outside only the shipped unit finds one that unblocks the
    /// signals that tell it, a few of the last real-time ones.
    ///
    /// # Errors
    /// An error is a failed run, as a command's exit code other than 0 is.
    fn run(&self, term: JobTerm) -> impl Future<Output = Result<(), JobError>> + Send;
}

/// A run of a job whose type is forgotten.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;

/// A job whose type is forgotten.
pub(crate) type AnyJob = Box<dyn FnOnce(JobTerm) -> Running + Send>;

/// Makes a job from its settings.
pub(crate) type Factory = Arc<dyn Fn(toml::Table) -> Result<AnyJob, JobError> + Send + Sync>;

/// The Rust jobs of a binary, by the name that `job.kind` gives them.
#[derive(Clone, Default)]
pub struct Jobs {
    factories: BTreeMap<&'static str, Factory>,
    preparations: Arc<Mutex<Vec<Preparation>>>,
}

/// What is to be done before the daemon starts.
type Preparation = Box<dyn FnOnce() -> ExitCode + Send>;

impl Jobs {
    /// No Rust jobs: `job.kind` can only be `command`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job under `name`, made anew for every run from the table `job.settings`.
    ///
    /// `from_settings` should have no effects: it is also called, and what it makes dropped, when the
    /// configuration is checked, by `check`, at the daemon's start and on a reload. Where it fails or
    /// panics, the configuration is refused.
    ///
    /// # Panics
    /// If the name is `command`, which is taken, or stands for another job already.
    #[must_use]
    pub fn with<J: Job, E: Into<JobError>>(
        mut self,
        name: &'static str,
        from_settings: impl Fn(toml::Table) -> Result<J, E> + Send + Sync + 'static,
    ) -> Self {
        assert_ne!(name, "command", "the kind of a job that is a command");
        let factory: Factory = Arc::new(move |settings| {
            let job = from_settings(settings).map_err(Into::into)?;
            Ok(Box::new(move |term| {
                Box::pin(async move { job.run(term).await }) as Running
            }))
        });
        let taken = self.factories.insert(name, factory);
        assert!(taken.is_none(), "two jobs named {name}");
        self
    }

    /// Adds what is to be done before the daemon starts: only in `run`, once, and before there is any
    /// thread or runtime of the daemon's. As of `main`, a failure of it is the process's.
    ///
    /// Threads and processes that it leaves behind are the daemon's, and not a run's: it is the place
    /// for a library's pool of threads, as rayon's global one. Not so `main`, which runs in every
    /// command, and in the guardian of each daemon.
    #[must_use]
    pub fn prepare<T: Termination>(self, prepare: impl FnOnce() -> T + Send + 'static) -> Self {
        let preparation: Preparation = Box::new(|| prepare().report());
        self.preparations().push(preparation);
        self
    }

    /// Does what is to be done before the daemon starts, up to the first failure.
    pub(crate) fn prepare_now(&self) -> ExitCode {
        let preparations = std::mem::take(&mut *self.preparations());
        let mut codes = preparations.into_iter().map(|prepare| prepare());
        codes
            .find(|code| *code != ExitCode::SUCCESS)
            .unwrap_or(ExitCode::SUCCESS)
    }

    fn preparations(&self) -> MutexGuard<'_, Vec<Preparation>> {
        self.preparations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the jobs take their settings.
    pub(crate) fn judge(&self) -> Judge {
        let jobs = self.clone();
        Judge::new(move |kind, settings| match jobs.get(kind) {
            Some(factory) => native::try_to_make(&factory, settings),
            None => Ok(()),
        })
    }

    /// The names of the jobs, as `job.kind` may have them.
    pub fn kinds(&self) -> Vec<String> {
        self.factories
            .keys()
            .map(|name| (*name).to_owned())
            .collect()
    }

    /// The job of this name; `None` for `command` and for names that nobody registered.
    pub(crate) fn get(&self, name: &str) -> Option<Factory> {
        self.factories.get(name).cloned()
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.factories.keys()).finish()
    }
}
