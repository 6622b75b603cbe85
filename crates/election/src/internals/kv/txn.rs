//! Transactions: conditions, and what is done if all of them hold, or if one doesn't.

use etcd_client::{
    Compare, CompareOp, GetOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{Detail, Error, Get, Keys, Put, Span, WriteGuard};
use crate::etcd;
use crate::etcd::patience::Failure;
use crate::revision::Revision;

/// Conditions, and two lists of which one is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All of them have to hold.
    pub conditions: Vec<Condition>,
    /// What is done if they do.
    pub success: Vec<Operation>,
    /// What is done if they don't.
    pub failure: Vec<Operation>,
}

/// Something that has to be true of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key.
    pub key: Vec<u8>,
    /// How what it has stands to the other.
    pub relation: Relation,
    /// What of it is compared, and with what.
    pub with: Compared,
}

/// How two things stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Equal,
    /// They are not.
    NotEqual,
    /// The first is larger.
    Greater,
    /// The first is smaller.
    Less,
}

/// What of a key is compared, and with what. All of a key that isn't there is zero, and its value never
/// compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// How often it was written.
    Version(i64),
    /// When it was made.
    Created(Revision),
    /// When it was written last.
    Written(Revision),
    /// Its value, byte by byte.
    Value(Vec<u8>),
    /// The number of its lease; zero for none.
    Lease(i64),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read keys.
    Get(Get),
    /// Write a key.
    Put(Put),
    /// Delete keys, with an answer that holds what they were, or without.
    Delete(Span, bool),
}

/// The answer to a transaction.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The answer's header.
    pub header: Option<ResponseHeader>,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// What came of each thing that was done.
    pub responses: Vec<TxnOpResponse>,
}

impl Keys {
    /// Carries out a transaction. One that only reads is repeated until a member answers; one that
    /// writes is sent once, after a read that finds a member which works, and carries the guard.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn commit(
        &self,
        transaction: &Transaction,
        guard: Option<&WriteGuard>,
    ) -> Result<Committed, Error> {
        let outcome = if transaction.writes() {
            self.commit_once(transaction, guard).await
        } else {
            self.commit_read(transaction).await
        };
        match (outcome, transaction.oldest_read()) {
            (Err(Error::Store(Failure::Store(etcd::Error::Compacted { .. }))), Some(get)) => {
                Err(self.compacted(&get.span, get.revision).await)
            }
            (outcome, _) => outcome,
        }
    }

    async fn commit_once(
        &self,
        transaction: &Transaction,
        guard: Option<&WriteGuard>,
    ) -> Result<Committed, Error> {
        let look = GetOptions::new().with_keys_only().with_limit(1);
        self.read(&transaction.some_key(), &look).await?;
        let inner = transaction.txn();
        let txn = match guard {
            Some(guard) => Txn::new()
                .when([guard.holds()])
                .and_then([TxnOp::txn(inner)])
                .or_else([guard.look()]),
            None => inner,
        };
        let mut answer = self.send_once(txn).await?;
        let Some(guard) = guard else {
            return Ok(Committed::of(answer));
        };
        match answer.op_responses().pop() {
            Some(TxnOpResponse::Txn(inner)) if answer.succeeded() => Ok(Committed {
                // That of what is nested tells the revision alone.
                header: answer.take_header(),
                ..Committed::of(inner)
            }),
            _ => Err(Error::NotLeader {
                token: guard.token(),
            }),
        }
    }

    async fn commit_read(&self, transaction: &Transaction) -> Result<Committed, Error> {
        // Where there is no read in it, a member answers from what it has itself.
        let bare = transaction.success.is_empty() && transaction.failure.is_empty();
        let read = || {
            let look = Get {
                detail: Detail::Count,
                ..Get::all(transaction.some_key())
            };
            [Operation::Get(look).operation()]
        };
        let txn = if bare {
            transaction.txn().and_then(read()).or_else(read())
        } else {
            transaction.txn()
        };
        let commit = async |limit| Ok(self.store.txn(limit, txn.clone()).await?.0);
        let answer = Committed::of(self.patience.ask(commit).await?);
        Ok(if bare {
            Committed {
                responses: Vec::new(),
                ..answer
            }
        } else {
            answer
        })
    }
}

impl Transaction {
    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.success.iter().chain(&self.failure)
    }

    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        let reads = |it: &Operation| matches!(it, Operation::Get(_));
        !self.operations().all(reads)
    }

    /// What it may put.
    pub fn puts(&self) -> impl Iterator<Item = &Put> {
        self.operations().filter_map(|operation| match operation {
            Operation::Put(put) => Some(put),
            _ => None,
        })
    }

    /// A key that it is about.
    fn some_key(&self) -> Span {
        let of_condition = self.conditions.first().map(|it| it.key.clone());
        let key = of_condition.or_else(|| Some(self.operations().next()?.start()));
        // The store takes no empty one.
        Span::key(key.filter(|key| !key.is_empty()).unwrap_or_else(|| vec![0]))
    }

    /// The read of the earliest revision.
    fn oldest_read(&self) -> Option<&Get> {
        let gets = self.operations().filter_map(|operation| match operation {
            Operation::Get(get) => Some(get),
            _ => None,
        });
        gets.filter(|get| get.revision > Revision::default())
            .min_by_key(|get| get.revision)
    }

    fn txn(&self) -> Txn {
        let conditions: Vec<Compare> = self.conditions.iter().map(Condition::compare).collect();
        let to_ops = |operations: &[Operation]| -> Vec<TxnOp> {
            operations.iter().map(Operation::operation).collect()
        };
        let mut txn = Txn::new();
        if !conditions.is_empty() {
            txn = txn.when(conditions);
        }
        if !self.success.is_empty() {
            txn = txn.and_then(to_ops(&self.success));
        }
        if !self.failure.is_empty() {
            txn = txn.or_else(to_ops(&self.failure));
        }
        txn
    }
}

impl Condition {
    fn compare(&self) -> Compare {
        let key = self.key.clone();
        let relation = match self.relation {
            Relation::Equal => CompareOp::Equal,
            Relation::NotEqual => CompareOp::NotEqual,
            Relation::Greater => CompareOp::Greater,
            Relation::Less => CompareOp::Less,
        };
        match &self.with {
            Compared::Version(version) => Compare::version(key, relation, *version),
            Compared::Created(at) => Compare::create_revision(key, relation, at.get()),
            Compared::Written(at) => Compare::mod_revision(key, relation, at.get()),
            Compared::Value(value) => Compare::value(key, relation, value.clone()),
            Compared::Lease(lease) => Compare::lease(key, relation, *lease),
        }
    }
}

impl Operation {
    fn start(&self) -> Vec<u8> {
        match self {
            Self::Get(get) => get.span.start(),
            Self::Put(put) => put.key.clone(),
            Self::Delete(span, _) => span.start(),
        }
    }

    fn operation(&self) -> TxnOp {
        match self {
            Self::Get(get) => TxnOp::get(get.span.start(), Some(get.options())),
            Self::Put(put) => put.operation(),
            Self::Delete(span, prev_kv) => span.deletion(*prev_kv),
        }
    }
}

impl Committed {
    fn of(mut answer: TxnResponse) -> Self {
        Self {
            succeeded: answer.succeeded(),
            responses: answer.op_responses(),
            header: answer.take_header(),
        }
    }
}
