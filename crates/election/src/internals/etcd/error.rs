//! What can go wrong with one attempt, sorted by what the caller does next.

use std::error::Error as _;
use std::time::Duration;

use etcd_client::Error as Cause;

use crate::revision::Revision;

/// Why an attempt has no answer, or not the one that was hoped for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The member was silent; a write may be applied, now or later.
    #[error("{endpoint}: no answer within {} ms", limit.as_millis())]
    Timeout {
        /// The member that was asked.
        endpoint: String,
        /// How long it had.
        limit: Duration,
    },
    /// The member can't be reached, has no leader or failed; a write may be applied.
    #[error("{endpoint}: {reason}")]
    Unreachable {
        /// The member that was asked.
        endpoint: String,
        /// What the member or the way to it said.
        reason: String,
    },
    /// The token has expired, or was never valid.
    #[error("{endpoint}: {reason}")]
    Unauthenticated {
        /// The member that was asked.
        endpoint: String,
        /// What the member said.
        reason: String,
    },
    /// The store knows no such user with this password.
    #[error("{endpoint}: {reason}")]
    LoginRefused {
        /// The member that was asked.
        endpoint: String,
        /// What the member said.
        reason: String,
    },
    /// It isn't a member of the store, but a proxy of etcd's before it: what it says of a lease
    /// proves nothing (R1).
    #[error(
        "{endpoint}: this is etcd's grpc-proxy, through which no renewal of a lease can be proven: \
         {setting} must name the members themselves"
    )]
    Proxied {
        /// The endpoint.
        endpoint: String,
        /// The setting that names it.
        setting: &'static str,
    },
    /// The lease is expired or revoked. Nothing was written.
    #[error("the lease is gone")]
    LeaseGone,
    /// A lease of this id has been granted before.
    #[error("the lease exists already")]
    LeaseExists,
    /// A watch or a read asked for history that is gone.
    #[error("compacted; the oldest revision is {oldest}")]
    Compacted {
        /// The oldest revision that can still be read; 0 if the store didn't say.
        oldest: Revision,
    },
    /// The store understood and said no; nothing was written, and asking again won't help.
    #[error("{endpoint}: refused: {reason}")]
    Refused {
        /// The member that was asked.
        endpoint: String,
        /// What the store said.
        reason: String,
    },
    /// The member is of another cluster than the one that is believed: what it says is of no store
    /// of ours.
    #[error("{endpoint}: a member of cluster {cluster:x}, not of {expected:x}")]
    Stranger {
        /// The member that was asked.
        endpoint: String,
        /// Its cluster.
        cluster: u64,
        /// The one that is believed.
        expected: u64,
    },
    /// The endpoints don't agree on a cluster, and none was believed before.
    #[error("{0}")]
    Disputed(String),
    /// It isn't the cluster, or not the history, that we knew (R12).
    #[error("the cluster has changed: {0}")]
    ClusterChanged(String),
    /// A file that the connection needs can't be read.
    #[error("{0}")]
    Credentials(String),
}

impl Error {
    /// Whether the store has said its last word: asking it again won't help.
    pub const fn is_definite(&self) -> bool {
        matches!(
            self,
            Self::LeaseGone
                | Self::LeaseExists
                | Self::Compacted { .. }
                | Self::Refused { .. }
                | Self::Proxied { .. }
                | Self::ClusterChanged(_)
        )
    }

    /// Whether another member might do better.
    pub const fn blames_member(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. }
                | Self::Unreachable { .. }
                | Self::Unauthenticated { .. }
                | Self::LoginRefused { .. }
                | Self::Proxied { .. }
                | Self::Stranger { .. }
                | Self::Credentials(_)
        )
    }

    /// Whether the same may succeed later, or on another member.
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. }
                | Self::Unreachable { .. }
                | Self::Unauthenticated { .. }
                | Self::LoginRefused { .. }
                | Self::Stranger { .. }
        )
    }

    /// Whether a write that ended so may be applied, now or later. What can't be the store that was known
    /// has answered all the same.
    pub const fn leaves_doubt(&self) -> bool {
        self.may_pass() || matches!(self, Self::ClusterChanged(_))
    }

    /// Whether it is what a member said of the store or of us, without saying of which cluster it is.
    pub(super) const fn is_an_answer(&self) -> bool {
        matches!(
            self,
            Self::LeaseGone
                | Self::LeaseExists
                | Self::Compacted { .. }
                | Self::Refused { .. }
                | Self::Unauthenticated { .. }
                | Self::LoginRefused { .. }
        )
    }

    /// Sorts what the client crate says of an attempt on `endpoint`.
    ///
    /// The code alone does not tell what happened (etcd uses `Unavailable` for errors of both
    /// kinds), so what isn't known to be definite is taken as ambiguous.
    pub(super) fn classify(endpoint: &str, cause: &Cause) -> Self {
        let endpoint = endpoint.to_owned();
        let reason = describe(cause);
        match cause {
            Cause::GRpcStatus(status) => match status.code() as i32 {
                NOT_FOUND if reason.contains("lease not found") => Self::LeaseGone,
                FAILED_PRECONDITION if reason.contains("lease already exists") => Self::LeaseExists,
                OUT_OF_RANGE if reason.contains("compacted") => Self::Compacted {
                    oldest: Revision::default(),
                },
                UNAUTHENTICATED => Self::Unauthenticated { endpoint, reason },
                // A token or a password that is out of date: connecting anew reads the file again.
                INVALID_ARGUMENT if LOGIN_ERRORS.iter().any(|word| reason.contains(word)) => {
                    Self::Unauthenticated { endpoint, reason }
                }
                RESOURCE_EXHAUSTED if LASTING_LACKS.iter().any(|lack| reason.contains(lack)) => {
                    Self::Refused { endpoint, reason }
                }
                // By a learner, or in the midst of an upgrade: the other members serve it.
                FAILED_PRECONDITION | UNIMPLEMENTED
                    if OF_THIS_MEMBER.iter().any(|word| reason.contains(word)) =>
                {
                    Self::Unreachable { endpoint, reason }
                }
                INVALID_ARGUMENT | NOT_FOUND | ALREADY_EXISTS | PERMISSION_DENIED
                | FAILED_PRECONDITION | OUT_OF_RANGE | UNIMPLEMENTED => {
                    Self::Refused { endpoint, reason }
                }
                _ => Self::Unreachable { endpoint, reason },
            },
            Cause::LeaseKeepAliveError(text) if text.contains("lease not found") => Self::LeaseGone,
            Cause::InvalidArgs(_) | Cause::InvalidUri(_) => Self::Refused { endpoint, reason },
            _ => Self::Unreachable { endpoint, reason },
        }
    }

    /// Whether this is a watch's cancellation for an expired token: the stream itself stays open
    /// and silent then, and the crate's own refresh doesn't see it.
    pub(super) fn from_cancellation(endpoint: &str, reason: &str) -> Self {
        let endpoint = endpoint.to_owned();
        let reason = if reason.is_empty() {
            "the watch was cancelled".to_owned()
        } else {
            reason.to_owned()
        };
        if reason.contains("auth token") || reason.contains("Unauthenticated") {
            Self::Unauthenticated { endpoint, reason }
        } else if reason.contains("permission denied") {
            Self::Refused { endpoint, reason }
        } else {
            Self::Unreachable { endpoint, reason }
        }
    }
}

// gRPC's status codes, by number: the crate that names them is not ours to depend on.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// What etcd says of a login: "authentication failed", "revision of auth store is old" after any
/// change of a user, and "user name is empty" where authentication was turned on since.
const LOGIN_ERRORS: [&str; 2] = ["auth", "user name is empty"];

/// What one member can't do though others can; etcd 3.6 says both as a failed precondition.
const OF_THIS_MEMBER: [&str; 2] = ["not supported for learner", "not capable"];

/// What resources are exhausted for good: others, such as a rate, come back.
const LASTING_LACKS: [&str; 3] = ["database space exceeded", "larger than max", "too large"];

/// The text of `cause` and of what lies under it; the crate's own error hides its source.
fn describe(cause: &Cause) -> String {
    let (mut text, mut source) = match cause {
        Cause::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        Cause::TransportError(error) => (error.to_string(), error.source()),
        other => (other.to_string(), None),
    };
    while let Some(deeper) = source {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = deeper.source();
    }
    text
}
