//! A job in Rust: it runs in the daemon, so where a command would be killed, the daemon is.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::common::*;
use rustix::process::Signal;

/// Restarts without much waiting.
const QUICK: &str = "job = { restart_delay = '50ms', restart_delay_max = '500ms' }";

/// Waits until the daemon was killed, and returns when that was seen.
#[track_caller]
fn wait_killed(daemon: &Daemon, budget: Duration) -> u64 {
    let status = daemon.wait_exit(budget);
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
    process::monotonic_ns()
}

/// Checks that the guardian of a killed daemon gave its term back, by the key that was there still.
#[track_caller]
fn assert_given_back_by_guardian(scene: &Scene, daemon: &Daemon, token: i64) {
    let resigned = daemon.wait_of_term("resigned", token, SOON);
    assert_eq!(resigned.text("by"), "guardian");
    assert!(resigned.bool("confirmed"));
    scene.wait_marker(token);
}

#[test]
fn a_rust_job_hands_over_on_sigterm() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", ""));
    let b = scene.waiter(scene.rust("b", ""));
    let started = a.wait_of_term("job started", token, SOON);
    assert!(started.get("pid").is_none(), "{}", started.text);
    a.sigterm();
    let next = scene.wait_leads(&b, 1, SOON);
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    assert!(!a.wait_of_term("job stopped", token, SOON).bool("killed"));
    assert!(a.lines("term lost").is_empty());
    assert!(next > token);
    let run = scene.last_run(token).unwrap();
    assert!(run.asked.is_some() && run.ended, "{run}");
    assert_eq!(scene.cluster.marker(PREFIX), Some(token));
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
}

#[test]
fn a_rust_job_hands_over_to_a_command_and_back() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.rust("a", ""));
    let b = scene.waiter(scene.daemon("b"));
    a.sigusr1();
    scene.wait_leads(&b, 1, SOON);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    b.sigterm();
    scene.wait_leads(&a, 2, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
}

/// A run that fails again and again is tried ever slower, in one term and one daemon.
#[track_caller]
fn fails_again_and_again(settings: &str, what: &str) {
    let scene = Scene::start(1);
    let failing = scene.rust("a", settings);
    let a = failing
        .toml("job = { restart_delay = '100ms', restart_delay_max = '10s' }")
        .toml("job = { yield_after = 4, yield_cooldown = '1h' }")
        .spawn();
    let token = a.wait_elected(SOON);
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    let ended = a.lines("job ended");
    assert_eq!(ended.len(), 4, "as many failures as yield_after has");
    for line in &ended {
        assert_eq!((line.token(), line.int("code")), (token, 1));
        assert!(line.text("error").contains(what), "{}", line.text);
    }
    let at: Vec<_> = ended.iter().map(|line| line.read_at).collect();
    let (first, last) = (at[1] - at[0], at[3] - at[2]);
    assert!(last > first, "the delay grows: {first} ns, then {last} ns");
    assert!(a.is_alive());
    scene.assert_no_overlap();
}

#[test]
fn an_error_is_a_failed_run() {
    fails_again_and_again("ends_after = 10, ends = 'error'", "it is to fail");
}

#[test]
fn a_panic_is_a_failed_run() {
    fails_again_and_again(
        "ends_after = 10, ends = 'panic'",
        "panicked: it is to panic",
    );
}

#[test]
fn a_job_that_can_not_be_made_is_a_failed_run() {
    fails_again_and_again("not_made = 'error'", "it can't be made");
}

#[test]
fn a_job_that_panics_while_it_is_made_is_a_failed_run() {
    fails_again_and_again("not_made = 'panic'", "panicked: it can't be made");
}

#[test]
fn a_run_that_ends_well_is_followed_by_another_in_the_same_term() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", "ends_after = 100").toml(QUICK));
    eventually(SOON, "it ran three times", || {
        scene.record.history().runs_of(token).count() >= 3
    });
    assert_eq!(a.wait_log("job ended", SOON).int("code"), 0);
    scene.still_leads(&a, token).unwrap();
    scene.assert_no_overlap();
}

/// A job with these settings is told to stop and is not over at the end of `stop_grace`: so is the
/// daemon then, and the term is given back at once.
fn outstays_its_grace(settings: &str) {
    let scene = Scene::start(1);
    let stubborn = scene.rust("a", settings).toml("job.stop_grace = '1s'");
    let (a, token) = scene.leader(stubborn);
    let b = scene.waiter(scene.rust("b", ""));
    let asked = process::monotonic_ns();
    a.sigterm();
    let killed = wait_killed(&a, secs(5));
    let took = Duration::from_nanos(killed - asked);
    assert!(took >= millis(1000), "killed after {took:?}");
    let lost = a.wait_of_term("term lost", token, SOON);
    assert_eq!(lost.text("reason"), "job_stuck");
    assert_given_back_by_guardian(&scene, &a, token);
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
    let beat = scene.record.history().last_beat_of(token).unwrap();
    assert!(
        beat > asked + 900_000_000,
        "it was not what it was taken for: it ended by itself"
    );
}

#[test]
fn a_job_that_ignores_the_stop_takes_the_daemon_with_it() {
    outstays_its_grace("told = 'goes_on'");
}

#[test]
fn a_job_that_leaves_a_thread_behind_takes_the_daemon_with_it() {
    outstays_its_grace("leaves = 'thread'");
}

#[test]
fn a_job_that_leaves_a_blocking_task_behind_takes_the_daemon_with_it() {
    outstays_its_grace("leaves = 'blocking'");
}

#[test]
fn a_second_sigterm_kills_the_daemon_of_a_job_that_goes_on_within_the_kill_budget() {
    let scene = Scene::start(1);
    let stubborn = scene.rust("a", "told = 'goes_on'");
    let (a, token) = scene.leader(stubborn.toml("job.stop_grace = '1h'"));
    let b = scene.waiter(scene.rust("b", ""));
    a.sigterm();
    a.wait_log("stopping", SOON);
    throughout(millis(1100), "it waits", || a.is_alive());
    let asked = process::monotonic_ns();
    a.sigterm();
    let took = Duration::from_nanos(wait_killed(&a, secs(5)) - asked);
    assert!(took < patience(millis(1000)), "killed after {took:?}");
    assert_given_back_by_guardian(&scene, &a, token);
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

/// `stop_grace` may be longer than the lease, which is renewed meanwhile.
#[test]
fn a_job_that_takes_its_time_has_all_of_its_grace() {
    let scene = Scene::start(1);
    let slow = scene.rust("a", "told = { ends_after = 6000 }");
    let (a, token) = scene.leader(slow.toml("job.stop_grace = '20s'"));
    let b = scene.waiter(scene.rust("b", ""));
    a.sigterm();
    assert_eq!(a.wait_exit(secs(15)).code(), Some(0));
    assert!(scene.last_run(token).unwrap().ended);
    assert!(a.lines("term lost").is_empty());
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
}

/// What a job leaves behind when it ends by itself has `stop_grace`, as a command's children have:
/// else this replica would lead for ever and run nothing.
fn ends_but_not_wholly(leaves: &str) {
    let scene = Scene::start(1);
    let settings = format!("ends_after = 300, ends = 'error', leaves = '{leaves}'");
    let half_ended = scene.rust("a", &settings).toml(QUICK);
    let (a, token) = scene.leader(half_ended.toml("job.stop_grace = '1s'"));
    let b = scene.waiter(scene.rust("b", ""));
    wait_killed(&a, secs(8));
    let lost = a.wait_of_term("term lost", token, SOON);
    assert_eq!(lost.text("reason"), "job_stuck");
    assert_eq!(scene.record.history().runs_of(token).count(), 1);
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_failed_run_that_leaves_a_thread_behind_is_followed_by_no_other() {
    ends_but_not_wholly("thread");
}

#[test]
fn a_failed_run_that_leaves_a_blocking_task_behind_is_followed_by_no_other() {
    ends_but_not_wholly("blocking");
}

#[test]
fn a_revoked_lease_kills_the_daemon_of_a_job_that_goes_on_within_the_kill_budget() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", "told = 'goes_on'"));
    let candidate = scene.candidate(&a);
    let b = scene.waiter(scene.rust("b", ""));
    let vigil = scene.cluster.watch_deletion(&candidate.key, 0);
    scene.cluster.revoke(candidate.lease);
    let gone = vigil.wait(SOON);
    wait_killed(&a, secs(5));
    let last = scene.record.history().last_beat_of(token).unwrap();
    let overrun = Duration::from_nanos(last.saturating_sub(gone));
    assert!(
        overrun > millis(100),
        "it ended by itself after {overrun:?}"
    );
    assert!(
        overrun < patience(millis(700)),
        "it went on for {overrun:?}"
    );
    let reasons: Vec<_> = a.lines("term lost");
    assert!(reasons.iter().any(|line| line.token() == token));
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_revoked_lease_ends_a_job_that_listens_and_the_daemon_stands_again() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", ""));
    scene.cluster.revoke(scene.candidate(&a).lease);
    let lost = a.wait_of_term("term lost", token, SOON);
    assert_eq!(lost.text("reason"), "revoked");
    let next = scene.wait_leads(&a, 2, SOON);
    assert!(next > token);
    scene.assert_no_overlap();
}

#[test]
fn a_daemon_stopped_past_its_deadline_is_killed_before_its_lease_ends() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", ""));
    let key = scene.candidate(&a).key;
    let b = scene.waiter(scene.rust("b", ""));
    let vigil = scene.cluster.watch_deletion(&key, 0);
    a.sigstop();
    wait_killed(&a, secs(8));
    vigil.wait(SOON);
    // The key was there to be deleted, so the lease had not ended.
    assert_given_back_by_guardian(&scene, &a, token);
    let lost = a.wait_of_term("term lost", token, SOON);
    assert_eq!(lost.text("reason"), "deadline");
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_daemon_cut_off_from_the_store_ends_its_rust_job_before_its_lease_ends() {
    let scene = Scene::start(1);
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.rust("a", "told = 'goes_on'").through(&links));
    let key = scene.candidate(&a).key;
    let b = scene.waiter(scene.rust("b", ""));
    let vigil = scene.cluster.watch_deletion(&key, 0);
    links.black_hole();
    wait_killed(&a, secs(8));
    let gone = vigil.wait(SOON);
    scene.assert_over_before(token, gone);
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_rust_job_starts_only_under_a_guardian_that_answers() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.rust("a", ""));
    let b = scene.waiter(scene.rust("b", ""));
    let stopped = b.guardian_sigstop();
    a.sigterm();
    let token = b.wait_elected(SOON);
    let lost = b.wait_of_term("term lost", token, SOON);
    assert_eq!(lost.text("reason"), "guardian");
    assert_eq!(scene.record.history().runs_of(token).count(), 0);
    eventually(SOON, "b has a new guardian", || b.guardian() != stopped);
    scene.wait_leads(&b, 2, SOON);
    scene.assert_no_overlap();
}

/// The settings of a job that runs one process to its end and starts another with these flags.
fn processes(scene: &Scene, flags: &[&str]) -> String {
    let first = scene.record.command(&["--exit-after", "0s"]);
    let second = scene.record.command(flags);
    format!("commands = [{first:?}, {second:?}]")
}

#[test]
fn a_process_of_a_rust_job_ends_with_its_run() {
    let scene = Scene::start(1);
    // Its processes outlive `run()` by the whole of `stop_grace`, and so does the run.
    let settings = processes(&scene, &["--ignore-term", "--child-own-session"]);
    let builder = scene.rust("a", &format!("{settings}, ends_after = 200"));
    let (a, token) = scene.leader(builder.toml(QUICK).toml("job.stop_grace = '500ms'"));
    eventually(SOON, "it ran three times", || {
        scene.record.history().runs_of(token).count() >= 3
    });
    let lives = scene.record.history().lives;
    assert!(lives.iter().filter(|life| !life.is_main()).count() >= 6);
    scene.still_leads(&a, token).unwrap();
    scene.assert_no_overlap();
}

#[test]
fn a_process_of_a_rust_job_has_its_grace_on_a_planned_stop() {
    let scene = Scene::start(1);
    let settings = processes(&scene, &["--end-after-term", "700ms"]);
    let (a, token) = scene.leader(scene.rust("a", &settings));
    let b = scene.waiter(scene.rust("b", ""));
    scene.record.wait_lives(token, 3, SOON);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let history = scene.record.history();
    assert!(
        history
            .lives
            .iter()
            .filter(|life| life.token == token)
            .all(|life| life.ended),
        "{history:?}"
    );
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_process_of_a_rust_job_ends_with_its_term() {
    let scene = Scene::start(1);
    let settings = processes(&scene, &["--ignore-term", "--child-own-session"]);
    let (a, token) = scene.leader(scene.rust("a", &settings));
    scene.record.wait_lives(token, 4, SOON);
    scene.cluster.revoke(scene.candidate(&a).lease);
    scene.wait_leads(&a, 2, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_process_of_a_rust_job_dies_with_its_daemon() {
    let scene = Scene::start(1);
    let settings = processes(&scene, &["--ignore-term", "--child-own-session"]);
    let (a, token) = scene.leader(scene.rust("a", &settings));
    let b = scene.waiter(scene.rust("b", ""));
    scene.record.wait_lives(token, 4, SOON);
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    scene.wait_job_over(token, millis(10));
    assert_given_back_by_guardian(&scene, &a, token);
    scene.assert_no_overlap();
}

#[test]
fn a_deposed_rust_job_can_not_write() {
    let scene = Scene::start(1);
    let writes = "told = { writes = '/written/late' }";
    let (a, token) = scene.leader(scene.rust("a", writes));
    scene.cluster.revoke(scene.candidate(&a).lease);
    a.wait_of_term("term lost", token, SOON);
    let file = scene.record.file().with_extension("outcome");
    let outcome = eventually(SOON, "it tried to write", || std::fs::read_to_string(&file));
    assert_eq!(outcome, "Err(NotLeader)\n");
    assert_eq!(scene.cluster.get("/written/late"), None);
}

#[test]
fn a_rust_job_that_blocks_its_runtime_delays_no_renewal() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", "blocks = 10000"));
    throughout(secs(9), "a leads on for two TTL", || {
        scene.still_leads(&a, token)
    });
    assert_eq!(scene.record.history().runs_of(token).count(), 1);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    scene.assert_no_overlap();
}
