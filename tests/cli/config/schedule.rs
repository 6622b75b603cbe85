//! `[job.schedule]`: what is wrong with it, what is only warned of, and what comes of it.

use incumbent::schedule::planner::{Guarantee, Missed, Overlap};
use incumbent::wall::Time;

use super::*;

#[test]
fn a_schedule_is_taken_from_the_file() {
    let text = "[job]\ntimeout = \"1h\"\n[job.schedule]\ncron = [\"30 3 * * *\", \"@hourly\"]\n\
                timezone = \"Europe/Berlin\"\nguarantee = \"at-least-once\"\nmissed = \"all\"\nmissed_max = 7\n\
                start_within = \"2h\"\noverlap = \"queue\"\nretries = 3\nretry_delay = \"5s\"\njitter = \"30s\"\n\
                drain = \"1m\"\nhistory = 1000\n";
    let config = Fixture::new(text).config();
    assert_eq!(config.run_timeout, Some(Duration::from_hours(1)));
    let scheduling = config.scheduling.unwrap();
    assert_eq!(
        scheduling.schedule.words(),
        "at 03:30 every day; or every hour, Europe/Berlin"
    );
    let policy = scheduling.policy;
    assert_eq!(policy.guarantee, Guarantee::AtLeastOnce);
    assert_eq!(policy.missed, Missed::All);
    assert_eq!(policy.missed_max, 7);
    assert_eq!(policy.start_within, Some(Duration::from_hours(2)));
    assert_eq!(policy.overlap, Overlap::Queue);
    assert_eq!((policy.retries, policy.retry_delay.as_secs()), (3, 5));
    assert_eq!(policy.jitter, Duration::from_secs(30));
    assert_eq!(policy.drain, Duration::from_mins(1));
    assert_eq!(policy.timeout, Some(Duration::from_hours(1)));
    assert_eq!(policy.history, 1000);
}

#[test]
fn a_schedule_keeps_to_utc_and_once_where_nothing_else_is_said() {
    let config = Fixture::new("[job.schedule]\nevery = \"15m\"\n").config();
    assert_eq!(config.run_timeout, None);
    let scheduling = config.scheduling.unwrap();
    let policy = scheduling.policy;
    assert_eq!(policy.guarantee, Guarantee::AtMostOnce);
    assert_eq!(
        (policy.missed, policy.overlap),
        (Missed::Last, Overlap::Skip)
    );
    assert_eq!((policy.missed_max, policy.history), (10, 100));
    assert_eq!((policy.start_within, policy.timeout), (None, None));
    assert_eq!((policy.retries, policy.retry_delay.as_secs()), (0, 30));
    assert_eq!(
        (policy.jitter, policy.drain),
        (Duration::ZERO, Duration::ZERO)
    );
    let from: Time = "2027-01-01T00:07:00Z".parse().unwrap();
    let next = scheduling
        .schedule
        .next(incumbent::schedule::Slot::up_to(from));
    assert_eq!(next.unwrap().to_string(), "2027-01-01T00:15:00Z");
}

#[test]
fn variables_make_a_schedule() {
    for (value, words) in [
        ("0,30 3 * * *", "at 03:00 and 03:30 every day, UTC"),
        (
            r#"["@daily", "15 9 * * 1-5"]"#,
            "at 00:00 every day; or at 09:15 from Monday to Friday, UTC",
        ),
    ] {
        let config = load(&with_env("INCUMBENT__JOB__SCHEDULE__CRON", value))
            .unwrap()
            .config;
        assert_eq!(config.scheduling.unwrap().schedule.words(), words);
    }
    assert_eq!(
        printed(&with_env("INCUMBENT__JOB__SCHEDULE__CRON", "61 * * * *"))
            .lines()
            .count(),
        2
    );
    let odd = with_env("INCUMBENT__JOB__SCHEDULE", "x");
    assert_eq!(
        printed(&odd).lines().next().unwrap(),
        "incumbent: INCUMBENT__JOB__SCHEDULE: job.schedule: expected a key after the section, such as \
         INCUMBENT__JOB__SCHEDULE__CRON"
    );
}

#[test]
fn what_is_no_schedule_is_told_with_its_place() {
    for (key, value, fault) in [
        (
            "cron",
            "5",
            "expected a pattern of cron such as \"30 3 * * *\", or a list of them, found 5",
        ),
        (
            "cron",
            "[]",
            "expected a pattern of cron such as \"30 3 * * *\", or a list of them, found an empty one",
        ),
        (
            "cron",
            "\"0 0 30 2 *\"",
            "expected a pattern that matches some day, found \"0 0 30 2 *\"",
        ),
        (
            "cron",
            "\"30 3 *\"",
            "expected 5 fields (minute, hour, day of the month, month, day of the week), or 6 with the \
             seconds first; 3 were given, found \"30 3 *\"",
        ),
        (
            "cron",
            "\"@noon\"",
            "expected one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, found \
             \"@noon\"",
        ),
        (
            "every",
            "\"1500ms\"",
            "expected a duration of whole seconds, from 1s to 100 years, such as \"15m\", found \"1500ms\"",
        ),
        (
            "every",
            "15",
            "expected a duration of whole seconds, from 1s to 100 years, such as \"15m\", found 15, which \
             has no unit",
        ),
    ] {
        let column = key.len() + 4;
        assert_fault(
            &format!("[job.schedule]\n{key} = {value}\n"),
            &format!("a.toml:2:{column}: job.schedule.{key}: {fault}"),
        );
    }
    assert_fault(
        "[job.schedule]\ncron = [\"@daily\",\n  \"@noon\"]\n",
        "a.toml:3:3: job.schedule.cron[1]: expected one of @yearly, @annually, @monthly, @weekly, @daily, \
         @midnight, @hourly, found \"@noon\"",
    );
}

#[test]
fn bounds_of_a_schedule_are_told() {
    for (key, value, fault) in [
        (
            "timezone",
            "\"Europe/Bärlin\"",
            "expected an IANA time zone that this host knows (in /usr/share/zoneinfo, of the package \
             tzdata), such as \"Europe/Berlin\", found \"Europe/Bärlin\"",
        ),
        (
            "timezone",
            "\"local\"",
            "expected an IANA time zone, the same on every replica, such as \"Europe/Berlin\" or \"UTC\", \
             found \"local\"",
        ),
        (
            "timezone",
            "1",
            "expected an IANA time zone such as \"UTC\", found 1",
        ),
        (
            "guarantee",
            "\"exactly-once\"",
            "expected \"at-most-once\" or \"at-least-once\", found \"exactly-once\"",
        ),
        (
            "missed",
            "\"first\"",
            "expected \"skip\", \"last\" or \"all\", found \"first\"",
        ),
        (
            "missed_max",
            "0",
            "expected a whole number from 1 to 1000, such as 10, found 0",
        ),
        (
            "start_within",
            "\"10ms\"",
            "expected a duration of at least 1s, such as \"1h\", or \"off\", found \"10ms\"",
        ),
        (
            "start_within",
            "5",
            "expected a duration of at least 1s, such as \"1h\", or \"off\", found 5, which has no unit",
        ),
        (
            "overlap",
            "\"allow\"",
            "expected \"skip\", \"queue\" or \"replace\", found \"allow\"",
        ),
        (
            "retries",
            "-1",
            "expected a whole number from 0 to 1000, such as 0, found -1",
        ),
        (
            "retry_delay",
            "\"0s\"",
            "expected a duration of at least 1ms, such as \"30s\", found \"0s\"",
        ),
        (
            "jitter",
            "\"off\"",
            "expected a duration such as \"0s\", found \"off\"",
        ),
        (
            "history",
            "1001",
            "expected a whole number from 1 to 1000, such as 100, found 1001",
        ),
    ] {
        let column = key.len() + 4;
        assert_fault(
            &format!("[job.schedule]\ncron = \"@daily\"\n{key} = {value}\n"),
            &format!("a.toml:3:{column}: job.schedule.{key}: {fault}"),
        );
    }
    assert_fault(
        "[job]\ntimeout = \"0s\"\n",
        "a.toml:2:11: job.timeout: expected a duration of at least 10ms, such as \"1h\", or \"off\", \
         found \"0s\"",
    );
}

#[test]
fn a_schedule_has_a_pattern_or_a_pace_and_never_both() {
    assert_fault(
        "[job.schedule]\ncron = \"@daily\"\nevery = \"15m\"\n",
        "a.toml:3:9: job.schedule.every: expected job.schedule.cron or job.schedule.every, found both",
    );
    assert_fault(
        "[job.schedule]\ntimezone = \"UTC\"\n",
        "a.toml:2:12: job.schedule.timezone: expected job.schedule.cron or job.schedule.every beside it, \
         found neither",
    );
    let both = Fixture::new("[job.schedule]\ncron = \"@daily\"\n")
        .env("INCUMBENT__JOB__SCHEDULE__EVERY", "soon");
    assert_eq!(
        both.faults(),
        [
            "INCUMBENT__JOB__SCHEDULE__EVERY: job.schedule.every: expected a duration of whole seconds, \
             from 1s to 100 years, such as \"15m\", found \"soon\"",
            "INCUMBENT__JOB__SCHEDULE__EVERY: job.schedule.every: expected job.schedule.cron or \
             job.schedule.every, found both",
        ]
    );
}

#[test]
fn what_has_no_effect_on_a_schedule_is_warned_of() {
    let warnings = |text: &str| {
        let fixture = Fixture::new(text);
        let folder = format!("{}/", fixture.dir.path().display());
        let warnings = fixture.load().unwrap().warnings.into_iter();
        let warnings = warnings.map(|warning| warning.replace(&folder, ""));
        warnings.collect::<Vec<_>>()
    };
    assert_eq!(
        warnings(
            "[job]\nrestart = \"never\"\nrestart_delay = \"2s\"\nrestart_delay_max = \"60s\"\n\
             [job.schedule]\nevery = \"1h\"\ntimezone = \"Europe/Berlin\"\nmissed_max = 5\n\
             retry_delay = \"1s\"\n"
        ),
        [
            "a.toml:2:11: job.restart: has no effect beside a schedule, which says when the job runs",
            "a.toml:3:17: job.restart_delay: has no effect beside a schedule, which says when the job runs",
            "a.toml:7:12: job.schedule.timezone: has no effect without job.schedule.cron: every counts \
             from 1970-01-01 00:00 UTC",
            "a.toml:8:14: job.schedule.missed_max: has no effect without missed = \"all\"",
            "a.toml:9:15: job.schedule.retry_delay: has no effect without job.schedule.retries",
        ]
    );
    assert_eq!(
        warnings(
            "[job.schedule]\ncron = \"@daily\"\nmissed = \"all\"\nmissed_max = 5\nretries = 1\n\
             retry_delay = \"1s\"\ntimezone = \"Europe/Berlin\"\n"
        ),
        [""; 0]
    );
}

#[test]
fn who_runs_no_job_reads_the_schedule_and_minds_no_fault_in_it() {
    let of = |text: &str| {
        let mut fixture = Fixture::new(text);
        fixture.source.ignores_job = true;
        fixture.config().scheduling
    };
    let good = of("[job]\nkind = \"nightly\"\n[job.schedule]\ncron = \"@daily\"\n").unwrap();
    assert_eq!(good.schedule.words(), "at 00:00 every day, UTC");
    assert_eq!(of("[job.schedule]\ncron = \"@noon\"\n"), None);
    assert_eq!(of("[job.schedule]\ncron = \"@daily\"\nhistory = 0\n"), None);
}

#[test]
fn only_a_schedule_changes_what_replicas_compare() {
    let digest = |text: &str| Fixture::new(text).config().digest();
    assert_eq!(digest(""), digest("[job]\ntimeout = \"off\"\n"));
    let daily = "[job.schedule]\ncron = \"@daily\"\n";
    let all = [
        "",
        "[job]\ntimeout = \"1s\"\n",
        daily,
        &format!("{daily}history = 5\n"),
        &format!("{daily}timezone = \"Europe/Berlin\"\n"),
    ];
    let digests: std::collections::BTreeSet<_> = all.iter().map(|text| digest(text)).collect();
    assert_eq!(digests.len(), all.len());
}

/// What `check` says of the schedule on this day: from its words on, without other warnings.
fn told(text: &str, now: &str) -> String {
    let fixture = Fixture::new(text);
    let report = fixture.report(now.parse().unwrap());
    report.split_once("\nruns ").unwrap().1.to_owned()
}

#[test]
fn a_preview_tells_what_the_clocks_do_to_a_nightly_job() {
    assert_eq!(
        told(
            "[job.schedule]\ncron = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\n",
            "2027-03-26T12:00:00Z",
        ),
        "at 02:30 every day, Europe/Berlin; the next:\n\
         \x20 2027-03-27 02:30  (2027-03-27T01:30:00Z)\n\
         \x20 2027-03-28 03:00  (2027-03-28T01:00:00Z)\n\
         \x20 2027-03-29 02:30  (2027-03-29T00:30:00Z)\n\
         \x20 2027-03-30 02:30  (2027-03-30T00:30:00Z)\n\
         \x20 2027-03-31 02:30  (2027-03-31T00:30:00Z)\n\
         changes of the clocks that it meets within a year:\n\
         \x20 2027-03-28 02:30 isn't there: runs at 03:00\n\
         \x20 2027-10-31 02:30 is there twice: runs the first time\n\
         \x20 2028-03-26 02:30 isn't there: runs at 03:00\n"
    );
}

#[test]
fn a_preview_of_a_steady_pace_meets_no_change_of_the_clocks() {
    for text in [
        "[job.schedule]\nevery = \"15m\"\n",
        "[job.schedule]\ncron = \"*/15 * * * *\"\n",
    ] {
        let told = told(text, "2027-03-26T12:00:00Z");
        let (words, rest) = told.split_once('\n').unwrap();
        assert!(words.starts_with("every 15"), "{words}");
        assert_eq!(
            rest,
            "  2027-03-26T12:15:00Z\n  2027-03-26T12:30:00Z\n  2027-03-26T12:45:00Z\n  \
             2027-03-26T13:00:00Z\n  2027-03-26T13:15:00Z\n"
        );
    }
}

#[test]
fn what_is_longer_than_the_shortest_time_between_two_runs_is_warned_of() {
    let text = "[election]\ntakeover_delay = \"6m\"\n[job]\ntimeout = \"1h\"\n\
                [job.schedule]\ncron = \"0,5 3 * * *\"\njitter = \"10m\"\n";
    let told = told(text, "2027-03-26T12:00:00Z");
    let warnings: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("warning"))
        .collect();
    let gap = "longer than the shortest time between two runs, 5m";
    assert_eq!(
        warnings,
        [
            format!(
                "warning: job.schedule.jitter: 10m is {gap}: a run may begin after the next is due"
            ),
            format!(
                "warning: job.timeout: 1h is {gap}: while a run takes so long, the next is skipped"
            ),
            format!(
                "warning: election.takeover_delay: 6m is {gap}: after a leader is lost, runs are missed \
                 before the next leads"
            ),
        ]
    );
}
