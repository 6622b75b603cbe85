//! The planner, line by line: what the store shows, and what each policy makes of it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::revision::{Revision, Token};
use crate::schedule::record::Last;
use crate::schedule::{Pace, Schedule};

mod doubt;
mod wakes;

const TOKEN: Token = Token::at(Revision::new(50));

fn time(text: &str) -> Time {
    format!("2027-06-01T{text}Z").parse().unwrap()
}

fn slot(text: &str) -> Slot {
    Slot::up_to(time(text))
}

fn policy() -> Policy {
    Policy {
        guarantee: Guarantee::AtMostOnce,
        missed: Missed::Last,
        missed_max: 10,
        start_within: None,
        overlap: Overlap::Skip,
        retries: 0,
        retry_delay: Duration::from_secs(30),
        jitter: Duration::ZERO,
        drain: Duration::ZERO,
        timeout: None,
        history: 100,
    }
}

/// A planner, and a store that does at once what it is asked, unless a test takes the word.
struct Desk {
    planner: Planner,
    wall: Time,
    clock: Instant,
    state: Option<State>,
    runs: Vec<(u64, HistoryEntry)>,
    trimmed: Vec<u64>,
    revision: Revision,
    /// Whether writes stay unanswered.
    mute: bool,
    pending: Vec<Write>,
    reads: Vec<u64>,
    done: Vec<Action>,
}

impl Desk {
    /// At 10:00:30, with a slot each minute, in no term.
    fn new(policy: Policy) -> Self {
        let schedule = Schedule::new(&Pace::Cron(vec!["* * * * *".to_owned()]), "UTC").unwrap();
        let setup = Setup {
            schedule: Arc::new(schedule),
            policy,
            election: "/jobs/backup".to_owned(),
            host: "a".to_owned(),
        };
        Self {
            planner: Planner::new(setup),
            wall: time("10:00:30"),
            clock: Instant::from_nanos(1_000_000_000),
            state: None,
            runs: Vec::new(),
            trimmed: Vec::new(),
            revision: Revision::default(),
            mute: false,
            pending: Vec::new(),
            reads: Vec::new(),
            done: Vec::new(),
        }
    }

    /// The same, with this change to the state that an earlier leader left at 10:00:30.
    fn with(policy: Policy, change: impl FnOnce(&mut State)) -> Self {
        let mut desk = Self::new(policy);
        let mut state = State::new(desk.planner.setup.schedule.spec().to_owned(), desk.wall);
        change(&mut state);
        (desk.state, desk.revision) = (Some(state), Revision::new(7));
        desk
    }

    fn now(&self) -> Now {
        Now {
            wall: self.wall,
            clock: self.clock,
        }
    }

    fn tell(&mut self, event: Event) {
        let actions = self.planner.handle(event, self.now());
        let mut answers = Vec::new();
        for action in actions {
            match &action {
                Action::Read { number } if self.mute => self.reads.push(*number),
                Action::Read { number } => answers.push(self.answer(*number)),
                Action::Write(write) if self.mute => self.pending.push((**write).clone()),
                Action::Write(write) => {
                    let written = self.apply(write);
                    let number = write.number;
                    answers.push(Event::Wrote { number, written });
                }
                _ => {}
            }
            self.done.push(action);
        }
        for answer in answers {
            self.tell(answer);
        }
    }

    fn answer(&self, number: u64) -> Event {
        let stored = match &self.state {
            None => Stored::Absent,
            Some(state) => Stored::State {
                state: Box::new(state.clone()),
                revision: self.revision,
            },
        };
        Event::Read { number, stored }
    }

    fn apply(&mut self, write: &Write) -> Written {
        if write.seen != self.revision {
            return Written::Refused;
        }
        self.revision = self.revision.next();
        self.state = Some(write.state.clone());
        self.runs.extend(write.runs.clone());
        self.trimmed.extend(&write.trimmed);
        Written::Done {
            revision: self.revision,
        }
    }

    fn lead(&mut self) -> &mut Self {
        let (token, seed) = (TOKEN, 1);
        self.tell(Event::Elected { token, seed });
        self
    }

    /// Goes on to a time of day, and ticks.
    fn at(&mut self, text: &str) -> &mut Self {
        self.clock = self.clock + time(text).since(self.wall);
        self.wall = time(text);
        self.tell(Event::Tick);
        self
    }

    fn end(&mut self, code: i32) -> &mut Self {
        self.tell(Event::Ended {
            exit: Some(Exit::Code(code)),
            killed: false,
            took: Duration::from_secs(1),
        });
        self
    }

    /// What was started since it was last asked: slots and attempts.
    fn started(&mut self) -> Vec<String> {
        let done = std::mem::take(&mut self.done);
        let starts = done.into_iter().filter_map(|action| match action {
            Action::Start(run) => Some(run),
            _ => None,
        });
        starts
            .map(|run| format!("{} #{} +{}", short(run.slot), run.attempt, run.missed))
            .collect()
    }

    fn said(&self, matches: impl Fn(&Line) -> bool) -> bool {
        let says = |action: &Action| matches!(action, Action::Say(line) if matches(line));
        self.done.iter().any(says)
    }

    /// The records of runs: slot, result, and how many it stands for.
    fn records(&self) -> Vec<String> {
        let runs = self.runs.iter().map(|(_, run)| {
            let word = run.result.word();
            format!("{} {word} +{}", short(run.slot), run.missed)
        });
        runs.collect()
    }

    fn state(&self) -> &State {
        self.state.as_ref().unwrap()
    }
}

fn short(slot: Occasion) -> String {
    let text = slot.to_string();
    text.strip_prefix("2027-06-01T")
        .map_or(text.clone(), |time| time[..5].to_owned())
}

fn open(slot: Slot, attempt: u32) -> Open {
    Open {
        slot: Occasion::Slot(slot),
        attempt,
        token: Some(Token::at(Revision::new(40))),
        nonce: "n".to_owned(),
        host: "b".to_owned(),
        at: slot.time(),
        missed: 0,
    }
}

fn last(slot: Slot, attempt: u32, result: Outcome) -> Last {
    Last {
        slot: Occasion::Slot(slot),
        attempt,
        result,
        began: slot.time(),
        took_ms: 1,
        host: "b".to_owned(),
        token: Some(Token::at(Revision::new(40))),
        nonce: None,
        missed: 0,
    }
}

#[test]
fn a_first_deployment_starts_from_now() {
    let mut desk = Desk::new(policy());
    desk.lead();
    assert_eq!(desk.state().since, time("10:00:30"));
    assert!(desk.started().is_empty());
    assert_eq!(desk.planner.next_timer().wall, Some(time("10:01:00")));
    desk.at("10:01:00").end(0);
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
    assert_eq!(desk.records(), ["10:01 success +0"]);
    let state = desk.state();
    assert_eq!((state.slot, state.seq), (Some(slot("10:01:00")), 1));
    assert_eq!(state.last_success, state.slot);
    assert_eq!(state.open, None);
}

#[test]
fn a_changed_schedule_starts_from_now_and_never_from_the_past() {
    let mut desk = Desk::with(policy(), |state| {
        state.spec = "another".to_owned();
        state.since = time("09:00:00");
    });
    desk.lead();
    assert!(desk.said(|line| matches!(line, Line::Changed { .. })));
    assert!(desk.started().is_empty());
    assert_eq!(desk.state().since, time("10:00:30"));
    desk.at("10:01:00");
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}

#[test]
fn nothing_starts_before_its_claim_is_acknowledged() {
    let mut desk = Desk::new(policy());
    desk.lead().mute = true;
    desk.at("10:01:00");
    assert_eq!(desk.pending.len(), 1);
    desk.at("10:01:30");
    assert!(desk.started().is_empty());
    let write = desk.pending.remove(0);
    let written = desk.apply(&write);
    let number = write.number;
    desk.tell(Event::Wrote { number, written });
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
    let state = desk.state().clone();
    assert_eq!(state.open.unwrap().token, Some(TOKEN));
}

#[test]
fn an_unanswered_claim_is_read_back_and_is_mine_or_sent_again() {
    for landed in [true, false] {
        let mut desk = Desk::new(policy());
        desk.lead().mute = true;
        desk.at("10:01:00");
        let write = desk.pending.remove(0);
        if landed {
            desk.apply(&write);
        }
        let (number, written) = (write.number, Written::Unknown);
        desk.tell(Event::Wrote { number, written });
        assert!(desk.started().is_empty());
        let read = desk.reads.pop().unwrap();
        let answer = desk.answer(read);
        desk.tell(answer);
        if !landed {
            assert!(desk.started().is_empty());
            let again = desk.pending.remove(0);
            assert_eq!((&again.state, again.seen), (&write.state, write.seen));
            // The first comes after all, and the second is refused.
            desk.apply(&write);
            let (number, written) = (again.number, desk.apply(&again));
            assert_eq!(written, Written::Refused);
            desk.tell(Event::Wrote { number, written });
            let read = desk.reads.pop().unwrap();
            let answer = desk.answer(read);
            desk.tell(answer);
        }
        assert_eq!(desk.started(), ["10:01 #1 +0"]);
    }
}

#[test]
fn a_claim_that_another_overtook_starts_nothing() {
    let mut desk = Desk::new(policy());
    desk.lead().mute = true;
    desk.at("10:01:00");
    let write = desk.pending.remove(0);
    // Somebody settled the slot meanwhile.
    desk.revision = desk.revision.next();
    desk.state.as_mut().unwrap().slot = Some(slot("10:01:00"));
    desk.mute = false;
    let (number, written) = (write.number, Written::Refused);
    desk.tell(Event::Wrote { number, written });
    assert!(desk.started().is_empty());
    desk.at("10:02:00");
    assert_eq!(desk.started(), ["10:02 #1 +0"]);
}

#[test]
fn a_claim_that_is_acknowledged_too_late_is_taken_back() {
    for event in [Event::Stop, Event::Paused(true)] {
        let mut desk = Desk::new(policy());
        desk.lead().mute = true;
        desk.at("10:01:00");
        desk.tell(event);
        desk.mute = false;
        let write = desk.pending.remove(0);
        let (number, written) = (write.number, desk.apply(&write));
        desk.tell(Event::Wrote { number, written });
        assert!(desk.started().is_empty());
        assert_eq!(desk.state().open, None);
        // Who leads next runs it for the first time.
        let mut next = Desk::with(policy(), |_| {});
        next.state = desk.state;
        next.wall = time("10:01:10");
        next.lead();
        assert_eq!(next.started(), ["10:01 #1 +0"]);
    }
}

#[test]
fn a_claim_that_was_given_up_is_kept_from_coming_before_its_slot_is_told_of() {
    for (event, landed) in [
        (Event::Stop, true),
        (Event::Stop, false),
        (Event::Paused(true), true),
        (Event::Paused(true), false),
    ] {
        let mut desk = Desk::new(policy());
        desk.lead().mute = true;
        desk.at("10:01:00");
        let claim = desk.pending.remove(0);
        desk.tell(event.clone());
        let (number, written) = (claim.number, Written::Unknown);
        desk.tell(Event::Wrote { number, written });
        let answer = desk.answer(desk.reads[0]);
        desk.tell(answer);
        // Neither left nor told of while the claim may come.
        assert!(!desk.done.contains(&Action::Drained), "{event:?}");
        assert!(!desk.said(|line| matches!(line, Line::Skipped { .. })));
        let instead = desk.pending.remove(0);
        assert_eq!((&instead.state, instead.seen), (desk.state(), claim.seen));
        if landed {
            desk.apply(&claim);
        }
        desk.mute = false;
        let (number, written) = (instead.number, desk.apply(&instead));
        desk.tell(Event::Wrote { number, written });
        assert_eq!(desk.apply(&claim), Written::Refused);
        assert_eq!(desk.state().open, None);
        desk.at("10:02:00").tell(Event::Paused(false));
        desk.at("10:02:30");
        let (started, records) = (desk.started(), desk.records());
        match (event, landed) {
            (Event::Stop, _) => assert!(started.is_empty() && records.is_empty()),
            // The slot is either taken back and run, or skipped, and counted once.
            (_, true) => {
                assert_eq!(records, ["10:02 skipped +0"]);
                assert_eq!(started, ["10:01 #1 +0"]);
            }
            (_, false) => {
                assert_eq!(records, ["10:02 skipped +1"]);
                assert!(started.is_empty());
            }
        }
    }
}

#[test]
fn a_write_that_changes_nothing_is_done_only_once_its_revision_is_there() {
    let mut desk = Desk::new(policy());
    desk.lead().mute = true;
    desk.at("10:01:00");
    let claim = desk.pending.remove(0);
    desk.tell(Event::Stop);
    // Nor is the write answered that takes the claim's place, and both are still to come.
    let mut unanswered = claim.number;
    for _ in 0..2 {
        let (number, written) = (unanswered, Written::Unknown);
        desk.tell(Event::Wrote { number, written });
        let number = desk.reads.pop().unwrap();
        let answer = desk.answer(number);
        desk.tell(answer);
        unanswered = desk.pending.pop().expect("sent again").number;
    }
    assert!(!desk.done.contains(&Action::Drained));
}

#[test]
fn a_term_that_is_over_starts_and_writes_nothing_more() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00");
    desk.done.clear();
    desk.tell(Event::TermOver);
    desk.end(0).at("10:02:00");
    assert_eq!(desk.done, []);
    assert_eq!(desk.planner.next_timer(), Wake::default());
}

#[test]
fn an_open_run_of_a_former_term_is_lost_or_run_again() {
    let ten = slot("10:00:00");
    for (guarantee, attempt, expected) in [
        (Guarantee::AtMostOnce, 1, vec![]),
        (Guarantee::AtLeastOnce, 1, vec!["10:00 #2 +0"]),
        // From then on not at once, but before the next slot.
        (Guarantee::AtLeastOnce, 2, vec![]),
    ] {
        let policy = Policy {
            guarantee,
            ..policy()
        };
        let mut desk = Desk::with(policy, |state| {
            state.slot = Some(ten);
            state.open = Some(open(ten, attempt));
        });
        desk.lead();
        assert!(desk.said(|line| matches!(line, Line::Lost { .. })));
        assert_eq!(desk.started(), expected);
        assert_eq!(desk.records(), ["10:00 lost +0"]);
        desk.at("10:01:00");
        let later = match (guarantee, attempt) {
            (Guarantee::AtMostOnce, _) => vec!["10:01 #1 +0"],
            (Guarantee::AtLeastOnce, 1) => vec![],
            (Guarantee::AtLeastOnce, _) => vec!["10:00 #3 +0"],
        };
        assert_eq!(desk.started(), later);
    }
}

#[test]
fn a_stopped_run_stays_so_or_is_run_again_by_the_next_leader() {
    let ten = slot("10:00:00");
    for (guarantee, result, expected) in [
        (Guarantee::AtMostOnce, Outcome::Stopped, vec![]),
        (Guarantee::AtMostOnce, Outcome::Killed, vec![]),
        (Guarantee::AtMostOnce, Outcome::Lost, vec![]),
        (
            Guarantee::AtLeastOnce,
            Outcome::Stopped,
            vec!["10:00 #2 +0"],
        ),
        (Guarantee::AtLeastOnce, Outcome::Killed, vec!["10:00 #2 +0"]),
        (Guarantee::AtLeastOnce, Outcome::Failure, vec![]),
        (Guarantee::AtMostOnce, Outcome::Rerun, vec!["10:00 #2 +0"]),
    ] {
        let policy = Policy {
            guarantee,
            ..policy()
        };
        let mut desk = Desk::with(policy, |state| {
            state.slot = Some(ten);
            state.last = Some(last(ten, 1, result));
        });
        assert_eq!(desk.lead().started(), expected, "{guarantee:?} {result:?}");
    }
}

#[test]
fn a_state_that_can_not_be_read_counts_as_there_and_is_said() {
    let mut desk = Desk::new(policy());
    desk.mute = true;
    desk.lead();
    let number = desk.reads.pop().unwrap();
    let (why, revision) = ("no JSON".to_owned(), Revision::new(9));
    let stored = Stored::Unreadable { why, revision };
    desk.tell(Event::Read { number, stored });
    assert!(desk.said(|line| matches!(line, Line::Unreadable { .. })));
    desk.at("10:05:00");
    assert!(desk.started().is_empty() && desk.pending.is_empty());
    desk.tell(Event::Stop);
    assert!(desk.done.contains(&Action::Drained));
}

#[test]
fn missed_slots_follow_their_policy() {
    let missed = |missed, missed_max, start_within| {
        let policy = Policy {
            missed,
            missed_max,
            start_within,
            ..policy()
        };
        let mut desk = Desk::with(policy, |state| state.slot = Some(slot("10:00:00")));
        desk.wall = time("10:05:30");
        desk.lead();
        let mut started = desk.started();
        for _ in 0..10 {
            desk.end(0);
            started.extend(desk.started());
        }
        (started, desk.records(), desk.state().missed)
    };
    let (started, records, count) = missed(Missed::Skip, 10, None);
    assert!(started.is_empty());
    assert_eq!((records, count), (vec!["10:05 missed +4".to_owned()], 5));
    let (started, records, count) = missed(Missed::Last, 10, None);
    assert_eq!(started, ["10:05 #1 +4"]);
    assert_eq!((records, count), (vec!["10:05 success +4".to_owned()], 0));
    let (started, records, count) = missed(Missed::All, 3, None);
    assert_eq!(started, ["10:03 #1 +0", "10:04 #1 +0", "10:05 #1 +0"]);
    assert_eq!((&*records[0], count), ("10:02 missed +1", 2));
    // From 10:03 on none is later than this.
    let within = Some(Duration::from_secs(150));
    let (started, records, count) = missed(Missed::Last, 10, within);
    assert_eq!(started, ["10:05 #1 +2"]);
    assert_eq!((&*records[0], count), ("10:02 missed +1", 2));
    let (started, records, _) = missed(Missed::Last, 10, Some(Duration::from_secs(10)));
    assert!(started.is_empty());
    assert_eq!(records, ["10:05 missed +4"]);
}

#[test]
fn another_attempt_stands_for_the_same_missed_slots() {
    let late = |policy: Policy| {
        let mut desk = Desk::with(policy, |state| state.slot = Some(slot("10:00:00")));
        desk.wall = time("10:05:30");
        desk.lead();
        assert_eq!(desk.started(), ["10:05 #1 +4"]);
        desk
    };
    // It certainly did not start.
    let mut desk = late(policy());
    desk.tell(Event::NotStarted);
    desk.at("10:05:40");
    assert_eq!(desk.started(), ["10:05 #1 +4"]);
    // It failed.
    let mut desk = late(Policy {
        retries: 1,
        retry_delay: Duration::from_secs(1),
        ..policy()
    });
    desk.end(1).at("10:05:40");
    assert_eq!(desk.started(), ["10:05 #2 +4"]);
    // Nobody recorded its end, and another leads.
    let mut desk = late(Policy {
        guarantee: Guarantee::AtLeastOnce,
        ..policy()
    });
    desk.tell(Event::TermOver);
    let token = Token::at(Revision::new(90));
    desk.tell(Event::Elected { token, seed: 2 });
    assert_eq!(desk.started(), ["10:05 #2 +4"]);
    desk.end(0);
    let records = ["10:05 lost +4", "10:05 success +4"];
    assert_eq!(desk.records(), records);
}

#[test]
fn what_was_missed_before_a_run_that_comes_first_follows_its_policy() {
    let policy = |missed| Policy {
        missed,
        guarantee: Guarantee::AtLeastOnce,
        ..policy()
    };
    for (missed, next) in [
        (Missed::All, ["10:01 #1 +0", "10:02 #1 +0", "10:03 #1 +0"]),
        (Missed::Last, ["10:03 #1 +2", "", ""]),
    ] {
        // It is owed.
        let mut owed = Desk::with(policy(missed), |state| {
            state.slot = Some(slot("10:00:00"));
            state.last = Some(last(slot("10:00:00"), 1, Outcome::Lost));
        });
        owed.wall = time("10:02:30");
        assert_eq!(owed.lead().started(), ["10:00 #2 +0"]);
        // Somebody asks for it.
        let mut wished = Desk::with(policy(missed), |state| {
            state.slot = Some(slot("10:00:00"));
        });
        wished.wall = time("10:02:30");
        wished.mute = true;
        wished.lead();
        wished.tell(Event::Trigger {
            id: 1,
            queue: false,
        });
        wished.mute = false;
        let number = wished.reads.pop().unwrap();
        let answer = wished.answer(number);
        wished.tell(answer);
        assert_eq!(wished.started(), ["manual #1 +0"]);
        for mut desk in [owed, wished] {
            // One more comes while it runs.
            desk.at("10:03:10");
            let started = next.map(|_| desk.end(0).started().pop().unwrap_or_default());
            assert_eq!(started, next);
            assert_eq!(desk.state().missed, 0);
        }
    }
}

#[test]
fn what_was_missed_before_a_run_that_comes_first_is_recorded_so_where_none_is_kept() {
    for (overlap, next) in [(Overlap::Queue, "10:03 #1 +0"), (Overlap::Skip, "")] {
        let policy = Policy {
            missed: Missed::Skip,
            overlap,
            guarantee: Guarantee::AtLeastOnce,
            ..policy()
        };
        let mut desk = Desk::with(policy, |state| {
            state.slot = Some(slot("10:00:00"));
            state.last = Some(last(slot("10:00:00"), 1, Outcome::Lost));
        });
        desk.wall = time("10:02:30");
        assert_eq!(desk.lead().started(), ["10:00 #2 +0"]);
        assert_eq!(desk.records(), ["10:02 missed +1"]);
        // One more comes while it runs, and is what its policy for that makes of it.
        desk.at("10:03:10");
        assert_eq!(desk.end(0).started().pop().unwrap_or_default(), next);
    }
}

#[test]
fn what_was_missed_while_the_store_was_away_waits_behind_the_queue() {
    let mut desk = Desk::new(Policy {
        missed: Missed::All,
        overlap: Overlap::Queue,
        ..policy()
    });
    desk.lead().at("10:01:00").at("10:02:00").mute = true;
    desk.end(0);
    desk.at("10:04:30").mute = false;
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
    let write = desk.pending.remove(0);
    let (number, written) = (write.number, desk.apply(&write));
    desk.tell(Event::Wrote { number, written });
    for next in ["10:02 #1 +0", "10:03 #1 +0", "10:04 #1 +0"] {
        assert_eq!(desk.started(), [next]);
        desk.end(0);
    }
    assert_eq!(desk.state().missed, 0);
}

#[test]
fn what_was_missed_is_not_recorded_before_what_was_queued_has_run() {
    let mut desk = Desk::new(Policy {
        missed: Missed::Skip,
        overlap: Overlap::Queue,
        ..policy()
    });
    desk.lead().at("10:01:00");
    desk.tell(Event::Trigger { id: 1, queue: true });
    desk.at("10:02:00").mute = true;
    desk.end(0);
    // The store is away for a while.
    let close = desk.pending.remove(0);
    desk.at("10:03:30").mute = false;
    let (number, written) = (close.number, desk.apply(&close));
    desk.tell(Event::Wrote { number, written });
    assert_eq!(desk.started(), ["10:01 #1 +0", "manual #1 +0"]);
    assert_eq!(desk.state().slot, Some(slot("10:01:00")));
    desk.end(0);
    assert_eq!(desk.started(), ["10:02 #1 +0"]);
    desk.end(0);
    let expected = [
        "10:01 success +0",
        "manual success +0",
        "10:02 success +0",
        "10:03 missed +0",
    ];
    assert_eq!(desk.records(), expected);
}

#[test]
fn a_slot_that_came_during_a_hand_over_is_not_missed() {
    let policy = Policy {
        missed: Missed::Skip,
        ..policy()
    };
    let mut desk = Desk::with(policy, |state| state.slot = Some(slot("10:00:00")));
    desk.wall = time("10:01:02");
    assert_eq!(desk.lead().started(), ["10:01 #1 +0"]);
}

#[test]
fn a_long_absence_is_not_walked_slot_by_slot() {
    let policy = Policy {
        missed: Missed::All,
        missed_max: 2,
        ..policy()
    };
    let mut desk = Desk::with(policy, |state| {
        state.since = "2025-01-01T00:00:00Z".parse().unwrap();
    });
    desk.lead();
    assert_eq!(desk.started(), ["09:59 #1 +0"]);
    assert!(desk.state().missed >= 10_000);
    desk.end(0);
    assert_eq!(desk.started(), ["10:00 #1 +0"]);
}

#[test]
fn a_slot_that_comes_while_a_run_goes_follows_overlap() {
    for (overlap, after, records) in [
        (Overlap::Skip, "10:05 #1 +0", "10:04 skipped +2"),
        (Overlap::Queue, "10:04 #1 +0", "10:03 skipped +1"),
    ] {
        let mut desk = Desk::new(Policy {
            overlap,
            ..policy()
        });
        desk.lead().at("10:01:00");
        assert_eq!(desk.started(), ["10:01 #1 +0"]);
        desk.at("10:02:00").at("10:03:00").at("10:04:30");
        assert!(desk.started().is_empty());
        desk.end(0);
        if overlap == Overlap::Skip {
            desk.at("10:05:00");
        }
        assert_eq!(desk.started(), [after], "{overlap:?}");
        assert_eq!(desk.records()[1], records);
    }
}

#[test]
fn a_run_is_replaced_by_the_next_slot() {
    let mut desk = Desk::new(Policy {
        overlap: Overlap::Replace,
        guarantee: Guarantee::AtLeastOnce,
        ..policy()
    });
    desk.lead().at("10:01:00").at("10:02:00");
    assert!(desk.done.contains(&Action::Stop(StopReason::Replaced)));
    desk.started();
    desk.end(1);
    assert_eq!(desk.started(), ["10:02 #1 +0"]);
    assert_eq!(desk.records(), ["10:01 stopped +0"]);
}

#[test]
fn a_failed_slot_is_tried_again_until_it_succeeds_or_the_next_comes() {
    let retrying = Policy {
        retries: 2,
        retry_delay: Duration::from_secs(10),
        ..policy()
    };
    let mut desk = Desk::new(retrying.clone());
    desk.lead().at("10:01:00").end(1);
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
    let wake = desk.planner.next_timer().clock.unwrap();
    let pause = wake.since(desk.clock);
    assert!(pause >= Duration::from_secs(5) && pause <= Duration::from_secs(10));
    desk.at("10:01:10").end(1);
    assert_eq!(desk.started(), ["10:01 #2 +0"]);
    assert!(desk.planner.next_timer().clock.unwrap().since(desk.clock) >= Duration::from_secs(10));
    desk.at("10:01:30").end(1);
    assert_eq!(desk.started(), ["10:01 #3 +0"]);
    assert_eq!(desk.state().failures, 1, "a slot fails once");
    desk.at("10:01:59");
    assert!(desk.started().is_empty());
    desk.at("10:02:00").end(1);
    // The pause would end after the next slot.
    desk.at("10:02:01");
    desk.done.clear();
    desk.at("10:03:00");
    assert_eq!(desk.started(), ["10:03 #1 +0"]);
    assert_eq!(desk.state().failures, 2);
    desk.end(0);
    assert_eq!(desk.state().failures, 0);
    // The next leader goes on with it.
    let mut next = Desk::with(retrying, |state| {
        state.slot = Some(slot("10:00:00"));
        state.last = Some(last(slot("10:00:00"), 2, Outcome::Failure));
    });
    next.lead().at("10:00:55");
    assert_eq!(next.started(), ["10:00 #3 +0"]);
}

#[test]
fn no_retry_is_later_than_start_within() {
    let mut desk = Desk::new(Policy {
        retries: 5,
        retry_delay: Duration::from_secs(20),
        start_within: Some(Duration::from_secs(5)),
        ..policy()
    });
    desk.lead().at("10:01:00").end(1);
    desk.started();
    desk.at("10:01:30");
    assert!(desk.started().is_empty());
}

#[test]
fn a_run_that_takes_too_long_is_stopped_and_the_term_goes_on() {
    let mut desk = Desk::new(Policy {
        timeout: Some(Duration::from_secs(20)),
        ..policy()
    });
    desk.lead().at("10:01:00").at("10:01:19");
    assert!(!desk.said(|line| matches!(line, Line::TimedOut { .. })));
    desk.at("10:01:20").at("10:01:21");
    let stops = |action: &&Action| **action == Action::Stop(StopReason::Timeout);
    assert_eq!(desk.done.iter().filter(stops).count(), 1);
    desk.end(0).at("10:02:00");
    assert_eq!(desk.records(), ["10:01 timeout +0"]);
    assert_eq!(desk.started(), ["10:01 #1 +0", "10:02 #1 +0"]);
}

#[test]
fn a_planned_stop_drains_closes_and_is_done() {
    let mut desk = Desk::new(Policy {
        drain: Duration::from_secs(20),
        ..policy()
    });
    desk.lead().at("10:01:00");
    desk.tell(Event::Stop);
    assert!(!desk.done.contains(&Action::Stop(StopReason::Planned)));
    desk.at("10:01:20");
    assert!(desk.done.contains(&Action::Stop(StopReason::Planned)));
    assert!(!desk.done.contains(&Action::Drained));
    desk.end(0);
    let last = desk.done.iter().rev().find_map(|action| match action {
        Action::Write(write) => Some(write.last),
        _ => None,
    });
    assert_eq!(last, Some(true), "it may go with the resignation");
    assert_eq!(desk.records(), ["10:01 stopped +0"]);
    assert!(desk.done.contains(&Action::Drained));
    // Within its time to drain it is a success; without time it is stopped at once.
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00");
    desk.tell(Event::Stop);
    assert!(desk.done.contains(&Action::Stop(StopReason::Planned)));
}

#[test]
fn a_close_is_repeated_until_it_is_answered() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00").mute = true;
    desk.end(0);
    for _ in 0..3 {
        let write = desk.pending.remove(0);
        let (number, written) = (write.number, Written::Unknown);
        desk.tell(Event::Wrote { number, written });
        let number = desk.reads.pop().unwrap();
        let stored = Stored::Unknown;
        desk.tell(Event::Read { number, stored });
        desk.clock = desk.clock + AGAIN;
        desk.tell(Event::Tick);
        let number = desk.reads.pop().unwrap();
        let answer = desk.answer(number);
        desk.tell(answer);
    }
    let write = desk.pending.remove(0);
    let (number, written) = (write.number, desk.apply(&write));
    desk.tell(Event::Wrote { number, written });
    assert_eq!(desk.records(), ["10:01 success +0"]);
}

#[test]
fn a_close_that_another_made_in_our_place_wins() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00");
    let standing = desk.planner.standing_close().unwrap();
    desk.apply(&standing);
    desk.end(0);
    assert_eq!(desk.records(), ["10:01 stopped +0"]);
    // One that changed something else doesn't keep the end from being recorded.
    desk.at("10:02:00");
    desk.revision = desk.revision.next();
    desk.state.as_mut().unwrap().missed = 9;
    desk.end(0);
    assert_eq!(desk.records()[1..], ["10:02 success +0"]);
    assert_eq!(desk.state().missed, 9);
}

impl Desk {
    /// The run closes itself, in a transaction of its own.
    fn complete(&mut self) -> &mut Self {
        let closed = self.state().closed(Outcome::Success, None, Duration::ZERO);
        let (state, record) = closed.unwrap();
        self.revision = self.revision.next();
        self.runs.push((state.seq, record));
        self.state = Some(state);
        self
    }

    /// What the ends of runs were told as since it was last asked.
    fn closed(&mut self) -> Vec<Outcome> {
        let done = std::mem::take(&mut self.done).into_iter();
        let closed = done.filter_map(|action| match action {
            Action::Closed { result, .. } => Some(result),
            _ => None,
        });
        closed.collect()
    }
}

#[test]
fn a_run_that_closed_itself_is_a_success_however_it_ends() {
    for is_heard in [true, false] {
        let mut desk = Desk::new(Policy {
            retries: 3,
            guarantee: Guarantee::AtLeastOnce,
            ..policy()
        });
        desk.lead().at("10:01:00").complete();
        if is_heard {
            desk.tell(Event::StateChanged);
            let state = desk.planner.state().unwrap();
            assert_eq!(state.last_success, Some(slot("10:01:00")));
        }
        assert!(desk.planner.is_running(), "its processes go on");
        desk.closed();
        desk.end(1);
        assert_eq!(desk.closed(), [Outcome::Success], "{is_heard}");
        assert_eq!(desk.records(), ["10:01 success +0"]);
        // Nothing of it is left to do, and the next slot is run as ever.
        desk.at("10:01:59");
        assert_eq!(desk.started(), Vec::<String>::new());
        desk.at("10:02:00").end(0);
        assert_eq!(desk.started(), ["10:02 #1 +0"]);
        assert_eq!(desk.records()[1..], ["10:02 success +0"]);
    }
}

#[test]
fn a_run_that_closed_itself_is_not_written_again_when_its_term_ends() {
    let mut desk = Desk::new(Policy {
        drain: Duration::from_mins(1),
        ..policy()
    });
    desk.lead().at("10:01:00").complete();
    desk.tell(Event::StateChanged);
    assert_eq!(desk.planner.standing_close(), None);
    desk.tell(Event::Stop);
    let revision = desk.revision;
    desk.end(1);
    assert!(desk.done.contains(&Action::Drained));
    assert_eq!(desk.closed(), [Outcome::Success]);
    assert_eq!(desk.revision, revision);
}

#[test]
fn what_closes_itself_is_trimmed_by_the_next_write() {
    let mut desk = Desk::new(Policy {
        history: 2,
        ..policy()
    });
    desk.lead();
    for minute in 1..=5 {
        desk.at(&format!("10:0{minute}:00")).complete().end(0);
    }
    desk.at("10:06:00");
    assert_eq!(desk.trimmed, [1, 2, 3]);
    // Whatever became of who led meanwhile.
    desk.complete().tell(Event::TermOver);
    desk.lead().at("10:07:00");
    assert_eq!(desk.trimmed, [1, 2, 3, 4]);
}

#[test]
fn history_is_trimmed_by_its_numbers() {
    let mut desk = Desk::new(Policy {
        history: 2,
        ..policy()
    });
    desk.lead();
    for minute in 1..=4 {
        desk.at(&format!("10:0{minute}:00")).end(0);
    }
    assert_eq!(desk.trimmed, [1, 2]);
}

#[test]
fn slots_of_a_paused_time_are_skipped() {
    let mut desk = Desk::new(policy());
    desk.tell(Event::Paused(true));
    desk.lead().at("10:01:00").at("10:02:00").at("10:03:30");
    assert!(desk.started().is_empty());
    desk.tell(Event::Paused(false));
    assert!(desk.started().is_empty());
    assert_eq!(desk.records(), ["10:03 skipped +2"]);
    assert_eq!(desk.state().missed, 3);
    desk.at("10:04:00");
    assert_eq!(desk.started(), ["10:04 #1 +0"]);
    // A pause that nobody led through.
    let mut desk = Desk::with(policy(), |state| *state = state.resumed(time("10:02:30")));
    desk.wall = time("10:02:40");
    desk.lead();
    assert!(desk.started().is_empty());
    assert_eq!(desk.records(), ["10:02 skipped +1"]);
    desk.at("10:03:00");
    assert_eq!(desk.started(), ["10:03 #1 +0"]);
    desk.end(0);
    assert_eq!(desk.records()[1..], ["10:03 success +0"], "once");
}

#[test]
fn a_slot_that_was_queued_is_skipped_once_if_a_pause_begins() {
    let mut desk = Desk::new(Policy {
        overlap: Overlap::Queue,
        ..policy()
    });
    desk.lead().at("10:01:00").at("10:02:00");
    desk.tell(Event::Paused(true));
    desk.end(0).tell(Event::Paused(false));
    assert_eq!(desk.records()[1..], ["10:02 skipped +0"]);
}

#[test]
fn what_is_owed_goes_before_what_somebody_asks_for() {
    let mut desk = Desk::with(
        Policy {
            guarantee: Guarantee::AtLeastOnce,
            ..policy()
        },
        |state| {
            state.slot = Some(slot("10:00:00"));
            state.last = Some(last(slot("10:00:00"), 2, Outcome::Lost));
        },
    );
    desk.lead().tell(Event::Trigger {
        id: 1,
        queue: false,
    });
    assert!(desk.started().is_empty());
    desk.at("10:01:00").end(0);
    assert_eq!(desk.started()[..2], ["10:00 #3 +0", "manual #1 +0"]);
}

#[test]
fn a_trigger_runs_now_and_moves_no_slot() {
    let mut desk = Desk::new(policy());
    let ask = |id, queue| Event::Trigger { id, queue };
    let answered = |desk: &Desk, id, verdict| {
        let answer = Action::Answer { id, verdict };
        assert!(desk.done.contains(&answer), "{id} {:?}", desk.done);
    };
    desk.tell(ask(1, false));
    answered(&desk, 1, Verdict::Ending);
    desk.lead().tell(ask(2, false));
    answered(&desk, 2, Verdict::Claimed);
    assert_eq!(desk.started(), ["manual #1 +0"]);
    desk.tell(ask(3, false));
    answered(&desk, 3, Verdict::Open);
    desk.tell(ask(4, true));
    answered(&desk, 4, Verdict::Queued);
    desk.end(0);
    answered(&desk, 4, Verdict::Claimed);
    assert_eq!(desk.started(), ["manual #1 +0"]);
    assert_eq!(desk.state().slot, None);
    desk.end(1).tell(Event::Paused(true));
    desk.tell(ask(5, true));
    answered(&desk, 5, Verdict::Paused);
    desk.tell(Event::Paused(false));
    desk.at("10:01:00");
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}

#[test]
fn a_clock_that_is_put_back_repeats_nothing() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00").end(0);
    desk.started();
    desk.wall = time("09:00:00");
    desk.tell(Event::Tick);
    assert!(desk.said(|line| matches!(line, Line::ClockStepped { forward: false, .. })));
    assert!(desk.said(|line| matches!(line, Line::ClockBehind { .. })));
    assert_eq!(desk.planner.next_timer().wall, Some(time("10:00:58")));
    desk.tell(Event::Trigger {
        id: 1,
        queue: false,
    });
    let verdict = Verdict::Held;
    assert!(desk.done.contains(&Action::Answer { id: 1, verdict }));
    desk.at("10:00:59").at("10:01:00");
    assert!(desk.started().is_empty());
    desk.at("10:02:00");
    assert_eq!(desk.started(), ["10:02 #1 +0"]);
}

#[test]
fn a_clock_that_is_put_forward_misses_what_it_jumps_over() {
    let mut desk = Desk::new(policy());
    desk.lead().wall = time("12:00:30");
    desk.tell(Event::Tick);
    assert!(desk.said(|line| matches!(line, Line::ClockStepped { forward: true, .. })));
    assert_eq!(desk.started(), ["12:00 #1 +119"]);
}

#[test]
fn a_mark_from_the_future_holds_until_it_is_rewound() {
    let mut desk = Desk::with(policy(), |state| {
        state.slot = Some("2098-01-01T00:00:00Z".parse().unwrap());
    });
    desk.lead().at("10:01:00");
    assert!(desk.started().is_empty());
    let (state, _) = desk.state().rewound(desk.wall, desk.wall, "a").unwrap();
    (desk.state, desk.revision) = (Some(state), Revision::new(8));
    desk.tell(Event::StateChanged);
    desk.at("10:02:00");
    assert_eq!(desk.started(), ["10:02 #1 +0"]);
}

/// A run goes on, a slot waits for its end, and so does somebody's wish; then it ends, and is closed.
fn queued(state: impl FnOnce(&State) -> State) -> Desk {
    let mut desk = Desk::new(Policy {
        missed: Missed::All,
        overlap: Overlap::Queue,
        ..policy()
    });
    desk.lead().at("10:01:00");
    desk.tell(Event::Trigger { id: 1, queue: true });
    desk.at("10:02:00").mute = true;
    desk.end(0);
    let close = desk.pending.remove(0);
    let (number, written) = (close.number, desk.apply(&close));
    desk.tell(Event::Wrote { number, written });
    // The wish is claimed while somebody else writes.
    let claim = desk.pending.remove(0);
    desk.state = Some(state(desk.state()));
    desk.revision = desk.revision.next();
    (desk.mute, desk.wall) = (false, time("10:02:40"));
    let (number, written) = (claim.number, Written::Refused);
    desk.tell(Event::Wrote { number, written });
    assert_eq!(desk.started(), ["10:01 #1 +0", "manual #1 +0"]);
    desk.end(0);
    desk
}

#[test]
fn what_was_queued_gives_way_to_a_schedule_that_is_set_back() {
    let (to, now) = (time("09:59:00"), time("10:02:00"));
    let mut desk = queued(|state| state.rewound(to, now, "a").unwrap().0);
    assert_eq!(desk.started(), ["10:00 #1 +0"]);
    desk.end(0);
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}

#[test]
fn what_was_queued_is_none_of_a_schedule_that_goes_on_later() {
    let mut desk = queued(|state| state.resumed(time("10:02:30")));
    assert!(desk.started().is_empty());
    desk.at("10:03:00");
    assert_eq!(desk.started(), ["10:03 #1 +0"]);
}

#[test]
fn what_was_passed_over_is_counted_from_where_another_has_set_the_mark() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00").at("10:02:00").at("10:03:00");
    let since = time("10:02:30");
    desk.state = Some(State {
        since,
        ..desk.state().clone()
    });
    desk.revision = desk.revision.next();
    desk.tell(Event::StateChanged);
    desk.end(0);
    assert_eq!(desk.records(), ["10:01 success +0", "10:03 skipped +0"]);
    assert_eq!(desk.state().missed, 1);
}

#[test]
fn a_lost_slot_runs_again_once_somebody_says_so() {
    let ten = slot("10:00:00");
    let mut desk = Desk::with(policy(), |state| {
        state.slot = Some(ten);
        state.last = Some(last(ten, 1, Outcome::Lost));
    });
    assert!(desk.lead().started().is_empty());
    let state = desk.state().resolved(ten, Outcome::Rerun).unwrap();
    (desk.state, desk.revision) = (Some(state), Revision::new(8));
    desk.tell(Event::StateChanged);
    assert_eq!(desk.started(), ["10:00 #2 +0"]);
}

#[test]
fn a_slot_that_was_not_started_in_time_is_missed_with_those_it_stood_for() {
    let within = |policy: Policy| Policy {
        start_within: Some(Duration::from_secs(5)),
        ..policy
    };
    let mut desk = Desk::new(within(policy()));
    desk.lead().at("10:01:00").tell(Event::NotStarted);
    desk.at("10:01:10");
    assert_eq!(desk.records(), ["10:01 missed +0"]);
    assert_eq!(desk.state().missed, 1);
    desk.at("10:02:00");
    assert_eq!(desk.started(), ["10:01 #1 +0", "10:02 #1 +0"]);
    // One that was lost, and is to run again, has its record.
    let ten = slot("10:00:00");
    let mut desk = Desk::with(within(policy()), |state| {
        state.slot = Some(ten);
        state.last = Some(last(ten, 1, Outcome::Rerun));
    });
    desk.lead();
    assert!(desk.started().is_empty() && desk.records().is_empty());
}

#[test]
fn jitter_delays_a_run_and_lets_none_overtake() {
    let jittered = Policy {
        jitter: Duration::from_secs(50),
        ..policy()
    };
    let mut desk = Desk::new(jittered);
    desk.lead();
    let wall = desk.planner.next_timer().wall.unwrap();
    assert!(wall > time("10:01:00") && wall < time("10:01:50"));
    desk.at("10:01:00");
    assert!(desk.started().is_empty());
    desk.wall = wall;
    desk.tell(Event::Tick);
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}

#[test]
fn the_zone_is_read_anew_every_hour() {
    let mut desk = Desk::new(policy());
    desk.lead().at("11:00:31");
    assert!(desk.done.contains(&Action::Refresh));
    let setup = Setup {
        schedule: Arc::new(desk.planner.setup.schedule.refreshed()),
        ..desk.planner.setup.clone()
    };
    desk.tell(Event::Setup(setup));
    assert!(!desk.said(|line| matches!(line, Line::Changed { .. })));
}

#[test]
fn a_refused_start_leaves_the_slot_to_be_run() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00").tell(Event::NotStarted);
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
    assert_eq!(desk.records().len(), 0);
    desk.at("10:01:01");
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}
