//! Following all that stands in an election, records included.

use std::time::Duration;

use super::queue::Queue;
use crate::etcd::watch::{Change, Target, Watch};
use crate::etcd::{Error, Store};
use crate::keys::Prefix;
use crate::revision::Revision;

/// Reads the queue, and again whenever anything under the election's prefixes has changed.
pub struct Follower {
    store: Store,
    prefix: Prefix,
    limit: Duration,
    watch: Option<Watch>,
    /// The revision that was read last; `None` if it must be read anew.
    seen: Option<Revision>,
}

impl Follower {
    /// A follower of the election under `prefix`; each attempt takes at most `limit`.
    pub fn new(store: Store, prefix: Prefix, limit: Duration) -> Self {
        Self {
            store,
            prefix,
            limit,
            watch: None,
            seen: None,
        }
    }

    /// The queue as it is, the first time; after that, once something has changed.
    ///
    /// # Errors
    /// One failed attempt; call again to go on.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Result<Queue, Error> {
        let outcome = self.advance().await;
        if outcome.is_err() {
            self.watch = None;
            self.seen = None;
        }
        outcome
    }

    /// What was to be read beside the queue was not: the next call doesn't wait for a change.
    pub const fn forget(&mut self) {
        self.seen = None;
    }

    async fn advance(&mut self) -> Result<Queue, Error> {
        if let (Some(watch), Some(seen)) = (&mut self.watch, self.seen) {
            loop {
                let changes = watch.next().await?;
                let is_new = |change: &Change| match change {
                    Change::Put(kv) => Revision::written(kv) > seen,
                    Change::Delete { revision, .. } => *revision > seen,
                };
                if changes.iter().any(is_new) {
                    break;
                }
            }
        }
        // Should this be dropped from here on, the change must not be forgotten.
        self.seen = None;
        let queue = Queue::read(&self.store, self.limit, &self.prefix).await?;
        if self.watch.is_none() {
            let targets = vec![
                Target::Prefix(self.prefix.candidates()),
                Target::Prefix(self.prefix.records()),
            ];
            let from = queue.revision.next();
            let watch = Watch::open(&self.store, self.limit, targets, from).await?;
            self.watch = Some(watch);
        }
        self.seen = Some(queue.revision);
        Ok(queue)
    }
}
