//! `incumbent pause` and `resume`: nobody new leads, and the leader does as asked.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::*;

#[test]
fn pause_returns_when_no_job_runs_and_resume_lets_the_first_lead() {
    let scene = Scene::start(1);
    let slow = ["--end-after-term", "1s"];
    let (a, token) = scene.leader(scene.daemon_with("a", &slow));
    let b = scene.waiter(scene.daemon("b"));
    let said = scene.cluster.incumbent(&["pause"]).text();
    assert_eq!(said, "/election is paused\n");
    assert!(
        scene.last_run(token).unwrap().ended,
        "its job has ended by then"
    );
    let job = a.wait_job(SOON);
    assert!(!process::is_alive(job));
    let status = scene.cluster.incumbent(&["status"]).text();
    assert!(
        status.contains("\nPAUSED    by ") && status.contains('@'),
        "{status}"
    );
    throughout(secs(1), "nobody leads", || {
        let elected = a.lines("elected").len() + b.lines("elected").len();
        if elected == 1 { Ok(()) } else { Err(elected) }
    });
    // Paused already: it is again, at once.
    scene.cluster.incumbent(&["pause"]).text();

    assert_eq!(
        scene.cluster.incumbent(&["resume"]).text(),
        "/election is resumed\n"
    );
    scene.wait_leads(&b, 1, SOON);
    let again = scene.cluster.incumbent(&["resume"]).text();
    assert_eq!(again, "/election was not paused\n");
    scene.assert_no_overlap();
}

#[test]
fn a_leader_that_is_kept_goes_on_and_nobody_follows_it() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.incumbent(&["pause", "--keep-leader"]).text();
    let member = format!("/election.meta/members/{}", scene.first().lease_hex());
    let heeded = scene.cluster.get(&member).unwrap();
    assert!(heeded.contains("\"paused\":"), "{heeded}");
    throughout(secs(1), "a leads on", || scene.still_leads(&a, token));

    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    b.wait_log("election paused", SOON);
    throughout(secs(1), "nobody leads", || b.lines("elected").is_empty());
    scene.cluster.incumbent(&["resume"]).text();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn an_empty_election_is_paused_for_who_comes() {
    let scene = Scene::start(1);
    scene.cluster.incumbent(&["pause"]).text();
    let a = scene.daemon("a").spawn();
    a.wait_log("election paused", SOON);
    scene.cluster.incumbent(&["resume"]).text();
    scene.wait_leads(&a, 1, SOON);
}

#[test]
fn a_candidate_of_go_that_would_lead_all_the_same_is_named_and_nothing_changes() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let mut elect = scene
        .cluster
        .etcdctl_beside("elect", &["elect", PREFIX, "go"]);
    let mut elect = elect.stdout(Stdio::null()).spawn().unwrap();
    scene.cluster.wait_names(PREFIX, &["a", "go"]);
    let answer = scene.cluster.incumbent(&["pause"]).run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(answer.errors.contains("go (lease "), "{}", answer.errors);
    assert_eq!(scene.cluster.get("/election.meta/control/pause"), None);
    scene.cluster.incumbent(&["pause", "--keep-leader"]).text();
    scene.still_leads(&a, token).unwrap();
    elect.kill().unwrap();
    elect.wait().unwrap();
}

/// The line of the table that tells of the pause.
fn paused_line(scene: &Scene) -> String {
    let table = scene.cluster.incumbent(&["status"]).text();
    let mut lines = table.lines();
    let line = lines.find(|line| line.starts_with("PAUSED "));
    line.unwrap_or_else(|| panic!("{table}")).to_owned()
}

/// The status as JSON.
fn told(scene: &Scene) -> Value {
    let text = scene.cluster.incumbent(&["status", "-o", "json"]).text();
    serde_json::from_str(&text).unwrap()
}

/// Waits until this replica's page, which may be a second old, has this in it.
#[track_caller]
fn wait_page(daemon: &Daemon, text: &str) {
    eventually(SOON, &format!("the page shows {text}"), || {
        let page = daemon.get("/");
        if page.contains(text) {
            Ok(())
        } else {
            Err(page)
        }
    });
}

#[test]
fn who_looks_while_a_leader_stops_for_a_pause_is_told_so_and_by_whom_it_is_paused() {
    let scene = Scene::start(1);
    // Until the test has looked.
    let slow = ["--ignore-term"];
    let builder = scene.daemon_with("a", &slow).toml("job.stop_grace = '60s'");
    let (a, _) = scene.leader(builder);
    let b = scene.waiter(scene.daemon("b"));
    assert_eq!(told(&scene).get("pause"), None);
    let pausing = scene.cluster.incumbent(&["pause"]).start();
    eventually(SOON, "it is paused", || told(&scene)["paused"] == true);
    let now = told(&scene);
    assert_eq!(now["leader"]["name"], "a");
    assert_eq!(now["pause"]["keep_leader"], false);
    let by = now["pause"]["by"].as_str().unwrap();
    let since = now["pause"]["since"].as_str().unwrap();
    let (seconds, _) = since.split_once('.').unwrap();
    let line = paused_line(&scene);
    assert_eq!(
        line,
        format!(
            "PAUSED    by {by} since {seconds}Z: a is to stop its job, and nobody new will lead until it is resumed"
        )
    );
    let day = seconds.replace('T', " ");
    let words = format!("Paused by {by} since {day} UTC: <b>a</b> is to stop its job, and nobody");
    wait_page(&b, &words);

    process::signal(a.wait_job(SOON), Signal::KILL);
    assert_eq!(pausing.wait().code, Some(0));
    let now = told(&scene);
    assert_eq!(
        (&now["leader"], &now["paused"]),
        (&Value::Null, &json!(true))
    );
    let line = paused_line(&scene);
    let expected =
        format!("PAUSED    by {by} since {seconds}Z: nobody will lead until it is resumed");
    assert_eq!(line, expected);
    wait_page(
        &b,
        &format!("since {day} UTC: nobody will lead until it is"),
    );
    scene.cluster.incumbent(&["resume"]).text();
    assert_eq!(told(&scene).get("pause"), None);
}

#[test]
fn who_looks_while_a_leader_is_kept_is_told_so_until_there_is_none() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.incumbent(&["pause", "--keep-leader"]).text();
    assert_eq!(told(&scene)["pause"]["keep_leader"], true);
    let line = paused_line(&scene);
    assert!(
        line.ends_with("Z, keeping the leader: nobody new will lead until it is resumed"),
        "{line}"
    );
    wait_page(&b, "UTC, keeping the leader: nobody new will lead");
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let line = paused_line(&scene);
    assert!(
        line.ends_with("Z: nobody will lead until it is resumed"),
        "{line}"
    );
    wait_page(&b, "UTC: nobody will lead until");
}

#[test]
fn who_looks_at_a_pause_that_can_not_be_read_is_told_whose_job_ends_for_it() {
    let scene = Scene::start(1);
    let slow = ["--ignore-term"];
    let builder = scene.daemon_with("a", &slow).toml("job.stop_grace = '60s'");
    let (a, _) = scene.leader(builder);
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.put("/election.meta/control/pause", "{");
    let by = "by a record that can't be read: ";
    let line = paused_line(&scene);
    let stops = "a is to stop its job, and nobody new will lead until it is resumed";
    assert_eq!(line, format!("PAUSED    {by}{stops}"));
    wait_page(
        &b,
        "Paused by a record that can't be read: <b>a</b> is to stop",
    );
    let now = told(&scene);
    assert_eq!((&now["paused"], now.get("pause")), (&json!(true), None));
    process::signal(a.wait_job(SOON), Signal::KILL);
    eventually(SOON, "nobody leads", || told(&scene)["leader"].is_null());
    let line = paused_line(&scene);
    assert_eq!(
        line,
        format!("PAUSED    {by}nobody will lead until it is resumed")
    );
}

#[test]
fn who_looks_while_a_candidate_of_go_leads_in_a_pause_is_told_that_it_heeds_none() {
    let scene = Scene::start(1);
    scene.cluster.incumbent(&["pause"]).text();
    let mut elect = scene
        .cluster
        .etcdctl_beside("elect", &["elect", PREFIX, "go"]);
    let mut elect = elect.stdout(Stdio::null()).spawn().unwrap();
    scene.cluster.wait_names(PREFIX, &["go"]);
    assert_eq!(told(&scene)["leader"]["name"], "go");
    let line = paused_line(&scene);
    assert!(
        line.ends_with(
            "Z: go is no incumbent and leads all the same, and nobody else will until it is resumed"
        ),
        "{line}"
    );
    elect.kill().unwrap();
    elect.wait().unwrap();
}

#[test]
fn a_pause_that_would_block_the_election_above_is_refused() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    for within in ["/election/", "/election/a", "/election/a/b"] {
        let words = ["pause", "--election", within];
        let answer = scene.cluster.incumbent(&words).run();
        assert_eq!(answer.code, Some(3), "{answer:?}");
        let why =
            format!("{within} is nested in election /election, which a record of it would block");
        assert!(answer.errors.contains(&why), "{answer:?}");
    }
    scene.still_leads(&a, token).unwrap();
    assert_eq!(scene.cluster.names(PREFIX), ["a"]);
}
