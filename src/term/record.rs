//! The records that candidates leave under `<prefix>.meta/`, for people and for successors.

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::keys::LeaseId;

/// `members/<lease>`: who stands behind a candidate key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The candidate's name.
    pub name: String,
    /// The host it runs on.
    pub host: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// When it joined, RFC 3339 in UTC.
    pub since: String,
    /// mod_revision of the pause that it heeds, if it ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<i64>,
}

impl Member {
    /// The record of a candidate in this process, joining now.
    pub fn of_this_process(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            host: host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: clock::wall_time(),
            paused: None,
        }
    }
}

impl Member {
    /// The record as JSON, once its candidate heeds the pause with this mod_revision.
    pub(crate) fn heeding(&self, paused_at: i64) -> String {
        let member = Self {
            paused: Some(paused_at),
            ..self.clone()
        };
        serde_json::to_string(&member).unwrap_or_default()
    }
}

/// The name of this host.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// `term`: who leads, or led last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The fencing token.
    pub token: i64,
    /// The candidate's name.
    pub candidate: String,
    /// The lease of its candidacy.
    pub lease: LeaseId,
    /// The host it ran on.
    pub host: String,
    /// When the claim was complete, RFC 3339 in UTC.
    pub since: String,
}

/// `terms/<token>`: a term that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastTerm {
    /// The term as it was on record.
    #[serde(flatten)]
    pub term: Term,
    /// When it ended, RFC 3339 in UTC; `None` if its own daemon didn't say.
    pub ended: Option<String>,
    /// Why it ended.
    pub reason: String,
}

impl PastTerm {
    /// The record of a term that has ended just now.
    pub fn ended_now(term: Term, reason: &str) -> Self {
        Self {
            term,
            ended: Some(clock::wall_time()),
            reason: reason.to_owned(),
        }
    }

    /// The record of a term whose own daemon may not have come to writing it.
    pub fn unexplained(term: Term) -> Self {
        Self {
            term,
            ended: None,
            reason: "unknown".to_owned(),
        }
    }
}

/// `control/pause`: nobody new starts a job while it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who asked.
    pub by: String,
    /// When, RFC 3339 in UTC.
    pub since: String,
    /// Whether the leader keeps its place and its job.
    pub keep_leader: bool,
}

/// `control/step-down`: one term is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDown {
    /// Who asked.
    pub by: String,
    /// When, RFC 3339 in UTC.
    pub since: String,
    /// The token of the term that is meant; no other obeys.
    pub token: i64,
    /// The lease of the candidate that is to follow.
    pub to: Option<String>,
    /// Even with no other candidate there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// The decimal number in `value`; `None` if it is anything else.
///
/// Numbers are decimal text, and compared by us: etcd compares bytes.
pub fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
