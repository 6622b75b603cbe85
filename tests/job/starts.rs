//! Starts that hang: in the exec of what is to run, as where a file server doesn't answer.

use std::path::{Path, PathBuf};

use crate::common::*;
use crate::stand::{LONG, SHORT, Stand, command, kill, of, sh, times, wait_for_end};
use incumbent::clock;
use incumbent::guardian::protocol::{CommandSpec, Exit, Refusal, Report, Request};
use rustix::process::Signal;

/// A guardian in a term, and a held program with its folder.
struct Held {
    program: HeldProgram,
    folder: tempfile::TempDir,
}

impl Held {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let program = HeldProgram::copy("/bin/sh", folder.path())?;
        Some(Self { program, folder })
    }

    /// Leaves a trace once code of it runs.
    fn command(&self) -> CommandSpec {
        let script = format!("touch {}; sleep 1000", self.trace().display());
        command(&[self.program.path(), "-c", &script])
    }

    fn trace(&self) -> std::path::PathBuf {
        self.folder.path().join("ran")
    }

    /// Lets the exec go; nothing of it may have been left to run.
    fn ran_nothing(&mut self, pid: i32) {
        assert!(!process::is_alive(pid), "the child lives");
        self.program.let_go();
        assert!(!self.trace().exists());
    }
}

#[test]
fn a_start_that_hangs_holds_nothing_up() {
    let Some(mut held) = Held::new() else { return };
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, held.command());
    held.program.wait_hangs();
    let deadline = clock::now() + LONG * 2;
    stand.send(&Request::Deadline {
        token: of(7),
        deadline,
    });
    assert_eq!(
        stand.report(),
        Report::Guarded {
            token: of(7),
            deadline
        }
    );
    stand.start(7, 2, sh("true"));
    stand.refused(2, Refusal::NotEmpty);
    // It goes on where the server answers in the end.
    held.program.let_go();
    stand.started(1);
    eventually(SOON, "the job runs", || held.trace().exists());
}

#[test]
fn a_start_that_hangs_can_be_stopped_and_killed() {
    let stop = Request::Stop {
        token: of(7),
        stop_signal: 10,
        grace: LONG,
    };
    let cases = [(stop, false), (Request::Kill { token: of(7) }, true)];
    for (request, killed) in cases {
        let Some(mut held) = Held::new() else { return };
        let mut stand = Stand::new();
        stand.term(7, LONG);
        stand.start(7, 1, held.command());
        let pid = held.program.wait_hangs();
        stand.send(&request);
        stand.refused(1, Refusal::Stopping);
        stand.empty(7, killed);
        held.ran_nothing(pid);
    }
}

#[test]
fn a_start_that_hangs_is_dead_before_the_deadline() {
    let Some(mut held) = Held::new() else { return };
    let mut stand = Stand::new();
    let mut term = times(7, patience(SHORT * 6));
    (term.graces.lost_grace, term.graces.kill_budget) = (SHORT, SHORT);
    stand.send(&Request::Term(term.clone()));
    stand.guarded(7);
    stand.start(7, 1, held.command());
    let pid = held.program.wait_hangs();
    assert_eq!(stand.report(), Report::Stopping { token: of(7) });
    stand.refused(1, Refusal::Deadline);
    stand.empty(7, false);
    assert!(clock::now() < term.deadline);
    held.ran_nothing(pid);
}

#[test]
fn a_start_that_hangs_does_not_outlive_the_daemon_nor_the_guardian() {
    let Some(mut held) = Held::new() else { return };
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, held.command());
    let pid = held.program.wait_hangs();
    stand.kill_daemon();
    wait_for_end(&stand.guardian);
    held.ran_nothing(pid);

    let Some(mut held) = Held::new() else { return };
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, held.command());
    let pid = held.program.wait_hangs();
    kill(stand.guardian_pid, "KILL");
    eventually(SOON, "the child is dead", || !process::is_alive(pid));
    held.ran_nothing(pid);
}

#[test]
fn a_start_that_hangs_and_is_killed_by_another_hand_ends_by_its_signal() {
    let Some(held) = Held::new() else { return };
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, held.command());
    process::signal(held.program.wait_hangs(), Signal::KILL);
    let (pid, exit) = (None, Exit::Signal(9));
    let run = 1;
    assert_eq!(stand.report(), Report::MainEnded { run, pid, exit });
    stand.empty(7, false);
    stand.start(7, 2, sh("true"));
    stand.started(2);
}

#[test]
fn a_process_beside_one_that_hangs_in_its_start_is_started() {
    let Some(held) = Held::new() else { return };
    let mut stand = Stand::new();
    stand.term(7, LONG);
    for (run, command) in [(1, held.command()), (2, sh("true"))] {
        stand.send(&Request::Start {
            token: of(7),
            run,
            command,
            sole: false,
        });
        if run == 1 {
            held.program.wait_hangs();
        }
    }
    let pid = stand.started(2);
    stand.ended(2, pid, Exit::Code(0));
}

/// Whatever is held: the program, what runs the script, or the program sought in `PATH`.
#[test]
fn a_start_hangs_in_whatever_it_executes_and_can_be_killed() {
    let Some(held) = Held::new() else { return };
    let script = held.folder.path().join("script");
    std::fs::write(&script, format!("#!{}\necho ran", held.program.path())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut in_path = command(&["held"]);
    let path = format!("/nowhere:{}", held.folder.path().display());
    in_path.set.insert("PATH".into(), path.into());
    for command in [command(&[script.to_str().unwrap()]), in_path] {
        let mut stand = Stand::new();
        stand.term(7, LONG);
        stand.start(7, 1, command);
        held.program.wait_hangs();
        stand.send(&Request::Kill { token: of(7) });
        stand.refused(1, Refusal::Stopping);
        stand.empty(7, true);
    }
}

/// Leads with a held job while `b` waits behind.
fn hung(scene: &Scene, toml: &str) -> Option<(Daemon, Daemon, HeldProgram, i32)> {
    let folder = scene.cluster.sandbox().join("held");
    std::fs::create_dir(&folder).unwrap();
    let held = HeldProgram::copy("/bin/sh", &folder)?;
    let script = format!("touch {}; sleep 1000", ran(scene).display());
    let a = scene.daemon("a").job(&[held.path(), "-c", &script]);
    let a = a.toml(toml).spawn();
    let pid = held.wait_hangs();
    Some((a, scene.waiter(scene.daemon("b")), held, pid))
}

fn ran(scene: &Scene) -> std::path::PathBuf {
    scene.cluster.sandbox().join("ran")
}

#[track_caller]
fn never_ran(trace: &Path, pid: i32, held: &mut HeldProgram) {
    assert!(!process::is_alive(pid), "the child outlives its term");
    held.let_go();
    assert!(!trace.exists());
}

#[test]
fn a_job_that_hangs_in_its_start_is_dead_before_the_next_leads() {
    let scene = Scene::start(1);
    let Some((a, b, mut held, pid)) = hung(&scene, "election.ttl = '1m'") else {
        return;
    };
    a.sigkill();
    // Not when the lease is over: the guardian resigns.
    scene.wait_leads(&b, 1, SOON);
    never_ran(&ran(&scene), pid, &mut held);
}

#[test]
fn a_leader_whose_job_hangs_in_its_start_hands_over_when_it_is_asked_to() {
    let scene = Scene::start(1);
    let Some((a, b, mut held, pid)) = hung(&scene, "election.ttl = '1m'") else {
        return;
    };
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    assert!(a.wait_exit(SOON).success());
    assert!(a.lines("job started").is_empty());
    assert!(a.lines("job stopped").is_empty());
    never_ran(&ran(&scene), pid, &mut held);
}

#[test]
fn a_leader_whose_job_hangs_in_its_start_keeps_its_term() {
    let scene = Scene::start(1);
    let Some((a, _b, mut held, _)) = hung(&scene, "election.ttl = '3s'") else {
        return;
    };
    let token = a.wait_elected(SOON);
    throughout(secs(6), "a leads", || scene.still_leads(&a, token));
    held.let_go();
    a.wait_log("job started", SOON);
}

#[test]
fn a_check_that_hangs_in_its_start_has_failed_when_its_time_is_over() {
    let scene = Scene::start(1);
    let folder = scene.cluster.sandbox().join("held");
    std::fs::create_dir(&folder).unwrap();
    let Some(held) = HeldProgram::copy("/bin/sh", &folder) else {
        return;
    };
    let check = format!(
        "candidate.check = {{ command = [{:?}, '-c', 'true'], timeout = '500ms', interval = '1s', fall = 1 }}",
        held.path()
    );
    let a = scene.daemon("a").toml(&check).spawn();
    held.wait_hangs();
    a.wait_log("unhealthy", SOON);
    // The next one is tried: nothing is left of the first.
    held.wait_hangs();
}

#[test]
fn a_hook_that_hangs_in_its_start_ends_with_its_time() {
    for hook in ["on_elected", "on_lost"] {
        let scene = Scene::start(1);
        let folder = scene.cluster.sandbox().join("held");
        std::fs::create_dir(&folder).unwrap();
        let Some(mut held) = HeldProgram::copy("/bin/sh", &folder) else {
            return;
        };
        let script = format!("touch {}", ran(&scene).display());
        let hooks = format!(
            "hooks = {{ {hook} = [{:?}, '-c', {script:?}], {hook}_timeout = '1s' }}",
            held.path()
        );
        let a = scene.daemon("a").toml(&hooks).spawn();
        if hook == "on_lost" {
            a.wait_job(SOON);
            a.sigterm();
        }
        let pid = held.wait_hangs();
        a.wait_log("hook ended", SOON);
        a.wait_log("resigned", SOON);
        never_ran(&ran(&scene), pid, &mut held);
    }
}

/// A copy of the program that no other test runs.
fn copy_of_program(scene: &Scene) -> PathBuf {
    let copy = scene.cluster.sandbox().join("copy");
    std::fs::copy(program(), &copy).unwrap();
    copy
}

#[test]
fn a_daemon_whose_guardian_hangs_in_its_start_goes_on() {
    let scene = Scene::start(1);
    let binary = copy_of_program(&scene);
    let a = scene.daemon("a").binary(binary.clone()).spawn();
    a.wait_job(SOON);
    let Some(mut held) = HeldProgram::hold(binary) else {
        return;
    };
    a.guardian_sigkill();
    held.wait_hangs();
    a.wait_log("term lost", SOON);
    a.sighup();
    // The main loop answers.
    a.wait_log("reloaded", SOON);
    held.let_go();
    a.wait_elected_nth(2, SOON);
}

#[test]
fn a_guardian_of_checks_that_is_slow_to_be_replaced_is_no_check_that_fails() {
    let scene = Scene::start(1);
    let binary = copy_of_program(&scene);
    let check = "candidate.check = { command = ['true'], interval = '100ms', timeout = '10s', \
                 rise = 1, fall = 1 }";
    let a = scene.daemon("a").binary(binary.clone()).toml(check);
    let (a, token) = scene.leader(a);
    let checks = || process::child(a.pid(), "incumbent-check");
    let old = eventually(SOON, "there is a guardian of checks", checks);
    let Some(mut held) = HeldProgram::hold(binary) else {
        return;
    };
    process::signal(old, Signal::KILL);
    held.wait_hangs();
    throughout(secs(1), "no check fails", || {
        let failed = a.lines("check failed");
        failed.first().map_or(Ok(()), |line| Err(line.text.clone()))
    });
    held.let_go();
    eventually(SOON, "there is another", || checks() != Some(old));
    scene.still_leads(&a, token).unwrap();
}
