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
//! In some the job has a schedule: then there are [records of its runs](store), a time of day on each
//! machine, and [who meddles with both](slots).
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
mod mistake;
mod planned;
pub(super) mod settings;
mod several;
mod slots;
mod store;
mod tree;
mod world;

use std::ops::Range;
use std::thread;
use std::time::Duration;

use super::view::JobView;
pub(crate) use mistake::Mistake;
use several::Several;
use world::{Outcome, Wanted, World};

/// How many histories are played for the claim, unless `INCUMBENT_HISTORIES` says so many, or
/// `INCUMBENT_HISTORIES_MINUTES` for how long.
const HISTORIES: u64 = 2_000;

/// In how many histories at most a mistake must show.
const TO_FIND_A_MISTAKE: u64 = 3_000;

/// So many are played at once until it does.
const BATCH: u64 = 10;

/// The runs of a job that nobody looks at.
fn no_runs() -> JobView {
    JobView::default()
}

/// What came of many histories.
#[derive(Debug, Default)]
struct Tally {
    played: u64,
    runs: u64,
    /// Runs of a schedule among them.
    slots: u64,
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
        self.slots += other.slots;
        self.terms += other.terms;
        self.hooks += other.hooks;
        self.faults += other.faults;
        self.span += other.span;
        self.violations.extend(other.violations);
    }
}

/// Plays one history for each seed, on every processor.
fn play(seeds: Range<u64>, mistake: Option<Mistake>) -> Tally {
    let wanted = wanted();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let parts: Vec<_> = (0..workers)
            .map(|worker| {
                let seeds = seeds.clone().skip(worker).step_by(workers);
                scope.spawn(move || play_each(seeds, mistake, wanted))
            })
            .collect();
        for part in parts {
            tally.add(part.join().expect("no history panics"));
        }
    });
    tally
}

fn play_each(seeds: impl Iterator<Item = u64>, mistake: Option<Mistake>, wanted: Wanted) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let outcome = play_one(seed, mistake, wanted, false);
        tally.add(Tally {
            played: 1,
            runs: outcome.runs,
            slots: outcome.slots,
            terms: outcome.terms,
            hooks: outcome.hooks,
            faults: outcome.faults,
            span: Duration::from_nanos(outcome.span),
            violations: outcome.violation.map(|it| (seed, it)).into_iter().collect(),
        });
    }
    tally
}

/// Plays the history of this seed: of one job, or of several.
fn play_one(seed: u64, mistake: Option<Mistake>, wanted: Wanted, traced: bool) -> Outcome {
    if several::is_drawn(seed, mistake, wanted) {
        return Several::new(seed, mistake, wanted, traced).play();
    }
    World::new(seed, mistake, wanted, traced).play()
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Whether that is to be (1) or not (0), if it isn't to be drawn.
fn either(name: &str) -> Option<bool> {
    match setting(name, 2) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// What each history is to have, unless that is drawn: so many replicas, and a schedule (1) or none (0).
fn wanted() -> Wanted {
    let count = setting("INCUMBENT_HISTORIES_REPLICAS", 0);
    Wanted {
        replicas: usize::try_from(count).ok().filter(|count| *count > 0),
        scheduled: either("INCUMBENT_HISTORIES_SCHEDULED"),
        several: either("INCUMBENT_HISTORIES_SEVERAL"),
        ..Wanted::default()
    }
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
        "{} histories, {hours} h of simulated time, {} faults, {} terms, {} runs, {} of them of slots, {} hooks \
         in {took:?}",
        tally.played, tally.faults, tally.terms, tally.runs, tally.slots, tally.hooks
    );
    for (seed, what) in tally.violations.iter().take(30) {
        println!("{seed}: {what}");
    }
    assert_eq!(found, 0, "first: {:?}", tally.violations.first());
    assert!(tally.runs >= count && tally.terms >= count && tally.hooks > 0);
}

/// Histories that have broken a rule once, by what was at fault.
#[test]
fn histories_that_broke_a_rule_break_none() {
    let seeds = [
        // A job whose end fell into its machine's suspend was killed in the past: true time went back.
        1_795_763_508,
        // The only replica's hook refused each of its terms.
        500_000_881,
        // A grant was heard of after its revocation.
        500_005_371,
        // Two runs left something behind, the second before anybody saw the first one's end.
        500_058_440,
        // A daemon died of its job just when strangers ended its lease, and its hook ran on.
        500_075_127,
        // A heir waited a term out by the faster of its clocks, which was slewed.
        600_078_233,
        600_185_890,
        // Strangers ended a lease before the record of its term was there.
        600_199_028,
        // An exec hung while its machine was suspended, and another led when that woke.
        800_212_584,
        // A refused term came and went between two looks.
        800_230_118,
        // A key was deleted of who had begun to wait a term out, and led meanwhile, cut off.
        2_000_093_774,
        2_000_311_100,
        // A daemon died of its Rust job just when strangers ended its lease, and left a process of it.
        2_000_490_875,
    ];
    for seed in seeds {
        let outcome = World::new(seed, None, Wanted::default(), false).play();
        assert_eq!(outcome.violation, None, "history {seed}");
    }
}

/// All mistakes, or those whose name has `INCUMBENT_HISTORIES_MISTAKE` in it.
fn mistakes() -> impl Iterator<Item = Mistake> {
    let part = std::env::var("INCUMBENT_HISTORIES_MISTAKE").unwrap_or_default();
    let mut all = Mistake::ALL.into_iter().collect::<Vec<_>>();
    all.retain(|mistake| format!("{mistake:?}").contains(&part));
    all.into_iter()
}

/// In which history, counted from `first`, a mistake is caught, and as what.
fn caught(mistake: Mistake, first: u64, within: u64) -> Option<(u64, String)> {
    let mut batches = (0..within).step_by(usize::try_from(BATCH).expect("a number"));
    batches.find_map(|from| {
        let from = first + from;
        let tally = play(from..from + BATCH, Some(mistake));
        let (seed, what) = tally.violations.into_iter().min()?;
        Some((seed - first + 1, what))
    })
}

#[test]
fn every_mistake_is_caught() {
    let mut missed = Vec::new();
    for mistake in mistakes() {
        match caught(mistake, 0, TO_FIND_A_MISTAKE) {
            Some((number, what)) => {
                let what: String = what.chars().take(100).collect();
                println!("{mistake:?}: in history {number}: {what}");
            }
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Prints the table of docs/internals.md.
#[test]
#[ignore = "for people to read"]
fn how_soon_mistakes_are_caught() {
    const SEEDS: [u64; 5] = [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000];
    const MOST: u64 = 20_000;
    for mistake in mistakes() {
        let found = SEEDS.map(|first| caught(mistake, first, MOST));
        let mut numbers = found
            .each_ref()
            .map(|it| it.as_ref().map_or(MOST, |it| it.0));
        numbers.sort_unstable();
        let [least, _, median, _, most] = numbers;
        println!("| `{mistake:?}` | {median} | {least}–{most} |");
    }
}

#[test]
fn the_page_has_every_mistake() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/internals.md");
    let page = std::fs::read_to_string(page).expect("a page");
    let missing = |mistake: &Mistake| !page.contains(&format!("| `{mistake:?}` |"));
    let missing: Vec<_> = Mistake::ALL.into_iter().filter(missing).collect();
    assert!(missing.is_empty(), "not in docs/internals.md: {missing:?}");
}

/// Tells all of the history `INCUMBENT_HISTORY`, of the mistake with the number
/// `INCUMBENT_HISTORY_MISTAKE` if there is one.
#[test]
#[ignore = "for people to read"]
fn one_history() {
    let mistake = std::env::var("INCUMBENT_HISTORY_MISTAKE").ok();
    let mistake = mistake.map(|number| Mistake::ALL[number.parse::<usize>().expect("a number")]);
    let outcome = play_one(setting("INCUMBENT_HISTORY", 0), mistake, wanted(), true);
    println!("{outcome:?}");
}
