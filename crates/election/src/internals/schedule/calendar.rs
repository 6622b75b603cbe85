//! Calendar and time zones: the one file that knows the crates that parse patterns and read the
//! system's zones.
//!
//! The crate for patterns says which dates and times of day match, without a zone. What a zone makes
//! of them is decided here, from the instants at which its offset changes: where hour and minute are
//! plain values, ranges or lists, each is a single time, which runs once a day whatever the clocks
//! do; with `*` or a step in either, the pattern follows real time.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::slot::Slot;
use super::{NotASchedule, words};

/// Patterns that stand for others, as cron has them.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Names that a zone of this host may have, but that mean another on the next host, or count leap
/// seconds.
const NO_ZONES: [&str; 4] = ["local", "localtime", "system", "posixrules"];

/// At most so many changes of a zone's offset are crossed in one search; the busiest zones have
/// four a year, and a pattern that matches at all matches within 28 years or 40.
const CHANGES: usize = 400;

/// A pattern of cron.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    cron: Cron,
    /// As it was written.
    text: String,
    /// Without a nickname: six fields, seconds first.
    fields: [String; 6],
    single_times: bool,
}

impl Pattern {
    /// Reads 5 fields, 6 with the seconds first, or a nickname as `@hourly`.
    pub(super) fn parse(text: &str) -> Result<Self, NotASchedule> {
        let problem = |expected: String| NotASchedule {
            expected,
            found: format!("{text:?}"),
        };
        let written = text.trim();
        let mut fields = written;
        if written.starts_with('@') {
            let lower = written.to_ascii_lowercase();
            let known = NICKNAMES.iter().find(|(name, _)| *name == lower);
            let names = NICKNAMES.map(|(name, _)| name).join(", ");
            fields = known.ok_or_else(|| problem(format!("one of {names}")))?.1;
        }
        let mut parts: Vec<&str> = fields.split_whitespace().collect();
        if parts.len() == 5 {
            parts.insert(0, "0");
        }
        let fields: [&str; 6] = parts.try_into().map_err(|parts: Vec<_>| {
            let number = parts.len();
            problem(format!(
                "5 fields (minute, hour, day of the month, month, day of the week), or 6 with the seconds \
                 first; {number} were given"
            ))
        })?;
        if fields.iter().any(|it| it.split(',').any(str::is_empty)) {
            return Err(problem("no empty item in a list".to_owned()));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(&fields.join(" ")).map_err(|error| {
            let why = error.to_string();
            let why = why.split_once(": ").map_or(&*why, |(_, why)| why);
            let why = why.replace("CronPattern contains ", "");
            problem(format!("a pattern of cron ({})", why.trim_end_matches('.')))
        })?;
        let plain = |field: &str| !field.contains(['*', '/']);
        let pattern = Self {
            cron,
            text: written.to_owned(),
            single_times: plain(fields[1]) && plain(fields[2]),
            fields: fields.map(str::to_owned),
        };
        // The calendar repeats itself within 400 years.
        if pattern.civil_next(civil(0)).is_none() {
            return Err(problem("a pattern that matches some day".to_owned()));
        }
        Ok(pattern)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// In words, without zone.
    pub(super) fn words(&self) -> String {
        let cron = &self.cron.pattern;
        let rest = || self.cron.describe().trim_end_matches('.').to_owned();
        words::of_pattern(
            &self.fields,
            [&cron.seconds, &cron.minutes, &cron.hours].map(croner::CronComponent::values),
            rest,
        )
    }

    /// Whether each time of day that it names is a time of its own, or it follows real time.
    pub(super) const fn has_single_times(&self) -> bool {
        self.single_times
    }

    /// Whether some hour of the day is not its own, so that an hour that is missing, or there twice,
    /// is seen.
    pub(super) fn names_hours(&self) -> bool {
        self.cron.pattern.hours.values().len() < 24
    }

    /// The first that matches from `from` on, by the clock on the wall.
    fn civil_next(&self, from: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&from, true).ok()
    }

    /// The last that matches up to `until`, by the clock on the wall.
    fn civil_previous(&self, until: DateTime) -> Option<DateTime> {
        self.cron.find_previous_occurrence(&until, true).ok()
    }

    /// The first slot after `after`.
    pub(super) fn next(&self, zone: &Zone, after: Slot) -> Option<Slot> {
        let from = seconds(after) + 1;
        if self.single_times {
            // In the second half of a fold, all that is there twice has had its run; where a gap ends,
            // all that is missing has its.
            let gap = zone.change_at(from).filter(Transition::is_gap);
            let fold = zone.fold_before(from).map(|fold| fold.wall_end());
            let wall = gap.map(|gap| gap.wall_start()).or(fold);
            let wall = wall.unwrap_or_else(|| from + zone.offset(from));
            let wall = self.civil_next(civil(wall))?;
            return slot(zone.single(wall));
        }
        let mut from = from;
        for _ in 0..CHANGES {
            let (offset, change) = (zone.offset(from), zone.change_after(from));
            let wall = seconds_of(self.civil_next(civil(from + offset))?);
            match change {
                Some(change) if wall - offset >= change.at => from = change.at,
                _ => return slot(wall - offset),
            }
        }
        None
    }

    /// The last slot before `before`.
    pub(super) fn previous(&self, zone: &Zone, before: Slot) -> Option<Slot> {
        let until = seconds(before) - 1;
        if self.single_times {
            let offset = zone.offset(until);
            let mut wall = zone
                .fold_before(until)
                .map_or(until + offset, |fold| fold.wall_end() - 1);
            for _ in 0..CHANGES {
                let found = self.civil_previous(civil(wall))?;
                let at = zone.single(found);
                if at <= until {
                    return slot(at);
                }
                // It is in a gap, whose runs come when it is over.
                wall = zone.change_at(at)?.wall_start() - 1;
            }
            return None;
        }
        let mut until = until;
        for _ in 0..CHANGES {
            let (offset, change) = (zone.offset(until), zone.change_before(until + 1));
            let wall = seconds_of(self.civil_previous(civil(until + offset))?);
            match change {
                Some(change) if wall - offset < change.at => until = change.at - 1,
                _ => return slot(wall - offset),
            }
        }
        None
    }

    /// What matches by the clock on the wall from `from` until before `to`, at most `most` of it.
    fn walls(&self, from: i64, to: i64, most: usize) -> Vec<i64> {
        let next = |from: i64| {
            let found = seconds_of(self.civil_next(civil(from))?);
            (found < to).then_some(found)
        };
        std::iter::successors(next(from), |last| next(last + 1))
            .take(most)
            .collect()
    }

    /// What it names of the time that the change makes missing or repeats, at most `most` of it, in
    /// seconds on the wall.
    pub(super) fn touched_by(&self, change: &Transition, most: usize) -> Vec<i64> {
        let (from, to) = if change.is_gap() {
            (change.wall_start(), change.wall_end())
        } else {
            (change.wall_start() - change.lost(), change.wall_end())
        };
        self.walls(from, to, most)
    }
}

/// A time zone, as the host's database has it.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    zone: TimeZone,
    name: String,
}

/// An instant at which a zone's clocks are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    /// Seconds since 1970.
    pub(super) at: i64,
    /// Offsets from UTC in seconds.
    before: i64,
    after: i64,
}

impl Transition {
    /// Whether times are missing; else they are there twice.
    pub(super) const fn is_gap(&self) -> bool {
        self.after > self.before
    }

    /// How many seconds are missing, or there twice.
    const fn lost(&self) -> i64 {
        (self.after - self.before).abs()
    }

    /// What the clock would show if it weren't set: where a gap begins, and where a fold ends.
    const fn wall_start(&self) -> i64 {
        self.at + self.before
    }

    /// Where the gap or the fold ends, by the clock on the wall.
    pub(super) const fn wall_end(&self) -> i64 {
        if self.is_gap() {
            self.at + self.after
        } else {
            self.wall_start()
        }
    }
}

impl Zone {
    /// Looks the name up in the host's database.
    pub(super) fn named(name: &str) -> Result<Self, NotASchedule> {
        let problem = |expected: &str| NotASchedule {
            expected: expected.to_owned(),
            found: format!("{name:?}"),
        };
        let lower = name.to_ascii_lowercase();
        // A host may have no database at all, as small images of containers do.
        if lower == "utc" {
            return Ok(Self::utc());
        }
        if NO_ZONES.contains(&&*lower) || lower.starts_with("right/") {
            return Err(problem(
                "an IANA time zone, the same on every replica, such as \"Europe/Berlin\" or \"UTC\"",
            ));
        }
        // The default: the host's database, which is looked through as a whole, is spared for it.
        if name == "UTC" {
            return Ok(Self::utc());
        }
        let zone = TimeZone::get(name).map_err(|_| {
            problem(
                "an IANA time zone that this host knows (in /usr/share/zoneinfo, of the package tzdata), such as \
                 \"Europe/Berlin\"",
            )
        })?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Ok(Self { zone, name })
    }

    /// The one that a schedule is in which needs none.
    pub(super) fn utc() -> Self {
        Self {
            zone: TimeZone::UTC,
            name: "UTC".to_owned(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Offset from UTC at an instant, in seconds.
    fn offset(&self, at: i64) -> i64 {
        i64::from(self.zone.to_offset(timestamp(at)).seconds())
    }

    /// The first change after an instant.
    pub(super) fn change_after(&self, at: i64) -> Option<Transition> {
        let changes = self.zone.following(timestamp(at));
        self.first_change(changes.map(|it| it.timestamp()))
    }

    /// The last change before an instant.
    fn change_before(&self, at: i64) -> Option<Transition> {
        let changes = self.zone.preceding(timestamp(at));
        self.first_change(changes.map(|it| it.timestamp()))
    }

    /// The change at exactly this instant.
    fn change_at(&self, at: i64) -> Option<Transition> {
        self.change_after(at - 1).filter(|change| change.at == at)
    }

    /// The first of them that moves the clocks: some only change the zone's abbreviation.
    fn first_change(&self, at: impl Iterator<Item = Timestamp>) -> Option<Transition> {
        at.take(CHANGES)
            .map(Timestamp::as_second)
            .map(|at| Transition {
                at,
                before: self.offset(at - 1),
                after: self.offset(at),
            })
            .find(|change| change.before != change.after)
    }

    /// The fold whose second half an instant is in.
    fn fold_before(&self, at: i64) -> Option<Transition> {
        self.change_before(at + 1)
            .filter(|change| !change.is_gap() && at + change.after < change.wall_end())
    }

    /// The instant of a single time: after the gap where it is missing, the first where it is there
    /// twice.
    fn single(&self, wall: DateTime) -> i64 {
        use jiff::tz::AmbiguousOffset::{Fold, Gap, Unambiguous};
        let at = |offset: Offset| seconds_of(wall) - i64::from(offset.seconds());
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            Unambiguous { offset } | Fold { before: offset, .. } => at(offset),
            // The later offset makes of it an instant before the change.
            Gap { after, .. } => {
                let early = at(after);
                self.change_after(early).map_or(early, |change| change.at)
            }
        }
    }

    /// The instant that a text tells: of RFC 3339, or a date, with or without a time of day, by the
    /// clock on the wall.
    pub(super) fn instant(&self, text: &str) -> Option<i64> {
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Some(timestamp.as_second());
        }
        text.parse().ok().map(|wall| self.single(wall))
    }

    /// An instant in RFC 3339, by the clock on the wall.
    pub(super) fn rfc3339(&self, at: Slot) -> String {
        let at = timestamp(seconds(at));
        let offset = self.zone.to_offset(at);
        at.display_with_offset(offset).to_string()
    }

    /// Date and time of day at an instant, by the clock on the wall, in seconds.
    pub(super) fn wall(&self, at: Slot) -> i64 {
        seconds(at) + self.offset(seconds(at))
    }
}

/// `2027-03-28` and `02:30`, or `02:30:05` where there are seconds.
pub(super) fn date_and_time(wall: i64) -> (String, String) {
    let wall = civil(wall);
    let seconds = match wall.second() {
        0 => String::new(),
        seconds => format!(":{seconds:02}"),
    };
    let time = format!("{:02}:{:02}{seconds}", wall.hour(), wall.minute());
    (wall.date().to_string(), time)
}

/// Seconds on a clock of UTC as date and time; the ends of time for what is beyond them.
fn civil(seconds: i64) -> DateTime {
    Offset::UTC.to_datetime(timestamp(seconds))
}

fn seconds_of(civil: DateTime) -> i64 {
    let at = Offset::UTC.to_timestamp(civil);
    at.map_or(i64::MAX / 4, Timestamp::as_second)
}

fn timestamp(seconds: i64) -> Timestamp {
    let bounds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    let seconds = seconds.clamp(*bounds.start(), *bounds.end());
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn seconds(slot: Slot) -> i64 {
    i64::try_from(slot.as_secs()).unwrap_or(i64::MAX / 4)
}

/// A slot if it is within what can be told.
fn slot(seconds: i64) -> Option<Slot> {
    u64::try_from(seconds).ok().and_then(Slot::at)
}
