//! Tests of the fence, on real processes.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::proc::look::tests::{all_descriptors, is_alone};

/// An election that no other test and no other run knows.
fn election(name: &str) -> Prefix {
    Prefix::new(format!("/test/fencing/{name}/{}", std::process::id()))
}

/// Whether any process belongs to a term of this election.
fn exists(prefix: &Prefix) -> bool {
    let mut all = suspects(prefix).unwrap().into_iter();
    all.any(|each| {
        let environ = environment(each.pid).unwrap();
        environ.is_some_and(|environ| has_variables(&environ, prefix))
    })
}

/// A process of a job, in a session of its own, started by a parent of this name which waits
/// for it. The parent's own environment is clean.
struct Job(Child);

impl Job {
    fn start(parent: &str, prefix: &Prefix) -> Self {
        // The kernel takes a process's name from the file that it executes.
        let folder = tempfile::tempdir().unwrap();
        let shell = folder.path().join(parent);
        std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
        let script =
            format!("INCUMBENT_ELECTION={prefix} INCUMBENT_TOKEN=7 setsid sleep 60 & echo; wait");
        let mut child = Command::new(&shell)
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        let mut output = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut output, &mut line).unwrap();
        let job = Self(child);
        // The shell has forked; until it executes the job the variables are not to be seen.
        let until = clock::now() + Duration::from_secs(5);
        while !exists(prefix) {
            assert!(!until.has_passed(), "the job has not started");
            std::thread::sleep(Duration::from_millis(1));
        }
        job
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let parent = i32::try_from(self.0.id()).unwrap();
        let all = everybody().unwrap().into_iter();
        for (pid, stat) in all.filter(|(_, stat)| stat.parent == parent) {
            drop(stat.process(pid).kill());
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_process_left_behind_in_its_own_session_is_killed() {
    let prefix = election("left");
    let _job = Job::start("plain", &prefix);
    assert_eq!(left_behind(&prefix, &[]).unwrap().len(), 1);
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
    assert_eq!(left_behind(&prefix, &[]).unwrap(), []);
}

#[test]
fn a_job_under_a_living_guardian_is_left_alone() {
    let prefix = election("guarded");
    let mut job = Job::start(proc::GUARDIAN.to_str().unwrap(), &prefix);
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
    assert!(exists(&prefix));
    // Once the guardian is dead its job has nobody left.
    job.0.kill().unwrap();
    job.0.wait().unwrap();
    assert_eq!(left_behind(&prefix, &[]).unwrap().len(), 1);
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
}

/// Set for a process of the next test that is to fence.
const FENCES: &str = "INCUMBENT_TEST_FENCES";

#[test]
fn who_started_this_daemon_is_left_alone() {
    if let Ok(prefix) = std::env::var(FENCES) {
        let prefix = Prefix::new(prefix);
        assert!(exists(&prefix), "the shell has the variables");
        assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
        return;
    }
    let prefix = election("ancestor");
    // The shell that the operator starts a daemon from, by way of another.
    let again = "\"$0\" --exact fencing::tests::who_started_this_daemon_is_left_alone; exit $?";
    let status = Command::new("sh")
        .args(["-c", "sh -c \"$1\" \"$0\"; exit $?"])
        .arg(std::env::current_exe().unwrap())
        .arg(again)
        .env("INCUMBENT_ELECTION", prefix.as_str())
        .env("INCUMBENT_TOKEN", "7")
        .env(FENCES, prefix.as_str())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_daemon_with_a_living_guardian_is_left_alone() {
    let prefix = election("sibling");
    let folder = tempfile::tempdir().unwrap();
    let guardian = folder.path().join(proc::GUARDIAN.to_str().unwrap());
    std::os::unix::fs::symlink("/bin/sh", &guardian).unwrap();
    // The guardian waits for a line that never comes, the daemon for the guardian, and for the
    // daemon somebody else than this process, which leaves alone what it has started itself.
    let daemon = "sh -c '\"$0\" -c \"echo; read line\"; sleep 60' \"$0\"";
    let variables = format!("INCUMBENT_ELECTION={prefix} INCUMBENT_TOKEN=7");
    let mut daemon = Command::new("sh")
        .args(["-c", &format!("{variables} {daemon}; exit $?")])
        .arg(&guardian)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = daemon.stdout.take().unwrap();
    std::io::Read::read_exact(&mut output, &mut [0]).unwrap();
    assert!(exists(&prefix));
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
    assert!(daemon.try_wait().unwrap().is_none(), "the daemon lives");
    // Without its guardian it is no daemon that anybody holds to its deadline.
    drop(daemon.stdin.take());
    let until = clock::now() + Duration::from_secs(5);
    while left_behind(&prefix, &[]).unwrap().is_empty() {
        assert!(!until.has_passed(), "the guardian has not ended");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
    daemon.wait().unwrap();
}

#[test]
fn other_elections_are_left_alone() {
    let prefix = election("mine");
    let longer = Prefix::new(format!("{prefix}/longer"));
    let _job = Job::start("plain", &longer);
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
    assert_eq!(left_behind(&longer, &[]).unwrap().len(), 1);
}

#[test]
fn both_variables_are_needed() {
    let prefix = Prefix::new("/a");
    let has = |environ: &[u8]| has_variables(environ, &prefix);
    assert!(has(b"INCUMBENT_TOKEN=7\0HOME=/\0INCUMBENT_ELECTION=/a\0"));
    assert!(!has(b"INCUMBENT_ELECTION=/a\0"));
    assert!(!has(b"INCUMBENT_TOKEN=7\0INCUMBENT_ELECTION=/ab\0"));
    assert!(!has(b"XINCUMBENT_ELECTION=/a\0INCUMBENT_TOKEN=7\0"));
}

#[test]
fn a_fence_that_can_not_look_is_no_proof() {
    if !is_alone("fencing::tests::a_fence_that_can_not_look_is_no_proof") {
        return;
    }
    let prefix = election("blind");
    let _job = Job::start("plain", &prefix);
    let held = all_descriptors();
    let by_terms = fence(&prefix, &[], Duration::from_millis(100)).is_err();
    let run = RunRecord {
        session: 1,
        at: 0,
        guardian: Process::this(),
    };
    let by_runs = of_runs(&[run]).is_err();
    let lives = run.lives().is_err();
    drop(held);
    assert!(by_terms && by_runs && lives);
    assert_eq!(fence(&prefix, &[], Duration::from_secs(5)).unwrap(), []);
    assert!(!exists(&prefix), "it was killed as soon as it was seen");
}
