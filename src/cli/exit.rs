//! How a command ends that did not do what it was asked to.

use std::process::ExitCode;

use super::output;
use crate::config::Problems;
use crate::etcd::{self, patience};
use crate::kv;
use crate::runtime_dir;

/// Failed at run time.
const FAILED: u8 = 1;

/// Wrong usage, where clap doesn't see it.
const USAGE: u8 = 2;

/// Refused: not the leader, or a write that must not be.
const REFUSED: u8 = 3;

/// The store can't be reached (`EX_UNAVAILABLE` of sysexits).
const UNREACHABLE: u8 = 69;

/// The configuration is wrong (`EX_CONFIG` of sysexits).
const BAD_CONFIG: u8 = 78;

/// Why a command did not do it, by the exit code that follows.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The configuration is well formed, and what it names can't be what the user meant.
    #[error("{0}")]
    Misconfigured(String),
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The runtime directory can't be had.
    #[error("{}", chain(.0))]
    RuntimeDir(runtime_dir::Error),
    /// The store gave no answer within the time there was.
    #[error("{0}")]
    Unreachable(String),
    /// Refused; nothing was written.
    #[error("refused: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// Nobody reads our standard output any more.
    #[error("standard output is closed")]
    Closed,
}

impl Failure {
    /// Says it on standard error, and returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            // These begin each line with our name themselves.
            Self::Config(problems) => output::complain_in_lines(problems.lines()),
            Self::RuntimeDir(_) => {
                output::complain(self);
                output::complain("nothing was started");
            }
            // The reader wanted no more, which is nobody's fault.
            Self::Closed => {}
            other => output::complain(other),
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(problems) if problems.may_pass() => FAILED,
            Self::Config(_) | Self::Misconfigured(_) => BAD_CONFIG,
            Self::RuntimeDir(error) if error.is_the_users() => BAD_CONFIG,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Refused(_) => REFUSED,
            Self::RuntimeDir(_) | Self::Failed(_) => FAILED,
            Self::Closed => 0,
        }
    }
}

/// An error and what it comes of.
fn chain(error: &runtime_dir::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl From<patience::Failure> for Failure {
    fn from(failure: patience::Failure) -> Self {
        match failure {
            patience::Failure::TimedOut { .. } => Self::Unreachable(failure.to_string()),
            patience::Failure::Store(error) => error.into(),
        }
    }
}

impl From<etcd::Error> for Failure {
    fn from(error: etcd::Error) -> Self {
        match error {
            etcd::Error::Disputed(why) => Self::Misconfigured(why),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<kv::Error> for Failure {
    fn from(error: kv::Error) -> Self {
        match error {
            kv::Error::Store(failure) => failure.into(),
            kv::Error::NotLeader { .. } | kv::Error::NotOpen { .. } => {
                Self::Refused(error.to_string())
            }
            kv::Error::InDoubt(patience::Failure::TimedOut { .. })
            | kv::Error::Overwritten(_)
            | kv::Error::NoRecord => Self::Unreachable(error.to_string()),
            kv::Error::InDoubt(_) | kv::Error::Overtaken { .. } | kv::Error::Compacted { .. } => {
                Self::Failed(error.into())
            }
        }
    }
}
