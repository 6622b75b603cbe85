//! What is left on a host where daemon and guardian were killed at once, and what the next daemon
//! there makes of it.

use std::fs;
use std::path::Path;

use crate::common::*;
use rustix::process::Signal;

/// The number in a file that a job writes.
#[track_caller]
fn number_in(file: &Path) -> i32 {
    let what = format!("a process has written {}", file.display());
    eventually(SOON, &what, || {
        fs::read_to_string(file).ok()?.trim().parse().ok()
    })
}

/// A command that writes its own number to a file, and then becomes `command`.
fn noted(file: &Path, command: &str) -> String {
    format!("echo $$ >{}; exec {command}", file.display())
}

/// Whether this machine lets a test take another user's rights.
fn may_change_user() -> bool {
    if !rustix::process::geteuid().is_root() {
        skipped("a job with another user's rights: it takes root");
        return false;
    }
    is_there("setpriv", "a job with another user's rights")
}

/// The kernel doesn't kill a process with its parent once it has taken other rights.
#[test]
fn a_job_that_took_another_users_rights_is_dead_before_the_next_one_starts() {
    if !may_change_user() {
        return;
    }
    let scene = Scene::start(1);
    for (n, environment) in ["env", "env -i", "env -i setsid -w"].iter().enumerate() {
        let name = format!("a{n}");
        let command = format!("exec setpriv --reuid=65534 --clear-groups {environment} sleep 1000");
        let builder = || Daemon::builder(&scene.cluster, &name).prefix(&format!("/{name}"));
        let a = builder().job(&["sh", "-c", &command]).spawn();
        let job = a.wait_job(SOON);
        eventually(SOON, "it has another user's rights", || {
            process::comm(job).as_deref() == Some(if n == 2 { "setsid" } else { "sleep" })
        });
        let below = process::children(job);
        a.sigkill_both();
        assert!(process::is_alive(job), "{environment}: it dies by itself");

        let again = builder().spawn();
        again.wait_job(SOON);
        assert!(!process::is_alive(job), "{environment}: two jobs");
        assert!(!below.iter().any(|pid| process::is_alive(*pid)));
        again.wait_log("fencing a process left behind", SOON);
    }
}

/// A daemon whose job is a shell that starts another daemon, of another election.
struct Nested {
    outer: Daemon,
    /// The election of the inner daemon: a name of its own for each, since who starts in one kills what
    /// it finds left of it on this host, whichever test left it.
    inner: String,
    /// The process of the outer job that starts the inner daemon, and lives on after it.
    shell: i32,
    /// What the inner daemon's job left behind, in a session of its own.
    left: i32,
}

impl Nested {
    fn start(scene: &Scene, command: &str) -> Self {
        // No two clusters listen at one port.
        let whose = scene.cluster.endpoints()[0]
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned();
        let inner = format!("/inner-{whose}");
        let folder = |name: &str| scene.cluster.sandbox().join(name);
        let (left, shell) = (folder("left"), folder("shell"));
        let job = format!(
            "setsid sh -c '{}' & exec sleep 1000",
            noted(&left, "sleep 1000")
        );
        let script = format!(
            "unset INCUMBENT_CONFIG; export INCUMBENT__RUNTIME_DIR={}; echo $$ >{}; \"$0\" {command} --endpoints {} --election {inner} -- \
             sh -c \"$1\" & while :; do sleep 1; done",
            folder("inner").display(),
            shell.display(),
            scene.cluster.endpoints()[0],
        );
        let binary = program();
        let outer = Daemon::builder(&scene.cluster, "outer")
            .prefix(&format!("/outer-{whose}"))
            .job(&["sh", "-c", &script, binary.to_str().unwrap(), &job])
            .env("INCUMBENT__ELECTION__TTL", "4s")
            .env("INCUMBENT__JOB__LOST_GRACE", "300ms")
            .env("INCUMBENT__JOB__KILL_BUDGET", "500ms")
            .env("TMPDIR", scene.cluster.sandbox().path().to_str().unwrap())
            .spawn();
        Self {
            shell: number_in(&shell),
            left: number_in(&left),
            inner,
            outer,
        }
    }

    /// Kills the inner daemon and its guardian at once.
    #[track_caller]
    fn kill_inner(&self) {
        let of_name = |parent: i32, name: &str| process::child(parent, name);
        let inner = eventually(SOON, "the inner daemon runs", || {
            of_name(self.shell, "incumbent")
        });
        let guardian = eventually(SOON, "it has a guardian", || {
            of_name(inner, "incumbent-guard")
        });
        process::freeze(guardian);
        process::signal(inner, Signal::KILL);
        process::signal(guardian, Signal::KILL);
        eventually(SOON, "both are dead", || {
            !process::is_alive(inner) && !process::is_alive(guardian)
        });
    }
}

#[test]
fn what_a_daemon_inside_another_ones_job_left_is_dead_before_the_next_job_starts() {
    for command in ["run", "exec"] {
        let scene = Scene::start(1);
        let nested = Nested::start(&scene, command);
        nested.kill_inner();
        assert!(process::is_alive(nested.left), "it dies by itself");
        let next = Daemon::builder(&scene.cluster, "next")
            .prefix(&nested.inner)
            .spawn();
        next.wait_job(SOON);
        assert!(!process::is_alive(nested.left), "two jobs of one election");
        assert!(process::is_alive(nested.shell), "the outer job is killed");
        assert!(nested.outer.is_alive());
    }
}

#[test]
fn what_lives_under_a_living_guardian_of_the_election_is_left_alone() {
    let scene = Scene::start(1);
    let nested = Nested::start(&scene, "run");
    let next = Daemon::builder(&scene.cluster, "next")
        .prefix(&nested.inner)
        .spawn();
    next.wait_log("campaigning", SOON);
    throughout(secs(1), "the job of the other replica lives", || {
        process::is_alive(nested.left)
    });
    assert!(next.lines("fencing a process left behind").is_empty());
}

/// The name of a process is for the process to choose.
#[test]
fn a_process_that_calls_itself_a_guardian_shields_nothing() {
    let scene = Scene::start(1);
    let left = scene.cluster.sandbox().join("left");
    let shield = scene.cluster.sandbox().join("incumbent-guard");
    std::os::unix::fs::symlink("/bin/sh", &shield).unwrap();
    let job = format!(
        "setsid {} -c '(echo $$ >{}; exec sleep 1000) & wait' & exec sleep 1000",
        shield.display(),
        left.display()
    );
    let builder = || Daemon::builder(&scene.cluster, "a").prefix("/shield");
    let a = builder().job(&["sh", "-c", &job]).spawn();
    a.wait_job(SOON);
    let shield = number_in(&left);
    a.sigkill_both();
    assert!(process::is_alive(shield), "it dies by itself");
    let next = Daemon::builder(&scene.cluster, "next")
        .prefix("/shield")
        .spawn();
    next.wait_job(SOON);
    assert!(!process::is_alive(shield), "two jobs");
}
