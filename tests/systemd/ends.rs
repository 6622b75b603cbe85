//! How a leader under the unit ends, and that the next one follows.

use crate::common::{eventually, patience, secs};
use crate::replicas::Replicas;
use crate::rig::rig;

/// Kills the leader's unit `how`, and looks at what follows.
fn a_kill_hands_over(name: &'static str, how: &str) {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, name);
    let killed = replicas.wait_term(1);
    rig.ok(&["systemctl", "kill", how, "--signal=KILL", &replicas.unit(1)]);
    replicas.wait_term(2);
    // By its restart, at the end of the queue.
    replicas.wait_queued(1);
    replicas.wait_starts(1, 2);
    let gaps = replicas.proven().handover_gaps();
    println!("{how}: from the last beat to the next job's start: {gaps:.1?}");
    // A lease that is left to end takes 15 s.
    assert!(gaps[0] < patience(secs(5)), "{gaps:?}");
    // The guardian is killed with the daemon, so it was the stop hook that gave the term back.
    eventually(secs(10), "the history says who ended the term", || {
        let reason = replicas.ended_for(killed.token);
        if reason.as_deref() == Some("unit_failed") {
            Ok(())
        } else {
            Err(reason)
        }
    });
}

#[test]
fn kill_9_of_the_daemon_hands_over_long_before_the_lease_ends_and_it_rejoins() {
    a_kill_hands_over("main", "--kill-who=main");
}

#[test]
fn kill_9_of_everything_hands_over_long_before_the_lease_ends_and_it_rejoins() {
    a_kill_hands_over("all", "--kill-who=all");
}

#[test]
fn a_start_is_ready_in_the_queue_and_a_stop_ends_the_job_resigns_and_exits_0() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "stop");
    replicas.wait_term(1);
    for i in 1..=3 {
        assert_eq!(replicas.property(i, "ActiveState"), "active");
    }
    assert_eq!(replicas.queue(), ["stop-1", "stop-2", "stop-3"]);
    eventually(secs(10), "the unit says that it leads", || {
        let status = replicas.property(1, "StatusText");
        if status.starts_with("leading, token ") {
            Ok(())
        } else {
            Err(status)
        }
    });
    rig.ok(&["systemctl", "stop", &replicas.unit(1)]);
    assert_eq!(replicas.property(1, "Result"), "success");
    assert_eq!(replicas.property(1, "ExecMainStatus"), "0");
    replicas.wait_said(
        1,
        &[
            "campaigning",
            "elected",
            "job started",
            "job stopped",
            "resigned",
        ],
    );
    replicas.wait_term(2);
    assert_eq!(replicas.queue(), ["stop-2", "stop-3"]);
    let history = replicas.proven();
    assert!(history.lives[0].ended, "{history:?}");
}
