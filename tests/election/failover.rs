//! Ends that nobody planned: killed, stopped, revoked behind its back.

use crate::common::*;
use serde_json::Value;

/// From a kill -9 of the daemon to the next job: far below one TTL, on a busy machine too.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(500);

#[test]
fn the_next_job_starts_at_once_when_the_daemon_is_killed() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let lease = scene.candidate(&a).lease;
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    a.sigkill();
    let next = scene.wait_leads(&b, 1, SOON);
    assert!(next > token);
    // The guardian did it: it resigned in the daemon's place, and left.
    scene.wait_marker(token);
    scene.wait_no_lease(lease);
    a.wait_no_processes(SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(AT_ONCE);
}

#[test]
fn a_killed_daemons_stubborn_grandchild_dies_before_the_next_job_starts() {
    let scene = Scene::start(3);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags));
    let b = scene.waiter(scene.daemon("b"));
    eventually(SOON, "the grandchild lives", || {
        scene.record.history().lives.len() == 2
    });
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    scene.wait_job_over(token, millis(10));
    scene.wait_marker(token);
    scene.assert_no_overlap();
}

#[test]
fn a_killed_waiting_candidate_leaves_the_queue() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    let c = scene.waiter(scene.daemon("c").ttl("5s"));
    b.sigkill();
    // Sooner than its lease would have ended.
    eventually(secs(2), "the guardian takes b out of the queue", || {
        scene.place(&b).is_none()
    });
    a.sigterm();
    assert!(scene.wait_leads(&c, 1, SOON) > token);
    scene.assert_no_overlap();
}

#[test]
fn killed_with_its_guardian_it_is_followed_when_its_lease_has_ended() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let key = scene.candidate(&a).key;
    let b = scene.waiter(scene.daemon("b"));
    let vigil = scene.cluster.watch_deletion(&key, 0);
    a.sigkill_both();
    // The job's own process dies with the guardian.
    scene.wait_job_over(token, secs(1));
    let gone = vigil.wait(secs(10));
    scene.assert_over_before(token, gone);
    scene.wait_leads(&b, 1, SOON);
    // Nobody could prove it, so the next one waited the take-over delay (1 s here).
    let next = scene.last_run(scene.first().create_revision).unwrap();
    assert!(
        next.start - gone >= 900_000_000,
        "started {} ns after",
        next.start - gone
    );
    scene.wait_marker(token);
    scene.assert_no_overlap();
}

#[test]
fn a_daemon_that_starts_again_after_a_kill_fences_and_leads_again() {
    let scene = Scene::start(1);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags));
    a.sigkill_both();
    // The same name and runtime folder, while the earlier grandchild may still live.
    let again = scene.daemon("a").spawn();
    let next = scene.wait_leads(&again, 1, SOON);
    assert!(next > token);
    scene.wait_job_over(token, millis(10));
    scene.assert_no_overlap();
}

#[test]
fn a_revoked_lease_kills_the_job_before_the_next_one_starts() {
    let scene = Scene::start(3);
    let stubborn = scene.daemon_with("a", &["--ignore-term", "--child-own-session"]);
    let (a, token) = scene.leader(stubborn);
    let old = scene.candidate(&a);
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.revoke(old.lease);
    let lost = a.wait_log("term lost", SOON);
    assert_eq!((lost.token(), lost.text("reason")), (token, "revoked"));
    scene.wait_job_over(token, secs(1));
    scene.wait_leads(&b, 1, SOON);
    wait_past(&scene, token, "revoked");
    scene.assert_no_overlap();

    a.wait_log("rejoining", SOON);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_ne!(scene.candidate(&a).lease, old.lease);
    assert!(a.is_alive());
}

#[test]
fn a_deleted_key_kills_the_job_before_the_next_one_starts() {
    let scene = Scene::start(3);
    let stubborn = scene.daemon_with("a", &["--ignore-term"]);
    let (a, token) = scene.leader(stubborn);
    let old = scene.candidate(&a);
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.delete(&old.key);
    let lost = a.wait_log("term lost", SOON);
    assert_eq!((lost.token(), lost.text("reason")), (token, "deleted"));
    scene.wait_job_over(token, secs(1));
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_ne!(scene.candidate(&a).lease, old.lease);
    scene.wait_no_lease(old.lease);
}

#[test]
fn a_waiting_candidate_whose_lease_lapsed_never_leads_on_its_old_key() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let links = Links::to(&scene.cluster);
    let b = scene.waiter(scene.daemon("b").through(&links));
    let old = scene.candidate(&b);

    links.black_hole();
    scene.wait_no_lease(old.lease);
    scene.cluster.wait_names(PREFIX, &["a"]);
    // What b watches ends at the moment in which it hears of the store again.
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    links.heal();
    let next = scene.wait_leads(&b, 1, secs(20));
    let new = scene.candidate(&b);
    assert!(new.lease != old.lease && new.key != old.key);
    assert_eq!(next, new.create_revision);
    assert!(next > token);
    b.wait_log("rejoining", SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_waiting_candidate_whose_lease_is_revoked_rejoins_at_the_end() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    let old = scene.candidate(&b).lease;
    scene.cluster.revoke(old);
    scene.cluster.wait_names(PREFIX, &["a", "c", "b"]);
    assert_ne!(scene.candidate(&b).lease, old);
    scene.still_leads(&a, token).unwrap();
    a.sigterm();
    scene.wait_leads(&c, 1, SOON);
    assert!(b.lines("elected").is_empty());
    scene.assert_no_overlap();
}

#[test]
fn a_compaction_while_it_waits_does_not_make_it_miss_its_turn() {
    let scene = Scene::start(3);
    let (a, _) = scene.leader(scene.daemon("a"));
    let links = Links::to(&scene.cluster);
    let b = scene.waiter(scene.daemon("b").through(&links));
    // Its watch breaks, and the revision from which it watches is forgotten meanwhile.
    links.each(Proxy::pause);
    for i in 0..10 {
        scene.cluster.put("/other", &i.to_string());
    }
    scene.cluster.compact(scene.cluster.revision());
    links.drop_connections();
    links.heal();
    eventually(SOON, "b is connected again", || {
        (0..3).any(|i| links[i].carried(Direction::Down) > 0)
    });
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

// --- the daemon stopped -----------------------------------------------------------------------

#[test]
fn a_daemon_stopped_for_less_than_its_lease_keeps_its_term() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    let job = a.wait_job(SOON);
    a.sigstop();
    throughout(secs(2), "the job runs on", || process::is_alive(job));
    a.sigcont();
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    assert!(process::is_alive(job) && b.lines("elected").is_empty());
    assert_eq!(scene.record.history().lives.len(), 1);
}

#[test]
fn a_daemon_stopped_for_longer_is_out_of_its_job_before_its_lease_ends() {
    let scene = Scene::start(3);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags));
    let old = scene.candidate(&a);
    let b = scene.waiter(scene.daemon("b"));
    let vigil = scene.cluster.watch_deletion(&old.key, 0);
    a.sigstop();
    let gone = vigil.wait(secs(15));
    scene.assert_over_before(token, gone);
    let next = scene.wait_leads(&b, 1, SOON);
    assert!(next > token);

    // It wakes up in a world that went on, and must not start what it had in mind.
    a.sigcont();
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_ne!(scene.candidate(&a).lease, old.lease);
    throughout(secs(2), "nothing of the old term starts", || {
        scene.record.history().tokens() == [token, next] && scene.still_leads(&b, next).is_ok()
    });
    scene.assert_no_overlap();
    // And it is as good as new.
    b.sigterm();
    assert!(scene.wait_leads(&a, 2, SOON) > next);
    scene.assert_no_overlap();
}

/// What the history says of a term.
fn past(scene: &Scene, token: i64) -> Result<Value, String> {
    let key = format!("{PREFIX}.meta/terms/{token}");
    let record = scene.cluster.get(&key).ok_or("it is not there")?;
    serde_json::from_str(&record).map_err(|error| format!("{record}: {error}"))
}

/// Waits until the history says that a term ended for this reason.
#[track_caller]
fn wait_past(scene: &Scene, token: i64, reason: &str) -> Value {
    let what = format!("the history says {reason} of term {token}");
    eventually(SOON, &what, || {
        let past = past(scene, token)?;
        if past["reason"] == reason {
            Ok(past)
        } else {
            Err(past.to_string())
        }
    })
}

#[test]
fn every_ended_term_stands_in_the_history() {
    let scene = Scene::start(1);
    let (a, killed) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    let resigned = b.wait_elected(SOON);
    // Its own daemon could not say, so its guardian did.
    let first = wait_past(&scene, killed, "daemon_lost");
    assert_eq!(
        (&first["token"], &first["candidate"]),
        (&killed.into(), &"a".into())
    );
    assert!(first["ended"].is_string());

    b.sigterm();
    assert_eq!(b.wait_exit(SOON).code(), Some(0));
    let second = past(&scene, resigned).unwrap();
    assert_eq!(
        (&second["candidate"], &second["reason"]),
        (&"b".into(), &"resigned".into())
    );
    assert!(second["ended"].is_string());
}

#[test]
fn a_term_that_nobody_could_end_is_in_the_history_all_the_same() {
    let scene = Scene::start(1);
    let (a, killed) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    a.sigkill_both();
    scene.wait_leads(&b, 1, secs(20));
    let past = eventually(SOON, "its successor put it there", || past(&scene, killed));
    assert_eq!(past["reason"], "unknown");
    assert!(past["ended"].is_null());
}
