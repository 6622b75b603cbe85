//! The guardian's process, driven by its protocol, with real jobs and without a store.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::common::patience;
use crate::stand::{self, LONG, SHORT, Stand, kill, of, pidfd, sh, wait_for_end};
use incumbent::clock;
use incumbent::config::timing::Graces;
use incumbent::guardian::protocol::{Exit, Refusal, Report, Request, TermSpec};
use rustix::process::{Pid, getpgid, getsid};

/// Runs until it is killed, whatever it is asked.
const STUBBORN: &str = "trap '' TERM; echo $$; while :; do sleep 1000; done";

/// Ends with 7 when it is asked to; says `alive` when it gets SIGUSR1. Its children are short,
/// since a shell's child that is asked between its fork and its exec never hears of it.
const OBEDIENT: &str = "trap 'exit 7' TERM; trap 'echo alive' USR1; echo $$
    while :; do sleep 0.01; done";

#[test]
fn a_run_is_reported_from_start_to_empty() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh("exit 3"));
    let pid = stand.started(1);
    stand.ended(1, pid, Exit::Code(3));
    stand.empty(7, false);
}

#[test]
fn a_run_has_its_environment_and_directory() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    let mut command = sh("echo $PWD-$INCUMBENT_TOKEN-$HOME-");
    command.working_dir = Some("/".into());
    command.remove.insert("HOME".into());
    command.set.insert("INCUMBENT_TOKEN".into(), "7".into());
    stand.start(7, 1, command);
    assert_eq!(stand.line(), "/-7--");
}

#[test]
fn a_run_has_default_signal_dispositions_and_an_empty_mask() {
    // What the daemon was started with is handed on to the guardian, and must not reach the job.
    let mut stand = Stand::started_by("env --block-signal=TERM,CHLD,USR1 --ignore-signal=USR2");
    stand.term(7, LONG);
    let mut command = sh("");
    command.argv = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
        .map(str::to_owned)
        .into();
    stand.start(7, 1, command);
    for _ in 0..2 {
        let line = stand.line();
        let (_, bits) = line.split_once('\t').unwrap();
        let bits = u64::from_str_radix(bits, 16).unwrap();
        // Signals 32 and 33 are the C library's own, and as the test was given them.
        assert_eq!(bits & !(3 << 31), 0, "{line}");
    }
}

#[test]
fn a_guardian_that_was_started_with_signals_blocked_hears_of_ends() {
    let mut stand = Stand::started_by("env --block-signal");
    stand.term(7, LONG);
    stand.start(7, 1, sh(OBEDIENT));
    let pid = stand.started(1);
    stand.line();
    stand.stop(7, LONG);
    stand.ended(1, pid, Exit::Code(7));
    stand.empty(7, false);
}

#[test]
fn a_command_that_cannot_be_executed_says_why() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    let nowhere = stand::command(&["/no/such/command"]);
    let no_program = stand::command(&["/etc/passwd"]);
    let no_argument = stand::command(&[]);
    let mut no_directory = sh("true");
    no_directory.working_dir = Some("/no/such/directory".into());
    let mut file_for_directory = sh("true");
    file_for_directory.working_dir = Some("/etc/passwd".into());
    // May be entered, though by some not be read, so the program is to blame.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o311)).unwrap();
    let mut good_directory = stand::command(&["/no/such/command"]);
    good_directory.working_dir = Some(folder.path().into());
    let cases = [
        (good_directory, 127, "/no/such/command"),
        (file_for_directory, 126, "/etc/passwd"),
        (nowhere, 127, "/no/such/command"),
        (no_program, 126, "/etc/passwd"),
        (no_argument, 127, "no command"),
        (no_directory, 126, "/no/such/directory"),
    ];
    for (run, (command, expected, named)) in (1..).zip(cases) {
        stand.start(7, run, command);
        match stand.report() {
            Report::MainEnded {
                pid: None,
                exit: Exit::NotExecuted { code, error },
                ..
            } => {
                assert_eq!(code, expected, "{error}");
                assert!(error.starts_with(named), "{error}");
            }
            other => panic!("{other:?}"),
        }
        stand.empty(7, false);
    }
}

#[test]
fn a_job_is_asked_before_it_is_killed() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh(OBEDIENT));
    let pid = stand.started(1);
    stand.line();
    stand.stop(7, LONG);
    stand.ended(1, pid, Exit::Code(7));
    stand.empty(7, false);
}

#[test]
fn a_stopped_job_hears_that_it_is_to_stop() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh(OBEDIENT));
    let pid = stand.started(1);
    stand.line();
    kill(pid, "STOP");
    stand.stop(7, LONG);
    stand.ended(1, pid, Exit::Code(7));
    stand.empty(7, false);
}

#[test]
fn a_job_that_ignores_the_stop_is_killed_after_its_grace() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh(STUBBORN));
    let pid = stand.started(1);
    stand.line();
    let asked = clock::now();
    stand.stop(7, SHORT);
    stand.ended(1, pid, Exit::Signal(9));
    stand.empty(7, true);
    assert!(clock::now().since(asked) >= SHORT);
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_part_of_the_run() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    let mut command = sh("setsid sh -c \"$GRANDCHILD\" & exit 0");
    command.set.insert("GRANDCHILD".into(), STUBBORN.into());
    stand.start(7, 1, command);
    let pid = stand.started(1);
    stand.ended(1, pid, Exit::Code(0));
    let grandchild = pidfd(stand.line().parse().unwrap());
    stand.start(7, 2, sh("true"));
    stand.refused(2, Refusal::NotEmpty);
    stand.send(&Request::StopRun {
        token: of(7),
        stop_signal: 15,
        grace: SHORT,
    });
    stand.empty(7, true);
    wait_for_end(&grandchild);
    // The term goes on.
    stand.start(7, 3, sh("true"));
    stand.started(3);
}

#[test]
fn a_grandchild_that_was_left_behind_is_asked_too() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    let script = "trap 'exit 0' TERM
        setsid sh -c 'trap \"echo asked; exit\" TERM; echo up; while :; do sleep 0.01; done' &
        wait; wait";
    stand.start(7, 1, sh(script));
    let pid = stand.started(1);
    assert_eq!(stand.line(), "up");
    stand.stop(7, LONG);
    stand.ended(1, pid, Exit::Code(0));
    assert_eq!(stand.line(), "asked");
    stand.empty(7, false);
}

#[test]
fn many_processes_die_together() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    let script = format!(
        "for i in $(seq 100); do setsid sh -c \"trap '' TERM; sleep 1000\" & done; {STUBBORN}"
    );
    stand.start(7, 1, sh(&script));
    let pid = stand.started(1);
    stand.line();
    stand.send(&Request::Kill { token: of(7) });
    stand.ended(1, pid, Exit::Signal(9));
    stand.empty(7, true);
    assert_eq!(stand.children(), Vec::<u32>::new());
}

#[test]
fn a_job_is_dead_before_the_deadline() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh(STUBBORN));
    let pid = stand.started(1);
    stand.line();
    // The same term again, with what is left of it.
    let short = patience(SHORT);
    let mut term = stand::times(7, short * 3);
    term.graces.lost_grace = short;
    term.graces.kill_budget = short;
    stand.send(&Request::EndTerm { token: of(6) });
    let mut other = Stand::new();
    other.send(&Request::Term(term.clone()));
    other.guarded(7);
    other.start(7, 1, sh(STUBBORN));
    let doomed = other.started(1);
    assert_eq!(other.report(), Report::Stopping { token: of(7) });
    assert!(clock::now() >= term.stop_at());
    other.ended(1, doomed, Exit::Signal(9));
    other.empty(7, true);
    assert!(clock::now() < term.deadline);
    // The one with the longer deadline lives.
    stand.send(&Request::Kill { token: of(7) });
    stand.ended(1, pid, Exit::Signal(9));
}

#[test]
fn a_term_that_ended_starts_nothing() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.send(&Request::EndTerm { token: of(7) });
    stand.start(7, 1, sh("true"));
    stand.refused(1, Refusal::Ended);
    stand.term(8, LONG);
    stand.start(7, 2, sh("true"));
    stand.refused(2, Refusal::Ended);
}

#[test]
fn a_daemon_that_closes_the_socket_is_killed_and_its_job_stopped() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh(OBEDIENT));
    let job = pidfd(stand.started(1));
    stand.line();
    stand.hang_up();
    assert_eq!(stand.daemon_ended(), Some(9));
    wait_for_end(&job);
    wait_for_end(&stand.guardian);
}

#[test]
fn a_daemon_that_talks_nonsense_is_killed_and_its_job_stopped() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, sh(OBEDIENT));
    let job = pidfd(stand.started(1));
    stand.line();
    stand.write(b"nonsense\n");
    assert_eq!(stand.daemon_ended(), Some(9));
    wait_for_end(&job);
    wait_for_end(&stand.guardian);
}

#[test]
fn a_daemon_that_dies_takes_its_job_with_it_in_milliseconds() {
    let mut took = Vec::new();
    for _ in 0..10 {
        let mut stand = Stand::new();
        stand.term(7, LONG);
        stand.start(7, 1, stand::command(&["sleep", "1000"]));
        let job = pidfd(stand.started(1));
        let died = clock::now();
        stand.kill_daemon();
        wait_for_end(&job);
        took.push(clock::now().since(died));
        wait_for_end(&stand.guardian);
    }
    took.sort();
    // Generous; usually it is well under 2 ms.
    assert!(took[5] < patience(Duration::from_millis(100)), "{took:?}");
}

#[test]
fn a_daemon_that_dies_before_a_stubborn_job_has_it_killed_after_the_lost_grace() {
    let mut stand = Stand::new();
    let mut term = stand::times(7, LONG);
    term.graces.lost_grace = SHORT;
    stand.send(&Request::Term(term));
    stand.guarded(7);
    stand.start(7, 1, sh(STUBBORN));
    let job = pidfd(stand.started(1));
    stand.line();
    let died = clock::now();
    stand.kill_daemon();
    wait_for_end(&job);
    assert!(clock::now().since(died) >= SHORT);
    wait_for_end(&stand.guardian);
}

#[test]
fn a_daemon_with_a_rust_job_is_killed_before_the_deadline() {
    let mut stand = Stand::new();
    let short = patience(SHORT);
    let term = TermSpec {
        in_daemon: true,
        graces: Graces {
            lost_grace: short,
            kill_budget: short,
        },
        ..stand::times(7, short * 3)
    };
    let deadline = term.deadline;
    stand.send(&Request::Term(term));
    stand.guarded(7);
    assert_eq!(stand.daemon_ended(), Some(9));
    assert!(clock::now() < deadline);
    wait_for_end(&stand.guardian);
}

#[test]
fn a_guardian_with_nothing_to_guard_lets_its_daemon_live() {
    let mut stand = Stand::new();
    stand.hang_up();
    wait_for_end(&stand.guardian);
    assert_eq!(stand.daemon_ended(), None);
}

#[test]
fn a_guardian_that_was_stopped_takes_the_newer_deadline_first() {
    let mut stand = Stand::new();
    let mut term = stand::times(7, patience(SHORT * 3));
    term.graces.lost_grace = Duration::ZERO;
    term.graces.kill_budget = Duration::ZERO;
    let old = term.deadline;
    stand.send(&Request::Term(term));
    stand.guarded(7);
    stand.start(7, 1, sh(OBEDIENT));
    let pid = stand.started(1);
    stand.line();
    kill(stand.guardian_pid, "STOP");
    let newer = clock::now() + LONG;
    stand.send(&Request::Deadline {
        token: of(7),
        deadline: newer,
    });
    stand::wait_until(old + SHORT);
    kill(stand.guardian_pid, "CONT");
    let (token, deadline) = (of(7), newer);
    assert_eq!(stand.report(), Report::Guarded { token, deadline });
    kill(pid, "USR1");
    assert_eq!(stand.line(), "alive");
    stand.send(&Request::Kill { token: of(7) });
    stand.ended(1, pid, Exit::Signal(9));
}

#[test]
fn a_guardian_that_was_stopped_past_the_deadline_kills_at_once() {
    let mut stand = Stand::new();
    let short = patience(SHORT);
    let mut term = stand::times(7, short * 3);
    term.graces.lost_grace = short;
    term.graces.kill_budget = short;
    let deadline = term.deadline;
    stand.send(&Request::Term(term));
    stand.guarded(7);
    stand.start(7, 1, sh(STUBBORN));
    let pid = stand.started(1);
    stand.line();
    kill(stand.guardian_pid, "STOP");
    stand.start(7, 2, sh("true"));
    stand::wait_until(deadline + SHORT);
    kill(stand.guardian_pid, "CONT");
    stand.refused(2, Refusal::Deadline);
    assert_eq!(stand.report(), Report::Stopping { token: of(7) });
    stand.ended(1, pid, Exit::Signal(9));
    stand.empty(7, true);
}

#[test]
fn a_job_dies_with_its_guardian() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    stand.start(7, 1, stand::command(&["sleep", "1000"]));
    let job = pidfd(stand.started(1));
    kill(stand.guardian_pid, "KILL");
    wait_for_end(&job);
}

#[test]
fn a_guardian_survives_the_signals_that_are_meant_for_its_daemon() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    for signal in ["TERM", "INT", "HUP", "PIPE", "TSTP", "USR1"] {
        kill(stand.guardian_pid, signal);
    }
    stand.start(7, 1, sh("exit 3"));
    let pid = stand.started(1);
    stand.ended(1, pid, Exit::Code(3));
}

#[test]
fn a_guardian_shares_neither_session_nor_group_with_its_daemon() {
    let stand = Stand::new();
    let guardian = Pid::from_raw(stand.guardian_pid.try_into().unwrap()).unwrap();
    assert_eq!(getsid(Some(guardian)), Ok(guardian));
    assert_eq!(getpgid(Some(guardian)), Ok(guardian));
}

#[test]
fn a_hundred_quick_runs_leave_nothing_behind() {
    let mut stand = Stand::new();
    stand.term(7, LONG);
    for run in 1..=100 {
        stand.start(7, run, stand::command(&["true"]));
        let pid = stand.started(run);
        stand.ended(run, pid, Exit::Code(0));
        stand.empty(7, false);
    }
    assert_eq!(stand.children(), Vec::<u32>::new());
}

#[test]
fn a_daemon_that_does_not_read_holds_up_nothing() {
    let mut stand = Stand::new();
    let term = stand::times(7, LONG);
    // Far more answers than the socket holds, and none of them read.
    for _ in 0..5_000 {
        stand.send(&Request::Term(term.clone()));
    }
    // However long that took, the next term is heard of while it is to be acted on.
    stand.send(&Request::Term(TermSpec {
        in_daemon: true,
        graces: Graces {
            lost_grace: SHORT,
            kill_budget: SHORT,
        },
        ..stand::times(8, SHORT * 3)
    }));
    assert_eq!(stand.daemon_ended(), Some(9));
    wait_for_end(&stand.guardian);
}
