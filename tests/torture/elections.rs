//! The two elections of a run, on one cluster: each with replicas, a record and a lock of its own.

use std::sync::LazyLock;

use crate::common::{Record, Sandbox};

/// Whose job runs all the time, or at slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Election {
    Steady,
    Scheduled,
}

/// Both.
pub(crate) const ELECTIONS: [Election; 2] = [Election::Steady, Election::Scheduled];

impl Election {
    /// Of this run alone: whoever starts fences what others left in the same one.
    pub(crate) fn prefix(self) -> &'static str {
        static STEADY: LazyLock<String> =
            LazyLock::new(|| format!("/tortured-{}", std::process::id()));
        static SCHEDULED: LazyLock<String> =
            LazyLock::new(|| format!("/scheduled-{}", std::process::id()));
        match self {
            Self::Steady => &STEADY,
            Self::Scheduled => &SCHEDULED,
        }
    }

    /// What stands in the queue under this key, if it is one of its candidates.
    pub(crate) fn has(self, key: &str) -> bool {
        let rest = key.strip_prefix(self.prefix());
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// How its replicas are called; a number follows.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Steady => 'r',
            Self::Scheduled => 's',
        }
    }

    /// What its jobs and hooks record.
    pub(crate) fn record(self, sandbox: &Sandbox) -> Record {
        Record::new(sandbox, self.letter().to_string().as_str())
    }

    /// The file that all of them lock, in the sandbox.
    pub(crate) fn lock(self) -> &'static str {
        match self {
            Self::Steady => "r.lock",
            Self::Scheduled => "s.lock",
        }
    }
}

/// The prefix of the one whose job runs all the time.
pub(crate) fn prefix() -> &'static str {
    Election::Steady.prefix()
}
