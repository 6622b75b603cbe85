//! How a command ends that did not do what it was asked to.

use std::process::ExitCode;

use super::output;
use crate::config::Problems;
use crate::etcd;

/// Failed at run time.
pub(super) const FAILED: u8 = 1;

/// Refused: not the leader, or a write that must not be.
pub(super) const REFUSED: u8 = 3;

/// The store can't be reached (`EX_UNAVAILABLE` of sysexits).
pub(super) const UNREACHABLE: u8 = 69;

/// The configuration is wrong (`EX_CONFIG` of sysexits).
pub(super) const BAD_CONFIG: u8 = 78;

/// Why a command did not do it, by the exit code that follows.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
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
            Self::Config(problems) => output::complain_as_is(problems),
            // The reader wanted no more, which is nobody's fault.
            Self::Closed => {}
            other => output::complain(other),
        }
        ExitCode::from(self.code())
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Config(_) => BAD_CONFIG,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Refused(_) => REFUSED,
            Self::Failed(_) => FAILED,
            Self::Closed => 0,
        }
    }
}

impl From<etcd::Error> for Failure {
    fn from(error: etcd::Error) -> Self {
        if error.is_unreachable() {
            Self::Unreachable(format!("the store is unreachable: {error}"))
        } else {
            Self::Failed(error.into())
        }
    }
}
