//! Planned stops: the job ends first, then the term, then the daemon.

use crate::common::command::is_there;
use crate::common::*;

#[test]
fn sigterm_ends_the_job_then_the_term_and_exits_0() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let lease = scene.candidate(&a).lease;
    let b = scene.waiter(scene.daemon("b"));

    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let stopped = a.wait_log("job stopped", SOON);
    assert_eq!((stopped.token(), stopped.bool("killed")), (token, false));
    let resigned = a.wait_log("resigned", SOON);
    assert_eq!(resigned.token(), token);
    assert!(resigned.bool("confirmed"), "{}", resigned.text);
    assert_eq!(resigned.text("by"), "daemon");

    let next = scene.wait_leads(&b, 1, SOON);
    assert!(next > token);
    scene.wait_marker(token);
    scene.wait_no_lease(lease);
    assert!(
        scene.last_run(token).unwrap().ended,
        "it was asked, not killed"
    );
    a.wait_no_processes(SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
}

#[test]
fn sigint_is_a_planned_stop_too() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    process::signal(a.pid(), rustix::process::Signal::INT);
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(a.wait_log("resigned", SOON).bool("confirmed"));
    assert_eq!(scene.cluster.first(PREFIX), None);
    assert!(scene.last_run(token).unwrap().ended);
    assert_eq!(scene.cluster.leases(), Vec::<i64>::new());
}

#[test]
fn a_daemon_that_only_starts_outlives_the_signals_that_ask_for_less_than_its_end() {
    let scene = Scene::start(1);
    let a = scene.daemon("a").spawn();
    a.wait_log("incumbent starts", SOON);
    a.sigusr1();
    a.sighup();
    scene.wait_leads(&a, 1, SOON);

    let b = scene.daemon("b").spawn();
    b.wait_log("incumbent starts", SOON);
    b.sigterm();
    assert_eq!(b.wait_exit(STOPPED).code(), Some(0));
    scene.cluster.wait_names(PREFIX, &["a"]);
}

#[test]
fn a_waiting_candidate_leaves_the_queue_and_disturbs_nobody() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    let lease = scene.candidate(&b).lease;

    b.sigterm();
    assert_eq!(b.wait_exit(STOPPED).code(), Some(0));
    scene.cluster.wait_names(PREFIX, &["a", "c"]);
    scene.wait_no_lease(lease);
    throughout(secs(1), "a leads on", || scene.still_leads(&a, token));
    assert!(c.lines("elected").is_empty());

    a.sigterm();
    scene.wait_leads(&c, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_job_that_takes_longer_than_the_ttl_to_end_is_waited_for() {
    let scene = Scene::start(3);
    let slow = ["--end-after-term", "6s"];
    let slow = scene.daemon_with("a", &slow).toml("job.stop_grace = '30s'");
    let (a, token) = scene.leader(slow);
    let b = scene.waiter(scene.daemon("b"));

    a.sigterm();
    scene.record.wait_asked(token, SOON);
    throughout(secs(5), "a keeps its place while its job ends", || {
        scene.still_leads(&a, token)
    });
    assert_eq!(a.wait_exit(SOON).code(), Some(0));
    assert!(!a.wait_log("job stopped", SOON).bool("killed"));
    scene.wait_leads(&b, 1, SOON);
    assert!(scene.last_run(token).unwrap().ended);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
}

#[test]
fn a_job_that_ignores_sigterm_is_killed_when_its_grace_is_over() {
    let scene = Scene::start(1);
    let stubborn = scene.daemon_with("a", &["--ignore-term"]);
    let (a, token) = scene.leader(stubborn.toml("job.stop_grace = '1s'"));
    let b = scene.waiter(scene.daemon("b"));

    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let stopped = a.wait_log("job stopped", SOON);
    assert!(stopped.bool("killed"), "{}", stopped.text);
    assert!(stopped.int("took_ms") >= 1000, "{}", stopped.text);
    let life = scene.last_run(token).unwrap();
    let grace = life.last - life.asked.expect("it was asked first");
    assert!(grace >= 900_000_000, "its grace was {grace} ns");
    scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    scene.assert_no_overlap();
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_killed_before_the_term_ends() {
    let scene = Scene::start(1);
    let job = scene.daemon_with("a", &["--child-own-session"]);
    let (a, token) = scene.leader(job.toml("job.stop_grace = '1s'"));
    let b = scene.waiter(scene.daemon("b"));
    eventually(SOON, "the grandchild lives", || {
        scene
            .record
            .history()
            .lives
            .iter()
            .any(|life| !life.is_main())
    });

    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    scene.wait_leads(&b, 1, SOON);
    scene.wait_job_over(token, millis(10));
    scene.assert_no_overlap();
}

#[test]
fn a_job_that_stands_still_is_woken_to_hear_its_stop_signal() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a").toml("job.stop_grace = '1s'"));
    process::freeze(a.wait_job(SOON));
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(!a.wait_log("job stopped", SOON).bool("killed"));
    scene.wait_marker(token);
    a.wait_no_processes(SOON);
}

#[test]
fn a_second_sigterm_kills_the_job_and_still_resigns() {
    let scene = Scene::start(1);
    let stubborn = scene.daemon_with("a", &["--ignore-term"]);
    let (a, token) = scene.leader(stubborn.toml("job.stop_grace = '1h'"));
    let b = scene.waiter(scene.daemon("b"));

    a.sigterm();
    scene.record.wait_asked(token, SOON);
    assert!(a.is_alive(), "it waits for the job");
    a.sigterm_again();
    assert_eq!(a.wait_exit(secs(3)).code(), Some(0));
    assert!(a.wait_log("job stopped", SOON).bool("killed"));
    assert!(a.wait_log("resigned", SOON).bool("confirmed"));
    scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
}

#[test]
fn a_stop_that_arrives_twice_leaves_the_job_its_grace() {
    use rustix::process::Signal;
    let scene = Scene::start(1);
    let slow = scene.daemon_with("a", &["--end-after-term", "2s"]);
    let (a, token) = scene.leader(slow.toml("job.stop_grace = '1h'"));
    // As from `timeout`, a terminal and the shell in it.
    for signal in [Signal::TERM, Signal::INT, Signal::TERM, Signal::TERM] {
        process::signal(a.pid(), signal);
        a.wait_log("stopping", SOON);
    }
    assert_eq!(a.wait_exit(secs(10)).code(), Some(0));
    assert!(!a.wait_log("job stopped", SOON).bool("killed"));
    assert!(a.lines("stopping at once").is_empty());
    assert!(scene.last_run(token).unwrap().ended);
}

#[test]
fn sigquit_kills_the_job_at_once_and_still_resigns() {
    let scene = Scene::start(1);
    let stubborn = || {
        let job = scene.daemon_with("a", &["--ignore-term"]);
        job.toml("job.stop_grace = '1h'")
    };
    for after_a_stop in [true, false] {
        let (a, token) = scene.leader(stubborn());
        if after_a_stop {
            a.sigterm();
            scene.record.wait_asked(token, SOON);
        }
        a.sigquit();
        assert_eq!(a.wait_exit(secs(3)).code(), Some(0), "{after_a_stop}");
        assert!(a.wait_log("job stopped", SOON).bool("killed"));
        assert!(a.wait_log("resigned", SOON).bool("confirmed"));
        scene.wait_marker(token);
    }
    scene.assert_no_overlap();
}

#[test]
fn sigterm_with_the_store_away_ends_the_job_and_exits_0_unconfirmed() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    scene.cluster.stop_all();
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(scene.last_run(token).unwrap().ended);
    let resigned = a.wait_log("resigned", SOON);
    assert!(!resigned.bool("confirmed"), "{}", resigned.text);
    a.wait_no_processes(SOON);
    // The lease is over by itself.
    assert!(!a.folder().join("run/lease.json").exists());
}

#[test]
fn an_exit_waits_until_the_lease_file_is_gone() {
    if !is_there("strace", "a slow removal of the lease file") {
        return;
    }
    let scene = Scene::start(1);
    let slow = scene.daemon("a").slowed("unlinkat", secs(1));
    let (a, _) = scene.leader(slow);
    a.sigterm();
    assert_eq!(a.wait_exit(SOON).code(), Some(0));
    assert!(!a.folder().join("run/lease.json").exists());
}

#[test]
fn a_second_sigterm_tries_a_store_that_hangs_once_more_and_leaves_the_rest_to_the_stop_hook() {
    let scene = Scene::start(1);
    let stubborn = scene.daemon_with("a", &["--ignore-term"]).ttl("60s");
    let (a, token) = scene.leader(stubborn.toml("job.stop_grace = '1h'"));
    a.sigterm();
    scene.record.wait_asked(token, SOON);
    scene.cluster.freeze(0);
    a.sigterm_again();
    // One attempt takes 1.5 s at most, and the lease lasts for most of a minute yet.
    assert_eq!(a.wait_exit(secs(10)).code(), Some(0));
    let resigned = a.wait_log("resigned", SOON);
    assert!(!resigned.bool("confirmed"), "{}", resigned.text);
    assert!(a.folder().join("run/lease.json").exists());
}

#[test]
fn sigusr1_hands_over_and_stands_in_line_again() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let lease = scene.candidate(&a).lease;
    let b = scene.waiter(scene.daemon("b"));

    a.sigusr1();
    let next = scene.wait_leads(&b, 1, SOON);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_ne!(
        scene.candidate(&a).lease,
        lease,
        "a fresh lease for every candidacy"
    );
    assert!(a.is_alive() && a.lines("term lost").is_empty());
    scene.wait_marker(token);

    b.sigusr1();
    let back = scene.wait_leads(&a, 2, SOON);
    assert!(back > next && next > token);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
}

#[test]
fn sigusr1_with_nobody_else_there_changes_nothing() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let before = a.logs().len();
    a.sigusr1();
    eventually(SOON, "it says that nobody else is there", || {
        a.logs().len() > before
    });
    throughout(secs(2), "a leads on", || scene.still_leads(&a, token));
    let history = scene.record.history();
    assert_eq!(history.lives.len(), 1, "{history:?}");
}

#[test]
fn a_reload_changes_the_format_of_the_guardians_log_too() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let job = a.wait_job(SOON);
    let lines = |part: &str| {
        let lines = a.logs().into_iter().map(|line| line.text);
        lines.filter(|line| line.contains(part)).collect::<Vec<_>>()
    };
    a.reload("log.format = 'text'");
    eventually(SOON, "it reloads", || !lines("reloaded").is_empty());
    // The guardian starts the next run, so it has heard what came before.
    process::signal(job, rustix::process::Signal::KILL);
    eventually(SOON, "the job is started again", || {
        lines("job started").len() == 2
    });
    a.sigkill();
    let resigned = eventually(SOON, "the guardian says that it resigned", || {
        lines("resigned").pop()
    });
    assert!(!resigned.starts_with('{'), "{resigned}");
}

#[test]
fn sighup_gives_the_next_run_a_new_command_and_keeps_the_term() {
    let scene = Scene::start(1);
    let quick = "job = { restart_delay = '50ms', restart_delay_max = '1s' }";
    let (a, token) = scene.leader(scene.daemon("a").toml(quick));
    let job = a.wait_job(SOON);

    let after = Record::new(scene.cluster.sandbox(), "after");
    a.reload(&format!("job.command = {:?}", after.command(&[])));
    throughout(secs(1), "the run goes on as it was", || {
        process::is_alive(job) && scene.still_leads(&a, token).is_ok()
    });
    assert_eq!(after.history().lives.len(), 0);

    process::signal(job, rustix::process::Signal::KILL);
    after.wait_run(token, SOON);
    scene.still_leads(&a, token).unwrap();
    assert_eq!(
        scene.record.history().lives.len(),
        1,
        "the old command ran once"
    );
}
