//! The records of a scheduled job's runs, as people read and mend them.

use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, GetResponse, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse,
};

use crate::etcd::{Error, Store};
use crate::keys::Prefix;
use crate::revision::Revision;
use crate::schedule::record::{HistoryEntry, NotSettled, Outcome, State, Unreadable};
use crate::schedule::{Occasion, Slot};
use crate::wall::Time;

/// What the store keeps of a schedule, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunBook {
    /// The state; `None` before the first leader of a scheduled job.
    pub state: Option<Result<State, Unreadable>>,
    /// Its mod_revision, zero where there is none.
    pub seen: Revision,
    /// Runs that are over, the latest first, each with its number; what can't be read is left out.
    pub runs: Vec<(u64, HistoryEntry)>,
    /// The revision at which all of this was so.
    pub revision: Revision,
}

impl RunBook {
    /// Reads the state and the latest `most` runs, in one linearizable attempt.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    pub async fn read(
        store: &Store,
        limit: Duration,
        prefix: &Prefix,
        most: usize,
    ) -> Result<Self, Error> {
        let latest = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Key, SortOrder::Descend)
            .with_limit(i64::try_from(most).unwrap_or(i64::MAX));
        let txn = Txn::new().and_then([
            TxnOp::get(prefix.schedule(), None),
            TxnOp::get(prefix.runs(), Some(latest)),
        ]);
        let (answer, seen) = store.txn(limit, txn).await?;
        let mut book = Self {
            revision: seen.revision,
            ..Self::default()
        };
        let mut gets = answer.op_responses().into_iter().filter_map(|response| {
            if let TxnOpResponse::Get(get) = response {
                Some(get)
            } else {
                None
            }
        });
        if let Some(state) = gets.next().as_ref().and_then(|get| get.kvs().first()) {
            book.state = Some(State::read(state.value()));
            book.seen = Revision::written(state);
        }
        book.runs = gets.next().map_or_else(Vec::new, |get| runs(prefix, &get));
        Ok(book)
    }

    /// The state, where it can be read.
    pub fn readable(&self) -> Option<&State> {
        self.state.as_ref()?.as_ref().ok()
    }

    /// Writes what a person found out about the lost run of `slot`: into the state, and, unless it is
    /// to be run again, into its record. Whether it was done; it isn't where somebody else wrote since
    /// this was read.
    ///
    /// # Errors
    /// [`RepairError::NotSettled`] if there is nothing to settle so.
    pub async fn resolve(
        &self,
        store: &Store,
        limit: Duration,
        prefix: &Prefix,
        slot: Slot,
        result: Outcome,
    ) -> Result<bool, RepairError> {
        let state = self.known()?.resolved(slot, result)?;
        let mut operations = vec![TxnOp::put(prefix.schedule(), state.to_json(), None)];
        let is_it = |(_, run): &&(u64, HistoryEntry)| {
            run.slot == Occasion::Slot(slot) && run.result == Outcome::Lost
        };
        if result != Outcome::Rerun
            && let Some((seq, run)) = self.runs.iter().find(is_it)
        {
            let run = HistoryEntry {
                result,
                ..run.clone()
            };
            operations.push(TxnOp::put(prefix.run(*seq), run.to_json(), None));
        }
        self.write(store, limit, prefix, operations).await
    }

    /// Sets the schedule to a time, and records who did it; keeps `history` records. Whether it was
    /// done, as for [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// [`RepairError::NotSettled`] while a run is open.
    pub async fn rewind(
        &self,
        store: &Store,
        limit: Duration,
        prefix: &Prefix,
        (to, now, by): (Time, Time, &str),
        history: u64,
    ) -> Result<bool, RepairError> {
        let (state, record) = self.known()?.rewound(to, now, by)?;
        let mut operations = vec![
            TxnOp::put(prefix.schedule(), state.to_json(), None),
            TxnOp::put(prefix.run(state.seq), record.to_json(), None),
        ];
        if let Some(old) = state.seq.checked_sub(history.max(1)) {
            let up_to = DeleteOptions::new().with_range(prefix.run(old + 1));
            operations.push(TxnOp::delete(prefix.run(0), Some(up_to)));
        }
        self.write(store, limit, prefix, operations).await
    }

    /// Puts the state of a schedule that begins, as [`resolve`](Self::resolve) does.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    pub async fn begin(
        &self,
        store: &Store,
        limit: Duration,
        prefix: &Prefix,
        state: &State,
    ) -> Result<bool, RepairError> {
        let put = TxnOp::put(prefix.schedule(), state.to_json(), None);
        self.write(store, limit, prefix, vec![put]).await
    }

    fn known(&self) -> Result<&State, RepairError> {
        match &self.state {
            None => Err(RepairError::Nothing),
            Some(Err(why)) => Err(RepairError::Unreadable(why.clone())),
            Some(Ok(state)) => Ok(state),
        }
    }

    async fn write(
        &self,
        store: &Store,
        limit: Duration,
        prefix: &Prefix,
        operations: Vec<TxnOp>,
    ) -> Result<bool, RepairError> {
        let same = Compare::mod_revision(prefix.schedule(), CompareOp::Equal, self.seen.get());
        let txn = Txn::new().when([same]).and_then(operations);
        let (answer, _) = store.txn(limit, txn).await?;
        Ok(answer.succeeded())
    }
}

/// Why a repair was not made.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// There is no schedule on record.
    #[error("no scheduled job has led in this election yet")]
    Nothing,
    /// The state can't be read.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// It can't be settled so.
    #[error(transparent)]
    NotSettled(#[from] NotSettled),
    /// The store didn't do it, or didn't say.
    #[error(transparent)]
    Store(#[from] Error),
}

fn runs(prefix: &Prefix, get: &GetResponse) -> Vec<(u64, HistoryEntry)> {
    let all = prefix.runs();
    let read = get.kvs().iter().filter_map(|kv| {
        let seq = kv.key().strip_prefix(all.as_bytes())?;
        let seq = std::str::from_utf8(seq).ok()?.parse().ok()?;
        Some((seq, HistoryEntry::read(kv.value()).ok()?))
    });
    read.collect()
}
