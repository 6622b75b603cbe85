//! The binary that this is a part of: its name, its version, and its jobs in Rust.

use std::fmt;
use std::process::{ExitCode, Termination};

use clap::{Command, CommandFactory as _, FromArgMatches as _};
use tracing_subscriber::{Layer, Registry};

use super::{Cli, TopCommand, Typed, guardian};
use crate::job::{Job, Jobs};

/// How we are called in the help, where nobody has said otherwise.
const OURS: &str = "incumbent";

/// A binary with jobs in Rust: the whole tool, under a name and a version of its own.
///
/// ```no_run
/// # use std::process::ExitCode;
/// # use incumbent::{App, Job, JobError, JobTerm, NoSettings};
/// # struct Reindex;
/// # impl Job for Reindex {
/// #     type Settings = NoSettings;
/// #     fn new(_: NoSettings) -> Result<Self, JobError> { Ok(Self) }
/// #     async fn run(&self, _: JobTerm) -> Result<(), JobError> { Ok(()) }
/// # }
/// fn main() -> ExitCode {
///     App::new("my-daemon", env!("CARGO_PKG_VERSION"))
///         .job::<Reindex>("reindex")
///         .main()
/// }
/// ```
pub struct App {
    name: &'static str,
    version: &'static str,
    jobs: Jobs,
}

impl App {
    /// A binary of this name and version, as `--version`, the help and the log tell them, with no jobs in
    /// Rust yet: `job.kind` can only be `command`.
    pub fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            jobs: Jobs::of(name, version),
        }
    }

    /// Adds a job under the name that `job.kind` gives it, made anew for every run.
    ///
    /// # Panics
    /// If the name is `command`, which is taken, or stands for another job already.
    #[must_use]
    pub fn job<J: Job>(mut self, kind: &'static str) -> Self {
        self.jobs.add::<J>(kind);
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
        self.jobs.prepare(|| prepare().report());
        self
    }

    /// Adds a layer of `tracing` that hears what the jobs log, beside the daemon's own log: to trace them
    /// with OpenTelemetry, say. It is made in `run` alone, once, before what is
    /// [prepared](Self::prepare), so that threads of its own are the daemon's and not a run's.
    ///
    /// It hears the threads of a run's runtime, with all that is called there, and neither the daemon's own
    /// lines nor threads that a job starts by itself: so one that blocks holds up a run, and never the
    /// term. Its `enabled`, `register_callsite` and `max_level_hint` may be called on any thread, and must
    /// not wait for anything. A filter that is added as a layer of its own holds for the job's lines in the
    /// log, too.
    #[must_use]
    pub fn layer<L: Layer<Registry> + Send + Sync>(
        self,
        make: impl FnOnce() -> L + Send + 'static,
    ) -> Self {
        self.jobs.layer(make);
        self
    }

    /// Runs the command that this process was started with.
    ///
    /// It may be any, or the guardian that a daemon has started: a `main` that calls this should do
    /// nothing else but name its jobs. What a daemon's jobs need once goes to [`prepare`](Self::prepare).
    pub fn main(self) -> ExitCode {
        // As the daemon starts it: a launch should not pay for a command line that nobody has typed.
        if std::env::args_os().skip(1).eq(["guardian"]) {
            return super::dispatch(TopCommand::Guardian(guardian::Args {}), self.jobs);
        }
        let matches = self.command::<TopCommand>().get_matches();
        let command = TopCommand::from_arg_matches(&matches);
        // What there is to refuse was refused.
        let command = command.unwrap_or_else(|error| error.exit());
        super::dispatch(command, self.jobs)
    }

    /// The command line that people type, for generators of shell completions and man pages.
    ///
    /// It leaves out what only the daemon starts. `examples/dist.rs` is a generator.
    pub fn command_line(&self) -> Command {
        self.command::<Typed>()
    }

    fn command<C: clap::Subcommand>(&self) -> Command {
        let command = Cli::<C>::command().name(self.name).version(self.version);
        if self.name == OURS {
            command
        } else {
            renamed(command, self.name)
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            version,
            jobs,
        } = self;
        f.debug_struct("App")
            .field("name", name)
            .field("version", version)
            .field("jobs", jobs)
            .finish()
    }
}

/// The command, with this name in the lines that its examples have people type, and in those of all
/// below.
fn renamed(command: Command, name: &'static str) -> Command {
    let examples = command.get_after_help().map(ToString::to_string);
    let command = match examples {
        Some(text) => {
            let typed = (format!("{OURS} "), format!("{name} "));
            command.after_help(text.replace(&typed.0, &typed.1))
        }
        None => command,
    };
    command.mut_subcommands(|below| renamed(below, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_help_has_people_type_begins_with_the_name() {
        let mut open = vec![App::new("my-daemon", "7.8.9").command_line()];
        let mut examples = 0;
        while let Some(mut command) = open.pop() {
            let help = command.render_long_help().to_string();
            assert!(!help.contains("  incumbent "), "{help}");
            examples += help.matches("  my-daemon ").count();
            open.extend(command.get_subcommands().cloned());
        }
        assert!(examples > 20, "{examples}");
        let ours = App::new(OURS, "1").command_line().render_help();
        assert!(ours.to_string().contains("  incumbent run"));
    }
}
