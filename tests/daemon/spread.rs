//! Several jobs on several hosts: spread at the start, and handed to who should lead.

use std::collections::BTreeMap;

use crate::common::*;

const JOBS: usize = 12;

/// A replica with so many jobs that do nothing.
fn replica(cluster: &Cluster, name: &str) -> daemon::Builder {
    let builder = Daemon::builder(cluster, name);
    (0..JOBS).fold(builder, |builder, job| {
        builder.named_job(&format!("job-{job}"), &["sleep", "1000000"])
    })
}

/// Who leads each job, once all are led.
fn leaders(cluster: &Cluster) -> BTreeMap<usize, String> {
    eventually(secs(30), "all are led", || {
        let firsts = cluster.firsts(JOBS).into_iter();
        let all: BTreeMap<_, _> = firsts.map(|(job, first)| (job, first.name)).collect();
        if all.len() == JOBS { Ok(all) } else { Err(all) }
    })
}

#[test]
fn jobs_that_start_cold_are_led_by_all_hosts_and_not_by_the_first() {
    let cluster = Cluster::start(1);
    let names = ["one", "two", "three"];
    let replicas = names.map(|name| replica(&cluster, name).spawn());
    let all = leaders(&cluster);
    let mut led: BTreeMap<&str, usize> = BTreeMap::new();
    for leader in all.values() {
        *led.entry(leader).or_default() += 1;
    }
    // The hashes of these names give them 4, 3 and 5. Where a join takes longer than a turn, as beside other
    // tests, a host may lead none; that more than one does is no chance all the same.
    assert!(led.len() >= 2, "{led:?}");
    // The order in which they came is told, and that the leader was the first to join.
    let file = replicas[0].folder().join("incumbent.toml");
    let file = file.to_str().unwrap();
    let status = |more: &[&str]| {
        let words = ["status", "-c", file, "--timeout", "1m"];
        cluster.incumbent(&[&words, more].concat()).run().text()
    };
    let told: serde_json::Value = serde_json::from_str(&status(&["-o", "json"])).unwrap();
    for job in told["jobs"].as_array().unwrap() {
        let (name, leader) = (job["job"].as_str().unwrap(), &job["leader"]);
        let rank = leader["turn"]["rank"].as_u64();
        let hosts = leader["turn"]["hosts"].as_u64();
        assert!(rank < hosts && hosts <= Some(3), "{job}");
        // No two hosts that see the same ones take the same turn.
        let queue = job["queue"].as_array().unwrap().iter();
        let turns = queue.filter(|it| it["turn"]["hosts"] == 3);
        let mut ranks: Vec<_> = turns.map(|it| it["turn"]["rank"].as_u64()).collect();
        ranks.sort_unstable();
        let seen = ranks.len();
        ranks.dedup();
        assert_eq!(ranks.len(), seen, "{job}");
        let replica = replicas.iter().find(|it| leader["name"] == it.name());
        let told = replica.unwrap().get(&format!("/status?job={name}"));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["candidate"]["turn"], leader["turn"]);
    }
    let text = status(&["--job", "job-0"]);
    assert!(text.contains("\nrank      the "), "{text}");
    // Who comes later joins at once, and takes nothing.
    let late = replica(&cluster, "late").spawn();
    eventually(SOON, "the late one waits everywhere", || {
        late.lines("campaigning").len() == JOBS
    });
    assert!(late.lines("leaving it to others first").is_empty());
    let told = late.get("/status?job=job-0");
    assert!(!told.contains("\"turn\""), "{told}");
    assert_eq!(leaders(&cluster), all);
    // The jobs of one that dies go on elsewhere, all others stay where they are.
    replicas[0].sigkill();
    let mut after = all.clone();
    eventually(SOON, "none is led by the dead one", || {
        after = leaders(&cluster);
        after.values().all(|leader| leader != "one")
    });
    for (job, leader) in all.iter().filter(|(_, leader)| *leader != "one") {
        assert_eq!(&after[job], leader);
    }
}

/// A replica with one job, which prefers `two`.
fn preferring(scene: &Scene, name: &str, more: &str) -> Daemon {
    Daemon::builder(&scene.cluster, name)
        .named_job("a", &["true"])
        .toml(&format!(
            "jobs.a = {{ prefer = ['two'], prefer_after = '3s', {more} }}"
        ))
        .spawn()
}

#[test]
fn a_term_goes_to_who_is_preferred_once_that_has_waited_and_comes_back_with_it() {
    let scene = Scene::start(1);
    let scheduled = "schedule = { every = '1h' }";
    let one = preferring(&scene, "one", scheduled);
    one.wait_elected(SOON);
    let two = preferring(&scene, "two", scheduled);
    two.wait_log("campaigning", SOON);
    let other = preferring(&scene, "three", scheduled);
    let file = one.folder().join("incumbent.toml");
    let file = file.to_str().unwrap();
    let status = scene
        .cluster
        .incumbent(&["status", "-c", file, "--job", "a", "--timeout", "1m"]);
    let status = status.run().text();
    assert!(status.contains("\nprefers   two: two waits, "), "{status}");
    let stepped = one.wait_log("stepping down", secs(20));
    assert_eq!(stepped.text("by"), "job.prefer");
    let token = two.wait_elected(SOON);
    assert!(other.lines("elected").is_empty());
    // And stays there.
    throughout(secs(5), "two leads", || {
        scene
            .cluster
            .first(&format!("{PREFIX}/a"))
            .is_some_and(|first| first.create_revision == token)
    });
    // It dies, and comes back: a minute has to pass since the last hand-over.
    two.sigkill();
    eventually(SOON, "another leads", || {
        one.lines("elected").len() + other.lines("elected").len() == 2
    });
}

#[test]
fn a_run_that_goes_on_is_not_ended_for_who_is_preferred() {
    let scene = Scene::start(1);
    let endless = "command = ['sleep', '1000000']";
    let one = preferring(&scene, "one", endless);
    one.wait_elected(SOON);
    let two = preferring(&scene, "two", endless);
    two.wait_log("campaigning", SOON);
    throughout(secs(8), "one leads on", || {
        one.lines("stepping down").is_empty()
    });
}

#[test]
fn a_job_that_can_not_be_handed_over_costs_the_next_no_turn() {
    let scene = Scene::start(1);
    let scheduled = "schedule = { every = '1h' }";
    // In the order of their names the other comes after it.
    let b = format!(
        "jobs.b = {{ prefer = ['two'], prefer_after = '3s', command = ['true'], {scheduled} }}"
    );
    let both = |name| {
        let daemon = Daemon::builder(&scene.cluster, name).named_job("a", &["true"]);
        let a = format!("jobs.a = {{ prefer = ['two'], prefer_after = '3s', {scheduled} }}");
        daemon.toml(&a).toml(&b).spawn()
    };
    let one = both("one");
    one.wait_nth("elected", 2, SOON);
    // What the host shows of itself above the jobs' elections makes none of it.
    let file = one.folder().join("incumbent.toml");
    let words = ["check", "--connect", "-c", file.to_str().unwrap()];
    let checked = scene.cluster.sandbox().incumbent(&words).run();
    let text = String::from_utf8_lossy(&checked.output).into_owned();
    assert!(
        text.contains("/b: 1 candidate, led by one") && !text.contains("nested"),
        "{text}"
    );
    let a = format!("{PREFIX}/a");
    let words = ["pause", "--keep-leader", "--election", &a];
    let paused = scene.cluster.incumbent(&words).run();
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let _two = both("two");
    let stepped = one.wait_log("stepping down", secs(20));
    assert_eq!(stepped.text("election"), format!("{PREFIX}/b"));
    assert!(one.lines("not stepping down").is_empty());
}
