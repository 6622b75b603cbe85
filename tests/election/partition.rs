//! The store partly or wholly out of reach, and members that misbehave.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use crate::common::*;

/// Cuts the leader off in one way or another: its job must be over before the server ends its
/// lease, and it must come back in a new candidacy.
fn cut_off(fault: impl Fn(&Proxy)) {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let flags = ["--ignore-term", "--child-own-session"];
    let (a, token) = scene.leader(scene.daemon_with("a", &flags).through(&links));
    let old = scene.candidate(&a);
    let b = scene.waiter(scene.daemon("b"));
    let vigil = scene.cluster.watch_deletion(&old.key, 0);

    links.each(fault);
    let gone = vigil.wait(secs(20));
    scene.assert_over_before(token, gone);
    let next = scene.wait_leads(&b, 1, SOON);
    assert!(next > token);
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    assert!(a.is_alive());
    scene.assert_no_overlap();

    links.heal();
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_ne!(scene.candidate(&a).lease, old.lease);
    assert_eq!(scene.first().create_revision, next);
    b.sigterm();
    assert!(scene.wait_leads(&a, 2, SOON) > next);
    scene.assert_no_overlap();
}

#[test]
fn a_leader_in_a_black_hole_is_out_of_its_job_before_its_lease_ends() {
    cut_off(Proxy::black_hole);
}

#[test]
fn a_leader_that_is_not_heard_is_out_of_its_job_before_its_lease_ends() {
    cut_off(|proxy| proxy.cut_one_way(Direction::Up));
}

/// Its renewals arrive and its lease lives on, but it cannot know that.
#[test]
fn a_leader_that_hears_nothing_is_out_of_its_job_before_its_lease_ends() {
    cut_off(|proxy| proxy.cut_one_way(Direction::Down));
}

#[test]
fn a_short_black_hole_costs_no_term() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s").through(&links));
    links.black_hole();
    throughout(millis(1200), "a leads on", || scene.still_leads(&a, token));
    links.heal();
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(scene.record.history().lives.len(), 1);
}

#[test]
fn a_slow_network_costs_no_term() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    links.each(|proxy| proxy.delay(millis(50)));
    let (a, token) = scene.leader(scene.daemon("a").through(&links));
    throughout(secs(8), "a leads on", || scene.still_leads(&a, token));
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert_eq!(scene.cluster.first(PREFIX), None);
}

#[test]
fn connections_that_break_again_and_again_cost_no_term() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s").through(&links));
    let b = scene.waiter(scene.daemon("b").ttl("5s").through(&links));
    let mut broken = std::time::Instant::now();
    throughout(secs(10), "a leads on", || {
        if broken.elapsed() > millis(700) {
            links.drop_connections();
            broken = std::time::Instant::now();
        }
        scene.still_leads(&a, token)
    });
    assert_eq!(scene.place(&b), Some(1));
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn each_member_in_turn_in_a_black_hole_costs_no_term() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s").through(&links));
    for i in 0..3 {
        links[i].black_hole();
        throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
        links[i].heal();
    }
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert_eq!(scene.cluster.marker(PREFIX), Some(token));
}

#[test]
fn each_member_in_turn_killed_and_started_again_costs_no_term() {
    let scene = Scene::start(3);
    // The etcd leader is among them: a TTL that outlasts an election of etcd's own.
    let (a, token) = scene.leader(scene.daemon("a").ttl("15s"));
    let b = scene.waiter(scene.daemon("b").ttl("15s"));
    for i in 0..3 {
        scene.cluster.kill(i);
        throughout(secs(4), "a leads on", || scene.still_leads(&a, token));
        scene.cluster.restart(i);
    }
    scene.still_leads(&a, token).unwrap();
    assert_eq!(scene.place(&b), Some(1));
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
}

#[test]
fn each_frozen_follower_costs_no_term() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    let leader = scene.cluster.leader();
    for follower in (0..3).filter(|i| *i != leader) {
        scene.cluster.freeze(follower);
        throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
        scene.cluster.thaw(follower);
    }
    assert_eq!(scene.place(&b), Some(1));
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

/// An etcd leader that wakes from a freeze may revoke a living lease (ETCD #15247), so whether
/// the term survives is etcd's to say; that nothing overlaps is ours.
#[test]
fn a_frozen_etcd_leader_never_makes_two_jobs() {
    let scene = Scene::start(3);
    let (a, _) = scene.leader(scene.daemon_with("a", &["--ignore-term"]).ttl("5s"));
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    let leader = scene.cluster.leader();
    scene.cluster.freeze(leader);
    throughout(secs(8), "nothing overlaps", || {
        scene.record.history().overlap().is_none()
    });
    scene.cluster.thaw(leader);
    throughout(secs(3), "nothing overlaps", || {
        scene.record.history().overlap().is_none()
    });
    eventually(SOON, "both stand in the queue again", || {
        scene.cluster.queue(PREFIX).len() == 2
    });
    scene.wait_settled(&[&a, &b], SOON);
    scene.assert_no_overlap();
}

#[test]
fn lost_quorum_ends_the_job_in_time_and_a_new_term_comes_with_it() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon_with("a", &["--ignore-term"]));
    let b = scene.waiter(scene.daemon("b"));
    let cut = process::monotonic_ns();
    scene.cluster.kill(0);
    scene.cluster.kill(1);
    // No renewal was proven after the loss, so the lease might end one TTL (4 s) after it.
    let last = scene.wait_job_over(token, secs(8));
    assert!(
        last < cut + 4_000_000_000,
        "the job ran on for {} ns",
        last - cut
    );
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    assert!(a.is_alive() && b.is_alive());
    throughout(secs(2), "nobody leads", || {
        b.lines("elected").is_empty() && a.lines("elected").len() == 1
    });

    scene.cluster.start_again(0);
    scene.cluster.start_again(1);
    // The key of the old term is there until its lease is revoked, which the store's return allows.
    eventually(secs(30), "the old term's key is gone", || {
        let first = scene.cluster.first(PREFIX);
        let gone = first.is_some_and(|first| first.create_revision > token);
        if gone {
            Ok(())
        } else {
            Err("it is first, or the queue is empty")
        }
    });
    assert!(scene.wait_settled(&[&a, &b], secs(30)) > token);
    eventually(SOON, "both stand in the queue", || {
        scene.cluster.queue(PREFIX).len() == 2
    });
    scene.assert_no_overlap();
}

/// A member that led the cluster, was deposed while it stood still and wakes up acknowledges
/// renewals that its successor never hears of. Were they taken at their word, the job would run
/// on for seconds after the successor has ended the lease. (Not each time: now and then it steps
/// down before it answers.)
#[test]
fn a_deposed_etcd_leaders_acknowledgement_does_not_prolong_the_job() {
    let scene = Scene::start(3);
    // The replica knows this one member only.
    let deposed = scene.cluster.leader();
    let link = Proxy::to(scene.cluster.address(deposed));
    let stubborn = scene.daemon_with("a", &["--ignore-term"]).ttl("10s");
    let stubborn = stubborn.toml(&format!("etcd.endpoints = [{:?}]", link.url()));
    let (a, token) = scene.leader(stubborn);
    let b = scene.waiter(scene.daemon("b").ttl("10s"));

    let heard = || link.carried(Direction::Down);
    let before = heard();
    eventually(secs(10), "a has just renewed", || heard() > before);
    scene.cluster.freeze(deposed);
    let next = eventually(SOON, "another member leads the cluster", || {
        Some(scene.cluster.leader()).filter(|leader| *leader != deposed)
    });
    let vigil = scene.cluster.watch_deletion(&scene.candidate(&a).key, next);
    throughout(secs(4), "a's lease lives", || scene.still_leads(&a, token));

    // It wakes up alone, so that for a moment nobody tells it that it was deposed, and answers
    // the renewal that lies in its socket. Nothing else of a gets through, then or later.
    let others: Vec<_> = (0..3).filter(|i| *i != deposed).collect();
    for i in &others {
        scene.cluster.freeze(*i);
    }
    link.cut_one_way(Direction::Up);
    let before = heard();
    scene.cluster.thaw(deposed);
    eventually(secs(2), "the deposed leader answers", || heard() > before);
    throughout(millis(200), "a has time to believe it", || a.is_alive());
    scene.cluster.kill(deposed);
    for i in &others {
        scene.cluster.thaw(*i);
    }

    let gone = vigil.wait(secs(30));
    scene.assert_over_before(token, gone);
    assert!(scene.wait_leads(&b, 1, SOON) > token);
    scene.assert_no_overlap();
}
