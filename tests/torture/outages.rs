//! What befalls the store: its members, their disks, its records.

use std::process::{Command, Stdio};
use std::time::Duration;

use etcd_client::AlarmAction;
use rustix::process::Signal;

use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, millis};
use crate::faults::{Range, nanos};
use crate::holds::Load;
use crate::kinds::{Fault, Kind};
use crate::schedule::MEMBERS;
use crate::store::try_ask;

impl Range<'_> {
    /// Says whether there was something to hit.
    pub(crate) fn at_store(&self, fault: &Fault) -> bool {
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
            Kind::EtcdLeaderStop => {
                let Some(i) = leading_member(cluster) else {
                    return false;
                };
                cluster.freeze(i);
                lasts();
                cluster.thaw(i);
            }
            Kind::AllKilled => {
                cluster.stop_all();
                lasts();
                (0..MEMBERS).for_each(|i| cluster.start_again(i));
            }
            Kind::DiskSlow(i, delay) => return slow_disk(cluster.pid(i), delay, fault.lasts),
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
            Kind::Stray(i) => {
                let stray = cluster.impersonate(i);
                lasts();
                drop(stray);
                cluster.start_again(i);
            }
            Kind::StrangeKey => return self.block(fault),
            Kind::GoLapses(newcomers) => {
                self.lapse(fault, newcomers);
                return false;
            }
            Kind::BadRecord(record) => return self.spoil(record, fault.lasts),
            Kind::NoSpace => {
                if !self.alarm(AlarmAction::Activate) {
                    return false;
                }
                lasts();
                while !self.alarm(AlarmAction::Deactivate) {
                    std::thread::sleep(millis(100));
                }
            }
            Kind::Load => {
                let load = Load::new();
                lasts();
                drop(load);
            }
            _ => unreachable!("{fault:?} is a replica's"),
        }
        true
    }

    /// Raises or ends the alarm for want of space.
    fn alarm(&self, action: AlarmAction) -> bool {
        let alarm = async |mut client: etcd_client::Client| {
            let nospace = etcd_client::AlarmType::Nospace;
            client.alarm(action, nospace, None).await.map(drop)
        };
        try_ask(self.cluster, alarm).is_some()
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
            std::thread::sleep(millis(100));
        }
        disks.free(i);
        if self.cluster.has_ended(i) {
            self.cluster.start_again(i);
        }
        true
    }
}

/// The member that leads the cluster, if one says so of itself.
fn leading_member(cluster: &Cluster) -> Option<usize> {
    cluster.healthy().into_iter().find(|i| {
        let mut client = cluster.client(*i);
        let status = async { tokio::time::timeout(Duration::from_secs(1), client.status()).await };
        let Ok(Ok(status)) = cluster.block_on(status) else {
            return false;
        };
        status
            .header()
            .is_some_and(|header| header.member_id() == status.leader())
    })
}

/// Lets every flush to the disk take so much longer; says whether that could be done.
fn slow_disk(pid: i32, delay: Duration, lasts: Duration) -> bool {
    let inject = format!("inject=fsync,fdatasync:delay_enter={}", delay.as_micros());
    let tracer = Command::new("strace")
        .args(["--follow-forks", "--trace=fsync,fdatasync", "-e", &inject])
        .args(["--output=/dev/null", "--attach", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut tracer) = tracer else {
        println!("SKIPPED: slow disk: no strace");
        return false;
    };
    std::thread::sleep(lasts);
    // One that could not attach has ended.
    let worked = tracer.try_wait().is_ok_and(|ended| ended.is_none());
    if !worked {
        println!("SKIPPED: slow disk: strace cannot attach");
    }
    // It lets go of the member when it ends.
    process::signal(i32::try_from(tracer.id()).unwrap(), Signal::TERM);
    tracer.wait().unwrap();
    worked
}
