//! The records that candidates leave under `<prefix>.meta/`, for people and for successors.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::keys::LeaseId;
use crate::reason::EndReason;
use crate::revision::{Revision, Token};
use crate::schedule::record::Verdict;

/// `members/<lease>`: who stands behind a candidate key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
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
    pub paused: Option<Revision>,
    /// Digest of the settings that all replicas of an election should share; older versions leave
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What of its job was sent SIGKILL and lives on, the first of it; as long as it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unkillable: Vec<Unkillable>,
    /// Its turn at the cold start that it joined in; none for who joined later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
}

/// When a host's turn was to join a job that nobody stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// How many of the hosts in sight came before it.
    pub rank: u32,
    /// How many hosts it had in sight, itself among them.
    pub hosts: u32,
}

/// A process of a job that can't be killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkillable {
    /// Its process id.
    pub pid: u32,
    /// The user that it acts as.
    pub user: String,
    /// What it calls itself.
    pub command: String,
}

impl Unkillable {
    /// How many of them a record names at most: it is one value, and a job may be thousands.
    const MOST: usize = 20;

    /// These, as a record names them.
    pub fn first_of(them: impl IntoIterator<Item: Into<Self>>) -> Vec<Self> {
        them.into_iter().take(Self::MOST).map(Into::into).collect()
    }
}

impl fmt::Display for Unkillable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.pid, self.user, self.command)
    }
}

impl MemberRecord {
    /// The record of a candidate in this process, joining now.
    pub fn of_this_process(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            host: host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: clock::wall_time(),
            paused: None,
            digest: None,
            unkillable: Vec::new(),
            turn: None,
        }
    }

    /// The same, whose turn that was.
    #[must_use]
    pub const fn in_turn(mut self, turn: Option<Turn>) -> Self {
        self.turn = turn;
        self
    }

    /// The same, by settings with this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Option<String>) -> Self {
        self.digest = digest;
        self
    }
}

impl MemberRecord {
    /// The record as JSON, once its candidate heeds the pause with this mod_revision.
    pub fn heeding(&self, paused_at: Revision) -> String {
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
pub struct TermRecord {
    /// The fencing token.
    pub token: Token,
    /// The candidate's name.
    pub candidate: String,
    /// The lease of its candidacy.
    pub lease: LeaseId,
    /// The host it ran on.
    pub host: String,
    /// When the claim was complete, RFC 3339 in UTC.
    pub since: String,
    /// K of the term: how long its job may take to be dead after its lease has ended early. Older
    /// versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_budget_ms: Option<u64>,
}

/// `terms/<token>`: a term that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastTerm {
    /// The term as it was on record.
    #[serde(flatten)]
    pub term: TermRecord,
    /// When it ended, RFC 3339 in UTC; `None` if its own daemon didn't say.
    pub ended: Option<String>,
    /// Why it ended: the word of an [`EndReason`], or one that a newer version knows.
    pub reason: String,
}

impl PastTerm {
    /// The record of a term whose job was proven dead at `ended`, RFC 3339 in UTC.
    pub fn ended_at(term: TermRecord, ended: String, reason: EndReason) -> Self {
        Self {
            term,
            ended: Some(ended),
            reason: reason.to_string(),
        }
    }

    /// The record of a term whose own daemon may not have come to writing it.
    pub fn unexplained(term: TermRecord) -> Self {
        Self {
            term,
            ended: None,
            reason: EndReason::Unknown.to_string(),
        }
    }
}

/// `control/pause`: nobody new starts a job while it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
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
    pub token: Token,
    /// The lease of the candidate that is to follow.
    pub to: Option<String>,
    /// Even with no other candidate there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Only while no run goes on or is claimed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub between_runs: bool,
}

/// `control/trigger`: a scheduled job is to run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Who asked.
    pub by: String,
    /// When, RFC 3339 in UTC.
    pub since: String,
    /// The token of the term that is meant, of which no other heeds it; any, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Whether it waits for the end of a run that is open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub queue: bool,
    /// What the leader made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<TriggerAnswer>,
}

/// What a leader made of a wish for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerAnswer {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The number of the last record of a run then: the first run for `manual` with a higher one is
    /// this, or if it is queued, the first that is claimed after the one that is open.
    pub seq: u64,
}

/// A record as it was found under its key.
///
/// One that can't be read is there all the same: what it is to forbid or to tell of must not come
/// to pass because of a slip in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<T> {
    /// It says this.
    Read(T),
    /// It is no such record.
    Unreadable,
}

impl<T> Record<T> {
    /// What it says, if it can be read.
    pub fn read(self) -> Option<T> {
        match self {
            Self::Read(record) => Some(record),
            Self::Unreadable => None,
        }
    }

    /// The same, by reference.
    pub const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Read(record) => Some(record),
            Self::Unreadable => None,
        }
    }

    /// Whether it can't be read.
    pub const fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable)
    }
}

/// Reads a record in JSON: [`MemberRecord`], [`TermRecord`], [`PastTerm`], [`PauseRecord`] or [`StepDown`].
pub fn json<T: serde::de::DeserializeOwned>(value: &[u8]) -> Record<T> {
    serde_json::from_slice(value).map_or(Record::Unreadable, Record::Read)
}

/// Reads a record that is a token: a decimal number that is not negative, zero for none.
///
/// Numbers are decimal text, and compared by us: etcd compares bytes.
pub fn number(value: &[u8]) -> Record<Option<Token>> {
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.trim().parse().ok());
    let token = number.filter(|number: &i64| *number >= 0);
    token.map_or(Record::Unreadable, |number| {
        Record::Read(Token::new(number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_can_not_be_read_is_there() {
        for text in ["", "{", "{}", r#"{"by":"x","since":"s"}"#, "17"] {
            assert!(
                json::<PauseRecord>(text.as_bytes()).is_unreadable(),
                "{text}"
            );
        }
        for text in ["", "x", "-1", "99999999999999999999", "1.5"] {
            assert!(number(text.as_bytes()).is_unreadable(), "{text}");
        }
        assert_eq!(number(b" 17\n"), Record::Read(Token::new(17)));
    }

    #[test]
    fn a_term_on_record_of_an_older_version_is_read() {
        let older = r#"{"token":5,"candidate":"a","lease":"1f","host":"h","since":"s"}"#;
        let term: TermRecord = json(older.as_bytes()).read().unwrap();
        assert_eq!(term.kill_budget_ms, None);
        assert_eq!(serde_json::to_string(&term).unwrap(), older);
    }
}
