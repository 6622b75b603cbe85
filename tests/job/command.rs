//! The job: how it is started, what it may do wrong, and what happens when it ends.

use crate::common::*;
use rustix::process::Signal;

/// Restarts without much waiting.
const QUICK: &str = "job = { restart_delay = '50ms', restart_delay_max = '500ms' }";

#[test]
fn the_job_finds_its_term_in_its_environment() {
    let scene = Scene::start(1);
    let file = scene.cluster.sandbox().join("environment");
    let script = format!(
        "env > {0}.new; mv {0}.new {0}; exec sleep 1000",
        file.display()
    );
    let builder = Daemon::builder(&scene.cluster, "a").job(&["sh", "-c", &script]);
    let a = builder.env("NOTIFY_SOCKET", "/nonexistent").spawn();
    let token = a.wait_elected(SOON);
    let environment = eventually(SOON, "the job has written its environment", || {
        std::fs::read_to_string(&file)
    });
    let value = |name: &str| {
        let mut lines = environment.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let key = scene.first();
    let config = a.folder().join("incumbent.toml");
    assert_eq!(value("INCUMBENT_TOKEN"), Some(token.to_string().as_str()));
    assert_eq!(token, key.create_revision);
    assert_eq!(value("INCUMBENT_ELECTION"), Some(PREFIX));
    assert_eq!(value("INCUMBENT_CANDIDATE"), Some("a"));
    assert_eq!(value("INCUMBENT_LEASE"), Some(key.lease_hex().as_str()));
    assert_eq!(value("INCUMBENT_LEADER_KEY"), Some(key.key.as_str()));
    assert_eq!(value("INCUMBENT_CONFIG"), config.to_str());
    let endpoints = value("INCUMBENT_ENDPOINTS").unwrap_or_default();
    assert!(
        endpoints.contains(&scene.cluster.endpoints()[0]),
        "{endpoints}"
    );
    assert_eq!(value("NOTIFY_SOCKET"), None);
}

#[test]
fn a_job_killed_from_outside_is_started_again_in_the_same_term() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a").toml(QUICK));
    process::signal(a.wait_job(SOON), Signal::KILL);
    let ended = a.wait_log("job ended", SOON);
    assert_eq!(ended.token(), token);
    assert!(
        ended.get("signal").is_some_and(|signal| !signal.is_null()),
        "{}",
        ended.text
    );
    assert_eq!(a.wait_nth("job started", 2, SOON).token(), token);
    eventually(SOON, "it runs again", || {
        scene.record.history().runs_of(token).count() == 2
    });
    scene.still_leads(&a, token).unwrap();
    scene.assert_no_overlap();
}

#[test]
fn a_run_starts_only_when_nothing_of_the_last_one_lives() {
    let scene = Scene::start(1);
    let flags = ["--exit-after", "300ms", "--child-own-session"];
    let job = scene.daemon_with("a", &flags).toml(QUICK);
    let (a, token) = scene.leader(job.toml("job.stop_grace = '500ms'"));
    eventually(SOON, "it ran three times", || {
        scene.record.history().runs_of(token).count() >= 3
    });
    let children = scene.record.history();
    assert!(children.lives.iter().filter(|life| !life.is_main()).count() >= 2);
    scene.still_leads(&a, token).unwrap();
    scene.assert_no_overlap();
}

#[test]
fn a_job_that_fails_at_once_is_tried_ever_slower_and_then_yields() {
    let scene = Scene::start(3);
    let failing = scene
        .daemon_with("a", &["--exit-after", "0s", "--code", "7"])
        .toml("job = { restart_delay = '100ms', restart_delay_max = '10s' }")
        .toml("job = { yield_after = 4, yield_cooldown = '2s' }");
    let (a, token) = scene.leader(failing);
    let b = scene.waiter(scene.daemon("b"));

    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    let next = scene.wait_leads(&b, 1, SOON);
    let ended = a.lines("job ended");
    assert_eq!(ended.len(), 4, "as many failures as yield_after has");
    assert!(ended.iter().all(|line| line.int("code") == 7));
    let history = scene.record.history();
    let starts: Vec<_> = history.runs_of(token).map(|life| life.start).collect();
    let (first, last) = (starts[1] - starts[0], starts[3] - starts[2]);
    assert!(last > first, "the delay grows: {first} ns, then {last} ns");
    scene.wait_marker(token);
    scene.assert_no_overlap();

    // It cools down, and stands in line again.
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    scene.still_leads(&b, next).unwrap();
}

#[test]
fn a_job_that_may_end_gives_the_leadership_back() {
    let scene = Scene::start(3);
    let once = scene
        .daemon_with("a", &["--exit-after", "3s"])
        .toml("job = { restart = 'on-failure', restart_delay_max = '1s' }");
    let (a, token) = scene.leader(once);
    let b = scene.waiter(scene.daemon("b"));
    assert_eq!(a.wait_log("job ended", SOON).int("code"), 0);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    scene.wait_leads(&b, 1, SOON);
    assert_eq!(scene.record.history().runs_of(token).count(), 1);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    scene.assert_no_overlap();
}

/// A job that cannot be started is a failed run with the shell's own code.
fn cannot_start(program: &str, code: i64) {
    let scene = Scene::start(1);
    let builder = Daemon::builder(&scene.cluster, "a").job(&[program]);
    let a = builder
        .toml("job = { restart_delay = '50ms', yield_after = 2, yield_cooldown = '1h' }")
        .spawn();
    let token = a.wait_elected(SOON);
    assert_eq!(a.wait_log("job ended", SOON).int("code"), code);
    assert_eq!(a.wait_nth("job ended", 2, SOON).int("code"), code);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    assert_eq!(scene.cluster.first(PREFIX), None);
    assert!(a.is_alive());
}

#[test]
fn a_job_that_does_not_exist_is_a_failed_run_with_127() {
    cannot_start("/nonexistent/job", 127);
}

#[test]
fn a_job_that_is_not_executable_is_a_failed_run_with_126() {
    cannot_start(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), 126);
}

#[test]
fn a_job_that_writes_100_mb_costs_neither_a_byte_nor_the_term() {
    const BYTES: u64 = 100_000_000;
    let scene = Scene::start(1);
    let noisy = scene.daemon_with("a", &["--spam", &BYTES.to_string()]);
    let (a, token) = scene.leader(noisy);
    eventually(secs(60), "all of it has come through", || {
        let written = a.output().written();
        if written >= BYTES {
            Ok(())
        } else {
            Err(written)
        }
    });
    assert_eq!(a.output().written(), BYTES);
    scene.still_leads(&a, token).unwrap();
    assert_eq!(scene.record.history().lives.len(), 1);
}

#[test]
fn a_reader_of_our_errors_that_stops_reading_costs_no_term() {
    let scene = Scene::start(3);
    // The job fills the pipe to its last byte, so that the daemon cannot write a line.
    let noisy = scene.daemon_with("a", &["--spam-errors", "1000000"]);
    let a = noisy.toml("log.filter = 'debug'").spawn();
    a.output().pause();
    eventually(SOON, "the pipe is full", || {
        let unread = a.output().unread_errors();
        if unread >= 60_000 {
            Ok(())
        } else {
            Err(unread)
        }
    });
    // Read through etcd and the record, since the log is what nobody reads.
    let token = eventually(SOON, "a leads", || {
        let first = scene.cluster.first(PREFIX)?.create_revision;
        scene.last_run(first).map(|life| life.token)
    });
    throughout(secs(12), "a leads on for three TTL", || {
        scene.still_leads(&a, token)
    });
    let now = process::monotonic_ns();
    eventually(SOON, "the job beats on", || {
        scene.record.history().last_beat_of(token) > Some(now)
    });

    a.output().resume();
    a.wait_of_term("job started", token, SOON);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(a.lines("term lost").is_empty());
    assert_eq!(scene.cluster.marker(PREFIX), Some(token));
}
