//! Which of a daemon's processes is what, and which of them bear a signal.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Daemon, Line, process};
use crate::elections::Election;
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

/// The one of this election.
pub(crate) fn guardian(daemon: &Daemon, of: Election) -> Option<i32> {
    owner(daemon, of, "incumbent-guard", "runs")
}

/// The one of this election.
pub(crate) fn guardian_of_checks(daemon: &Daemon, of: Election) -> Option<i32> {
    owner(daemon, of, "incumbent-check", "runs.checks")
}

/// The child with this short name; of several jobs' that which holds this file of its job's.
fn owner(daemon: &Daemon, of: Election, name: &str, file: &str) -> Option<i32> {
    let Some(job) = of.job() else {
        return process::child(daemon.pid(), name);
    };
    let held = Path::new("jobs").join(job.name()).join(file);
    let holds = |pid: &i32| {
        let all = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let mut all = all.into_iter().flatten().flatten();
        all.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|it| it.ends_with(&held)))
    };
    let mut named = guardians(daemon).into_iter();
    named.find(|pid| process::comm(*pid).as_deref() == Some(name) && holds(pid))
}

/// All guardians, those of checks as well.
pub(crate) fn guardians(daemon: &Daemon) -> Vec<i32> {
    let mut children = process::children(daemon.pid());
    children.retain(|pid| {
        let comm = process::comm(*pid).unwrap_or_default();
        ["incumbent-guard", "incumbent-check"].contains(&comm.as_str()) && process::is_alive(*pid)
    });
    children
}

/// Daemon and guardians.
pub(crate) fn of_ours(daemon: &Daemon) -> Vec<i32> {
    let guardians = guardians(daemon).into_iter();
    guardians.chain([daemon.pid()]).collect()
}

/// The lines with this message about this election.
pub(crate) fn lines(daemon: &Daemon, of: Election, message: &str) -> Vec<Line> {
    let mut lines = daemon.lines(message);
    lines.retain(|line| line.get("election").and_then(Value::as_str) == Some(of.prefix()));
    lines
}

/// The main process of its last run, while it lives.
pub(crate) fn job(daemon: &Daemon, of: Election) -> Option<i32> {
    let started = lines(daemon, of, "job started");
    let pid = started.last()?.get("pid").and_then(Value::as_i64)?;
    let pid = i32::try_from(pid).ok()?;
    daemon.processes().contains(&pid).then_some(pid)
}

/// What came of a daemon beside itself and its guardians: of several jobs' what is of this one.
pub(crate) fn tree(daemon: &Daemon, of: Election) -> Vec<i32> {
    let ours = of_ours(daemon);
    let mut tree = daemon.processes();
    tree.retain(|pid| !ours.contains(pid));
    if of.job().is_some() {
        let own = process::carrying(&format!("INCUMBENT_ELECTION={}", of.prefix()));
        tree.retain(|pid| own.contains(pid));
    }
    tree
}

/// Signals all that `find` finds, until no other is found.
pub(crate) fn all_of(signal: Signal, find: impl Fn() -> Vec<i32>) -> Vec<i32> {
    let mut got = Vec::new();
    loop {
        let mut new = find();
        new.retain(|pid| !got.contains(pid));
        if new.is_empty() {
            return got;
        }
        for pid in new {
            process::signal(pid, signal);
            got.push(pid);
        }
    }
}
