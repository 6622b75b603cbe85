//! What operators do to the store under a leading job: upgrades, members that are replaced, alarms,
//! a snapshot that is put back.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use crate::common::*;

/// The TTL that users get who set none: as long as the store is without a leader for less, it costs
/// nothing. On a busy machine its elections take several rounds.
static TTL: LazyLock<Duration> = LazyLock::new(|| secs(patience(secs(15)).as_secs()));

/// The same, as the configuration has it.
fn ttl() -> String {
    format!("{}s", TTL.as_secs())
}

/// A leader `a` and `b` behind it.
fn led(cluster: Cluster) -> (Scene, Daemon, i64, Daemon) {
    let scene = Scene::on(cluster);
    let (a, token) = scene.leader(scene.daemon("a").ttl(&ttl()));
    let b = scene.waiter(scene.daemon("b").ttl(&ttl()));
    (scene, a, token, b)
}

/// Through all that was done, `a` has led without a break, and `b` can take over.
#[track_caller]
fn assert_it_cost_nothing(scene: &Scene, a: &Daemon, token: i64, b: &Daemon) {
    scene.still_leads(a, token).unwrap();
    assert_eq!(scene.record.history().runs_of(token).count(), 1);
    assert_eq!(scene.place(b), Some(1));
    for daemon in [a, b] {
        assert!(daemon.lines("rejoining").is_empty());
    }
    a.sigterm();
    assert!(scene.wait_leads(b, 1, SOON) > token);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
}

// --- versions ---------------------------------------------------------------------------------

/// The members' programs of these versions; `None` where one of them wasn't built.
fn versions(versions: [&str; 3], what: &str) -> Option<Vec<PathBuf>> {
    let built = |version| programs::built(&format!("{version}/etcd"), what);
    versions.map(built).into_iter().collect()
}

#[test]
fn an_upgrade_from_3_5_by_3_6_to_3_7_costs_no_term() {
    let Some(versions) = versions(["3.5", "3.6", "3.7"], "an upgrade of the store") else {
        return;
    };
    // 3.7 panics on what 3.5 has left in a log: 3.6 must have taken a snapshot since.
    let sandbox = Sandbox::new();
    let folder = sandbox.path().to_owned();
    let often = ["--snapshot-count", "100"];
    let cluster = Cluster::prepare_in(3, &sandbox, &often, |_| folder.clone());
    (0..3).for_each(|i| cluster.set_program(i, &versions[0]));
    cluster.start_all().unwrap();
    assert!(
        cluster.version().starts_with("3.5."),
        "{}",
        cluster.version()
    );
    let (scene, a, token, b) = led(cluster);
    for next in &versions[1..] {
        // As the manual of etcd has it: one member after the other, each once the others are well.
        for i in 0..3 {
            scene.cluster.restart_as(i, next);
            scene.cluster.leader();
            scene.still_leads(&a, token).unwrap();
        }
        (0..150).for_each(|n| scene.cluster.put("/filler", &n.to_string()));
    }
    assert!(
        scene.cluster.version().starts_with("3.7."),
        "{}",
        scene.cluster.version()
    );
    throughout(secs(5), "a leads on", || scene.still_leads(&a, token));
    assert_it_cost_nothing(&scene, &a, token, &b);
}

#[test]
fn a_downgrade_from_3_7_by_3_6_to_3_5_costs_no_term() {
    let Some(versions) = versions(["3.7", "3.6", "3.5"], "a downgrade of the store") else {
        return;
    };
    let cluster = Cluster::prepare(3);
    (0..3).for_each(|i| cluster.set_program(i, &versions[0]));
    cluster.start_all().unwrap();
    let (scene, a, token, b) = led(cluster);
    // Before the others were told, it refuses what is stored, and is what it was again.
    scene.cluster.kill(0);
    scene.cluster.set_program(0, &versions[1]);
    scene.cluster.start_again(0);
    eventually(SOON, "it ends", || scene.cluster.has_ended(0));
    scene.cluster.restart_as(0, &versions[0]);
    for (step, next) in versions.windows(2).zip(["3.6", "3.5"]) {
        let etcdctl = step[0].with_file_name("etcdctl");
        scene.cluster.enable_downgrade(&etcdctl, next);
        for i in 0..3 {
            scene.cluster.restart_as(i, &step[1]);
            scene.cluster.leader();
            scene.still_leads(&a, token).unwrap();
        }
        let version = scene.cluster.version();
        assert!(version.starts_with(next), "{version}");
    }
    throughout(secs(5), "a leads on", || scene.still_leads(&a, token));
    assert_it_cost_nothing(&scene, &a, token, &b);
}

// --- members ----------------------------------------------------------------------------------

#[test]
fn every_member_may_be_replaced_under_a_term() {
    let (scene, a, token, b) = led(Cluster::start(3));
    let leader = scene.cluster.leader();
    // Whoever leads the store goes first, and one that was put in its place last.
    for i in [leader, (leader + 1) % 3, (leader + 2) % 3] {
        scene.cluster.remove(i);
        throughout(secs(2), "a leads on", || scene.still_leads(&a, token));
        scene.cluster.add(i);
        scene.cluster.leader();
    }
    throughout(secs(5), "a leads on", || scene.still_leads(&a, token));
    assert_it_cost_nothing(&scene, &a, token, &b);
}

#[test]
fn members_that_nobody_has_named_may_take_the_places_of_those_who_were() {
    let (mut scene, a, token, b) = led(Cluster::start(3));
    let named = scene.cluster.endpoints();
    let leads_on = |scene: &Scene, what: &str| {
        throughout(secs(3), what, || scene.still_leads(&a, token));
    };
    // Four of them, and three are their majority. Who leads them can't be asked.
    let fourth = scene.cluster.grow();
    scene.cluster.move_leader(fourth);
    leads_on(&scene, "a leads on beside the fourth");
    scene.cluster.kill(0);
    leads_on(&scene, "a leads on with three of four");
    scene.cluster.restart(0);
    // One after the other, until one of the three is left.
    scene.cluster.remove(0);
    let fifth = scene.cluster.grow();
    scene.cluster.remove(1);
    scene.cluster.move_leader(fifth);
    leads_on(&scene, "a leads on with one of those that it knows");
    let old = format!("etcd.endpoints = {named:?}");
    // Who starts believes no minority of those that it knows.
    let c = scene.daemon("c").ttl(&ttl()).toml(&old).spawn();
    c.wait_said(
        "store unreachable",
        "if it is the right one, name its members",
    );
    let endpoints = [2, fourth, fifth].map(|i| scene.cluster.endpoints()[i].clone());
    for daemon in [&a, &c] {
        daemon.reload(&format!("etcd.endpoints = {endpoints:?}"));
    }
    a.wait_log("reloaded", SOON);
    c.wait_log("campaigning", SOON);
    leads_on(&scene, "a leads on with all of them");
    assert_it_cost_nothing(&scene, &a, token, &b);
    assert_eq!(scene.place(&c), Some(1));
}

#[test]
fn four_members_serve_without_one_of_them_and_not_without_two() {
    let scene = Scene::start(4);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s"));
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    let leader = scene.cluster.leader();
    let [one, other] = [1, 2].map(|n| (leader + n) % 4);
    scene.cluster.kill(one);
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    let lost = process::monotonic_ns();
    scene.cluster.kill(other);
    let over = scene.wait_job_over(token, secs(10));
    assert!(over - lost < 5_000_000_000, "{over} {lost}");
    assert_eq!(
        a.wait_log("term lost", SOON).get("reason").unwrap(),
        "deadline"
    );
    scene.cluster.restart(one);
    // The key of the term that is over is there until the store has heard of its end.
    eventually(secs(30), "the next term", || {
        scene.wait_settled(&[&a, &b], secs(30)) > token
    });
    scene.assert_no_overlap();
}

// --- space ------------------------------------------------------------------------------------

#[test]
fn a_store_without_space_and_defragmentation_cost_no_term() {
    let (scene, a, token, b) = led(Cluster::start_with(
        3,
        &["--quota-backend-bytes", "2000000"],
    ));
    let heavy = "x".repeat(100_000);
    let full = (0..100).find(|i| {
        let put = scene.cluster.etcdctl(&["put", "/heavy", &heavy]).run();
        assert!(*i < 99, "the quota is never reached");
        put.errors.contains("database space exceeded")
    });
    assert!(full.is_some());
    // Renewals and reads need no space.
    throughout(*TTL + secs(2), "a leads on", || {
        scene.still_leads(&a, token)
    });
    let revision = scene.cluster.revision();
    scene.cluster.compact(revision);
    for endpoint in scene.cluster.endpoints() {
        let defrag = scene
            .cluster
            .etcdctl(&["defrag"])
            .env("ETCDCTL_ENDPOINTS", endpoint);
        defrag.text();
        scene.still_leads(&a, token).unwrap();
    }
    scene.cluster.etcdctl(&["alarm", "disarm"]).text();
    assert_it_cost_nothing(&scene, &a, token, &b);
}

#[test]
fn a_corrupt_alarm_costs_no_term_and_lets_nobody_join() {
    let (scene, a, token, b) = led(Cluster::start(3));
    let alarm = |action| {
        scene.cluster.ask("an alarm", async |mut client| {
            let corrupt = etcd_client::AlarmType::Corrupt;
            client.alarm(action, corrupt, None).await.map(drop)
        });
    };
    alarm(etcd_client::AlarmAction::Activate);
    // Renewals and reads go on; what writes is refused, a new lease included.
    let c = scene.daemon("c").ttl(&ttl()).spawn();
    c.wait_said("store unreachable", "corrupt cluster");
    throughout(*TTL + secs(2), "a leads on", || {
        scene.still_leads(&a, token)
    });
    assert!(c.lines("campaigning").is_empty());
    alarm(etcd_client::AlarmAction::Deactivate);
    c.wait_log("campaigning", secs(45));
    assert_it_cost_nothing(&scene, &a, token, &b);
}

// --- snapshots --------------------------------------------------------------------------------

/// What puts a snapshot back, and whether it can raise the revision as well.
fn restorer() -> (PathBuf, bool) {
    let etcdctl = PathBuf::from(programs::etcdctl());
    let sibling = etcdctl.with_file_name("etcdutl");
    let beside = etcdctl.components().count() > 1 && Path::exists(&sibling);
    if beside {
        (sibling, true)
    } else {
        (etcdctl, false)
    }
}

/// A leader, a snapshot of its time, and writes that the snapshot lacks.
fn snapped() -> (Scene, Daemon, i64, Daemon, PathBuf) {
    let cluster = Cluster::start(1);
    // Each raises the raft term, of which a store that was put back begins anew.
    for _ in 0..3 {
        cluster.kill(0);
        cluster.restart(0);
    }
    let (scene, a, token, b) = led(cluster);
    let file = scene.cluster.sandbox().join("snapshot");
    let save = ["snapshot", "save", file.to_str().unwrap()];
    scene.cluster.etcdctl(&save).text();
    for _ in 0..20 {
        scene.cluster.put("/later", "than the snapshot");
    }
    // A renewal later, both have heard of the new revision.
    throughout(secs(7), "a leads on", || scene.still_leads(&a, token));
    (scene, a, token, b, file)
}

#[test]
fn a_snapshot_put_back_as_it_is_ends_the_term_and_nobody_of_before_leads() {
    let (scene, a, token, b, file) = snapped();
    scene.cluster.restore(&file, &restorer().0, &[]);
    a.wait_log("term lost", secs(30));
    scene.wait_job_over(token, SOON);
    for daemon in [&a, &b] {
        daemon.wait_log("refusing to lead", secs(60));
    }
    throughout(secs(5), "nobody leads", || {
        a.lines("elected").len() == 1 && b.lines("elected").is_empty()
    });
    scene.assert_no_overlap();
}

#[test]
fn a_snapshot_put_back_with_a_higher_revision_is_led_on() {
    let (restorer, can_bump) = restorer();
    if !can_bump {
        skipped("a snapshot put back with a higher revision: there is no etcdutl beside ETCDCTL");
        return;
    }
    let (scene, a, token, b, file) = snapped();
    let bump = ["--bump-revision", "1000000", "--mark-compacted"];
    scene.cluster.restore(&file, &restorer, &bump);
    assert!(scene.cluster.revision() > 1_000_000);
    let settled = scene.wait_settled(&[&a, &b], secs(60));
    // What was proven before the store was put back is over by then.
    throughout(*TTL + secs(5), "it leads on", || {
        let by_a = scene.still_leads(&a, settled);
        by_a.or_else(|_| scene.still_leads(&b, settled))
    });
    assert!(settled >= token);
    for daemon in [&a, &b] {
        assert!(daemon.lines("refusing to lead").is_empty());
    }
    scene.assert_no_overlap();
}
