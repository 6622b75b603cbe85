//! `incumbent next`: the instants of a schedule, told without a store.

use serde_json::{Value, json};

use crate::common::*;

const CRON: &str = "INCUMBENT__JOB__SCHEDULE__CRON";
const ZONE: &str = "INCUMBENT__JOB__SCHEDULE__TIMEZONE";

fn next(cron: &str, zone: &str, more: &[&str]) -> Answer {
    let arguments = [&["next", "--endpoints", "http://127.0.0.1:1"], more].concat();
    let sandbox = Sandbox::new();
    let command = sandbox.incumbent(&arguments);
    command.env(CRON, cron).env(ZONE, zone).run()
}

#[test]
fn the_next_slots_are_told_by_both_clocks() {
    let answer = next(
        "30 2 * * *",
        "Europe/Berlin",
        &["--from", "2027-03-27", "-n", "3"],
    );
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    assert_eq!(
        answer.text(),
        "runs at 02:30 every day, Europe/Berlin\n\
         \n\
         SLOT                  LOCAL TIME\n\
         2027-03-27T01:30:00Z  2027-03-27 02:30:00+01:00\n\
         2027-03-28T01:00:00Z  2027-03-28 03:00:00+02:00\n\
         2027-03-29T00:30:00Z  2027-03-29 02:30:00+02:00\n"
    );
    let five = next("@hourly", "UTC", &[]).text();
    assert_eq!(five.lines().count(), 3 + 5, "{five}");
}

#[test]
fn scripts_get_the_slots_up_to_a_time() {
    let until = [
        "--from",
        "2027-10-30T22:00:00Z",
        "--until",
        "2027-10-31 03:00",
        "-o",
        "json",
    ];
    let told: Value =
        serde_json::from_str(&next("0 2,3 * * *", "Europe/Berlin", &until).text()).unwrap();
    let slot = |slot: &str, local: &str| json!({ "slot": slot, "local": local, "begins": slot });
    assert_eq!(
        told,
        json!({
            "election": "/incumbent/default",
            "schedule": "at 02:00 and 03:00 every day, Europe/Berlin",
            "timezone": "Europe/Berlin",
            "slots": [
                slot("2027-10-31T00:00:00Z", "2027-10-31T02:00:00+02:00"),
                slot("2027-10-31T02:00:00Z", "2027-10-31T03:00:00+01:00"),
            ],
        })
    );
}

#[test]
fn a_jitter_shows_when_each_run_begins() {
    let sandbox = Sandbox::new();
    let jittered = || {
        let command = sandbox.incumbent(&["next", "--from", "2027-01-01", "-o", "json"]);
        let command = command
            .env(CRON, "@daily")
            .env("INCUMBENT__JOB__SCHEDULE__JITTER", "1h");
        serde_json::from_str::<Value>(&command.text()).unwrap()
    };
    let told = jittered();
    for slot in told["slots"].as_array().unwrap() {
        let (slot, begins) = (
            slot["slot"].as_str().unwrap(),
            slot["begins"].as_str().unwrap(),
        );
        assert!(
            slot < begins && begins < &*slot.replace("T00", "T01"),
            "{slot} {begins}"
        );
    }
    assert_eq!(jittered(), told);
}

#[test]
fn a_job_without_a_schedule_or_with_a_bad_one_is_a_fault_of_the_configuration() {
    let sandbox = Sandbox::new();
    let none = sandbox.incumbent(&["next"]).run();
    assert_eq!(none.code, Some(78));
    let why = "expected job.schedule.cron or job.schedule.every, found neither: the job runs all the time";
    assert!(none.errors.contains(why), "{}", none.errors);
    let bad = next("61 * * * *", "UTC", &[]);
    assert_eq!(bad.code, Some(78));
    assert!(
        bad.errors
            .contains("job.schedule.cron: expected a pattern of cron"),
        "{}",
        bad.errors
    );
    // The job itself is none of its business.
    let odd = sandbox
        .incumbent(&["next"])
        .env(CRON, "@daily")
        .env("INCUMBENT__JOB__KIND", "nightly");
    assert_eq!(odd.run().code, Some(0));
}

#[test]
fn a_time_that_is_none_is_wrong_usage() {
    for flag in ["--from", "--until"] {
        let answer = next("@daily", "UTC", &[flag, "tomorrow"]);
        assert_eq!(answer.code, Some(2));
        let why = format!("incumbent: {flag}: expected a time such as 2027-03-28T01:00:00Z");
        assert!(answer.errors.starts_with(&why), "{}", answer.errors);
    }
}

#[test]
fn ten_thousand_slots_are_told() {
    let many = ["-n", "10000", "-o", "json", "--from", "2027-01-01"];
    let answer = next("* * * * *", "America/New_York", &many);
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(told["slots"].as_array().unwrap().len(), 10_000);
}
