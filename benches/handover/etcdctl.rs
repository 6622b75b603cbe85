//! The tools that come with etcd, for comparison.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Contest;
use super::common::process::{self, monotonic_ns};
use super::common::{Cluster, Record, SOON, eventually, secs};
use super::replicas::{JOB, ms, next_job};

/// One `etcdctl`, leader of a process group of its own.
pub(super) struct Etcdctl {
    child: Child,
    /// When each of its lines came.
    lines: Receiver<u64>,
}

impl Etcdctl {
    pub(super) fn start(cluster: &Cluster, endpoints: &[String], arguments: &[String]) -> Self {
        let mut child = cluster
            .etcdctl_beside("etcdctl", arguments)
            .env("ETCDCTL_ENDPOINTS", endpoints.join(","))
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(File::create(cluster.sandbox().join("etcdctl.log")).unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for _ in output.lines().map_while(Result::ok) {
                sender.send(monotonic_ns()).ok();
            }
        });
        Self { child, lines }
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// When its first line came.
    pub(super) fn first_line(&self) -> u64 {
        self.lines.recv_timeout(secs(120)).unwrap()
    }

    /// Signals it and what it started.
    pub(super) fn signal_group(&self, signal: Signal) {
        let group = Pid::from_raw(self.pid()).unwrap();
        // One that has ended is as good.
        kill_process_group(group, signal).ok();
    }

    fn wait(mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Etcdctl {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        self.child.wait().unwrap();
    }
}

pub(super) fn wait_in_queue(cluster: &Cluster, election: &str, n: usize) {
    eventually(SOON, "etcdctl stands in the queue", || {
        let queue = cluster.queue(election);
        if queue.len() == n { Ok(()) } else { Err(queue) }
    });
}

/// `etcdctl elect`: an election without a job. Its successor says that it is elected.
pub(super) struct Elect<'a> {
    cluster: &'a Cluster,
    election: String,
    queue: VecDeque<Etcdctl>,
}

impl<'a> Elect<'a> {
    pub(super) fn start(cluster: &'a Cluster, election: &str) -> Self {
        let mut elect = Self {
            cluster,
            election: election.to_owned(),
            queue: VecDeque::new(),
        };
        for n in 1..=2 {
            elect.join(n);
        }
        elect.queue[0].first_line();
        elect
    }

    fn join(&mut self, n: usize) {
        let arguments = ["elect".to_owned(), self.election.clone(), "me".to_owned()];
        self.queue.push_back(Etcdctl::start(
            self.cluster,
            &self.cluster.endpoints(),
            &arguments,
        ));
        wait_in_queue(self.cluster, &self.election, n);
    }
}

impl Contest for Elect<'_> {
    fn sample(&mut self) -> f64 {
        let leader = self.queue.pop_front().unwrap();
        let begun = monotonic_ns();
        process::signal(leader.pid(), Signal::TERM);
        let took = self.queue[0].first_line() - begun;
        leader.wait();
        self.join(2);
        ms(took)
    }
}

/// `etcdctl lock` with the job of the hand-overs. SIGTERM of etcdctl alone leaves its job running,
/// so the whole group gets it.
pub(super) struct Lock<'a> {
    cluster: &'a Cluster,
    record: Record,
    queue: VecDeque<Etcdctl>,
}

impl<'a> Lock<'a> {
    pub(super) fn start(cluster: &'a Cluster) -> Self {
        let mut lock = Self {
            cluster,
            record: Record::new(cluster.sandbox(), "lock"),
            queue: VecDeque::new(),
        };
        for n in 1..=2 {
            lock.join(n);
        }
        next_job(&lock.record, 0);
        lock
    }

    fn join(&mut self, n: usize) {
        let arguments: Vec<_> = ["lock", "lock", "--"]
            .map(str::to_owned)
            .into_iter()
            .chain(self.record.command(JOB))
            .collect();
        self.queue.push_back(Etcdctl::start(
            self.cluster,
            &self.cluster.endpoints(),
            &arguments,
        ));
        wait_in_queue(self.cluster, "lock", n);
    }
}

impl Contest for Lock<'_> {
    fn sample(&mut self) -> f64 {
        let leader = self.queue.pop_front().unwrap();
        let begun = monotonic_ns();
        leader.signal_group(Signal::TERM);
        let took = next_job(&self.record, begun) - begun;
        leader.wait();
        self.join(2);
        ms(took)
    }
}
