//! Which of a daemon's processes is what, and which of them bear a signal.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Daemon, process};
use crate::replicas::binary;

/// Whether it may be sent this signal yet: one that starts does not listen, and what is to become it
/// would die of any.
pub(crate) fn bears(daemon: &Daemon, signal: Signal) -> bool {
    match signal {
        Signal::KILL | Signal::STOP => true,
        Signal::TERM => {
            let is_it = process::comm(daemon.pid()).is_some_and(|comm| binary_name() == comm);
            // On a busy host the program may take its time until it listens.
            is_it && heeds(daemon.pid(), signal)
        }
        _ => daemon.is_alive() && !daemon.lines("campaigning").is_empty(),
    }
}

/// Whether a process has blocked this signal, or catches it.
fn heeds(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let sets = status.lines().filter_map(|line| {
        let set = line
            .strip_prefix("SigBlk:")
            .or(line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let heeded = sets.fold(0, |all, set| all | set);
    heeded >> (signal.as_raw() - 1) & 1 == 1
}

/// The tool's name as the kernel has it.
fn binary_name() -> String {
    let binary = binary();
    let name = Path::new(&binary).file_name().unwrap().to_str().unwrap();
    name.chars().take(15).collect()
}

pub(crate) fn guardian(daemon: &Daemon) -> Option<i32> {
    process::child(daemon.pid(), "incumbent-guard")
}

pub(crate) fn guardian_of_checks(daemon: &Daemon) -> Option<i32> {
    process::child(daemon.pid(), "incumbent-check")
}

/// Daemon and guardians.
pub(crate) fn of_ours(daemon: &Daemon) -> Vec<i32> {
    let guardians = [guardian(daemon), guardian_of_checks(daemon)];
    guardians
        .into_iter()
        .flatten()
        .chain([daemon.pid()])
        .collect()
}

/// The main process of its last run, while it lives.
pub(crate) fn job(daemon: &Daemon) -> Option<i32> {
    let started = daemon.lines("job started");
    let pid = started.last()?.get("pid").and_then(Value::as_i64)?;
    let pid = i32::try_from(pid).ok()?;
    daemon.processes().contains(&pid).then_some(pid)
}

/// Signals all there are but for some, until no other is found.
pub(crate) fn whole_tree(daemon: &Daemon, signal: Signal, spared: &[i32]) -> Vec<i32> {
    let mut got = Vec::new();
    loop {
        let new: Vec<_> = daemon
            .processes()
            .into_iter()
            .filter(|pid| !spared.contains(pid) && !got.contains(pid))
            .collect();
        if new.is_empty() {
            return got;
        }
        for pid in new {
            process::signal(pid, signal);
            got.push(pid);
        }
    }
}
