//! The configuration: built-in defaults, file, environment, flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub mod advice;
pub mod timing;

/// Everything a command needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, absolute; `None` for the built-in defaults.
    pub file: Option<PathBuf>,
    /// `candidate.name`.
    pub candidate_name: String,
    /// `etcd.*`.
    pub etcd: crate::etcd::Settings,
    /// `election.*`.
    pub election: Election,
    /// `job.*`.
    pub job: Job,
    /// `runtime_dir`, absolute.
    pub runtime_dir: PathBuf,
    /// `http.listen`.
    pub http_listen: Option<SocketAddr>,
    /// `log.*`.
    pub log: crate::log::Settings,
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
#[derive(Clone, Debug)]
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
