//! When the planner is to be woken: never for what it would leave as it is, or it would be woken at once
//! again.

use super::*;

impl Desk {
    /// Goes on by the clock of deadlines alone, and ticks.
    fn after(&mut self, span: Duration) -> &mut Self {
        self.clock = self.clock + span;
        self.tell(Event::Tick);
        self
    }

    /// Checks that what it waits for is to come.
    #[track_caller]
    fn sleeps(&mut self) -> &mut Self {
        let Wake { wall, clock } = self.planner.next_timer();
        assert!(
            wall.is_none_or(|at| at > self.wall),
            "{wall:?}, at {}",
            self.wall
        );
        assert!(clock.is_none_or(|at| at > self.clock), "{clock:?}");
        self
    }

    /// Its slot of 10:01 has failed, and is to be tried again within `retry_delay`.
    fn failed(start_within: Option<Duration>) -> Self {
        let mut desk = Self::new(Policy {
            retries: 1,
            start_within,
            ..policy()
        });
        desk.lead().at("10:01:00").end(1).sleeps();
        desk
    }
}

#[test]
fn a_term_that_ends_is_not_woken_for_slots() {
    let mut desk = Desk::failed(None);
    desk.tell(Event::Stop);
    // Its last hook takes its time.
    desk.at("10:01:40").sleeps();
    desk.at("10:02:00").sleeps();
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}

#[test]
fn another_attempt_wakes_nobody_who_may_not_make_it() {
    let mut desk = Desk::failed(None);
    desk.tell(Event::Paused(true));
    desk.at("10:01:40").sleeps();
    desk.tell(Event::Paused(false));
    assert_eq!(desk.started(), ["10:01 #1 +0", "10:01 #2 +0"]);
    // The clock is set back.
    let mut desk = Desk::failed(None);
    desk.wall = time("09:50:00");
    desk.after(Duration::from_mins(1)).sleeps();
    // It would be too late.
    let mut desk = Desk::failed(Some(Duration::from_secs(10)));
    desk.at("10:01:40").sleeps();
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
}

#[test]
fn a_start_that_was_refused_wakes_nobody_while_the_store_is_silent() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00").mute = true;
    desk.tell(Event::NotStarted);
    desk.at("10:01:02").sleeps();
}
