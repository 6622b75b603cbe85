//! The configuration: built-in defaults, then a file, then `INCUMBENT__…` variables, then flags.
//!
//! Every command calls [`load`] with its [`Source`], and gets either a checked [`Config`] or
//! *all* that is wrong, each with its place. Loading goes in stages, a module each: [`source`]
//! finds the file, `toml_file` reads it with the place of every value, `layers` has the `config`
//! crate merge it with the rest, `jobs` makes a configuration of its own of each job with a name,
//! `kinds` checks each value by its kind in the table of [`keys`], and `rules` checks what must hold
//! between them; `reading` is the way through all of these. Secrets appear in no error and no report.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod address;
mod compound;
mod environment;
mod file_path;
pub mod handed;
mod jobs;
pub mod keys;
pub mod kinds;
mod layers;
mod place;
mod reading;
mod reload;
mod report;
mod rules;
mod scheduling;
pub mod schema;
pub mod shipped;
mod signal;
pub mod source;
mod toml_file;
mod url;

pub use incumbent_election::internals::timing::{self, advice};
pub use jobs::JobConfigs;
pub use place::{Place, Problem, Problems};
pub use reload::reload;
pub use report::{check_report, ttl_warnings};
pub use scheduling::Scheduling;
pub use source::{Flag, Judge, Source};
pub use timing::Timing;

use crate::keys::JobName;
use crate::schedule::planner::Setup;
use reading::ReadConfig;
use rules::PassedValues;

/// The section that only those read who run the job, or look whether it can be.
const JOB: &str = "job";

/// Everything a command needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, absolute; `None` for the built-in defaults.
    pub file: Option<PathBuf>,
    /// The job's name, where there may be several.
    pub job_name: Option<JobName>,
    /// `candidate.name`.
    pub candidate_name: String,
    /// `candidate.check`, if it has a command.
    pub check: Option<Check>,
    /// `etcd.*`.
    pub etcd: crate::etcd::Settings,
    /// `election.*`.
    pub election: Election,
    /// `job.*`.
    pub job: Job,
    /// `job.timeout`: how long a run may take, scheduled or not.
    pub run_timeout: Option<Duration>,
    /// `job.schedule.*`, if the job is to run by one.
    pub scheduling: Option<Scheduling>,
    /// `job.prefer`: who should lead, the first before the second.
    pub prefer: Vec<String>,
    /// `job.prefer_after`.
    pub prefer_after: Duration,
    /// `hooks.*`.
    pub hooks: Hooks,
    /// `runtime_dir`, absolute.
    pub runtime_dir: PathBuf,
    /// `http.listen`.
    pub http_listen: Option<SocketAddr>,
    /// `http.hosts`.
    pub http_hosts: Vec<String>,
    /// `log.*`.
    pub log: crate::log::LogSettings,
}

impl Config {
    /// The times of a term under the configured TTL.
    pub fn timing(&self) -> Timing {
        Timing::new(self.election.ttl, self.job.lost_grace, self.job.kill_budget)
    }

    /// The same for another job beside it, of which nothing but its name is known.
    #[must_use]
    pub fn with_name(&self, name: &JobName) -> Self {
        let mut other = self.without_name();
        let prefix = format!("{}/{name}", other.election.prefix);
        other.election.prefix = crate::keys::Prefix::new(prefix);
        other.job_name = Some(name.clone());
        other
    }

    /// The same for a job without a name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        let mut other = self.clone();
        other.election.prefix = crate::keys::Prefix::new(self.root().to_owned());
        other.job_name = None;
        other
    }

    /// When the job runs, if it has a schedule.
    pub fn schedule(&self) -> Option<&crate::schedule::Schedule> {
        self.scheduling.as_ref().map(|it| &*it.schedule)
    }

    /// What a planner of the job plans by, if that has a schedule.
    pub fn planner_setup(&self) -> Option<Setup> {
        self.scheduling.as_ref().map(|scheduling| Setup {
            schedule: Arc::clone(&scheduling.schedule),
            policy: scheduling.policy.clone(),
            election: self.election.prefix.to_string(),
            host: self.candidate_name.clone(),
        })
    }

    /// The election, without the name of the job.
    pub fn root(&self) -> &str {
        let election = self.election.prefix.as_str();
        let named = self.job_name.as_ref().and_then(|name| {
            let above = election.strip_suffix(name.as_str())?;
            above.strip_suffix('/')
        });
        named.unwrap_or(election)
    }

    /// A digest of what all replicas of an election should have alike: `election.*`, `job.*` and
    /// `hooks.*`, defaults filled in.
    pub fn digest(&self) -> String {
        let mut alike = format!("{:?} {:?} {:?}", self.election, self.job, self.hooks);
        // Only where they are set, so that versions without them agree on the rest.
        alike.extend(self.run_timeout.map(|timeout| format!(" {timeout:?}")));
        let scheduling = self.scheduling.as_ref();
        alike.extend(scheduling.map(|it| format!(" {}", it.digest())));
        let preference = (!self.prefer.is_empty()).then_some((&self.prefer, self.prefer_after));
        alike.extend(preference.map(|preference| format!(" {preference:?}")));
        // FNV-1a: it is to tell slips apart, and no secret nor an enemy is behind them.
        let digest = alike
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{digest:016x}")
    }
}

/// `candidate.check.*`: what tells whether this replica may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `candidate.check.command`.
    pub command: Vec<String>,
    /// `candidate.check.interval`, from one start to the next.
    pub interval: Duration,
    /// `candidate.check.timeout`.
    pub timeout: Duration,
    /// `candidate.check.rise`: after so many successes in a row it is healthy again.
    pub rise: u32,
    /// `candidate.check.fall`: after so many failures in a row it is unhealthy.
    pub fall: u32,
}

/// `hooks.*`: what runs in a term beside the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `hooks.on_elected`: before the first run of the job.
    pub on_elected: Option<Hook>,
    /// `hooks.on_lost`: after the last.
    pub on_lost: Option<Hook>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
}

/// `election.*`.
#[derive(Clone, Debug)]
pub struct Election {
    /// `election.prefix`.
    pub prefix: crate::keys::Prefix,
    /// `election.ttl`, whole seconds.
    pub ttl: Duration,
    /// `election.takeover_delay`.
    pub takeover_delay: Duration,
}

/// `job.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// `job.kind`: `command`, or the name of a registered Rust job.
    pub kind: String,
    /// `job.command`; empty if there is none.
    pub command: Vec<String>,
    /// `job.working_dir`, absolute.
    pub working_dir: Option<PathBuf>,
    /// `job.env`.
    pub env: BTreeMap<String, String>,
    /// `job.stop_signal`, as its number.
    pub stop_signal: i32,
    /// `job.stop_grace`.
    pub stop_grace: Duration,
    /// `job.lost_grace` (G).
    pub lost_grace: Duration,
    /// `job.kill_budget` (K).
    pub kill_budget: Duration,
    /// `job.restart`.
    pub restart: Restart,
    /// `job.restart_delay`.
    pub restart_delay: Duration,
    /// `job.restart_delay_max`.
    pub restart_delay_max: Duration,
    /// `job.yield_after`.
    pub yield_after: u32,
    /// `job.yield_cooldown`.
    pub yield_cooldown: Duration,
    /// `job.settings`.
    pub settings: toml::Table,
}

/// `job.restart`: what follows when the job ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start it again.
    Always,
    /// Start it again if it failed.
    OnFailure,
    /// Give the term back.
    Never,
}

/// A configuration that passed.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the user should know though nothing is wrong; a line each, with its place.
    pub warnings: Vec<String>,
    /// What the user set, and where.
    pub set: Vec<SetByUser>,
}

/// A key that the user set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetByUser {
    /// Its name.
    pub key: String,
    /// Its value in TOML; `…` for a secret.
    pub value: String,
    /// Where.
    pub place: Place,
}

/// Configurations that passed, of all jobs of a daemon.
#[derive(Clone, Debug)]
pub struct LoadedJobs {
    /// The configurations.
    pub configs: JobConfigs,
    /// As of [`Loaded`], of all.
    pub warnings: Vec<String>,
    /// As of [`Loaded`], of all.
    pub set: Vec<SetByUser>,
}

impl LoadedJobs {
    /// That of one job alone.
    pub fn single(loaded: Loaded) -> Self {
        Self {
            configs: JobConfigs::single(loaded.config),
            warnings: loaded.warnings,
            set: loaded.set,
        }
    }
}

/// Loads and checks the configuration of one election: of several jobs, that which
/// [`source`](Source::job) names.
///
/// Blocks while it reads the file, and looks whether the files of credentials are there.
///
/// # Errors
/// All that is wrong, at once.
pub fn load(source: &Source) -> Result<Loaded, Problems> {
    let mut read = ReadConfig::new(source, true).finished()?;
    read.pop().ok_or_else(no_job)
}

/// Loads and checks the configuration of a daemon, with all of its jobs. Blocks as [`load`].
///
/// # Errors
/// All that is wrong, at once.
pub fn load_jobs(source: &Source) -> Result<LoadedJobs, Problems> {
    let read = ReadConfig::new(source, false).finished()?;
    let (mut warnings, mut set, mut configs) = (Vec::new(), Vec::new(), Vec::new());
    for loaded in read {
        // What they have in common is said once.
        let new = loaded.warnings.into_iter();
        warnings.extend(new.filter(|it| !warnings.contains(it)).collect::<Vec<_>>());
        let new = loaded.set.into_iter();
        set.extend(new.filter(|it| !set.contains(it)).collect::<Vec<_>>());
        configs.push(loaded.config);
    }
    Ok(LoadedJobs {
        configs: JobConfigs::of(configs).ok_or_else(no_job)?,
        warnings,
        set,
    })
}

/// What can't be: a configuration of no job has passed.
fn no_job() -> Problems {
    has_no_value(jobs::JOBS)
}

/// What can't be: this key has no value in a configuration that has passed.
fn has_no_value(key: &str) -> Problems {
    let what = "has no value, though nothing is wrong: a bug of incumbent";
    Problems::of(vec![Problem::new(Place::Default, key, what)])
}

/// What can be read of a configuration even where the rest has faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// `runtime_dir`, absolute.
    pub runtime_dir: PathBuf,
    /// That of the unit which reads the same file, where nobody has set one.
    pub of_unit: Option<PathBuf>,
    /// `log.*`.
    pub log: crate::log::LogSettings,
}

/// What can be read, whatever else is wrong by now. The unit's stop hook must find what the daemon
/// left, and can't read the credentials that the configuration names; `reload` must find the daemon.
pub fn readable(source: &Source) -> Readable {
    let ReadConfig { found, shared, .. } = ReadConfig::new(source, false);
    let settings = shared;
    let runtime_dir = settings.get(keys::RUNTIME_DIR);
    let file = found.as_ref().map(|found| found.path.as_path());
    let of_unit = source.runtime_dir_of_unit(file);
    Readable {
        of_unit: of_unit.filter(|_| !settings.is_set(&keys::RUNTIME_DIR)),
        runtime_dir: runtime_dir.unwrap_or_else(|| source.runtime_dir()),
        log: log(&settings),
    }
}

/// `log.*`; a default where a value is none.
fn log(settings: &PassedValues) -> crate::log::LogSettings {
    let defaults = crate::log::LogSettings::default();
    let format = settings.get(keys::LOG_FORMAT);
    crate::log::LogSettings {
        filter: settings.get(keys::LOG_FILTER).unwrap_or(defaults.filter),
        format: match format.as_deref() {
            Some("json") => crate::log::Format::Json,
            Some("journald") => crate::log::Format::Journald,
            _ => crate::log::Format::Text,
        },
    }
}

/// The configuration that the settings make.
///
/// # Errors
/// The name of a key that must have a value, and has none.
fn assemble(
    settings: &PassedValues,
    file: Option<PathBuf>,
    job_name: Option<JobName>,
) -> Result<Config, &'static str> {
    let chosen = settings.chosen().ok_or(keys::ELECTION_TTL.name)?;
    let timing = chosen.timing();
    let hook = |command, limit| -> Result<Option<Hook>, &str> {
        let limit = settings.need(limit)?;
        let command = settings.get(command);
        Ok(command.map(|command| Hook { command, limit }))
    };
    Ok(Config {
        file,
        job_name,
        candidate_name: settings.need(keys::CANDIDATE_NAME)?,
        check: match settings.get(keys::CANDIDATE_CHECK_COMMAND) {
            Some(command) => Some(Check {
                command,
                interval: settings.need(keys::CANDIDATE_CHECK_INTERVAL)?,
                timeout: settings.need(keys::CANDIDATE_CHECK_TIMEOUT)?,
                rise: settings.need(keys::CANDIDATE_CHECK_RISE)?,
                fall: settings.need(keys::CANDIDATE_CHECK_FALL)?,
            }),
            None => None,
        },
        etcd: crate::etcd::Settings {
            connect_timeout: settings.need(keys::ETCD_CONNECT_TIMEOUT)?,
            username: settings.get(keys::ETCD_USERNAME),
            password_file: settings.get(keys::ETCD_PASSWORD_FILE),
            tls: crate::etcd::Tls {
                ca_file: settings.get(keys::ETCD_TLS_CA_FILE),
                cert_file: settings.get(keys::ETCD_TLS_CERT_FILE),
                key_file: settings.get(keys::ETCD_TLS_KEY_FILE),
                server_name: settings.get(keys::ETCD_TLS_SERVER_NAME),
            },
            ..crate::etcd::Settings::new(settings.need::<Vec<String>>(keys::ETCD_ENDPOINTS)?)
        },
        election: Election {
            prefix: crate::keys::Prefix::new(settings.need(keys::ELECTION_PREFIX)?),
            ttl: chosen.ttl,
            takeover_delay: chosen.takeover_delay(),
        },
        job: Job {
            kind: settings.need(keys::JOB_KIND)?,
            command: settings.get(keys::JOB_COMMAND).unwrap_or_default(),
            working_dir: settings.get(keys::JOB_WORKING_DIR),
            env: settings.get(keys::JOB_ENV).unwrap_or_default(),
            stop_signal: settings.need(keys::JOB_STOP_SIGNAL)?,
            stop_grace: settings.need(keys::JOB_STOP_GRACE)?,
            lost_grace: timing.lost_grace(),
            kill_budget: timing.kill_budget(),
            restart: match settings.need(keys::JOB_RESTART)?.as_str() {
                "on-failure" => Restart::OnFailure,
                "never" => Restart::Never,
                _ => Restart::Always,
            },
            restart_delay: settings.need(keys::JOB_RESTART_DELAY)?,
            restart_delay_max: settings.need(keys::JOB_RESTART_DELAY_MAX)?,
            yield_after: settings.need(keys::JOB_YIELD_AFTER)?,
            yield_cooldown: settings.need(keys::JOB_YIELD_COOLDOWN)?,
            settings: settings.get(keys::JOB_SETTINGS).unwrap_or_default(),
        },
        run_timeout: settings.get(keys::JOB_TIMEOUT).flatten(),
        scheduling: scheduling::assemble(settings)?,
        prefer: settings.get(keys::JOB_PREFER).unwrap_or_default(),
        prefer_after: settings.need(keys::JOB_PREFER_AFTER)?,
        hooks: Hooks {
            on_elected: hook(keys::HOOKS_ON_ELECTED, keys::HOOKS_ON_ELECTED_TIMEOUT)?,
            on_lost: hook(keys::HOOKS_ON_LOST, keys::HOOKS_ON_LOST_TIMEOUT)?,
        },
        runtime_dir: settings.need(keys::RUNTIME_DIR)?,
        http_listen: settings.need(keys::HTTP_LISTEN)?,
        http_hosts: settings.need(keys::HTTP_HOSTS)?,
        log: log(settings),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_a_value_is_named_even_where_nothing_is_wrong() {
        let missing = assemble(&PassedValues::default(), None, None).unwrap_err();
        assert_eq!(missing, "election.ttl");
    }
}
