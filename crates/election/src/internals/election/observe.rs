//! Following the leader: who leads, "nobody" included, and what it proclaims.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};

use super::queue::QueuedCandidate;
use crate::etcd::watch::{Change, Target, Watch};
use crate::etcd::{Error, Store};
use crate::keys::Prefix;
use crate::revision::Revision;
use crate::term::record::{self, MemberRecord, Record};

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderEvent {
    /// Another leader, or nobody; the first event tells the state as it is.
    Leader {
        /// The revision since which it is so.
        revision: Revision,
        /// The leader; its name is the value of its key.
        leader: Option<QueuedCandidate>,
    },
    /// The leader proclaimed another value.
    Value {
        /// The revision of the proclamation.
        revision: Revision,
        /// The leader, with the new value as its name.
        leader: QueuedCandidate,
    },
}

/// What was told last of the leader.
enum Told {
    /// Nothing yet.
    Nothing,
    /// That nobody leads.
    Nobody,
    /// That this candidate leads.
    Leader(Box<QueuedCandidate>),
}

/// A key under the prefix.
#[derive(Clone, Debug)]
struct LeaderEntry {
    kv: KeyValue,
    /// The member record that belongs to it.
    member: Option<Record<MemberRecord>>,
}

/// Follows one election; sees every change, however quickly one follows another, as long as the
/// store's history isn't compacted under it.
pub struct Observer {
    store: Store,
    prefix: Prefix,
    limit: Duration,
    watch: Option<Watch>,
    /// What stands under the prefix, by create_revision.
    queue: BTreeMap<Revision, LeaderEntry>,
    /// The term on record.
    term: Option<record::TermRecord>,
    /// What the watch has brought and is not taken in yet.
    changes: VecDeque<Change>,
    /// What was told last.
    told: Told,
    events: VecDeque<LeaderEvent>,
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
            term: None,
            changes: VecDeque::new(),
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
    pub async fn next(&mut self) -> Result<LeaderEvent, Error> {
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
            return self.look_and_watch().await;
        };
        if self.changes.is_empty() {
            self.changes.extend(watch.next().await?);
        }
        // Taken out only once it is taken in: this may be dropped in between.
        while let Some(change) = self.changes.front().cloned() {
            let revision = match &change {
                Change::Put(kv) => {
                    let revision = Revision::written(kv);
                    self.put(kv.clone()).await?;
                    revision
                }
                Change::Delete { key, revision } => {
                    self.queue.retain(|_, entry| entry.kv.key() != key);
                    if *key == self.prefix.term().as_bytes() {
                        self.term = None;
                    }
                    *revision
                }
            };
            self.changes.pop_front();
            self.tell(revision);
        }
        Ok(())
    }

    /// Reads all that is there, and watches from just after it.
    async fn look_and_watch(&mut self) -> Result<(), Error> {
        self.changes.clear();
        let (everyone, term) = (self.prefix.candidates(), self.prefix.term());
        let all = || Some(GetOptions::new().with_prefix());
        let look = Txn::new().and_then([
            TxnOp::get(everyone.as_str(), all()),
            TxnOp::get(self.prefix.members(), all()),
            TxnOp::get(term.as_str(), None),
        ]);
        let (answer, seen) = self.store.txn(self.limit, look).await?;
        let targets = vec![Target::Prefix(everyone), Target::Key(term.into())];
        let watch = Watch::open(&self.store, self.limit, targets, seen.revision.next()).await?;
        self.watch = Some(watch.through_proxy());
        let mut reads = answer.op_responses().into_iter().map(|read| match read {
            TxnOpResponse::Get(mut get) => get.take_kvs(),
            _ => Vec::new(),
        });
        let mut next = || reads.next().unwrap_or_default();
        let (keys, members, term) = (next(), next(), next());
        let members: BTreeMap<&[u8], Record<MemberRecord>> = members
            .iter()
            .map(|kv| (kv.key(), record::json(kv.value())))
            .collect();
        let entry = |kv: KeyValue| {
            let lease = self.prefix.lease_of(kv.key());
            let member = lease.and_then(|lease| {
                let record = self.prefix.member(lease);
                members.get(record.as_bytes()).cloned()
            });
            (Revision::created(&kv), LeaderEntry { kv, member })
        };
        self.queue = keys.into_iter().map(entry).collect();
        let term = term.first().map(|kv| record::json(kv.value()));
        self.term = term.and_then(Record::read);
        self.tell(seen.revision);
        Ok(())
    }

    /// Takes in a key that was written; of a new candidate, what it said of itself on joining.
    async fn put(&mut self, kv: KeyValue) -> Result<(), Error> {
        if kv.key() == self.prefix.term().as_bytes() {
            self.term = record::json(kv.value()).read();
            return Ok(());
        }
        let joined = Revision::created(&kv);
        let member = match (self.queue.get(&joined), self.prefix.lease_of(kv.key())) {
            (Some(known), _) => known.member.clone(),
            (None, Some(lease)) => {
                let then = GetOptions::new().with_revision(joined.get());
                let record = self.prefix.member(lease);
                let (read, _) = self.store.get(self.limit, record, Some(then)).await?;
                read.kvs().first().map(|kv| record::json(kv.value()))
            }
            (None, None) => None,
        };
        self.queue.insert(joined, LeaderEntry { kv, member });
        Ok(())
    }

    /// Queues an event if the leader isn't the one told last. Behind a key that is no candidate
    /// nobody leads, nor while the first one's claim is not complete.
    fn tell(&mut self, revision: Revision) {
        let first = self.queue.values().next().cloned();
        let leader = first
            .and_then(|first| QueuedCandidate::read(&self.prefix, &first.kv, first.member).ok())
            .filter(|first| first.leads(self.term.as_ref()));
        let event = match (&self.told, &leader) {
            (Told::Leader(told), Some(leader)) if told.token == leader.token => (**told != *leader)
                .then(|| LeaderEvent::Value {
                    revision,
                    leader: leader.clone(),
                }),
            (Told::Nobody, None) => None,
            _ => Some(LeaderEvent::Leader {
                revision,
                leader: leader.clone(),
            }),
        };
        self.events.extend(event);
        self.told = leader.map_or(Told::Nobody, |leader| Told::Leader(Box::new(leader)));
    }
}
