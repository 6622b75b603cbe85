//! `incumbent step-down`: who leads next is as asked, or nothing changes.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

mod common;

use std::process::{Child, Stdio};

use common::*;

/// A candidate of Go behind those that are there.
fn go_candidate(scene: &Scene, behind: &[&str]) -> Child {
    let mut elect = scene
        .cluster
        .etcdctl_beside("elect", &["elect", PREFIX, "go"]);
    let child = elect.stdout(Stdio::null()).spawn().unwrap();
    let names = [behind, &["go"]].concat();
    scene.cluster.wait_names(PREFIX, &names);
    child
}

#[test]
fn the_next_one_leads_and_the_old_leader_stands_in_the_queue_again() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let said = scene.cluster.incumbent(&["step-down", "--wait"]).text();
    assert!(
        said.starts_with("b (lease ") && said.ends_with(") leads\n"),
        "{said}"
    );
    scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_eq!(scene.cluster.get("/election.meta/control/step-down"), None);
    let said = a.wait_log("stepping down", SOON);
    assert!(said.text("by").contains('@'), "{}", said.text);
    scene.assert_no_overlap();
}

#[test]
fn those_in_front_of_the_chosen_one_rejoin_behind_it() {
    let scene = Scene::start(3);
    let (_a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    let d = scene.waiter(scene.daemon("d"));
    let said = scene
        .cluster
        .incumbent(&["step-down", "--to", "d", "--wait"])
        .text();
    assert!(said.starts_with("d (lease "), "{said}");
    let next = scene.wait_leads(&d, 1, SOON);
    assert!(next > token);
    for passed in [&b, &c] {
        passed.wait_log("making way", SOON);
        assert!(passed.lines("elected").is_empty());
    }
    eventually(SOON, "all stand behind it", || {
        let names = scene.cluster.names(PREFIX);
        if names.len() == 4 && names[0] == "d" {
            Ok(())
        } else {
            Err(names)
        }
    });

    // By its lease as well.
    let lease = scene.candidate(&b).lease_hex();
    let by_lease = ["step-down", "--to", &lease, "--wait"];
    scene.cluster.incumbent(&by_lease).text();
    scene.wait_leads(&b, 1, SOON);
    // No claim on the gap: a chosen one that still waited for who made way when the leader resigned
    // can't tell that one from a term that ended unproven, and waits the takeover delay.
    scene.assert_no_overlap();
}

#[test]
fn nobody_is_taken_past_a_candidate_of_go() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let mut elect = go_candidate(&scene, &["a"]);
    let b = scene.waiter(scene.daemon("b"));
    let answer = scene
        .cluster
        .incumbent(&["step-down", "--to", "b", "--wait"])
        .run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(answer.errors.contains("go (lease "), "{}", answer.errors);
    scene.still_leads(&a, token).unwrap();
    assert!(b.lines("making way").is_empty());
    assert_eq!(scene.cluster.get("/election.meta/control/step-down"), None);

    // To the one of Go itself there is a way.
    let said = scene
        .cluster
        .incumbent(&["step-down", "--to", "go", "--wait"])
        .text();
    assert!(said.starts_with("go (lease "), "{said}");
    let deaf = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(deaf.code, Some(3), "{}", deaf.errors);
    assert!(deaf.errors.contains("is no incumbent"), "{}", deaf.errors);
    elect.kill().unwrap();
    elect.wait().unwrap();
}

#[test]
fn an_ambiguous_or_unknown_name_changes_nothing() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let other = scene.daemon("c").toml("candidate.name = 'b'").spawn();
    scene.cluster.wait_names(PREFIX, &["a", "b", "b"]);
    for (name, said) in [("b", "several candidates"), ("nobody", "no candidate has")] {
        let answer = scene.cluster.incumbent(&["step-down", "--to", name]).run();
        assert_eq!(answer.code, Some(3), "{}", answer.errors);
        assert!(answer.errors.contains(said), "{}", answer.errors);
    }
    let leads = scene.cluster.incumbent(&["step-down", "--to", "a"]).text();
    assert!(leads.contains("leads already"), "{leads}");
    scene.still_leads(&a, token).unwrap();
    drop((b, other));
}

#[test]
fn with_nobody_else_there_only_force_stops_the_job() {
    let scene = Scene::start(1);
    let nobody = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(nobody.code, Some(3), "{}", nobody.errors);
    let (a, token) = scene.leader(scene.daemon("a"));
    let answer = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(
        answer.errors.contains("no other candidate"),
        "{}",
        answer.errors
    );
    scene.still_leads(&a, token).unwrap();

    scene
        .cluster
        .incumbent(&["step-down", "--force", "--wait"])
        .text();
    let next = scene.wait_leads(&a, 2, SOON);
    assert!(next > token);
    scene.assert_no_overlap();
}

#[test]
fn a_wish_that_the_leader_declines_is_taken_back() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let wish = format!(r#"{{"by":"x","since":"","token":{token},"to":null}}"#);
    scene.cluster.put("/election.meta/control/step-down", &wish);
    let declined = a.wait_log("not stepping down", SOON);
    assert_eq!(declined.text("reason"), "no other candidate");
    eventually(SOON, "the wish is gone", || {
        scene
            .cluster
            .get("/election.meta/control/step-down")
            .is_none()
    });
    let b = scene.waiter(scene.daemon("b"));
    throughout(secs(1), "a leads on", || scene.still_leads(&a, token));
    drop(b);
}
