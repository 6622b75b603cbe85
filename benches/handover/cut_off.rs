//! Leaders that are stopped, or cut off from the store: their jobs are dead before their leases
//! end.

use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::common::process::monotonic_ns;
use super::common::{Cluster, Daemon, Links, Record, SOON, Vigil, millis};
use super::replicas::ms;
use super::table::{Row, Target};

/// How many leaders, each of an election of its own, are cut off in one go.
const BATCH: usize = 10;

/// A way to be cut off.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    hit: fn(&Daemon, &Links),
}

/// The daemon stands still. Its guardian can't reach the store either, or it would give the lease
/// back as soon as the job is dead, long before the lease ends.
pub(super) const STOPPED: Fault = Fault {
    name: "SIGSTOP of the daemon: job dead before the lease ends by",
    hit: |daemon, links| {
        daemon.sigstop();
        links.black_hole();
    },
};

/// The network swallows everything.
pub(super) const CUT: Fault = Fault {
    name: "cut from etcd: job dead before the lease ends by",
    hit: |_, links| links.black_hole(),
};

/// A leader with a job that only SIGKILL ends, and those who watch for both ends.
struct Leader {
    daemon: Daemon,
    links: Links,
    lease_end: Vigil,
    job_end: JoinHandle<u64>,
}

impl Leader {
    fn start(cluster: &Cluster, name: &str) -> Self {
        let links = Links::to(cluster);
        let record = Record::new(cluster.sandbox(), name);
        let election = format!("/{name}");
        let daemon = Daemon::builder(cluster, name)
            .prefix(&election)
            .ttl("3s")
            .through(&links)
            .records(&record, &["--ignore-term", "--every", "1h"])
            .spawn();
        let job = Pid::from_raw(daemon.wait_job(SOON)).unwrap();
        let job = pidfd_open(job, PidfdFlags::empty()).unwrap();
        let key = cluster.first(&election).unwrap().key;
        Self {
            daemon,
            links,
            lease_end: cluster.watch_deletion(&key, 0),
            job_end: std::thread::spawn(move || {
                poll(&mut [PollFd::new(&job, PollFlags::IN)], None).unwrap();
                monotonic_ns()
            }),
        }
    }

    /// How long before the lease the job ended; negative if it was after.
    fn margin(self) -> f64 {
        let lease_end = ms(self.lease_end.wait(SOON));
        lease_end - ms(self.job_end.join().unwrap())
    }
}

/// Cuts so many leaders off, some at a time, at different moments of their renewals.
pub(super) fn measure(cluster: &Cluster, fault: Fault, runs: usize) -> Row {
    let mut row = Row::new(fault.name, "ms", Target::Margin);
    while row.samples.len() < runs {
        let done = row.samples.len();
        let numbers = done..runs.min(done + BATCH);
        eprintln!("{}: {} of {runs}", fault.name, numbers.end);
        let word = fault.name.split(' ').next().unwrap().to_lowercase();
        let leaders: Vec<_> = numbers
            .map(|number| Leader::start(cluster, &format!("{word}-{number}")))
            .collect();
        for leader in &leaders {
            (fault.hit)(&leader.daemon, &leader.links);
            std::thread::sleep(millis(137));
        }
        row.samples.extend(leaders.into_iter().map(Leader::margin));
    }
    row
}
