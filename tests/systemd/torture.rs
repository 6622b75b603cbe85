//! Faults at the shipped unit, one after the other, for as long as one likes: `make torture-systemd`.
//!
//! After each of them every instance is to stand in the queue again and a job to run, within a TTL,
//! the take-over delay and ten seconds; no two jobs ever lived at once; nobody panicked; all of them can
//! be stopped.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::common::process::{signal, thaw};
use crate::common::{Random, eventually, millis, patience, secs};
use crate::replicas::{Leader, Replicas, Setup};
use crate::rig::rig;

const INSTANCES: usize = 4;

/// TTL, take-over delay and ten seconds.
const HEALS: Duration = Duration::from_secs(17);

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillDaemon,
    KillGuardian,
    KillAll,
    Stop,
    Restart,
    /// Longer than the lease.
    FreezeDaemon,
    FreezeGuardian,
    /// Away from the store, longer than the lease.
    Cut,
    /// No more threads and processes for the instance's user.
    NoThreads,
    /// No more descriptors for the daemon.
    NoDescriptors,
    Reload,
    StepDown,
    TermTwice,
    TermThenQuit,
    HupStorm,
    MemberStops,
}

const FAULTS: [Fault; 16] = [
    Fault::KillDaemon,
    Fault::KillGuardian,
    Fault::KillAll,
    Fault::Stop,
    Fault::Restart,
    Fault::FreezeDaemon,
    Fault::FreezeGuardian,
    Fault::Cut,
    Fault::NoThreads,
    Fault::NoDescriptors,
    Fault::Reload,
    Fault::StepDown,
    Fault::TermTwice,
    Fault::TermThenQuit,
    Fault::HupStorm,
    Fault::MemberStops,
];

#[test]
#[ignore = "make torture-systemd"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]
fn no_fault_of_the_unit_makes_two_jobs_or_keeps_one_out() {
    let Some(rig) = rig() else { return };
    let setting = |name: &str| std::env::var(format!("INCUMBENT_TORTURE_{name}")).ok();
    let seed = setting("SEED").map_or(1, |text| text.parse().unwrap());
    let minutes = setting("MINUTES").map_or(1.0, |text| text.parse().unwrap());
    let setup = Setup {
        instances: INSTANCES,
        job: &["--every", "10ms", "--child-own-session"],
        config: "election.ttl = \"5s\"\njob.stop_grace = \"2s\"\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "torture", &setup);
    replicas.wait_term(1);
    let mut random = Random::new(seed);
    let begun = Instant::now();
    let mut thrown = 0;
    while begun.elapsed() < Duration::from_secs_f64(minutes * 60.0) {
        let fault = FAULTS[random.below(FAULTS.len())];
        println!("{:6.1} s: {fault:?}", begun.elapsed().as_secs_f64());
        throw(fault, &Leader::of(&replicas), &mut random);
        thrown += 1;
        heals(&replicas, fault);
        replicas.proven();
        std::thread::sleep(random.millis(0, 1_500));
    }
    for i in 1..=INSTANCES {
        let panics = replicas.journal(i).into_iter().filter(|line| {
            let message = line["MESSAGE"].as_str();
            message.is_some_and(|message| message.contains("panicked"))
        });
        assert_eq!(panics.count(), 0, "instance {i}");
        rig.ok(&["timeout", "20", "systemctl", "stop", &replicas.unit(i)]);
    }
    let history = replicas.proven();
    println!(
        "seed {seed}: {thrown} faults, {} terms, no two jobs at once",
        history.tokens().len()
    );
}

fn throw(fault: Fault, leader: &Leader<'_>, random: &mut Random) {
    let long = random.millis(6_000, 9_000);
    let rig = leader.replicas.rig;
    match fault {
        Fault::KillDaemon => signal(leader.daemon, Signal::KILL),
        Fault::KillGuardian => signal(leader.guardian, Signal::KILL),
        Fault::KillAll => fs::write(leader.group.join("cgroup.kill"), "1").unwrap(),
        Fault::Stop => {
            leader.systemctl("stop");
            std::thread::sleep(random.millis(0, 1_000));
            leader.systemctl("start");
        }
        Fault::Restart => leader.systemctl("restart"),
        Fault::FreezeDaemon | Fault::FreezeGuardian => {
            let pid = match fault {
                Fault::FreezeDaemon => leader.daemon,
                _ => leader.guardian,
            };
            signal(pid, Signal::STOP);
            std::thread::sleep(long);
            thaw(pid);
        }
        Fault::Cut => {
            leader.filter(&["IPAddressAllow=", "IPAddressDeny=any"]);
            std::thread::sleep(long);
            leader.filter(&["IPAddressAllow=any"]);
        }
        Fault::NoThreads => starve(leader, Resource::Nproc, random.millis(500, 6_000)),
        Fault::NoDescriptors => starve(leader, Resource::Nofile, random.millis(500, 6_000)),
        Fault::Reload => leader.systemctl("reload"),
        Fault::StepDown => signal(leader.daemon, Signal::USR1),
        Fault::TermTwice | Fault::TermThenQuit => {
            let second = match fault {
                Fault::TermTwice => Signal::TERM,
                _ => Signal::QUIT,
            };
            signal(leader.daemon, Signal::TERM);
            std::thread::sleep(random.millis(0, 1_500));
            signal(leader.daemon, second);
            // Ended as it was told, which systemd takes for what was wanted.
            std::thread::sleep(secs(1));
            leader.systemctl("start");
        }
        Fault::HupStorm => {
            for _ in 0..50 {
                signal(leader.daemon, Signal::HUP);
                std::thread::sleep(millis(7));
            }
        }
        Fault::MemberStops => {
            let member = format!("store-{}.service", 1 + random.below(3));
            rig.ok(&["systemctl", "kill", "-s", "STOP", &member]);
            std::thread::sleep(random.millis(500, 4_000));
            rig.ok(&["systemctl", "kill", "-s", "CONT", &member]);
        }
    }
}

/// Daemon and guardian get no more of it for so long, while a member of the store is away for a moment:
/// whoever connects anew is in need of it.
fn starve(leader: &Leader<'_>, resource: Resource, lasts: Duration) {
    let none = |limit: Rlimit| Rlimit {
        current: Some(1),
        maximum: limit.maximum,
    };
    let limited: Vec<_> = [leader.daemon, leader.guardian]
        .into_iter()
        .filter_map(Pid::from_raw)
        .filter_map(|pid| {
            let limit = none(rustix::process::getrlimit(resource));
            Some((pid, prlimit(Some(pid), resource, limit).ok()?))
        })
        .collect();
    let rig = leader.replicas.rig;
    rig.ok(&["systemctl", "kill", "-s", "STOP", "store-2.service"]);
    std::thread::sleep(lasts);
    rig.ok(&["systemctl", "kill", "-s", "CONT", "store-2.service"]);
    for (pid, limit) in limited {
        prlimit(Some(pid), resource, limit).ok();
    }
}

/// Waits until everybody stands in the queue, the first with a job that beats.
fn heals(replicas: &Replicas, fault: Fault) {
    let all: Vec<_> = (1..=INSTANCES).map(|i| format!("torture-{i}")).collect();
    eventually(
        patience(HEALS),
        &format!("all is well after {fault:?}"),
        || {
            let status = replicas.status();
            let queue = replicas.queue();
            let token = status["leader"]["token"].as_i64();
            let beats = token.is_some_and(|token| {
                let beat = || replicas.record.history().last_beat_of(token);
                let first = beat();
                std::thread::sleep(millis(50));
                first.is_some() && beat() > first
            });
            if beats && all.iter().all(|name| queue.contains(name)) {
                Ok(())
            } else {
                Err(format!("beats: {beats}, queue: {queue:?}"))
            }
        },
    );
}
