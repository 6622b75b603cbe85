//! Why a session, and with it a term, is over.

use crate::etcd::Error;
use crate::reason::EndReason;

/// Why the lease, or the term that it carried, is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The deadline came before another renewal was proven.
    Expired,
    /// The store says that the lease is gone, before its time.
    Revoked,
    /// The own key is deleted or made anew.
    Deleted,
    /// The store isn't the one that granted the lease, or has lost part of its history.
    ClusterChanged(String),
    /// The store refuses to renew, and says why.
    Refused(String),
    /// The session was closed.
    Closed,
}

impl Loss {
    /// What it makes a term end for.
    pub const fn reason(&self) -> EndReason {
        match self {
            Self::Expired => EndReason::Expired,
            Self::Revoked => EndReason::Revoked,
            Self::Deleted => EndReason::Deleted,
            Self::ClusterChanged(_) => EndReason::ClusterChanged,
            Self::Refused(_) => EndReason::Refused,
            Self::Closed => EndReason::Closed,
        }
    }

    /// The loss that an error of a renewal means at once; `None` if it may be tried again.
    pub(super) fn from_error(error: &Error) -> Option<Self> {
        match error {
            Error::LeaseGone => Some(Self::Revoked),
            Error::ClusterChanged(what) => Some(Self::ClusterChanged(what.clone())),
            _ => None,
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason().word())?;
        match self {
            Self::ClusterChanged(what) | Self::Refused(what) => write!(f, ": {what}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Loss {}
