//! Faults that leave processes alive: a hung daemon, and a network that is away.

use crate::replicas::Replicas;
use crate::rig::rig;

#[test]
fn a_stopped_daemon_loses_its_job_before_another_starts_and_is_replaced() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "hung");
    replicas.wait_term(1);
    rig.ok(&["kill", "-STOP", &replicas.property(1, "MainPID")]);
    replicas.wait_term(2);
    replicas.wait_queued(1);
    assert_eq!(replicas.property(1, "NRestarts"), "1");
    let gaps = replicas.proven().handover_gaps();
    println!("stopped daemon: from the last beat to the next job's start: {gaps:.1?}");
}

#[test]
fn an_instance_that_is_cut_off_ends_its_job_before_another_starts() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "cut");
    replicas.wait_term(1);
    let unit = replicas.unit(1);
    rig.ok(&[
        "systemctl",
        "set-property",
        "--runtime",
        &unit,
        "IPAddressDeny=any",
    ]);
    replicas.wait_term(2);
    replicas.wait_said(1, &["job started", "job stopped"]);
    let gaps = replicas.proven().handover_gaps();
    println!("cut off: from the last beat to the next job's start: {gaps:.1?}");
}
