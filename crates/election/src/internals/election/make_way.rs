//! Making way: a step-down that names who is to follow, and those who stand in front of that one.
//!
//! The leader steps down when the chosen one is next; those between see the same record and join
//! again behind it. A candidate of Go knows of no record, so nobody gets past it.

use etcd_client::{GetOptions, SortOrder, SortTarget, Txn, TxnOp};

use super::Election;
use super::queue::{Queue, QueuedCandidate};
use crate::etcd::{Error, reads};
use crate::keys::LeaseId;
use crate::revision::Token;
use crate::session::Session;
use crate::term::record::StepDown;

/// Whether a leader may step down so that the chosen candidate follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The chosen one is next.
    Clear,
    /// Others are in front of it, and will join again behind it.
    Wait,
    /// It can't be made next.
    Barred(String),
}

/// How the leader of the term `token` stands to `chosen`.
pub fn way(queue: &Queue, token: Token, chosen: LeaseId) -> Way {
    let position =
        |wanted: &dyn Fn(&QueuedCandidate) -> bool| queue.candidates.iter().position(wanted);
    let Some(leader) = position(&|candidate| candidate.token == token) else {
        return Way::Barred(format!("the term with token {token} is over"));
    };
    let Some(next) = position(&|candidate| candidate.lease == chosen) else {
        return Way::Barred(format!("lease {chosen} is not in the queue"));
    };
    if next <= leader {
        return Way::Barred(format!("lease {chosen} is the leader's own"));
    }
    let to = queue.candidates[next].token;
    let mut keys = queue.blocked_by.iter();
    if let Some((_, key)) = keys.find(|(at, _)| (token.revision()..to.revision()).contains(at)) {
        return Way::Barred(format!(
            "{key} stands before it, which is no candidate's key"
        ));
    }
    let between = &queue.candidates[leader + 1..next];
    match between.iter().find(|candidate| candidate.member.is_none()) {
        Some(go) => Way::Barred(format!(
            "{} (lease {}) stands before it, which is no incumbent and makes no way",
            go.name, go.lease
        )),
        None if between.is_empty() => Way::Clear,
        None => Way::Wait,
    }
}

/// Why whoever stands next behind the term `token` can't follow it; none where nobody does.
pub fn why_barred(queue: &Queue, token: Token) -> Option<String> {
    let next = queue.candidates.iter().find(|it| it.token > token)?;
    match way(queue, token, next.lease) {
        Way::Barred(why) => Some(why),
        Way::Clear | Way::Wait => None,
    }
}

/// Whether the candidate with create_revision `mine` is to make way, while `first` leads and the
/// chosen one was created at `chosen`.
fn must_make_way(record: &StepDown, first: Token, mine: Token, chosen: Token) -> bool {
    record.token == first && first < mine && mine < chosen
}

impl Election {
    /// Whether `record` asks the candidate with create_revision `mine` to make way.
    pub(super) async fn is_to_make_way(
        &self,
        session: &Session,
        record: &StepDown,
        mine: Token,
    ) -> Result<bool, Error> {
        let chosen: Option<LeaseId> = record.to.as_ref().and_then(|to| to.parse().ok());
        let Some(chosen) = chosen else {
            return Ok(false);
        };
        let in_order = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(1);
        let look = Txn::new().and_then([
            TxnOp::get(self.prefix.candidates(), Some(in_order)),
            TxnOp::get(self.prefix.candidate(chosen), None),
        ]);
        let (answer, _) = self.txn(session, look).await?;
        let mut found = reads::firsts(&answer).map(|kv| kv.as_ref().map(Token::of));
        let (first, chosen) = (found.next().flatten(), found.next().flatten());
        Ok(match (first, chosen) {
            (Some(first), Some(chosen)) => must_make_way(record, first, mine, chosen),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Prefix;
    use crate::revision::Revision;
    use crate::term::record::{MemberRecord, Record};

    fn of(token: i64) -> Token {
        Token::new(token).unwrap()
    }

    fn lease(token: i64) -> LeaseId {
        LeaseId::new(token).unwrap()
    }

    /// A queue of these tokens; those below zero are Go's.
    fn queue(tokens: &[i64]) -> Queue {
        let candidate = |token: &i64| QueuedCandidate {
            name: "a".to_owned(),
            lease: lease(token.abs()),
            token: of(token.abs()),
            key: Prefix::new("/a").candidate(lease(token.abs())),
            member: (*token > 0).then(|| Record::Read(MemberRecord::of_this_process("a"))),
            off_lease: false,
        };
        Queue {
            candidates: tokens.iter().map(candidate).collect(),
            ..Queue::default()
        }
    }

    #[test]
    fn the_way_is_clear_to_the_next_and_waited_for_to_another() {
        assert_eq!(way(&queue(&[3, 5, 7]), of(3), lease(5)), Way::Clear);
        assert_eq!(way(&queue(&[3, 5, 7]), of(3), lease(7)), Way::Wait);
        assert_eq!(way(&queue(&[3, -5]), of(3), lease(5)), Way::Clear);
    }

    #[test]
    fn nobody_gets_past_a_candidate_of_go_or_a_key_that_is_none() {
        let past_go = way(&queue(&[3, 5, -6, 7]), of(3), lease(7));
        assert!(
            matches!(&past_go, Way::Barred(why) if why.contains("lease 6")),
            "{past_go:?}"
        );
        let mut blocked = queue(&[3, 7]);
        blocked
            .blocked_by
            .push((Revision::new(5), "/a/x".to_owned()));
        let barred = way(&blocked, of(3), lease(7));
        assert!(
            matches!(&barred, Way::Barred(why) if why.contains("/a/x")),
            "{barred:?}"
        );
        assert!(why_barred(&blocked, of(3)).is_some_and(|why| why.contains("/a/x")));
        blocked.blocked_by[0].0 = Revision::new(9);
        assert_eq!(way(&blocked, of(3), lease(7)), Way::Clear);
        assert_eq!(why_barred(&blocked, of(3)), None);
    }

    #[test]
    fn a_term_that_is_over_or_a_chosen_one_that_is_gone_bars_the_way() {
        for (token, chosen) in [(4, 5), (3, 6), (3, 3), (5, 3)] {
            let found = way(&queue(&[3, 5]), of(token), lease(chosen));
            assert!(
                matches!(found, Way::Barred(_)),
                "{token} {chosen}: {found:?}"
            );
        }
    }

    #[test]
    fn only_those_between_the_named_term_and_the_chosen_one_make_way() {
        let record = StepDown {
            by: String::new(),
            since: String::new(),
            token: of(3),
            to: Some("7".to_owned()),
            force: false,
            between_runs: false,
        };
        assert!(must_make_way(&record, of(3), of(5), of(7)));
        assert!(
            !must_make_way(&record, of(3), of(9), of(7)),
            "it stands behind"
        );
        assert!(
            !must_make_way(&record, of(3), of(7), of(7)),
            "it is the chosen one"
        );
        assert!(!must_make_way(&record, of(3), of(3), of(7)), "it leads");
        assert!(
            !must_make_way(&record, of(4), of(5), of(7)),
            "the record names another term"
        );
    }
}
