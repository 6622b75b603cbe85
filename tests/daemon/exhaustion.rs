//! Threads, processes and descriptors that can't be had for a moment.

use std::path::PathBuf;

use crate::common::ordinary::{is_root, limit};
use crate::common::*;

/// A check that takes a process of its own.
const CHECK: &str = "candidate.check = { command = ['true'], interval = '100ms', timeout = '2s', \
                     rise = 1, fall = 2 }";

/// No process or thread more than there are.
const NONE: Option<u64> = Some(1);

/// Room for a loaded machine: what is looked at here is no renewal that comes late.
const TTL: &str = "6s";

/// Waits until threads are gone that were started on demand and are idle, and no thread is to be had any
/// more.
fn exhaust(daemon: &Daemon) {
    throughout(secs(12), "the term goes on", || {
        daemon.lines("term lost").is_empty()
    });
    limit(daemon.pid(), "nproc", NONE);
}

/// A store that asks for a user, and what a replica needs to be that one.
fn secured() -> (Cluster, String, PathBuf) {
    let cluster = Cluster::start_with(1, &["--bcrypt-cost", "4"]);
    let password = cluster.sandbox().join("password");
    security::write(&password, "root-of-the-tests\n");
    cluster.turn_auth_on();
    let file = password.display();
    let login = format!("etcd = {{ username = 'root', password_file = '{file}' }}");
    (cluster, login, password)
}

/// The members by name.
fn by_name(cluster: &Cluster) -> String {
    let urls = cluster.endpoints();
    let names: Vec<_> = urls
        .iter()
        .map(|url| url.replace("127.0.0.1", "localhost"))
        .collect();
    format!("etcd.endpoints = {names:?}")
}

/// A replica leads, no thread is to be had, and the store is away for longer than its lease: it leads
/// again when the store is back, whether or not there are threads by then.
fn comes_back(cluster: &Cluster, settings: &str) {
    let daemon = Daemon::builder(cluster, "a")
        .toml(settings)
        .ttl(TTL)
        .ordinary()
        .spawn();
    daemon.wait_elected(SOON);
    daemon.wait_job(SOON);
    exhaust(&daemon);
    cluster.kill(0);
    daemon.wait_log("term lost", secs(20));
    cluster.restart(0);
    daemon.wait_elected_nth(2, secs(30));
    limit(daemon.pid(), "nproc", None);
    cluster.restart(0);
    daemon.sigterm();
    assert!(daemon.wait_exit(STOPPED).success());
}

#[test]
fn a_daemon_that_starts_without_threads_to_spare_says_so_and_waits_for_them() {
    if !is_root("a start without threads") {
        return;
    }
    let cluster = Cluster::start(1);
    // Threads of the daemon and its guardians and these themselves: at each number the next one is missing.
    let starts: Vec<_> = (1..16)
        .map(|most| {
            Daemon::builder(&cluster, &format!("a-{most}"))
                .prefix(&format!("/election-{most}"))
                .toml(CHECK)
                .limited("nproc", most)
                .ordinary()
                .spawn()
        })
        .collect();
    // One that waits can be ended.
    let ended = Daemon::builder(&cluster, "ended")
        .limited("nproc", 8)
        .ordinary()
        .spawn();
    throughout(secs(2), "each waits, or has all that it needs", || {
        starts.iter().all(Daemon::is_alive) && ended.is_alive()
    });
    ended.sigterm();
    assert!(ended.wait_exit(STOPPED).success());
    for (most, daemon) in (1..).zip(&starts).take(8) {
        let words = ["not to be had yet", "guardian not started"];
        let says = |line: &Line| words.iter().any(|words| line.text.contains(words));
        assert!(
            daemon.logs().iter().any(says),
            "{most}: {:?}",
            daemon.logs()
        );
    }
    for daemon in &starts {
        limit(daemon.pid(), "nproc", None);
        for guardian in process::children(daemon.pid()) {
            limit(guardian, "nproc", None);
        }
    }
    for daemon in &starts {
        daemon.wait_elected(SOON);
        daemon.sigterm();
    }
    for daemon in &starts {
        assert!(daemon.wait_exit(STOPPED).success());
    }
}

#[test]
fn a_password_is_read_without_a_thread_to_spare() {
    if !is_root("a password without threads") {
        return;
    }
    let (cluster, login, password) = secured();
    std::os::unix::fs::chown(&password, None, None).unwrap();
    std::fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    comes_back(&cluster, &login);
}

#[test]
fn a_name_is_looked_up_without_a_thread_to_spare() {
    if !is_root("a name without threads") {
        return;
    }
    let cluster = Cluster::start(1);
    let names = by_name(&cluster);
    comes_back(&cluster, &names);
}

#[test]
fn a_reload_without_a_thread_to_spare_is_refused_and_changes_nothing() {
    if !is_root("a reload without threads") {
        return;
    }
    let cluster = Cluster::start(1);
    let daemon = Daemon::builder(&cluster, "a").ttl(TTL).ordinary().spawn();
    let token = daemon.wait_elected(SOON);
    daemon.wait_job(SOON);
    exhaust(&daemon);
    daemon.sighup();
    let refused = daemon.wait_log("reload refused", SOON);
    let problem = refused.get("problem").unwrap().to_string();
    assert!(problem.contains("no thread"), "{problem}");
    limit(daemon.pid(), "nproc", None);
    daemon.sighup();
    daemon.wait_log("reloaded", SOON);
    let first = cluster.first(PREFIX).unwrap();
    assert_eq!(first.create_revision, token);
    assert!(daemon.lines("term lost").is_empty());
}

#[test]
fn a_guardian_of_checks_that_was_lost_is_started_once_it_can_be() {
    if !is_root("checks without threads") {
        return;
    }
    let cluster = Cluster::start(1);
    let daemon = Daemon::builder(&cluster, "a")
        .toml(CHECK)
        .ttl(TTL)
        .ordinary()
        .spawn();
    daemon.wait_elected(SOON);
    exhaust(&daemon);
    let checks = eventually(SOON, "there is a guardian of checks", || {
        process::child(daemon.pid(), "incumbent-check")
    });
    process::signal(checks, rustix::process::Signal::KILL);
    daemon.wait_log("unhealthy", SOON);
    daemon.wait_log("guardian not started", SOON);
    limit(daemon.pid(), "nproc", None);
    daemon.wait_elected_nth(2, SOON);
}

#[test]
fn a_guardian_that_was_lost_is_started_once_it_can_be_and_a_stop_waits_for_none() {
    if !is_root("a guardian without threads") {
        return;
    }
    let cluster = Cluster::start(1);
    let daemon = Daemon::builder(&cluster, "a").ordinary().spawn();
    daemon.wait_elected(SOON);
    daemon.wait_job(SOON);
    limit(daemon.pid(), "nproc", NONE);
    daemon.guardian_sigkill();
    daemon.wait_log("guardian not started", SOON);
    limit(daemon.pid(), "nproc", None);
    daemon.wait_elected_nth(2, SOON);
    limit(daemon.pid(), "nproc", NONE);
    daemon.guardian_sigkill();
    daemon.wait_nth("term lost", 2, SOON);
    daemon.sigterm();
    assert!(daemon.wait_exit(STOPPED).success());
}

#[test]
fn descriptors_that_run_out_cost_no_term() {
    let cluster = Cluster::start(1);
    let daemon = Daemon::builder(&cluster, "a").spawn();
    let token = daemon.wait_elected(SOON);
    daemon.wait_job(SOON);
    limit(daemon.pid(), "nofile", Some(4));
    daemon.sighup();
    daemon.wait_log("reload refused", SOON);
    // Through several leases, with connections that can't be accepted.
    let socket = daemon.folder().join("run/control.sock");
    throughout(secs(9), "the term goes on", || {
        drop(std::os::unix::net::UnixStream::connect(&socket));
        let lost = daemon.lines("term lost");
        if lost.is_empty() {
            Ok(())
        } else {
            Err(lost[0].text.clone())
        }
    });
    cluster.kill(0);
    daemon.wait_log("term lost", SOON);
    cluster.restart(0);
    limit(daemon.pid(), "nofile", None);
    assert!(daemon.wait_elected_nth(2, secs(30)) > token);
    daemon.sigterm();
    assert!(daemon.wait_exit(STOPPED).success());
}
