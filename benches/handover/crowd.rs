//! A large election: what a hand-over costs with many in the queue, and whom it wakes.

use super::common::{Cluster, Daemon, millis};
use super::replicas::Replicas;
use super::table::{Row, Target};

/// Events that the members have sent to watchers.
const EVENTS: &str = "etcd_debugging_mvcc_events_total";

/// Calls that the members have begun to serve, by method.
const CALLS: &str = "grpc_server_started_total";

pub(super) struct Crowd<'a> {
    cluster: &'a Cluster,
    replicas: Replicas<'a>,
    took: Row,
    events: Row,
    calls: Row,
}

impl<'a> Crowd<'a> {
    pub(super) fn start(cluster: &'a Cluster, n: usize) -> Self {
        let floors = Target::Floors {
            median: 2.0,
            worst: None,
        };
        let row = |what, unit, target| Row::new(&format!("one of {n}: {what}"), unit, target);
        Self {
            cluster,
            replicas: Replicas::start(cluster, "crowd", n, Daemon::sigterm),
            took: row("SIGTERM of the leader → next job", "ms", floors),
            events: row("watch events of a hand-over", "", Target::Median(1.0)),
            calls: row("requests of a hand-over", "", Target::None),
        }
    }

    pub(super) fn sample(&mut self) {
        let before = self.counts();
        let (took, past) = self.replicas.hand_over();
        // What comes after the job's start belongs to it: the term record, the leader's watch.
        std::thread::sleep(millis(50));
        let after = self.counts();
        self.took.samples.push(took);
        self.events.samples.push(after.0 - before.0);
        self.calls.samples.push(after.1 - before.1);
        self.replicas.replace(past);
    }

    /// Events and calls so far, of all members together.
    fn counts(&self) -> (f64, f64) {
        let mut counts = (0.0, 0.0);
        for member in 0..self.cluster.len() {
            for (name, value) in self.cluster.metrics(member) {
                if name == EVENTS {
                    counts.0 += value;
                } else if name.starts_with(CALLS) {
                    counts.1 += value;
                }
            }
        }
        counts
    }

    pub(super) fn rows(self) -> [Row; 3] {
        [self.took, self.events, self.calls]
    }
}
