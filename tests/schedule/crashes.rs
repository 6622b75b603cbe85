//! What is recorded, and what is run again, when somebody dies at a bad moment.

use crate::common::*;
use crate::stage::Stage;

const ONCE: &str = "every = '2s'";
const AT_LEAST: &str = "every = '2s', guarantee = 'at-least-once'";

/// A stand whose leader runs a job that only ends if it is stopped, and its waiting replica.
fn stuck(schedule: &str) -> (Stage, Daemon, Daemon) {
    let stand = Stage::new();
    let a = stand.daemon("a", "sleep 1000", schedule).spawn();
    a.wait_elected(SOON);
    let b = stand.daemon("b", "true", schedule).spawn();
    b.wait_log("campaigning", SOON);
    stand.wait_runs(1);
    (stand, a, b)
}

#[test]
fn of_a_killed_daemon_the_guardian_closes_the_run_and_the_slot_stays_so() {
    let (stand, a, b) = stuck(ONCE);
    a.sigkill();
    let second = b.wait_elected(SOON);
    let record = stand.wait_result("stopped");
    let runs = stand.assert_run_on();
    assert_eq!(record["slot"], runs[0].slot);
    assert!(record["token"].as_i64().unwrap() < second);
    assert!(record["took_ms"].as_u64().unwrap() > 0, "{record}");
    stand.assert_in_order();
    assert!(b.lines("run lost").is_empty());
}

#[test]
fn of_a_killed_daemon_the_slot_is_run_again_at_once_where_that_is_wanted() {
    let (stand, a, b) = stuck(AT_LEAST);
    a.sigkill();
    b.wait_elected(SOON);
    stand.assert_run_again();
}

#[test]
fn of_a_lost_host_the_run_is_lost_and_said_so() {
    let (stand, a, b) = stuck(ONCE);
    a.sigkill_both();
    let lost = b.wait_log("run lost", SOON);
    let runs = stand.assert_run_on();
    assert_eq!(lost.text("slot"), runs[0].slot);
    assert!(!lost.bool("again"));
    assert_eq!(stand.wait_result("lost")["slot"], runs[0].slot);
    stand.assert_in_order();
}

#[test]
fn of_a_lost_host_the_slot_is_run_again_where_that_is_wanted() {
    let (stand, a, b) = stuck(AT_LEAST);
    a.sigkill_both();
    assert!(b.wait_log("run lost", SOON).bool("again"));
    stand.assert_run_again();
}

#[test]
fn the_stop_hook_has_in_its_file_how_to_close_the_run() {
    let (stand, a, _b) = stuck(ONCE);
    let file = a.folder().join("run/lease.json");
    let file = eventually(SOON, "the file knows the run", || {
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let file: serde_json::Value = serde_json::from_str(&text).map_err(|it| it.to_string())?;
        if file["close"].is_null() {
            Err(text)
        } else {
            Ok(file)
        }
    });
    let state = &file["close"]["write"]["state"];
    assert!(state["open"].is_null());
    assert_eq!(state["last"]["slot"], stand.runs()[0].slot);
    assert_eq!(state["last"]["result"], "stopped");
}

#[test]
fn a_planned_stop_closes_the_run_with_the_resignation() {
    let (stand, a, b) = stuck(ONCE);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let second = b.wait_elected(SOON);
    let record = stand.wait_result("stopped");
    let first = record["token"].as_i64().unwrap();
    assert!(first < second);
    assert_eq!(record["slot"], stand.runs()[0].slot);
    stand.assert_run_on();
    assert!(b.lines("run lost").is_empty());
    stand.assert_in_order();
}

#[test]
fn after_a_planned_stop_the_next_leader_runs_the_slot_again_where_that_is_wanted() {
    let (stand, a, b) = stuck(AT_LEAST);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    b.wait_elected(SOON);
    stand.assert_run_again();
}

#[test]
fn on_a_planned_stop_a_run_may_come_to_its_end() {
    let stand = Stage::new();
    let a = stand
        .daemon("a", "sleep 2", "every = '1h', drain = '1m'")
        .spawn();
    a.wait_log("next slot", SOON);
    stand.trigger();
    stand.wait_runs(1);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(stand.runs()[0].ended);
    assert_eq!(stand.state().unwrap()["last"]["result"], "success");
    assert!(a.lines("job stopped").is_empty());
}

#[test]
fn a_run_that_takes_longer_than_it_may_on_a_planned_stop_is_stopped() {
    let stand = Stage::new();
    let a = stand
        .daemon("a", "sleep 1000", "every = '1s', drain = '500ms'")
        .spawn();
    stand.wait_runs(1);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let state = stand.state().unwrap();
    assert_eq!(state["last"]["result"], "stopped", "{state}");
    assert!(state["open"].is_null());
}

#[test]
fn a_close_is_repeated_until_the_store_is_back() {
    let stand = Stage::new();
    let a = stand
        .daemon("a", "sleep 1", "every = '1h'")
        .ttl("15s")
        .spawn();
    a.wait_log("next slot", SOON);
    stand.trigger();
    stand.wait_runs(1);
    stand.scene.cluster.freeze(0);
    a.wait_log("job ended", SOON);
    throughout(secs(2), "it leads on", || a.lines("term lost").is_empty());
    stand.scene.cluster.thaw(0);
    assert_eq!(stand.wait_result("success")["slot"], "manual");
    assert_eq!(a.lines("elected").len(), 1);
}

#[test]
fn a_claim_that_is_not_answered_starts_nothing_before_it_is_and_then_starts_once() {
    let stand = Stage::new();
    let a = stand.daemon("a", "true", "every = '3s'").ttl("15s").spawn();
    a.wait_log("next slot", SOON);
    stand.wait_runs(1);
    stand.wait_result("success");
    stand.scene.cluster.freeze(0);
    // Whatever slot comes meanwhile.
    throughout(secs(4), "nothing starts unclaimed", || {
        stand.runs().len() <= 1
    });
    stand.scene.cluster.thaw(0);
    stand.wait_runs(3);
    stand.assert_in_order();
    assert_eq!(a.lines("elected").len(), 1);
    assert!(a.lines("run lost").is_empty());
}

#[test]
fn a_store_that_is_away_until_the_deadline_starts_nothing_and_loses_the_run() {
    let (stand, a, b) = stuck(ONCE);
    stand.scene.cluster.freeze(0);
    a.wait_log("term lost", SOON);
    a.wait_log("job stopped", SOON);
    let before = stand.runs();
    throughout(secs(3), "nothing starts", || stand.runs() == before);
    stand.scene.cluster.thaw(0);
    eventually(SOON, "its end is recorded, or it is lost", || {
        let records = stand.records();
        let mut of_first = records.clone().into_iter();
        let first = of_first.find(|record| record["slot"] == before[0].slot);
        let result = first.and_then(|record| record["result"].as_str().map(str::to_owned));
        match result.as_deref() {
            Some("killed" | "lost") => Ok(()),
            _ => Err(records),
        }
    });
    stand.assert_in_order();
    drop(b);
}
