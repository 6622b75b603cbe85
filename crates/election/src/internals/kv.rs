//! Reads and writes of the store's keys, for `incumbent kv` and the interface, within a total time.
//!
//! Reads are repeated on another member until one answers. Writes need more care, for a write that
//! timed out may be applied later on (R10):
//!
//! - Every write is preceded by a linearizable read of its keys. It finds a member that works, so
//!   a hung or dead one costs a read that does no harm, and hardly ever leaves a write in doubt.
//! - A put carries the condition that the key is as that read saw it. So it may be repeated, and
//!   a first attempt that arrives late cannot undo a later write.
//! - A deletion is not repeated once it was sent: its answer is a count, which the second attempt
//!   would get wrong. It ends as [`Error::InDoubt`].
//! - Inside a job both carry the [`WriteGuard`], too: the term must not be over.

use etcd_client::{GetOptions, GetResponse, KeyValue, ResponseHeader};

use crate::etcd::patience::{Failure, Patience};
use crate::etcd::watch::Watch;
use crate::etcd::{self, Store};
use crate::keys::LeaseId;
use crate::revision::{Revision, Token};

mod guard;
#[cfg(feature = "daemon")]
pub mod json;
#[cfg(feature = "daemon")]
pub mod plain;
mod span;
pub mod watch;
mod write;

pub use guard::{BadGuard, WriteGuard};
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
    /// The write was sent, and not answered in time.
    #[error("the outcome is unknown, the write may still be applied: {0}")]
    InDoubt(Failure),
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

/// What to read.
#[derive(Clone, Debug)]
pub struct Get {
    /// Which keys.
    pub span: Span,
    /// As of which revision; zero for now.
    pub revision: Revision,
    /// How many at most; 0 for all.
    pub limit: i64,
    /// Whether to leave out the values.
    pub keys_only: bool,
}

/// What to write.
#[derive(Clone, Debug)]
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

    /// Reads keys, linearizably.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn get(&self, get: &Get) -> Result<GetResponse, Error> {
        let mut options = get.span.of_get().with_revision(get.revision.get());
        options = options.with_limit(get.limit);
        if get.keys_only {
            options = options.with_keys_only();
        }
        match self.read(&get.span, &options).await {
            Err(Failure::Store(etcd::Error::Compacted { .. })) => {
                let asked = get.revision;
                let oldest = self.oldest(&get.span, asked).await?;
                Err(Error::Compacted { asked, oldest })
            }
            answer => Ok(answer?),
        }
    }

    async fn read(&self, span: &Span, options: &GetOptions) -> Result<GetResponse, Failure> {
        // By hand: of what `Patience::ask` awaits the compiler can't see that any thread may run it.
        let mut attempts = self.patience.attempts();
        loop {
            let limit = self.patience.attempt();
            let read = self.store.get(limit, span.start(), Some(options.clone()));
            match read.await {
                Ok((answer, _)) => return Ok(answer),
                Err(error) => attempts.weigh(error).await?,
            }
        }
    }

    /// The oldest revision that can be read. A read that comes too late isn't told; a watch is.
    async fn oldest(&self, span: &Span, compacted: Revision) -> Result<Revision, Failure> {
        let look = async |limit| {
            let watched = [(
                span.start(),
                span.of_watch().with_start_revision(compacted.get()),
            )];
            let watch = Watch::open_with(&self.store, limit, watched).await?;
            let mut watch = watch.through_proxy();
            Ok(Revision::new(watch.message().await?.compact_revision()))
        };
        self.patience.ask(look).await
    }
}
