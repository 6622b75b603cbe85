//! "Never two" over many histories: the rules R1, R2, R4 and R5 without a store, a process or a
//! clock.
//!
//! A history is a small simulated world: a [store] that keeps one lease in true time, our [clock]
//! that runs fast or slow within `rho` beside one that is slewed, a [daemon] and a [guardian] that stand still, are killed and
//! hear everything late or never, and a job that takes up to K to die. What is decided in it is
//! decided by the product's own code: the bookkeeping of renewals ([`crate::session`]), the role
//! machine, the daemon's second line, and the guardian's decisions. The claim is one: whenever the
//! lease is gone, whatever ended it, the job is dead.
//!
//! That the claim could fail is shown by making the classic mistakes, each in what the product's
//! code is told; see [`Mistake`].

mod acting;
mod chance;
mod clock;
mod daemon;
mod faults;
mod guardian;
mod job;
mod renewing;
mod store;
mod world;

use std::ops::Range;
use std::thread;
use std::time::Duration;

use crate::config::timing::{SLACK, Timing};
use world::World;

/// How many histories are played for the claim.
const HISTORIES: u64 = 150_000;

/// In how many histories at most a mistake must show.
const TO_FIND_A_MISTAKE: u64 = 20_000;

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
    /// Our clock is taken to run at the store's rate.
    NoDrift,
    /// Threads are taken to run as soon as they should.
    NoSlack,
    /// The guardian leaves the deadline to the daemon, which may be stopped.
    GuardianHasNoTimer,
    /// The daemon leaves the deadline to the guardian, which may be stopped.
    NoSecondLine,
}

impl Mistake {
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

/// What came of many histories.
#[derive(Debug, Default)]
struct Tally {
    played: u64,
    /// In how many of them the job ran.
    ran: u64,
    /// How many hooks ran.
    hooks: u64,
    violations: Vec<(u64, String)>,
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
            let part = part.join().expect("no history panics");
            tally.played += part.played;
            tally.ran += part.ran;
            tally.hooks += part.hooks;
            tally.violations.extend(part.violations);
        }
    });
    tally
}

fn play_each(seeds: impl Iterator<Item = u64>, mistake: Option<Mistake>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let outcome = World::new(seed, mistake).play();
        tally.played += 1;
        tally.ran += u64::from(outcome.ran);
        tally.hooks += outcome.hooks;
        tally
            .violations
            .extend(outcome.violation.map(|it| (seed, it)));
    }
    tally
}

#[test]
fn no_job_outlives_its_lease_in_a_hundred_thousand_histories() {
    let tally = play(0..HISTORIES, None);
    assert_eq!(tally.played, HISTORIES);
    let found = tally.violations.len();
    assert_eq!(found, 0, "first: {:?}", tally.violations.first());
    assert!(tally.ran >= 100_000, "the job ran in {}", tally.ran);
    assert!(tally.hooks >= 10_000, "{} hooks ran", tally.hooks);
}

#[test]
fn every_classic_mistake_is_caught() {
    for mistake in [
        Mistake::DeadlineFromReply,
        Mistake::ClockIgnoresSuspend,
        Mistake::ClockIsSteered,
        Mistake::NoKillBudget,
        Mistake::BelievesEveryAck,
        Mistake::NoDrift,
        Mistake::NoSlack,
        Mistake::GuardianHasNoTimer,
        Mistake::NoSecondLine,
    ] {
        let mut batches = (0..TO_FIND_A_MISTAKE).step_by(1000);
        let caught = batches.any(|from| {
            let tally = play(from..from + 1000, Some(mistake));
            !tally.violations.is_empty()
        });
        assert!(caught, "{mistake:?} was not caught");
    }
}
