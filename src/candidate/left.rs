//! How giving a lease back came out.

use crate::session::Loss;

/// How giving a lease back came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The store has revoked the lease.
    Revoked,
    /// The lease was gone before.
    Gone,
    /// The store did not say.
    Unconfirmed,
}

impl Left {
    /// Why the term ended: a key that was gone was deleted, or its lease revoked, which only the
    /// giving back tells.
    pub(super) fn explain(self, reason: &'static str) -> &'static str {
        if self == Self::Gone && reason == Loss::Deleted.reason() {
            Loss::Revoked.reason()
        } else {
            reason
        }
    }
}
