//! Claims about the machine, each a short history.

use super::*;

const PAUSE: Duration = Duration::from_secs(1);
const LOST: Reason = Reason("revoked");

fn after(events: &[Event]) -> (Machine, Vec<Action>) {
    let mut machine = Machine::new();
    let mut last = vec![];
    for event in events {
        last = machine.on(event.clone());
    }
    (machine, last)
}

fn leading(events: &[Event]) -> (Machine, Vec<Action>) {
    let mut all = vec![Event::RejoinDue, Event::Elected];
    all.extend_from_slice(events);
    after(&all)
}

#[test]
fn a_claim_starts_the_job() {
    let (machine, actions) = leading(&[]);
    assert_eq!(machine.role(), Role::Leading);
    assert_eq!(actions, [Action::StartRun]);
}

#[test]
fn nothing_is_given_back_before_the_tree_is_empty() {
    for end in [
        Event::Shutdown,
        Event::ShutdownNow,
        Event::StepDown,
        Event::Lost(LOST),
        Event::StopDue,
        Event::KillDue,
        Event::GuardianGone,
    ] {
        let (mut machine, actions) = leading(std::slice::from_ref(&end));
        assert!(!actions.contains(&Action::GiveBack), "{end:?}");
        assert!(
            machine
                .on(Event::StopDue)
                .iter()
                .all(|a| *a != Action::GiveBack)
        );
        let proof = if end == Event::GuardianGone {
            Event::Fenced
        } else {
            Event::Empty
        };
        assert_eq!(machine.on(proof)[0], Action::GiveBack, "{end:?}");
    }
}

#[test]
fn without_a_guardian_only_the_fence_proves_the_tree_empty() {
    let (mut machine, actions) = leading(&[Event::GuardianGone]);
    assert_eq!(actions, [Action::SayLost(Reason::GUARDIAN), Action::Fence]);
    assert_eq!(machine.on(Event::Empty), []);
    assert_eq!(machine.on(Event::Fenced), [Action::GiveBack]);
}

#[test]
fn nobody_contends_without_a_guardian() {
    let (mut machine, actions) = after(&[Event::GuardianGone]);
    assert_eq!(actions, [Action::Fence]);
    assert_eq!(machine.on(Event::RejoinDue), []);
    assert_eq!(machine.on(Event::Fenced), []);
    assert_eq!(machine.on(Event::Guarded), [Action::Contend]);
}

#[test]
fn a_loss_kills_at_once_and_a_near_deadline_asks_first() {
    let (_, actions) = leading(&[Event::Lost(LOST)]);
    assert_eq!(actions, [Action::SayLost(LOST), Action::KillJob]);
    let (mut machine, actions) = leading(&[Event::StopDue]);
    let ask = Action::StopJob(Patience::Lost);
    assert_eq!(actions, [Action::SayLost(Reason::DEADLINE), ask]);
    assert_eq!(machine.on(Event::KillDue), [Action::KillJob]);
}

#[test]
fn a_run_that_ended_starts_again_only_with_an_empty_tree() {
    let again = Event::MainEnded(Verdict::Again(PAUSE));
    let (mut machine, actions) = leading(std::slice::from_ref(&again));
    assert_eq!(actions, [Action::StopRun]);
    assert_eq!(machine.on(Event::RestartDue), []);
    assert_eq!(machine.on(Event::Empty), [Action::RestartAfter(PAUSE)]);
    assert_eq!(machine.on(Event::RestartDue), [Action::StartRun]);
}

#[test]
fn a_run_that_is_not_repeated_gives_the_term_back_and_cools_down() {
    let over = Event::MainEnded(Verdict::GiveBack(PAUSE));
    let (mut machine, actions) = leading(&[over, Event::Empty]);
    assert_eq!(actions, [Action::StopJob(Patience::Planned)]);
    assert_eq!(machine.on(Event::Empty), [Action::GiveBack]);
    let pause = Action::RejoinAfter(Pause::Cooldown(PAUSE));
    assert_eq!(machine.on(Event::Left), [pause]);
    assert_eq!(machine.role(), Role::Cooldown);
}

#[test]
fn no_run_starts_once_a_stop_has_begun() {
    let again = Event::MainEnded(Verdict::Again(PAUSE));
    let (mut machine, _) = leading(&[again, Event::Empty, Event::Shutdown]);
    assert_eq!(machine.on(Event::RestartDue), []);
}

#[test]
fn a_shutdown_ends_whatever_is_going_on() {
    let (mut machine, actions) = leading(&[Event::StepDown, Event::Shutdown, Event::Empty]);
    let until_deadline = [Action::GiveBack, Action::Hurry(Limit::Deadline)];
    assert_eq!(actions, until_deadline);
    assert_eq!(machine.on(Event::Left), [Action::Exit]);
    let (mut waiting, actions) = after(&[Event::RejoinDue, Event::Shutdown]);
    assert_eq!(actions, until_deadline);
    assert_eq!(waiting.on(Event::Left), [Action::Exit]);
    assert_eq!(after(&[Event::Shutdown]).1, [Action::Exit]);
}

#[test]
fn a_second_shutdown_kills_and_hurries() {
    let (mut machine, actions) = leading(&[Event::Shutdown, Event::ShutdownNow]);
    assert_eq!(actions, [Action::KillJob]);
    assert_eq!(machine.on(Event::Empty)[0], Action::GiveBack);
    let now = Action::Hurry(Limit::OneAttempt);
    assert_eq!(machine.on(Event::ShutdownNow), [now]);
}

#[test]
fn a_lost_candidacy_is_revoked_and_stands_again() {
    let (mut machine, actions) = after(&[Event::RejoinDue, Event::Lost(LOST)]);
    assert_eq!(actions, [Action::GiveBack]);
    let pause = Action::RejoinAfter(Pause::Backoff(LOST));
    assert_eq!(machine.on(Event::Left), [pause]);
    assert_eq!(machine.role(), Role::Waiting);
}
