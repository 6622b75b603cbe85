//! Daemon and guardian that may open nothing any more.

use crate::common::ordinary::limit;
use crate::common::*;

/// Nothing that this process does may open anything.
fn take_descriptors(daemon: &Daemon, to: Option<u64>) {
    limit(daemon.guardian(), "nofile", to);
    limit(daemon.pid(), "nofile", to);
}

#[test]
fn a_leader_without_any_descriptor_leads_on() {
    let cluster = Cluster::start(1);
    let daemon = Daemon::builder(&cluster, "a").spawn();
    let token = daemon.wait_elected(SOON);
    let job = daemon.wait_job(SOON);
    let guardian = daemon.guardian();
    for few in [0, 1, 4] {
        take_descriptors(&daemon, Some(few));
        // Through more than a lease.
        throughout(secs(5), "the term goes on", || {
            daemon.lines("term lost").is_empty() && process::is_alive(job)
        });
    }
    take_descriptors(&daemon, None);
    assert_eq!(daemon.guardian(), guardian);
    assert!(daemon.lines("guardian failed").is_empty());
    assert_eq!(cluster.first(PREFIX).unwrap().create_revision, token);
    daemon.sigterm();
    assert!(daemon.wait_exit(STOPPED).success());
}

/// How a term ends whose leader has no descriptor left.
fn ends_without_descriptors(end: impl Fn(&Scene, &Daemon)) {
    let scene = Scene::start(1);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags));
    let b = scene.waiter(scene.daemon("b"));
    scene.record.wait_lives(token, 2, SOON);
    take_descriptors(&a, Some(0));
    end(&scene, &a);
    scene.wait_leads(&b, 1, SOON);
    scene.wait_job_over(token, secs(1));
    scene.assert_no_overlap();
    scene.wait_marker(token);
}

#[test]
fn a_leader_without_any_descriptor_is_stopped() {
    ends_without_descriptors(|_, daemon| daemon.sigterm());
}

#[test]
fn a_leader_without_any_descriptor_steps_down() {
    ends_without_descriptors(|_, daemon| daemon.sigusr1());
}

#[test]
fn a_guardian_without_any_descriptor_ends_the_job_of_a_dead_daemon() {
    ends_without_descriptors(|_, daemon| daemon.sigkill());
}

#[test]
fn a_daemon_without_any_descriptor_fences_what_a_dead_guardian_leaves() {
    ends_without_descriptors(|_, daemon| {
        daemon.guardian_sigkill();
    });
}

#[test]
fn a_leader_without_any_descriptor_obeys_the_deadline() {
    ends_without_descriptors(|scene, daemon| {
        let lease = scene.candidate(daemon).lease;
        scene.cluster.revoke(lease);
    });
}
