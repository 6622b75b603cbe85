//! `incumbent trigger` and `incumbent exec --once-per`: a run now, and one for all hosts.

use serde_json::Value;

use crate::common::*;

fn runs(cluster: &Cluster) -> Vec<Value> {
    let told = cluster.incumbent(&["runs", "-o", "json"]).text();
    let told: Value = serde_json::from_str(&told).unwrap();
    told["runs"].as_array().unwrap().clone()
}

#[test]
fn a_slot_is_run_once_however_many_hosts_ask() {
    let cluster = Cluster::start(1);
    let yearly = |code: &str| {
        let script = format!("echo $INCUMBENT_SLOT; exit {code}");
        let exec = [
            "exec",
            "--once-per",
            "@yearly",
            "--wait",
            "20s",
            "--",
            "sh",
            "-c",
            &script,
        ];
        cluster.incumbent(&exec).run()
    };
    let first = yearly("5");
    assert_eq!(first.code, Some(5), "{}", first.errors);
    assert!(
        first.text().ends_with("-01-01T00:00:00Z\n"),
        "{}",
        first.text()
    );
    let second = yearly("6");
    assert_eq!(second.code, Some(0), "{}", second.errors);
    assert_eq!(second.text(), "");
    assert!(
        second.errors.contains("has been claimed by"),
        "{}",
        second.errors
    );
    let runs = runs(&cluster);
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(
        (&runs[0]["result"], &runs[0]["code"]),
        (&"failure".into(), &5.into())
    );
}

#[test]
fn a_run_is_triggered_and_its_code_passed_on() {
    let cluster = Cluster::start(1);
    let nobody = cluster.incumbent(&["trigger"]).run();
    assert_eq!(nobody.code, Some(3));
    assert!(nobody.errors.contains("nobody leads"), "{}", nobody.errors);
    let folder = cluster.sandbox().join("daemon");
    let daemon = cluster.incumbent(&["run", "--", "sh", "-c", "exit 7"]);
    let _daemon = daemon
        .env("INCUMBENT__JOB__SCHEDULE__CRON", "@yearly")
        .env("INCUMBENT__RUNTIME_DIR", &folder)
        .start();
    eventually(secs(20), "a leader has a schedule", || {
        let state = cluster.get("/election.meta/schedule");
        state.map(drop).ok_or("none yet")
    });
    let triggered = cluster.incumbent(&["trigger", "--wait"]).run();
    assert_eq!(triggered.code, Some(7), "{}", triggered.errors);
    let runs = runs(&cluster);
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0]["slot"], "manual");
}

#[test]
fn a_job_without_a_schedule_is_not_triggered() {
    let scene = Scene::start(1);
    let (_a, _) = scene.leader(scene.daemon("a"));
    let answer = scene.cluster.incumbent(&["trigger"]).run();
    assert_eq!(answer.code, Some(3));
    let why = "a leads, and its job has no schedule";
    assert!(answer.errors.contains(why), "{}", answer.errors);
}
