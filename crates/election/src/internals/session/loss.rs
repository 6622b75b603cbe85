//! Why a session, and with it a term, is over.

use crate::etcd::Error;
use crate::reason::EndReason;

/// Why the lease, or the term that it carried, is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The deadline came before another renewal was proven.
    Expired,
    /// The store says that the lease is gone, before its time.
    Revoked,
    /// The own key is deleted or made anew.
    Deleted,
    /// The store isn't the one that granted the lease, or has lost part of its history.
    ClusterChanged(String),
    /// The store refuses what the candidacy needs, and says why.
    Refused(Error),
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
        match self {
            Self::Expired => f.write_str("no renewal was proven before the deadline"),
            Self::Revoked => f.write_str("the lease is gone before its time"),
            Self::Deleted => f.write_str("the key was deleted or made anew"),
            Self::ClusterChanged(what) => write!(f, "the cluster has changed: {what}"),
            Self::Refused(_) => f.write_str("etcd has said no"),
            Self::Closed => f.write_str("the session was closed"),
        }
    }
}

impl std::error::Error for Loss {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}
