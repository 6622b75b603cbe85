//! What a replica costs that has nothing to do, and beside it a candidate in Go.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::PutOptions;

use super::common::process::{cpu_time, monotonic_ns};
use super::common::{Cluster, Daemon, Record, SOON, programs, secs};
use super::replicas::{ms, replica};
use super::table::{Row, Target};

/// For how long CPU time and requests are counted for one sample.
const WINDOW: Duration = Duration::from_secs(30);

/// How many samples there are.
const WINDOWS: usize = 3;

/// A short TTL, to count by: with the shipped one of 15 s there is a third of the renewals. In Go's
/// words it has no unit.
const SHORT: u64 = 5;

/// CPU time a minute at that TTL, in seconds.
const LEADER_CPU: f64 = 0.04;
const WAITER_CPU: f64 = 0.02;

/// Requests a second of an idle replica at that TTL: a leader's renewals, and the reads that prove
/// them; a waiter's renewals. With either, a probe of its watch every minute.
const LEADER_CALLS: f64 = 2.0;
const WAITER_CALLS: f64 = 0.7;

/// Who is measured.
enum Replica {
    Ours(Daemon),
    Go(Child),
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Self::Go(child) = self {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A member of its own for each replica, so that the members' metrics tell them apart.
struct Idle<'a> {
    name: String,
    cluster: &'a Cluster,
    member: usize,
    replica: Replica,
}

impl<'a> Idle<'a> {
    fn ours(cluster: &'a Cluster, name: &str, ttl: Option<u64>, member: usize) -> Self {
        let election = format!("idle {name}").replace([' ', ','], "-");
        let record = Record::new(cluster.sandbox(), &election);
        let url = &cluster.endpoints()[member];
        let builder = replica(cluster, &record, &election)
            .prefix(&format!("/{election}"))
            .toml(&format!("etcd.endpoints = [{url:?}]"));
        let daemon = match ttl {
            Some(ttl) => builder
                .ttl(&format!("{ttl}s"))
                .toml("job = { lost_grace = '1s', kill_budget = '1s' }"),
            None => builder,
        }
        .spawn();
        daemon.wait_log("campaigning", SOON);
        Self {
            name: name.to_owned(),
            cluster,
            member,
            replica: Replica::Ours(daemon),
        }
    }

    /// The hardened candidate in Go, whose work does nothing.
    fn go(cluster: &'a Cluster, program: &Path, name: &str, member: usize) -> Self {
        let election = format!("/idle {name}").replace([' ', ','], "-");
        let mut command = Command::new(program);
        command
            .args(["-hardened", "-beat", "1h", "-election", &election])
            .args(["-endpoints", &cluster.endpoints()[member]])
            .args(["-ttl", &SHORT.to_string()])
            .stdin(Stdio::null());
        cluster.sandbox().mark(&mut command, name);
        Self {
            name: name.to_owned(),
            cluster,
            member,
            replica: Replica::Go(command.spawn().unwrap()),
        }
    }

    fn processes(&self) -> Vec<i32> {
        match &self.replica {
            Replica::Ours(daemon) => vec![daemon.pid(), daemon.guardian()],
            Replica::Go(child) => vec![i32::try_from(child.id()).unwrap()],
        }
    }

    /// PSS of all its processes together, in MiB.
    fn memory(&self) -> f64 {
        let pss = |pid: i32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kib = line.unwrap().trim().trim_end_matches(" kB");
            kib.parse::<f64>().unwrap() / 1024.0
        };
        self.processes().into_iter().map(pss).sum()
    }

    /// CPU time of all its threads so far, in seconds.
    fn cpu(&self) -> f64 {
        let spent = self.processes().into_iter().map(cpu_time);
        spent.sum::<Duration>().as_secs_f64()
    }

    /// Messages that its member has received so far, by method.
    fn requests(&self) -> BTreeMap<String, f64> {
        let mut metrics = self.cluster.metrics(self.member);
        metrics.retain(|name, _| name.starts_with("grpc_server_msg_received_total"));
        metrics
    }
}

/// Idle replicas: leaders with the shipped and a short TTL, and one that waits for a candidate which is
/// not ours; and then Go's, where it was built.
pub(super) fn measure(cluster: &Cluster) -> Vec<Row> {
    // The pages of the executable count in full as long as nobody else shares them.
    let shipped = Idle::ours(cluster, "leader", None, 0);
    eprintln!("idle: memory");
    std::thread::sleep(secs(5));
    let mut memory = Row::new(
        "idle leader: PSS of daemon and guardian",
        "MiB",
        Target::Worst(8.0),
    );
    memory.samples.push(shipped.memory());
    let mut rows = vec![memory];

    let leader = Idle::ours(cluster, "leader, TTL 5s", Some(SHORT), 1);
    foreign_candidate(cluster, "/idle-waiter--TTL-5s");
    let waiter = Idle::ours(cluster, "waiter, TTL 5s", Some(SHORT), 2);
    let most = |calls: f64| Target::Median(calls * 1.02);
    rows.extend(count(&[
        (shipped, Target::Median(0.05), Target::None),
        (leader, Target::Median(LEADER_CPU), most(LEADER_CALLS)),
        (waiter, Target::Median(WAITER_CPU), most(WAITER_CALLS)),
    ]));
    let Some(program) = programs::built("candidate", "idle candidates in Go") else {
        return rows;
    };
    let leader = Idle::go(cluster, &program, "leader in Go, TTL 5s", 1);
    foreign_candidate(cluster, "/idle-waiter-in-Go--TTL-5s");
    let waiter = Idle::go(cluster, &program, "waiter in Go, TTL 5s", 2);
    rows.extend(count(&[
        (leader, Target::None, Target::None),
        (waiter, Target::None, Target::None),
    ]));
    rows
}

/// What these cost: a row of CPU time and one of requests for each.
fn count(replicas: &[(Idle<'_>, Target, Target)]) -> Vec<Row> {
    let row = |idle: &Idle<'_>, what: &str, unit, target| {
        Row::new(&format!("idle {}: {what}", idle.name), unit, target)
    };
    let mut rows: Vec<_> = replicas
        .iter()
        .map(|(idle, cpu, calls)| {
            let cpu = row(idle, "CPU time a minute", "s", *cpu);
            (cpu, row(idle, "requests a second", "", *calls))
        })
        .collect();
    let look = || {
        let looks = replicas.iter().map(|(it, ..)| (it.cpu(), it.requests()));
        looks.collect::<Vec<_>>()
    };
    std::thread::sleep(secs(2));
    for window in 0..WINDOWS {
        eprintln!("idle: CPU time and requests, {} of {WINDOWS}", window + 1);
        let begun = monotonic_ns();
        let before = look();
        std::thread::sleep(WINDOW);
        let after = look();
        let seconds = ms(monotonic_ns() - begun) / 1000.0;
        for (i, (idle, ..)) in replicas.iter().enumerate() {
            let (cpu, calls) = &mut rows[i];
            cpu.samples
                .push((after[i].0 - before[i].0) * 60.0 / seconds);
            let rates = after[i].1.iter().map(|(method, value)| {
                let earlier = before[i].1.get(method).unwrap_or(&0.0);
                (method, (value - earlier) / seconds)
            });
            let rates: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
            for (method, rate) in &rates {
                eprintln!("  {}: {rate:.2} a second of {method}", idle.name);
            }
            calls.samples.push(rates.iter().map(|(_, rate)| rate).sum());
        }
    }
    rows.into_iter()
        .flat_map(|(cpu, calls)| [cpu, calls])
        .collect()
}

/// Puts a candidate in front of an election that stands there for as long as the run takes.
fn foreign_candidate(cluster: &Cluster, election: &str) {
    let mut client = cluster.client(2);
    cluster.block_on(async {
        let lease = client.lease_grant(600, None).await.unwrap().id();
        let key = format!("{election}/{lease:x}");
        let options = PutOptions::new().with_lease(lease);
        client.put(key, "foreign", Some(options)).await.unwrap();
    });
}
