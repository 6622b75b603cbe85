//! Time namespaces: clocks that are days ahead of the machine's, as another host's are.

use std::path::PathBuf;
use std::process::Command;

use super::command::skipped;

/// What a command is to be started by so that its clocks are so many seconds ahead of the machine's.
pub fn command(boottime: i64, monotonic: i64) -> [String; 4] {
    let [unshare, time] = ["unshare", "--time"].map(str::to_owned);
    let boottime = format!("--boottime={boottime}");
    [unshare, time, boottime, format!("--monotonic={monotonic}")]
}

/// Whether a test may start processes with clocks of their own; says that `what` is left out where it
/// may not.
pub fn may_shift_clocks(what: &str) -> bool {
    let words = command(1, 1);
    let tried = Command::new(&words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        skipped(&format!(
            "{what}: no time namespace can be made here: it takes root, Linux 6.0 and unshare"
        ));
    }
    may
}

/// The time namespace of a process.
pub fn of(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/time")).unwrap()
}
