//! The harness itself: waiting, the job's record, and what the record proves. Needs no daemon.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};

use crate::common::process;
use crate::common::*;
use incumbent::clock;
use rustix::process::Signal;

/// What a panicking closure said.
fn complaint(fails: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(fails)).expect_err("should have panicked");
    *panic.downcast::<String>().unwrap()
}

// --- wait -------------------------------------------------------------------------------------

#[test]
fn eventually_returns_the_value_as_soon_as_it_is_there() {
    let mut asked = 0;
    let value = eventually(secs(5), "the third answer", || {
        asked += 1;
        (asked == 3).then_some("here")
    });
    assert_eq!((value, asked), ("here", 3));
}

#[test]
fn eventually_says_what_it_waited_for_and_what_it_saw_last() {
    let said = complaint(|| {
        eventually(millis(20), "pigs fly", || Err::<(), _>("pigs walk"));
    });
    assert!(
        said.contains("pigs fly") && said.contains("pigs walk"),
        "{said}"
    );
}

#[test]
fn throughout_notices_a_break() {
    let begun = clock::now();
    throughout(millis(30), "nothing happens", || true);
    assert!(clock::now().since(begun) >= millis(30));
    let said = complaint(|| {
        throughout(secs(5), "peace", || clock::now().since(begun) < millis(60));
    });
    assert!(said.contains("peace"), "{said}");
}

// --- record -----------------------------------------------------------------------------------

#[test]
fn a_clean_handover_has_no_overlap_and_a_gap() {
    let history = History::parse(
        "start 5 100 1000000 100\nbeat 5 100 2000000 100\nend 5 100 3000000 100\n\
         start 9 200 7000000 200\nbeat 9 200 8000000 200\n",
    );
    history.assert_no_overlap();
    assert_eq!(history.tokens(), [5, 9]);
    assert_eq!(history.handover_gaps(), [millis(4)]);
    assert!(history.lives[0].ended && !history.lives[1].ended);
}

#[test]
fn two_terms_at_once_are_caught() {
    let history = History::parse(
        "start 5 100 1000 100\nbeat 5 100 2000 100\nstart 9 200 3000 200\nbeat 5 100 4000 100\n",
    );
    let said = complaint(|| history.assert_no_overlap());
    assert!(
        said.contains("token 5") && said.contains("token 9"),
        "{said}"
    );
}

#[test]
fn a_child_that_outlives_its_run_is_caught() {
    let history = History::parse(
        "start 5 100 1000 100\nstart 5 101 1500 100\nend 5 100 2000 100\n\
         start 9 200 3000 200\nbeat 5 101 4000 100\n",
    );
    let said = complaint(|| history.assert_no_overlap());
    assert!(said.contains("process 101 (a child)"), "{said}");
}

#[test]
fn a_child_beside_its_own_main_process_is_no_overlap() {
    let history = History::parse("start 5 100 1000 100\nstart 5 101 1500 100\nend 5 100 2000 100");
    history.assert_no_overlap();
}

#[test]
fn two_runs_of_one_term_at_once_are_caught() {
    let history = History::parse("start 5 100 1000 100\nstart 5 200 1500 200\nbeat 5 100 2000 100");
    complaint(|| history.assert_no_overlap());
}

#[test]
fn a_life_inside_a_longer_one_is_caught_past_a_third() {
    let history = History::parse(
        "start 5 100 1000 100\nbeat 5 100 9000 100\nstart 5 101 1100 100\nstart 6 7 8000 7\n",
    );
    complaint(|| history.assert_no_overlap());
}

#[test]
fn a_falling_token_is_caught() {
    let history = History::parse("start 9 100 1000 100\nend 9 100 2000 100\nstart 5 200 3000 200");
    let said = complaint(|| history.assert_no_overlap());
    assert!(said.contains("fell"), "{said}");
}

#[test]
fn a_foreign_line_is_no_record() {
    for line in [
        "start 5 100 1000",
        "stop 5 1 1 1",
        "start 5 100 1000 100 6",
        "start x 1 1 1",
    ] {
        complaint(|| drop(History::parse(line)));
    }
}

// --- the job ----------------------------------------------------------------------------------

fn run_recorder(sandbox: &Sandbox, record: &Record, flags: &[&str]) -> Child {
    let command = record.command(flags);
    let mut process = Command::new(&command[0]);
    process
        .args(&command[1..])
        .env("INCUMBENT_TOKEN", "7")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    sandbox.mark(&mut process, "recorder");
    process.spawn().unwrap()
}

#[test]
fn a_killed_job_beats_until_its_death() {
    let sandbox = Sandbox::new();
    let record = Record::new(&sandbox, "record");
    let mut job = run_recorder(&sandbox, &record, &[]);
    record.wait_run(7, secs(5));
    let before = process::monotonic_ns();
    eventually(secs(5), "it beats on", || {
        record.history().last_beat_of(7) > Some(before)
    });
    let killed = process::monotonic_ns();
    job.kill().unwrap();
    job.wait().unwrap();
    let life = record.history().lives[0].clone();
    assert!(!life.ended, "{life}");
    assert!(
        life.last + 100_000_000 > killed,
        "beats are rare: {life}, killed at {killed}"
    );
}

#[test]
fn the_job_ends_when_asked_and_says_so() {
    let sandbox = Sandbox::new();
    let record = Record::new(&sandbox, "record");
    let mut job = run_recorder(&sandbox, &record, &["--end-after-term", "50ms"]);
    record.wait_run(7, secs(5));
    process::signal(i32::try_from(job.id()).unwrap(), Signal::TERM);
    assert!(job.wait().unwrap().success());
    let life = record.history().lives[0].clone();
    let asked = life.asked.expect("it noted the signal");
    assert!(life.ended && life.last - asked >= 50_000_000, "{life}");
}

#[test]
fn the_job_ends_by_itself_with_its_code() {
    let sandbox = Sandbox::new();
    let record = Record::new(&sandbox, "record");
    let mut job = run_recorder(&sandbox, &record, &["--exit-after", "20ms", "--code", "3"]);
    assert_eq!(job.wait().unwrap().code(), Some(3));
    assert!(record.history().lives[0].ended);
}

#[test]
fn the_jobs_child_has_its_own_session_and_ignores_sigterm() {
    let sandbox = Sandbox::new();
    let record = Record::new(&sandbox, "record");
    let mut job = run_recorder(&sandbox, &record, &["--child-own-session"]);
    let child = eventually(secs(5), "the child lives", || {
        let lives = record.history().lives;
        lives.into_iter().find(|life| !life.is_main())
    });
    let session = |pid| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::getsid(Some(pid)).unwrap().as_raw_pid()
    };
    assert_eq!(session(child.pid), child.pid);
    assert_eq!(child.run, i32::try_from(job.id()).unwrap());

    process::signal(child.pid, Signal::TERM);
    record.wait_asked(7, secs(5));
    job.kill().unwrap();
    job.wait().unwrap();
    let dead = process::monotonic_ns();
    eventually(secs(5), "the child beats on without its parent", || {
        record.history().last_beat_of(7) > Some(dead)
    });
    drop(sandbox);
    assert!(
        !process::is_alive(child.pid),
        "the sandbox leaves nothing behind"
    );
}

/// The lock finds what makes no sign: here a child that is stopped, and whose parent is dead.
#[test]
fn a_run_beside_a_silent_process_of_another_records_a_clash() {
    let sandbox = Sandbox::new();
    let record = Record::new(&sandbox, "record");
    let lock = sandbox.join("lock");
    let lock = lock.to_str().unwrap();
    let mut first = run_recorder(
        &sandbox,
        &record,
        &["--lock", lock, "--child-own-session", "--hang-after", "0s"],
    );
    record.wait_lives(7, 2, secs(10));
    let lives = record.history().lives;
    assert!(!lives.iter().any(|life| life.clashed));
    let child = lives.iter().find(|life| !life.is_main()).unwrap().pid;
    process::freeze(child);
    first.kill().unwrap();
    first.wait().unwrap();

    let clashes = |n: usize| {
        let mut run = run_recorder(&sandbox, &record, &["--lock", lock, "--exit-after", "1ms"]);
        run.wait().unwrap();
        let history = record.history();
        assert_eq!(history.runs_of(7).count(), n);
        history.runs_of(7).last().unwrap().clashed
    };
    assert!(clashes(2));
    process::signal(child, Signal::KILL);
    eventually(secs(5), "the child is dead", || !process::is_alive(child));
    assert!(!clashes(3));
}
