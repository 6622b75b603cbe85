//! The packages: installed, upgraded while a replica leads, and removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{eventually, is_there, secs};
use crate::replicas::{Replicas, Setup};
use crate::rig::{Rig, rig};

/// What packs and installs.
#[derive(Clone, Copy, PartialEq)]
enum Packer {
    Deb,
    Rpm,
}

impl Packer {
    /// What its packages, and the replicas of its test, are called by.
    const fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    /// Puts a package where it is found inside, installs it, and returns what was said.
    fn install(self, rig: &Rig, package: &str) -> String {
        let package = format!("{package}.{}", self.name());
        let (folder, command): (_, &[&str]) = match self {
            Self::Deb => ("target/debian", &["dpkg", "--install"]),
            // The C library that it needs is none of its packages here.
            Self::Rpm => (
                "target/generate-rpm",
                &["rpm", "--upgrade", "--nodeps", "--force"],
            ),
        };
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        fs::copy(built.join(&package), rig.file(&package)).expect("make builds it");
        let inside = format!("/rig/{package}");
        let output = rig.run(&[command, &[&inside]].concat());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// The version that is installed.
    fn version(self, rig: &Rig) -> String {
        rig.ok(match self {
            Self::Deb => &[
                "dpkg-query",
                "--show",
                "--showformat=${Version}",
                "incumbent",
            ],
            Self::Rpm => &["rpm", "--query", "--queryformat", "%{VERSION}", "incumbent"],
        })
    }

    fn remove(self, rig: &Rig) {
        rig.ok(match self {
            Self::Deb => &["dpkg", "--remove", "incumbent"],
            Self::Rpm => &["rpm", "--erase", "incumbent"],
        });
    }
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

/// Waits until exactly these stand in the queue.
fn wait_queue(replicas: &Replicas, instances: &[usize]) {
    let name = |i: &usize| format!("{}-{i}", replicas.name);
    let expected: BTreeSet<_> = instances.iter().map(name).collect();
    eventually(secs(20), &format!("the queue is {expected:?}"), || {
        let queue = replicas.queue();
        if queue.iter().cloned().collect::<BTreeSet<_>>() == expected {
            Ok(())
        } else {
            Err(queue)
        }
    });
}

fn daemons(replicas: &Replicas) -> Vec<String> {
    let instances = 1..=replicas.instances;
    instances.map(|i| replicas.daemon(i)).collect()
}

#[test]
#[ignore = "needs two packages: make test-deb builds them"]
fn a_debs_upgrade_costs_one_hand_over_and_loses_nothing() {
    let Some(rig) = rig() else { return };
    let enabled = upgraded_and_removed(rig, Packer::Deb);
    // Settings outlive the program until it is purged; those of others always.
    let shipped = "/etc/incumbent/incumbent.toml";
    rig.ok(&["test", "-e", shipped]);
    rig.ok(&["test", "-L", &enabled]);
    rig.ok(&["dpkg", "--purge", "incumbent"]);
    rig.ok(&["test", "!", "-e", shipped]);
    rig.ok(&["test", "!", "-L", &enabled]);
    rig.ok(&["test", "-e", "/etc/incumbent/deb-1.toml"]);
}

#[test]
#[ignore = "needs two packages: make test-rpm builds them"]
fn an_rpms_upgrade_costs_one_hand_over_and_loses_nothing() {
    let Some(rig) = rig() else { return };
    if !is_there("rpm", "the RPM package under a system manager") {
        return;
    }
    let enabled = upgraded_and_removed(rig, Packer::Rpm);
    // There is no purging: what was changed is kept beside, and what was enabled is no more.
    rig.ok(&["test", "-e", "/etc/incumbent/incumbent.toml.rpmsave"]);
    rig.ok(&["test", "!", "-L", &enabled]);
    rig.ok(&["test", "-e", "/etc/incumbent/rpm-1.toml"]);
    for folder in [
        "/usr/share/doc/incumbent",
        "/usr/share/incumbent",
        "/usr/lib/incumbent",
    ] {
        rig.ok(&["test", "!", "-e", folder]);
    }
}

/// Installs, upgrades and removes the package of a packer; returns a link that an enabled replica had.
fn upgraded_and_removed(rig: &'static Rig, packer: Packer) -> String {
    uninstalled(rig);
    packer.install(rig, "older");
    let name = packer.name();
    // The second is never healthy, and so never in the queue.
    let check = format!(
        r#"candidate.check.command = ["sh", "-c", 'test "$INCUMBENT_CANDIDATE" != {name}-2']"#
    );
    let setup = Setup {
        config: &check,
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, name, &setup);
    for i in 1..=3 {
        rig.ok(&["systemctl", "enable", &replicas.unit(i)]);
    }
    replicas.start_one(1);
    rig.ok(&["systemctl", "start", &replicas.unit(2)]);
    replicas.start_one(3);
    let first = replicas.wait_term(1);
    let before = daemons(&replicas);
    let shipped = "/etc/incumbent/incumbent.toml";
    rig.ok(&["sed", "-i", "1i# ours", shipped]);

    packer.install(rig, "newer");
    assert_eq!(packer.version(rig), "0.0.2");
    let second = replicas.wait_term(2);
    wait_queue(&replicas, &[1, 3]);
    assert!(replicas.property(2, "StatusText").starts_with("unhealthy"));
    for (i, old) in (1..=3).zip(&before) {
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

    // A version that can't run with the configuration there is: the third leads, the first waits.
    let before = daemons(&replicas);
    rig.write(&format!("/etc/incumbent/{name}-1.toml"), "no.such = 1\n");
    let said = packer.install(rig, "newer");
    let stays = format!("incumbent@{name}-1.service has not joined its queue again");
    assert!(said.contains(&stays), "{said}");
    assert_eq!(replicas.daemon(3), before[2], "the leader was restarted");
    assert_eq!(replicas.property(1, "ActiveState"), "failed");

    packer.remove(rig);
    for i in 2..=3 {
        assert_eq!(replicas.property(i, "ActiveState"), "inactive");
    }
    let history = replicas.proven();
    assert_eq!(history.tokens().len(), 2, "{history:?}");
    let alive = |pid: i32| {
        rig.run(&["test", "-e", &format!("/proc/{pid}")])
            .status
            .success()
    };
    assert!(
        history.lives.iter().all(|life| !alive(life.pid)),
        "{history:?}"
    );
    format!("/etc/systemd/system/multi-user.target.wants/incumbent@{name}-3.service")
}
