//! Claims about the machine, each a short history.

use std::time::Duration;

use proptest::prelude::*;

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
    let now = Action::Hurry(Limit::OneAttempt);
    assert_eq!(machine.on(Event::Empty), [Action::GiveBack, now]);
    for late in [Event::Shutdown, Event::ShutdownNow] {
        assert_eq!(machine.on(late), [], "the one attempt goes on");
    }
    let (mut machine, _) = leading(&[Event::Shutdown, Event::Empty]);
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

#[test]
fn nobody_stands_before_the_first_check_or_while_it_fails() {
    let mut machine = Machine::checked();
    assert_eq!(machine.on(Event::RejoinDue), []);
    assert_eq!(machine.role(), Role::Waiting);
    assert_eq!(machine.on(Event::Unhealthy), []);
    assert_eq!(machine.role(), Role::Unhealthy);
    assert_eq!(machine.on(Event::RejoinDue), []);
    assert_eq!(machine.on(Event::Healthy), [Action::Contend]);
    assert_eq!(machine.role(), Role::Campaigning);
}

#[test]
fn an_unhealthy_candidate_leaves_the_queue_until_it_is_healthy() {
    let (mut machine, actions) = after(&[Event::RejoinDue, Event::Unhealthy]);
    assert_eq!(actions, [Action::GiveBack]);
    assert_eq!(machine.on(Event::Left), [Action::RejoinAfter(Pause::None)]);
    assert_eq!(machine.role(), Role::Unhealthy);
    assert_eq!(machine.on(Event::RejoinDue), []);
    assert_eq!(machine.on(Event::Healthy), [Action::Contend]);
}

#[test]
fn an_unhealthy_leader_stops_its_job_in_an_orderly_way_before_it_gives_back() {
    let (mut machine, actions) = leading(&[Event::Unhealthy]);
    assert_eq!(actions, [Action::StopJob(Patience::Planned)]);
    assert_eq!(machine.role(), Role::Stopping);
    // Healthy again, it still ends what it has begun to end.
    assert_eq!(machine.on(Event::Healthy), []);
    assert_eq!(machine.on(Event::Empty), [Action::GiveBack]);
    machine.on(Event::Left);
    assert_eq!(machine.on(Event::RejoinDue), [Action::Contend]);
}

#[test]
fn health_gives_no_more_time_to_a_term_that_is_lost() {
    let (mut machine, _) = leading(&[Event::Unhealthy]);
    assert_eq!(machine.on(Event::Lost(LOST)), [Action::KillJob]);
    let (mut machine, _) = leading(&[Event::Lost(LOST)]);
    assert_eq!(machine.on(Event::Unhealthy), []);
}

#[test]
fn health_and_a_guardian_are_both_needed() {
    let (mut machine, _) = after(&[Event::GuardianGone, Event::Unhealthy, Event::RejoinDue]);
    assert_eq!(machine.on(Event::Healthy), []);
    assert_eq!(machine.on(Event::Guarded), [Action::Contend]);
    let (mut machine, _) = after(&[Event::GuardianGone, Event::Unhealthy, Event::RejoinDue]);
    assert_eq!(machine.on(Event::Guarded), []);
    assert_eq!(machine.on(Event::Healthy), [Action::Contend]);
}

/// What stands outside of the machine, as far as the rules speak of it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Outside {
    contending: bool,
    /// The claim is complete, and nothing was given back since.
    leads: bool,
    /// A stop has begun.
    stops: bool,
    /// A run was asked for, and its tree was not proven empty since.
    tree: bool,
    /// The guardian is gone, and its tree was not fenced since.
    unfenced: bool,
    /// The check fails.
    ill: bool,
    gave_back: bool,
    over: bool,
}

impl Outside {
    /// What can happen now, of all that could be told: proofs come only of what is true.
    fn allows(&self, event: &Event) -> bool {
        match event {
            Event::Elected => self.contending && !self.leads && !self.gave_back,
            Event::Left => self.gave_back,
            Event::Empty => self.leads && !self.unfenced,
            Event::Fenced => self.unfenced,
            Event::Guarded => !self.unfenced,
            Event::MainEnded(_) | Event::NotStarted => self.tree,
            Event::StopDue | Event::KillDue => self.leads,
            Event::Lost(_) => self.contending,
            _ => true,
        }
    }

    fn happened(&mut self, event: &Event) {
        match event {
            Event::Elected => self.leads = true,
            Event::Left => {
                *self = Self {
                    unfenced: self.unfenced,
                    ill: self.ill,
                    ..Self::default()
                }
            }
            Event::Empty => self.tree = false,
            Event::Fenced => (self.tree, self.unfenced) = (false, false),
            Event::GuardianGone => self.unfenced = true,
            Event::Healthy => self.ill = false,
            Event::Unhealthy => self.ill = true,
            _ => {}
        }
    }

    /// Checks an action against the rules, and carries it out.
    fn act(&mut self, action: Action) -> Result<(), &'static str> {
        let rule = match action {
            Action::StartRun if !self.leads => "R4: a start without a complete claim",
            Action::StartRun if self.stops => "R4: a start after a stop has begun",
            Action::StartRun if self.tree => "R4: a start while the tree isn't empty",
            Action::StartRun if self.unfenced => "R4: a start without a guardian",
            Action::GiveBack if self.tree => "R5: given back while the tree isn't empty",
            Action::GiveBack if self.gave_back => "given back twice",
            Action::Contend if self.contending => "a candidacy too many",
            Action::Contend if self.ill => "a candidacy of an unhealthy replica",
            _ if self.over => "something after the exit",
            _ => "",
        };
        match action {
            Action::Contend => self.contending = true,
            Action::StartRun => self.tree = true,
            Action::StopJob(_) | Action::KillJob => self.stops = true,
            Action::Fence => self.stops |= self.leads,
            Action::GiveBack => self.gave_back = true,
            Action::Exit => self.over = true,
            _ => {}
        }
        if rule.is_empty() { Ok(()) } else { Err(rule) }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![Just(Verdict::Again(PAUSE)), Just(Verdict::GiveBack(PAUSE)),];
    prop_oneof![
        4 => Just(Event::RejoinDue),
        6 => Just(Event::Elected),
        1 => Just(Event::Lost(LOST)),
        4 => Just(Event::Left),
        1 => Just(Event::NotStarted),
        4 => verdict.prop_map(Event::MainEnded),
        6 => Just(Event::Empty),
        4 => Just(Event::RestartDue),
        1 => Just(Event::StopDue),
        1 => Just(Event::KillDue),
        1 => Just(Event::GuardianGone),
        3 => Just(Event::Fenced),
        3 => Just(Event::Guarded),
        1 => Just(Event::Shutdown),
        1 => Just(Event::ShutdownNow),
        1 => Just(Event::StepDown),
        3 => Just(Event::Healthy),
        1 => Just(Event::Unhealthy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_history_breaks_the_rules_of_starting_and_giving_back(
        events in prop::collection::vec(any_event(), 1..120),
    ) {
        let (mut machine, mut outside) = (Machine::new(), Outside::default());
        for event in events {
            if outside.over || !outside.allows(&event) {
                continue;
            }
            outside.happened(&event);
            for action in machine.on(event.clone()) {
                if let Err(rule) = outside.act(action) {
                    prop_assert!(false, "{rule}: {action:?} on {event:?}");
                }
            }
        }
    }
}
