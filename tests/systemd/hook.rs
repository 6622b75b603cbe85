//! `incumbent release` as the unit's stop hook: whom it kills, and when it gives nothing back.

use crate::common::{eventually, secs};
use crate::replicas::Replicas;
use crate::rig::rig;

#[test]
fn a_survivor_that_the_hook_may_not_kill_keeps_the_lease() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "keep");
    replicas.wait_term(1);
    // Of root, so that the hook's user may not signal it.
    let group = replicas.property(1, "ControlGroup");
    let stranger = rig.ok(&[
        "sh",
        "-c",
        &format!(
            "sleep 600 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup{group}/cgroup.procs; echo $!"
        ),
    ]);
    // With both stopped nobody gives back in order; the watchdog kills the daemon alone.
    let main = replicas.property(1, "MainPID");
    let job = replicas.wait_term(1).pid.to_string();
    let guardian = rig.ok(&["ps", "-o", "ppid=", "-p", &job]);
    rig.ok(&["kill", "-STOP", guardian.trim(), &main]);
    eventually(secs(60), "the hook says whom it can't kill", || {
        let lines = replicas.journal(1);
        lines.iter().any(|line| {
            line["MESSAGE"]
                .as_str()
                .is_some_and(|text| text.contains("processes not killed yet"))
        })
    });
    // Longer than the lease: it is renewed, for who lives might be the job.
    std::thread::sleep(secs(17));
    let history = replicas.proven();
    assert_eq!(history.tokens().len(), 1, "{history:?}");
    assert!(rig.run(&["kill", "-0", &stranger]).status.success());
    rig.ok(&["kill", "-KILL", &stranger]);
    replicas.wait_term(2);
    replicas.proven();
}

#[test]
fn release_by_hand_or_for_another_run_touches_nothing() {
    let Some(rig) = rig() else { return };
    let replicas = Replicas::start(rig, "hand");
    let life = replicas.wait_term(1);
    let config = "INCUMBENT_CONFIG=/etc/incumbent/hand-1.toml";
    let folder = "INCUMBENT__RUNTIME_DIR=/run/incumbent-hand-1";
    let by_hand = rig.run(&["env", config, folder, "incumbent", "release"]);
    assert_eq!(by_hand.status.code(), Some(3), "{by_hand:?}");
    let run = "INVOCATION_ID=00000000000000000000000000000000";
    let other = [
        "env",
        config,
        folder,
        run,
        "SERVICE_RESULT=signal",
        "incumbent",
        "release",
    ];
    let other = rig.run(&other);
    assert_eq!(other.status.code(), Some(3), "{other:?}");
    // Even with the right run, outside of the unit's control group.
    let run = format!("INVOCATION_ID={}", replicas.property(1, "InvocationID"));
    let outside = [
        "env",
        config,
        folder,
        &run,
        "SERVICE_RESULT=signal",
        "incumbent",
        "release",
    ];
    let outside = rig.run(&outside);
    assert_eq!(outside.status.code(), Some(3), "{outside:?}");
    eventually(secs(5), "the job beats on", || {
        let history = replicas.record.history();
        let now = history.runs_of(life.token).next().unwrap().last;
        now > life.last + 100_000_000
    });
    assert_eq!(replicas.queue()[0], "hand-1");
}
