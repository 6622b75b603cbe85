//! A unit that may have no more threads and processes than it has.

use std::time::Duration;

use crate::common::{eventually, patience, process::monotonic_ns, secs, throughout};
use crate::replicas::{Replicas, Setup};
use crate::rig::rig;
use crate::store::Store;

/// Where the members of this test serve.
const PORT: u16 = 2579;

#[test]
fn a_unit_without_a_thread_to_spare_stands_again_and_a_stop_of_it_returns() {
    let Some(rig) = rig() else { return };
    let mut store = Store::start(rig, "named", PORT);
    store.go_by_name();
    let setup = Setup {
        instances: 1,
        store: Some(&store),
        config: "election.ttl = \"5s\"\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "tasks", &setup);
    let unit = replicas.unit(1);
    let tasks = |most: &str| {
        let most = format!("TasksMax={most}");
        rig.ok(&["systemctl", "set-property", "--runtime", &unit, &most]);
    };
    let elected = || {
        let lines = replicas.journal(1);
        lines
            .iter()
            .filter(|line| line["MESSAGE"] == "elected")
            .count()
    };
    replicas.wait_term(1);
    let daemon = replicas.daemon(1);
    // What was started on demand and is idle ends by then.
    throughout(secs(12), "the first term goes on", || elected() == 1);
    tasks("1");
    store.signal(rig, "STOP");
    replicas.wait_line(1, "that its term is over", |line| {
        line["MESSAGE"] == "term lost"
    });
    store.signal(rig, "CONT");
    eventually(secs(30), "it stands again", || elected() == 2);
    assert_eq!(replicas.daemon(1), daemon);
    tasks("infinity");
    replicas.wait_term(2);
    tasks("1");
    store.signal(rig, "STOP");
    let begun = monotonic_ns();
    rig.ok(&["systemctl", "stop", &unit]);
    let took = Duration::from_nanos(monotonic_ns() - begun);
    assert!(took < patience(secs(30)), "{took:?}");
    store.signal(rig, "CONT");
    replicas.proven();
}
