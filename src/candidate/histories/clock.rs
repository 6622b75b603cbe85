//! Our clock against true time: a rate within `rho`, and what it makes of a suspend.

use super::Mistake;
use super::chance::{Chance, nanos};
use crate::clock::Instant;

/// The clock that our processes read.
#[derive(Debug)]
pub(super) struct Clock {
    /// Nanoseconds since boot.
    shown: u64,
    /// How much it gains, in millionths.
    pub(super) rate: i64,
    /// The machine is suspended until this true time.
    pub(super) suspended_until: u64,
    /// Whether it stands still while the machine is suspended.
    mistaken: bool,
}

impl Clock {
    pub(super) fn new(chance: &mut Chance, mistake: Option<Mistake>) -> Self {
        Self {
            shown: (1 << 40) + chance.up_to(1 << 50),
            rate: any_rate(chance),
            suspended_until: 0,
            mistaken: mistake == Some(Mistake::ClockIgnoresSuspend),
        }
    }

    pub(super) const fn shows(&self) -> Instant {
        Instant::from_nanos(self.shown)
    }

    /// True time goes on.
    pub(super) fn advance(&mut self, from: u64, to: u64) {
        let span = to.saturating_sub(self.counts_from(from));
        self.shown += part(span, self.millionths(), 1_000_000);
    }

    /// The first true time at which it shows `at`, should the rate stay.
    pub(super) fn when(&self, at: Instant, now: u64) -> u64 {
        let span = nanos(at.since(self.shows()));
        self.counts_from(now) + part(span, 1_000_000, self.millionths()) + 1
    }

    /// From when on time counts, as of `now`.
    fn counts_from(&self, now: u64) -> u64 {
        if self.mistaken {
            now.max(self.suspended_until)
        } else {
            now
        }
    }

    fn millionths(&self) -> u64 {
        1_000_000_u64.saturating_add_signed(self.rate)
    }
}

/// A rate within `rho`, often at its bounds.
pub(super) fn any_rate(chance: &mut Chance) -> i64 {
    chance.pick(&[-1000, -1000, -300, 0, 700, 1000])
}

fn part(span: u64, times: u64, of: u64) -> u64 {
    let part = u128::from(span) * u128::from(times) / u128::from(of);
    u64::try_from(part).expect("a span of a history")
}
