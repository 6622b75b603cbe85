//! A member that was wiped and started as a cluster of its own, where its clients look for it.

use crate::common::*;

/// The client URL of a member.
fn url(cluster: &Cluster, i: usize) -> String {
    cluster.endpoints()[i].clone()
}

/// A cluster with a leader `a`, and one member that goes its own way: the one that leads the others,
/// or one that follows.
fn astray(leads: bool) -> (Scene, Daemon, i64, usize) {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("15s"));
    let stray = if leads {
        scene.cluster.leader()
    } else {
        scene.cluster.follower()
    };
    scene.cluster.lead_astray(stray);
    scene.cluster.leader();
    (scene, a, token, stray)
}

#[test]
fn nobody_leads_in_the_cluster_of_a_stray_member() {
    for leads in [true, false] {
        let (scene, a, token, stray) = astray(leads);
        let ran = scene.cluster.sandbox().join("ran");
        let ran = ran.to_str().unwrap();
        for _ in 0..15 {
            let exec = ["exec", "--wait", "700ms", "--", "touch", ran];
            let exec = scene.cluster.incumbent(&exec).run();
            assert_eq!(exec.code, Some(78), "{}", exec.errors);
            let stray = url(&scene.cluster, stray);
            assert!(exec.errors.contains(&stray), "{}", exec.errors);
        }
        assert!(!std::path::Path::new(ran).exists());
        // Each begins with another endpoint; they all come to stand behind the leader.
        let mut others = Vec::new();
        for name in ["b", "c", "d", "e", "f"] {
            others.push(scene.waiter(scene.daemon(name).ttl("15s")));
        }
        for other in &others {
            let line = other.wait_log("member of another cluster", SOON);
            assert_eq!(line.get("endpoint").unwrap(), &url(&scene.cluster, stray));
        }
        scene.still_leads(&a, token).unwrap();
        a.sigterm();
        let next = others.iter().collect::<Vec<_>>();
        assert!(scene.wait_settled(&next, SOON) > token);
        scene.assert_no_overlap();
    }
}

#[test]
fn a_stray_member_that_is_all_that_can_be_reached_is_not_believed() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    scene.cluster.lead_astray(2);
    for i in [0, 1] {
        links[i].refuse();
    }
    let refused = scene.daemon("refused").ttl("5s").through(&links).spawn();
    refused.wait_said("store unreachable", &links[2].url());
    for i in [0, 1] {
        links[i].heal();
        links[i].black_hole();
    }
    let silent = scene.daemon("silent").ttl("5s").through(&links).spawn();
    silent.wait_said("store unreachable", &links[2].url());
    let urls = links.urls().join(",");
    let status = ["status", "--endpoints", &urls];
    let status = scene.cluster.incumbent(&status).run();
    assert_eq!(status.code, Some(78), "{}", status.errors);
    for daemon in [&refused, &silent] {
        assert!(daemon.lines("elected").is_empty());
        assert!(daemon.lines("campaigning").is_empty());
    }
    // The others are the store, as soon as they can be reached.
    links.heal();
    scene.wait_settled(&[&refused, &silent], secs(45));
    scene.assert_no_overlap();
}

/// Two endpoints, of which a link leads to a member of the cluster and the other is a stray.
fn halves(scene: &Scene, links: &Links) -> [String; 2] {
    let stray = scene.cluster.follower();
    let member = (0..3).find(|i| *i != stray).unwrap();
    scene.cluster.lead_astray(stray);
    [links[member].url(), url(&scene.cluster, stray)]
}

#[test]
fn a_stray_is_not_believed_while_the_other_of_two_may_yet_answer() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a").ttl("15s"));
    let links = Links::to(&scene.cluster);
    let names = halves(&scene, &links);
    links.black_hole();
    let endpoints = format!("etcd.endpoints = {names:?}");
    let b = scene.daemon("b").ttl("5s").toml(&endpoints).spawn();
    b.wait_said("store unreachable", &names[1]);
    throughout(secs(4), "b waits", || match b.lines("campaigning").len() {
        0 => Ok(()),
        _ => Err("it stands with the stray".to_owned()),
    });
    links.heal();
    throughout(secs(4), "b waits", || match b.lines("campaigning").len() {
        0 => Ok(()),
        _ => Err("it stands though they disagree".to_owned()),
    });
    scene.still_leads(&a, token).unwrap();
    scene.assert_no_overlap();
}

#[test]
fn who_believes_one_of_two_leads_no_longer_than_until_the_other_contradicts() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let names = halves(&scene, &links);
    links.each(Proxy::refuse);
    let endpoints = format!("etcd.endpoints = {names:?}");
    let b = scene.daemon("b").ttl("15s").toml(&endpoints).spawn();
    b.wait_job(SOON);
    links.heal();
    let line = b.wait_log("term lost", SOON);
    assert_eq!(line.get("reason").unwrap(), "cluster_changed");
    throughout(secs(4), "b waits", || match b.lines("elected").len() {
        1 => Ok(()),
        _ => Err("it leads again".to_owned()),
    });
}

#[test]
fn one_member_of_three_that_can_be_reached_is_enough() {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    links[0].refuse();
    links[1].black_hole();
    scene.leader(scene.daemon("a").ttl("15s").through(&links));
    let status = ["status", "--endpoints", &links.urls().join(",")];
    let status = scene.cluster.incumbent(&status).run();
    assert_eq!(status.code, Some(0), "{}", status.errors);
}

#[test]
fn several_names_of_one_member_are_one_store() {
    let scene = Scene::start(1);
    let port = scene.cluster.address(0).port();
    let other = format!("http://localhost:{port}");
    let names = [
        url(&scene.cluster, 0),
        other,
        "http://127.0.0.1:1".to_owned(),
    ];
    for names in [&names[..2], &names[..]] {
        let endpoints = format!("etcd.endpoints = {names:?}");
        let daemon = scene.daemon("a").ttl("5s").toml(&endpoints);
        let prefix = format!("/election{}", names.len());
        daemon.prefix(&prefix).spawn().wait_elected(SOON);
        let status = ["status", "--endpoints", &names.join(",")];
        let status = scene.cluster.incumbent(&status).run();
        assert_eq!(status.code, Some(0), "{}", status.errors);
    }
}

#[test]
fn a_stray_member_costs_no_term() {
    for leads in [true, false] {
        let scene = Scene::start(3);
        let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
        let b = scene.waiter(scene.daemon("b").ttl("5s"));
        let stray = if leads {
            scene.cluster.leader()
        } else {
            scene.cluster.follower()
        };
        scene.cluster.lead_astray(stray);
        throughout(secs(8), "a leads on", || scene.still_leads(&a, token));
        eventually(SOON, "b waits", || scene.place(&b) == Some(1));
        a.sigterm();
        scene.wait_leads(&b, 1, SOON);
        scene.assert_no_overlap();
        scene.assert_gaps_below(secs(2));
    }
}

#[test]
fn the_guardian_takes_no_word_of_a_stray_member() {
    for leads in [true, false] {
        // The guardian is connected to the member that leads.
        let (scene, a, token, _) = astray(leads);
        let b = scene.waiter(scene.daemon("b").ttl("15s"));
        let lease = scene.candidate(&a).lease;
        a.sigkill();
        assert!(scene.wait_leads(&b, 1, SOON) > token);
        scene.wait_no_lease(lease);
        scene.assert_no_overlap();
        // One TTL otherwise.
        scene.assert_gaps_below(secs(3));
    }
}

#[test]
fn commands_that_ask_once_refuse_endpoints_that_disagree() {
    let (scene, a, token, stray) = astray(false);
    let stray = url(&scene.cluster, stray);
    for arguments in [
        &["status"][..],
        &["status", "-o", "json"],
        &["observe"],
        &["pause", "--keep-leader"],
        &["resume"],
        &["step-down"],
        &["kv", "put", "k", "v"],
        &["kv", "get", "k"],
        &["kv", "del", "k"],
        &["kv", "watch", "k"],
        &["check", "--connect"],
    ] {
        for _ in 0..3 {
            let answer = scene.cluster.incumbent(arguments).run();
            assert_eq!(answer.code, Some(78), "{arguments:?}: {}", answer.errors);
            assert!(answer.errors.contains(&stray), "{}", answer.errors);
        }
    }
    // What most of them say is shown all the same.
    let status = scene.cluster.incumbent(&["status"]).run();
    assert!(status.text().contains("leader    a"), "{}", status.text());
    assert_eq!(scene.cluster.get("k"), None);
    scene.still_leads(&a, token).unwrap();
}
