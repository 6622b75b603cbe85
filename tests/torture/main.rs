//! Every fault, at random moments, several at once, on a real cluster and the replicas of two elections, one
//! whose job runs all the time and one whose job has a schedule, and daemons that run several jobs each; and a checker that reads afterwards, from
//! what the jobs and the store recorded, whether the promises held.
//!
//! | variable | means |
//! |---|---|
//! | `INCUMBENT_TORTURE_MINUTES` | for how long faults are thrown (default 1.5) |
//! | `INCUMBENT_TORTURE_SEED` | what decides kinds, targets and moments (default 1) |
//! | `INCUMBENT_TORTURE_EXCEPTED` | throw also the faults that the promises except |
//! | `INCUMBENT_TORTURE_ALOUD` | print each fault as it is thrown |

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and this one reports"
)]

#[path = "../common/mod.rs"]
mod common;

mod beside;
mod burial;
mod checker;
#[cfg(test)]
mod checker_tests;
mod collateral;
#[cfg(test)]
mod collateral_tests;
mod elect;
mod elections;
mod faults;
mod holds;
mod judge;
mod kinds;
mod lapse;
mod late;
mod lulls;
mod one_job;
mod outages;
mod processes;
mod prompt;
#[cfg(test)]
mod prompt_tests;
mod replica;
mod replicas;
mod report;
mod schedule;
mod several;
mod slot_checker;
#[cfg(test)]
mod slot_checker_tests;
mod slots;
mod store;
mod worlds;
mod writes;

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checker::{Evidence, Heal, Return};
use common::process::monotonic_ns;
use common::{Cluster, Sandbox, eventually, millis, patience, secs};
use elect::Elect;
use elections::{ELECTIONS, Election};
use faults::{Range, nanos};
use judge::{Histories, Judged};
use lulls::Lulls;
use replicas::{LONGEST_DELAY, LONGEST_TTL, REPLICAS, Replicas};
use store::{Chronicle, Disks, LATE, try_ask};

/// One election of etcd's own.
const ELECTION: Duration = Duration::from_millis(2_500);

/// What keeps the members' logs small: an hour of faults must fit on their disks.
const FRUGAL: [&str; 4] = ["--snapshot-count", "1000", "--max-wals", "2"];

/// How long somebody may take to lead once all faults are over: for a lease whose holder is dead, and
/// whose clock a new etcd leader has just set back. Its end is unclean, so the next one waits.
const IN_TIME: Duration = LONGEST_TTL
    .saturating_add(Duration::from_secs(1))
    .saturating_add(ELECTION)
    .saturating_add(LONGEST_DELAY);

/// How long after the TTL every replica is to stand in the queue again, at the latest.
const BACK: Duration = Duration::from_secs(10);

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(format!("INCUMBENT_TORTURE_{name}")).ok()?;
    if text.is_empty() {
        return None;
    }
    let value = text.parse().ok();
    Some(value.unwrap_or_else(|| panic!("INCUMBENT_TORTURE_{name}: not a number: {text:?}")))
}

#[test]
fn no_fault_ever_makes_two_jobs() {
    let seed = setting("SEED").unwrap_or(1);
    let minutes: f64 = setting("MINUTES").unwrap_or(1.5);
    let excepted = setting::<u8>("EXCEPTED").is_some_and(|on| on != 0);
    let aloud = setting::<u8>("ALOUD").is_some_and(|on| on != 0);
    let (cluster, disks) = cluster();
    let begun = monotonic_ns();
    let run = report::Run {
        seed,
        minutes,
        excepted,
        skipped: disks.as_ref().err().cloned(),
        begun,
        etcd: store::version(&cluster),
    };
    let chronicle = Chronicle::default();
    let replicas = Replicas::start(&cluster, seed);
    let mut stopped_at = 0;
    let (elect, lulls) = (Elect::default(), Lulls::default());
    let range = Range {
        cluster: &cluster,
        replicas: &replicas,
        chronicle: &chronicle,
        elect: &elect,
        disks: disks.as_ref().ok(),
        members: std::sync::Mutex::default(),
        thrown: std::sync::Mutex::default(),
        waits: std::sync::Mutex::default(),
        aloud,
        begun,
    };
    let (stop, stop_others) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut evidence = Evidence {
        patience: patience(secs(1)).as_secs().try_into().unwrap(),
        ..Evidence::default()
    };
    std::thread::scope(|scope| {
        // Were it to panic without them, the others would be waited for in vain.
        let stopped = StopAll(&[&stop, &stop_others]);
        scope.spawn(|| chronicle.follow(&cluster, &stop));
        scope.spawn(|| replicas.supervise(&stop));
        let standing = scope.spawn(|| elect.stand(&cluster, seed, &stop_others));
        scope.spawn(|| lulls.watch(&cluster, &stop));
        let late = scope.spawn(|| late::write(&replicas, cluster.sandbox(), &stop_others));
        for election in ELECTIONS {
            wait_led(election, &cluster, &replicas, &elect, secs(30));
        }

        let end = begun + nanos(Duration::from_secs_f64(minutes * 60.0));
        for number in 0.. {
            range.storm(&schedule::storm(seed, number, REPLICAS, excepted));
            replicas.wait_complete();
            let at = monotonic_ns();
            let heals = ELECTIONS.map(|election| {
                let led = wait_led(election, &cluster, &replicas, &elect, 2 * IN_TIME);
                let limit = nanos(patience(IN_TIME));
                Heal { at, led, limit }
            });
            evidence.heals.extend(heals);
            evidence.returns.extend(returns(&cluster, &replicas, at));
            // Another storm would take longer than it may.
            if monotonic_ns() + nanos(schedule::STORM) > end
                || heals.iter().any(|heal| heal.led.is_none())
            {
                break;
            }
        }
        stop_others.store(true, Ordering::Relaxed);
        standing.join().unwrap();
        late.join().unwrap();
        // Leases whose holders were killed together with their guardians end with their TTL.
        std::thread::sleep(LONGEST_TTL + secs(1));
        stopped_at = incumbent::wall::now().as_millis();
        evidence.leftovers = replicas.stop();
        evidence.leftovers.extend(read_out(&cluster, &chronicle));
        drop(stopped);
    });
    let histories = Histories {
        cluster: &cluster,
        chronicle: &chronicle,
        begun,
    };
    histories.add_to(&mut evidence, Election::Steady);
    evidence.late_writes = checker::parse_writes(&histories.notes("late"));
    evidence.late_counts = chronicle.counts(LATE);
    evidence.thrown = range.thrown.into_inner().unwrap();
    evidence.waits = range.waits.into_inner().unwrap();
    evidence.lives.extend(elect.lives.into_inner().unwrap());
    evidence.thrown.extend(elect.ended.into_inner().unwrap());
    evidence.lulls = lulls.told();
    evidence.delays = replicas.delays();
    evidence.panics = replicas.panics();
    evidence.odd_ends = replicas.odd_ends.lock().unwrap().clone();

    let judged = histories.judge(&evidence, &replicas, stopped_at);
    report::publish(&run, &evidence, &judged);
    report::assert_unbroken(&run, &evidence, &judged.others, &judged.verdict);
    assert_much_ran(&replicas, &evidence, &judged, minutes);
    drop(disks);
}

/// Waits until the whole history is read, and says what is left over in the store.
fn read_out(cluster: &Cluster, chronicle: &Chronicle) -> Vec<String> {
    // Without it the rest is judged all the same.
    if try_ask(cluster, async |mut client| client.get("/", None).await).is_none() {
        return vec!["a store that does not answer".into()];
    }
    let left = left_in_store(cluster);
    let revision = cluster.revision();
    eventually(secs(20), "the whole history is read", || {
        chronicle.revision() >= revision
    });
    left
}

/// A run in which little happened shows little.
fn assert_much_ran(replicas: &Replicas<'_>, evidence: &Evidence, judged: &Judged, minutes: f64) {
    for slots in &judged.slots {
        assert!(slots.starts.len() > 5, "a scheduled job hardly ran");
    }
    for own in &judged.others[1..] {
        assert!(own.lives.len() > 2, "one of several jobs hardly ran");
    }
    // On a host that is busy with other things the store is slow all the time.
    let alone = judged.beside > 0;
    assert!(alone || minutes < 5.0, "no job suffered anything alone");
    assert!(evidence.counts.len() > 20, "the jobs hardly ran");
    assert!(replicas.said("hook ended") > 0, "no hook ever ran");
    let ill = replicas.said("unhealthy") > 0;
    assert!(ill || minutes < 5.0, "no check ever failed");
    let refused = evidence.refused_late();
    assert!(refused > 20, "hardly a writer outlived its term");
    let verdict = &judged.verdict;
    let prompt = !verdict.given_back.is_empty() && !verdict.followed.is_empty();
    assert!(prompt || minutes < 5.0, "no hand-over could be timed");
}

/// Three members, on disks that can be full where that can be had.
fn cluster() -> (Cluster, Result<Disks, String>) {
    let sandbox = Sandbox::new();
    let disks = Disks::new(sandbox.path(), schedule::MEMBERS);
    for _ in 0..5 {
        let folder = |i: usize| match &disks {
            Ok(disks) => disks.path(i),
            Err(_) => sandbox.path().to_owned(),
        };
        let cluster = Cluster::prepare_in(schedule::MEMBERS, &sandbox, &FRUGAL, folder);
        match cluster.start_all() {
            Ok(()) => return (cluster, disks),
            Err(log) if log.contains("address already in use") => {}
            Err(log) => panic!("etcd ended while it started:\n{log}"),
        }
    }
    panic!("no free ports");
}

/// Waits until whoever is first in the queue leads; says when.
fn wait_led(
    election: Election,
    cluster: &Cluster,
    replicas: &Replicas<'_>,
    elect: &Elect,
    limit: Duration,
) -> Option<u64> {
    let end = monotonic_ns() + nanos(patience(limit));
    while monotonic_ns() < end {
        let queue = try_ask(cluster, async |mut client| {
            let all = etcd_client::GetOptions::new().with_prefix();
            let queue = format!("{}/", election.prefix());
            client.get(queue, Some(all)).await
        });
        let queue = queue.iter().flat_map(etcd_client::GetResponse::kvs);
        let first = queue.min_by_key(|kv| kv.create_revision());
        let led = first.is_some_and(|first| {
            let token = first.create_revision();
            elect.leads(token) || replicas.leads(election, first.value_str().unwrap(), token)
        });
        if led {
            return Some(monotonic_ns());
        }
        std::thread::sleep(millis(10));
    }
    None
}

/// When each replica was first in the queue after the faults' end, by a lease of its daemon's last
/// candidacy; looked for until a TTL and [`BACK`] have passed.
fn returns(cluster: &Cluster, replicas: &Replicas<'_>, healed: u64) -> Vec<Return> {
    let limit = nanos(patience(LONGEST_TTL + BACK));
    let every = replicas.all.iter();
    let every = every.flat_map(|replica| replica.elections.iter().map(move |of| (replica, *of)));
    let every: Vec<_> = every.collect();
    let mut all: Vec<_> = every
        .iter()
        .map(|(replica, of)| Return {
            replica: format!("{} in {}", replica.name, of.word()),
            healed,
            stood: None,
            limit,
        })
        .collect();
    loop {
        let now = monotonic_ns();
        let queues = ELECTIONS.map(|election| {
            try_ask(cluster, async |mut client| {
                let all = etcd_client::GetOptions::new()
                    .with_prefix()
                    .with_keys_only();
                let queue = format!("{}/", election.prefix());
                client.get(queue, Some(all)).await
            })
        });
        let standing: Vec<_> = queues
            .iter()
            .flatten()
            .flat_map(etcd_client::GetResponse::kvs)
            .collect();
        for ((replica, of), back) in every.iter().zip(&mut all) {
            if back.stood.is_some() {
                continue;
            }
            let key = replica.candidacy(*of);
            if key.is_some_and(|key| standing.iter().any(|kv| kv.key() == key.as_bytes())) {
                back.stood.get_or_insert(now);
            }
        }
        if now > healed + limit || all.iter().all(|back| back.stood.is_some()) {
            return all;
        }
        std::thread::sleep(millis(20));
    }
}

/// Candidate keys, members' records and leases that are there after everybody has left.
fn left_in_store(cluster: &Cluster) -> Vec<String> {
    let queues = ELECTIONS.iter().flat_map(|election| {
        let members = format!("{}.meta/members", election.prefix());
        let queue = cluster.queue(election.prefix());
        queue.into_iter().chain(cluster.queue(&members))
    });
    let keys = queues.map(|c| format!("{c:?}"));
    let leases = elect::leases_of_others(cluster).into_iter();
    let leases = leases.map(|lease| format!("lease {lease:x}"));
    keys.chain(leases).collect()
}

/// Ends the threads beside the test, however it ends.
struct StopAll<'a>(&'a [&'a AtomicBool]);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        for stop in self.0 {
            stop.store(true, Ordering::Relaxed);
        }
    }
}
