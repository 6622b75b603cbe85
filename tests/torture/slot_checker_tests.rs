//! A clean history of slots passes, and each rule, broken by itself, is caught.

use std::time::Duration;

use incumbent::Token;
use incumbent::revision::Revision;
use incumbent::schedule::planner::{Guarantee, Missed, Overlap};
use incumbent::schedule::record::{Exit, HistoryEntry, Open, Outcome, State};
use incumbent::schedule::{Occasion, Slot};
use incumbent::wall::Time;

use crate::checker::{Candidacy, check_exclusion};
use crate::checker::{Evidence, OVERLAP, Outcome as Told, Verdict};
use crate::checker_tests::{candidacy, life};
use crate::slot_checker::*;
use crate::slots::{Completed, Ended, SlotPolicy, Slots, Started, StateWrite};

/// When it begins, in seconds: a slot, as each third second after it.
const BEGIN: u64 = 3_000_000;

/// A history in the making; moments are seconds from [`BEGIN`].
struct Story {
    slots: Slots,
    candidates: Vec<Candidacy>,
    state: State,
    nonces: u64,
    /// Who leads.
    by: i64,
}

fn time(at: u64) -> Time {
    Time::from_secs(BEGIN + at)
}

fn slot(at: u64) -> Slot {
    Slot::up_to(time(at))
}

fn token(number: i64) -> Token {
    Token::at(Revision::new(number))
}

impl Story {
    /// `a` leads with token 10 up to revision 20, then `b` with token 11.
    fn new(policy: SlotPolicy) -> Self {
        let state = State::new("every 3s".to_owned(), time(0));
        let mut story = Self {
            slots: Slots {
                policy,
                ..Slots::default()
            },
            candidates: vec![candidacy("a", 10, Some(20)), candidacy("b", 11, None)],
            state,
            nonces: 0,
            by: 10,
        };
        story.write(11, Vec::new());
        story
    }

    fn write(&mut self, revision: i64, entries: Vec<(u64, HistoryEntry)>) {
        self.slots.writes.push(StateWrite {
            revision,
            at: 0,
            state: Some(self.state.clone()),
            entries,
            done: None,
        });
    }

    /// The next run of this slot is claimed, and starts; `passed` are records written with the claim.
    fn claim(
        &mut self,
        (revision, by): (i64, i64),
        (of, attempt, missed): (u64, u32, u64),
        at: u64,
        passed: Vec<(Outcome, u64, u64)>,
    ) {
        self.by = by;
        let entries = self.pass(passed, at);
        self.nonces += 1;
        let nonce = format!("{:016x}", self.nonces);
        self.state.slot = self.state.slot.max(Some(slot(of)));
        self.state.open = Some(Open {
            slot: Occasion::Slot(slot(of)),
            attempt,
            token: Some(token(by)),
            nonce: nonce.clone(),
            host: "a".to_owned(),
            at: time(at),
            missed,
        });
        self.write(revision, entries);
        self.slots.starts.push(Started {
            nonce,
            pid: 1,
            token: by,
            slot: slot(of).to_string(),
            attempt,
            missed,
        });
    }

    /// Records of so many slots without a run, the last of each at a moment.
    fn pass(&mut self, passed: Vec<(Outcome, u64, u64)>, now: u64) -> Vec<(u64, HistoryEntry)> {
        let record = |(result, last, count): (Outcome, u64, u64)| {
            self.state.slot = self.state.slot.max(Some(slot(last)));
            self.state.missed += count;
            self.state.seq += 1;
            let entry = HistoryEntry {
                slot: Occasion::Slot(slot(last)),
                attempt: 0,
                result,
                code: None,
                signal: None,
                began: time(now),
                took_ms: 0,
                host: "a".to_owned(),
                token: Some(token(self.by)),
                missed: count - 1,
            };
            (self.state.seq, entry)
        };
        passed.into_iter().map(record).collect()
    }

    /// The open run ends so after a second; what it says itself is its code.
    fn close(&mut self, revision: i64, result: Outcome, passed: Vec<(Outcome, u64, u64)>) {
        let nonce = self.state.open.as_ref().unwrap().nonce.clone();
        let code = match result {
            Outcome::Success => Some(0),
            Outcome::Failure => Some(1),
            _ => None,
        };
        let exit = code.map(Exit::Code);
        let closed = self.state.closed(result, exit, Duration::from_secs(1));
        let (state, record) = closed.unwrap();
        self.state = state;
        let mut entries = vec![(self.state.seq, record)];
        entries.extend(self.pass(passed, 30));
        self.write(revision, entries);
        self.slots
            .ends
            .extend(code.map(|code| Ended { nonce, code }));
    }

    /// It is taken back, as never started.
    fn take_back(&mut self, revision: i64) {
        let open = self.state.open.clone().unwrap();
        let closed = self.state.closed(Outcome::Rerun, None, Duration::ZERO);
        let mut last = closed.unwrap().0.last;
        last.as_mut().unwrap().attempt = 0;
        if open.attempt == 1 {
            self.state.last = last;
        }
        self.state.open = None;
        self.write(revision, Vec::new());
        self.slots.starts.retain(|start| start.nonce != open.nonce);
    }

    #[track_caller]
    fn broken(&self) -> Vec<&'static str> {
        let mut breaches = Vec::new();
        check(&self.slots, &self.candidates, &mut breaches);
        breaches.into_iter().map(|breach| breach.rule).collect()
    }
}

fn with(change: impl FnOnce(&mut SlotPolicy)) -> SlotPolicy {
    let mut policy = SlotPolicy::default();
    change(&mut policy);
    policy
}

fn at_least_once() -> SlotPolicy {
    with(|it| it.guarantee = Guarantee::AtLeastOnce)
}

/// Two slots run by `a`, the second while another comes; two more pass, and `b` runs the next for them.
fn clean(policy: SlotPolicy) -> Story {
    let mut story = Story::new(policy);
    story.claim((12, 10), (3, 1, 0), 3, vec![]);
    story.close(13, Outcome::Success, vec![]);
    story.claim((14, 10), (6, 1, 0), 6, vec![]);
    story.close(15, Outcome::Failure, vec![(Outcome::Skipped, 9, 1)]);
    story.claim((21, 11), (18, 1, 2), 18, vec![]);
    story.close(22, Outcome::Success, vec![]);
    story
}

#[test]
fn a_clean_history_passes() {
    let story = clean(SlotPolicy::default());
    assert_eq!(story.broken(), [""; 0]);
    assert_eq!(story.slots.came(), 6);
}

#[test]
fn runs_that_live_at_once_break_a_rule_in_this_election_too() {
    let evidence = Evidence {
        lives: vec![life(10, 100, 1, 4), life(11, 101, 3, 5)],
        candidates: clean(SlotPolicy::default()).candidates,
        ..Evidence::default()
    };
    let mut verdict = Verdict::default();
    check_exclusion(&evidence, &mut verdict);
    assert_eq!(verdict.breaches[0].rule, OVERLAP);
}

#[test]
fn a_claim_of_a_term_that_is_over_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 10), (21, 1, 0), 21, vec![]);
    story.close(24, Outcome::Success, vec![]);
    assert_eq!(story.broken(), [USURPED]);
}

#[test]
fn a_mark_that_falls_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.state.slot = Some(slot(6));
    story.write(23, Vec::new());
    assert_eq!(story.broken(), [SUNK]);
}

#[test]
fn a_run_that_nobody_claimed_and_one_that_was_told_another_slot_are_caught() {
    let mut story = clean(SlotPolicy::default());
    story.slots.starts[0].nonce = "0".to_owned();
    assert_eq!(story.broken(), [UNCLAIMED]);
    for change in [
        |it: &mut Started| it.slot = "manual".to_owned(),
        |it: &mut Started| it.attempt = 2,
        |it: &mut Started| it.token = 9,
        |it: &mut Started| it.missed = 7,
    ] {
        let mut story = clean(SlotPolicy::default());
        change(&mut story.slots.starts[0]);
        assert_eq!(story.broken(), [UNCLAIMED]);
    }
}

#[test]
fn a_job_that_is_started_twice_for_one_attempt_is_caught() {
    let mut story = clean(at_least_once());
    let mut again = story.slots.starts[0].clone();
    again.pid = 2;
    story.slots.starts.push(again);
    assert_eq!(story.broken(), [TWICE]);
}

#[test]
fn at_most_once_a_lost_run_is_never_started_again() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        let mut story = clean(with(|it| it.guarantee = guarantee));
        story.claim((23, 11), (21, 1, 0), 21, vec![]);
        story.close(24, Outcome::Lost, vec![]);
        story.claim((25, 11), (21, 2, 0), 22, vec![]);
        story.close(26, Outcome::Success, vec![]);
        let broken = story.broken();
        match guarantee {
            Guarantee::AtMostOnce => assert_eq!(broken, [TWICE]),
            Guarantee::AtLeastOnce => assert_eq!(broken, [""; 0]),
        }
    }
}

#[test]
fn a_failed_slot_is_tried_as_often_as_the_policy_says() {
    for retries in [0, 1, 2] {
        let mut story = clean(with(|it| it.retries = retries));
        story.claim((23, 11), (21, 1, 0), 21, vec![]);
        story.close(24, Outcome::Failure, vec![]);
        story.claim((25, 11), (21, 2, 0), 22, vec![]);
        story.close(26, Outcome::Timeout, vec![]);
        let broken = story.broken();
        let expected: &[_] = if retries == 0 { &[TWICE] } else { &[] };
        assert_eq!(broken, expected);
    }
}

#[test]
fn a_slot_that_is_claimed_once_more_from_the_beginning_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (18, 1, 2), 19, vec![]);
    story.close(24, Outcome::Success, vec![]);
    assert_eq!(story.broken(), [TWICE, TWICE]);
}

#[test]
fn a_run_that_is_left_open_or_claimed_over_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (21, 1, 0), 21, vec![]);
    assert_eq!(story.broken(), [OPEN]);
    story.claim((24, 11), (24, 1, 0), 24, vec![]);
    story.close(25, Outcome::Success, vec![]);
    // Its end is in no record either.
    assert_eq!(story.broken(), [OPEN, OPEN]);
}

#[test]
fn a_record_that_is_missing_or_written_over_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.slots.writes[2].entries[0].0 = 2;
    assert_eq!(story.broken(), [OPEN]);
}

#[test]
fn a_run_that_started_is_not_taken_back() {
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (21, 1, 0), 21, vec![]);
    let start = story.slots.starts.last().cloned();
    story.take_back(24);
    story.claim((25, 11), (21, 1, 0), 21, vec![]);
    story.close(26, Outcome::Success, vec![]);
    assert_eq!(story.broken(), [""; 0]);
    story.slots.starts.extend(start);
    assert_eq!(story.broken(), [OPEN, TWICE]);
}

#[test]
fn an_end_that_is_told_as_another_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.slots.ends[0].code = 1;
    assert_eq!(story.broken(), [UNTRUE]);
    let mut story = clean(SlotPolicy::default());
    story.slots.ends[1].code = 0;
    assert_eq!(story.broken(), [UNTRUE]);
    // Nobody saw it come to its end.
    let mut story = clean(SlotPolicy::default());
    story.slots.ends.remove(0);
    assert_eq!(story.broken(), [UNTRUE]);
}

/// The last run completes itself, and its command fails; what it did, and what it was told.
fn completed() -> Story {
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (21, 1, 0), 21, vec![]);
    story.close(24, Outcome::Success, vec![]);
    story.slots.ends.last_mut().unwrap().code = 1;
    let start = story.slots.starts.last().cloned().unwrap();
    let write = story.slots.writes.last_mut().unwrap();
    write.done = Some((start.slot, start.nonce.clone()));
    let (nonce, outcome) = (start.nonce, Told::Accepted);
    story.slots.completions.push(Completed { nonce, outcome });
    story
}

#[test]
fn an_effect_is_there_once_with_its_runs_close_or_not_at_all() {
    assert_eq!(completed().broken(), [""; 0]);
    let broken = |harm: &dyn Fn(&mut Slots)| {
        let mut story = completed();
        harm(&mut story.slots);
        story.broken()
    };
    let last = |slots: &mut Slots| slots.writes.last_mut().unwrap().done.take().unwrap();
    // Accepted, and lost: nobody said that it was a success either.
    assert_eq!(broken(&|slots| drop(last(slots))), [UNTRUE, UNDONE]);
    // It closed another run, or none.
    let other = broken(&|slots| {
        let done = last(slots);
        slots.writes[2].done = Some(done);
    });
    assert_eq!(other, [UNDONE, UNTRUE]);
    let none = broken(&|slots| {
        let done = Some(last(slots));
        let alone = StateWrite {
            revision: 25,
            done,
            ..StateWrite::default()
        };
        slots.writes.push(alone);
    });
    assert_eq!(none, [UNTRUE, UNDONE]);
    let refused = broken(&|slots| slots.completions[0].outcome = Told::Refused);
    assert_eq!(refused, [UNTRUE]);
    let twice = broken(&|slots| {
        let (first, last) = (&slots.starts[0], &slots.starts[3]);
        slots.writes[2].done = Some((last.slot.clone(), first.nonce.clone()));
    });
    assert_eq!(twice, [UNDONE, TWICE]);
}

#[test]
fn a_slot_that_is_in_no_record_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (24, 1, 0), 24, vec![]);
    story.close(24, Outcome::Success, vec![]);
    assert_eq!(story.broken(), [UNACCOUNTED]);
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (24, 1, 1), 24, vec![]);
    story.close(24, Outcome::Success, vec![]);
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn another_attempt_stands_for_as_many_slots_as_the_first() {
    for missed in [1, 0] {
        let mut story = clean(at_least_once());
        story.claim((23, 11), (24, 1, 1), 24, vec![]);
        story.take_back(24);
        story.claim((25, 11), (24, 1, missed), 24, vec![]);
        story.close(26, Outcome::Success, vec![]);
        let expected: &[_] = if missed == 0 { &[UNACCOUNTED] } else { &[] };
        assert_eq!(story.broken(), expected);
    }
}

/// After 18, `count` slots are recorded as missed with the claim of the one behind them, which comes `late`
/// seconds after it.
fn missing(policy: SlotPolicy, count: u64, late: u64) -> Vec<&'static str> {
    let mut story = clean(policy);
    let last = 18 + 3 * count;
    let missed = vec![(Outcome::Missed, last, count)];
    story.claim((23, 11), (last + 3, 1, 0), last + 3 + late, missed);
    story.close(24, Outcome::Success, vec![]);
    story.broken()
}

#[test]
fn a_slot_that_the_policy_keeps_is_not_given_up() {
    let missed = |missed| with(|it| (it.missed, it.missed_max) = (missed, 3));
    assert_eq!(missing(missed(Missed::Last), 1, 0), [DROPPED]);
    assert_eq!(missing(missed(Missed::All), 1, 3), [DROPPED]);
    assert_eq!(missing(missed(Missed::All), 1, 6), [""; 0]);
    assert_eq!(missing(missed(Missed::Skip), 1, 0), [""; 0]);
    let within = |it| with(|policy| (policy.missed, policy.start_within) = (it, Some(8)));
    assert_eq!(missing(within(Missed::Last), 1, 3), [DROPPED]);
    assert_eq!(missing(within(Missed::Last), 1, 9), [""; 0]);
    // Alone, and on time.
    let mut story = clean(missed(Missed::Skip));
    let entries = story.pass(vec![(Outcome::Missed, 21, 1)], 24);
    story.write(23, entries);
    assert_eq!(story.broken(), [DROPPED]);
}

#[test]
fn a_slot_is_not_skipped_for_a_run_that_is_not_there() {
    let mut story = clean(SlotPolicy::default());
    let entries = story.pass(vec![(Outcome::Skipped, 21, 1)], 22);
    story.write(23, entries);
    assert_eq!(story.broken(), [DROPPED]);
    // The last run went on after it had closed itself.
    let mut story = completed();
    let entries = story.pass(vec![(Outcome::Skipped, 24, 1)], 25);
    story.write(25, entries);
    assert_eq!(story.broken(), [""; 0]);
    // It came before the run was claimed.
    let mut story = clean(SlotPolicy::default());
    story.claim((23, 11), (21, 1, 0), 28, vec![]);
    story.close(24, Outcome::Success, vec![(Outcome::Skipped, 27, 2)]);
    assert_eq!(story.broken(), [DROPPED]);
    // Unless it replaces that.
    story.slots.policy.overlap = Overlap::Replace;
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn what_is_owed_is_run_before_anything_else() {
    let owing = |policy: SlotPolicy, result| {
        let mut story = clean(policy);
        story.claim((23, 11), (21, 1, 0), 21, vec![]);
        match result {
            Outcome::Rerun => story.take_back(24),
            result => story.close(24, result, vec![]),
        }
        story.claim((25, 11), (24, 1, 0), 24, vec![]);
        story.close(26, Outcome::Success, vec![]);
        story.broken()
    };
    for result in [Outcome::Lost, Outcome::Stopped, Outcome::Killed] {
        assert_eq!(owing(at_least_once(), result), [FORGOTTEN], "{result:?}");
        assert_eq!(owing(SlotPolicy::default(), result), [""; 0], "{result:?}");
    }
    assert_eq!(owing(SlotPolicy::default(), Outcome::Rerun), [FORGOTTEN]);
    let replaced = with(|it| {
        (it.guarantee, it.overlap) = (Guarantee::AtLeastOnce, Overlap::Replace);
    });
    assert_eq!(owing(replaced, Outcome::Stopped), [""; 0]);
}

#[test]
fn a_schedule_that_stands_still_is_caught() {
    let mut story = clean(SlotPolicy::default());
    story.slots.stopped_at = time(30).as_millis();
    assert_eq!(story.broken(), [""; 0]);
    story.slots.stopped_at = time(60).as_millis();
    assert_eq!(story.broken(), [STILL]);
}

#[test]
fn every_policy_is_drawn_and_can_be_read() {
    let drawn: Vec<_> = (1..100).map(SlotPolicy::of).collect();
    for policy in &drawn {
        policy.toml("job").parse::<toml::Table>().unwrap();
    }
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        assert!(drawn.iter().any(|it| it.guarantee == guarantee));
    }
    assert_eq!(SlotPolicy::of(7), SlotPolicy::of(7));
}
