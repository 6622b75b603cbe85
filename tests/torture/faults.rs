//! Throws what the schedule says, and notes what it hit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::checker::Thrown;
use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, Direction, millis};
use crate::replicas::{Replica, Replicas};
use crate::schedule::{Cut, Fault, Kind, MEMBERS, SETTLE, Target, Whom};
use crate::store::{Chronicle, Disks, lease_of, try_ask};

/// What faults are thrown at.
pub(crate) struct Range<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) replicas: &'a Replicas<'a>,
    pub(crate) chronicle: &'a Chronicle,
    /// `None` where they can't be made.
    pub(crate) disks: Option<&'a Disks>,
    pub(crate) thrown: Mutex<Vec<Thrown>>,
    /// Whether each fault is printed.
    pub(crate) aloud: bool,
    pub(crate) begun: u64,
}

impl Range<'_> {
    /// Throws all faults of a storm, each at its moment; returns when the last one has ended.
    pub(crate) fn storm(&self, faults: &[Fault]) {
        let begun = monotonic_ns();
        std::thread::scope(|scope| {
            for fault in faults {
                let due = begun + nanos(fault.at);
                scope.spawn(move || {
                    sleep_until(due);
                    self.throw(fault);
                });
            }
        });
    }

    fn throw(&self, fault: &Fault) {
        let replica = match fault.target {
            Target::Replica(i) => Some(&self.replicas.all[i]),
            Target::Leader => match self.replicas.leader() {
                Some((i, _)) => Some(&self.replicas.all[i]),
                None => return,
            },
            Target::Store => None,
        };
        let from = monotonic_ns();
        let takes = fault.kind.is_of_processes() || fault.kind.is_of_network();
        let end = from + nanos(fault.lasts + SETTLE);
        if takes && !replica.is_some_and(|replica| replica.take(fault.kind.is_of_network(), end)) {
            return;
        }
        let name = replica.map(|replica| replica.name.clone());
        if self.aloud {
            let seconds = Duration::from_nanos(from - self.begun).as_secs_f64();
            let whom = name.as_deref().unwrap_or("store");
            println!(
                "{seconds:8.3} {whom:6} {} ({:.1?})",
                fault.kind.name(),
                fault.lasts
            );
        }
        let hit = match replica {
            Some(replica) => self.at_replica(replica, fault),
            None => self.at_store(fault),
        };
        if hit {
            let thrown = Thrown {
                name: fault.kind.name(),
                excepted: fault.kind.is_excepted(),
                ends_leases: fault.kind.ends_leases_early(),
                replica: name,
                from,
                to: monotonic_ns(),
            };
            self.thrown
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thrown);
        }
    }

    /// Says whether there was something to hit.
    fn at_replica(&self, replica: &Replica, fault: &Fault) -> bool {
        let hit = match fault.kind {
            Kind::Kill(whom) => !replica.signal(whom, Signal::KILL).is_empty(),
            Kind::Term(whom) => !replica.signal(whom, Signal::TERM).is_empty(),
            Kind::StepDown => !replica.signal(Whom::Daemon, Signal::USR1).is_empty(),
            Kind::Stop(whom) => {
                let stopped = replica.signal(whom, Signal::STOP);
                std::thread::sleep(fault.lasts);
                for pid in &stopped {
                    process::thaw(*pid);
                }
                return !stopped.is_empty();
            }
            Kind::Reconfigure => {
                replica.reconfigure();
                true
            }
            Kind::Link(cut) => {
                self.cut(replica, cut);
                std::thread::sleep(fault.lasts);
                replica.links.heal();
                return true;
            }
            Kind::Revoke | Kind::DeleteKey => return self.end_lease(fault.kind),
            _ => unreachable!("{fault:?} is the store's"),
        };
        std::thread::sleep(fault.lasts);
        hit
    }

    #[expect(clippy::unused_self, reason = "beside its siblings")]
    fn cut(&self, replica: &Replica, cut: Cut) {
        let links = &replica.links;
        match cut {
            Cut::Drop => links.drop_connections(),
            Cut::Pause => links.each(crate::common::Proxy::pause),
            Cut::BlackHole => links.black_hole(),
            Cut::OneWay(direction @ (Direction::Up | Direction::Down)) => {
                links.each(|proxy| proxy.cut_one_way(direction));
            }
            Cut::OneMember(i) => links[i].black_hole(),
            Cut::Slow => links.each(|proxy| proxy.delay(millis(60))),
        }
    }

    /// Takes the leader's lease or key from it, behind its back.
    fn end_lease(&self, kind: Kind) -> bool {
        let key = self.replicas.leader();
        let Some(key) = key.and_then(|(_, token)| self.chronicle.standing(token)) else {
            return false;
        };
        let Some(lease) = lease_of(&key) else {
            return false;
        };
        let done = try_ask(self.cluster, async |mut client| match kind {
            Kind::Revoke => client.lease_revoke(lease).await.map(drop),
            _ => client.delete(key.as_str(), None).await.map(drop),
        });
        done.is_some()
    }

    fn at_store(&self, fault: &Fault) -> bool {
        let cluster = self.cluster;
        let but = |keep: usize| (0..MEMBERS).filter(move |i| *i != keep);
        let lasts = || std::thread::sleep(fault.lasts);
        match fault.kind {
            Kind::MemberKill(i) => {
                cluster.kill(i);
                lasts();
                cluster.start_again(i);
            }
            Kind::MemberStop(i) => {
                cluster.freeze(i);
                lasts();
                cluster.thaw(i);
            }
            Kind::MemberSlow(i) => {
                let end = monotonic_ns() + nanos(fault.lasts);
                while monotonic_ns() < end {
                    cluster.freeze(i);
                    std::thread::sleep(millis(60));
                    cluster.thaw(i);
                    std::thread::sleep(millis(30));
                }
            }
            Kind::MemberFull(i) => return self.fill(i, fault.lasts),
            Kind::QuorumKilled(keep) => {
                but(keep).for_each(|i| cluster.kill(i));
                lasts();
                but(keep).for_each(|i| cluster.start_again(i));
            }
            Kind::QuorumStopped(keep) => {
                but(keep).for_each(|i| cluster.freeze(i));
                lasts();
                but(keep).for_each(|i| cluster.thaw(i));
            }
            // Not beyond what the checker has read: it judges by the whole history.
            Kind::Compact => {
                let revision = self.chronicle.revision();
                let compact = async |mut client: etcd_client::Client| {
                    client.compact(revision, None).await.map(drop)
                };
                return try_ask(cluster, compact).is_some();
            }
            Kind::Defragment(i) => {
                let mut client = cluster.client(i);
                let done = async {
                    tokio::time::timeout(Duration::from_secs(5), client.defragment()).await
                };
                return cluster.block_on(done).is_ok_and(|done| done.is_ok());
            }
            _ => unreachable!("{fault:?} is a replica's"),
        }
        true
    }

    /// A member without a byte of disk left, while large values are written.
    fn fill(&self, i: usize, lasts: Duration) -> bool {
        let Some(disks) = self.disks else {
            return false;
        };
        disks.fill(i);
        let end = monotonic_ns() + nanos(lasts);
        let large = vec![b'x'; 256 * 1024];
        while monotonic_ns() < end {
            let write = async |mut client: etcd_client::Client| {
                client
                    .put("/torture/large", large.clone(), None)
                    .await
                    .map(drop)
            };
            try_ask(self.cluster, write);
            std::thread::sleep(millis(50));
        }
        disks.free(i);
        if self.cluster.has_ended(i) {
            self.cluster.start_again(i);
        }
        true
    }
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

fn sleep_until(due: u64) {
    let left = due.saturating_sub(monotonic_ns());
    std::thread::sleep(Duration::from_nanos(left));
}
