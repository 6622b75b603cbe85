//! Which instants a schedule wants: zone by zone, and against a slow reference.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn cron(pattern: &str, zone: &str) -> Schedule {
    Schedule::new(&Pace::Cron(vec![pattern.to_owned()]), zone).unwrap()
}

fn slot(text: &str) -> Slot {
    text.parse().unwrap()
}

/// The slots from one instant until before another.
fn slots(pattern: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let before = |text| Slot::at(slot(text).as_secs() - 1).unwrap();
    let found = cron(pattern, zone).between(before(from), before(until), 100);
    found.iter().map(ToString::to_string).collect()
}

/// Zone, pattern, a day of UTC or two from the first date to before the second, and the slots in it.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

#[rustfmt::skip]
const ZONES: &[Row] = &[
    // Clocks put forward from 02:00 to 03:00, and back from 03:00 to 02:00.
    ("Europe/Berlin", "30 2 * * *", "2027-03-28", "2027-03-29", &["2027-03-28T01:00:00Z"]),
    ("Europe/Berlin", "30 2 * * *", "2027-10-31", "2027-11-01", &["2027-10-31T00:30:00Z"]),
    ("Europe/Berlin", "0,30 2,3 * * *", "2027-03-28", "2027-03-29",
        &["2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z"]),
    ("Europe/Berlin", "0 1-4 * * *", "2027-10-30T22:00:00Z", "2027-10-31T20:00:00Z",
        &["2027-10-30T23:00:00Z", "2027-10-31T00:00:00Z", "2027-10-31T02:00:00Z", "2027-10-31T03:00:00Z"]),
    ("Europe/Berlin", "*/30 2 * * *", "2027-03-28", "2027-03-29", &[]),
    ("Europe/Berlin", "*/30 2 * * *", "2027-10-31", "2027-11-01",
        &["2027-10-31T00:00:00Z", "2027-10-31T00:30:00Z", "2027-10-31T01:00:00Z", "2027-10-31T01:30:00Z"]),
    ("Europe/Berlin", "0 * * * *", "2027-10-31", "2027-10-31T03:00:00Z",
        &["2027-10-31T00:00:00Z", "2027-10-31T01:00:00Z", "2027-10-31T02:00:00Z"]),
    ("Europe/Berlin", "15 30 2 * * *", "2027-03-28", "2027-03-29", &["2027-03-28T01:00:00Z"]),
    ("America/New_York", "30 2 * * *", "2027-03-14", "2027-03-15", &["2027-03-14T07:00:00Z"]),
    ("America/New_York", "30 1 * * *", "2027-11-07", "2027-11-08", &["2027-11-07T05:30:00Z"]),
    // Half an hour forward at 02:00, and back at 02:00.
    ("Australia/Lord_Howe", "15 2 * * *", "2027-10-02T12:00:00Z", "2027-10-03T12:00:00Z",
        &["2027-10-02T15:30:00Z"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2027-04-03T12:00:00Z", "2027-04-04T12:00:00Z",
        &["2027-04-03T14:45:00Z"]),
    ("Australia/Lord_Howe", "*/15 1 * * *", "2027-04-03T12:00:00Z", "2027-04-04T12:00:00Z",
        &["2027-04-03T14:00:00Z", "2027-04-03T14:15:00Z", "2027-04-03T14:30:00Z", "2027-04-03T14:45:00Z",
          "2027-04-03T15:00:00Z", "2027-04-03T15:15:00Z"]),
    // 45 minutes beside whole hours: forward at 02:45, back at 03:45.
    ("Pacific/Chatham", "0 3 * * *", "2027-09-25", "2027-09-26", &["2027-09-25T14:00:00Z"]),
    ("Pacific/Chatham", "0 3 * * *", "2027-04-03", "2027-04-04", &["2027-04-03T13:15:00Z"]),
    // Midnight is missing, and the hour before it is there twice.
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00:00Z", "2018-11-04T12:00:00Z", &["2018-11-04T03:00:00Z"]),
    ("America/Sao_Paulo", "30 23 * * *", "2018-02-17T12:00:00Z", "2018-02-18T12:00:00Z",
        &["2018-02-18T01:30:00Z"]),
    ("America/Sao_Paulo", "0 0 4 11 *", "2018-11-03", "2018-11-05", &["2018-11-04T03:00:00Z"]),
    // Back for Ramadan, and forward after it.
    ("Africa/Casablanca", "30 2 * * *", "2024-03-10", "2024-03-11", &["2024-03-10T01:30:00Z"]),
    ("Africa/Casablanca", "30 2 * * *", "2024-04-14", "2024-04-15", &["2024-04-14T02:00:00Z"]),
    // Two hours.
    ("Antarctica/Troll", "30 2 * * *", "2027-03-28", "2027-03-29", &["2027-03-28T01:00:00Z"]),
    ("Antarctica/Troll", "30 2 * * *", "2027-10-31", "2027-11-01", &["2027-10-31T00:30:00Z"]),
    ("Antarctica/Troll", "30 1-2 * * *", "2027-03-28", "2027-03-28T23:00:00Z", &["2027-03-28T01:00:00Z"]),
    // The 30th of December is missing: the 29th at UTC-10 ends where the 31st at UTC+14 begins.
    ("Pacific/Apia", "0 12 * * *", "2011-12-29T11:00:00Z", "2011-12-31T10:00:00Z",
        &["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]),
    ("Pacific/Apia", "0 12 30 * *", "2011-12-01", "2012-01-15", &["2011-12-30T10:00:00Z"]),
    ("Pacific/Apia", "0 */12 * * *", "2011-12-29T11:00:00Z", "2011-12-30T23:00:00Z",
        &["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]),
    ("Asia/Kathmandu", "0 6 * * *", "2027-03-28", "2027-03-29", &["2027-03-28T00:15:00Z"]),
    ("UTC", "30 2 * * *", "2027-03-28", "2027-03-29", &["2027-03-28T02:30:00Z"]),
    ("UTC", "0 0 29 2 *", "2027-01-01", "2034-01-01", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
];

fn instant(text: &str) -> String {
    if text.contains('T') {
        text.to_owned()
    } else {
        format!("{text}T00:00:00Z")
    }
}

#[test]
fn each_zone_has_its_slots_where_the_clocks_change() {
    for (zone, pattern, from, until, expected) in ZONES {
        let found = slots(pattern, zone, &instant(from), &instant(until));
        assert_eq!(found, *expected, "{zone} {pattern} {from}");
    }
}

#[test]
fn every_is_counted_from_1970_and_no_zone_changes_it() {
    let every = |span| Schedule::new(&Pace::Every(span), "Europe/Berlin").unwrap();
    let quarter = every(Duration::from_mins(15));
    let found = quarter.between(
        slot("2027-03-28T00:50:00Z"),
        slot("2027-03-28T01:30:00Z"),
        9,
    );
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "2027-03-28T01:00:00Z",
        "2027-03-28T01:15:00Z",
        "2027-03-28T01:30:00Z",
    ];
    assert_eq!(found, expected);
    // 100,000 s go into no day evenly.
    let odd = every(Duration::from_secs(100_000));
    let next = odd.next(slot("2027-03-28T00:00:00Z")).unwrap();
    assert_eq!(next.as_secs() % 100_000, 0);
    assert_eq!(
        odd.previous(Slot::at(next.as_secs() + 1).unwrap()),
        Some(next)
    );
    for span in [Duration::ZERO, Duration::from_millis(1500)] {
        assert!(Schedule::new(&Pace::Every(span), "UTC").is_err());
    }
}

#[test]
fn a_list_is_any_of_its_patterns_and_equal_instants_count_once() {
    let list = ["0 3 * * *", "30 2 * * *", "0 12 * * 1"].map(str::to_owned);
    let both = Schedule::new(&Pace::Cron(list.to_vec()), "Europe/Berlin").unwrap();
    let found = both.between(
        slot("2027-03-27T23:00:00Z"),
        slot("2027-03-29T11:00:00Z"),
        9,
    );
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = [
        // 02:30 isn't there, and 03:00 is.
        "2027-03-28T01:00:00Z",
        "2027-03-29T00:30:00Z",
        "2027-03-29T01:00:00Z",
        "2027-03-29T10:00:00Z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_can_not_be_a_schedule_is_refused_with_what_was_expected() {
    let refused = |pattern: &str, zone: &str| {
        let pace = Pace::Cron(vec![pattern.to_owned()]);
        let problem = Schedule::new(&pace, zone).unwrap_err();
        problem.to_string()
    };
    for (pattern, zone, says) in [
        ("30 3 * *", "UTC", "4 were given, found \"30 3 * *\""),
        ("0 0 0 1 1 * 2027", "UTC", "7 were given"),
        ("", "UTC", "0 were given"),
        ("61 3 * * *", "UTC", "expected a pattern of cron"),
        ("x 3 * * *", "UTC", "illegal character 'X'"),
        ("1,,2 3 * * *", "UTC", "no empty item"),
        ("@reboot", "UTC", "one of @yearly, "),
        (
            "0 0 30 2 *",
            "UTC",
            "that matches some day, found \"0 0 30 2 *\"",
        ),
        ("0 0 31 4,6,9,11 *", "UTC", "that matches some day"),
        ("0 3 * * *", "local", "the same on every replica"),
        ("0 3 * * *", "localtime", "the same on every replica"),
        ("0 3 * * *", "Europe/Atlantis", "that this host knows"),
        (
            "0 3 * * *",
            "right/Europe/Berlin",
            "the same on every replica",
        ),
        ("0 3 * * *", "", "that this host knows"),
    ] {
        let said = refused(pattern, zone);
        assert!(said.contains(says), "{pattern} {zone}: {said}");
    }
    let none = Schedule::new(&Pace::Cron(Vec::new()), "UTC").unwrap_err();
    assert!(none.to_string().contains("an empty list"));
}

#[test]
fn patterns_are_told_in_words() {
    for (pattern, words) in [
        ("30 3 * * *", "at 03:30 every day, Europe/Berlin"),
        ("@hourly", "every hour, Europe/Berlin"),
        ("@weekly", "at 00:00 every Sunday, Europe/Berlin"),
        ("*/15 * * * *", "every 15 minutes, Europe/Berlin"),
        ("5 * * * *", "every hour at minute 5, Europe/Berlin"),
        ("* * * * *", "every minute, Europe/Berlin"),
        (
            "0 */6 * * *",
            "every 6 hours from midnight every day, Europe/Berlin",
        ),
        (
            "0 9,17 * * 1-5",
            "at 09:00 and 17:00 from Monday to Friday, Europe/Berlin",
        ),
        (
            "0 0 1,15 * *",
            "at 00:00 on days 1 and 15 of every month, Europe/Berlin",
        ),
        (
            "10 0 12 * * mon,wed",
            "at 12:00:10 every Monday and Wednesday, Europe/Berlin",
        ),
    ] {
        let words = words.replace("midnight every day", "midnight");
        assert_eq!(cron(pattern, "Europe/Berlin").words(), words);
    }
    let rare = cron("0 0 L 1,7 *", "UTC").words();
    assert!(
        rare.starts_with("at 00:00, on the last day of the month"),
        "{rare}"
    );
}

#[test]
fn changes_of_the_clocks_are_told_where_they_touch_the_pattern() {
    let from = slot("2026-11-27T00:00:00Z");
    let told = |pattern: &str, zone: &str| {
        let changes = cron(pattern, zone).clock_changes(from);
        changes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        told("30 2 * * *", "Europe/Berlin"),
        [
            "2027-03-28 02:30 isn't there: runs at 03:00",
            "2027-10-31 02:30 is there twice: runs the first time"
        ]
    );
    assert_eq!(
        told("*/20 2 * * *", "Europe/Berlin"),
        [
            "2027-03-28 02:00, 02:20 and 02:40 aren't there: doesn't run then",
            "2027-10-31 02:00, 02:20 and 02:40 are there twice: runs both times"
        ]
    );
    assert!(told("30 3 * * *", "Europe/Berlin").is_empty());
    assert!(told("*/15 * * * *", "Europe/Berlin").is_empty());
    assert!(told("30 2 * * *", "UTC").is_empty());
    // Only on the days that match.
    assert!(told("30 2 * * 1", "Europe/Berlin").is_empty());
}

#[test]
fn what_a_gap_lacks_is_found_from_the_second_before_its_end_too() {
    let end = slot("2027-03-28T01:00:00Z");
    for pattern in ["30 2 * * *", "59 59 1,2 * * *", "0 3 * * *"] {
        let schedule = cron(pattern, "Europe/Berlin");
        for before in 1..=3 {
            let after = Slot::up_to(end.time() - Duration::from_secs(before));
            let next = schedule.next(after);
            let is_it = next == Some(end) || next == Some(slot("2027-03-28T00:59:59Z"));
            assert!(is_it, "{pattern}, {before} s before: {next:?}");
        }
        let just_before = Slot::up_to(end.time() - Duration::from_secs(1));
        assert_eq!(schedule.next(just_before), Some(end), "{pattern}");
    }
}

#[test]
fn the_smallest_gap_is_that_between_neighbours_of_any_pattern() {
    let from = slot("2026-11-27T00:00:00Z");
    let gap = |pattern| cron(pattern, "Europe/Berlin").smallest_gap(from).unwrap();
    assert_eq!(gap("*/15 * * * *"), Duration::from_mins(15));
    // The day on which the clocks are put forward.
    assert_eq!(gap("0 12 * * *"), Duration::from_hours(23));
    // 02:30 is moved to 03:00 once a year.
    assert_eq!(gap("30 2,3 * * *"), Duration::from_mins(30));
    assert_eq!(gap("* * * * * *"), Duration::from_secs(1));
}

#[test]
fn jitter_is_the_same_for_ever_and_never_beyond_its_bound() {
    let at = slot("2027-03-28T01:00:00Z");
    let minute = Duration::from_mins(1);
    // Another version must come to the same.
    assert_eq!(jitter("/jobs/backup", at, minute).as_millis(), JITTER);
    assert_eq!(jitter("/jobs/backup", at, Duration::ZERO), Duration::ZERO);
    let mut seen = BTreeSet::new();
    for number in 0..200 {
        let delay = jitter(&format!("/jobs/{number}"), at, minute);
        assert!(delay < minute);
        seen.insert(delay.as_secs() / 6);
    }
    assert_eq!(seen.len(), 10, "all of the minute is used");
}

const JITTER: u128 = 33_564;

#[test]
fn a_spec_tells_schedules_apart() {
    let list = |patterns: &[&str], zone| {
        let patterns = patterns.iter().map(|it| (*it).to_owned()).collect();
        let schedule = Schedule::new(&Pace::Cron(patterns), zone).unwrap();
        schedule.spec().to_owned()
    };
    let one = list(&["30 3 * * *"], "Europe/Berlin");
    assert_eq!(one.len(), 16);
    assert_eq!(one, list(&[" 30 3 * * * "], "europe/berlin"));
    assert_ne!(one, list(&["30 3 * * *"], "UTC"));
    assert_ne!(one, list(&["30 3 * * *", "30 4 * * *"], "Europe/Berlin"));
    assert_eq!(
        cron("30 3 * * *", "UTC").refreshed().spec(),
        cron("30 3 * * *", "UTC").spec()
    );
}

const ALL_ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "UTC",
];

/// Twenty patterns, of both kinds.
const PATTERNS: [&str; 20] = [
    "30 2 * * *",
    "0 0 * * *",
    "0,15,30,45 1,2,3 * * *",
    "59 23 * * *",
    "0 0-6 * * *",
    "30 2 * * 0",
    "0 3 1 * *",
    "15 2 28-31 3,10 *",
    "45 0,12 * 3,4,9,10,11 *",
    "0 12 13 * 5",
    "* * * * *",
    "*/15 * * * *",
    "*/7 2 * * *",
    "0 */2 * * *",
    "30 */3 * * 1-5",
    "*/20 0-3 * 3,10 *",
    "5 * 1 1,4,7,10 *",
    "0 2-23/3 * * *",
    "10-50/20 1-3 * * 0,6",
    "0 * 29 2 *",
];

/// A field of numbers, read without the crate.
fn field(text: &str, min: u32, max: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = part
            .split_once('/')
            .map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None if step > 1 => (range.parse().unwrap(), max),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        found.extend((from..=to).step_by(usize::try_from(step).unwrap()));
    }
    found
}

/// What a pattern wants of the minutes from one to another, by walking all of them.
fn reference(pattern: &str, zone: &str, from: i64, to: i64) -> Vec<u64> {
    let fields: Vec<&str> = pattern.split(' ').collect();
    let (minutes, hours) = (field(fields[0], 0, 59), field(fields[1], 0, 23));
    let (days, months) = (field(fields[2], 1, 31), field(fields[3], 1, 12));
    let weekdays = field(fields[4], 0, 6);
    let day = |year_day: jiff::civil::Date| {
        let of_month = days.contains(&u32::try_from(year_day.day()).unwrap());
        let of_week =
            weekdays.contains(&u32::try_from(year_day.weekday().to_sunday_zero_offset()).unwrap());
        let both = match (fields[2], fields[4]) {
            ("*", _) => of_week,
            (_, "*") => of_month,
            _ => of_month || of_week,
        };
        both && months.contains(&u32::try_from(year_day.month()).unwrap())
    };
    let real_time = fields[..2].iter().any(|it| it.contains(['*', '/']));
    let zone = TimeZone::get(zone).unwrap();
    let wanted = |wall: i64| {
        let minute = u32::try_from(wall.rem_euclid(86400) / 60).unwrap();
        if !minutes.contains(&(minute % 60)) || !hours.contains(&(minute / 60)) {
            return false;
        }
        let date = jiff::tz::Offset::UTC
            .to_datetime(Timestamp::from_second(wall).unwrap())
            .date();
        day(date)
    };
    let mut found = Vec::new();
    let offset = |at: i64| {
        i64::from(
            zone.to_offset(Timestamp::from_second(at).unwrap())
                .seconds(),
        )
    };
    // How far the clock on the wall has come: a single time is due when it first gets there.
    let mut come = (from - 60..from).map(|at| at + offset(at)).max().unwrap();
    for back in 1..(48 * 60) {
        come = come.max(from - back * 60 + offset(from - back * 60));
    }
    come -= come.rem_euclid(60);
    let mut at = from;
    while at < to {
        let wall = at + offset(at);
        let due = if real_time {
            wanted(wall)
        } else {
            let mut due = false;
            while come < wall {
                come += 60;
                due |= wanted(come);
            }
            due
        };
        if due {
            found.push(u64::try_from(at).unwrap());
        }
        at += 60;
    }
    found
}

fn midnight(date: &str) -> i64 {
    i64::try_from(slot(&format!("{date}T00:00:00Z")).as_secs()).unwrap()
}

/// Compares forwards and backwards; returns how many slots there were.
fn agree(pattern: &str, zone: &str, (from, to): (i64, i64)) -> usize {
    let schedule = cron(pattern, zone);
    let expected = reference(pattern, zone, from, to);
    let edge = |at: i64| Slot::at(u64::try_from(at).unwrap()).unwrap();
    let forwards = schedule.between(edge(from - 1), edge(to - 1), usize::MAX);
    let forwards: Vec<_> = forwards.iter().map(|it| it.as_secs()).collect();
    let differs = forwards.iter().zip(&expected).find(|(a, b)| a != b);
    assert_eq!(differs, None, "{pattern} {zone}");
    assert_eq!(forwards.len(), expected.len(), "{pattern} {zone}");
    let mut last = edge(to);
    for wanted in expected.iter().rev() {
        last = schedule.previous(last).unwrap();
        assert_eq!(last.as_secs(), *wanted, "back: {pattern} {zone}");
    }
    expected.len()
}

#[test]
fn slots_are_those_of_a_slow_walk_over_every_minute() {
    // In which clocks are set: each of these months in some of the zones.
    let spans = [
        ("2011-12-15", "2012-01-15"),
        ("2018-10-20", "2018-11-20"),
        ("2027-03-10", "2027-04-10"),
    ];
    let spans = spans.map(|(from, to)| (midnight(from), midnight(to)));
    for (number, pattern) in PATTERNS.iter().enumerate() {
        for (step, zone) in ALL_ZONES.iter().enumerate() {
            // Each pattern in three zones or four, each zone with six patterns.
            if (number + step) % 3 == 0 {
                agree(pattern, zone, spans[(number / 3 + step) % 3]);
            }
        }
    }
}

#[test]
#[ignore = "walks 25 years of minutes for each of 200 pairs"]
fn slots_are_those_of_a_slow_walk_over_25_years() {
    let mut slots = 0;
    let span = (midnight("2010-01-01"), midnight("2035-01-01"));
    for pattern in PATTERNS {
        for zone in ALL_ZONES {
            slots += agree(pattern, zone, span);
        }
    }
    assert!(slots > 1_000_000, "{slots}");
}

proptest! {
    #[test]
    fn slots_strictly_rise_from_any_start_and_next_and_previous_agree(
        pattern in prop::sample::select(&PATTERNS[..]),
        zone in prop::sample::select(&ALL_ZONES[..]),
        start in 1_262_304_000_u64..2_051_222_400,
    ) {
        let schedule = cron(pattern, zone);
        let start = Slot::at(start).unwrap();
        let mut last = start;
        for _ in 0..40 {
            let next = schedule.next(last).unwrap();
            prop_assert!(next > last);
            // Nothing lies between them.
            let back = schedule.previous(next);
            prop_assert!(back.is_none_or(|it| it <= last), "{back:?} {last} {next}");
            prop_assert_eq!(schedule.previous(Slot::at(next.as_secs() + 1).unwrap()), Some(next));
            last = next;
        }
    }
}

/// How long this thread has had a processor: others use the machine too.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[test]
fn ten_thousand_slots_take_a_tenth_of_a_second() {
    for (pattern, zone) in [
        ("* * * * *", "America/New_York"),
        ("30 2 * * *", "Europe/Berlin"),
    ] {
        let schedule = cron(pattern, zone);
        let began = processor_time();
        let last = Slot::at(u64::from(u32::MAX) * 4).unwrap();
        let found = schedule.between(slot("2027-01-01T00:00:00Z"), last, 10_000);
        let told: Vec<_> = found.iter().map(|it| schedule.with_offset(*it)).collect();
        let took = processor_time().saturating_sub(began);
        assert_eq!(told.len(), 10_000);
        // Unoptimised, it is given ten times as long.
        let limit = if cfg!(debug_assertions) { 1000 } else { 100 };
        assert!(took.as_millis() < limit, "{pattern}: {took:?}");
    }
}
