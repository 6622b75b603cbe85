//! The records of a term: the one that names the leader, and the history of those that ended.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp};

use super::{Before, Term, WriteError, record};
use crate::clock;
use crate::etcd::{Error, Store};
use crate::keys::Prefix;

/// How many ended terms the history keeps.
const HISTORY: usize = 100;

/// How many operations to put in one transaction; etcd takes 128 (`--max-txn-ops`).
const MOST_OPERATIONS: usize = 100;

impl Term {
    /// The record of this term, beginning now.
    pub fn record(&self) -> record::TermRecord {
        record::TermRecord {
            token: self.token(),
            candidate: self.candidate().to_owned(),
            lease: self.lease(),
            host: record::host_name(),
            since: clock::wall_time(),
            kill_budget_ms: u64::try_from(self.timing().kill_budget().as_millis()).ok(),
        }
    }

    /// Writes the term record, and with it the marker if an earlier term was waited out, and the
    /// last term's place in the history if its daemon left it empty; until it stands or the term is
    /// over.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_record(&self, record: &record::TermRecord) -> Result<(), WriteError> {
        let put = |key: String, value: String| TxnOp::put(key, value, None);
        let mut operations = vec![put(self.election().term(), json(record))];
        let Before {
            waited_out,
            recorded,
        } = &self.facts.before;
        if let Some(waited_out) = waited_out {
            operations.push(put(self.election().ended(), waited_out.to_string()));
        }
        if let Some(last) = recorded {
            let place = self.election().past_term(last.token);
            let empty = Compare::version(place.as_str(), CompareOp::Equal, 0);
            let past = json(&record::PastTerm::unexplained(last.clone()));
            let fill = Txn::new().when([empty]).and_then([put(place, past)]);
            operations.push(TxnOp::txn(fill));
        }
        let refused = |error: &Error| {
            tracing::warn!(
                election = %self.election(), candidate = self.candidate(), lease = %self.lease(),
                token = self.token().get(), %error, "term record not written"
            );
        };
        self.until_they_stand(operations, refused).await
    }

    /// Deletes the oldest terms of the history, but for the last hundred.
    ///
    /// # Errors
    /// As [`put`](Self::put); the next term tries again.
    pub async fn trim_history(&self) -> Result<(), WriteError> {
        let in_order = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_sort(SortTarget::Create, SortOrder::Ascend);
        let limit = self.timing().attempt_limit();
        let terms = self.election().terms();
        let (history, _) = self.store.get(limit, terms, Some(in_order)).await?;
        let surplus = history.kvs().len().saturating_sub(HISTORY);
        let oldest = history.kvs().iter().take(surplus.min(MOST_OPERATIONS));
        let deletes: Vec<_> = oldest.map(|kv| TxnOp::delete(kv.key(), None)).collect();
        if deletes.is_empty() {
            return Ok(());
        }
        self.repeat(deletes).await.map(drop)
    }
}

/// A record as it stands in the store.
fn json<T: serde::Serialize>(record: &T) -> String {
    // Plain records of text and numbers: nothing in them can fail.
    serde_json::to_string(record).unwrap_or_default()
}

/// Writes the place in the history of a term that has ended just now. Nobody else has its token,
/// so nothing guards it; one attempt, since the next term says at least that it was.
pub async fn put_past(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    past: &record::PastTerm,
) -> Result<(), Error> {
    let put = TxnOp::put(prefix.past_term(past.term.token), json(past), None);
    store.txn(limit, Txn::new().and_then([put])).await.map(drop)
}

/// The terms that ended, the latest first; what can't be read of them is left out.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn read_past(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
) -> Result<Vec<record::PastTerm>, Error> {
    let all = GetOptions::new().with_prefix();
    let (history, _) = store.get(limit, prefix.terms(), Some(all)).await?;
    let read = |kv: &KeyValue| record::json(kv.value()).read();
    let mut terms: Vec<record::PastTerm> = history.kvs().iter().filter_map(read).collect();
    terms.sort_by_key(|past| std::cmp::Reverse(past.term.token));
    Ok(terms)
}
