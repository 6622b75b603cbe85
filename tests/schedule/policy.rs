//! What becomes of slots while nobody dies.

use std::thread;

use crate::common::daemon::Builder;
use crate::common::*;
use crate::stage::{Stage, TRIGGER};
use incumbent::schedule::Slot;

#[test]
fn a_job_runs_at_each_of_its_slots_and_its_leader_leads_between() {
    let stand = Stage::new();
    let a = stand.daemon("a", "true", "every = '1s'").spawn();
    let token = a.wait_elected(SOON);
    let runs = stand.wait_runs(4);
    stand.assert_in_order();
    assert!(
        runs.iter()
            .all(|run| run.token == token && run.attempt == 1 && run.missed == 0)
    );
    assert_eq!(runs[0].last_success, None);
    assert_eq!(runs[3].last_success.as_ref(), Some(&runs[2].slot));
    let state = stand.wait_state("the first runs are closed", |state| {
        state["seq"].as_u64() >= Some(3)
    });
    assert_eq!(state["failures"], 0);
    let record = &stand.records()[0];
    assert_eq!(record["result"], "success");
    assert_eq!(record["slot"], runs[0].slot);
    assert_eq!(record["code"], 0);
    assert_eq!(record["host"], "a");
    assert!(stand.scene.still_leads(&a, token).is_ok());
    assert!(!a.lines("next slot").is_empty());
    assert_eq!(a.lines("slot claimed").len(), a.lines("job started").len());
}

#[test]
fn a_first_deployment_starts_from_now() {
    let stand = Stage::new();
    let a = stand
        .daemon("a", "true", "every = '1h', missed = 'all'")
        .spawn();
    a.wait_log("next slot", SOON);
    assert_eq!(stand.runs(), []);
    assert_eq!(stand.state().unwrap()["slot"], serde_json::Value::Null);
}

#[test]
fn a_planned_hand_over_between_runs_costs_no_slot() {
    let stand = Stage::new();
    let a = stand.daemon("a", "true", "every = '1s'").spawn();
    a.wait_elected(SOON);
    let b = stand.daemon("b", "true", "every = '1s'").spawn();
    b.wait_log("campaigning", SOON);
    stand.wait_runs(2);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let second = b.wait_elected(SOON);
    eventually(SOON, "the second leader runs", || {
        stand.runs().iter().any(|run| run.token == second)
    });
    let runs = stand.runs();
    stand.assert_in_order();
    let slots = runs
        .iter()
        .filter(|run| run.attempt == 1)
        .map(|run| 1 + run.missed)
        .sum::<u64>();
    let seconds = |slot: &str| humantime::parse_rfc3339(slot).unwrap();
    let first = seconds(&runs[0].slot);
    let span = seconds(&runs.last().unwrap().slot)
        .duration_since(first)
        .unwrap();
    assert_eq!(slots, span.as_secs() + 1, "{runs:?}");
}

/// The state as if nothing had run for some slots of a schedule that has one every second.
fn behind(stand: &Stage, builder: impl Fn() -> Builder, seconds: u64) {
    let a = builder().spawn();
    a.wait_log("next slot", SOON);
    a.sigterm();
    a.wait_exit(STOPPED);
    let mut state = stand.state().unwrap();
    let past = Slot::up_to(incumbent::wall::now() - secs(seconds)).to_string();
    state["since"] = past.clone().into();
    state["slot"] = past.into();
    state["last"] = serde_json::Value::Null;
    let cluster = &stand.scene.cluster;
    cluster.put("/election.meta/schedule", &state.to_string());
}

#[test]
fn after_an_outage_the_last_slot_stands_for_all() {
    let stand = Stage::new();
    let daemon = || stand.daemon("a", "true", "every = '1m'");
    behind(&stand, daemon, 3600);
    let _a = daemon().spawn();
    let runs = stand.wait_runs(1);
    assert!((59..=60).contains(&runs[0].missed), "{runs:?}");
    assert!((59..=60).contains(&stand.wait_result("success")["missed"].as_u64().unwrap()));
}

#[test]
fn after_an_outage_all_slots_are_run_oldest_first() {
    let stand = Stage::new();
    let daemon = || stand.daemon("a", "true", "every = '1m', missed = 'all', missed_max = 5");
    behind(&stand, daemon, 3600);
    let a = daemon().spawn();
    let runs = stand.wait_runs(5);
    stand.assert_in_order();
    assert!(runs.iter().all(|run| run.missed == 0), "{runs:?}");
    let missed = a.wait_log("slot missed", SOON);
    assert!((54..=55).contains(&missed.int("count")), "{}", missed.text);
    assert_eq!(stand.wait_result("missed")["attempt"], 0);
}

#[test]
fn after_an_outage_nothing_is_run_if_so_wanted() {
    let stand = Stage::new();
    let daemon = || stand.daemon("a", "true", "every = '1h', missed = 'skip'");
    behind(&stand, daemon, 36_000);
    let a = daemon().spawn();
    let missed = a.wait_log("slot missed", SOON);
    // Unless the hour has just begun.
    assert!((9..=10).contains(&missed.int("count")), "{}", missed.text);
    a.wait_log("next slot", SOON);
    assert!(stand.runs().len() <= 1);
}

#[test]
fn a_slot_that_comes_while_a_run_goes_is_skipped() {
    let stand = Stage::new();
    let a = stand.daemon("a", "sleep 2.5", "every = '1s'").spawn();
    stand.wait_runs(2);
    stand.assert_in_order();
    assert_eq!(a.wait_log("slot skipped", SOON).text("reason"), "overlap");
    assert!(stand.wait_result("skipped")["attempt"] == 0);
}

#[test]
fn a_slot_that_comes_while_a_run_goes_waits_for_its_end() {
    let stand = Stage::new();
    let daemon = stand.daemon("a", "sleep 1.4", "every = '1s', overlap = 'queue'");
    let _a = daemon.spawn();
    let runs = stand.wait_runs(3);
    stand.assert_in_order();
    assert!(runs[..2].iter().all(|run| run.ended), "{runs:?}");
}

#[test]
fn a_slot_that_comes_while_a_run_goes_replaces_it() {
    let stand = Stage::new();
    let daemon = stand.daemon("a", "sleep 1000", "every = '1s', overlap = 'replace'");
    let a = daemon.spawn();
    let runs = stand.wait_runs(3);
    stand.assert_in_order();
    assert!(runs.iter().all(|run| !run.ended), "{runs:?}");
    assert_eq!(stand.wait_result("stopped")["slot"], runs[0].slot);
    assert_eq!(a.lines("elected").len(), 1, "the term goes on");
}

#[test]
fn a_failed_slot_is_tried_again() {
    let stand = Stage::new();
    let schedule = "every = '1h', retries = 2, retry_delay = '100ms', missed = 'last'";
    let daemon = || stand.daemon("a", "false", schedule);
    behind(&stand, daemon, 3600);
    let a = daemon().spawn();
    let runs = stand.wait_runs(3);
    let attempts: Vec<_> = runs.iter().map(|run| run.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(runs.iter().all(|run| run.slot == runs[0].slot));
    let state = stand.wait_state("the last is closed", |state| state["last"]["attempt"] == 3);
    assert_eq!(state["failures"], 1, "a slot fails once");
    assert_eq!(state["last"]["result"], "failure");
    throughout(millis(500), "that was the last attempt", || {
        stand.runs().len() == 3
    });
    assert_eq!(a.lines("elected").len(), 1);
}

#[test]
fn so_many_failed_slots_in_a_row_give_the_term_to_others() {
    let stand = Stage::new();
    let daemon = |name| {
        let daemon = stand.daemon(name, "false", "every = '1s'");
        daemon.toml("job = { yield_after = 2, yield_cooldown = '1h' }")
    };
    let a = daemon("a").spawn();
    let token = a.wait_elected(SOON);
    a.wait_of_term("resigned", token, SOON);
    a.wait_log("staying out of the queue", SOON);
    assert_eq!(stand.runs().len(), 2);
    let b = daemon("b").spawn();
    let second = b.wait_elected(SOON);
    b.wait_of_term("resigned", second, SOON);
    assert_eq!(
        stand
            .runs()
            .iter()
            .filter(|run| run.token == second)
            .count(),
        2
    );
}

#[test]
fn a_failed_run_that_somebody_asked_for_gives_the_term_to_nobody() {
    let stand = Stage::new();
    let daemon = stand.daemon("a", "false", "every = '1h'");
    let a = daemon
        .toml("job = { yield_after = 1, yield_cooldown = '1h' }")
        .spawn();
    a.wait_log("next slot", SOON);
    for n in 1..=2 {
        stand.trigger();
        stand.wait_runs(n);
        let state = stand.wait_state("it is closed", |state| state["seq"] == n);
        assert_eq!(state["last"]["result"], "failure", "{state}");
        assert_eq!(state["failures"], 0, "{state}");
    }
    assert!(a.lines("resigned").is_empty());
}

#[test]
fn a_run_that_takes_too_long_has_failed_and_the_term_goes_on() {
    let stand = Stage::new();
    let daemon = stand.daemon("a", "sleep 1000", "every = '1s'");
    let a = daemon.toml("job.timeout = '500ms'").spawn();
    stand.wait_runs(2);
    assert_eq!(
        a.wait_log("run timed out", SOON).text("slot"),
        stand.runs()[0].slot
    );
    let record = stand.wait_result("timeout");
    assert_eq!(record["signal"], 15);
    assert_eq!(a.lines("elected").len(), 1);
}

#[test]
fn a_run_without_a_schedule_that_takes_too_long_has_failed_and_the_term_goes_on() {
    let scene = Scene::start(1);
    let a = Daemon::builder(&scene.cluster, "a")
        .job(&["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
        .toml("job = { timeout = '300ms', stop_grace = '200ms', restart_delay = '100ms' }")
        .spawn();
    a.wait_nth("job started", 3, SOON);
    assert!(a.lines("run timed out").len() >= 2);
    assert_eq!(a.wait_log("job ended", SOON).int("signal"), 9);
    assert_eq!(a.lines("elected").len(), 1);
}

#[test]
fn slots_of_a_paused_time_are_skipped() {
    let stand = Stage::new();
    let a = stand.daemon("a", "true", "every = '1s'").spawn();
    stand.wait_runs(1);
    let pause = r#"{"by":"test","since":"2027-01-01T00:00:00Z","keep_leader":true}"#;
    stand
        .scene
        .cluster
        .put("/election.meta/control/pause", pause);
    assert_eq!(a.wait_log("slot skipped", SOON).text("reason"), "paused");
    let paused = stand.runs().len();
    a.wait_nth("slot skipped", 3, SOON);
    assert_eq!(stand.runs().len(), paused);
    stand.scene.cluster.delete("/election.meta/control/pause");
    let runs = stand.wait_runs(paused + 1);
    assert_eq!(runs[paused].missed, 0, "{runs:?}");
    assert!(stand.wait_result("skipped")["missed"].as_u64() >= Some(1));
}

/// The slots of a pause of 4 s are recorded as skipped, and run by nobody; `meanwhile` ends the first
/// leader, perhaps, and starts another.
fn assert_the_pause_is_skipped(pause: &[&str], meanwhile: impl FnOnce(&Stage, &Daemon)) {
    let stand = Stage::new();
    let daemon = |name| stand.daemon(name, "true", "every = '1s', missed = 'all'");
    let a = daemon("a").spawn();
    stand.wait_runs(1);
    let typed = |what: &[&str]| {
        let words = [what, &["--election", PREFIX]].concat();
        let answer = stand.scene.cluster.incumbent(&words).run();
        assert_eq!(answer.code, Some(0), "{answer:?}");
    };
    typed(pause);
    meanwhile(&stand, &a);
    let b = daemon("b").spawn();
    let paused = stand.runs().len();
    throughout(secs(4), "nothing runs", || stand.runs().len() == paused);
    typed(&["resume"]);
    let resumed = Slot::up_to(incumbent::wall::now() - secs(1));
    let runs = stand.wait_runs(paused + 2);
    assert!(runs[paused].slot >= resumed.to_string(), "{runs:?}");
    let missed = [&a, &b].map(|daemon| daemon.lines("slot missed"));
    assert!(missed.iter().all(Vec::is_empty), "{missed:?}");
    assert!(stand.wait_result("skipped")["missed"].as_u64() >= Some(2));
    stand.assert_in_order();
}

#[test]
fn slots_of_a_pause_that_nobody_led_through_are_skipped() {
    assert_the_pause_is_skipped(&["pause"], |_, _| {});
}

#[test]
fn slots_of_a_pause_whose_leader_led_on_and_died_are_skipped() {
    assert_the_pause_is_skipped(&["pause", "--keep-leader"], |stand, a| {
        a.sigkill();
        eventually(SOON, "it leads no more", || {
            stand.scene.cluster.first(PREFIX).is_none()
        });
    });
}

#[test]
fn a_changed_schedule_starts_from_now() {
    let stand = Stage::new();
    let a = stand
        .daemon("a", "true", "every = '1h', missed = 'all'")
        .spawn();
    a.wait_log("next slot", SOON);
    a.reload("job.schedule = { every = '1s' }");
    a.wait_log("schedule changed", SOON);
    let runs = stand.wait_runs(1);
    assert_eq!(runs[0].missed, 0);
    assert_eq!(a.lines("elected").len(), 1);
    assert!(a.lines("slot missed").is_empty());
}

#[test]
fn whoever_waited_as_the_job_came_to_have_a_schedule_leads_by_all_of_it() {
    let stand = Stage::new();
    let cluster = &stand.scene.cluster;
    let script = "[ -n \"$INCUMBENT_SLOT\" ] || exec sleep 1000000";
    let daemon = |name| Daemon::builder(cluster, name).job(&["sh", "-c", script]);
    let a = daemon("a").spawn();
    a.wait_elected(SOON);
    let b = daemon("b").spawn();
    b.wait_log("campaigning", SOON);
    for waits_first in [&b, &a] {
        waits_first.reload("job.schedule = { every = '1h' }");
        waits_first.wait_log("reloaded", SOON);
    }
    eventually(SOON, "it is led by its schedule", || {
        !a.lines("next slot").is_empty() || !b.lines("next slot").is_empty()
    });
    let endpoints = cluster.endpoints().join(",");
    let words = ["trigger", "--endpoints", &endpoints, "--election", PREFIX];
    let asked = cluster.sandbox().incumbent(&words).run();
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert_eq!(stand.wait_result("success")["slot"], "manual");
}

#[test]
fn a_wish_for_a_run_is_heeded_and_answered_and_leaves_the_schedule_as_it_is() {
    let stand = Stage::new();
    let a = stand.daemon("a", "sleep 1", "every = '1h'").spawn();
    a.wait_log("next slot", SOON);
    let before = stand.state().unwrap()["slot"].clone();
    stand.trigger();
    let runs = stand.wait_runs(1);
    assert_eq!(runs[0].slot, "manual");
    let verdict = || {
        let record = stand.scene.cluster.get(TRIGGER).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        record["answer"]["verdict"].as_str().map(str::to_owned)
    };
    eventually(SOON, "the wish is answered", || {
        verdict() == Some("claimed".to_owned())
    });
    stand.trigger();
    eventually(SOON, "the wish is refused", || {
        verdict() == Some("open".to_owned())
    });
    let queued = r#"{"by":"test","since":"2027-01-01T00:00:00Z","queue":true}"#;
    stand.scene.cluster.put(TRIGGER, queued);
    eventually(SOON, "the wish waits", || {
        verdict() == Some("queued".to_owned())
    });
    let runs = stand.wait_runs(2);
    assert!(runs[0].ended, "{runs:?}");
    let state = stand.wait_state("both are closed", |state| state["seq"] == 2);
    assert_eq!(state["slot"], before);
}

#[test]
fn a_history_of_one_run_holds_the_last_record_however_many_come_at_once() {
    let stand = Stage::new();
    let schedule = "every = '1s', overlap = 'skip', history = 1";
    let a = stand.daemon("a", "sleep 2.5", schedule).spawn();
    a.wait_elected(SOON);
    // Each close tells of the slots that were passed over meanwhile, too.
    let runs = stand.wait_runs(3);
    assert!(runs.iter().all(|run| run.attempt == 1), "{runs:?}");
    assert!(stand.records().len() <= 1, "{:?}", stand.records());
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let state = stand.state().unwrap();
    assert!(state["open"].is_null(), "{state}");
}

#[test]
fn a_run_that_drains_for_a_pause_is_closed_though_that_is_over_meanwhile() {
    let stand = Stage::new();
    let schedule = "every = '1h', drain = '1m', guarantee = 'at-least-once'";
    let a = stand.daemon("a", "sleep 3", schedule).spawn();
    a.wait_log("next slot", SOON);
    stand.trigger();
    stand.wait_runs(1);
    let cluster = &stand.scene.cluster;
    let _pause = cluster.incumbent(&["pause"]).start();
    eventually(SOON, "its leader heeds it", || {
        a.status()["role"] == "stopping"
    });
    assert!(!stand.runs()[0].ended, "it drains");
    assert_eq!(cluster.incumbent(&["resume"]).run().code, Some(0));
    let state = stand.wait_state("the run is closed", |state| state["seq"] == 1);
    assert_eq!(state["last"]["result"], "success", "{state}");
    a.wait_elected_nth(2, SOON);
    throughout(secs(1), "it is not run again", || stand.runs().len() == 1);
}

#[test]
fn a_wish_for_a_run_is_that_terms_whose_leader_was_asked() {
    let stand = Stage::new();
    let a = stand.daemon("a", "true", "every = '1h'").spawn();
    let token = a.wait_elected(SOON);
    a.wait_log("next slot", SOON);
    let ask = |token: i64, by: &str| {
        let wish = format!(r#"{{"by":"{by}","since":"2027-01-01T00:00:00Z","token":{token}}}"#);
        stand.scene.cluster.put(TRIGGER, &wish);
    };
    ask(token - 1, "one who was too late");
    ask(token, "one in time");
    stand.wait_runs(1);
    let state = stand.wait_state("it is closed", |state| state["seq"] == 1);
    assert_eq!(state["last"]["slot"], "manual", "{state}");
    ask(token - 1, "one who was too late");
    throughout(secs(1), "nothing more is run", || stand.runs().len() == 1);
}

#[test]
fn a_wish_for_a_run_whose_term_ends_first_is_not_waited_for() {
    let stand = Stage::new();
    let body = "exec sleep 1000000";
    let a = stand.daemon("a", body, "every = '1s'").spawn();
    stand.wait_runs(1);
    let cluster = &stand.scene.cluster;
    let endpoints = cluster.endpoints().join(",");
    let words = [
        "trigger",
        "--queue",
        "--wait",
        "--endpoints",
        &endpoints,
        "--election",
        PREFIX,
    ];
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| cluster.sandbox().incumbent(&words).run());
        eventually(SOON, "it is queued", || {
            let record = cluster.get(TRIGGER).unwrap_or_default();
            if record.contains("queued") {
                Ok(())
            } else {
                Err(record)
            }
        });
        a.sigterm();
        asked.join().unwrap()
    });
    assert_eq!(asked.code, Some(3), "{asked:?}");
    assert!(
        asked
            .errors
            .contains("the term of a ended before the job was started"),
        "{asked:?}"
    );
}
