//! Throws what the schedule says, and notes what it hit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::checker::{Reach, Thrown, Wait};
use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, Direction, Proxy, millis};
use crate::elect::Elect;
use crate::elections::Election;
use crate::holds::Starved;
use crate::kinds::{Cut, Fault, Kind, Target, Whom};
use crate::replica::Replica;
use crate::replicas::Replicas;
use crate::schedule::SETTLE;
use crate::several;
use crate::store::{Chronicle, Disks};

/// How long whoever kills in vain may take to say so, beyond the kill budget.
pub(crate) const NAMES: Duration = Duration::from_secs(5);

/// What faults are thrown at.
pub(crate) struct Range<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) replicas: &'a Replicas<'a>,
    pub(crate) chronicle: &'a Chronicle,
    pub(crate) elect: &'a Elect,
    /// `None` where they can't be made.
    pub(crate) disks: Option<&'a Disks>,
    /// Held while members suffer a fault of their own.
    pub(crate) members: Mutex<()>,
    pub(crate) thrown: Mutex<Vec<Thrown>>,
    pub(crate) waits: Mutex<Vec<Wait>>,
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
        let all = &self.replicas.all;
        match fault.target {
            Target::Replica(i) => self.throw_at(&all[i], fault),
            Target::Leader(election) => {
                if let Some((i, _)) = self.replicas.leader(election) {
                    self.throw_at(&all[i], fault);
                }
            }
            Target::Several(some) => std::thread::scope(|scope| {
                let hit = (0..all.len()).filter(|i| some & (1 << i) != 0);
                for replica in hit.map(|i| &all[i]) {
                    scope.spawn(|| self.throw_at(replica, fault));
                }
            }),
            Target::Store => {
                // One that took longer than it was to, on a store out of order, is let end.
                let of_members = fault.kind.is_of_members();
                let members = of_members.then(|| self.members.try_lock());
                if matches!(members, Some(Err(_))) {
                    return;
                }
                let from = self.begin("store", fault);
                if self.at_store(fault) {
                    self.note(fault, None, from);
                }
            }
        }
    }

    pub(crate) fn throw_at(&self, replica: &Replica, fault: &Fault) {
        let kind = fault.kind;
        let end = monotonic_ns() + nanos(fault.lasts + SETTLE);
        let free = if kind.is_of_network() {
            replica.take_network(end)
        } else if kind.is_of_processes() {
            let one = match kind.reach(hit_in(Some(replica), fault)) {
                Reach::Job(one) if replica.has_several() => Some(one),
                _ => None,
            };
            replica.take(one, end)
        } else {
            true
        };
        if !free {
            return;
        }
        let from = self.begin(&replica.name, fault);
        if self.at_replica(replica, fault) {
            self.note(fault, Some(replica), from);
        }
    }

    fn begin(&self, whom: &str, fault: &Fault) -> u64 {
        let from = monotonic_ns();
        if self.aloud {
            let seconds = Duration::from_nanos(from - self.begun).as_secs_f64();
            println!(
                "{seconds:8.3} {whom:6} {} ({:.1?})",
                fault.name(),
                fault.lasts
            );
        }
        from
    }

    pub(crate) fn note(&self, fault: &Fault, replica: Option<&Replica>, from: u64) {
        self.push(Thrown {
            name: fault.name(),
            excepted: fault.kind.is_excepted(),
            ends_leases: fault.kind.ends_leases_early(),
            spoils: matches!(fault.kind, Kind::BadRecord(_)),
            after: fault.kind.after(),
            // What is typed about one of several is about whoever leads by then.
            replica: replica
                .filter(|replica| !(replica.has_several() && fault.kind.types()))
                .map(|replica| replica.name.clone()),
            reach: fault.kind.reach(hit_in(replica, fault)),
            from,
            to: monotonic_ns(),
        });
    }

    fn push(&self, thrown: Thrown) {
        let mut all = self.thrown.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(thrown);
    }

    /// Says whether there was something to hit.
    fn at_replica(&self, replica: &Replica, fault: &Fault) -> bool {
        let lasts = || std::thread::sleep(fault.lasts);
        let of = hit_in(Some(replica), fault);
        match fault.kind {
            Kind::Kill(whom) => {
                let hit = replica.signal(whom, of, Signal::KILL);
                lasts();
                !hit.is_empty()
            }
            Kind::Term(whom) => {
                let hit = replica.signal(whom, of, Signal::TERM);
                lasts();
                !hit.is_empty()
            }
            Kind::StepDown => {
                let hit = replica.signal(Whom::Daemon, of, Signal::USR1);
                lasts();
                !hit.is_empty()
            }
            Kind::Stop(whom) => {
                let stopped = replica.signal(whom, of, Signal::STOP);
                lasts();
                for pid in &stopped {
                    process::thaw(*pid);
                }
                !stopped.is_empty()
            }
            Kind::TermThenKill | Kind::TermTwice | Kind::TermThenQuit | Kind::StopThenKill => {
                let (first, second) = match fault.kind {
                    Kind::TermThenKill => (Signal::TERM, Signal::KILL),
                    Kind::TermTwice => (Signal::TERM, Signal::TERM),
                    Kind::TermThenQuit => (Signal::TERM, Signal::QUIT),
                    _ => (Signal::STOP, Signal::KILL),
                };
                // The one that is started after it suffers nothing.
                let hit = replica.signal(Whom::Daemon, of, first);
                lasts();
                replica.signal_again(&hit, second);
                !hit.is_empty()
            }
            Kind::KillBesideStopped(killed) => {
                Self::kill_beside_stopped(replica, of, killed, lasts)
            }
            Kind::Reconfigure => {
                let hit = replica.reconfigure();
                lasts();
                hit
            }
            Kind::Move(world) => {
                let fits = world.of(of) == world;
                let hit = fits && world.can_be() && replica.go_to(world);
                lasts();
                hit
            }
            Kind::Reload => {
                let hit = replica.reload();
                lasts();
                hit
            }
            Kind::HupStorm => Self::reload_again_and_again(replica, fault.lasts),
            Kind::Ill(ill) => {
                let folder = self.cluster.sandbox().path();
                replica.fall_ill(folder, Some(ill));
                lasts();
                replica.fall_ill(folder, None);
                true
            }
            Kind::Link(cut) => {
                Self::cut(replica, cut);
                lasts();
                replica.links.heal();
                true
            }
            Kind::RevokeDeaf => {
                Self::cut(replica, Cut::OneWay(Direction::Down));
                let hit = self.end_lease(replica, fault, of);
                lasts();
                replica.links.heal();
                hit
            }
            Kind::Starve(want) => {
                let name = self.group(&replica.name);
                let pids = replica.of_ours();
                if pids.is_empty() {
                    return false;
                }
                let Some(starved) = Starved::new(want, &pids, &name) else {
                    return false;
                };
                lasts();
                drop(starved);
                true
            }
            _ => self.at_job(replica, of, fault),
        }
    }

    fn reload_again_and_again(replica: &Replica, lasts: Duration) -> bool {
        let end = monotonic_ns() + nanos(lasts);
        let mut hit = false;
        while monotonic_ns() < end {
            hit |= replica.reload();
            std::thread::sleep(millis(7));
        }
        hit
    }

    /// A name that no other control group has.
    pub(crate) fn group(&self, owner: &str) -> String {
        let sandbox = self.cluster.sandbox().path().file_name().unwrap();
        format!("{}-{owner}", sandbox.to_str().unwrap())
    }

    fn kill_beside_stopped(
        replica: &Replica,
        of: Election,
        killed: Whom,
        lasts: impl Fn(),
    ) -> bool {
        let other = if killed == Whom::Daemon {
            Whom::Guardian
        } else {
            Whom::Daemon
        };
        let stopped = replica.signal(other, of, Signal::STOP);
        let hit = replica.signal(killed, of, Signal::KILL);
        lasts();
        for pid in stopped {
            process::thaw(pid);
        }
        !hit.is_empty()
    }

    fn cut(replica: &Replica, cut: Cut) {
        let links = &replica.links;
        match cut {
            Cut::Drop => links.drop_connections(),
            Cut::Refuse => links.each(Proxy::refuse),
            Cut::Pause => links.each(Proxy::pause),
            Cut::BlackHole => links.black_hole(),
            Cut::OneWay(direction @ (Direction::Up | Direction::Down)) => {
                links.each(|proxy| proxy.cut_one_way(direction));
            }
            Cut::OneMember(i) => links[i].black_hole(),
            Cut::Slow(delay) => links.each(|proxy| proxy.delay(delay)),
        }
    }
}

/// The election whose candidate is hit, where not all of a replica's are.
fn hit_in(replica: Option<&Replica>, fault: &Fault) -> Election {
    let checked = matches!(
        fault.kind,
        Kind::Ill(_) | Kind::Kill(Whom::GuardianOfChecks) | Kind::Stop(Whom::GuardianOfChecks)
    );
    match (replica, fault.target) {
        (Some(replica), _) if !replica.has_several() => replica.elections[0],
        (Some(_), _) if checked => Election::Of(several::CHECKED),
        (_, Target::Leader(election)) => election,
        _ => Election::Of(fault.job),
    }
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

fn sleep_until(due: u64) {
    let left = due.saturating_sub(monotonic_ns());
    std::thread::sleep(Duration::from_nanos(left));
}
