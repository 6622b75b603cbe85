//! `incumbent release` as the unit's stop hook: whom it kills, and when it gives nothing back.

use std::time::Duration;

use serde_json::Value;

use crate::common::{eventually, secs, throughout};
use crate::replicas::{Replicas, Setup};
use crate::rig::rig;

#[test]
fn a_survivor_that_the_hook_may_not_kill_keeps_the_lease() {
    let Some(rig) = rig() else { return };
    // The longer the kill budget, the earlier the watchdog strikes before the lease ends: systemd and
    // the hook have 1.5 s to start and to renew it.
    let ttl = secs(10);
    let setup = Setup {
        instances: 2,
        config: "election.ttl = \"10s\"\njob.kill_budget = \"3s\"\njob.lost_grace = \"1s\"\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "keep", &setup);
    let job = replicas.wait_term(1);
    // Of root, so that the hook's user may not signal it.
    let group = replicas.property(1, "ControlGroup");
    let stranger = rig.ok(&[
        "sh",
        "-c",
        &format!(
            "sleep 600 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup{group}/cgroup.procs; echo $!"
        ),
    ]);
    // With both stopped nobody gives back in order; the watchdog kills the daemon alone.
    let guardian = replicas.guardian_of(&job);
    rig.ok(&["kill", "-STOP", &guardian, &replicas.daemon(1)]);
    replicas.wait_line(1, "whom the hook can't kill", |line| {
        let text = line["MESSAGE"].as_str().unwrap_or_default();
        text.contains("job can't be killed")
    });
    // For who lives might be the job. Nobody else renews any more, so this is longer than the lease
    // could last after a first renewal.
    let held = |status: &Value| status["leader"]["token"].as_i64() == Some(job.token);
    throughout(ttl + secs(1), "the hook holds the lease", || {
        let status = replicas.status();
        if held(&status) { Ok(()) } else { Err(status) }
    });
    let history = replicas.proven();
    assert_eq!(history.tokens(), [job.token], "{history:?}");
    assert!(rig.run(&["kill", "-0", &stranger]).status.success());
    rig.ok(&["kill", "-KILL", &stranger]);
    replicas.wait_term(2);
    replicas.proven();
}

#[test]
fn the_hook_kills_what_outlived_the_daemon_before_it_gives_the_lease_back() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 2,
        job: &["--ignore-term", "--child-own-session"],
        // Once its hooks are over systemd kills who is left, which must not do the hook's work.
        drop_in: "ExecStopPost=/bin/sleep 3\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "outlive", &setup);
    let job = replicas.wait_term(1);
    let child = eventually(secs(10), "the job has a child", || {
        let lives = replicas.record.history().lives;
        lives.into_iter().find(|life| !life.is_main())
    });
    let (daemon, guardian) = (replicas.daemon(1), replicas.guardian_of(&job));
    // Once a unit is being stopped, systemd starts the hook as soon as the daemon is gone, and
    // kills nobody else before.
    rig.ok(&["systemctl", "stop", "--no-block", &replicas.unit(1)]);
    replicas.wait_said(1, &["stopping"]);
    // Neither must get to see the other's death.
    rig.ok(&["kill", "-STOP", &guardian, &daemon]);
    rig.ok(&["kill", "-KILL", &guardian, &daemon]);
    replicas.wait_term(2);
    let resigned = replicas.wait_line(1, "that its hook resigned", |line| {
        line["MESSAGE"] == "resigned" && line["INCUMBENT_BY"] == "release"
    });
    assert_eq!(resigned["INCUMBENT_CONFIRMED"], "true", "{resigned}");
    // The unit runs it as root, and it works as the daemon's user.
    let elected = replicas.wait_line(1, "that it was elected", |line| {
        line["MESSAGE"] == "elected"
    });
    assert_ne!(elected["_UID"], "0", "{elected}");
    assert_eq!(resigned["_UID"], elected["_UID"], "{resigned}");
    let history = replicas.proven();
    let mut lives = history.lives.iter();
    let child = lives.find(|life| life.pid == child.pid && life.token == job.token);
    let seen_dead = replicas.property(1, "ExecMainExitTimestampMonotonic");
    let seen_dead = Duration::from_micros(seen_dead.parse().unwrap());
    let outlived = Duration::from_nanos(child.unwrap().last).saturating_sub(seen_dead);
    println!("the child lived on for {outlived:.1?}");
    assert!(!outlived.is_zero(), "nobody was left: {history:?}");
}

#[test]
fn release_by_hand_or_for_another_run_touches_nothing() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "hand");
    let life = replicas.wait_term(1);
    let config = "INCUMBENT_CONFIG=/etc/incumbent/hand-1.toml";
    let folder = "INCUMBENT__RUNTIME_DIR=/run/incumbent-hand-1";
    let by_hand = rig.run(&["env", config, folder, "incumbent", "release"]);
    assert_eq!(by_hand.status.code(), Some(3), "{by_hand:?}");
    let run = "INVOCATION_ID=00000000000000000000000000000000";
    let other = [
        "env",
        config,
        folder,
        run,
        "SERVICE_RESULT=signal",
        "incumbent",
        "release",
    ];
    let other = rig.run(&other);
    assert_eq!(other.status.code(), Some(3), "{other:?}");
    // Even with the right run, outside of the unit's control group.
    let run = format!("INVOCATION_ID={}", replicas.property(1, "InvocationID"));
    let outside = [
        "env",
        config,
        folder,
        &run,
        "SERVICE_RESULT=signal",
        "incumbent",
        "release",
    ];
    let outside = rig.run(&outside);
    assert_eq!(outside.status.code(), Some(3), "{outside:?}");
    eventually(secs(5), "the job beats on", || {
        let history = replicas.record.history();
        let now = history.runs_of(life.token).next().unwrap().last;
        now > life.last + 100_000_000
    });
    assert_eq!(replicas.queue()[0], "hand-1");
}

#[test]
fn the_stop_hook_closes_the_run_of_a_schedule_and_the_next_leader_runs_the_slot_again() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 2,
        config: "job.schedule.every = \"5s\"\njob.schedule.guarantee = \"at-least-once\"\n",
        // Within the unit's sandbox, as some will have it.
        drop_in: "ExecStopPost=\nExecStopPost=/usr/bin/incumbent release\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "slotted", &setup);
    let killed = replicas.wait_term(1);
    let unit = replicas.unit(1);
    rig.ok(&[
        "systemctl",
        "kill",
        "--kill-who=all",
        "--signal=KILL",
        &unit,
    ]);
    let next = replicas.wait_term(2);
    assert_ne!(next.token, killed.token);
    let told: Value = serde_json::from_str(&replicas.incumbent(&["runs", "-o", "json"])).unwrap();
    // What the next leader has begun goes on.
    let (again, closed) = (&told["open"], &told["runs"]);
    assert_eq!(closed.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(closed[0]["result"], "stopped", "{told}");
    assert_eq!(closed[0]["token"], killed.token, "{told}");
    assert_eq!(closed[0]["attempt"], 1, "{told}");
    assert_eq!(again["slot"], closed[0]["slot"], "{told}");
    assert_eq!(again["attempt"], 2, "{told}");
    replicas.proven();
}

#[test]
fn the_hook_gives_the_leases_of_all_jobs_back() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 2,
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, "many", &setup);
    let endpoints = rig.store().endpoints();
    for i in 1..=2 {
        let config = format!(
            "candidate.name = \"many-{i}\"\nelection.prefix = \"/many\"\n\
             etcd.endpoints = {endpoints:?}\nlog.format = \"journald\"\n\
             jobs.a.command = [\"sleep\", \"1000000\"]\njobs.b.command = [\"sleep\", \"1000000\"]\n"
        );
        rig.write(&format!("/etc/incumbent/many-{i}.toml"), &config);
    }
    let led = |by: &str, queue: usize| {
        let status = replicas.status();
        let jobs = status["jobs"].as_array().cloned().unwrap_or_default();
        let is_led = |job: &Value| {
            let stand = job["queue"].as_array().map_or(0, Vec::len);
            job["leader"]["name"] == by && stand == queue
        };
        if jobs.len() == 2 && jobs.iter().all(is_led) {
            Ok(())
        } else {
            Err(status)
        }
    };
    rig.ok(&["systemctl", "start", &replicas.unit(1)]);
    eventually(secs(20), "the first leads both", || led("many-1", 1));
    rig.ok(&["systemctl", "start", &replicas.unit(2)]);
    eventually(secs(20), "the second waits for both", || led("many-1", 2));
    let daemon = replicas.daemon(1);
    let guardians = rig.ok(&["ps", "-o", "pid=", "--ppid", &daemon]);
    let all: Vec<&str> = guardians.split_whitespace().chain([&*daemon]).collect();
    assert_eq!(all.len(), 3, "{guardians}");
    // None of them must get to see another's death.
    for signal in ["-STOP", "-KILL"] {
        rig.ok(&[&["kill", signal], &all[..]].concat());
    }
    // Long before the leases end, which last 15 s.
    eventually(secs(8), "the second leads both", || {
        let status = replicas.status();
        let jobs = status["jobs"].as_array().cloned().unwrap_or_default();
        if jobs.iter().all(|job| job["leader"]["name"] == "many-2") {
            Ok(())
        } else {
            Err(status)
        }
    });
    let journal = replicas.journal(1);
    let resigned = journal
        .iter()
        .filter(|line| line["MESSAGE"] == "resigned" && line["INCUMBENT_BY"] == "release");
    assert_eq!(resigned.count(), 2, "{journal:?}");
}
