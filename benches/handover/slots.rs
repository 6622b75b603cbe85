//! Scheduled jobs: how late one begins, on an idle leader and where the leader is killed at that instant.

use std::time::Duration;

use etcd_client::Client;

use super::Contest;
use super::common::process::{monotonic_ns, realtime_ns};
use super::common::{Cluster, Daemon, Record, SOON, store};
use super::replicas::{Replicas, ms, next_job, replica, sleep_until};

/// A job that is over before its next slot.
const SHORT: &[&str] = &["--every", "10ms", "--exit-after", "20ms"];

/// Between two slots, in seconds.
const APART: u64 = 3;

/// Before a slot, for whoever waits for it to wake up.
const AHEAD: Duration = Duration::from_millis(2);

/// `C`: the commit of one write.
pub(super) struct Commit<'a> {
    cluster: &'a Cluster,
    clients: Vec<Client>,
    turn: usize,
}

impl<'a> Commit<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let clients = cluster.endpoints();
        let clients = clients
            .iter()
            .map(|endpoint| cluster.block_on(store::connect(endpoint)))
            .collect();
        Self {
            cluster,
            clients,
            turn: 0,
        }
    }
}

impl Contest for Commit<'_> {
    fn sample(&mut self) -> f64 {
        let turn = self.turn % self.clients.len();
        self.turn += 1;
        let client = &mut self.clients[turn];
        self.cluster.block_on(async {
            // Its connection is warm.
            client.get("/commit", None).await.unwrap();
            let begun = monotonic_ns();
            client.put("/commit", "", None).await.unwrap();
            ms(monotonic_ns() - begun)
        })
    }
}

/// The next slot that is at least so far away, on the clock of the records.
fn next_slot(away: Duration) -> u64 {
    let within = realtime_ns() % (APART * 1_000_000_000);
    let least = within + u64::try_from(away.as_nanos()).unwrap();
    let slot = least.next_multiple_of(APART * 1_000_000_000);
    monotonic_ns() + slot - within
}

fn schedule() -> String {
    format!(
        "job.schedule = {{ every = \"{APART}s\", guarantee = \"at-least-once\", history = 10 }}"
    )
}

/// One leader that has nothing to do between its slots.
pub(super) struct Slots {
    _leader: Daemon,
    record: Record,
}

impl Slots {
    pub(super) fn start(cluster: &Cluster) -> Self {
        let record = Record::new(cluster.sandbox(), "slots");
        let leader = replica(cluster, &record, "slots")
            .records(&record, SHORT)
            .prefix("/slots")
            .toml(&schedule())
            .spawn();
        leader.wait_elected(SOON);
        Self {
            _leader: leader,
            record,
        }
    }
}

impl Contest for Slots {
    fn sample(&mut self) -> f64 {
        let slot = next_slot(AHEAD);
        sleep_until(slot);
        // By the time of day, none begins before.
        ms(next_job(&self.record, slot) - slot)
    }
}

/// A leader that is killed at the instant of a slot, and the next one, whose turn it is then.
pub(super) struct KilledAtSlot<'a>(Replicas<'a>);

impl<'a> KilledAtSlot<'a> {
    pub(super) fn start(cluster: &'a Cluster) -> Self {
        Self(Replicas::start_scheduled(
            cluster,
            "killed-at-slot",
            SHORT,
            schedule(),
        ))
    }
}

impl Contest for KilledAtSlot<'_> {
    fn sample(&mut self) -> f64 {
        let slot = next_slot(Duration::from_millis(500));
        let (took, past) = self.0.hand_over_at(slot);
        self.0.replace(past);
        took
    }
}
