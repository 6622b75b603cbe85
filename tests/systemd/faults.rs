//! Faults that leave processes alive: a hung daemon, and a network that is away.

use crate::common::{eventually, secs};
use crate::replicas::Replicas;
use crate::rig::rig;

#[test]
fn a_stopped_daemon_loses_its_job_before_another_starts_and_is_replaced() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "hung");
    let token = replicas.wait_term(1).token;
    rig.ok(&["kill", "-STOP", &replicas.daemon(1)]);
    replicas.wait_term(2);
    // The guardian gave the key back, so that the next one waited for nothing.
    let marker = replicas.status()["marker"].as_i64();
    assert!(marker >= Some(token), "{marker:?}");
    replicas.wait_queued(1);
    replicas.wait_starts(1, 2);
    let gaps = replicas.proven().handover_gaps();
    println!("stopped daemon: from the last beat to the next job's start: {gaps:.1?}");
}

#[test]
fn an_instance_that_is_cut_off_ends_its_job_before_another_starts() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "cut");
    replicas.wait_term(1);
    let (unit, group) = (replicas.unit(1), replicas.property(1, "ControlGroup"));
    let filter = |rule| rig.ok(&["systemctl", "set-property", "--runtime", &unit, rule]);
    let reaches_store = || {
        let join = format!("echo $$ >/sys/fs/cgroup{group}/cgroup.procs");
        let ask = format!("{join}; exec timeout 2 etcdctl get x");
        rig.run(&["sh", "-c", &ask]).status.success()
    };
    assert!(reaches_store());
    filter("IPAddressDeny=any");
    assert!(!reaches_store());
    replicas.wait_term(2);
    replicas.wait_said(1, &["job started", "job stopped"]);
    let gaps = replicas.proven().handover_gaps();
    println!("cut off: from the last beat to the next job's start: {gaps:.1?}");
    // What is allowed is stronger; taking the denial back leaves the filter as it is in systemd 252.
    filter("IPAddressAllow=any");
    eventually(secs(10), "its network is back", reaches_store);
    replicas.wait_queued(1);
    replicas.proven();
}
