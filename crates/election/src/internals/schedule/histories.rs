//! What scheduled runs promise, over many histories: the planner that ships, leader after leader, over
//! a model of the store.
//!
//! A history is an hour of one-minute or half-minute slots, by a policy that the configuration accepts.
//! Leaders crash, lose their terms and are stopped; writes are lost, come late or are not answered;
//! clocks differ and are set; the election is paused. Then all heals, and nothing may be owed. That the
//! claims could fail is shown by making mistakes. A history is told by its seed: see `one_history`.

#![expect(clippy::print_stdout, reason = "for whoever looks at a history")]

use std::time::Duration;

mod world;

use world::World;

/// How many histories are played for the claim, unless `INCUMBENT_SCHEDULES` says so many.
const HISTORIES: u64 = 20;

/// In how many histories at most a mistake must show.
const TO_FIND_A_MISTAKE: u64 = 400;

/// A mistake in what the planner is told, in how its words are carried out, or in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// A run is started as soon as its claim is sent.
    StartsUnacknowledged,
    /// A write that was not answered is taken for done.
    UnknownIsDone,
    /// A write that was refused is taken for done.
    RefusedIsDone,
    /// Writes aren't guarded by the state they follow on.
    StateIsUnguarded,
    /// Writes aren't guarded by the term.
    TermIsUnguarded,
    /// A new leader doesn't see what is open.
    OpenIsForgotten,
    /// A new leader doesn't see which slot was the last.
    SlotIsForgotten,
    /// A new leader begins with what comes, not with what was missed.
    SinceIsNow,
    /// A new leader counts attempts from the start.
    AttemptIsForgotten,
    /// A new leader comes before the run of the last is dead.
    RunOutlivesTerm,
    /// A run is said to be over before it is.
    EndIsEarly,
    /// A failure is told as a success.
    FailureIsSuccess,
    /// The end of a run is not written, and said to be.
    CloseIsForgotten,
    /// A refused start is not told.
    RefusalIsForgotten,
    /// A pause is not told.
    PauseIsUntold,
    /// Who stands in for a dead daemon closes whatever is open by now.
    StandInIsUnguarded,
    /// What nobody recorded the end of is run again, whatever the guarantee.
    LostRunsAgain,
    /// Or never is.
    LostStaysLost,
    /// A slot is never too late.
    LateIsInTime,
    /// A slot that failed is tried more often than it may be.
    RetriesAreUncounted,
    /// A run that is to be stopped goes on.
    StopIsForgotten,
    /// Old records of runs are never deleted.
    TrimIsForgotten,
    /// A write deletes the records that it puts.
    TrimsWhatItPuts,
}

impl Mistake {
    const ALL: [Self; 23] = [
        Self::StartsUnacknowledged,
        Self::UnknownIsDone,
        Self::RefusedIsDone,
        Self::StateIsUnguarded,
        Self::TermIsUnguarded,
        Self::OpenIsForgotten,
        Self::SlotIsForgotten,
        Self::SinceIsNow,
        Self::AttemptIsForgotten,
        Self::RunOutlivesTerm,
        Self::EndIsEarly,
        Self::FailureIsSuccess,
        Self::CloseIsForgotten,
        Self::RefusalIsForgotten,
        Self::PauseIsUntold,
        Self::StandInIsUnguarded,
        Self::LostRunsAgain,
        Self::LostStaysLost,
        Self::LateIsInTime,
        Self::RetriesAreUncounted,
        Self::StopIsForgotten,
        Self::TrimIsForgotten,
        Self::TrimsWhatItPuts,
    ];
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn no_history_breaks_a_promise() {
    let count = setting("INCUMBENT_SCHEDULES", HISTORIES);
    let began = crate::clock::now();
    let (mut runs, mut terms, mut broken) = (0, 0, Vec::new());
    for seed in 0..count {
        let outcome = World::new(seed, None, false).play();
        runs += outcome.runs;
        terms += outcome.terms;
        broken.extend(outcome.violation.map(|what| (seed, what)));
    }
    let took: Duration = crate::clock::now().since(began);
    println!("{count} histories, {terms} terms, {runs} runs in {took:?}");
    for (seed, what) in broken.iter().take(20) {
        println!("{seed}: {what}");
    }
    assert!(
        broken.is_empty(),
        "{} broken: {:?}",
        broken.len(),
        broken[0]
    );
    assert!(runs > count * 10 && terms > count * 5);
}

#[test]
fn every_mistake_is_caught() {
    let mut missed = Vec::new();
    for mistake in Mistake::ALL {
        let caught = (0..TO_FIND_A_MISTAKE).find_map(|seed| {
            let violation = World::new(seed, Some(mistake), false).play().violation;
            violation.map(|what| (seed, what))
        });
        match caught {
            Some((seed, what)) => println!("{mistake:?}: history {seed}: {what}"),
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Tells the history `INCUMBENT_HISTORY`, of the mistake with the number
/// `INCUMBENT_HISTORY_MISTAKE` if there is one.
#[test]
#[ignore = "for people to read"]
fn one_history() {
    let mistake = std::env::var("INCUMBENT_HISTORY_MISTAKE").ok();
    let mistake = mistake.map(|number| Mistake::ALL[number.parse::<usize>().expect("a number")]);
    let outcome = World::new(setting("INCUMBENT_HISTORY", 0), mistake, true).play();
    println!("{outcome:?}");
}
