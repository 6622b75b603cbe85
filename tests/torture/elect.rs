//! `etcdctl elect` in the same election: a Go candidate, started again when it has led for a moment
//! or has died.

use std::fs::File;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use etcd_client::{GetOptions, KeyValue};
use rustix::process::Signal;

use crate::PREFIX;
use crate::common::process::{self, monotonic_ns};
use crate::common::record::Life;
use crate::common::{Cluster, Random, millis};
use crate::faults::nanos;
use crate::store::{lease_of, try_ask};

/// How its candidates' names begin; a number follows.
const NAME: &str = "etcdctl-";

/// The TTL of its sessions, which it has no flag for: none of ours has it.
const TTL: i64 = 60;

/// How often the store is asked at least, once it is over, to take away what is left.
const LAST_TRIES: usize = 5;

#[derive(Default)]
pub(crate) struct Elect {
    /// The times for which it certainly led.
    pub(crate) lives: Mutex<Vec<Life>>,
    number: AtomicU64,
    /// The token of the term that it is in, or 0.
    leads: AtomicU64,
}

impl Elect {
    /// Stands for election again and again until it is told to stop, and resigns.
    pub(crate) fn stand(&self, cluster: &Cluster, seed: u64, stop: &AtomicBool) {
        let mut random = Random::new(seed ^ 0xe1ec7);
        while !stop.load(Ordering::Relaxed) {
            let number = 1 + self.number.fetch_add(1, Ordering::Relaxed);
            let name = format!("{NAME}{number}");
            let printed = cluster.sandbox().join(&name);
            let child = start(cluster, &name, &printed);
            self.follow(cluster, &mut random, child, &printed, stop);
            // A lease of its dead ones would stand in everybody's way for a minute.
            let mut tries = 0;
            while !bury(cluster, &name) && (tries < LAST_TRIES || !stop.load(Ordering::Relaxed)) {
                tries += 1;
                std::thread::sleep(millis(50));
            }
            // Were it always in the queue, half of all hand-overs would be from or to it, and wait.
            let back_at = monotonic_ns() + nanos(millis(500)) * (1 + random.next() % 16);
            while monotonic_ns() < back_at && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(millis(20));
            }
        }
    }

    fn follow(
        &self,
        cluster: &Cluster,
        random: &mut Random,
        mut child: Child,
        printed: &std::path::Path,
        stop: &AtomicBool,
    ) {
        let mut resign_at = None;
        let mut rounds = 0;
        while child.try_wait().unwrap().is_none() && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(millis(20));
            let text = std::fs::read_to_string(printed).unwrap();
            let Some((key, _)) = text.split_once('\n') else {
                rounds += 1;
                // What other candidates left is in the way as well.
                if rounds % 50 == 0 {
                    self.bury_older(cluster);
                }
                continue;
            };
            let now = monotonic_ns();
            let span = u64::try_from(200 + random.below(800)).unwrap() * 1_000_000;
            if now > *resign_at.get_or_insert(now + span) {
                break;
            }
            self.note(cluster, key);
        }
        self.leads.store(0, Ordering::Relaxed);
        process::signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
        for _ in 0..100 {
            if child.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(millis(20));
        }
        child.kill().ok();
        child.wait().unwrap();
    }

    /// It led when this question was sent, if the answer says that its key is still there.
    fn note(&self, cluster: &Cluster, key: &str) {
        let asked = monotonic_ns();
        let answer = try_ask(cluster, async |mut client| client.get(key, None).await);
        let Some(token) = answer.and_then(|a| a.kvs().first().map(KeyValue::create_revision))
        else {
            return;
        };
        self.leads.store(token.unsigned_abs(), Ordering::Relaxed);
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        match lives.iter_mut().find(|life| life.token == token) {
            Some(life) => life.last = asked,
            None => lives.push(Life {
                token,
                run: -1,
                pid: -1,
                start: asked,
                last: asked,
                asked: None,
                ended: false,
                clashed: false,
                hung: false,
            }),
        }
    }

    /// Whether it is in the term with this token.
    pub(crate) fn leads(&self, token: i64) -> bool {
        self.leads.load(Ordering::Relaxed) == token.unsigned_abs()
    }

    fn bury_older(&self, cluster: &Cluster) {
        let number = self.number.load(Ordering::Relaxed);
        for older in number.saturating_sub(3)..number {
            bury(cluster, &format!("{NAME}{older}"));
        }
    }
}

fn start(cluster: &Cluster, name: &str, printed: &std::path::Path) -> Child {
    cluster
        .etcdctl_beside(name, &["elect", PREFIX, name])
        .stdout(File::create(printed).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run etcdctl: {error}; apt-get install etcd-client"))
}

/// Revokes what a dead one may have left; says whether the store answered.
fn bury(cluster: &Cluster, name: &str) -> bool {
    let left = try_ask(cluster, async |mut client| {
        let all = GetOptions::new().with_prefix();
        let queue = client.get(format!("{PREFIX}/"), Some(all)).await?;
        let own = queue
            .kvs()
            .iter()
            .filter(|kv| kv.value() == name.as_bytes());
        for lease in own.filter_map(|kv| lease_of(kv.key_str().ok()?)) {
            client.lease_revoke(lease).await?;
        }
        Ok(())
    });
    left.is_some()
}

/// Leases that no candidate of this tool holds; its own end by themselves in a minute.
pub(crate) fn leases_of_others(cluster: &Cluster) -> Vec<i64> {
    let granted = |lease: i64| {
        cluster.ask("a lease's TTL", async |mut client| {
            let answer = client.lease_time_to_live(lease, None).await?;
            Ok((answer.ttl(), answer.granted_ttl()))
        })
    };
    let mut leases = cluster.leases();
    leases.retain(|lease| {
        let (left, ttl) = granted(*lease);
        left >= 0 && ttl != TTL
    });
    leases
}
