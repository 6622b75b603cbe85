//! Other processes: signals, and what `/proc` says about them.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::wait::{eventually, secs};

/// Nanoseconds on `CLOCK_MONOTONIC`, the clock of the job's record.
pub fn monotonic_ns() -> u64 {
    nanos_of(ClockId::Monotonic)
}

/// Nanoseconds since 1970, by the clock on the wall.
pub fn realtime_ns() -> u64 {
    nanos_of(ClockId::Realtime)
}

fn nanos_of(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Sends a signal; a process that is gone already is no fault.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Err(error) = kill_process(pid, signal)
        && error != rustix::io::Errno::SRCH
    {
        panic!("{signal:?} to {pid:?}: {error}");
    }
}

/// Stops a process and returns only when the kernel says that it stands still.
pub fn freeze(pid: i32) {
    signal(pid, Signal::STOP);
    eventually(secs(2), "a stopped process stands still", || {
        matches!(state(pid), Some('T' | 'Z') | None)
    });
}

/// Lets a stopped process go on.
pub fn thaw(pid: i32) {
    signal(pid, Signal::CONT);
}

/// The kernel's letter for what a process does (`R`, `S`, `T`, `Z` …); `None` when it is gone.
pub fn state(pid: i32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// Whether any thread of a process runs or could run: it is neither gone nor a zombie as a whole. The
/// first thread may be one while others are ending, and hold what the process has open.
pub fn is_alive(pid: i32) -> bool {
    match state(pid) {
        None => false,
        Some('Z' | 'X') => {
            fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() > 1)
        }
        Some(_) => true,
    }
}

/// The short name of a process.
pub fn comm(pid: i32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end().to_owned())
}

/// The children of a process, whatever started them.
pub fn children(pid: i32) -> Vec<i32> {
    all()
        .filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid))
        .collect()
}

/// Living processes with a variable in their environment that begins with `start`
/// (`NAME=value`).
pub fn carrying(start: &str) -> Vec<i32> {
    let carries = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ
                .split(|byte| *byte == 0)
                .any(|variable| variable.starts_with(start.as_bytes()))
        })
    };
    all().filter(carries).collect()
}

/// The living child of a process that has this short name.
pub fn child(parent: i32, name: &str) -> Option<i32> {
    let mut children = children(parent).into_iter();
    children.find(|pid| is_alive(*pid) && comm(*pid).as_deref() == Some(name))
}

/// Kills every process that carries `start` and returns when none is left.
pub fn sweep(start: &str) {
    let begun = std::time::Instant::now();
    loop {
        let left = carrying(start);
        if left.is_empty() || begun.elapsed() > Duration::from_secs(5) {
            return;
        }
        for pid in left {
            signal(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything, spaces and parentheses included.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// The CPU time that the threads of a process have taken so far.
pub fn cpu_time(pid: i32) -> Duration {
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    Duration::from_nanos(threads.map(|entry| of_thread(entry.unwrap())).sum())
}
