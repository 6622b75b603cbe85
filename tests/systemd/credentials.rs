//! A store that asks for a password, and a unit that gets it as a credential of systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::common::{eventually, patience, secs};
use crate::replicas::{Replicas, Setup};
use crate::rig::{Rig, rig};
use crate::store::Store;

/// Of the password, a readable copy for the commands that the test types itself.
const TYPED: &str = "INCUMBENT__ETCD__PASSWORD_FILE=/rig/password";

/// The configuration of who logs in with a credential.
const LOGIN: &str = "etcd.username = \"daemon\"\n\
                     etcd.password_file = \"${CREDENTIALS_DIRECTORY}/etcd-password\"\n";

/// A store that wants a password for the election `/NAME`; killed on drop.
struct Locked {
    rig: &'static Rig,
    store: Store,
}

impl Locked {
    fn start(rig: &'static Rig, name: &'static str, port: u16) -> Self {
        let mut store = Store::start(rig, name, port);
        store.lock(rig, &format!("/{name}"), "daemon", "correct horse");
        rig.write_secret("/etc/incumbent/right.password", "correct horse\n");
        rig.write_secret("/etc/incumbent/wrong.password", "battery staple\n");
        fs::write(rig.file("password"), "correct horse\n").unwrap();
        Self { rig, store }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.store.stop(self.rig);
    }
}

/// How many writes of a term the store took, as the job recorded them.
fn accepted(rig: &Rig, token: i64) -> usize {
    let text = fs::read_to_string(rig.file("login.count")).unwrap_or_default();
    let of_term = format!("accepted {token} ");
    text.lines()
        .filter(|line| line.starts_with(&of_term))
        .count()
}

#[test]
fn a_credential_opens_the_store_to_the_daemon_its_job_and_the_hook() {
    let Some(rig) = rig() else { return };
    let locked = Locked::start(rig, "login", 3379);
    let count = rig.file("login.count");
    fs::write(&count, "").unwrap();
    fs::set_permissions(&count, fs::Permissions::from_mode(0o666)).unwrap();
    let setup = Setup {
        store: Some(&locked.store),
        job: &[
            "--count",
            "/rig/login.count",
            "/login-count",
            "/usr/bin/incumbent",
        ],
        config: LOGIN,
        drop_in: "LoadCredential=etcd-password:/etc/incumbent/right.password\n",
        variables: &[TYPED],
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, "login", &setup);
    replicas.start_one(1);
    replicas.start_one(2);
    let first = replicas.wait_term(1).token;
    eventually(secs(20), "the first job writes", || {
        accepted(rig, first) > 0
    });

    rig.ok(&["kill", "-KILL", &replicas.daemon(1)]);
    let second = replicas.wait_term(2).token;
    let resigned = replicas.wait_line(1, "that its hook resigned", |line| {
        line["MESSAGE"] == "resigned" && line["INCUMBENT_BY"] == "release"
    });
    assert_eq!(resigned["INCUMBENT_CONFIRMED"], "true", "{resigned}");
    assert_eq!(resigned["INCUMBENT_TOKEN"], first.to_string());
    let gaps = replicas.proven().handover_gaps();
    assert!(gaps[0] < patience(secs(5)), "{gaps:?}");
    eventually(secs(20), "the second job writes", || {
        accepted(rig, second) > 0
    });
    replicas.wait_queued(1);

    // The last one, with a password that isn't the user's.
    let wrong = "LoadCredential=\nLoadCredential=etcd-password:/etc/incumbent/wrong.password\n";
    replicas.drop_in(3, "wrong", wrong);
    rig.ok(&["systemctl", "daemon-reload"]);
    rig.ok(&["systemctl", "start", &replicas.unit(3)]);
    let line = replicas.wait_line(3, "what is wrong", |line| {
        line["MESSAGE"] == "store unreachable"
    });
    let error = line["INCUMBENT_ERROR"].as_str().unwrap();
    assert!(
        error.contains("authentication failed, invalid user ID or password"),
        "{line}"
    );
    assert_eq!(replicas.property(3, "ActiveState"), "active");
    assert_eq!(replicas.queue(), ["login-2", "login-1"]);
    let secret = |line: &Value| line.to_string().contains("battery staple");
    assert!(!replicas.journal(3).iter().any(secret));
}

/// Changes what an instance's lease file has for credentials, once it tells of the term.
fn change_credentials(replicas: &Replicas, i: usize, change: impl Fn(&mut Value)) {
    let (rig, name) = (replicas.rig, replicas.name);
    let file = format!("/run/incumbent-{name}-{i}/lease.json");
    let mut text = eventually(secs(10), "the lease file tells of the term", || {
        let text = rig.ok(&["cat", &file]);
        let text: Value = serde_json::from_str(&text).map_err(|_| Value::Null)?;
        if text["token"].is_i64() {
            Ok(text)
        } else {
            Err(text)
        }
    });
    change(&mut text["credentials"]);
    let changed = format!("{name}-{i}.changed");
    fs::write(rig.file(&changed), text.to_string()).unwrap();
    // Into the file that is there, whose owner stays who it is.
    rig.ok(&["cp", &format!("/rig/{changed}"), &file]);
}

#[test]
fn the_hook_needs_no_login_of_its_own_unless_the_daemons_is_refused() {
    let Some(rig) = rig() else { return };
    let locked = Locked::start(rig, "token", 5379);
    let setup = Setup {
        store: Some(&locked.store),
        config: LOGIN,
        drop_in: "LoadCredential=etcd-password:/etc/incumbent/right.password\n",
        variables: &[TYPED],
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, "token", &setup);
    replicas.start_one(1);
    replicas.start_one(2);
    let kill_all = |i| {
        let group = replicas.property(i, "ControlGroup");
        let kill = format!("echo 1 >/sys/fs/cgroup{group}/cgroup.kill");
        rig.ok(&["sh", "-c", &kill]);
    };
    let wait_resigned = |i, token: i64| {
        let token = token.to_string();
        let resigned = replicas.wait_line(i, "that its hook resigned", |line| {
            line["MESSAGE"] == "resigned" && line["INCUMBENT_TOKEN"] == token
        });
        assert_eq!(resigned["INCUMBENT_BY"], "release", "{resigned}");
        assert_eq!(resigned["INCUMBENT_CONFIRMED"], "true", "{resigned}");
    };

    let first = replicas.wait_term(1).token;
    change_credentials(&replicas, 1, |credentials| {
        credentials["password"] = "battery staple".into();
    });
    kill_all(1);
    wait_resigned(1, first);

    // One that the store has forgotten.
    let second = replicas.wait_term(2).token;
    change_credentials(&replicas, 2, |credentials| {
        credentials["token"]["text"] = "forgotten.1".into();
    });
    kill_all(2);
    wait_resigned(2, second);
    replicas.wait_term(3);
    let gaps = replicas.proven().handover_gaps();
    assert!(gaps.iter().all(|gap| *gap < patience(secs(5))), "{gaps:?}");
}

#[test]
fn a_credential_that_the_unit_does_not_load_is_named_and_nothing_is_tried_again() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 1,
        config: LOGIN,
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, "unloaded", &setup);
    let start = rig.run(&["systemctl", "start", &replicas.unit(1)]);
    assert!(!start.status.success(), "{start:?}");
    replicas.wait_line(1, "what is missing", |line| {
        let text = line["MESSAGE"].as_str().unwrap_or_default();
        text.contains("etcd.password_file: expected CREDENTIALS_DIRECTORY in the environment")
    });
    assert_eq!(replicas.property(1, "ExecMainStatus"), "78");
    assert_eq!(replicas.property(1, "ActiveState"), "failed");
    assert_eq!(replicas.property(1, "NRestarts"), "0");
}

#[test]
fn a_new_password_costs_one_hand_over_by_way_of_a_second_user() {
    let Some(rig) = rig() else { return };
    let locked = Locked::start(rig, "rotate", 4379);
    let typed = |password| fs::write(rig.file("rotate.password"), password).unwrap();
    typed("correct horse\n");
    let setup = Setup {
        store: Some(&locked.store),
        config: LOGIN,
        drop_in: "LoadCredential=etcd-password:/etc/incumbent/right.password\n",
        variables: &["INCUMBENT__ETCD__PASSWORD_FILE=/rig/rotate.password"],
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, "rotate", &setup);
    replicas.start_one(1);
    replicas.start_one(2);
    let first = replicas.wait_term(1).token;

    // As the documentation says it: a second user with the same role, then one host after the other,
    // the leader's last, then away with the first.
    let store = &locked.store;
    store.ok(rig, &["user", "add", "daemon-2:horse of another colour"]);
    store.ok(rig, &["user", "grant-role", "daemon-2", "daemon"]);
    rig.write_secret(
        "/etc/incumbent/second.password",
        "horse of another colour\n",
    );
    for i in [2, 1] {
        if i == 1 {
            // The first configuration is the one that the test's own commands read.
            typed("horse of another colour\n");
        }
        let file = format!("/etc/incumbent/rotate-{i}.toml");
        rig.ok(&["sed", "-i", "s/= \"daemon\"/= \"daemon-2\"/", &file]);
        let lines =
            "LoadCredential=\nLoadCredential=etcd-password:/etc/incumbent/second.password\n";
        replicas.drop_in(i, "second", lines);
        rig.ok(&["systemctl", "daemon-reload"]);
        rig.ok(&["systemctl", "restart", &replicas.unit(i)]);
        replicas.wait_queued(i);
    }
    store.ok(rig, &["user", "delete", "daemon"]);
    let second = replicas.wait_term(2).token;
    assert!(second > first);
    let gaps = replicas.proven().handover_gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0] < patience(secs(1)), "{gaps:?}");
    assert_eq!(replicas.queue(), ["rotate-2", "rotate-1"]);
}
