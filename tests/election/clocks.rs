//! Hosts whose clocks have nothing in common: each replica in a time namespace of its own, where it was
//! booted days earlier or later than the others, and slept for more of them or fewer.

use std::fs;

use crate::common::*;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// An election that no other test knows: who takes what another holds for left behind kills it.
fn scene(members: usize) -> Scene {
    let scene = Scene::start(members);
    let election = format!("/clocks-{}", scene.cluster.address(0).port());
    scene.in_election(&election)
}

/// What says that a replica took another's job for one that nobody holds.
const FENCED: &str = "fencing a process left behind";

#[test]
fn replicas_whose_clocks_are_days_apart_elect_and_hand_over_as_ever() {
    if !timens::may_shift_clocks("replicas whose clocks are days apart") {
        return;
    }
    let scene = scene(3);
    let links = Links::to(&scene.cluster);
    let builder = scene.daemon("a").clocks_ahead(3 * DAY, 3 * DAY);
    let (a, first) = scene.leader(builder.through(&links));
    let old = scene.candidate(&a);
    // The clock of the one has slept for a year, that of the other for less than none.
    let b = scene.waiter(scene.daemon("b").clocks_ahead(400 * DAY, DAY));
    let c = scene.waiter(scene.daemon("c").clocks_ahead(0, 7 * DAY));

    // Guardian and job go by the daemon's clock.
    let job = scene.last_run(first).unwrap().pid;
    let theirs = [a.pid(), a.guardian(), job].map(timens::of);
    assert!(theirs.iter().all(|it| *it == theirs[0]), "{theirs:?}");
    assert_ne!(theirs[0], timens::of(b.pid()));

    // Its own clock ends the job of the one that is cut off, and the store's its lease.
    let vigil = scene.cluster.watch_deletion(&old.key, 0);
    links.black_hole();
    let gone = vigil.wait(secs(20));
    scene.assert_over_before(first, gone);
    let second = scene.wait_leads(&b, 1, SOON);
    links.heal();
    let queue = ["b", "c", "a"];
    scene.cluster.wait_names(scene.election(), &queue);

    // Its guardian gives back, and what it leaves is proven dead.
    b.sigkill();
    let third = scene.wait_leads(&c, 1, SOON);
    scene.wait_marker(second);
    c.sigterm();
    let fourth = scene.wait_leads(&a, 2, SOON);
    assert!(first < second && second < third && third < fourth);
    scene.assert_no_overlap();
    let gaps = scene.record.history().handover_gaps();
    for gap in &gaps[1..] {
        assert!(*gap < patience(secs(1)), "{gaps:?}");
    }
    for daemon in [&a, &b, &c] {
        let fenced = daemon.lines(FENCED);
        assert!(fenced.is_empty(), "{}: {fenced:?}", daemon.name());
    }
}

#[test]
fn a_job_that_lives_under_another_clock_is_left_to_its_guardian() {
    if !timens::may_shift_clocks("a job that lives under another clock") {
        return;
    }
    let scene = scene(1);
    let (a, token) = scene.leader(scene.daemon("a").clocks_ahead(3 * DAY, 3 * DAY));
    for (name, ahead) in [("b", 0), ("c", 5 * DAY)] {
        let next = scene.waiter(scene.daemon(name).clocks_ahead(ahead, ahead));
        let lines = next.lines(FENCED);
        assert!(lines.is_empty(), "{lines:?}");
    }
    scene.still_leads(&a, token).unwrap();
    assert_eq!(scene.record.history().runs_of(token).count(), 1);
}

#[test]
fn what_is_left_of_a_run_under_another_clock_is_dead_before_the_next_one_starts() {
    if !timens::may_shift_clocks("what is left of a run under another clock") {
        return;
    }
    let scene = scene(1);
    let file = scene.cluster.sandbox().join("left");
    // Without a variable of ours it is known by its session, and by when that began.
    let job = format!("env -i sleep 1000 & echo $! >{}; wait", file.display());
    for (before, after) in [(40 * DAY, 0), (0, 40 * DAY)] {
        let builder = |ahead| {
            let builder = scene.daemon("a").clocks_ahead(ahead, ahead);
            builder.job(&["sh", "-c", &job])
        };
        fs::remove_file(&file).ok();
        let a = builder(before).spawn();
        a.wait_job(SOON);
        let left: i32 = eventually(SOON, "the job has written a number", || {
            fs::read_to_string(&file).ok()?.trim().parse().ok()
        });
        a.sigkill_both();
        assert!(process::is_alive(left), "it dies by itself");
        let again = builder(after).spawn();
        again.wait_job(SOON);
        assert!(!process::is_alive(left), "two jobs: {before} {after}");
        again.wait_log(FENCED, SOON);
        again.sigterm();
        again.wait_exit(STOPPED);
    }
}

// --- members ----------------------------------------------------------------------------------

#[test]
fn members_whose_clocks_are_hours_off_cost_no_term_whichever_of_them_leads() {
    let what = "members whose clocks are hours off";
    let Some(cluster) = Cluster::skewed("5h", false, &[], what) else {
        return;
    };
    cluster.start_all().unwrap();
    let scene = Scene::on(cluster);
    let daemon = |name| scene.daemon(name).ttl("5s");
    let (a, first) = scene.leader(daemon("a"));
    let b = scene.waiter(daemon("b"));
    let c = scene.waiter(daemon("c"));
    // Longer than a TTL with each.
    for leader in [1, 2] {
        scene.cluster.move_leader(leader);
        throughout(secs(6), "a leads on", || scene.still_leads(&a, first));
    }
    a.sigterm();
    let second = scene.wait_leads(&b, 1, SOON);
    scene.cluster.move_leader(1);
    b.sigkill();
    let third = scene.wait_leads(&c, 1, SOON);
    assert!(first < second && second < third);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
    for daemon in [&a, &b, &c] {
        for line in ["term lost", "rejoining"] {
            assert!(daemon.lines(line).is_empty(), "{line}");
        }
    }
    let checked = scene.cluster.incumbent(&["check", "--connect"]).run();
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
}
