//! Transactions of a leader: done whole, and only in its term.

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::Value;
use crate::etcd::reads;
use crate::revision::Revision;
use crate::term::completion::Effects;

/// Operations that are done together, in a term and by conditions of their own.
///
/// ```
/// # use incumbent_election::GuardedTxn;
/// let only_once = GuardedTxn::new()
///     .when_missing("/jobs/17/done")
///     .put("/jobs/17/done", "yes")
///     .put("/jobs/17/result", "42");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct GuardedTxn {
    when: Vec<Compare>,
    then: Vec<TxnOp>,
    otherwise: Vec<TxnOp>,
}

impl GuardedTxn {
    /// One without conditions, that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` has this value.
    pub fn when_value(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.when.push(Compare::value(key, CompareOp::Equal, value));
        self
    }

    /// Only if nothing stands under `key`.
    pub fn when_missing(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.when.push(Compare::version(key, CompareOp::Equal, 0));
        self
    }

    /// Only if `key` was written last at this revision: nobody has written it since it was
    /// [read](Value::mod_revision).
    pub fn when_unchanged(mut self, key: impl Into<Vec<u8>>, mod_revision: Revision) -> Self {
        let same = Compare::mod_revision(key, CompareOp::Equal, mod_revision.get());
        self.when.push(same);
        self
    }

    /// Writes `value` under `key`.
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.then.push(TxnOp::put(key, value, None));
        self
    }

    /// Deletes `key`.
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.then.push(TxnOp::delete(key, None));
        self
    }

    /// Reads `key`, whether or not the conditions hold; see [`Answers::values`].
    pub fn get(mut self, key: impl Into<Vec<u8>>) -> Self {
        let get = TxnOp::get(key, None);
        self.then.push(get.clone());
        self.otherwise.push(get);
        self
    }

    /// As one operation of the transaction that the term guards.
    #[doc(hidden)]
    pub fn operation(self) -> TxnOp {
        let txn = Txn::new().when(self.when).and_then(self.then);
        TxnOp::txn(txn.or_else(self.otherwise))
    }

    /// As what a run does with its close.
    #[doc(hidden)]
    pub fn effects(self) -> Effects {
        Effects {
            conditions: self.when,
            operations: self.then,
        }
    }
}

/// What came of a [`GuardedTxn`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answers {
    /// Whether its own conditions held, so that it was done.
    pub is_done: bool,
    /// What was read, in the order of the [`get`](GuardedTxn::get)s.
    pub values: Vec<Option<Value>>,
}

impl Answers {
    #[doc(hidden)]
    pub fn read(answer: &TxnResponse) -> Self {
        let mut read = Self {
            is_done: false,
            values: Vec::new(),
        };
        for response in answer.op_responses() {
            let TxnOpResponse::Txn(own) = response else {
                continue;
            };
            read.is_done = own.succeeded();
            let found = reads::firsts(&own);
            read.values
                .extend(found.map(|kv| kv.as_ref().map(Value::of)));
        }
        read
    }
}
