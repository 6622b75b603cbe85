//! The queue of an election as it stands in the store.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};

use crate::etcd::patience::{Failure, Patience};
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::term::record::{self, Member};

/// One candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name: the value of its key, which a leader may have proclaimed anew.
    pub name: String,
    /// The lease of its key.
    pub lease: LeaseId,
    /// create_revision of its key.
    pub token: i64,
    /// Its key.
    pub key: String,
    /// Its member record; Go's candidates leave none.
    pub member: Option<Member>,
}

/// Everyone in the election, at one revision.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// In order: the first is the leader.
    pub candidates: Vec<Candidate>,
    /// Keys under the prefix that are no candidates and block those behind them, with their
    /// create_revision.
    pub blocked_by: Vec<(i64, String)>,
    /// Whether the election is paused.
    pub paused: bool,
    /// How it is paused, as far as the record can be read.
    pub pause: Option<record::Pause>,
    /// mod_revision of the wish that a term step down, if there is one.
    pub step_down: Option<i64>,
    /// Every term up to this token was proven dead or waited out.
    pub marker: Option<i64>,
    /// The term on record.
    pub term: Option<record::Term>,
    /// The revision at which all of this was so.
    pub revision: i64,
}

impl Queue {
    /// Reads the queue under `prefix`, in as many attempts as `patience` has.
    ///
    /// # Errors
    /// As [`Patience::ask`].
    pub async fn ask(store: &Store, patience: &Patience, prefix: &Prefix) -> Result<Self, Failure> {
        let read = async |limit| Self::read(store, limit, prefix).await;
        patience.ask(read).await
    }

    /// Reads the queue under `prefix` in one linearizable attempt.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    pub async fn read(store: &Store, limit: Duration, prefix: &Prefix) -> Result<Self, Error> {
        let all = || Some(GetOptions::new().with_prefix());
        let in_order = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Ascend);
        let txn = Txn::new().and_then([
            TxnOp::get(prefix.candidates(), Some(in_order)),
            TxnOp::get(prefix.members(), all()),
            TxnOp::get(prefix.ended(), None),
            TxnOp::get(prefix.term(), None),
            TxnOp::get(prefix.pause(), None),
            TxnOp::get(prefix.step_down(), None),
        ]);
        let (answer, seen) = store.txn(limit, txn).await?;
        let mut reads = answer.op_responses().into_iter().map(|response| {
            if let TxnOpResponse::Get(mut get) = response {
                get.take_kvs()
            } else {
                Vec::new()
            }
        });
        let mut next = || reads.next().unwrap_or_default();
        let (keys, members) = (next(), next());
        let (marker, term, pause, step_down) = (next(), next(), next(), next());
        let mut members: BTreeMap<String, Member> = members
            .iter()
            .filter_map(|kv| {
                let lease = kv.key_str().ok()?.strip_prefix(&prefix.members())?;
                Some((lease.to_owned(), serde_json::from_slice(kv.value()).ok()?))
            })
            .collect();
        let mut queue = Self {
            paused: !pause.is_empty(),
            pause: pause
                .first()
                .and_then(|kv| serde_json::from_slice(kv.value()).ok()),
            step_down: step_down.first().map(KeyValue::mod_revision),
            marker: marker.first().and_then(|kv| record::number(kv.value())),
            term: term
                .first()
                .and_then(|kv| serde_json::from_slice(kv.value()).ok()),
            revision: seen.revision,
            ..Self::default()
        };
        for kv in &keys {
            match Candidate::read(prefix, kv) {
                Ok(candidate) => {
                    let member = members.remove(&candidate.lease.to_string());
                    queue.candidates.push(Candidate {
                        member,
                        ..candidate
                    });
                }
                Err(key) => queue.blocked_by.push((kv.create_revision(), key)),
            }
        }
        Ok(queue)
    }
}

impl Queue {
    /// The leader: the first in the queue, unless a key that is no candidate stands before it.
    pub fn leader(&self) -> Option<&Candidate> {
        let first = self.candidates.first()?;
        let blocked = self.blocked_by.iter().any(|(at, _)| *at < first.token);
        (!blocked).then_some(first)
    }
}

impl Candidate {
    /// Reads one key under the prefix; the key's name if it is no candidate.
    pub(super) fn read(prefix: &Prefix, kv: &KeyValue) -> Result<Self, String> {
        let key = String::from_utf8_lossy(kv.key()).into_owned();
        match prefix.lease_of(&key) {
            Some(lease) if lease.get() == kv.lease() => Ok(Self {
                name: String::from_utf8_lossy(kv.value()).into_owned(),
                lease,
                token: kv.create_revision(),
                key,
                member: None,
            }),
            _ => Err(key),
        }
    }
}
