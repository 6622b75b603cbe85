//! What fifty jobs in one daemon cost, and how they hand over: measured by
//! `INCUMBENT_BIN=target/release/incumbent cargo test --test daemon -- --ignored --nocapture fifty`.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "it is there for the figures, and counts are small"
)]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::common::*;

const JOBS: usize = 50;

fn replica(cluster: &Cluster, name: &str, jobs: usize) -> Daemon {
    let builder = Daemon::builder(cluster, name)
        .ttl("15s")
        .toml("log.filter = 'info'");
    let builder = (0..jobs).fold(builder, |builder, job| {
        builder.named_job(&format!("job-{job}"), &["sleep", "1000000"])
    });
    builder.spawn()
}

/// How many of the jobs each of these leads.
fn led(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut led = BTreeMap::new();
    for first in cluster.firsts(JOBS).into_values() {
        *led.entry(first.name).or_default() += 1;
    }
    led
}

/// Daemon and guardians.
fn processes(daemon: &Daemon) -> Vec<i32> {
    [vec![daemon.pid()], process::children(daemon.pid())].concat()
}

/// Memory of these processes that is theirs alone, and their parts of what they share, in KiB.
fn pss(pids: &[i32]) -> u64 {
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum()
}

fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn cpu(pids: &[i32]) -> Duration {
    pids.iter().map(|pid| process::cpu_time(*pid)).sum()
}

#[test]
#[ignore = "a measurement of some minutes"]
fn fifty_jobs_on_three_hosts() {
    let cluster = Cluster::start(3);
    let alone = replica(&cluster, "alone", 1);
    alone.wait_log("job started", SOON);
    std::thread::sleep(secs(5));
    let one = (pss(&processes(&alone)), threads(alone.pid()));
    alone.sigterm();
    alone.wait_exit(STOPPED);

    let replicas = ["a", "b", "c"].map(|name| replica(&cluster, name, JOBS));
    let all_led = || led(&cluster).values().sum::<usize>() == JOBS;
    eventually(secs(60), "all are led", all_led);
    println!("spread: {:?}", led(&cluster));
    std::thread::sleep(secs(20));
    let pids = processes(&replicas[0]);
    let before = cpu(&pids);
    std::thread::sleep(secs(60));
    let spent = cpu(&pids).saturating_sub(before);
    let (many, count) = (pss(&pids), threads(replicas[0].pid()));
    let more = JOBS as u64 - 1;
    println!(
        "each further job: {} KiB PSS, {:.2} threads, {:.1} ms of CPU time a minute (of a replica that leads {:?})",
        many.saturating_sub(one.0) / more,
        (count - one.1) as f64 / more as f64,
        spent.as_secs_f64() * 1000.0 / JOBS as f64,
        led(&cluster).get("a"),
    );
    let own = led(&cluster).get("a").copied().unwrap_or_default();
    let started = |replica: &Daemon| replica.lines("job started").len();
    let known = started(&replicas[1]) + started(&replicas[2]);
    let asked = process::monotonic_ns();
    replicas[0].sigterm();
    eventually(secs(30), "others have taken all of them", || {
        started(&replicas[1]) + started(&replicas[2]) >= known + own
    });
    let took = Duration::from_nanos(process::monotonic_ns() - asked);
    println!("SIGTERM: {own} jobs run elsewhere after {took:.0?}");
    replicas[0].wait_exit(STOPPED);
    let own = led(&cluster).get("b").copied().unwrap_or_default();
    let known = started(&replicas[2]);
    let asked = process::monotonic_ns();
    replicas[1].sigkill();
    eventually(secs(30), "the last has taken all of them", || {
        started(&replicas[2]) >= known + own
    });
    let took = Duration::from_nanos(process::monotonic_ns() - asked);
    println!("kill -9: {own} jobs run elsewhere after {took:.0?}");
}
