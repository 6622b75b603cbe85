//! `etcdctl elect` in the same election: a Go candidate, started again when it has led for a moment
//! or has died.

use std::fs::File;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use etcd_client::{GetOptions, SortOrder, SortTarget};
use rustix::process::Signal;

use crate::burial::{NAME, Standing, Undertaker};
use crate::checker::{After, Reach, Thrown};
use crate::common::process::{self, monotonic_ns};
use crate::common::record::Life;
use crate::common::{Cluster, Random, millis};
use crate::elections::prefix;
use crate::faults::nanos;
use crate::lapse::{LEADS, Lapse, Stage};
use crate::store::{lease_of, try_ask};
use crate::worlds::NESTED_TTL;

/// The TTL of its sessions, which it has no flag for: none of ours has it.
const TTL: i64 = 60;

/// The TTL of the lease under which a daemon of several jobs shows itself when it starts, which ends by itself.
const SHOWN: i64 = 30;

/// How often the store is asked at least, once it is over, to take away what is left.
const LAST_TRIES: usize = 5;

/// How many rounds of 20 ms pass from one look at the queue to the next.
const LOOKS: u32 = 25;

#[derive(Default)]
pub(crate) struct Elect {
    /// The times for which it certainly led.
    pub(crate) lives: Mutex<Vec<Life>>,
    number: AtomicU64,
    /// The token of the term that it is in, or 0.
    leads: AtomicU64,
    /// What is to befall the next one that leads.
    pub(crate) lapse: Lapse,
    /// Those that it had to end, as faults.
    pub(crate) ended: Mutex<Vec<Thrown>>,
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
            self.follow(cluster, &mut random, (child, &name), &printed, stop);
            // A lease of its dead ones would stand in everybody's way for a minute.
            let mut tries = 0;
            while !bury(cluster) && (tries < LAST_TRIES || !stop.load(Ordering::Relaxed)) {
                tries += 1;
                std::thread::sleep(millis(50));
            }
            // Were it always in the queue, half of all hand-overs would be from or to it, and wait.
            let back_at = monotonic_ns() + nanos(millis(500)) * (1 + random.next() % 16);
            for round in 1_u32.. {
                if monotonic_ns() > back_at || stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(millis(20));
                // What it wrote may come late.
                if round.is_multiple_of(LOOKS) {
                    bury(cluster);
                }
            }
        }
    }

    fn follow(
        &self,
        cluster: &Cluster,
        random: &mut Random,
        (mut child, name): (Child, &str),
        printed: &std::path::Path,
        stop: &AtomicBool,
    ) {
        let span = u64::try_from(200 + random.below(800)).unwrap() * 1_000_000;
        let mut printed_at = None;
        let mut rounds = 0_u32;
        let mut undertaker = Undertaker::default();
        let begun = monotonic_ns();
        while child.try_wait().unwrap().is_none() && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(millis(20));
            let text = std::fs::read_to_string(printed).unwrap();
            let Some((key, _)) = text.split_once('\n') else {
                rounds += 1;
                if rounds.is_multiple_of(LOOKS) && is_hung(cluster, &mut undertaker, name) {
                    self.note_end(begun);
                    child.kill().ok();
                    break;
                }
                continue;
            };
            let now = monotonic_ns();
            let first = *printed_at.get_or_insert(now);
            let wanted = self.lapse.stage() == Stage::Wanted;
            if wanted && now - first > nanos(LEADS) {
                let pid = i32::try_from(child.id()).unwrap();
                process::freeze(pid);
                let token = self.leads.load(Ordering::Relaxed).cast_signed();
                if token != 0 && self.lapse.stands_still(key, token) {
                    while self.lapse.stage() != Stage::None && !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(millis(20));
                    }
                    child.kill().ok();
                    break;
                }
                process::thaw(pid);
            }
            if !wanted && now > first + span {
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

    /// Until its end nobody else could lead.
    fn note_end(&self, from: u64) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(Thrown {
            name: "etcdctl elect hung, and was killed".into(),
            excepted: false,
            ends_leases: false,
            spoils: false,
            after: After::Lingers,
            replica: None,
            reach: Reach::Nobody,
            from,
            to: monotonic_ns(),
        });
    }

    /// It led when this question was sent, if the answer says that its key is still the first. (It takes a
    /// stray member's word, of another cluster, that nobody stands before it; that is not the replicas' doing.)
    fn note(&self, cluster: &Cluster, key: &str) {
        let asked = monotonic_ns();
        let answer = try_ask(cluster, async |mut client| {
            let first = GetOptions::new()
                .with_prefix()
                .with_sort(SortTarget::Create, SortOrder::Ascend)
                .with_limit(1);
            client.get(format!("{}/", prefix()), Some(first)).await
        });
        let first = answer.and_then(|mut answer| answer.take_kvs().pop());
        let Some(first) = first.filter(|first| first.key() == key.as_bytes()) else {
            return;
        };
        let token = first.create_revision();
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

    /// The one with this token counts as leading until then.
    pub(crate) fn led_until(&self, token: i64, until: u64) {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = lives.iter_mut().find(|life| life.token == token) {
            life.last = until;
        }
    }

    /// Whether it is in the term with this token.
    pub(crate) fn leads(&self, token: i64) -> bool {
        self.leads.load(Ordering::Relaxed) == token.unsigned_abs()
    }
}

fn start(cluster: &Cluster, name: &str, printed: &std::path::Path) -> Child {
    cluster
        .etcdctl_beside(name, &["elect", prefix(), name])
        .stdout(File::create(printed).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run etcdctl: {error}; apt-get install etcd-client"))
}

/// The candidates that stand; `None` if the store does not answer.
fn queue(cluster: &Cluster) -> Option<Vec<Standing>> {
    let queue = try_ask(cluster, async |mut client| {
        let all = GetOptions::new().with_prefix();
        client.get(format!("{}/", prefix()), Some(all)).await
    })?;
    let standing = queue.kvs().iter().map(|kv| {
        Some(Standing {
            key: kv.key_str().ok()?.to_owned(),
            name: kv.value_str().ok()?.to_owned(),
            token: kv.create_revision(),
        })
    });
    Some(standing.flatten().collect())
}

/// Revokes what dead ones left; says whether the store did so.
fn bury(cluster: &Cluster) -> bool {
    queue(cluster).is_some_and(|queue| {
        let look = Undertaker::default().look(&queue, None, false, monotonic_ns());
        revoke(cluster, &look.left)
    })
}

/// Whether the living one stands first and does not go on; what dead ones left is taken out of its way.
fn is_hung(cluster: &Cluster, undertaker: &mut Undertaker, living: &str) -> bool {
    let Some(queue) = queue(cluster) else {
        undertaker.forget();
        return false;
    };
    let look = undertaker.look(&queue, Some(living), false, monotonic_ns());
    revoke(cluster, &look.left);
    look.hung
}

fn revoke(cluster: &Cluster, keys: &[String]) -> bool {
    let mut leases = keys.iter().filter_map(|key| lease_of(key));
    leases.all(|lease| {
        let done = try_ask(cluster, async |mut client| client.lease_revoke(lease).await);
        done.is_some()
    })
}

/// Leases but for those of this tool's candidates, of daemons that were a job, and of those that were just
/// started: these end by themselves.
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
        left >= 0 && ![TTL, SHOWN].contains(&ttl) && ttl.unsigned_abs() != NESTED_TTL
    });
    leases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burial::HUNG;
    use crate::common::{eventually, secs};

    #[test]
    fn one_that_is_told_that_it_leads_leads_only_if_it_is_the_first() {
        let cluster = Cluster::start(1);
        let keys = ["r0", "etcdctl-1"].map(|name| stand(&cluster, name).1);
        let elect = Elect::default();
        elect.note(&cluster, &keys[1]);
        assert_eq!(elect.lives.lock().unwrap().len(), 0);
        elect.note(&cluster, &keys[0]);
        let token = elect.lives.lock().unwrap()[0].token;
        assert!(elect.leads(token));
    }

    /// A candidate that never goes away by itself: its lease and key.
    fn stand(cluster: &Cluster, name: &str) -> (i64, String) {
        cluster.ask("a candidate", async |mut client| {
            let lease = client.lease_grant(60, None).await?.id();
            let key = format!("{}/{lease:x}", prefix());
            let options = etcd_client::PutOptions::new().with_lease(lease);
            client.put(key.as_str(), name, Some(options)).await?;
            Ok((lease, key))
        })
    }

    #[test]
    fn a_go_candidate_that_was_stopped_while_it_waited_keeps_nobody_out() {
        let cluster = Cluster::start(1);
        let (lease, _) = stand(&cluster, "r0");
        let (elect, stop) = (Elect::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let stopped = crate::StopAll(&[&stop]);
            scope.spawn(|| elect.stand(&cluster, 1, &stop));
            let stands = |name: &str| cluster.queue(prefix()).iter().any(|c| c.name == name);
            eventually(secs(10), "it waits", || stands("etcdctl-1"));
            let sandbox = cluster.sandbox().path().file_name().unwrap();
            let mark = format!("TEST_SANDBOX={}/etcdctl-1-", sandbox.to_str().unwrap());
            process::carrying(&mark)
                .into_iter()
                .for_each(process::freeze);
            cluster.ask("a revoke", async |mut client| {
                client.lease_revoke(lease).await.map(drop)
            });
            assert!(stands("etcdctl-1"));
            eventually(HUNG + secs(3), "it is ended", || !stands("etcdctl-1"));
            drop(stopped);
        });
        let ended = elect.ended.into_inner().unwrap();
        assert_eq!(ended.len(), 1, "{ended:?}");
    }
}
