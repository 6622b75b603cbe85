//! Passwords and keys: nowhere but in their files, and in nobody's reach.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a helper of tests is part of them"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use crate::common::*;
use rustix::process::Signal;

const PASSWORD: &str = "correct-horse-battery";

/// A store that wants all of it, and a replica that runs without any mask and with core dumps on.
struct Secured {
    scene: Scene,
    password: PathBuf,
    script: PathBuf,
}

impl Secured {
    fn start() -> Self {
        let scene = Scene::on(Cluster::start_tls(1, true, &["--bcrypt-cost", "4"]));
        let cluster = &scene.cluster;
        cluster.ask("a user", async |mut client| {
            client.user_add("candidate", PASSWORD, None).await?;
            client.user_grant_role("candidate", "root").await.map(drop)
        });
        cluster.turn_auth_on();
        let password = cluster.sandbox().join("password");
        security::write(&password, PASSWORD);
        let script = cluster.sandbox().join("unmasked");
        let binary = env!("CARGO_BIN_EXE_incumbent");
        let lines = format!(
            "#!/bin/sh\numask 000\nulimit -c unlimited\ncd {0}\nexec {binary} \"$@\"\n",
            cluster.sandbox().path().display()
        );
        fs::write(&script, lines).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            scene,
            password,
            script,
        }
    }

    fn daemon(&self, name: &str) -> daemon::Builder {
        let password = self.password.display();
        let login = format!("etcd = {{ username = 'candidate', password_file = '{password}' }}");
        let daemon = Daemon::builder(&self.scene.cluster, name)
            .ttl("15s")
            .toml(&login);
        daemon.binary(self.script.clone())
    }

    /// What nobody may see: the password, and a line from the middle of the key.
    fn secrets(&self) -> Vec<String> {
        let key = fs::read_to_string(self.scene.cluster.tls().unwrap().key()).unwrap();
        vec![PASSWORD.to_owned(), key.lines().nth(1).unwrap().to_owned()]
    }

    /// Where secrets stand in `text`.
    #[track_caller]
    fn assert_none_in(&self, what: &str, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        for secret in self.secrets() {
            let line = text.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{what}");
        }
    }
}

#[test]
fn secrets_are_in_no_log_no_answer_and_no_process() {
    let secured = Secured::start();
    let job = [
        "sh",
        "-c",
        "env; cat \"$INCUMBENT_CONFIG\"; exec sleep 1000000",
    ];
    let a = secured
        .daemon("a")
        .job(&job)
        .toml("log.filter = 'trace'")
        .spawn();
    a.wait_job(SOON);
    // A job that asks the store itself, and answers that are errors.
    let cluster = &secured.scene.cluster;
    let asked = |arguments: &[&str]| {
        let typed = cluster.incumbent(arguments);
        let typed = typed.env("INCUMBENT__ETCD__USERNAME", "candidate");
        let answer = typed
            .env("INCUMBENT__ETCD__PASSWORD_FILE", &secured.password)
            .run();
        secured.assert_none_in("an answer", &answer.output);
        secured.assert_none_in("a complaint", answer.errors.as_bytes());
        answer.code
    };
    assert_eq!(asked(&["status", "-o", "json"]), Some(0));
    assert_eq!(asked(&["check", "--connect"]), Some(0));
    assert_eq!(asked(&["check", "--print-role"]), Some(0));
    assert_eq!(asked(&["kv", "get", "--rev", "1000000", "/x"]), Some(1));

    let processes = a.processes();
    assert!(processes.len() >= 3, "daemon, guardian, job: {processes:?}");
    for pid in processes {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            secured.assert_none_in(&format!("{file} of {pid}"), &text);
        }
    }
    let lease = fs::read(a.folder().join("run/lease.json")).unwrap();
    secured.assert_none_in("a lease file without a unit", &lease);
    // A new login, and one that fails.
    cluster.set_password("candidate", "another");
    a.wait_said("store unreachable", "no user");
    security::write(&secured.password, "another");
    a.wait_log("store reachable again", SOON);
    a.sigterm();
    a.wait_exit(STOPPED);
    secured.assert_none_in("the log", &fs::read(a.folder().join("log")).unwrap());
}

#[test]
fn files_and_sockets_are_the_owners_alone_whatever_the_mask() {
    let secured = Secured::start();
    let folder = secured.scene.cluster.sandbox().join("made/by/the/daemon");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let a = secured.daemon("a");
    let a = a
        .env("INCUMBENT__RUNTIME_DIR", folder.to_str().unwrap())
        .spawn();
    a.wait_job(SOON);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    // It is written anew, beside its place, a moment after the job's start.
    eventually(SOON, "the lease file tells of the term", || {
        let text = fs::read(folder.join("lease.json")).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        file["token"].is_i64()
    });
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(files.contains(&folder.join("lease.json")), "{files:?}");
    for file in files {
        assert_eq!(mode(&file) & !0o700, 0, "{}", file.display());
        assert_eq!(mode(&file) & 0o111, 0, "{}", file.display());
    }
}

#[test]
fn processes_that_hold_a_secret_leave_no_core_dump() {
    let secured = Secured::start();
    // Whether this machine writes any.
    let mut control = std::process::Command::new("sh");
    control.args(["-c", "ulimit -c unlimited; kill -ABRT $$"]);
    control.current_dir(secured.scene.cluster.sandbox().path());
    if !control.status().unwrap().core_dumped() {
        eprintln!("SKIPPED: this machine writes no core dumps");
        return;
    }
    let a = secured.daemon("a").spawn();
    a.wait_job(SOON);
    process::signal(a.pid(), Signal::ABORT);
    let status = a.wait_exit(SOON);
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
}
