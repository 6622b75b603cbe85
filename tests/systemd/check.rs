//! `incumbent check --connect` on a host with the unit: what it says of it.

use crate::replicas::{Replicas, Setup};
use crate::rig::{Rig, rig};

/// The lines on the unit that `incumbent check --connect` prints, run as `before` has it.
fn lines_on_unit(rig: &Rig, before: &[&str], config: &str) -> Vec<String> {
    let check = ["incumbent", "check", "--connect", "-c", config];
    let printed = rig.ok(&[before, &check[..]].concat());
    let ours = |line: &&str| {
        line.starts_with("unit: ") || line.contains("KillMode=") || line.contains("ExecStopPost")
    };
    printed.lines().filter(ours).map(str::to_owned).collect()
}

#[test]
fn check_looks_at_the_unit_that_runs_the_configuration() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 3,
        ..Setup::default()
    };
    let replicas = Replicas::prepare(rig, "check", &setup);
    replicas.drop_in(2, "mode", "KillMode=control-group\n");
    replicas.drop_in(3, "hook", "ExecStopPost=\n");
    rig.ok(&["systemctl", "daemon-reload"]);
    let lines = |i: usize| lines_on_unit(rig, &[], &format!("/etc/incumbent/check-{i}.toml"));
    assert_eq!(
        lines(1),
        ["unit: incumbent@check-1.service, KillMode=mixed"]
    );

    let [unit, warning] = &lines(2)[..] else {
        panic!("{:?}", lines(2))
    };
    assert_eq!(
        unit,
        "unit: incumbent@check-2.service, KillMode=control-group"
    );
    let expected = "warning: incumbent@check-2.service has KillMode=control-group: ";
    assert!(warning.starts_with(expected), "{warning}");

    let [unit, warning] = &lines(3)[..] else {
        panic!("{:?}", lines(3))
    };
    assert_eq!(unit, "unit: incumbent@check-3.service, KillMode=mixed");
    let expected = "warning: incumbent@check-3.service has no ExecStopPost=incumbent release: ";
    assert!(warning.starts_with(expected), "{warning}");
}

#[test]
fn check_looks_at_the_unit_it_runs_in_if_none_has_the_configuration() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 1,
        ..Setup::default()
    };
    Replicas::prepare(rig, "elsewhere", &setup);
    let config = "/rig/elsewhere.toml";
    rig.ok(&["cp", "/etc/incumbent/elsewhere-1.toml", config]);
    let outside = lines_on_unit(rig, &[], config);
    assert_eq!(
        outside,
        ["unit: none runs this configuration, or this command"]
    );
    let run = [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--unit=other",
        "--property=KillMode=process",
    ];
    let inside = lines_on_unit(rig, &run, config);
    assert_eq!(inside[0], "unit: other.service, KillMode=process");
    assert_eq!(inside.len(), 3, "{inside:?}");
}
