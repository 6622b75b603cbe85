//! Writes of which nothing was heard, and what somebody else wrote meanwhile.

use super::*;

impl Desk {
    /// The store doesn't answer the last write.
    fn leave_unanswered(&mut self) -> Write {
        let write = self.pending.remove(0);
        let (number, written) = (write.number, Written::Unknown);
        self.tell(Event::Wrote { number, written });
        write
    }

    /// The last read finds what can't be read.
    fn find_unreadable(&mut self) {
        let number = self.reads.pop().unwrap();
        self.revision = self.revision.next();
        let (why, revision) = ("no JSON".to_owned(), self.revision);
        let stored = Stored::Unreadable { why, revision };
        self.tell(Event::Read { number, stored });
    }

    /// Somebody puts back what was there.
    fn mend(&mut self) {
        self.revision = self.revision.next();
        self.mute = false;
        self.tell(Event::StateChanged);
    }
}

#[test]
fn an_end_is_recorded_once_a_state_that_could_not_be_read_is_mended() {
    for landed in [false, true] {
        let mut desk = Desk::new(policy());
        desk.lead().at("10:01:00").mute = true;
        desk.end(0);
        let write = desk.leave_unanswered();
        if landed {
            desk.apply(&write);
        }
        desk.find_unreadable();
        assert_eq!(desk.started(), ["10:01 #1 +0"]);
        desk.mend();
        assert_eq!(desk.closed(), [Outcome::Success]);
        assert_eq!(desk.records(), ["10:01 success +0"], "{landed}");
        desk.at("10:01:59");
        assert!(
            desk.started().is_empty(),
            "it was run, and is not run again"
        );
    }
}

#[test]
fn a_claim_that_is_there_once_the_state_is_mended_is_this_terms() {
    let mut desk = Desk::new(policy());
    desk.lead().mute = true;
    desk.at("10:01:00");
    let write = desk.leave_unanswered();
    desk.apply(&write);
    desk.find_unreadable();
    assert!(desk.started().is_empty());
    desk.mend();
    assert_eq!(desk.started(), ["10:01 #1 +0"]);
    assert_eq!(desk.state().open, write.state.open);
}

#[test]
fn a_last_close_of_which_nothing_is_heard_goes_with_the_resignation() {
    let mut desk = Desk::new(Policy {
        drain: Duration::from_mins(1),
        ..policy()
    });
    desk.lead().at("10:01:00");
    desk.tell(Event::Stop);
    desk.mute = true;
    desk.end(0);
    assert!(!desk.done.contains(&Action::Drained), "first it is sent");
    let write = desk.leave_unanswered();
    assert!(desk.done.contains(&Action::Drained));
    let pending = desk.planner.pending_close().unwrap();
    assert_eq!((&pending.state, pending.seen), (&write.state, write.seen));
}

#[test]
fn a_last_close_that_the_run_itself_overtook_leaves_its_success_and_what_was_skipped() {
    let mut desk = Desk::new(policy());
    desk.lead().at("10:01:00").at("10:02:00").complete();
    desk.tell(Event::Stop);
    desk.closed();
    desk.end(1);
    let told = desk.done.contains(&Action::Drained);
    assert!(told);
    assert_eq!(desk.closed(), [Outcome::Success]);
    assert_eq!(desk.records(), ["10:01 success +0", "10:02 skipped +0"]);
    assert_eq!(desk.planner.pending_close(), None);
}

#[test]
fn a_run_that_somebody_asked_for_counts_in_no_row_of_slots() {
    let mut desk = Desk::with(policy(), |state| state.failures = 2);
    desk.lead();
    for (id, code) in [(1, 1), (2, 0)] {
        desk.tell(Event::Trigger { id, queue: false });
        desk.end(code);
        assert_eq!(desk.state().failures, 2, "{code}");
    }
    assert_eq!(desk.records(), ["manual failure +0", "manual success +0"]);
    desk.at("10:01:00").end(1);
    assert_eq!(desk.state().failures, 3);
    desk.at("10:02:00").end(0);
    assert_eq!(desk.state().failures, 0);
}

#[test]
fn an_open_run_whose_token_is_none_is_another_terms() {
    let mut desk = Desk::with(policy(), |_| {});
    let mut text: serde_json::Value = serde_json::from_str(&desk.state().to_json()).unwrap();
    text["open"] = serde_json::json!({"slot": "2027-06-01T10:00:00Z", "attempt": 1, "token": -3,
        "nonce": "n", "host": "b", "at": "2027-06-01T10:00:00Z"});
    desk.state = State::read(text.to_string().as_bytes()).ok();
    assert!(desk.state.is_some(), "it is read");
    desk.lead();
    assert!(desk.said(|line| matches!(line, Line::Lost { .. })));
    desk.at("10:01:00").end(0);
    assert_eq!(desk.records(), ["10:00 lost +0", "10:01 success +0"]);
}
