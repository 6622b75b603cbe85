//! The Debian package: installed, upgraded while a replica leads, and removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{eventually, secs};
use crate::replicas::Replicas;
use crate::rig::{Rig, rig};

/// Puts a package where `dpkg` inside finds it, and installs it.
fn install(rig: &Rig, package: &str) {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian");
    fs::copy(built.join(package), rig.file(package)).expect("make test-deb builds it");
    rig.ok(&["dpkg", "--install", &format!("/rig/{package}")]);
}

/// Makes the rig a machine on which nothing of ours was ever installed.
fn uninstalled(rig: &Rig) {
    for file in [
        "/usr/bin/incumbent",
        "/etc/systemd/system/incumbent@.service",
    ] {
        rig.ok(&["umount", file]);
        rig.ok(&["rm", file]);
    }
    // In containers it forbids all restarts.
    rig.ok(&["rm", "-f", "/usr/sbin/policy-rc.d"]);
}

#[test]
#[ignore = "needs two packages: make test-deb builds them"]
fn an_upgrade_costs_one_hand_over_and_loses_nothing() {
    let Some(rig) = rig() else { return };
    uninstalled(rig);
    install(rig, "older.deb");
    let replicas = Replicas::start(rig, "deb");
    let first = replicas.wait_term(1);
    let daemons: Vec<_> = (1..=3).map(|i| replicas.daemon(i)).collect();
    let shipped = "/etc/incumbent/incumbent.toml";
    rig.ok(&["sed", "-i", "1i# ours", shipped]);

    install(rig, "newer.deb");
    let version = [
        "dpkg-query",
        "--show",
        "--showformat=${Version}",
        "incumbent",
    ];
    assert_eq!(rig.ok(&version), "0.0.2");
    let second = replicas.wait_term(2);
    eventually(secs(20), "all stand in the queue again", || {
        let queue = replicas.queue();
        let names: BTreeSet<_> = queue.iter().cloned().collect();
        if names.len() == 3 { Ok(()) } else { Err(queue) }
    });
    for (i, old) in (1..=3).zip(&daemons) {
        let new = replicas.daemon(i);
        assert_ne!(&new, old, "{i} was not restarted");
        let binary = rig.ok(&["readlink", &format!("/proc/{new}/exe")]);
        assert_eq!(binary, "/usr/bin/incumbent");
        // Nothing crashed on the way.
        assert_eq!(replicas.property(i, "NRestarts"), "0");
    }
    let history = replicas.proven();
    assert_eq!(history.tokens(), [first.token, second.token], "{history:?}");
    for life in history.runs_of(first.token) {
        assert!(
            life.asked.is_some() && life.ended,
            "not stopped in order: {life:?}"
        );
    }
    let gaps = history.handover_gaps();
    println!("hand-over of the upgrade: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < secs(2)), "{gaps:?}");
    assert!(rig.ok(&["head", "-n1", shipped]).contains("ours"));

    rig.ok(&["dpkg", "--remove", "incumbent"]);
    for i in 1..=3 {
        assert_eq!(replicas.property(i, "ActiveState"), "inactive");
    }
    let history = replicas.proven();
    let alive = |pid: i32| {
        rig.run(&["test", "-e", &format!("/proc/{pid}")])
            .status
            .success()
    };
    assert!(
        history.lives.iter().all(|life| !alive(life.pid)),
        "{history:?}"
    );
    // Settings outlive the program until it is purged; those of others always.
    rig.ok(&["test", "-e", shipped]);
    rig.ok(&["dpkg", "--purge", "incumbent"]);
    rig.ok(&["test", "!", "-e", shipped]);
    rig.ok(&["test", "-e", "/etc/incumbent/deb-1.toml"]);
}
