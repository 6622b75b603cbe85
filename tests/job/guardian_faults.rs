//! The guardian killed or stopped, alone and together with the daemon.

use crate::common::*;
use rustix::process::Signal;

#[test]
fn a_killed_guardian_ends_the_term_and_not_the_daemon() {
    let scene = Scene::start(3);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags));
    let b = scene.waiter(scene.daemon("b"));
    eventually(SOON, "the grandchild lives", || {
        scene.record.history().lives.len() == 2
    });

    let old = a.guardian_sigkill();
    let lost = a.wait_log("term lost", SOON);
    assert_eq!((lost.token(), lost.text("reason")), (token, "guardian"));
    scene.wait_job_over(token, secs(1));
    scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    scene.assert_no_overlap();
    // The daemon fenced what was left: nobody had to wait for the lease.
    scene.assert_gaps_below(millis(500));

    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_ne!(a.guardian(), old);
    b.sigterm();
    scene.wait_leads(&a, 2, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_killed_guardian_of_a_waiting_candidate_is_replaced() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let old = b.guardian_sigkill();
    eventually(SOON, "b has a new guardian", || b.guardian() != old);
    eventually(SOON, "b stands in the queue", || scene.place(&b) == Some(1));
    scene.still_leads(&a, token).unwrap();
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

/// What is left of an earlier term is fenced while the guardian starts, and told by its variables,
/// which a daemon that was started by hand from within a job has too.
#[test]
fn a_daemon_with_the_variables_of_a_job_does_not_fence_its_own_guardian() {
    let scene = Scene::start(1);
    // Not that of other tests: their daemons would fence it too, until its guardian has its name.
    let prefix = "/nested";
    for n in 1..=10 {
        let nested = scene
            .daemon(&format!("nested{n}"))
            .prefix(prefix)
            .env("INCUMBENT_ELECTION", prefix)
            .env("INCUMBENT_TOKEN", "7");
        let daemon = nested.spawn();
        daemon.wait_job(SOON);
        let words = [Some("guardian lost"), Some("fencing a process left behind")];
        let logs = daemon.logs();
        assert!(!logs.iter().any(|line| words.contains(&line.message())));
        daemon.sigterm();
        daemon.wait_exit(SOON);
    }
}

#[test]
fn a_guardian_is_deaf_to_polite_signals() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let guardian = a.guardian();
    for polite in [Signal::TERM, Signal::INT, Signal::HUP] {
        process::signal(guardian, polite);
    }
    throughout(secs(1), "nothing happens", || scene.still_leads(&a, token));
    assert_eq!(a.guardian(), guardian);
    assert_eq!(scene.record.history().lives.len(), 1);
}

#[test]
fn a_guardian_stopped_for_a_moment_costs_no_term() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let job = a.wait_job(SOON);
    let guardian = a.guardian_sigstop();
    throughout(millis(1500), "the job runs on", || process::is_alive(job));
    process::thaw(guardian);
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(a.guardian(), guardian);
    assert!(process::is_alive(job));
}

#[test]
fn a_guardian_stopped_for_good_is_replaced_and_its_job_is_over_before_the_lease() {
    let scene = Scene::start(3);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags));
    let key = scene.candidate(&a).key;
    let b = scene.waiter(scene.daemon("b"));
    let vigil = scene.cluster.watch_deletion(&key, 0);
    let old = a.guardian_sigstop();
    let lost = a.wait_log("term lost", secs(10));
    assert_eq!((lost.token(), lost.text("reason")), (token, "guardian"));
    let gone = vigil.wait(secs(10));
    scene.assert_over_before(token, gone);
    scene.wait_leads(&b, 1, SOON);
    assert!(!process::is_alive(old));
    assert_ne!(a.guardian(), old);
    scene.assert_no_overlap();
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
}

#[test]
fn a_guardian_stopped_when_the_lease_is_revoked_keeps_no_job_alive() {
    let scene = Scene::start(1);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags).ttl("15s"));
    let b = scene.waiter(scene.daemon("b"));
    scene.record.wait_lives(token, 2, SOON);
    a.guardian_sigstop();
    scene
        .cluster
        .revoke(scene.cluster.first(PREFIX).unwrap().lease);
    // It waits for its take-over delay and no longer.
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    assert!(a.is_alive());
}

#[test]
fn both_stopped_for_less_than_the_lease_keep_the_term() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let job = a.wait_job(SOON);
    let guardian = a.guardian_sigstop();
    a.sigstop();
    throughout(millis(1500), "the job runs on", || process::is_alive(job));
    a.sigcont();
    process::thaw(guardian);
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(a.guardian(), guardian);
    assert_eq!(scene.record.history().lives.len(), 1);
}

/// Outside systemd nobody is left to end the job meanwhile: that is not promised. What is: it
/// ends as soon as they run again, and nothing stale starts.
#[test]
fn both_stopped_for_longer_end_the_job_as_soon_as_they_run_again() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let job = a.wait_job(SOON);
    let others = Record::new(scene.cluster.sandbox(), "others");
    let b = scene.waiter(scene.daemon("b").records(&others, &[]));
    let guardian = a.guardian_sigstop();
    a.sigstop();
    let next = b.wait_elected(secs(20));
    assert!(next > token);
    others.wait_run(next, SOON);

    process::thaw(guardian);
    a.sigcont();
    eventually(secs(1), "the old job is dead", || !process::is_alive(job));
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    throughout(secs(2), "nothing of the old term starts", || {
        scene.record.history().lives.len() == 1
    });
    assert_eq!(scene.first().create_revision, next);
    others.history().assert_no_overlap();
}
