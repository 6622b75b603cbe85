//! `incumbent runs`, `terms` and what `status` says of a schedule: read and mended as people do it.

use serde_json::{Value, json};

use crate::common::*;

const STATE: &str = "/election.meta/schedule";

const LOST: &str = "2027-03-28T01:00:00Z";

fn run_key(seq: u64) -> String {
    format!("/election.meta/runs/{seq:016}")
}

fn record(slot: &str, result: &str, more: &Value) -> Value {
    let mut record = json!({
        "slot": slot, "attempt": 1, "result": result, "began": slot, "took_ms": 1234,
        "host": "alpha", "token": 7, "missed": 0,
    });
    let fields = record.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    record
}

/// A store in which the last of three runs was lost.
fn lost() -> Cluster {
    let cluster = Cluster::start(1);
    let runs = [
        record("2027-03-26T02:00:00Z", "success", &json!({ "code": 0 })),
        record("2027-03-27T02:00:00Z", "failure", &json!({ "code": 3 })),
        record(LOST, "lost", &json!({})),
    ];
    for (seq, run) in (1..).zip(runs) {
        cluster.put(&run_key(seq), &run.to_string());
    }
    let last = json!({
        "slot": LOST, "attempt": 1, "result": "lost", "began": LOST, "took_ms": 1234,
        "host": "alpha", "token": 7,
    });
    let state = json!({
        "spec": "0123456789abcdef", "since": "2027-03-01T00:00:00Z", "slot": LOST, "seq": 3,
        "open": null, "last": last, "last_success": "2027-03-26T02:00:00Z", "failures": 2, "missed": 0,
    });
    cluster.put(STATE, &state.to_string());
    cluster
}

fn told(cluster: &Cluster, arguments: &[&str]) -> Value {
    let text = cluster.incumbent(arguments).text();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn state(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.get(STATE).unwrap()).unwrap()
}

#[test]
fn the_last_runs_are_told_the_latest_first() {
    let cluster = lost();
    let all = told(&cluster, &["runs", "-o", "json"]);
    assert_eq!(all["election"], PREFIX);
    assert_eq!(all["open"], Value::Null);
    let seqs: Vec<_> = all["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["seq"].as_u64())
        .collect();
    assert_eq!(seqs, [Some(3), Some(2), Some(1)]);
    assert_eq!(all["runs"][1]["code"], 3);
    let one = told(&cluster, &["runs", "-n", "1", "-o", "json"]);
    assert_eq!(one["runs"], json!([all["runs"][0]]));
    let failed = told(&cluster, &["runs", "--failed", "-o", "json"]);
    assert_eq!(failed["runs"], json!([all["runs"][0], all["runs"][1]]));
    let table = cluster.incumbent(&["runs"]).text();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("SLOT "), "{table}");
    assert!(
        lines[1].starts_with(LOST) && lines[1].contains(" lost "),
        "{table}"
    );
    assert!(lines[2].contains(" failure, code 3 "), "{table}");
    assert_eq!(lines.len(), 4);
    let none = cluster.incumbent(&["runs", "--election", "/other"]).text();
    assert_eq!(none, "no runs\n");
}

#[test]
fn each_new_run_is_shown_to_who_watches() {
    let cluster = lost();
    let followed = cluster
        .incumbent(&["runs", "--watch", "-n", "1", "-o", "json"])
        .follow();
    let first = followed.wait_json(1);
    assert_eq!(first[0]["runs"][0]["seq"], 3);
    let run = record("manual", "success", &json!({ "began": LOST }));
    cluster.put(&run_key(4), &run.to_string());
    let both = followed.wait_json(2);
    assert_eq!(both[1]["runs"][0]["slot"], "manual");
}

#[test]
fn a_lost_run_is_settled_by_who_knows() {
    for (result, recorded, success) in [
        ("success", "success", LOST),
        ("failure", "failure", "2027-03-26T02:00:00Z"),
        ("rerun", "lost", "2027-03-26T02:00:00Z"),
    ] {
        let cluster = lost();
        let answer = cluster
            .incumbent(&["runs", "resolve", LOST, "--as", result])
            .run();
        assert_eq!(answer.code, Some(0), "{}", answer.errors);
        assert!(answer.text().starts_with(LOST), "{}", answer.text());
        let state = state(&cluster);
        assert_eq!(state["last"]["result"], result);
        assert_eq!(state["last_success"], success);
        let run: Value = serde_json::from_str(&cluster.get(&run_key(3)).unwrap()).unwrap();
        assert_eq!(run["result"], recorded);
        // It is settled now.
        let again = cluster
            .incumbent(&["runs", "resolve", LOST, "--as", result])
            .run();
        assert_eq!(again.code, Some(3));
        assert!(
            again.errors.contains("expected a lost run"),
            "{}",
            again.errors
        );
    }
}

#[test]
fn what_is_not_the_last_or_not_over_is_not_settled() {
    let cluster = lost();
    let before = state(&cluster);
    let resolve = |slot: &str| {
        cluster
            .incumbent(&["runs", "resolve", slot, "--as", "success"])
            .run()
    };
    let other = resolve("2027-03-27T02:00:00Z");
    assert_eq!(other.code, Some(3));
    assert!(
        other
            .errors
            .contains(&format!("expected the last slot that was run, {LOST}")),
        "{}",
        other.errors
    );
    assert_eq!(resolve("yesterday").code, Some(2));
    let mut open = before.clone();
    open["open"] = json!({
        "slot": "2027-03-29T01:00:00Z", "attempt": 1, "token": 9, "nonce": "0", "host": "beta",
        "at": "2027-03-29T01:00:00Z", "missed": 0,
    });
    cluster.put(STATE, &open.to_string());
    for answer in [
        resolve(LOST),
        cluster.incumbent(&["runs", "rewind", "--to", LOST]).run(),
    ] {
        assert_eq!(answer.code, Some(3));
        assert!(
            answer.errors.contains("a run is open, claimed by beta"),
            "{}",
            answer.errors
        );
    }
    assert_eq!(state(&cluster), open);
    let empty = cluster
        .incumbent(&["runs", "rewind", "--to", LOST, "--election", "/other"])
        .run();
    assert_eq!(empty.code, Some(3));
    assert!(
        empty.errors.contains("no scheduled job has led"),
        "{}",
        empty.errors
    );
}

#[test]
fn a_mark_from_the_future_is_set_back_and_that_is_kept() {
    let cluster = lost();
    let answer = cluster
        .incumbent(&["runs", "rewind", "--to", "2027-03-27T12:00:00Z"])
        .run();
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    assert_eq!(answer.text(), "slots after 2027-03-27T12:00:00Z are due\n");
    let state = state(&cluster);
    assert_eq!(state["slot"], "2027-03-27T12:00:00Z");
    assert_eq!(state["since"], "2027-03-27T12:00:00Z");
    assert_eq!(state["seq"], 4);
    let runs = told(&cluster, &["runs", "-o", "json"]);
    let rewound = &runs["runs"][0];
    assert_eq!(
        (&rewound["result"], &rewound["slot"]),
        (&json!("rewound"), &json!(LOST))
    );
    assert!(rewound["host"].as_str().unwrap().contains('@'), "{rewound}");
    // In the schedule's zone, where the configuration has one; and no longer a history than it says.
    let local = cluster.incumbent(&["runs", "rewind", "--to", "2027-03-26"]);
    let local = local
        .env("INCUMBENT__JOB__SCHEDULE__CRON", "@daily")
        .env("INCUMBENT__JOB__SCHEDULE__TIMEZONE", "Asia/Kathmandu")
        .env("INCUMBENT__JOB__SCHEDULE__HISTORY", "2");
    assert_eq!(local.text(), "slots after 2027-03-25T18:15:00Z are due\n");
    assert_eq!(cluster.get(&run_key(3)), None);
    assert!(cluster.get(&run_key(4)).is_some() && cluster.get(&run_key(5)).is_some());
}

#[test]
fn status_tells_of_a_schedule_where_there_is_one() {
    let cluster = lost();
    let status = told(&cluster, &["status", "-o", "json"]);
    let schedule = &status["schedule"];
    assert_eq!(schedule["last"]["result"], "lost");
    assert_eq!(schedule["next"], Value::Null);
    assert_eq!(schedule["failures"], 2);
    let status = cluster
        .incumbent(&["status"])
        .env("INCUMBENT__JOB__SCHEDULE__CRON", "30 3 1 1 *")
        .text();
    for line in [
        "DIFFERS   the schedule on record isn't that of this configuration",
        "last run  2027-03-28T01:00:00Z: lost after 1.2s, by alpha",
        "success   2027-03-26T02:00:00Z",
        "FAILS     2 slots in a row failed",
    ] {
        assert!(status.lines().any(|it| it == line), "{line}: {status}");
    }
    let next = status.lines().find(|line| line.starts_with("next run  "));
    assert!(next.unwrap().ends_with("-01-01T03:30:00Z"), "{status}");
    let other = told(&cluster, &["status", "-o", "json", "--election", "/other"]);
    assert!(other.get("schedule").is_none(), "{other}");
}

#[test]
fn terms_are_told_with_their_ends() {
    let scene = Scene::start(1);
    assert_eq!(scene.cluster.incumbent(&["terms"]).text(), "no terms\n");
    let (a, first) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.incumbent(&["step-down", "--wait"]).text();
    let second = scene.wait_leads(&b, 1, SOON);
    // The next one leads before the last one writes down how its term ended.
    let terms = eventually(SOON, "the end is written down", || {
        let terms = told(&scene.cluster, &["terms", "-o", "json"]);
        if terms["terms"][1]["ended"].is_string() {
            Ok(terms)
        } else {
            Err(terms)
        }
    });
    let [present, past] = &terms["terms"].as_array().unwrap()[..] else {
        panic!("{terms}");
    };
    assert_eq!(present["token"], second);
    assert_eq!(present["candidate"], b.name());
    assert_eq!(
        (&present["ended"], &present["reason"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(past["token"], first);
    assert_eq!(past["candidate"], a.name());
    assert_eq!(past["reason"], "resigned");
    assert!(
        past["ended"].as_str().unwrap() >= past["since"].as_str().unwrap(),
        "{terms}"
    );
    let one = scene.cluster.incumbent(&["terms", "-n", "1"]).text();
    let last = one.lines().last().unwrap();
    assert!(
        last.starts_with(&second.to_string()) && last.ends_with("leads"),
        "{one}"
    );
}
