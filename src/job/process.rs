//! Processes of a Rust job, started through the guardian.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use tokio::sync::{mpsc, oneshot};

/// A process could not be started, or its end was not seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// The term is over, or nearly: nothing starts in it any more.
    #[error("not started: {0}")]
    Refused(String),
    /// The command can't be executed.
    #[error("not executed: {0}")]
    NotExecuted(String),
    /// The guardian is gone, and with it the process.
    #[error("the guardian is gone")]
    GuardianGone,
}

/// What to start, and whom to tell.
#[derive(Debug)]
pub(crate) struct SpawnRequest {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it runs; `None` for the job's own place.
    pub working_dir: Option<PathBuf>,
    /// What it has in its environment beside a job's.
    pub env: BTreeMap<String, String>,
    /// Its process id, once it runs.
    pub started: oneshot::Sender<Result<u32, ProcessError>>,
    /// How it ended.
    pub ended: oneshot::Sender<ExitStatus>,
}

/// The way from a term to the guardian.
pub(crate) type Spawner = mpsc::UnboundedSender<SpawnRequest>;

/// A command that is to run within a term; made by [`JobTerm::command`](super::JobTerm::command).
///
/// Its output and error are the daemon's, its input is `/dev/null`, and it has the variables of a
/// command job in its environment. Whatever the Rust job does, it is dead before another
/// candidate's job starts.
#[derive(Debug)]
pub struct JobCommand {
    spawner: Spawner,
    argv: Vec<String>,
    working_dir: Option<PathBuf>,
    env: BTreeMap<String, String>,
}

impl JobCommand {
    pub(super) fn new(spawner: Spawner, program: String) -> Self {
        Self {
            spawner,
            argv: vec![program],
            working_dir: None,
            env: BTreeMap::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets where it runs.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.working_dir = Some(directory.into());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ProcessError::Refused`] once the term is ending.
    ///
    /// # Cancel safety
    /// Dropping it may leave the process running until the run ends.
    pub async fn spawn(self) -> Result<JobProcess, ProcessError> {
        let (started, pid) = oneshot::channel();
        let (ended, status) = oneshot::channel();
        let request = SpawnRequest {
            argv: self.argv,
            working_dir: self.working_dir,
            env: self.env,
            started,
            ended,
        };
        let gone = |_| ProcessError::GuardianGone;
        self.spawner
            .send(request)
            .map_err(|_| ProcessError::GuardianGone)?;
        let pid = pid.await.map_err(gone)??;
        Ok(JobProcess { pid, status })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`JobProcess::wait`].
    pub async fn status(self) -> Result<ExitStatus, ProcessError> {
        self.spawn().await?.wait().await
    }
}

/// A running process. Dropping it does not stop it; the end of the run does.
#[derive(Debug)]
pub struct JobProcess {
    pid: u32,
    status: oneshot::Receiver<ExitStatus>,
}

impl JobProcess {
    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`ProcessError::GuardianGone`] if nobody can tell any more how it ended.
    ///
    /// # Cancel safety
    /// Dropping it loses the status.
    pub async fn wait(self) -> Result<ExitStatus, ProcessError> {
        self.status.await.map_err(|_| ProcessError::GuardianGone)
    }
}

/// A status with this exit code, or death by this signal.
pub(crate) fn exit_status(code: Option<i32>, signal: Option<i32>) -> ExitStatus {
    ExitStatus::from_raw(signal.unwrap_or_else(|| (code.unwrap_or(0) & 0xff) << 8))
}
