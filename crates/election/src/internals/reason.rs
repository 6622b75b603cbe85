//! Why a term, or a candidacy, is over: one list, which log, metrics, page and history are written from.

use std::fmt;

/// Declares the reasons with the words that stand for them wherever they are read.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $word:literal,)*) => {
        /// Why a term, or a candidacy, is over.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EndReason {
            $($(#[$doc])* $reason,)*
        }

        impl EndReason {
            /// All of them, by their words.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$reason),*];

            /// The word for logs, metrics and records.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$reason => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// The session was closed.
    Closed = "closed",
    /// The store isn't the one that granted the lease, or has lost part of its history.
    ClusterChanged = "cluster_changed",
    /// The daemon was lost, and its guardian gave the term back.
    DaemonLost = "daemon_lost",
    /// No renewal was proven in time.
    Deadline = "deadline",
    /// The candidate key was deleted or made anew.
    Deleted = "deleted",
    /// The store says that the lease has run out.
    Expired = "expired",
    /// The guardian died, or was silent for too long.
    Guardian = "guardian",
    /// The hook before the job failed.
    HookRefused = "hook_refused",
    /// A Rust job didn't end in time.
    JobStuck = "job_stuck",
    /// The store, or a rule, refuses what a term needs.
    Refused = "refused",
    /// It was given back on purpose.
    Resigned = "resigned",
    /// The lease was revoked before its time.
    Revoked = "revoked",
    /// The check failed.
    Unhealthy = "unhealthy",
    /// The daemon was lost, and its unit's stop hook gave the term back.
    UnitFailed = "unit_failed",
    /// Nobody wrote down why.
    Unknown = "unknown",
    /// The store wasn't reached before there was a lease.
    Unreachable = "unreachable",
}

impl EndReason {
    /// The reason that `word` stands for; `None` if only a newer version knows it.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// Whether its daemon ended the term on purpose.
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Resigned | Self::Unhealthy | Self::HookRefused)
    }

    /// Whether a daemon may have to say it of a term of its own. The others are said by who comes
    /// after it, or of candidacies that never led.
    pub const fn is_of_own_term(self) -> bool {
        match self {
            Self::ClusterChanged
            | Self::Deadline
            | Self::Deleted
            | Self::Expired
            | Self::Guardian
            | Self::HookRefused
            | Self::JobStuck
            | Self::Refused
            | Self::Resigned
            | Self::Revoked
            | Self::Unhealthy => true,
            Self::Closed
            | Self::DaemonLost
            | Self::UnitFailed
            | Self::Unknown
            | Self::Unreachable => false,
        }
    }

    /// Whether only an operator can mend it, so that standing again soon is of no use.
    pub const fn needs_operator(self) -> bool {
        matches!(self, Self::ClusterChanged | Self::Refused)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_back_from_its_word() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::read(reason.word()), Some(reason));
        }
        assert!(EndReason::ALL.is_sorted_by_key(|reason| reason.word()));
    }

    #[test]
    fn the_word_of_a_newer_version_is_none_of_ours() {
        assert_eq!(EndReason::read("struck_by_lightning"), None);
    }
}
