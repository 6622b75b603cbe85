//! "Never two" over many histories: the product's own decisions, without a store, a process or a
//! clock.
//!
//! A history is a small simulated world: a [store] that keeps leases, a queue and the election's
//! records in true time, and up to five [machines](machine), each with a [clock] that runs fast or
//! slow within `rho` beside one that is slewed, a [daemon], a [guardian] and a [job](tree). The
//! daemon decides with the product's [`Mind`](super::decide::Mind), the guardian with the product's
//! `Guard`; to a session and an election belong the product's bookkeeping of renewals and its reading
//! of a claim, and [`contest`] says when they ask the store for what. Around them everything fails
//! that the [faults] know, until they [heal](faults); then everybody stands in the queue again, and
//! in the end gives everything back. The [judge] watches over all replicas at once.
//!
//! That the claims could fail is shown by making mistakes, each in what the product's code is told or
//! in how its words are carried out; see [`Mistake`]. A history is told by its seed: see
//! `one_history` in the tests.

#![expect(clippy::print_stdout, reason = "for whoever looks at a history")]

mod chance;
mod clock;
mod contest;
mod daemon;
mod faults;
mod guardian;
mod judge;
mod machine;
pub(super) mod settings;
mod store;
mod tree;
mod world;

use std::ops::Range;
use std::thread;
use std::time::Duration;

use super::view::JobView;
use crate::config::timing::{SLACK, Timing};
use faults::Mood;
use world::World;

/// How many histories are played for the claim, unless `INCUMBENT_HISTORIES` says so many, or
/// `INCUMBENT_HISTORIES_MINUTES` for how long.
const HISTORIES: u64 = 2_000;

/// In how many histories at most a mistake must show.
const TO_FIND_A_MISTAKE: u64 = 3_000;

/// So many are played at once until it does.
const BATCH: u64 = 100;

/// A mistake that programs which elect a leader make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// The deadline is counted from the reply to a renewal.
    DeadlineFromReply,
    /// The clock stands still while the machine is suspended.
    ClockIgnoresSuspend,
    /// The clock is one that something steers.
    ClockIsSteered,
    /// A job is taken to be dead as soon as it is killed.
    NoKillBudget,
    /// Acknowledgements are believed without the read that proves them.
    BelievesEveryAck,
    /// The read that proves an acknowledgement may come from any leader of the store.
    AnyReadProves,
    /// Our clock is taken to run at the store's rate.
    NoDrift,
    /// Threads are taken to run as soon as they should.
    NoSlack,
    /// The guardian leaves the deadline to the daemon, which may be stopped.
    GuardianHasNoTimer,
    /// The daemon leaves the deadline to the guardian, which may be stopped.
    NoSecondLine,
    /// A lease is granted before the guardian knows it.
    GrantedBeforeGuarded,
    /// A tree is taken to be empty as soon as it was asked to end.
    EmptyOnceAsked,
    /// Nobody waits out the term before, whose end was not proven.
    NoTakeoverDelay,
    /// Who waits it out goes by its own kill budget, not by that on record.
    DelayByOwnBudget,
    /// A term leaves no record.
    RecordIsForgotten,
    /// The fence takes the guardian for the whole tree.
    FenceSparesTheTree,
    /// The guardian is not told to stop the job.
    StopIsForgotten,
    /// The guardian is not told to kill the job.
    KillIsForgotten,
    /// Nobody renews for what can't be killed once the daemon is dead.
    UnkillableIsNotRenewed,
}

impl Mistake {
    const ALL: [Self; 19] = [
        Self::DeadlineFromReply,
        Self::ClockIgnoresSuspend,
        Self::ClockIsSteered,
        Self::NoKillBudget,
        Self::BelievesEveryAck,
        Self::AnyReadProves,
        Self::NoDrift,
        Self::NoSlack,
        Self::GuardianHasNoTimer,
        Self::NoSecondLine,
        Self::GrantedBeforeGuarded,
        Self::EmptyOnceAsked,
        Self::NoTakeoverDelay,
        Self::DelayByOwnBudget,
        Self::RecordIsForgotten,
        Self::FenceSparesTheTree,
        Self::StopIsForgotten,
        Self::KillIsForgotten,
        Self::UnkillableIsNotRenewed,
    ];

    /// In what kind of history it shows soonest, if that is known.
    const fn mood(self) -> Option<Mood> {
        match self {
            Self::DeadlineFromReply | Self::NoKillBudget | Self::NoDrift | Self::NoSlack => {
                Some(Mood::Sharp)
            }
            Self::NoTakeoverDelay
            | Self::DelayByOwnBudget
            | Self::RecordIsForgotten
            | Self::KillIsForgotten => Some(Mood::Strange),
            Self::UnkillableIsNotRenewed => Some(Mood::Stubborn),
            Self::NoSecondLine | Self::ClockIsSteered => Some(Mood::Rough),
            _ => None,
        }
    }

    /// The times that the product is given in place of the true ones.
    fn timing(self, truth: Timing) -> Timing {
        match self {
            Self::NoKillBudget => Timing::new(truth.ttl(), truth.lost_grace(), Duration::ZERO),
            Self::NoDrift => truth.with_ttl(truth.ttl() * 1000 / 999),
            Self::NoSlack => truth.with_ttl(truth.ttl() + SLACK),
            _ => truth,
        }
    }
}

/// The runs of a job that nobody looks at.
fn no_runs() -> JobView {
    JobView::default()
}

/// What came of many histories.
#[derive(Debug, Default)]
struct Tally {
    played: u64,
    runs: u64,
    terms: u64,
    hooks: u64,
    faults: u64,
    /// Simulated time.
    span: Duration,
    violations: Vec<(u64, String)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.played += other.played;
        self.runs += other.runs;
        self.terms += other.terms;
        self.hooks += other.hooks;
        self.faults += other.faults;
        self.span += other.span;
        self.violations.extend(other.violations);
    }
}

/// Plays one history for each seed, on every processor.
fn play(seeds: Range<u64>, mistake: Option<Mistake>) -> Tally {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let parts: Vec<_> = (0..workers)
            .map(|worker| {
                let seeds = seeds.clone().skip(worker).step_by(workers);
                scope.spawn(move || play_each(seeds, mistake))
            })
            .collect();
        for part in parts {
            tally.add(part.join().expect("no history panics"));
        }
    });
    tally
}

fn play_each(seeds: impl Iterator<Item = u64>, mistake: Option<Mistake>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let outcome = World::new(seed, mistake, false).play();
        tally.add(Tally {
            played: 1,
            runs: outcome.runs,
            terms: outcome.terms,
            hooks: outcome.hooks,
            faults: outcome.faults,
            span: Duration::from_nanos(outcome.span),
            violations: outcome.violation.map(|it| (seed, it)).into_iter().collect(),
        });
    }
    tally
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn no_history_breaks_a_rule() {
    let (seed, count) = (
        setting("INCUMBENT_HISTORIES_SEED", 0),
        setting("INCUMBENT_HISTORIES", HISTORIES),
    );
    let minutes = setting("INCUMBENT_HISTORIES_MINUTES", 0);
    let began = crate::clock::now();
    let over = began + Duration::from_secs(60 * minutes);
    let mut tally = play(seed..seed + count, None);
    while !over.has_passed() && tally.violations.is_empty() {
        let from = seed + tally.played;
        tally.add(play(from..from + count, None));
    }
    let (took, found) = (crate::clock::now().since(began), tally.violations.len());
    let hours = tally.span.as_secs() / 3600;
    println!(
        "{} histories, {hours} h of simulated time, {} faults, {} terms, {} runs, {} hooks in {took:?}",
        tally.played, tally.faults, tally.terms, tally.runs, tally.hooks
    );
    for (seed, what) in tally.violations.iter().take(30) {
        println!("{seed}: {what}");
    }
    assert_eq!(found, 0, "first: {:?}", tally.violations.first());
    assert!(tally.runs >= count && tally.terms >= count && tally.hooks > 0);
}

#[test]
fn every_mistake_is_caught() {
    let mut missed = Vec::new();
    for mistake in Mistake::ALL {
        let mut batches = (0..TO_FIND_A_MISTAKE).step_by(usize::try_from(BATCH).expect("a number"));
        let caught = batches.find_map(|from| {
            let tally = play(from..from + BATCH, Some(mistake));
            let found = tally.violations.len();
            let first = tally.violations.into_iter().min();
            first.map(|(seed, what)| (seed, found, what))
        });
        match caught {
            Some((seed, found, what)) => {
                let what: String = what.chars().take(100).collect();
                println!("{mistake:?}: {found} of {BATCH} histories, first {seed}: {what}");
            }
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Tells all of the history `INCUMBENT_HISTORY`, of the mistake with the number
/// `INCUMBENT_HISTORY_MISTAKE` if there is one.
#[test]
#[ignore = "for people to read"]
fn one_history() {
    let mistake = std::env::var("INCUMBENT_HISTORY_MISTAKE").ok();
    let mistake = mistake.map(|number| Mistake::ALL[number.parse::<usize>().expect("a number")]);
    let outcome = World::new(setting("INCUMBENT_HISTORY", 0), mistake, true).play();
    println!("{outcome:?}");
}
