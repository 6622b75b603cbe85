//! `incumbent kv put --complete`: an effect in etcd that is there exactly once, whoever dies when.

use rustix::process::Signal;

use crate::common::command::Typed;
use crate::common::daemon::program;
use crate::common::*;
use crate::stage::{Stage, Started};

const AT_LEAST: &str =
    "every = '2s', guarantee = 'at-least-once', retries = 3, retry_delay = '100ms'";

/// What a job does that closes its run and goes on with `then`.
fn completes(then: &str) -> String {
    let incumbent = program().display().to_string();
    format!("{incumbent} kv put --complete /done/$INCUMBENT_SLOT \"$INCUMBENT_ATTEMPT\" && {then}")
}

/// `incumbent kv put --complete …`, as the run would call it.
fn by_hand(stand: &Stage, daemon: &Daemon, run: &Started, typed: &[&str]) -> Typed {
    let lease = stand.scene.candidate(daemon);
    let typed = [&["kv", "put", "--complete"], typed].concat();
    let cluster = &stand.scene.cluster;
    cluster
        .incumbent(&typed)
        .env("INCUMBENT_ELECTION", stand.election())
        .env("INCUMBENT_LEASE", lease.lease_hex())
        .env("INCUMBENT_LEADER_KEY", lease.key)
        .env("INCUMBENT_TOKEN", run.token.to_string())
        .env("INCUMBENT_SLOT", &run.slot)
        .env("INCUMBENT_ATTEMPT", run.attempt.to_string())
}

/// A leader whose run does nothing by itself, and that run.
fn idle(schedule: &str) -> (Stage, Daemon, Started) {
    let stand = Stage::apart();
    let a = stand.daemon("a", "sleep 1000", schedule).spawn();
    a.wait_log("next slot", SOON);
    stand.trigger();
    let run = stand.wait_runs(1).remove(0);
    (stand, a, run)
}

/// Nothing was written, neither key nor record.
#[track_caller]
fn assert_refused(stand: &Stage, typed: Typed, why: &str) {
    let (key, state) = (stand.scene.cluster.get("k"), stand.state());
    let answer = typed.run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(answer.errors.contains(why), "{}", answer.errors);
    assert!(
        answer.errors.contains("nothing was written"),
        "{}",
        answer.errors
    );
    assert_eq!((stand.scene.cluster.get("k"), stand.state()), (key, state));
}

#[test]
fn key_and_close_are_one_transaction_and_stand_however_the_command_ends() {
    let stand = Stage::new();
    let body = completes("exit 7");
    let a = stand.daemon("a", &body, AT_LEAST).spawn();
    a.wait_elected(SOON);
    let runs = stand.wait_runs(3);
    // Each slot once, though each command failed: no retries, and no failures in a row.
    let slots: Vec<_> = runs.iter().map(|run| (&run.slot, run.attempt)).collect();
    assert!(slots.is_sorted_by(|a, b| a.0 < b.0), "{slots:?}");
    assert!(runs.iter().all(|run| run.attempt == 1), "{slots:?}");
    let state = stand.wait_state("two are closed", |state| state["seq"].as_u64() >= Some(2));
    assert_eq!(state["failures"], 0);
    for (n, (run, record)) in runs.iter().zip(stand.records()).enumerate().take(2) {
        assert_eq!(record["result"], "success");
        assert_eq!(record["slot"], *run.slot);
        let cluster = &stand.scene.cluster;
        let of = |key: &str| cluster.etcdctl(&["get", key, "-w", "json"]).text();
        let revision = |text: String| {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value["kvs"][0]["mod_revision"].as_i64().unwrap()
        };
        let record = revision(of(&format!("/election.meta/runs/{:016}", n + 1)));
        assert_eq!(record, revision(of(&format!("/done/{}", run.slot))));
    }
    assert_eq!(a.lines("elected").len(), 1);
    assert!(a.wait_log("job ended", SOON).int("code") == 7);
    let counted = |result: &str| {
        a.metric(&format!(
            "incumbent_schedule_runs_total{{result=\"{result}\"}}"
        ))
    };
    eventually(SOON, "they are counted as done", || {
        counted("success") >= 2.0
    });
    assert!(counted("failure") < 1.0);
}

#[test]
fn a_run_that_closed_itself_is_shown_so_while_its_command_goes_on() {
    let (stand, a, run) = idle("every = '1h'");
    eventually(SOON, "it is open", || {
        a.metric("incumbent_schedule_open") > 0.0
    });
    let answer = by_hand(&stand, &a, &run, &["k", "v"]).run();
    assert_eq!((answer.code, &*answer.text()), (Some(0), "OK\n"));
    eventually(SOON, "the leader has heard", || {
        a.metric("incumbent_schedule_open") < 1.0
    });
    assert!(a.lines("job ended").is_empty());
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let state = stand.state().unwrap();
    assert_eq!(state["last"]["result"], "success", "{state}");
    assert_eq!(stand.records().len(), 1);
    assert!(!a.lines("job stopped").is_empty());
}

/// A leader that hears of what others do only a while later, whose run ends when it is told to.
fn far_off(schedule: &str) -> (Stage, Links, Daemon, Started) {
    let stand = Stage::apart();
    let links = Links::to(&stand.scene.cluster);
    let go = stand.scene.cluster.sandbox().join("go");
    let body = format!("while ! [ -e {} ]; do sleep 0.01; done", go.display());
    let daemon = stand.daemon("a", &body, schedule).through(&links);
    let a = daemon.toml("election.ttl = '30s'").spawn();
    a.wait_log("next slot", SOON);
    stand.trigger();
    let run = stand.wait_runs(1).remove(0);
    links.each(|link| link.delay(millis(250)));
    (stand, links, a, run)
}

#[test]
fn a_planned_stop_just_after_leaves_the_success_and_tells_of_what_was_skipped() {
    let (stand, _links, a, run) = far_off("every = '1s'");
    a.wait_log("slot skipped", SOON);
    let before = stand.state().unwrap()["missed"].as_u64();
    assert_eq!(by_hand(&stand, &a, &run, &["k", "v"]).run().code, Some(0));
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let state = stand.state().unwrap();
    assert_eq!(state["last"]["result"], "success", "{state}");
    assert!(state["missed"].as_u64() > before, "{state}");
    let results: Vec<_> = stand
        .records()
        .into_iter()
        .map(|it| it["result"].clone())
        .collect();
    assert_eq!(results, ["success", "skipped"]);
}

#[test]
fn a_run_is_closed_on_a_planned_stop_though_another_has_just_written_the_state() {
    let (stand, _links, a, _) = far_off("every = '1h', drain = '1m'");
    a.sigterm();
    eventually(SOON, "it drains", || a.status()["role"] == "stopping");
    // As the end of a pause does.
    let mut state = stand.state().unwrap();
    state["since"] = "2027-01-01T00:00:00Z".into();
    let key = format!("{}.meta/schedule", stand.election());
    stand.scene.cluster.put(&key, &state.to_string());
    std::fs::write(stand.scene.cluster.sandbox().join("go"), "").unwrap();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let state = stand.state().unwrap();
    assert!(state["open"].is_null(), "{state}");
    assert_eq!(state["last"]["result"], "success", "{state}");
    assert_eq!(state["since"], "2027-01-01T00:00:00Z");
}

#[test]
fn of_two_runs_that_were_asked_for_one_does_not_close_the_other() {
    let (stand, a, first) = idle("every = '1h'");
    let nonce = stand.state().unwrap()["open"]["nonce"].clone();
    assert_eq!(
        by_hand(&stand, &a, &first, &["first", "v"]).run().code,
        Some(0)
    );
    let queued = r#"{"by":"test","since":"2027-01-01T00:00:00Z","queue":true}"#;
    let key = format!("{}.meta/control/trigger", stand.election());
    stand.scene.cluster.put(&key, queued);
    let main = a.wait_log("job started", SOON).int("pid");
    process::signal(i32::try_from(main).unwrap(), Signal::KILL);
    let second = stand.wait_runs(2).remove(1);
    assert_eq!((&second.slot, second.token), (&first.slot, first.token));
    let late = by_hand(&stand, &a, &first, &["k", "v"]);
    let late = late.env("INCUMBENT_RUN", nonce.as_str().unwrap());
    assert_refused(&stand, late, "is closed already, as success");
    assert_eq!(
        by_hand(&stand, &a, &second, &["k", "v"]).run().code,
        Some(0)
    );
}

/// A leader whose run has closed itself and goes on, who waits behind it, and that run.
fn closed_with_a_heir() -> (Stage, Daemon, Daemon, Started) {
    let stand = Stage::new();
    let body = completes("sleep 1000");
    let a = stand.daemon("a", &body, AT_LEAST).spawn();
    a.wait_elected(SOON);
    let b = stand.daemon("b", "true", AT_LEAST).spawn();
    b.wait_log("campaigning", SOON);
    let run = stand.wait_runs(1).remove(0);
    stand.wait_result("success");
    (stand, a, b, run)
}

#[test]
fn after_a_kill_of_the_daemon_it_is_not_run_again() {
    let (stand, a, b, first) = closed_with_a_heir();
    a.sigkill();
    b.wait_elected(SOON);
    stand.assert_run_on();
    assert_eq!(stand.records()[0]["result"], "success");
    assert_eq!(stand.records()[0]["slot"], first.slot);
    let done = stand.scene.cluster.get(&format!("/done/{}", first.slot));
    assert_eq!(done.as_deref(), Some("1"));
}

#[test]
fn after_the_loss_of_the_host_it_is_neither_lost_nor_run_again() {
    let (stand, a, b, _) = closed_with_a_heir();
    a.sigkill_both();
    b.wait_elected(SOON);
    stand.assert_run_on();
    assert!(b.lines("run lost").is_empty());
    assert_eq!(stand.records()[0]["result"], "success");
}

#[test]
fn a_run_that_is_not_open_is_refused_and_nothing_is_written() {
    let (stand, a, run) = idle("every = '1h'");
    let with = |change: &dyn Fn(&mut Started)| {
        let mut other = run.clone();
        change(&mut other);
        by_hand(&stand, &a, &other, &["k", "v"])
    };
    let not_open = "is not open any more";
    assert_refused(&stand, with(&|it| it.attempt = 2), not_open);
    assert_refused(
        &stand,
        with(&|it| it.slot = "2027-01-01T00:00:00Z".to_owned()),
        not_open,
    );
    assert_refused(&stand, with(&|it| it.token -= 1), "not the leader");
    // Those of the election itself are written by others.
    let key = format!("{}.meta/schedule", stand.election());
    let own = by_hand(&stand, &a, &run, &[&*key, "v"]);
    assert_refused(&stand, own, "one of the election's own records");
    // A run that was stopped.
    let late = by_hand(&stand, &a, &run, &["k", "v"]);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert_refused(&stand, late, "is closed already, as stopped");
}

#[test]
fn the_same_once_more_is_answered_as_before_and_another_is_refused() {
    let (stand, a, run) = idle("every = '1h'");
    let put = |key: &str, value: &str| by_hand(&stand, &a, &run, &[key, value]);
    assert_eq!(put("k", "v").text(), "OK\n");
    let revision = stand.scene.cluster.revision();
    assert_eq!(put("k", "v").text(), "OK\n");
    let closed = "is closed already, as success";
    assert_refused(&stand, put("k", "another"), closed);
    assert_refused(&stand, put("other", "v"), closed);
    assert_eq!(stand.scene.cluster.revision(), revision);
    // Written again by somebody else, it is no more what the run did.
    stand.scene.cluster.put("k", "v");
    assert_refused(&stand, put("k", "v"), closed);
}

#[test]
fn one_whose_answer_is_lost_is_done_once() {
    let (stand, a, run) = idle("every = '1h'");
    let cluster = &stand.scene.cluster;
    let proxy = Proxy::to(cluster.address(0));
    proxy.delay(millis(250));
    let running = by_hand(&stand, &a, &run, &["k", "v", "--timeout", "20s"])
        .env("INCUMBENT__ETCD__ENDPOINTS", proxy.url())
        .start();
    eventually(SOON, "it is applied", || cluster.get("k").is_some());
    proxy.drop_connections();
    // Even where somebody has written the key since.
    cluster.put("k", "another's");
    let answer = running.wait();
    assert_eq!((answer.code, &*answer.text()), (Some(0), "OK\n"));
    assert_eq!(cluster.get("k").as_deref(), Some("another's"));
    assert_eq!(stand.records().len(), 1);
}

#[test]
fn where_no_answer_comes_it_says_what_is_known() {
    let (stand, a, run) = idle("every = '1h'");
    let cluster = &stand.scene.cluster;
    let nowhere = by_hand(&stand, &a, &run, &["k", "v", "--timeout", "500ms"])
        .env("INCUMBENT__ETCD__ENDPOINTS", "http://127.0.0.1:1")
        .run();
    assert_eq!(nowhere.code, Some(69), "{}", nowhere.errors);
    assert!(!nowhere.errors.contains("unknown"), "{}", nowhere.errors);
    let proxy = Proxy::to(cluster.address(0));
    proxy.delay(millis(250));
    let running = by_hand(&stand, &a, &run, &["k", "v", "--timeout", "3s"])
        .env("INCUMBENT__ETCD__ENDPOINTS", proxy.url())
        .start();
    eventually(SOON, "it is applied", || cluster.get("k").is_some());
    proxy.refuse();
    let answer = running.wait();
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
    let unknown = "the outcome is unknown";
    assert!(answer.errors.contains(unknown), "{}", answer.errors);
    // Asked again, it is found.
    assert_eq!(by_hand(&stand, &a, &run, &["k", "v"]).text(), "OK\n");
}

#[test]
fn outside_of_a_scheduled_run_it_is_wrong_usage() {
    let stand = Stage::new();
    let complete = ["kv", "put", "--complete", "k", "v"];
    let of_unscheduled = |typed: Typed| {
        let answer = typed.run();
        assert_eq!(answer.code, Some(2), "{}", answer.errors);
        answer.errors
    };
    let cluster = &stand.scene.cluster;
    let errors = of_unscheduled(cluster.incumbent(&complete));
    assert!(errors.contains("INCUMBENT_SLOT is not set"), "{errors}");
    let odd = cluster.incumbent(&complete).env("INCUMBENT_SLOT", "noon");
    let odd = odd
        .env("INCUMBENT_ATTEMPT", "1")
        .env("INCUMBENT_TOKEN", "7");
    let odd = odd
        .env("INCUMBENT_ELECTION", "/apart")
        .env("INCUMBENT_LEASE", "7f");
    let errors = of_unscheduled(odd);
    assert!(
        errors.contains("INCUMBENT_SLOT is not what one has"),
        "{errors}"
    );
    for other in ["--unguarded", "--prev-kv"] {
        let both = [&complete[..], &[other]].concat();
        let errors = of_unscheduled(cluster.incumbent(&both));
        assert!(errors.contains("cannot be used with"), "{errors}");
    }
    assert_eq!(cluster.get("k"), None);
}
