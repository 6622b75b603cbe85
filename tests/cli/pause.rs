//! `incumbent pause` and `resume`: nobody new leads, and the leader does as asked.

use std::process::Stdio;

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
