//! What a replica costs that has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use etcd_client::PutOptions;

use super::common::process::{cpu_time, monotonic_ns};
use super::common::{Cluster, Daemon, Record, SOON, secs};
use super::replicas::{ms, replica};
use super::table::{Row, Target};

/// For how long CPU time and requests are counted.
const WINDOW: Duration = Duration::from_secs(40);

/// A short TTL, to count requests by: with the shipped one of 15 s there is a third of the renewals.
const SHORT: &str = "5s";

/// Requests a second of an idle replica at that TTL: a renewal, and for a leader also the read that
/// proves it; and a probe of its watch every 10 s.
const LEADER: f64 = 2.1;
const WAITER: f64 = 1.1;

/// A member of its own for each replica, so that the members' metrics tell them apart.
struct Idle<'a> {
    cluster: &'a Cluster,
    member: usize,
    daemon: Daemon,
}

impl<'a> Idle<'a> {
    fn start(cluster: &'a Cluster, name: &str, ttl: Option<&str>, member: usize) -> Self {
        let record = Record::new(cluster.sandbox(), name);
        let url = &cluster.endpoints()[member];
        let builder = replica(cluster, &record, name)
            .prefix(&format!("/{name}"))
            .toml(&format!("etcd.endpoints = [{url:?}]"));
        let daemon = match ttl {
            Some(ttl) => builder
                .ttl(ttl)
                .toml("job = { lost_grace = '1s', kill_budget = '1s' }"),
            None => builder,
        }
        .spawn();
        daemon.wait_log("campaigning", SOON);
        Self {
            cluster,
            member,
            daemon,
        }
    }

    fn processes(&self) -> [i32; 2] {
        [self.daemon.pid(), self.daemon.guardian()]
    }

    /// PSS of daemon and guardian together, in MiB.
    fn memory(&self) -> f64 {
        let pss = |pid: i32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kib = line.unwrap().trim().trim_end_matches(" kB");
            kib.parse::<f64>().unwrap() / 1024.0
        };
        self.processes().into_iter().map(pss).sum()
    }

    /// CPU time of daemon and guardian together so far, in milliseconds.
    fn cpu(&self) -> f64 {
        let spent = self.processes().into_iter().map(cpu_time).sum::<Duration>();
        spent.as_secs_f64() * 1e3
    }

    /// Messages that its member has received so far, by method.
    fn requests(&self) -> BTreeMap<String, f64> {
        let mut metrics = self.cluster.metrics(self.member);
        metrics.retain(|name, _| name.starts_with("grpc_server_msg_received_total"));
        metrics
    }
}

/// Three idle replicas: leaders with the shipped and a short TTL, and one that waits for a candidate
/// which is not ours.
pub(super) fn measure(cluster: &Cluster) -> Vec<Row> {
    // The pages of the executable count in full as long as nobody else shares them.
    let shipped = Idle::start(cluster, "idle-shipped", None, 0);
    shipped.daemon.wait_job(SOON);
    eprintln!("idle: memory");
    std::thread::sleep(secs(5));
    let mut memory = Row::new(
        "idle leader: PSS of daemon and guardian",
        "MiB",
        Target::Worst(8.0),
    );
    memory.samples.push(shipped.memory());

    let leader = Idle::start(cluster, "idle-leader", Some(SHORT), 1);
    foreign_candidate(cluster, "/idle-waiter");
    let waiter = Idle::start(cluster, "idle-waiter", Some(SHORT), 2);
    std::thread::sleep(secs(2));
    eprintln!("idle: CPU time and requests");
    let replicas = [&shipped, &leader, &waiter];
    let begun = monotonic_ns();
    let before = replicas.map(|it| (it.cpu(), it.requests()));
    std::thread::sleep(WINDOW);
    let after = replicas.map(|it| (it.cpu(), it.requests()));
    let seconds = ms(monotonic_ns() - begun) / 1000.0;

    let mut rows = vec![memory];
    let most = |calls: f64| Target::Worst(calls * 1.05);
    let targets = [
        ("leader", Target::Worst(0.05), Target::None),
        ("leader, TTL 5s", Target::None, most(LEADER)),
        ("waiter, TTL 5s", Target::None, most(WAITER)),
    ];
    for (i, (name, cpu_target, calls_target)) in targets.into_iter().enumerate() {
        let mut cpu = Row::new(&format!("idle {name}: CPU time a minute"), "s", cpu_target);
        cpu.samples
            .push((after[i].0 - before[i].0) / 1000.0 * 60.0 / seconds);
        let methods: BTreeMap<_, _> = after[i]
            .1
            .iter()
            .map(|(method, value)| {
                let earlier = before[i].1.get(method).unwrap_or(&0.0);
                (method.clone(), (value - earlier) / seconds)
            })
            .filter(|(_, rate)| *rate > 0.0)
            .collect();
        for (method, rate) in &methods {
            eprintln!("  {name}: {rate:.2} a second of {method}");
        }
        let what = format!("idle {name}: requests a second");
        let mut requests = Row::new(&what, "", calls_target);
        requests.samples.push(methods.values().sum());
        rows.extend([cpu, requests]);
    }
    rows
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
