//! What to do about a TTL that is too short for the graces: values that really pass.

use std::fmt;
use std::time::Duration;

use super::{
    LARGEST_TTL, SMALLEST_TTL, Timing, default_kill_budget, default_lost_grace,
    default_takeover_delay, smallest_takeover_delay,
};

/// The shortest `kill_budget` worth naming: a busy machine needs it to reap a tree.
const USUAL_KILL_BUDGET: Duration = Duration::from_millis(100);

/// What the user chose; `None` stands for a default, which follows the other settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// `election.ttl`, the default included, which follows nothing.
    pub ttl: Duration,
    /// `job.lost_grace`.
    pub lost_grace: Option<Duration>,
    /// `job.kill_budget`.
    pub kill_budget: Option<Duration>,
    /// `election.takeover_delay`.
    pub takeover_delay: Option<Duration>,
}

impl Chosen {
    /// The times that result, checked or not.
    pub fn timing(&self) -> Timing {
        let lost_grace = self
            .lost_grace
            .unwrap_or_else(|| default_lost_grace(self.ttl));
        let kill_budget = self
            .kill_budget
            .unwrap_or_else(|| default_kill_budget(self.ttl));
        Timing::new(self.ttl, lost_grace, kill_budget)
    }

    /// The takeover delay that results, checked or not.
    pub fn takeover_delay(&self) -> Duration {
        self.takeover_delay
            .unwrap_or_else(|| default_takeover_delay(self.timing().kill_budget()))
    }

    /// R3 over the settings that result.
    ///
    /// # Errors
    /// The advice knows which settings are defaults and will move with the TTL.
    pub fn check(&self) -> Result<(), Advice> {
        let timing = self.timing();
        if timing.passes() {
            return Ok(());
        }
        Err(Advice {
            timing,
            remedies: self.remedies(),
        })
    }

    /// All that helps, each on its own.
    fn remedies(&self) -> Vec<Remedy> {
        let timing = self.timing();
        let room = timing.ttl().saturating_sub(timing.overhead());
        let mut remedies = Vec::new();
        if let Some(ttl) = smallest_ttl(|ttl| Self { ttl, ..*self }.timing()) {
            let raised = Self { ttl, ..*self };
            let delay = smallest_takeover_delay(raised.timing().kill_budget());
            let mut remedy = vec![(Setting::Ttl, ttl)];
            if raised.takeover_delay() < delay {
                remedy.push((Setting::TakeoverDelay, delay));
            }
            remedies.push(Remedy(remedy));
        }
        if let Some(room) = room.checked_sub(timing.kill_budget()) {
            remedies.push(Remedy(vec![(Setting::LostGrace, rounded_down(room))]));
        }
        match room.checked_sub(timing.lost_grace()) {
            Some(room) if room >= USUAL_KILL_BUDGET => {
                remedies.push(Remedy(vec![(Setting::KillBudget, rounded_down(room))]));
            }
            // With both too long for the TTL, neither helps alone.
            _ if timing.kill_budget() > room && room >= USUAL_KILL_BUDGET => {
                remedies.push(Remedy(vec![
                    (Setting::LostGrace, Duration::ZERO),
                    (Setting::KillBudget, rounded_down(room)),
                ]));
            }
            _ => {}
        }
        remedies
    }
}

/// The smallest whole seconds that pass, by bisection: a longer TTL always leaves more room,
/// defaults that grow with it included.
pub(super) fn smallest_ttl(timing: impl Fn(Duration) -> Timing) -> Option<Duration> {
    let (mut low, mut high) = (SMALLEST_TTL.as_secs(), LARGEST_TTL.as_secs());
    let passes = |seconds| timing(Duration::from_secs(seconds)).passes();
    if !passes(high) {
        return None;
    }
    while low < high {
        let middle = low.midpoint(high);
        if passes(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(Duration::from_secs(low))
}

/// Down to a number that a person would write, in steps of 100 ms, or 10 ms below half a second.
fn rounded_down(span: Duration) -> Duration {
    let step = match span.as_millis() {
        0..500 => 10_000_000,
        _ => 100_000_000,
    };
    Duration::from_nanos_u128(span.as_nanos() / step * step)
}

/// A setting that advice may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `election.ttl`.
    Ttl,
    /// `election.takeover_delay`.
    TakeoverDelay,
    /// `job.lost_grace`.
    LostGrace,
    /// `job.kill_budget`.
    KillBudget,
}

impl Setting {
    /// The setting's key in the configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Ttl => "election.ttl",
            Self::TakeoverDelay => "election.takeover_delay",
            Self::LostGrace => "job.lost_grace",
            Self::KillBudget => "job.kill_budget",
        }
    }

    /// What the interface calls it.
    const fn option(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::TakeoverDelay => "takeover_delay",
            Self::LostGrace => "lost_grace",
            Self::KillBudget => "kill_budget",
        }
    }

    /// The way in which it makes room.
    const fn verb(self) -> &'static str {
        match self {
            Self::Ttl | Self::TakeoverDelay => "raise",
            Self::LostGrace | Self::KillBudget => "lower",
        }
    }
}

/// Settings that pass when they, and nothing else, are changed to these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy(pub Vec<(Setting, Duration)>);

impl Remedy {
    fn write(&self, f: &mut fmt::Formatter<'_>, name: fn(Setting) -> &'static str) -> fmt::Result {
        for (place, (setting, value)) in self.0.iter().enumerate() {
            match place {
                0 => write!(f, "{} ", setting.verb())?,
                _ => f.write_str(" and ")?,
            }
            write!(f, "{} to {}", name(*setting), Shown(*value))?;
        }
        Ok(())
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Setting::key)
    }
}

/// Why a TTL is too short for the graces, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The times as they are.
    pub timing: Timing,
    /// What helps, each on its own.
    pub remedies: Vec<Remedy>,
}

impl std::error::Error for Advice {}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Setting::key)
    }
}

impl Advice {
    /// The same, to who has no configuration and knows the settings by the interface's names.
    pub fn in_words_of_the_options(&self) -> String {
        fmt::from_fn(|f| self.write(f, Setting::option)).to_string()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, name: fn(Setting) -> &'static str) -> fmt::Result {
        let overhead = whole_millis_up(self.timing.overhead());
        write!(
            f,
            "expected room for lost_grace {} + kill_budget {} + {} in which to renew, found a ttl of {}; ",
            Shown(self.timing.lost_grace()),
            Shown(self.timing.kill_budget()),
            Shown(overhead),
            Shown(self.timing.ttl()),
        )?;
        for (place, remedy) in self.remedies.iter().enumerate() {
            let or = if place == 0 { "" } else { ", or " };
            f.write_str(or)?;
            remedy.write(f, name)?;
        }
        Ok(())
    }
}

/// Rounded up to milliseconds, so that the sum shown is never less than the real one.
fn whole_millis_up(span: Duration) -> Duration {
    let millis = span.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// A span as the configuration takes it, in one unit where a person would use one: `1500ms`.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole_millis = self.0.subsec_nanos().is_multiple_of(1_000_000);
        if self.0.as_secs() < 60 && self.0.subsec_nanos() != 0 && whole_millis {
            write!(f, "{}ms", self.0.as_millis())
        } else {
            write!(f, "{}", humantime::format_duration(self.0))
        }
    }
}
