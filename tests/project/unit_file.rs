//! The shipped unit: what systemd thinks of it, and the traps that it must not fall into.

use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = include_str!("../../systemd/incumbent@.service");

/// All values that the unit gives `key` in `[section]`, in order.
fn values(section: &str, key: &str) -> Vec<&'static str> {
    let header = format!("[{section}]");
    let lines = UNIT.lines().skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value)
        .collect()
}

/// The one value of `key` in `[Service]`.
fn value(key: &str) -> &'static str {
    let values = values("Service", key);
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0]
}

/// A copy whose commands are the binary that was just built, as an installed unit's would be.
fn installed_in(folder: &Path) -> PathBuf {
    let path = folder.join("incumbent@.service");
    let text = UNIT.replace("/usr/bin/incumbent", env!("CARGO_BIN_EXE_incumbent"));
    std::fs::write(&path, text).unwrap();
    path
}

/// `systemd-analyze` with these arguments and the unit; `None`, said aloud, where it is missing.
fn systemd_analyze(arguments: &[&str]) -> Option<std::process::Output> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(installed_in(folder.path()));
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            // Past the test harness, which hides what a test that passes prints.
            let notice = format!("SKIPPED: systemd-analyze can't be run: {error}\n");
            std::io::Write::write_all(&mut std::io::stderr(), notice.as_bytes()).unwrap();
            None
        }
    }
}

#[test]
fn systemd_understands_every_line() {
    let Some(output) = systemd_analyze(&["verify"]) else {
        return;
    };
    // An unknown key is only a warning, with status 0.
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaints, "");
    assert!(output.status.success());
}

#[test]
fn its_exposure_is_at_most_two() {
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    let Some(output) = systemd_analyze(&arguments) else {
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("exposure level"), "{report}");
}

#[test]
fn a_crash_takes_the_job_along_at_once() {
    assert_eq!(value("KillMode"), "mixed");
    assert_eq!(value("WatchdogSignal"), "SIGKILL");
    assert_eq!(value("LimitCORE"), "0");
    assert!(
        values("Service", "SendSIGKILL").is_empty(),
        "the default, yes, is needed"
    );
    assert!(
        values("Service", "ExecStop").is_empty(),
        "it doesn't run after a crash"
    );
    assert_eq!(value("ExecStopPost"), "+/usr/bin/incumbent release");
}

#[test]
fn only_the_daemon_speaks_to_systemd() {
    // notify-reload silently becomes simple before systemd 253.
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("NotifyAccess"), "main");
    assert!(!value("WatchdogSec").is_empty());
}

#[test]
fn it_comes_back_for_ever_unless_its_configuration_is_bad() {
    assert_eq!(value("Restart"), "always");
    assert_eq!(values("Unit", "StartLimitIntervalSec"), ["0"]);
    assert_eq!(value("RestartPreventExitStatus"), "78");
    assert_eq!(value("OOMPolicy"), "continue");
}

#[test]
fn a_reload_waits_for_its_outcome() {
    assert_eq!(value("ExecReload"), "/usr/bin/incumbent reload");
}

#[test]
fn each_instance_has_its_own_user_and_folders() {
    assert_eq!(value("DynamicUser"), "yes");
    for key in ["User", "RuntimeDirectory", "StateDirectory"] {
        assert!(value(key).contains("%i"), "{key}");
    }
    assert_eq!(value("RuntimeDirectoryMode"), "0700");
    assert!(values("Service", "RuntimeDirectoryPreserve").is_empty());
    let environment = values("Service", "Environment");
    assert!(
        environment.iter().any(|set| set.starts_with("HOME=")),
        "{environment:?}"
    );
}

#[test]
fn the_hook_has_the_daemons_configuration() {
    let environment = values("Service", "Environment");
    let config = "INCUMBENT_CONFIG=/etc/incumbent/%i.toml";
    assert!(environment.contains(&config), "{environment:?}");
}

#[test]
fn the_hook_and_the_next_daemon_see_what_an_earlier_one_left() {
    // Each start gets its own user namespace, from which the other's processes are hidden.
    assert!(values("Service", "PrivateUsers").is_empty());
    assert!(values("Service", "ProtectProc").is_empty());
    assert!(values("Service", "PrivatePIDs").is_empty());
}

#[test]
fn the_hook_need_not_wait_for_mounts_that_a_plain_user_does_without() {
    assert!(values("Service", "ProtectKernelTunables").is_empty());
}

#[test]
fn ordinary_commands_run_as_jobs() {
    // Each of these was seen to break one: java, chown, ps, ip.
    assert!(values("Service", "MemoryDenyWriteExecute").is_empty());
    assert!(values("Service", "ProcSubset").is_empty());
    assert_eq!(value("SystemCallFilter"), "@system-service");
    assert_eq!(value("SystemCallErrorNumber"), "EPERM");
    assert!(value("RestrictAddressFamilies").contains("AF_NETLINK"));
}
