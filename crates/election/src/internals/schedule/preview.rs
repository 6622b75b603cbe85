//! What a schedule has ahead, for whoever checks it: changes of the clocks that it meets, and how
//! close its slots come to each other.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::calendar::{Pattern, Transition, Zone, date_and_time};
use super::timetable::Slots;
use super::{NotASchedule, Schedule, Slot, words};

/// So far ahead is looked: a year.
const AHEAD: Duration = Duration::from_hours(366 * 24);

/// So many changes of the clocks in a year at most are looked at.
const CHANGES: usize = 16;

/// So many times are told one by one of what a change touches.
const TIMES: usize = 6;

/// So many slots of a year are compared.
const SLOTS: usize = 20_000;

/// A change of the clocks that a schedule meets, and what comes of it. Prints as
/// `2027-03-28 02:30 isn't there: runs at 03:00`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockChange {
    /// When the clocks are set, seconds since 1970.
    at: i64,
    text: String,
}

impl fmt::Display for ClockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl ClockChange {
    fn new(change: &Transition, pattern: &Pattern) -> Option<Self> {
        let mut walls = pattern.touched_by(change, TIMES + 1);
        let first = *walls.first()?;
        if !pattern.has_single_times() && !pattern.names_hours() {
            // It goes on at its pace, whatever the clocks show.
            return None;
        }
        let more = walls.len() > TIMES;
        walls.truncate(TIMES);
        let date = date_and_time(first).0;
        let mut times: Vec<_> = walls.iter().map(|wall| date_and_time(*wall).1).collect();
        if more {
            times.push("more".to_owned());
        }
        let (one, times) = (times.len() == 1, words::list(&times));
        let are = if one { "is" } else { "are" };
        let told = match (change.is_gap(), pattern.has_single_times()) {
            (true, true) => {
                let (day, time) = date_and_time(change.wall_end());
                let at = if day == date {
                    time
                } else {
                    format!("{day} {time}")
                };
                format!("{are}n't there: runs at {at}")
            }
            (true, false) => format!("{are}n't there: doesn't run then"),
            (false, true) => format!("{are} there twice: runs the first time"),
            (false, false) => format!("{are} there twice: runs both times"),
        };
        Some(Self {
            at: change.at,
            text: format!("{date} {times} {told}"),
        })
    }
}

fn changes_in_a_year(zone: &Zone, from: Slot) -> Vec<Transition> {
    let seconds = |slot: Slot| i64::try_from(slot.as_secs()).unwrap_or(i64::MAX);
    let end = seconds(Slot::up_to(from.time() + AHEAD));
    let next = |at: i64| zone.change_after(at).filter(|change| change.at < end);
    std::iter::successors(next(seconds(from)), |last| next(last.at))
        .take(CHANGES)
        .collect()
}

impl Schedule {
    /// The changes of the clocks within a year of `from` that this schedule meets, the next first. A
    /// pattern that keeps its pace whatever the clocks show meets none.
    pub fn clock_changes(&self, from: Slot) -> Vec<ClockChange> {
        let Slots::Cron { patterns, zone } = &self.slots else {
            return Vec::new();
        };
        let mut found = BTreeSet::new();
        for change in changes_in_a_year(zone, from) {
            let met = patterns.iter();
            found.extend(met.filter_map(|it| ClockChange::new(&change, it)));
        }
        found.into_iter().collect()
    }

    /// The shortest span between two slots that follow each other, of a year from `from` on, or of
    /// its first 20,000 slots; `None` if there are not two.
    pub fn smallest_gap(&self, from: Slot) -> Option<Duration> {
        if let Slots::Every(seconds) = self.slots {
            return Some(Duration::from_secs(seconds));
        }
        let end = Slot::up_to(from.time() + AHEAD);
        let slots = self.between(from, end, SLOTS);
        slots
            .windows(2)
            .map(|two| two[1].time().since(two[0].time()))
            .min()
    }

    /// How a slot reads on a clock in the schedule's zone: `2027-03-28 03:00`.
    pub fn local(&self, slot: Slot) -> String {
        let (date, time) = date_and_time(self.zone().wall(slot));
        format!("{date} {time}")
    }

    /// A slot in RFC 3339 with the offset of the schedule's zone: `2027-03-28T03:00:00+02:00`.
    pub fn with_offset(&self, slot: Slot) -> String {
        self.zone().rfc3339(slot)
    }

    /// The schedule's zone by its IANA name; `UTC` for one that needs none.
    pub fn timezone(&self) -> String {
        self.zone().name().to_owned()
    }

    /// Reads a time of RFC 3339, or a date with or without a time of day in the schedule's zone:
    /// `2027-03-28T01:00:00Z`, `2027-03-28`, `2027-03-28 03:00`. Fractions of a second are dropped.
    ///
    /// # Errors
    /// If it is none of these, or before 1970.
    pub fn time(&self, text: &str) -> Result<Slot, NotASchedule> {
        let instant = self.zone().instant(text);
        let slot = instant.and_then(|at| Slot::at(u64::try_from(at).ok()?));
        slot.ok_or_else(|| NotASchedule {
            expected: "a time such as 2027-03-28T01:00:00Z, \"2027-03-28 03:00\" or 2027-03-28"
                .to_owned(),
            found: format!("{text:?}"),
        })
    }

    fn zone(&self) -> Cow<'_, Zone> {
        match &self.slots {
            Slots::Cron { zone, .. } => Cow::Borrowed(zone),
            Slots::Every(_) => Cow::Owned(Zone::utc()),
        }
    }
}
