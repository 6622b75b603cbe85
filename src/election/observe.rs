//! Following the leader: who leads, "nobody" included, and what it proclaims.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget};

use super::queue::Candidate;
use crate::etcd::watch::{Change, Target, Watch};
use crate::etcd::{Error, Store};
use crate::keys::Prefix;

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another leader, or nobody; the first event tells the state as it is.
    Leader {
        /// The revision since which it is so.
        revision: i64,
        /// The leader; its name is the value of its key.
        leader: Option<Candidate>,
    },
    /// The leader proclaimed another value.
    Value {
        /// The revision of the proclamation.
        revision: i64,
        /// The leader, with the new value as its name.
        leader: Candidate,
    },
}

/// What was told last of the leader.
enum Told {
    /// Nothing yet.
    Nothing,
    /// That nobody leads.
    Nobody,
    /// That this candidate leads.
    Leader(Candidate),
}

/// Follows one election; sees every change, however quickly one follows another, as long as the
/// store's history isn't compacted under it.
pub struct Observer {
    store: Store,
    prefix: Prefix,
    limit: Duration,
    watch: Option<Watch>,
    /// What stands under the prefix, by create_revision; a key that is no candidate as `Err`.
    queue: BTreeMap<i64, Result<Candidate, String>>,
    /// What was told last.
    told: Told,
    events: VecDeque<Event>,
}

impl Observer {
    /// An observer of the election under `prefix`; each attempt takes at most `limit`.
    pub fn new(store: Store, prefix: Prefix, limit: Duration) -> Self {
        Self {
            store,
            prefix,
            limit,
            watch: None,
            queue: BTreeMap::new(),
            told: Told::Nothing,
            events: VecDeque::new(),
        }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// One failed attempt; call again to go on where it stood. What happened meanwhile is told as
    /// one change.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Err(error) = self.advance().await {
                self.watch = None;
                if !matches!(error, Error::Compacted { .. }) {
                    return Err(error);
                }
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Error> {
        let Some(watch) = &mut self.watch else {
            let in_order = GetOptions::new()
                .with_prefix()
                .with_sort(SortTarget::Create, SortOrder::Ascend);
            let everyone = self.prefix.candidates();
            let (answer, seen) = self
                .store
                .get(self.limit, everyone.clone(), Some(in_order))
                .await?;
            let target = vec![Target::Prefix(everyone)];
            let watch = Watch::open(&self.store, self.limit, target, seen.revision + 1).await?;
            self.watch = Some(watch.through_proxy());
            self.queue.clear();
            for kv in answer.kvs() {
                self.put(kv);
            }
            self.tell(seen.revision);
            return Ok(());
        };
        for change in watch.next().await? {
            match change {
                Change::Put(kv) => {
                    self.put(&kv);
                    self.tell(kv.mod_revision());
                }
                Change::Delete { key, revision } => {
                    self.queue.retain(|_, entry| match entry {
                        Ok(candidate) => candidate.key.as_bytes() != key,
                        Err(name) => name.as_bytes() != key,
                    });
                    self.tell(revision);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, kv: &KeyValue) {
        let entry = Candidate::read(&self.prefix, kv);
        self.queue.insert(kv.create_revision(), entry);
    }

    /// Queues an event if the leader isn't the one told last. Behind a key that is no candidate
    /// nobody leads.
    fn tell(&mut self, revision: i64) {
        let first = self.queue.values().next();
        let leader = first.and_then(|entry| entry.clone().ok());
        let event = match (&self.told, &leader) {
            (Told::Leader(told), Some(leader)) if told.token == leader.token => (told != leader)
                .then(|| Event::Value {
                    revision,
                    leader: leader.clone(),
                }),
            (Told::Nobody, None) => None,
            _ => Some(Event::Leader {
                revision,
                leader: leader.clone(),
            }),
        };
        self.events.extend(event);
        self.told = leader.map_or(Told::Nobody, Told::Leader);
    }
}
