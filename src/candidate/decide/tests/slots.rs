//! A job with a schedule: what passes between the planner and the rest.

use super::*;
use crate::candidate::decide::words::SlotRequest;
use crate::config::Scheduling;
use crate::election::control::Notice;
use crate::guardian::protocol::Refusal;
use crate::schedule::planner::{Guarantee, Missed, Overlap, Policy};
use crate::schedule::record::State;
use crate::schedule::{Pace, Schedule, Stored, Written};
use crate::term::record::StepDown;

/// Each minute, on the minute.
fn scheduling() -> Scheduling {
    let minute = Duration::from_mins(1);
    Scheduling {
        schedule: Arc::new(Schedule::new(&Pace::Every(minute), "UTC").unwrap()),
        policy: Policy {
            guarantee: Guarantee::AtMostOnce,
            missed: Missed::Last,
            missed_max: 1,
            start_within: None,
            overlap: Overlap::Skip,
            retries: 0,
            retry_delay: Duration::ZERO,
            jitter: Duration::ZERO,
            drain: Duration::ZERO,
            timeout: None,
            history: 10,
        },
    }
}

impl Play {
    /// Stands with the lease that this number draws, and leads; returns the number of the read that it
    /// begins with.
    fn leads_with(&mut self, ms: u64, random: u64) -> (LeaseId, u64) {
        self.0.handle(Event::Tick, now(ms), random);
        let lease = self.lease();
        self.at(ms, Event::Prepared(lease), &["contend"]);
        self.at(ms, Event::Granted(TIMING, status(ms)), &[]);
        let elected = Event::Elected(Elected {
            token: TOKEN,
            cluster: 7,
            status: status(ms),
            at: "".into(),
        });
        let actions = self.0.handle(elected, now(ms), random);
        (lease, asked(&actions).unwrap())
    }
}

/// What is found in the store before the first slot of these tests.
fn stored() -> Stored {
    let spec = scheduling().schedule.spec().to_owned();
    Stored::State {
        state: Box::new(State::new(spec, Time::from_secs(1))),
        revision: Revision::new(8),
    }
}

/// The number of the request that is made of the schedule's records.
fn asked(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Contest(Command::Slots { request, .. }) => match request {
            SlotRequest::Read { number } => Some(*number),
            SlotRequest::Write(write) => Some(write.number),
            SlotRequest::Answer { .. } => None,
        },
        _ => None,
    })
}

#[test]
fn what_an_earlier_term_has_asked_is_not_answered_to_the_next() {
    let config = config_with(|config| config.scheduling = Some(scheduling()));
    let mut play = Play::with(config);
    let (earlier, read) = play.leads_with(0, 1);
    let found = Event::SlotsRead(earlier, read, Stored::Absent);
    let actions = play.0.handle(found, now(1), 0);
    let first = asked(&actions).unwrap();
    // It is lost before that write is answered.
    play.at(2, Event::Lost(Loss::Revoked), &["lost: revoked", "kill"]);
    play.at(3, empty(0), &["give back: revoked"]);
    let again = ["over: revoked", "rejoin: revoked"];
    play.at(4, Event::Left(Left::Gone), &again);

    let (lease, read) = play.leads_with(59_000, 2);
    play.at(59_001, Event::SlotsRead(lease, read, stored()), &[]);
    let actions = play.0.handle(Event::Tick, now(60_000), 0);
    let claim = asked(&actions).unwrap();
    assert_eq!(claim, first, "each counts from one");
    let revision = Revision::new(9);
    let done = Written::Done { revision };
    play.at(60_001, Event::SlotsWrote(earlier, first, done), &[]);
    let did = play.does(60_002, Event::SlotsWrote(lease, claim, done));
    assert_eq!(did.last().map(String::as_str), Some("start job"));
}

#[test]
fn a_term_that_waits_for_its_run_ends_though_the_guardian_will_not_start_it() {
    let mut scheduling = scheduling();
    scheduling.policy.drain = Duration::from_mins(1);
    let mut play = Play::with(config_with(|config| config.scheduling = Some(scheduling)));
    let (lease, read) = play.leads_with(59_000, 1);
    play.does(59_001, Event::SlotsRead(lease, read, stored()));
    let claim = asked(&play.0.handle(Event::Tick, now(60_000), 0)).unwrap();
    let done = Written::Done {
        revision: Revision::new(9),
    };
    let did = play.does(60_001, Event::SlotsWrote(lease, claim, done));
    assert_eq!(did.last().map(String::as_str), Some("start job"));
    let stops = |did: &[String]| did.iter().any(|what| what.starts_with("stop"));
    let did = play.does(60_002, Event::Order(Order::Shutdown));
    assert!(!stops(&did), "it waits for the run: {did:?}");
    // By the guardian's clock the deadline was too near, as it stood still.
    let refused = Event::Guardian(Report::Refused {
        run: 1,
        reason: Refusal::Deadline,
    });
    let did = play.does(60_003, refused);
    // The guardian has yet to run the hook at the term's end, and waits for a word.
    assert!(stops(&did), "{did:?}");
}

/// What is asked of a leader that may go over to another between runs.
fn goes_over_between_runs(at: i64) -> Event {
    let request = StepDown {
        by: "job.prefer".to_owned(),
        since: String::new(),
        token: TOKEN,
        to: Some("7".to_owned()),
        force: false,
        between_runs: true,
    };
    let asked_at = Revision::new(at);
    Event::Notice(Notice::StepDown { request, asked_at })
}

#[test]
fn a_term_that_is_to_go_over_between_runs_stays_where_a_slot_is_claimed_meanwhile() {
    let mut play = Play::with(config_with(|config| config.scheduling = Some(scheduling())));
    let (lease, read) = play.leads_with(59_000, 1);
    play.does(59_001, Event::SlotsRead(lease, read, stored()));
    play.does(59_990, goes_over_between_runs(20));
    // It is looked for who can follow, and a slot comes meanwhile.
    let claim = asked(&play.0.handle(Event::Tick, now(60_000), 0)).unwrap();
    play.does(60_001, Event::Successor(1, Ok(Ok(()))));
    play.is(Role::Leading);
    let revision = Revision::new(9);
    let done = Event::SlotsWrote(lease, claim, Written::Done { revision });
    let did = play.does(60_002, done);
    assert_eq!(did.last().map(String::as_str), Some("start job"));
    play.does(60_003, started(2));
    play.does(60_004, goes_over_between_runs(21));
    play.does(60_005, Event::Successor(2, Ok(Ok(()))));
    play.is(Role::Leading);
    // Then it goes over.
    play.does(60_010, ended(2, 0));
    let close = asked(&play.0.handle(empty(2), now(60_011), 0)).unwrap();
    let revision = Revision::new(10);
    let done = Event::SlotsWrote(lease, close, Written::Done { revision });
    play.does(60_012, done);
    play.does(60_013, goes_over_between_runs(22));
    play.does(60_014, Event::Successor(3, Ok(Ok(()))));
    play.is(Role::Stopping);
}

#[test]
fn who_runs_for_one_slot_runs_for_no_other() {
    let config = config_with(|config| {
        let mut scheduling = scheduling();
        scheduling.policy.missed = Missed::All;
        scheduling.policy.missed_max = 2;
        config.scheduling = Some(scheduling);
    });
    let mut play = Play(Mind::for_one_run(config, at(0)));
    let (lease, read) = play.leads_with(120_000, 1);
    let read = Event::SlotsRead(lease, read, stored());
    let claim = asked(&play.0.handle(read, now(120_000), 0)).unwrap();
    let done = |number, revision| {
        let revision = Revision::new(revision);
        Event::SlotsWrote(lease, number, Written::Done { revision })
    };
    let did = play.does(120_001, done(claim, 9));
    assert_eq!(did.last().map(String::as_str), Some("start job"));
    play.at(120_002, started(2), &[]);
    play.at(121_000, ended(2, 0), &["stop run"]);
    let close = asked(&play.0.handle(empty(2), now(121_001), 0)).unwrap();
    play.is(Role::Stopping);
    play.at(121_002, empty(2), &[]);
    // The slot of 00:02 is due as well.
    play.at(
        121_003,
        done(close, 10),
        &["give back: resigned", "hurry until 130000"],
    );
}
