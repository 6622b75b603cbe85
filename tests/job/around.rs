//! What is around a daemon: limits and stray signals, and the orphans of a container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::common::*;
use rustix::process::Signal;

/// A script that runs the daemon as `line` says, where `$BIN` is the daemon.
fn launcher(scene: &Scene, line: &str) -> PathBuf {
    let script = scene.cluster.sandbox().join("launcher");
    let binary = program();
    let text = format!("#!/bin/sh\nBIN={}\n{line}\n", binary.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn a_log_file_that_is_full_costs_lines_and_no_term() {
    let scene = Scene::start(1);
    let log = scene.cluster.sandbox().join("full");
    fs::write(&log, vec![b'x'; 300 * 1024]).unwrap();
    let line = format!("ulimit -f 512; exec $BIN \"$@\" 2>> {}", log.display());
    let a = scene.daemon("a").binary(launcher(&scene, &line)).spawn();
    let b = || scene.place(&a) == Some(0) && scene.record.history().lives.len() == 1;
    eventually(SOON, "a leads", b);
    throughout(secs(2), "a leads", || a.is_alive() && b());
    let guardian = a.guardian();
    a.sigkill();
    // The guardian says so, in vain, and gives back.
    eventually(SOON, "the guardian is gone", || {
        !process::is_alive(guardian)
    });
    eventually(SOON, "nobody stands", || scene.place(&a).is_none());
}

#[test]
fn stray_signals_cost_no_term() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let stray = [
        Signal::XFSZ,
        Signal::XCPU,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::USR2,
        Signal::PIPE,
        Signal::POWER,
        Signal::STKFLT,
        Signal::TTOU,
        Signal::TTIN,
    ];
    let guardian = a.guardian();
    for process in [a.pid(), guardian] {
        for signal in stray {
            process::signal(process, signal);
        }
    }
    throughout(secs(2), "both live", || {
        a.is_alive() && process::is_alive(guardian)
    });
    scene.still_leads(&a, token).unwrap();
    assert_eq!(scene.record.history().lives.len(), 1);
}

#[test]
fn a_daemon_that_is_pid_1_reaps_the_orphans_that_fall_to_it() {
    let within = ["-pf", "--mount-proc"];
    let works = Command::new("unshare").args(within).arg("true").output();
    if !works.is_ok_and(|works| works.status.success()) {
        return skipped("orphans of a container need root and unshare");
    }
    let scene = Scene::start(1);
    // Their parents are gone at once, so they fall to the daemon, which was this shell.
    let orphans = "for i in $(seq 20); do (sleep 2 &); done; exec $BIN \"$@\"";
    let line = format!("exec unshare -pf --mount-proc sh -c 'BIN='$BIN'; {orphans}' sh \"$@\"");
    let a = scene.daemon("a").binary(launcher(&scene, &line)).spawn();
    a.wait_job(SOON);
    let inside = process::children(a.pid());
    let [pid_1] = inside[..] else {
        panic!("{inside:?}")
    };
    eventually(SOON, "nobody is left but the guardian", || {
        let children = process::children(pid_1);
        match children.len() {
            1 => Ok(()),
            _ => Err(format!("{children:?}")),
        }
    });
    assert!(a.lines("guardian lost").is_empty());
    process::signal(pid_1, Signal::TERM);
    a.wait_exit(SOON);
}
