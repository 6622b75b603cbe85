//! The queue of an election as it stands in the store.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp};

use super::claim::Standing;
use crate::etcd::patience::{Failure, Patience};
use crate::etcd::{Error, Store, reads};
use crate::keys::{LeaseId, Prefix, shown};
use crate::revision::{Revision, Token};
use crate::schedule::record::{State, Unreadable};
use crate::term::record::{self, MemberRecord, PauseRecord, Record, StepDown};

/// One candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedCandidate {
    /// Its name: the value of its key, which a leader may have proclaimed anew.
    pub name: String,
    /// The lease of its key.
    pub lease: LeaseId,
    /// create_revision of its key.
    pub token: Token,
    /// Its key.
    pub key: String,
    /// Its member record; Go's candidates leave none.
    pub member: Option<Record<MemberRecord>>,
    /// Something has taken its key off its lease, which it will put back.
    pub off_lease: bool,
}

/// Everyone in the election, at one revision.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// In order: the first leads, or will.
    pub candidates: Vec<QueuedCandidate>,
    /// Keys under the prefix that are no candidates and block those behind them, with their
    /// create_revision.
    pub blocked_by: Vec<(Revision, String)>,
    /// How the election is paused, if it is.
    pub pause: Option<Record<PauseRecord>>,
    /// mod_revision of the wish that a term step down, if there is one.
    pub step_down: Option<Revision>,
    /// Every term up to this token was proven dead or waited out.
    pub marker: Option<Token>,
    /// The term on record.
    pub term: Option<record::TermRecord>,
    /// The state of the job's schedule, once a leader has had one.
    pub schedule: Option<Result<State, Unreadable>>,
    /// What the first in line waits for, where it doesn't lead.
    pub waits: Option<String>,
    /// The keys of records that can't be read.
    pub unreadable: Vec<String>,
    /// What a claim would find.
    pub(super) standing: Standing,
    /// The revision at which all of this was so.
    pub revision: Revision,
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
            TxnOp::get(prefix.foreign(), None),
            TxnOp::get(prefix.step_down(), None),
            TxnOp::get(prefix.schedule(), None),
        ]);
        let (answer, seen) = store.txn(limit, txn).await?;
        let mut reads = reads::gets(&answer).map(|mut get| get.take_kvs());
        let mut next = || reads.next().unwrap_or_default();
        let (keys, members) = (next(), next());
        let mut one = || next().into_iter().next();
        let records = [one(), one(), one(), one()];
        let (step_down, schedule) = (one(), one());
        let mut queue = Self::with_records(prefix, records);
        queue.revision = seen.revision;
        if let Some(kv) = step_down {
            queue.step_down = Some(Revision::written(&kv));
            if record::json::<StepDown>(kv.value()).is_unreadable() {
                queue.unreadable.push(prefix.step_down());
            }
        }
        queue.schedule = schedule.map(|kv| State::read(kv.value()));
        if let Some(Err(_)) = queue.schedule {
            queue.unreadable.push(prefix.schedule());
        }
        queue.stand(prefix, &keys, &members);
        Ok(queue)
    }

    /// Marker, term, pause and note of a foreign candidate, with nobody in the queue.
    fn with_records(prefix: &Prefix, records: [Option<KeyValue>; 4]) -> Self {
        let [marker, _, pause, _] = &records;
        let marker = marker.as_ref().map(|kv| record::number(kv.value()));
        let pause = pause.as_ref().map(|kv| record::json(kv.value()));
        let standing = Standing::read(prefix, records);
        let mut queue = Self {
            marker: marker.and_then(Record::read).flatten(),
            unreadable: standing.unreadable.clone(),
            term: standing.recorded.clone(),
            ..Self::default()
        };
        if pause.as_ref().is_some_and(Record::is_unreadable) {
            queue.unreadable.push(prefix.pause());
        }
        queue.pause = pause;
        queue.standing = standing;
        queue
    }

    /// Puts the candidates into the queue, with their member records.
    fn stand(&mut self, prefix: &Prefix, keys: &[KeyValue], members: &[KeyValue]) {
        let mut records: BTreeMap<LeaseId, Record<MemberRecord>> = BTreeMap::new();
        for kv in members {
            let record = record::json(kv.value());
            if record.is_unreadable() {
                self.unreadable.push(shown(kv.key()));
            }
            if let Some(lease) = prefix.lease_of_member(kv.key()) {
                records.insert(lease, record);
            }
        }
        for kv in keys {
            let lease = prefix.lease_of(kv.key());
            let member = lease.and_then(|lease| records.remove(&lease));
            match QueuedCandidate::read(prefix, kv, member) {
                Ok(candidate) => self.candidates.push(candidate),
                Err(key) => self.blocked_by.push((Revision::created(kv), key)),
            }
        }
        let first = self.first().filter(|_| self.leader().is_none());
        self.waits = first.map(|first| self.standing.waits(prefix, first.token));
    }

    /// Whether the election is paused.
    pub const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// The first in the queue, unless a key that is no candidate stands before it.
    pub fn first(&self) -> Option<&QueuedCandidate> {
        let first = self.candidates.first()?;
        let blocked = self
            .blocked_by
            .iter()
            .any(|(at, _)| *at < first.token.revision());
        (!blocked).then_some(first)
    }

    /// The leader: the first, once its claim is complete, which the term on record tells. One of a
    /// Go program claims nothing.
    pub fn leader(&self) -> Option<&QueuedCandidate> {
        let first = self.first()?;
        first.leads(self.term.as_ref()).then_some(first)
    }
}

impl QueuedCandidate {
    /// Reads one key under the prefix, and the member record that belongs to it; the key's name if
    /// it is no candidate.
    pub(super) fn read(
        prefix: &Prefix,
        kv: &KeyValue,
        member: Option<Record<MemberRecord>>,
    ) -> Result<Self, String> {
        // The member record goes with the lease: where it is, the candidate lives.
        let lives = |lease: &LeaseId| lease.get() == kv.lease() || member.is_some();
        match prefix.lease_of(kv.key()).filter(lives) {
            Some(lease) => Ok(Self {
                name: shown(kv.value()),
                lease,
                token: Token::of(kv),
                key: shown(kv.key()),
                member,
                off_lease: lease.get() != kv.lease(),
            }),
            None => Err(shown(kv.key())),
        }
    }

    /// Whether it leads if it is the first in the queue, with this term on record.
    pub fn leads(&self, recorded: Option<&record::TermRecord>) -> bool {
        self.member.is_none() || recorded.is_some_and(|term| term.token == self.token)
    }
}
