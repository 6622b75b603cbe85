//! The check: who is unhealthy doesn't stand, and who turns unhealthy hands over in order.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::*;
use rustix::net::{RecvFlags, recv};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

/// A switch for a replica's check: it succeeds while the file is there.
struct Switch(PathBuf);

impl Switch {
    fn new(scene: &Scene, name: &str) -> Self {
        Self(scene.cluster.sandbox().join(&format!("{name}.well")))
    }

    fn on(self) -> Self {
        fs::write(&self.0, "").unwrap();
        self
    }

    fn turn_on(&self) {
        fs::write(&self.0, "").unwrap();
    }

    fn turn_off(&self) {
        fs::remove_file(&self.0).unwrap();
    }

    fn check(&self) -> String {
        check(&["test", "-e", self.0.to_str().unwrap()])
    }

    /// Hangs, with a process in a session of its own, while the switch is off.
    fn hanging_check(&self, pids: &Path) -> String {
        let script = format!(
            "[ -e {} ] && exit; setsid sleep 1000 & echo $! >> {1}; echo $$ >> {1}; wait",
            self.0.display(),
            pids.display()
        );
        check(&["sh", "-c", &script])
    }
}

fn check(command: &[&str]) -> String {
    format!(
        "candidate.check = {{ command = {command:?}, interval = '100ms', timeout = '2s', \
         rise = 2, fall = 2 }}"
    )
}

/// The guardian of a daemon's checks.
fn checker(daemon: &Daemon) -> i32 {
    let what = format!("{} has a guardian of checks", daemon.name());
    eventually(SOON, &what, || {
        process::child(daemon.pid(), "incumbent-check")
    })
}

/// The processes that were written down, once there are at least `n`.
fn written(pids: &Path, n: usize) -> Vec<i32> {
    eventually(SOON, "the check runs", || {
        let text = fs::read_to_string(pids).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if pids.len() >= n { Ok(pids) } else { Err(text) }
    })
}

fn wait_dead(pids: &[i32]) {
    eventually(SOON, "nothing of the check lives", || {
        let alive: Vec<_> = pids.iter().filter(|pid| process::is_alive(**pid)).collect();
        if alive.is_empty() {
            Ok(())
        } else {
            Err(format!("{alive:?}"))
        }
    });
}

#[test]
fn an_unhealthy_replica_never_leads() {
    let scene = Scene::start(3);
    let switch = Switch::new(&scene, "a");
    let a = scene.daemon("a").toml(&switch.check()).spawn();
    assert_eq!(a.wait_log("unhealthy", SOON).text("reason"), "exit code 1");
    let (b, _) = scene.leader(scene.daemon("b"));
    b.sigterm();
    assert_eq!(b.wait_exit(STOPPED).code(), Some(0));

    throughout(secs(2), "nobody stands", || {
        let names = scene.cluster.names(PREFIX);
        if names.is_empty() { Ok(()) } else { Err(names) }
    });
    assert!(a.lines("campaigning").is_empty());
    let told = a.status();
    assert_eq!(told["role"], "unhealthy", "{told}");
    assert_eq!(told["health"]["state"], "unhealthy", "{told}");
    assert_eq!(told["health"]["last"], "exit code 1", "{told}");
    let ready = a.ask("GET", "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "unhealthy\n"));
    assert!(a.metric("incumbent_healthy") < 0.5);
    assert!(a.get("/").contains("Its check fails: exit code 1"));

    switch.turn_on();
    scene.wait_leads(&a, 1, SOON);
    assert_eq!(a.status()["health"]["state"], "healthy");
    assert!(a.metric("incumbent_healthy") > 0.5);
    assert_eq!(a.ask("GET", "/readyz").status, 200);
    scene.assert_no_overlap();
}

#[test]
fn the_first_check_comes_before_the_first_candidacy() {
    let scene = Scene::start(1);
    let go = scene.cluster.sandbox().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let patient = check(&["sh", "-c", &script]).replace("'2s'", "'1h'");
    let a = scene.daemon("a").toml(&patient).spawn();
    a.wait_log("incumbent starts", SOON);
    throughout(secs(2), "it waits for its check", || {
        let (names, leases) = (scene.cluster.names(PREFIX), scene.cluster.leases());
        if names.is_empty() && leases.is_empty() {
            Ok(())
        } else {
            Err((names, leases))
        }
    });
    assert_eq!(a.status()["health"]["state"], "unknown");
    assert_eq!(a.ask("GET", "/readyz").status, 503);
    fs::write(go, "").unwrap();
    scene.wait_leads(&a, 1, SOON);
}

#[test]
fn a_leader_that_turns_unhealthy_hands_over_in_order_and_stands_again_once_healthy() {
    let scene = Scene::start(3);
    let switch = Switch::new(&scene, "a").on();
    let (a, token) = scene.leader(scene.daemon("a").toml(&switch.check()));
    let b = scene.waiter(scene.daemon("b"));
    let lease = scene.candidate(&a).lease;

    switch.turn_off();
    a.wait_log("unhealthy", SOON);
    let stopped = a.wait_log("job stopped", SOON);
    assert_eq!((stopped.token(), stopped.bool("killed")), (token, false));
    let resigned = a.wait_of_term("resigned", token, SOON);
    assert!(resigned.bool("confirmed"), "{}", resigned.text);
    assert_eq!(a.lines("check failed").len(), 2, "as many as fall says");
    let next = scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    scene.wait_no_lease(lease);
    assert!(scene.last_run(token).unwrap().ended, "asked, not killed");
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
    let why = eventually(SOON, "the history tells of the term", || {
        scene.cluster.get(&format!("/election.meta/terms/{token}"))
    });
    assert!(why.contains("\"reason\":\"unhealthy\""), "{why}");
    scene.cluster.wait_names(PREFIX, &["b"]);

    switch.turn_on();
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    scene.still_leads(&b, next).unwrap();
    assert!(a.lines("term lost").is_empty());
}

#[test]
fn a_leader_is_not_moved_by_fewer_failures_than_fall() {
    let scene = Scene::start(1);
    let count = scene.cluster.sandbox().join("count");
    // Every second check fails.
    let script = format!(
        "echo >> {0}; [ $(($(wc -l < {0}) % 2)) = 1 ]",
        count.display()
    );
    let (a, token) = scene.leader(scene.daemon("a").toml(&check(&["sh", "-c", &script])));
    eventually(SOON, "it failed often", || {
        a.lines("check failed").len() >= 5
    });
    scene.still_leads(&a, token).unwrap();
    assert!(a.lines("unhealthy").is_empty());
}

#[test]
fn an_orphan_of_a_check_that_ends_before_it_is_no_failure() {
    let scene = Scene::start(1);
    let script = "(setsid sleep 0.05 &); sleep 0.2";
    let (a, _) = scene.leader(scene.daemon("a").toml(&check(&["sh", "-c", script])));
    throughout(secs(2), "no check fails", || {
        let failed = a.lines("check failed");
        failed.first().map_or(Ok(()), |line| Err(line.text.clone()))
    });
}

#[test]
fn a_candidate_that_turns_unhealthy_leaves_the_queue_and_gives_its_lease_back() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let switch = Switch::new(&scene, "b").on();
    let b = scene.waiter(scene.daemon("b").toml(&switch.check()));
    let lease = scene.candidate(&b).lease;
    switch.turn_off();
    scene.wait_no_lease(lease);
    assert_eq!(scene.cluster.names(PREFIX), ["a"]);
    assert!(b.wait_log("resigned", SOON).bool("confirmed"));
    switch.turn_on();
    scene.cluster.wait_names(PREFIX, &["a", "b"]);
    assert_ne!(scene.candidate(&b).lease, lease);
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_check_that_hangs_is_killed_at_its_timeout_with_all_that_came_of_it_and_has_failed() {
    let scene = Scene::start(1);
    let pids = scene.cluster.sandbox().join("pids");
    let switch = Switch::new(&scene, "a").on();
    let (a, token) = scene.leader(scene.daemon("a").toml(&switch.hanging_check(&pids)));
    switch.turn_off();
    let unhealthy = a.wait_log("unhealthy", SOON);
    assert_eq!(unhealthy.text("reason"), "killed after 2000 ms");
    // Two failures make it unhealthy, and each of these checks was dead before the next began.
    wait_dead(&written(&pids, 4)[..4]);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    switch.turn_on();
    scene.wait_leads(&a, 2, SOON);
}

#[test]
fn no_check_outlives_a_daemon_that_is_killed() {
    let scene = Scene::start(1);
    let pids = scene.cluster.sandbox().join("pids");
    let switch = Switch::new(&scene, "a");
    let patient = switch.hanging_check(&pids).replace("'2s'", "'1h'");
    let a = scene.daemon("a").toml(&patient).spawn();
    let check = written(&pids, 2);
    a.sigkill();
    wait_dead(&check);
    a.wait_no_processes(SOON);
}

#[test]
fn no_check_holds_up_the_end_of_a_daemon_or_of_its_job() {
    let scene = Scene::start(3);
    let pids = scene.cluster.sandbox().join("pids");
    let switch = Switch::new(&scene, "a").on();
    let patient = switch.hanging_check(&pids).replace("'2s'", "'1h'");
    let (a, token) = scene.leader(scene.daemon("a").toml(&patient));
    let b = scene.waiter(scene.daemon("b").toml(&patient));
    let c = scene.waiter(scene.daemon("c"));
    switch.turn_off();
    let check = written(&pids, 4);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let next = scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    b.sigkill();
    scene.wait_leads(&c, 1, SOON);
    scene.wait_marker(next);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
    wait_dead(&check);
    a.wait_no_processes(SOON);
    b.wait_no_processes(SOON);
}

#[test]
fn a_guardian_of_checks_that_is_killed_is_replaced_and_costs_no_term() {
    let scene = Scene::start(1);
    let switch = Switch::new(&scene, "a").on();
    let calm = switch.check().replace("'100ms'", "'1s'");
    let (a, token) = scene.leader(scene.daemon("a").toml(&calm));
    let old = checker(&a);
    process::signal(old, Signal::KILL);
    a.wait_log("guardian of checks lost", SOON);
    eventually(SOON, "there is another", || checker(&a) != old);
    switch.turn_off();
    a.wait_log("unhealthy", SOON);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    assert!(a.lines("term lost").is_empty());
    assert!(!process::children(a.pid()).contains(&old), "it was reaped");
}

#[test]
fn no_check_outlives_its_guardian_that_is_killed() {
    let scene = Scene::start(1);
    let pids = scene.cluster.sandbox().join("pids");
    let switch = Switch::new(&scene, "a").on();
    let patient = switch.hanging_check(&pids).replace("'2s'", "'1h'");
    let (a, token) = scene.leader(scene.daemon("a").toml(&patient));
    switch.turn_off();
    let check = written(&pids, 2);
    switch.turn_on();
    let old = checker(&a);
    process::signal(old, Signal::KILL);
    wait_dead(&check);
    eventually(SOON, "it is reaped, and there is another", || {
        let mut children = process::children(a.pid());
        children.sort_unstable();
        let mut expected = vec![a.guardian(), checker(&a)];
        expected.sort_unstable();
        // The next check is the guardian's child, not the daemon's.
        if children == expected && checker(&a) != old {
            Ok(())
        } else {
            Err(children)
        }
    });
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_guardian_of_checks_that_stands_still_is_a_check_that_fails() {
    let scene = Scene::start(1);
    let switch = Switch::new(&scene, "a").on();
    let (a, token) = scene.leader(scene.daemon("a").toml(&switch.check()));
    let checker = checker(&a);
    process::freeze(checker);
    let unhealthy = a.wait_log("unhealthy", SOON);
    assert_eq!(unhealthy.text("reason"), "no answer");
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    process::thaw(checker);
    scene.wait_leads(&a, 2, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_lost_guardian_costs_that_of_the_checks_nothing() {
    let scene = Scene::start(1);
    let switch = Switch::new(&scene, "a").on();
    let (a, token) = scene.leader(scene.daemon("a").toml(&switch.check()));
    let checker_before = checker(&a);
    let old = a.guardian_sigkill();
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    scene.wait_leads(&a, 2, SOON);
    assert_ne!(a.guardian(), old);
    assert_eq!(checker(&a), checker_before);
    switch.turn_off();
    a.wait_log("unhealthy", SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_daemon_without_a_check_has_no_process_more() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    assert_eq!(process::children(a.pid()), [a.guardian()]);
    assert!(a.status().get("health").is_none());
    assert!(!a.get("/metrics").contains("incumbent_healthy"));
}

#[test]
fn how_it_is_checked_can_be_reloaded_and_whether_can_not() {
    let scene = Scene::start(1);
    let switch = Switch::new(&scene, "a").on();
    let (a, _) = scene.leader(scene.daemon("a").toml(&switch.check()));
    a.reload("candidate.check.command = ['sh', '-c', 'exit 7']");
    let unhealthy = a.wait_log("unhealthy", SOON);
    assert_eq!(unhealthy.text("reason"), "exit code 7");

    let b = scene.daemon("b").spawn();
    scene.wait_leads(&b, 1, SOON);
    b.reload(&switch.check());
    let refused = b.wait_log("reload refused", SOON);
    let expected =
        "candidate.check can't change while the daemon runs: it is off, and was to become on";
    assert_eq!(refused.text("problem"), expected);
}

#[test]
fn a_reload_runs_the_next_check_at_once() {
    let scene = Scene::start(1);
    let seldom = check(&["false"]).replace("'100ms'", "'1h'");
    let a = scene.daemon("a").toml(&seldom).spawn();
    a.wait_log("unhealthy", SOON);
    a.reload("candidate.check = { command = ['true'], rise = 1 }");
    scene.wait_leads(&a, 1, SOON);
}

#[test]
fn a_reload_reaches_the_guardian_of_checks_too() {
    let scene = Scene::start(1);
    let calm = check(&["true"]).replace("'100ms'", "'1h'");
    let (a, _) = scene.leader(scene.daemon("a").toml(&calm));
    let checker = checker(&a);
    // What it is told lies unread.
    process::freeze(checker);
    a.reload("log.format = 'text'");
    eventually(SOON, "it is told of the new format", || {
        let unread = unread(checker);
        let log = unread.lines().find(|line| line.contains("log"));
        match log {
            Some(line) if line.contains("text") => Ok(()),
            _ => Err(unread),
        }
    });
}

/// What lies in the socket that is the standard input of this process, and stays there.
fn unread(pid: i32) -> String {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let socket = pidfd_getfd(pidfd, 0, PidfdGetfdFlags::empty()).unwrap();
    let mut text = vec![0; 64 * 1024];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (length, _) = recv(socket, &mut text[..], flags).unwrap_or_default();
    String::from_utf8(text[..length].to_vec()).unwrap()
}

#[test]
fn exec_waits_for_its_check() {
    let cluster = Cluster::start(1);
    let answer = cluster
        .incumbent(&["exec", "--wait", "1s", "--", "echo", "ran"])
        .env("INCUMBENT__RUNTIME_DIR", cluster.sandbox().join("run"))
        .env("INCUMBENT__CANDIDATE__CHECK__COMMAND", "[\"false\"]")
        .run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(answer.errors.contains("not elected"), "{}", answer.errors);
    assert_eq!(cluster.names(PREFIX), Vec::<String>::new());
    assert_eq!(cluster.leases(), Vec::<i64>::new());
}
