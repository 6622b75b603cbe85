//! Reads and writes of the store's keys, for `incumbent kv` and the interface, within a total time.
//!
//! Reads are repeated on another member until one answers. Writes need more care, for a write that
//! timed out may be applied later on (R10):
//!
//! - Every write is preceded by a linearizable read of its keys. It finds a member that works, so
//!   a hung or dead one costs a read that does no harm, and hardly ever leaves a write in doubt.
//! - A put carries the condition that the key is as that read saw it. So it may be repeated, and
//!   a first attempt that arrives late cannot undo a later write. Nor may the next: where somebody
//!   else has written since, and may have done so after the first, it ends as [`Error::Overwritten`].
//! - A deletion is not repeated once it was sent: its answer is a count, which the second attempt
//!   would get wrong. It ends as [`Error::InDoubt`].
//! - Nor is a transaction with writes in it. One that only reads is repeated as any other read.
//! - Inside a job all of them carry the [`WriteGuard`], too: the term must not be over.
//! - A put that closes the run that it is made in goes with the schedule's record, whose revision
//!   guards it: [`Completion`](crate::term::completion::Completion) says how.

use etcd_client::{KeyValue, ResponseHeader};

use crate::etcd::patience::{Failure, Patience};
use crate::etcd::{self, Store};
use crate::keys::LeaseId;
use crate::revision::{Revision, Token};
use crate::schedule::Occasion;
use crate::schedule::record::Outcome;

mod complete;
mod guard;
#[cfg(feature = "daemon")]
pub mod json;
#[cfg(feature = "daemon")]
pub mod plain;
mod read;
mod span;
pub mod txn;
pub mod watch;
mod write;

pub use guard::{BadGuard, NoRun, RunGuard, WriteGuard};
pub use read::{Between, Detail, Direction, Get, SortBy};
pub use span::Span;

/// Why a command on keys failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store gave no answer, or said no; nothing was written.
    #[error(transparent)]
    Store(#[from] Failure),
    /// The history that was asked for is gone.
    #[error("revision {asked} was compacted; oldest is {oldest}")]
    Compacted {
        /// The revision asked for.
        asked: Revision,
        /// The oldest that can still be read.
        oldest: Revision,
    },
    /// The term that guards the write is over; nothing was written.
    #[error("not the leader: the term with token {token} is over; nothing was written")]
    NotLeader {
        /// The term's token.
        token: Token,
    },
    /// The term that guards the write is over. An attempt before that was not answered, and the
    /// key has changed since: it may have been this write, which is overwritten now.
    #[error(
        "the outcome is unknown, the write may have been applied before the term with token {token} \
         ended"
    )]
    Overtaken {
        /// The term's token.
        token: Token,
    },
    /// The write was sent, and not answered, and somebody has written the key since. It may have been
    /// applied before that; later it can't be any more.
    #[error(
        "the outcome is unknown, the write may have been applied before somebody else's that stands now: \
         {0}"
    )]
    Overwritten(etcd::Error),
    /// The run that the write was to close is not open; nothing was written.
    #[error(
        "the run for {slot}, attempt {attempt}, {}; nothing was written",
        how_ended(.result.as_ref())
    )]
    NotOpen {
        /// What it is for.
        slot: Occasion,
        /// From one.
        attempt: u32,
        /// How it ended, if it was the last that did.
        result: Option<Outcome>,
    },
    /// A write that was to close its run was sent, and not answered, and what would tell of it is gone.
    #[error("the outcome is unknown, the record of the run is gone")]
    NoRecord,
    /// The write was sent, and not answered in time.
    #[error("the outcome is unknown, the write may still be applied: {0}")]
    InDoubt(Failure),
}

fn how_ended(result: Option<&Outcome>) -> String {
    match result {
        Some(result) => format!("is closed already, as {}", result.word()),
        None => "is not open any more".to_owned(),
    }
}

impl From<etcd::Error> for Error {
    fn from(error: etcd::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The keys of the store, for the length of one command.
#[derive(Clone, Debug)]
pub struct Keys {
    store: Store,
    patience: Patience,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Vec<u8>,
    /// Its new value.
    pub value: Vec<u8>,
    /// The lease to attach it to.
    pub lease: Option<LeaseId>,
    /// Whether the answer shall hold what was there before.
    pub prev_kv: bool,
}

/// The answer to a put.
#[derive(Clone, Debug)]
pub struct Written {
    /// The answer's header.
    pub header: Option<ResponseHeader>,
    /// What was there before, if that was asked for.
    pub prev_kv: Option<KeyValue>,
}

/// The answer to a deletion.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The answer's header.
    pub header: Option<ResponseHeader>,
    /// How many keys were deleted.
    pub count: i64,
    /// What they were, if that was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

impl Keys {
    /// The keys of `store`, with so much patience for all requests together.
    pub const fn new(store: Store, patience: Patience) -> Self {
        Self { store, patience }
    }
}
