//! Throws what the schedule says, and notes what it hit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::checker::{Thrown, Wait};
use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, Direction, HeldProgram, Proxy, millis, patience};
use crate::elect::Elect;
use crate::elections::Election;
use crate::holds::{Hold, Starved, Unkillable};
use crate::kinds::{Blow, Cut, Fault, Kind, Target, Whom};
use crate::replicas::{LONGEST_BUDGET, LONGEST_GRACE, Replica, Replicas};
use crate::schedule::SETTLE;
use crate::store::{Chronicle, Disks, lease_of, try_ask};
use crate::worlds;

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

    fn throw_at(&self, replica: &Replica, fault: &Fault) {
        let kind = fault.kind;
        let end = monotonic_ns() + nanos(fault.lasts + SETTLE);
        let takes = kind.is_of_processes() || kind.is_of_network();
        if takes && !replica.take(kind.is_of_network(), end) {
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
            replica: replica.map(|replica| replica.name.clone()),
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
        match fault.kind {
            Kind::Kill(whom) => {
                let hit = replica.signal(whom, Signal::KILL);
                lasts();
                !hit.is_empty()
            }
            Kind::Term(whom) => {
                let hit = replica.signal(whom, Signal::TERM);
                lasts();
                !hit.is_empty()
            }
            Kind::StepDown => {
                let hit = replica.signal(Whom::Daemon, Signal::USR1);
                lasts();
                !hit.is_empty()
            }
            Kind::Stop(whom) => {
                let stopped = replica.signal(whom, Signal::STOP);
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
                let hit = replica.signal(Whom::Daemon, first);
                lasts();
                replica.signal_again(&hit, second);
                !hit.is_empty()
            }
            Kind::KillBesideStopped(killed) => self.kill_beside_stopped(replica, killed, lasts),
            Kind::Reconfigure => {
                let hit = replica.reconfigure();
                lasts();
                hit
            }
            Kind::Move(world) => {
                let fits = world.of(replica.election) == world;
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
                let hit = self.end_lease(replica, fault);
                lasts();
                replica.links.heal();
                hit
            }
            Kind::Revoke | Kind::DeleteKey => self.end_lease(replica, fault),
            Kind::PutKey => self.put_key(replica, fault),
            Kind::Unkillable(hold, blow) => self.hold_job(replica, fault, hold, blow),
            Kind::ExecHangs(blow) => Self::hold_exec(replica, fault.lasts, blow),
            Kind::Starve(want) => {
                let name = self.group(replica);
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
            Kind::RevokeThenKillNext => {
                let hit = self.end_lease(replica, fault);
                lasts();
                self.kill_next(replica.election);
                hit
            }
            _ => unreachable!("{fault:?} is the store's"),
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

    fn hold_exec(replica: &Replica, lasts: Duration, blow: Blow) -> bool {
        let Some(held) = HeldProgram::hold(replica.program.clone()) else {
            return false;
        };
        let hit = replica.signal(Whom::Job, Signal::KILL);
        std::thread::sleep(lasts / 3);
        Self::blow(replica, blow);
        std::thread::sleep(lasts * 2 / 3);
        drop(held);
        // Between slots there is none; the next one is held up all the same.
        !hit.is_empty() || replica.election == Election::Scheduled
    }

    /// A name that no other control group has.
    fn group(&self, replica: &Replica) -> String {
        let sandbox = self.cluster.sandbox().path().file_name().unwrap();
        format!("{}-{}", sandbox.to_str().unwrap(), replica.name)
    }

    fn blow(replica: &Replica, blow: Blow) {
        match blow {
            Blow::StepDown => replica.signal(Whom::Daemon, Signal::USR1),
            Blow::Term => replica.signal(Whom::Daemon, Signal::TERM),
            Blow::KillDaemon => replica.signal(Whom::Daemon, Signal::KILL),
            Blow::KillGuardian => replica.signal(Whom::Guardian, Signal::KILL),
        };
    }

    /// Who has to kill it must say in time that it can't.
    fn hold_job(&self, replica: &Replica, fault: &Fault, hold: Hold, blow: Blow) -> bool {
        let Some((main, tree)) = replica.job() else {
            return false;
        };
        let wish = worlds::wish(self.cluster.sandbox(), &replica.name);
        let group = self.group(replica);
        let Some(unkillable) = Unkillable::new(hold, main, &tree, &group, &wish) else {
            return false;
        };
        let main = unkillable.named(main);
        std::thread::sleep(millis(300));
        let at = monotonic_ns();
        Self::blow(replica, blow);
        std::thread::sleep(fault.lasts);
        // One that steps down has to have an heir; what is traced and dead holds nobody up.
        let due = blow != Blow::StepDown && hold != Hold::Traced && process::is_alive(main);
        if due {
            let grace = if blow == Blow::Term {
                LONGEST_GRACE
            } else {
                Duration::ZERO
            };
            let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
            waits.push(Wait {
                at,
                replica: replica.name.clone(),
                pid: main,
                blow: fault.name(),
                named: replica.named_at(at),
                limit: nanos(patience(grace + LONGEST_BUDGET + NAMES)),
            });
        }
        drop(unkillable);
        true
    }

    #[expect(clippy::unused_self, reason = "beside its siblings")]
    fn kill_beside_stopped(&self, replica: &Replica, killed: Whom, lasts: impl Fn()) -> bool {
        let other = if killed == Whom::Daemon {
            Whom::Guardian
        } else {
            Whom::Daemon
        };
        let stopped = replica.signal(other, Signal::STOP);
        let hit = replica.signal(killed, Signal::KILL);
        lasts();
        for pid in stopped {
            process::thaw(pid);
        }
        !hit.is_empty()
    }

    /// Kills the daemon that is first in the queue now; it may be in its take-over delay.
    fn kill_next(&self, election: Election) {
        let next = self.chronicle.first(election);
        let Some(replica) = next.and_then(|name| self.replicas.named(&name)) else {
            return;
        };
        let kill = Fault {
            at: Duration::ZERO,
            lasts: millis(500),
            kind: Kind::Kill(Whom::Daemon),
            target: Target::Leader(election),
        };
        self.throw_at(replica, &kill);
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

    /// The key that a replica stands with.
    pub(crate) fn key_of(&self, replica: &Replica, fault: &Fault) -> Option<String> {
        match fault.target {
            // Not the one that it waits with for another term.
            Target::Leader(election) => {
                let leader = self.replicas.leader(election);
                leader.and_then(|(_, token)| self.chronicle.standing(token))
            }
            _ => self.chronicle.standing_of(&replica.name),
        }
    }

    /// Takes a replica's lease or key from it, behind its back.
    fn end_lease(&self, replica: &Replica, fault: &Fault) -> bool {
        let Some(key) = self.key_of(replica, fault) else {
            return false;
        };
        let Some(lease) = lease_of(&key) else {
            return false;
        };
        let done = try_ask(self.cluster, async |mut client| match fault.kind {
            Kind::DeleteKey => client.delete(key.as_str(), None).await.map(drop),
            _ => client.lease_revoke(lease).await.map(drop),
        });
        done.is_some()
    }
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

fn sleep_until(due: u64) {
    let left = due.saturating_sub(monotonic_ns());
    std::thread::sleep(Duration::from_nanos(left));
}
