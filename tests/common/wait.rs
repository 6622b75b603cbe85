//! Waiting with a budget: the only way a test waits for anything.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a probe is asked that shall become true.
const POLL: Duration = Duration::from_millis(5);

/// How often one is asked that shall stay true: most of them ask the store, for seconds.
const WATCH: Duration = Duration::from_millis(20);

/// A span of whole seconds.
pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A span of milliseconds.
pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The most that a busy machine lengthens a budget by.
const BUSIEST: f64 = 6.0;

/// Scales a budget by `INCUMBENT_TEST_PATIENCE`, for machines slower than the one it was set on, and by
/// how many processes there are for each core that want to run: each gets that much less of it.
pub fn patience(budget: Duration) -> Duration {
    let factor = std::env::var("INCUMBENT_TEST_PATIENCE")
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|factor| factor.is_finite() && *factor > 0.0)
        .unwrap_or(1.0);
    budget.mul_f64(factor * crowd())
}

/// Processes for each core that want to run, now or in the last minute: 1 at least.
fn crowd() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut words = load.split([' ', '/']);
    let last_minute = words.next().and_then(|word| word.parse::<f64>().ok());
    let now = words.nth(2).and_then(|word| word.parse::<f64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = f64::from(u32::try_from(cores).unwrap_or(1));
    let wanting = last_minute.unwrap_or(0.0).max(now.unwrap_or(0.0));
    (wanting / cores).clamp(1.0, BUSIEST)
}

/// What a probe answers: there already, or not yet and what was seen instead.
pub trait Outcome {
    /// What the waiting test gets.
    type Value;

    /// The value, or what was seen instead of it.
    fn settle(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn settle(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "None".to_owned())
    }
}

impl<T, E: Debug> Outcome for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Asks `probe` every few milliseconds until it answers yes, and returns its value.
///
/// # Panics
/// When the budget, scaled by [`patience`], is over: with what was waited for, for how long, and
/// what was seen last.
#[track_caller]
pub fn eventually<O: Outcome>(
    budget: Duration,
    what: &str,
    mut probe: impl FnMut() -> O,
) -> O::Value {
    let budget = patience(budget);
    let begun = Instant::now();
    ask(budget, &mut probe).unwrap_or_else(|seen| {
        let waited = begun.elapsed();
        panic!("not within {budget:?}: {what} (waited {waited:.1?}, last seen: {seen})")
    })
}

/// Asks `probe` every few milliseconds for as long as `budget`, scaled by [`patience`]; returns its value
/// if it answers yes in that time.
pub fn comes<O: Outcome>(budget: Duration, mut probe: impl FnMut() -> O) -> Option<O::Value> {
    ask(patience(budget), &mut probe).ok()
}

fn ask<O: Outcome>(span: Duration, probe: &mut impl FnMut() -> O) -> Result<O::Value, String> {
    let begun = Instant::now();
    loop {
        // Looked at before the probe, so that the probe is asked once after the time is over.
        let over = begun.elapsed() >= span;
        match probe().settle() {
            Err(_) if !over => std::thread::sleep(POLL),
            settled => return settled,
        }
    }
}

/// Checks that `probe` answers yes every time it is asked for as long as `span`.
///
/// # Panics
/// As soon as it does not: with what should have held, when it broke, and what was seen.
#[track_caller]
pub fn throughout<O: Outcome>(span: Duration, what: &str, mut probe: impl FnMut() -> O) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if let Err(seen) = probe().settle() {
            let held = begun.elapsed();
            panic!("did not hold for {span:?}: {what} (broke after {held:.1?}, seen: {seen})")
        }
        std::thread::sleep(WATCH);
    }
}
