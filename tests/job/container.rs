//! In a container, without a service manager: what holds where `run` is its first process.
//!
//! A PID namespace is what counts of one: whatever its first process ends by, the kernel kills all that is
//! in it, and no signal from inside ends the first process, which is why the daemon is its child.

use std::process::Command;
use std::time::Duration;

use crate::common::command::without_our_variables;
use crate::common::*;
use rustix::process::Signal;

/// The TTL of these tests, and what may pass after it until the next one's job runs: etcd's own half second,
/// the delay, and some.
const TTL: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(4);

/// What comes without waiting for the lease to end.
const AT_ONCE: Duration = Duration::from_secs(1);

fn may_contain() -> bool {
    let within = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let works = Command::new("unshare").args(within).arg("true").output();
    let may = works.is_ok_and(|works| works.status.success());
    if !may {
        skipped("containers: they need root and unshare");
    }
    may
}

/// The processes of a contained replica, by the numbers that they have outside.
struct Inside {
    first: i32,
    daemon: i32,
    guardian: i32,
}

#[track_caller]
fn inside(replica: &Daemon) -> Inside {
    let only = |parent: i32| {
        let what = format!("{} has its processes", replica.name());
        eventually(SOON, &what, || {
            let children = process::children(parent);
            match children[..] {
                [child] => Ok(child),
                _ => Err(children),
            }
        })
    };
    let first = only(replica.pid());
    let daemon = only(first);
    let guardian = eventually(SOON, "there is a guardian", || {
        process::child(daemon, "incumbent-guard")
    });
    Inside {
        first,
        daemon,
        guardian,
    }
}

/// A leader in a container, another replica behind it, and the leader's token.
fn pair(scene: &Scene) -> (Daemon, Daemon, i64) {
    let (a, token) = scene.leader(scene.daemon("a").contained());
    let b = scene.waiter(scene.daemon("b").contained());
    (a, b, token)
}

/// How long nobody's job ran, once `b` leads.
fn gap(scene: &Scene, b: &Daemon) -> Duration {
    scene.wait_leads(b, 1, TTL + AFTER);
    scene.assert_no_overlap();
    let gaps = scene.record.history().handover_gaps();
    *gaps.last().unwrap()
}

#[test]
fn the_first_process_of_a_container_is_stopped_in_order() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, b, _) = pair(&scene);
    process::signal(inside(&a).first, Signal::TERM);
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let resigned = a.lines("resigned");
    assert_eq!(
        resigned[0].get("confirmed"),
        Some(&true.into()),
        "{}",
        resigned[0].text
    );
    assert!(gap(&scene, &b) < patience(AT_ONCE));
    a.wait_no_processes(SOON);
}

#[test]
fn an_ordinary_user_leads_in_a_container() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a").contained().ordinary());
    process::signal(inside(&a).first, Signal::TERM);
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    a.wait_no_processes(SOON);
}

#[test]
fn a_daemon_that_is_killed_inside_costs_no_ttl() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, b, _) = pair(&scene);
    process::signal(inside(&a).daemon, Signal::KILL);
    assert!(gap(&scene, &b) < patience(AT_ONCE));
    let resigned = a.wait_log("resigned", SOON);
    assert_eq!(
        resigned.get("by"),
        Some(&"guardian".into()),
        "{}",
        resigned.text
    );
    // As engines tell of it.
    assert_eq!(a.wait_exit(SOON).code(), Some(137));
    a.wait_no_processes(SOON);
}

#[test]
fn a_container_that_is_killed_takes_its_job_along_and_costs_the_ttl() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, b, token) = pair(&scene);
    process::signal(inside(&a).first, Signal::KILL);
    a.wait_exit(SOON);
    a.wait_no_processes(AT_ONCE);
    let lost = scene.record.history().last_beat_of(token).unwrap();
    let gap = gap(&scene, &b);
    assert!(gap > millis(500), "nobody could know so soon: {gap:?}");
    let late = Duration::from_nanos(process::monotonic_ns().saturating_sub(lost));
    assert!(late < patience(TTL + AFTER), "{late:?}");
    assert!(a.lines("resigned").is_empty());
}

#[test]
fn a_guardian_that_is_killed_inside_costs_the_term_and_no_ttl() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, b, _) = pair(&scene);
    let before = inside(&a);
    process::signal(before.guardian, Signal::KILL);
    assert!(gap(&scene, &b) < patience(AT_ONCE));
    eventually(SOON, "a stands again", || scene.place(&a) == Some(1));
    let after = inside(&a);
    assert_eq!((before.first, before.daemon), (after.first, after.daemon));
    assert_ne!(before.guardian, after.guardian);
}

#[test]
fn a_rust_job_of_a_daemon_that_stands_still_does_not_outlive_its_lease() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", "").contained());
    let b = scene.waiter(scene.rust("b", "").contained());
    let stopped = inside(&a).daemon;
    process::freeze(stopped);
    gap(&scene, &b);
    process::thaw(stopped);
    let last = scene.record.history().last_beat_of(token).unwrap();
    throughout(secs(1), "the stopped job beats no more", || {
        scene.record.history().last_beat_of(token) == Some(last)
    });
    scene.assert_no_overlap();
}

#[test]
fn nothing_inside_a_container_can_end_its_first_process() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a").contained());
    let Inside { first, .. } = inside(&a);
    // As a job would that runs as the same user.
    let within = format!("nsenter --target {first} --pid --mount kill -KILL 1");
    let killed = Command::new("sh").args(["-c", &within]).status().unwrap();
    assert!(killed.success());
    throughout(secs(1), "a leads", || scene.still_leads(&a, token));
    assert!(process::is_alive(first));
}

#[test]
fn exec_in_a_container_ends_with_the_code_of_its_command() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let endpoints = scene.cluster.endpoints().join(",");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command
        .arg(program())
        .args(["exec", "--endpoints", &endpoints, "--election", "/exec"]);
    command.args(["--", "sh", "-c", "test $PPID != 1 && exit 7"]);
    without_our_variables(&mut command);
    command.env(
        "INCUMBENT__RUNTIME_DIR",
        scene.cluster.sandbox().join("run"),
    );
    scene.cluster.sandbox().mark(&mut command, "exec");
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_image_without_time_zones_runs_jobs_and_schedules_in_utc() {
    if !may_contain() {
        return;
    }
    let scene = Scene::start(1);
    let nowhere = "mount -t tmpfs none /usr/share/zoneinfo";
    let (a, _) = scene.leader(scene.daemon("a").contained().mounting(nowhere));
    a.sigkill();
    let b = scene.daemon("b").contained().mounting(nowhere);
    let b = b
        .job(&["true"])
        .toml("job.schedule.cron = '* * * * * *'")
        .spawn();
    b.wait_nth("job ended", 2, SOON);
}
