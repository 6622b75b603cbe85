//! The claim: one transaction that proves leadership, or says why there is none (R8).

use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget};
use etcd_client::{Txn, TxnOp, TxnResponse};

use crate::etcd::reads;
use crate::keys::{LeaseId, Prefix};
use crate::revision::{Revision, Token};
use crate::term::record::{self, PauseRecord, Record, StepDown};
use crate::timing::smallest_takeover_delay;

/// What a claim found.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    /// Nobody stands in front.
    First(Standing),
    /// This candidate stands in front, as the last of them.
    Behind(Front),
    /// The own key was taken off its lease, by the write of this mod_revision.
    OffLease(Revision),
    /// The own key is gone, or is another than the one that joined.
    Gone,
}

/// What a candidate that waits has to know.
#[derive(Clone, Debug)]
pub(super) struct Front {
    /// The key of the last in front.
    pub(super) predecessor: KeyValue,
    /// What the leader is asked, if that can be read.
    pub(super) wish: Option<StepDown>,
    /// The note of a foreign candidate, as it can be read, and its mod_revision, or zero.
    pub(super) foreign: (Record<Option<Token>>, Revision),
    /// The term on record, if it can be read.
    pub(super) recorded: Option<record::TermRecord>,
}

/// What a candidate that stands first has to know before it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Every term up to this token was proven dead or waited out.
    pub marker: Option<Token>,
    /// The term on record.
    pub recorded: Option<record::TermRecord>,
    /// create_revision of the youngest candidate of a Go program that was noted.
    pub foreign: Option<Token>,
    /// mod_revision of the pause, if there is one.
    pub paused: Option<Revision>,
    /// Whether the pause can be read.
    pub pause_unreadable: bool,
    /// The keys of those among the other records that can't be read.
    pub unreadable: Vec<String>,
}

/// The transaction for the candidate whose `key` was created at `mine`.
///
/// etcd has no ≥, and answers a transaction without a read in it from the member's own state,
/// quorum or not; so both branches read.
pub(super) fn txn(prefix: &Prefix, key: &str, mine: Token) -> Txn {
    let everyone =
        Compare::create_revision(prefix.candidates(), CompareOp::Greater, mine.get() - 1);
    let own = Compare::create_revision(key, CompareOp::Equal, mine.get());
    let in_front = GetOptions::new()
        .with_prefix()
        .with_max_create_revision(mine.get() - 1)
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(1);
    Txn::new()
        .when([everyone.with_prefix(), own])
        .and_then(
            records(prefix)
                .into_iter()
                .chain([TxnOp::get(key, None)])
                .collect::<Vec<_>>(),
        )
        .or_else([
            TxnOp::get(key, None),
            TxnOp::get(prefix.candidates(), Some(in_front)),
            TxnOp::get(prefix.step_down(), None),
            TxnOp::get(prefix.foreign(), None),
            TxnOp::get(prefix.term(), None),
        ])
}

/// The reads of what [`Standing::read`] takes.
pub(super) fn records(prefix: &Prefix) -> [TxnOp; 4] {
    let keys = [
        prefix.ended(),
        prefix.term(),
        prefix.pause(),
        prefix.foreign(),
    ];
    keys.map(|key| TxnOp::get(key, None))
}

impl Claim {
    /// Reads the answer to [`txn`] for the candidate whose key was created at `mine`, under `lease`.
    pub(super) fn read(answer: &TxnResponse, prefix: &Prefix, mine: Token, lease: LeaseId) -> Self {
        let mut reads = reads::firsts(answer);
        let mut next = || reads.next().flatten();
        if answer.succeeded() {
            let standing = Standing::read(prefix, [next(), next(), next(), next()]);
            return match next() {
                Some(own) if own.lease() != lease.get() => Self::OffLease(Revision::written(&own)),
                _ => Self::First(standing),
            };
        }
        let (own, in_front, step_down) = (next(), next(), next());
        let (foreign, term) = (next(), next());
        match (own, in_front) {
            (Some(own), Some(predecessor)) if Token::of(&own) == mine => {
                if own.lease() != lease.get() {
                    return Self::OffLease(Revision::written(&own));
                }
                Self::Behind(Front {
                    predecessor,
                    wish: step_down.and_then(|kv| record::json(kv.value()).read()),
                    foreign: foreign.map_or((Record::Read(None), Revision::default()), |kv| {
                        (record::number(kv.value()), Revision::written(&kv))
                    }),
                    recorded: term.and_then(|kv| record::json(kv.value()).read()),
                })
            }
            _ => Self::Gone,
        }
    }
}

impl Standing {
    /// Reads marker, term record, pause and the note of a foreign candidate.
    pub(super) fn read(prefix: &Prefix, records: [Option<KeyValue>; 4]) -> Self {
        let [marker, term, pause, foreign] = records;
        let mut standing = Self {
            paused: pause.as_ref().map(Revision::written),
            pause_unreadable: pause
                .is_some_and(|kv| record::json::<PauseRecord>(kv.value()).is_unreadable()),
            ..Self::default()
        };
        let mut token = |kv: Option<KeyValue>, key: String| {
            let read = kv.map_or(Record::Read(None), |kv| record::number(kv.value()));
            read.read().unwrap_or_else(|| {
                standing.unreadable.push(key);
                None
            })
        };
        (standing.marker, standing.foreign) = (
            token(marker, prefix.ended()),
            token(foreign, prefix.foreign()),
        );
        match term.map(|kv| record::json(kv.value())) {
            Some(Record::Unreadable) => standing.unreadable.push(prefix.term()),
            Some(Record::Read(term)) => standing.recorded = Some(term),
            None => {}
        }
        standing
    }
}

/// What a candidate that stands first does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// Lead.
    Lead,
    /// Wait `takeover_delay`, then claim again.
    Delay,
    /// Wait until the pause with this mod_revision is over.
    Pause(Revision),
    /// Never lead: what the store remembers can't have happened before this candidacy.
    Refuse(String),
}

/// The candidate that this process waited for last.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitedFor {
    /// Its create_revision.
    pub token: Option<Token>,
    /// In this candidacy: nobody who stood between it and the own key ever came to lead, since it was
    /// there before them and outlasted them.
    pub in_front: bool,
}

impl Standing {
    /// Decides what follows (R13); `mine` is the own create_revision, and `delayed` whether the delay
    /// was waited already.
    pub fn next(
        &self,
        prefix: &Prefix,
        mine: Token,
        waited_for: WaitedFor,
        delayed: bool,
    ) -> ClaimStep {
        if let Some(why) = self.impossible(prefix, mine) {
            return ClaimStep::Refuse(why);
        }
        if let Some(at) = self.paused {
            return ClaimStep::Pause(at);
        }
        if delayed || self.last(mine, waited_for) <= self.marker {
            ClaimStep::Lead
        } else {
            ClaimStep::Delay
        }
    }

    /// What the candidate that stands first, with create_revision `mine`, waits for, as far as the
    /// store tells.
    pub(super) fn waits(&self, prefix: &Prefix, mine: Token) -> String {
        match self.next(prefix, mine, WaitedFor::default(), false) {
            ClaimStep::Pause(_) => "paused".to_owned(),
            ClaimStep::Delay => "waiting out the last term, whose end is not proven".to_owned(),
            ClaimStep::Refuse(why) => format!("refusing to lead: {why}"),
            ClaimStep::Lead => "its claim is not complete yet".to_owned(),
        }
    }

    /// Why this can't be what was before the candidacy with create_revision `mine`, if it can't.
    fn impossible(&self, prefix: &Prefix, mine: Token) -> Option<String> {
        let told = [
            (prefix.ended(), self.marker),
            (prefix.term(), self.recorded_token()),
        ];
        let mut told = told.into_iter();
        let (key, token) =
            told.find_map(|(key, token)| Some((key, token.filter(|it| *it >= mine)?)))?;
        Some(format!(
            "{key} tells of the token {token}, but this candidacy's would be {mine}: was the store \
             restored from a snapshot without a revision bump? If it was not, somebody else wrote \
             that record: delete {key}"
        ))
    }

    /// The token of the last term that may have been, given the candidate waited for last. A record
    /// that can't be read may tell of any before `mine`; so may a note that has made way for one of a
    /// foreign candidate behind. None is asked where one in front was waited for: it was the last.
    pub fn last(&self, mine: Token, waited_for: WaitedFor) -> Option<Token> {
        let told = waited_for.token.max(self.recorded_token());
        match self.unreadable.is_empty() {
            true if waited_for.in_front => told,
            true if self.foreign < Some(mine) => told.max(self.foreign),
            _ => mine.before(),
        }
    }

    /// How long to wait that out: `own`, or longer where the term on record is the one whose end
    /// nobody proved, and its job may take longer to die than one of ours.
    pub fn delay(&self, own: Duration) -> Duration {
        let recorded = self.recorded.as_ref();
        let unproven = recorded.filter(|term| Some(term.token) > self.marker);
        let kill_budget = unproven.and_then(|term| term.kill_budget_ms);
        kill_budget.map_or(own, |ms| {
            own.max(smallest_takeover_delay(Duration::from_millis(ms)))
        })
    }

    fn recorded_token(&self) -> Option<Token> {
        self.recorded.as_ref().map(|term| term.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zero is none.
    fn standing(marker: i64, recorded: i64) -> Standing {
        Standing {
            marker: Token::new(marker),
            recorded: Token::new(recorded).map(|token| record::TermRecord {
                token,
                candidate: "a".into(),
                lease: crate::keys::LeaseId::new(1).unwrap(),
                host: "h".into(),
                since: String::new(),
                kill_budget_ms: None,
            }),
            ..Standing::default()
        }
    }

    /// Waited for in an earlier candidacy.
    fn before(token: i64) -> WaitedFor {
        WaitedFor {
            token: Token::new(token),
            in_front: false,
        }
    }

    impl Standing {
        fn then(&self, mine: i64, token: i64, delayed: bool) -> ClaimStep {
            let mine = Token::new(mine).unwrap();
            self.next(&Prefix::new("/a"), mine, before(token), delayed)
        }

        fn last_of(&self, mine: i64, waited_for: WaitedFor) -> i64 {
            let last = self.last(Token::new(mine).unwrap(), waited_for);
            last.map_or(0, Token::get)
        }
    }

    #[test]
    fn a_new_election_goes_on_at_once() {
        assert_eq!(standing(0, 0).then(5, 0, false), ClaimStep::Lead);
    }

    #[test]
    fn after_a_marked_end_the_next_goes_on_at_once() {
        assert_eq!(standing(5, 5).then(9, 5, false), ClaimStep::Lead);
        assert_eq!(standing(5, 5).then(9, 0, false), ClaimStep::Lead);
    }

    #[test]
    fn after_an_unmarked_end_the_next_waits_once() {
        assert_eq!(standing(3, 5).then(9, 0, false), ClaimStep::Delay);
        assert_eq!(standing(3, 5).then(9, 0, true), ClaimStep::Lead);
    }

    #[test]
    fn a_predecessor_without_a_record_is_an_unmarked_end() {
        assert_eq!(standing(3, 3).then(9, 7, false), ClaimStep::Delay);
    }

    #[test]
    fn a_paused_election_starts_nobody() {
        let paused = Standing {
            paused: Some(Revision::new(7)),
            ..standing(5, 5)
        };
        assert_eq!(paused.then(9, 5, true), ClaimStep::Pause(Revision::new(7)));
    }

    #[test]
    fn tokens_that_fell_are_refused() {
        assert!(matches!(
            standing(9, 3).then(9, 0, true),
            ClaimStep::Refuse(_)
        ));
        assert!(matches!(
            standing(3, 12).then(9, 0, true),
            ClaimStep::Refuse(_)
        ));
    }

    #[test]
    fn a_foreign_candidate_that_was_noted_is_waited_out_unless_it_is_marked() {
        let noted = |marker| Standing {
            foreign: Token::new(7),
            ..standing(marker, 5)
        };
        assert_eq!(noted(5).then(9, 0, false), ClaimStep::Delay);
        assert_eq!(noted(5).last_of(9, before(0)), 7);
        assert_eq!(noted(7).then(9, 0, false), ClaimStep::Lead);
    }

    #[test]
    fn a_record_that_can_not_be_read_may_tell_of_any_term_before() {
        let unreadable = Standing {
            unreadable: vec!["/a.meta/term".to_owned()],
            ..standing(5, 0)
        };
        assert_eq!(unreadable.then(9, 0, false), ClaimStep::Delay);
        assert_eq!(unreadable.last_of(9, before(0)), 8);
        assert_eq!(unreadable.then(9, 0, true), ClaimStep::Lead);
    }

    #[test]
    fn a_term_on_record_is_waited_out_for_as_long_as_its_own_kill_budget_asks() {
        let own = Duration::from_secs(1);
        let mut standing = standing(3, 5);
        assert_eq!(standing.delay(own), own);
        standing.recorded.as_mut().unwrap().kill_budget_ms = Some(4000);
        assert_eq!(standing.delay(own), Duration::from_millis(4200));
        assert_eq!(standing.delay(own * 9), own * 9);
        standing.recorded.as_mut().unwrap().kill_budget_ms = Some(u64::MAX);
        assert!(standing.delay(own) > own);
        // Proven dead: what is waited out is another, of which nothing is known.
        standing.marker = Token::new(5);
        assert_eq!(standing.delay(own), own);
    }

    #[test]
    fn a_refusal_names_the_key_that_is_in_the_way() {
        let refused = |standing: Standing| match standing.then(9, 0, true) {
            ClaimStep::Refuse(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(standing(9, 3)).contains("/a.meta/ended tells"));
        assert!(refused(standing(3, 12)).contains("/a.meta/term tells"));
    }

    #[test]
    fn a_foreign_candidate_behind_keeps_nobody_from_leading() {
        let noted = Standing {
            foreign: Token::new(10),
            ..standing(3, 3)
        };
        assert_eq!(noted.then(9, 0, false), ClaimStep::Delay);
        assert_eq!(noted.last_of(9, before(0)), 8);
        assert_eq!(noted.last_of(9, before(3)), 8);
        assert_eq!(noted.then(9, 0, true), ClaimStep::Lead);
    }

    #[test]
    fn no_foreign_candidate_led_after_one_in_front_that_was_waited_for() {
        let then = |foreign: i64, token: i64| {
            let noted = Standing {
                foreign: Token::new(foreign),
                ..standing(3, 3)
            };
            let in_front = true;
            let waited_for = WaitedFor {
                in_front,
                ..before(token)
            };
            let next = noted.next(
                &Prefix::new("/a"),
                Token::new(9).unwrap(),
                waited_for,
                false,
            );
            (next, noted.last_of(9, waited_for))
        };
        // One that waits behind, and one that stood between and left.
        for foreign in [10, 5] {
            assert_eq!(then(foreign, 3), (ClaimStep::Lead, 3));
            assert_eq!(then(foreign, 7), (ClaimStep::Delay, 7));
        }
    }
}
