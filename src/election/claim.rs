//! The claim: one transaction that proves leadership, or says why there is none (R8).

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget};
use etcd_client::{Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::keys::Prefix;
use crate::term::record::{self, StepDown};

/// What a claim found.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    /// Nobody stands in front.
    First(Standing),
    /// This candidate stands in front, as the last of them; and what the leader is asked.
    Behind(KeyValue, Option<StepDown>),
    /// The own key is gone, or is another than the one that joined.
    Gone,
}

/// What a candidate that stands first has to know before it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Every term up to this token was proven dead or waited out; 0 for none.
    pub(super) marker: i64,
    /// The term on record.
    pub(super) recorded: Option<record::Term>,
    /// mod_revision of the pause, if there is one.
    pub(super) paused: Option<i64>,
}

/// The transaction for the candidate whose `key` was created at `mine`.
///
/// etcd has no ≥, and answers a transaction without a read in it from the member's own state,
/// quorum or not; so both branches read.
pub(super) fn txn(prefix: &Prefix, key: &str, mine: i64) -> Txn {
    let everyone = Compare::create_revision(prefix.candidates(), CompareOp::Greater, mine - 1);
    let own = Compare::create_revision(key, CompareOp::Equal, mine);
    let in_front = GetOptions::new()
        .with_prefix()
        .with_max_create_revision(mine - 1)
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(1);
    Txn::new()
        .when([everyone.with_prefix(), own])
        .and_then([
            TxnOp::get(prefix.ended(), None),
            TxnOp::get(prefix.term(), None),
            TxnOp::get(prefix.pause(), None),
        ])
        .or_else([
            TxnOp::get(key, None),
            TxnOp::get(prefix.candidates(), Some(in_front)),
            TxnOp::get(prefix.step_down(), None),
        ])
}

impl Claim {
    /// Reads the answer to [`txn`] for the candidate whose key was created at `mine`.
    pub(super) fn read(answer: &TxnResponse, mine: i64) -> Self {
        let mut reads = answer.op_responses().into_iter().map(|response| {
            let TxnOpResponse::Get(mut get) = response else {
                return None;
            };
            get.take_kvs().into_iter().next()
        });
        let mut next = || reads.next().flatten();
        if answer.succeeded() {
            let (marker, term, pause) = (next(), next(), next());
            let recorded = term.and_then(|kv| serde_json::from_slice(kv.value()).ok());
            return Self::First(Standing {
                marker: marker
                    .and_then(|kv| record::number(kv.value()))
                    .unwrap_or(0),
                recorded,
                paused: pause.map(|kv| kv.mod_revision()),
            });
        }
        let (own, in_front, step_down) = (next(), next(), next());
        let asked = step_down.and_then(|kv| serde_json::from_slice(kv.value()).ok());
        match (own, in_front) {
            (Some(own), Some(predecessor)) if own.create_revision() == mine => {
                Self::Behind(predecessor, asked)
            }
            _ => Self::Gone,
        }
    }
}

/// What a candidate that stands first does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Lead.
    Lead,
    /// Wait `takeover_delay`, then claim again.
    Delay,
    /// Wait until the pause with this mod_revision is over.
    Pause(i64),
    /// Never lead: what the store remembers can't have happened before this candidacy.
    Refuse(String),
}

impl Standing {
    /// Decides what follows (R13); `mine` is the own create_revision, `waited_for` that of the
    /// candidate waited for last, and `delayed` whether the delay was waited already.
    pub(super) fn next(&self, mine: i64, waited_for: i64, delayed: bool) -> Next {
        let newest = self.marker.max(self.recorded_token());
        if newest >= mine {
            return Next::Refuse(format!(
                "term {newest} is on record, but this candidacy's token would be {mine}: \
                 was the store restored from a snapshot without a revision bump?"
            ));
        }
        if let Some(at) = self.paused {
            return Next::Pause(at);
        }
        if delayed || self.last(waited_for) <= self.marker {
            Next::Lead
        } else {
            Next::Delay
        }
    }
}

impl Standing {
    /// The token of the last term that may have been, given the candidate waited for last.
    pub(super) fn last(&self, waited_for: i64) -> i64 {
        waited_for.max(self.recorded_token())
    }

    fn recorded_token(&self) -> i64 {
        self.recorded.as_ref().map_or(0, |term| term.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(marker: i64, recorded: i64) -> Standing {
        Standing {
            marker,
            recorded: (recorded > 0).then(|| record::Term {
                token: recorded,
                candidate: "a".into(),
                lease: crate::keys::LeaseId::new(1).unwrap(),
                host: "h".into(),
                since: String::new(),
            }),
            paused: None,
        }
    }

    #[test]
    fn a_new_election_goes_on_at_once() {
        assert_eq!(standing(0, 0).next(5, 0, false), Next::Lead);
    }

    #[test]
    fn after_a_marked_end_the_next_goes_on_at_once() {
        assert_eq!(standing(5, 5).next(9, 5, false), Next::Lead);
        assert_eq!(standing(5, 5).next(9, 0, false), Next::Lead);
    }

    #[test]
    fn after_an_unmarked_end_the_next_waits_once() {
        assert_eq!(standing(3, 5).next(9, 0, false), Next::Delay);
        assert_eq!(standing(3, 5).next(9, 0, true), Next::Lead);
    }

    #[test]
    fn a_predecessor_without_a_record_is_an_unmarked_end() {
        assert_eq!(standing(3, 3).next(9, 7, false), Next::Delay);
    }

    #[test]
    fn a_paused_election_starts_nobody() {
        let paused = Standing {
            paused: Some(7),
            ..standing(5, 5)
        };
        assert_eq!(paused.next(9, 5, true), Next::Pause(7));
    }

    #[test]
    fn tokens_that_fell_are_refused() {
        assert!(matches!(standing(9, 3).next(9, 0, true), Next::Refuse(_)));
        assert!(matches!(standing(3, 12).next(9, 0, true), Next::Refuse(_)));
    }
}
