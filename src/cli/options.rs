//! What every command takes, and how the configuration follows from it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::exit::Failure;
use super::output;
use crate::config::handed::Handed;
use crate::config::{self, Config, Flag, JobConfigs, Loaded, LoadedJobs, Problems, Source, keys};
use crate::etcd::{Patience, Store};
use crate::http::client;

/// The variables in which a job finds the endpoints and the election of its daemon, and the keys
/// that they set.
const OF_THE_JOB: [(&str, keys::Entry); 2] = [
    ("INCUMBENT_ENDPOINTS", keys::ETCD_ENDPOINTS.entry),
    ("INCUMBENT_ELECTION", keys::ELECTION_PREFIX.entry),
];

/// How long a daemon may take to say by what it runs now. One that takes longer may be stopped, and
/// then what it has told its job before is as good as can be had.
const NOW_LIMIT: Duration = Duration::from_millis(250);

/// Where the help lists flags that change the configuration.
pub(super) const HEADING: &str = "Configuration";

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct CommonOptions {
    /// Configuration file [default: $INCUMBENT_CONFIG, else /etc/incumbent/incumbent.toml if it
    /// is there]
    #[arg(short, long, value_name = "FILE", help_heading = HEADING)]
    config: Option<PathBuf>,

    /// URLs of the store's members, instead of etcd.endpoints
    #[arg(long, value_name = "URL[,URL…]", help_heading = HEADING)]
    endpoints: Option<String>,

    /// Key prefix of the election, instead of election.prefix
    #[arg(long, value_name = "PREFIX", help_heading = HEADING)]
    election: Option<String>,
}

impl CommonOptions {
    /// Where the configuration comes from: built-in defaults, the file, `INCUMBENT__…` variables,
    /// flags.
    pub(super) fn source(&self) -> Source {
        let flag = |key, name, value: &Option<String>| {
            value.as_ref().map(|value| Flag::text(key, name, value))
        };
        let mut source = Source::of_process();
        source.file.clone_from(&self.config);
        source.flags = [
            flag(keys::ETCD_ENDPOINTS.name, "--endpoints", &self.endpoints),
            flag(keys::ELECTION_PREFIX.name, "--election", &self.election),
        ]
        .into_iter()
        .flatten()
        .collect();
        source
    }

    /// As [`source`](Self::source), for a command that runs no job, and that a job may run: what the
    /// daemon told its job outranks the file, unless the user names another, and is outranked by
    /// `INCUMBENT__…`. The job may be one in Rust that this binary doesn't have.
    pub(super) fn source_in_job(&self) -> Source {
        let mut source = self.source();
        source.ignores_job = true;
        if self.config.is_some() {
            return source;
        }
        let handed = Handed::of_source(&source);
        if let Some(handed) = &handed {
            handed.apply(&mut source, client::settings(handed, NOW_LIMIT));
        }
        for (variable, key) in OF_THE_JOB {
            let explicit = key.variable();
            let value = std::env::var_os(variable).unwrap_or_default();
            let is_told = handed.as_ref().is_some_and(|it| it.has(&explicit, &value));
            if is_told || is_set(&explicit) || !is_set(variable) {
                continue;
            }
            let told = Flag::text(key.name, variable, value);
            source.flags.insert(0, told);
        }
        source
    }
}

/// How a list of several things is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    Table,
    Json,
}

/// Which of several jobs a command is about.
#[derive(Debug, Args)]
pub(super) struct JobOption {
    /// The job, of those that the configuration has as [jobs.NAME]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    job: Option<String>,
}

impl JobOption {
    /// Has `source` say which.
    pub(super) fn choose(&self, source: &mut Source) {
        source.job.clone_from(&self.job);
    }
}

/// What a command is about that may be about several jobs.
#[derive(Debug)]
pub(super) enum AskedAbout {
    /// One election.
    One(Box<Config>),
    /// All jobs of a configuration that gives them names.
    All(JobConfigs),
}

/// What every command takes that asks the store and starts nothing.
#[derive(Debug, Args)]
pub(super) struct Asking {
    #[command(flatten)]
    options: CommonOptions,

    #[command(flatten)]
    job: JobOption,

    /// How long to try to reach the store in all
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = span)]
    timeout: Duration,
}

impl Asking {
    /// The configuration, which a job's daemon may have told it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn load(&self) -> Result<Config, Problems> {
        let mut source = self.options.source_in_job();
        self.job.choose(&mut source);
        config::load(&source).map(|loaded| loaded.config)
    }

    /// As [`load`](Self::load), or all jobs with names where neither one of them nor an election is
    /// named.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(super) fn load_all(&self) -> Result<AskedAbout, Problems> {
        let source = self.options.source_in_job();
        if self.job.job.is_none() && !source.names_election() {
            let configs = config::load_jobs(&source)?.configs;
            if configs.names().is_some() {
                return Ok(AskedAbout::All(configs));
            }
        }
        self.load().map(|config| AskedAbout::One(Box::new(config)))
    }

    /// The patience that begins now.
    pub(super) fn patience(&self, store: &Store) -> Patience {
        Patience::new(store, self.timeout)
    }
}

/// Who asks for something, as the record of it says.
pub(super) fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| {
            let user = std::env::var(name).ok();
            user.filter(|user| !user.is_empty())
        });
    let user = user.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname();
    format!("{user}@{}", host.nodename().to_string_lossy())
}

/// Reads a time to wait.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("expected a time longer than nothing".to_owned()),
        Ok(span) => Ok(span),
        Err(_) => Err("expected a time with a unit, such as 500ms or 5s".to_owned()),
    }
}

/// Runs a command that waits, on this thread.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(command);
    // Nothing that is under way yet may hold up the answer.
    runtime.shutdown_background();
    outcome
}

/// The configuration of `loaded`, after a word on what is odd with it.
pub(super) fn warned(loaded: Loaded) -> Config {
    warn(&loaded.warnings);
    loaded.config
}

/// As [`warned`], of all jobs.
pub(super) fn warned_of(loaded: LoadedJobs) -> JobConfigs {
    warn(&loaded.warnings);
    loaded.configs
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        output::complain(format_args!("warning: {warning}"));
    }
}

/// Whether a variable of the environment is set to something.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}
