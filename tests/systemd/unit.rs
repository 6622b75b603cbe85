//! What the unit gives its instances and their jobs, and what it goes on doing.

use std::collections::BTreeSet;

use crate::common::{eventually, secs};
use crate::replicas::Replicas;
use crate::rig::rig;

/// A variable by which systemd speaks to the daemon, and to nobody else.
fn is_the_daemons(variable: &str) -> bool {
    let names = [
        "NOTIFY_SOCKET",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
    ];
    let name = variable.split('=').next().unwrap();
    names.contains(&name) || name.starts_with("WATCHDOG_") || name.starts_with("LISTEN_")
}

#[test]
fn each_instance_has_a_user_its_own_and_the_job_none_of_the_daemons_variables() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "own");
    replicas.wait_term(1);
    let user = |pid: &str| rig.ok(&["stat", "--format=%u", &format!("/proc/{pid}")]);
    let daemons = [1, 2, 3].map(|i| replicas.property(i, "MainPID"));
    let users: BTreeSet<_> = daemons.iter().map(|pid| user(pid)).collect();
    assert_eq!(users.len(), 3, "{users:?}");

    let job = replicas.wait_term(1).pid.to_string();
    assert_eq!(user(&job), user(&daemons[0]));
    let variables = |pid: &str| {
        let text = rig.ok(&["cat", &format!("/proc/{pid}/environ")]);
        let of = text.split('\0').filter(|variable| !variable.is_empty());
        of.map(str::to_owned).collect::<Vec<_>>()
    };
    let told: Vec<_> = variables(&daemons[0]);
    assert!(
        told.iter().any(|variable| is_the_daemons(variable)),
        "{told:?}"
    );
    let handed: Vec<_> = variables(&job);
    assert!(
        handed
            .iter()
            .any(|variable| variable.starts_with("INCUMBENT_TOKEN="))
    );
    assert!(
        !handed.iter().any(|variable| is_the_daemons(variable)),
        "{handed:?}"
    );
}

#[test]
fn the_journal_has_the_fields_of_a_message() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "fields");
    let run = replicas.wait_term(1);
    replicas.wait_said(1, &["job started"]);
    let journal = replicas.journal(1);
    let line = journal
        .iter()
        .find(|line| line["MESSAGE"] == "job started")
        .unwrap();
    assert_eq!(line["INCUMBENT_TOKEN"], run.token.to_string());
    assert_eq!(line["INCUMBENT_PID"], run.pid.to_string());
    assert_eq!(line["INCUMBENT_CANDIDATE"], "fields-1");
    assert_eq!(line["_SYSTEMD_UNIT"], replicas.unit(1));
}

#[test]
fn ten_crashes_in_a_row_leave_the_unit_running() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "crash");
    let unit = replicas.unit(3);
    for crash in 1..=10 {
        rig.ok(&[
            "systemctl",
            "kill",
            "--kill-who=main",
            "--signal=KILL",
            &unit,
        ]);
        eventually(secs(20), &format!("crash {crash} is mended"), || {
            let seen = (replicas.starts(3), replicas.property(3, "ActiveState"));
            if seen == (crash + 1, "active".to_owned()) {
                Ok(())
            } else {
                Err(seen)
            }
        });
    }
    replicas.wait_queued(3);
    replicas.proven();
}
