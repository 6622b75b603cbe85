//! At which instants a job is to run.

use std::time::Duration;

use super::Slot;
use super::calendar::{Pattern, Zone};

/// What a schedule is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Patterns of cron; a slot is what any of them wants.
    Cron(Vec<String>),
    /// A slot every so many whole seconds since 1970-01-01 00:00 UTC.
    Every(Duration),
}

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct NotASchedule {
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Two schedules are the same if their patterns and zone are, by whatever rules of the zone.
impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Schedule {}

/// At which instants a job is to run.
///
/// A pattern whose hour and minute are plain values, ranges or lists of them names single times, in
/// the zone's own time: one that is missing on a day, since the clocks are put forward, is the first
/// instant after the gap; one that is there twice is the first of the two. With `*` or a step in hour
/// or minute a pattern follows real time: nothing in the gap, and both halves of what is there twice.
/// Instants that come out equal count once.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub(super) slots: Slots,
    spec: String,
}

#[derive(Clone, Debug)]
pub(super) enum Slots {
    Cron { patterns: Vec<Pattern>, zone: Zone },
    Every(u64),
}

impl Schedule {
    /// Reads a schedule, and the zone from this host's database. Blocks for that one file.
    ///
    /// `timezone` is an IANA name; a pace of [`Pace::Every`] needs none.
    ///
    /// # Errors
    /// For patterns that can't be read or never match, a zone that this host doesn't have, and one
    /// that may be another on the next host.
    pub fn new(pace: &Pace, timezone: &str) -> Result<Self, NotASchedule> {
        match pace {
            Pace::Cron(patterns) if patterns.is_empty() => Err(NotASchedule {
                expected: "at least one pattern of cron".to_owned(),
                found: "an empty list".to_owned(),
            }),
            Pace::Cron(patterns) => {
                let patterns = patterns.iter().map(|it| Pattern::parse(it));
                Ok(Self::of(Slots::Cron {
                    patterns: patterns.collect::<Result<_, _>>()?,
                    zone: Zone::named(timezone)?,
                }))
            }
            Pace::Every(span) => {
                let seconds = span.as_secs();
                if seconds == 0 || span.subsec_nanos() > 0 || Slot::at(seconds).is_none() {
                    return Err(NotASchedule {
                        expected: "whole seconds, at least 1s".to_owned(),
                        found: format!("{span:?}"),
                    });
                }
                Ok(Self::of(Slots::Every(seconds)))
            }
        }
    }

    /// The same schedule by the rules that the host's database has now; by the old ones where it
    /// can't be read at the moment. Blocks as [`Schedule::new`] does.
    #[must_use]
    pub fn refreshed(&self) -> Self {
        let Slots::Cron { patterns, zone } = &self.slots else {
            return self.clone();
        };
        Self::of(Slots::Cron {
            patterns: patterns.clone(),
            zone: Zone::named(zone.name()).unwrap_or_else(|_| zone.clone()),
        })
    }

    /// What tells this schedule from another: the same on every replica and version.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    fn of(slots: Slots) -> Self {
        let text = match &slots {
            Slots::Cron { patterns, zone } => {
                let patterns: Vec<_> = patterns.iter().map(Pattern::text).collect();
                format!("cron\n{}\n{}", zone.name(), patterns.join("\n"))
            }
            Slots::Every(seconds) => format!("every\n{seconds}"),
        };
        let spec = format!("{:016x}", hash(text.as_bytes()));
        Self { slots, spec }
    }

    /// The first slot after `after`; `None` if there is none before the year 5000.
    pub fn next(&self, after: Slot) -> Option<Slot> {
        match &self.slots {
            Slots::Cron { patterns, zone } => {
                let slots = patterns.iter().filter_map(|it| it.next(zone, after));
                slots.min()
            }
            Slots::Every(seconds) => Slot::at((after.as_secs() / seconds + 1) * seconds),
        }
    }

    /// The last slot before `before`; `None` if there is none since 1970.
    pub fn previous(&self, before: Slot) -> Option<Slot> {
        match &self.slots {
            Slots::Cron { patterns, zone } => {
                let slots = patterns.iter().filter_map(|it| it.previous(zone, before));
                slots.max()
            }
            Slots::Every(seconds) => {
                let last = before.as_secs().checked_sub(1)?;
                Slot::at(last / seconds * seconds)
            }
        }
    }

    /// The slots after `after` and up to `until`, oldest first, and at most `most` of them.
    pub fn between(&self, after: Slot, until: Slot, most: usize) -> Vec<Slot> {
        let next = |after: Slot| self.next(after).filter(|slot| *slot <= until);
        std::iter::successors(next(after), |last| next(*last))
            .take(most)
            .collect()
    }

    /// The pattern in words: `at 03:30 every day, Europe/Berlin`.
    pub fn words(&self) -> String {
        match &self.slots {
            Slots::Cron { patterns, zone } => {
                let words: Vec<_> = patterns.iter().map(Pattern::words).collect();
                format!("{}, {}", words.join("; or "), zone.name())
            }
            Slots::Every(seconds) => {
                let span = humantime::format_duration(Duration::from_secs(*seconds));
                format!("every {span}, counted from 1970-01-01 00:00 UTC")
            }
        }
    }
}

/// Reads a pattern of cron, without a zone.
///
/// # Errors
/// For one that can't be read, or never matches.
pub fn check_pattern(text: &str) -> Result<(), NotASchedule> {
    Pattern::parse(text).map(drop)
}

/// Looks a zone up in this host's database; blocks for that one file.
///
/// # Errors
/// For a zone that this host doesn't have, and one that may be another on the next host.
pub fn check_zone(name: &str) -> Result<(), NotASchedule> {
    Zone::named(name).map(drop)
}

/// How long after its slot a run begins, from none to less than `most`: the same on every replica and
/// with every version, and never early.
///
/// The delay is a hash of the election's prefix and the slot (64-bit FNV-1a, its bits mixed as
/// `SplitMix64` does at its end), in milliseconds, modulo `most`.
pub fn jitter(election: &str, slot: Slot, most: Duration) -> Duration {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    if most == 0 {
        return Duration::ZERO;
    }
    let mut text = election.as_bytes().to_vec();
    text.push(0);
    text.extend(slot.as_secs().to_be_bytes());
    Duration::from_millis(hash(&text) % most)
}

/// FNV-1a, whose low bits alone are no even spread, with the bits mixed.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

/// Spreads each bit over all others, as `SplitMix64` ends.
pub(super) const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
