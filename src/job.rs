//! Jobs: what a leader runs.
//!
//! A job is a command, started by the guardian, or Rust code that runs in the daemon on a runtime
//! of its own. [`Jobs`] holds the Rust jobs of a binary; its author names them in `main`.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing_subscriber::{Layer, Registry};

use crate::config::Judge;

pub(crate) mod command;
mod layers;
pub(crate) mod native;
pub(crate) mod process;
pub(crate) mod restart;
mod term;
mod threads;

pub(crate) use layers::JobLayers;
pub use term::{CompletionError, JobTerm, ScheduledRun};

/// Why a Rust job failed; any error will do.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

/// A job in Rust.
///
/// ```
/// use incumbent::{Job, JobError, JobTerm};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     progress: String,
/// }
///
/// struct Reindex(Settings);
///
/// impl Job for Reindex {
///     type Settings = Settings;
///
///     fn new(settings: Settings) -> Result<Self, JobError> {
///         Ok(Self(settings))
///     }
///
///     async fn run(&self, term: JobTerm) -> Result<(), JobError> {
///         while !term.is_stopping() {
///             term.put(self.0.progress.as_str(), "…").await?;
///             term.stopping().await;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Job: Sized + Send + Sync + 'static {
    /// The table `job.settings` of the configuration; [`NoSettings`] for a job that has none.
    type Settings: DeserializeOwned;

    /// Makes the job, anew for every run.
    ///
    /// It should have no effects: it is also called, and what it makes dropped, when the configuration is
    /// checked, by `check`, at the daemon's start and on a reload.
    ///
    /// # Errors
    /// Where it fails or panics the configuration is refused, as for settings that aren't a
    /// [`Settings`](Self::Settings).
    fn new(settings: Self::Settings) -> Result<Self, JobError>;

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
    /// the job's. Start it in [`App::prepare`](crate::App::prepare), or end it with the run.
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

/// The settings of a job that has none.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NoSettings {}

/// The Rust jobs of a binary, by the name that `job.kind` gives them.
#[derive(Clone, Default)]
pub(crate) struct Jobs {
    /// The binary's name and version.
    binary: Option<(&'static str, &'static str)>,
    factories: BTreeMap<&'static str, Factory>,
    preparations: Arc<Mutex<Vec<Preparation>>>,
    /// What listens to what they log.
    pub(crate) layers: JobLayers,
}

/// What is to be done before the daemon starts.
type Preparation = Box<dyn FnOnce() -> ExitCode + Send>;

impl Jobs {
    /// Those of a binary of this name and version: none yet.
    pub(crate) fn of(name: &'static str, version: &'static str) -> Self {
        Self {
            binary: Some((name, version)),
            ..Self::default()
        }
    }

    /// The binary's name and version, where it isn't the tool itself.
    pub(crate) fn binary(&self) -> Option<(&'static str, &'static str)> {
        self.binary
            .filter(|(name, _)| *name != env!("CARGO_PKG_NAME"))
    }

    pub(crate) fn add<J: Job>(&mut self, kind: &'static str) {
        assert_ne!(kind, "command", "the kind of a job that is a command");
        let factory: Factory = Arc::new(move |settings| {
            let job = J::new(settings.try_into()?)?;
            Ok(Box::new(move |term| {
                Box::pin(async move { job.run(term).await }) as Running
            }))
        });
        let taken = self.factories.insert(kind, factory);
        assert!(taken.is_none(), "two jobs named {kind}");
    }

    pub(crate) fn prepare(&self, prepare: impl FnOnce() -> ExitCode + Send + 'static) {
        self.preparations().push(Box::new(prepare));
    }

    pub(crate) fn layer<L: Layer<Registry> + Send + Sync>(
        &self,
        make: impl FnOnce() -> L + Send + 'static,
    ) {
        self.layers.add(make);
    }

    /// Does what is to be done before the daemon starts, up to the first failure.
    pub(crate) fn prepare_now(&self) -> ExitCode {
        self.layers.make();
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
    pub(crate) fn kinds(&self) -> Vec<String> {
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
