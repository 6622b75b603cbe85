//! Our clocks against true time: a rate within `rho`, how one of them is steered, and what they make
//! of a suspend.

use super::Mistake;
use super::chance::Chance;
use crate::clock::Instant;
use crate::wall::Time;

/// When a history begins, in milliseconds since 1970: 2027-06-01 00:00 UTC.
const BEGIN: u64 = 1_811_808_000_000;

/// The time of day at this true time, by a clock that is right.
pub(super) const fn true_wall(now: u64) -> Time {
    Time::from_millis(BEGIN + now / 1_000_000)
}

/// The clocks that our processes read.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Nanoseconds since boot, as something steers it.
    boot: u64,
    /// Nanoseconds since boot, steered by nothing.
    raw: u64,
    /// How much both gain, in millionths.
    pub(super) rate: i64,
    /// How much the one that is steered gains by that, in millionths.
    pub(super) slew: i64,
    /// The machine is suspended until this true time.
    pub(super) suspended_until: u64,
    /// How much the time of day is ahead of the right one, in milliseconds.
    ahead: i64,
    mistake: Option<Mistake>,
}

impl Clock {
    pub(super) fn new(chance: &mut Chance, mistake: Option<Mistake>) -> Self {
        let raw = (1 << 40) + chance.up_to(1 << 50);
        Self {
            boot: raw + chance.up_to(1 << 50),
            raw,
            rate: any_rate(chance),
            slew: any_slew(chance),
            suspended_until: 0,
            ahead: 0,
            mistake,
        }
    }

    pub(super) fn shows(&self) -> Instant {
        if self.is_steered_only() {
            return Instant::from_nanos(self.boot);
        }
        Instant::of(self.boot, self.raw)
    }

    /// True time goes on.
    pub(super) fn advance(&mut self, from: u64, to: u64) {
        let span = to.saturating_sub(self.counts_from(from));
        self.boot += part(span, millionths(self.rate + self.slew), 1_000_000);
        self.raw += part(span, millionths(self.rate), 1_000_000);
    }

    /// The first true time at which one of them shows `at`, should the rates stay.
    pub(super) fn when(&self, at: Instant, now: u64) -> u64 {
        let (boot, raw) = at.into();
        let boot = part(
            boot.saturating_sub(self.boot),
            1_000_000,
            millionths(self.rate + self.slew),
        );
        let boot = self.counts_from(now) + boot + 1;
        if self.is_steered_only() {
            return boot;
        }
        let raw = part(
            raw.saturating_sub(self.raw),
            1_000_000,
            millionths(self.rate),
        );
        boot.min(self.counts_from(now) + raw + 1)
    }

    /// The time of day that it shows: whole milliseconds, rounded down.
    pub(super) fn wall(&self, now: u64) -> Time {
        let right = true_wall(now).as_millis();
        Time::from_millis(right.saturating_add_signed(self.ahead))
    }

    /// The true time at which it shows that time of day, unless it is set; zero if that was before the
    /// history began.
    pub(super) fn wall_when(&self, at: Time) -> u64 {
        let right = at.as_millis().saturating_add_signed(-self.ahead);
        right.saturating_sub(BEGIN) * 1_000_000
    }

    /// Somebody sets it, or boots with it, so far ahead.
    pub(super) const fn set_wall(&mut self, ahead: i64) {
        self.ahead = ahead;
    }

    fn is_steered_only(&self) -> bool {
        self.mistake == Some(Mistake::ClockIsSteered)
    }

    /// From when on time counts, as of `now`.
    fn counts_from(&self, now: u64) -> u64 {
        if self.mistake == Some(Mistake::ClockIgnoresSuspend) {
            now.max(self.suspended_until)
        } else {
            now
        }
    }
}

/// The slowest rate within `rho`, in millionths.
pub(super) const SLOWEST: i64 = -1000;

fn millionths(rate: i64) -> u64 {
    1_000_000_u64.saturating_add_signed(rate)
}

/// How fast a clock is slewed, mostly not at all, and at most as fast as chronyd does.
pub(super) fn any_slew(chance: &mut Chance) -> i64 {
    chance.pick(&[0, 0, 0, -83_333, -83_333, 83_333])
}

/// A rate within `rho`, often at its bounds.
pub(super) fn any_rate(chance: &mut Chance) -> i64 {
    chance.pick(&[-1000, -1000, -300, 0, 700, 1000])
}

/// Every event of a history comes by here; no span of one is too long for the short way.
#[inline]
fn part(span: u64, times: u64, of: u64) -> u64 {
    if let Some(product) = span.checked_mul(times) {
        return product / of;
    }
    let part = u128::from(span) * u128::from(times) / u128::from(of);
    u64::try_from(part).expect("a span of a history")
}
