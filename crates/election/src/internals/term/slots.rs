//! The records of a scheduled job in the store: how they are read, and written under the guard of a
//! term.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use serde::{Deserialize, Serialize};

use super::completion::Effects;
use crate::clock::{self, Instant};
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::revision::Revision;
use crate::schedule::record::{Outcome, State};
use crate::schedule::{Stored, Write, Written};

/// Reads the state record, linearizably, in one attempt.
///
/// # Errors
/// As [`Store::attempt`].
///
/// # Cancel safety
/// Safe.
pub async fn read(store: &Store, limit: Duration, prefix: &Prefix) -> Result<Stored, Error> {
    let (found, _) = store.get(limit, prefix.schedule(), None).await?;
    let Some(record) = found.kvs().first() else {
        return Ok(Stored::Absent);
    };
    let revision = Revision::written(record);
    Ok(match State::read(record.value()) {
        Ok(state) => Stored::State {
            state: Box::new(state),
            revision,
        },
        Err(error) => Stored::Unreadable {
            why: error.to_string(),
            revision,
        },
    })
}

/// Carries out a write in one attempt, if the term and the state are still those that it was made
/// for.
///
/// # Errors
/// As [`Store::attempt`]; after a time-out the write may be done yet, guarded even then.
///
/// # Cancel safety
/// Dropping it leaves the outcome unknown.
pub async fn write(
    store: &Store,
    limit: Duration,
    of: (&Prefix, LeaseId),
    write: &Write,
) -> Result<Written, Error> {
    let txn = guarded(of, write, Effects::default());
    let (answer, seen) = store.txn(limit, txn).await?;
    Ok(if answer.succeeded() {
        let header = answer
            .header()
            .map(|header| Revision::new(header.revision()));
        Written::Done {
            revision: header.unwrap_or(seen.revision),
        }
    } else {
        Written::Refused
    })
}

/// A write and what is done beside it, if the term and the state are still those that it was made for.
pub(super) fn guarded((prefix, lease): (&Prefix, LeaseId), write: &Write, beside: Effects) -> Txn {
    let mut operations = operations(prefix, write);
    operations.extend(beside.operations);
    let key = prefix.candidate(lease);
    let own = Compare::create_revision(key, CompareOp::Equal, write.token.get());
    let mut conditions = vec![own, as_seen(prefix, write)];
    conditions.extend(beside.conditions);
    Txn::new().when(conditions).and_then(operations)
}

/// That the state is the one that the write was made for.
fn as_seen(prefix: &Prefix, write: &Write) -> Compare {
    Compare::mod_revision(prefix.schedule(), CompareOp::Equal, write.seen.get())
}

fn operations(prefix: &Prefix, write: &Write) -> Vec<TxnOp> {
    let state = TxnOp::put(prefix.schedule(), write.state.to_json(), None);
    let runs = write.runs.iter();
    let runs = runs.map(|(seq, run)| TxnOp::put(prefix.run(*seq), run.to_json(), None));
    let trimmed = write.trimmed.iter();
    let trimmed = trimmed.map(|seq| TxnOp::delete(prefix.run(*seq), None));
    std::iter::once(state).chain(runs).chain(trimmed).collect()
}

/// How the run that is open is closed by whoever gives its term back: within that transaction, unless
/// a close of the daemon's own came before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    write: Write,
    /// When the run began, where how long it took isn't known yet.
    #[serde(default)]
    began: Option<Instant>,
}

impl Close {
    /// Of a run whose end is known.
    pub const fn of(write: Write) -> Self {
        Self { write, began: None }
    }

    /// Of a run that began then, and ends with the term.
    pub const fn standing(write: Write, began: Instant) -> Self {
        Self {
            write,
            began: Some(began),
        }
    }

    /// How the run ends that is closed by it, and how long it took where that is known.
    pub fn result(&self) -> Option<(Outcome, Duration)> {
        let (_, run) = self.write.runs.last().filter(|_| self.began.is_none())?;
        Some((run.result, Duration::from_millis(run.took_ms)))
    }

    /// What is written, if the run is closed at this instant. It is guarded by the state alone: the rest of
    /// the transaction is by the term.
    pub fn write_at(&self, now: Instant) -> Write {
        let mut write = self.write.clone();
        if let Some(began) = self.began {
            let took = u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX);
            if let Some(last) = &mut write.state.last {
                last.took_ms = took;
            }
            for (_, run) in &mut write.runs {
                run.took_ms = took;
            }
        }
        write
    }

    /// The operation, nested in the transaction that gives the term back.
    pub(super) fn operation(&self, prefix: &Prefix) -> TxnOp {
        let write = self.write_at(clock::now());
        let nested = Txn::new()
            .when([as_seen(prefix, &write)])
            .and_then(operations(prefix, &write));
        TxnOp::txn(nested)
    }
}
