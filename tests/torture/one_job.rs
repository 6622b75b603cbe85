//! What befalls one job: its runs, its lease, its key, its place in the configuration. Where a replica has
//! only one, that is all it has.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;

use crate::checker::Wait;
use crate::common::process::{self, monotonic_ns};
use crate::common::{HeldProgram, millis, patience};
use crate::elections::{Election, Job};
use crate::faults::{NAMES, Range, nanos};
use crate::holds::{Hold, Unkillable};
use crate::kinds::{Blow, Fault, Kind, Target, Whom};
use crate::replica::{Replica, Taken};
use crate::replicas::{LONGEST_BUDGET, LONGEST_GRACE};
use crate::several;
use crate::store::{lease_of, try_ask};
use crate::worlds;

impl Range<'_> {
    /// Says whether there was something to hit.
    pub(crate) fn at_job(&self, replica: &Replica, of: Election, fault: &Fault) -> bool {
        match fault.kind {
            Kind::StepDownOne => replica.step_down(self.cluster, of),
            Kind::PauseOne | Kind::TakeOut => of
                .job()
                .is_some_and(|job| self.withhold(replica, fault, job)),
            Kind::ExecFails => self.deny_exec(replica, fault, of),
            Kind::Revoke | Kind::DeleteKey => self.end_lease(replica, fault, of),
            Kind::PutKey => self.put_key(replica, fault, of),
            Kind::Unkillable(hold, blow) => self.hold_job(replica, fault, of, (hold, blow)),
            Kind::ExecHangs(blow) => self.hold_exec(replica, of, fault.lasts, blow),
            Kind::RevokeThenKillNext => {
                let hit = self.end_lease(replica, fault, of);
                std::thread::sleep(fault.lasts);
                self.kill_next(of);
                hit
            }
            _ => unreachable!("{fault:?} is the store's"),
        }
    }

    fn hold_exec(&self, replica: &Replica, of: Election, lasts: Duration, blow: Blow) -> bool {
        let program = several::program(self.cluster.sandbox(), &replica.name, of);
        let Some(held) = HeldProgram::hold(program) else {
            return false;
        };
        let hit = replica.signal(Whom::Job, of, Signal::KILL);
        std::thread::sleep(lasts / 3);
        let taken = self.blow(replica, of, blow);
        std::thread::sleep(lasts * 2 / 3);
        drop(held);
        replica.put_back(taken);
        // Between slots there is none; the next one is held up all the same.
        !hit.is_empty() || of.is_scheduled()
    }

    fn deny_exec(&self, replica: &Replica, fault: &Fault, of: Election) -> bool {
        let program = several::program(self.cluster.sandbox(), &replica.name, of);
        let allow = |mode| fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        allow(0o644);
        let hit = replica.signal(Whom::Job, of, Signal::KILL);
        std::thread::sleep(fault.lasts);
        allow(0o755);
        !hit.is_empty()
    }

    /// Takes one of several jobs away for a while: everywhere, or from this replica.
    fn withhold(&self, replica: &Replica, fault: &Fault, job: Job) -> bool {
        if fault.kind == Kind::TakeOut {
            let taken = replica.take_out(job);
            let hit = taken.is_some();
            std::thread::sleep(fault.lasts);
            replica.put_back(taken);
            return hit;
        }
        let paused = replica.type_about(self.cluster, "pause", job);
        std::thread::sleep(fault.lasts);
        // Whether or not it was heard that it was.
        while !replica.type_about(self.cluster, "resume", job) {
            std::thread::sleep(millis(100));
        }
        paused
    }

    /// Returns what is to be put back when the fault ends.
    fn blow(&self, replica: &Replica, of: Election, blow: Blow) -> Option<Taken> {
        let (whom, signal) = match blow {
            Blow::StepDown => {
                replica.step_down(self.cluster, of);
                return None;
            }
            Blow::TakeOut => return of.job().and_then(|job| replica.take_out(job)),
            Blow::Term => (Whom::Daemon, Signal::TERM),
            Blow::KillDaemon => (Whom::Daemon, Signal::KILL),
            Blow::KillGuardian => (Whom::Guardian, Signal::KILL),
        };
        replica.signal(whom, of, signal);
        None
    }

    /// Who has to kill it must say in time that it can't.
    fn hold_job(
        &self,
        replica: &Replica,
        fault: &Fault,
        of: Election,
        (hold, blow): (Hold, Blow),
    ) -> bool {
        let Some((main, tree)) = replica.job(of) else {
            return false;
        };
        let owner = several::owner(&replica.name, of);
        let wish = worlds::wish(self.cluster.sandbox(), &owner);
        let group = self.group(&owner);
        let Some(unkillable) = Unkillable::new(hold, main, &tree, &group, &wish) else {
            return false;
        };
        let main = unkillable.named(main);
        std::thread::sleep(millis(300));
        let at = monotonic_ns();
        let taken = self.blow(replica, of, blow);
        std::thread::sleep(fault.lasts);
        // One that steps down has to have an heir; what is traced and dead holds nobody up.
        let due = blow != Blow::StepDown && hold != Hold::Traced && process::is_alive(main);
        if due {
            let grace = if matches!(blow, Blow::Term | Blow::TakeOut) {
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
        // While it still lives: whoever is to stand again waits for its end.
        replica.put_back(taken);
        drop(unkillable);
        true
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
            job: Job::Counts,
        };
        self.throw_at(replica, &kill);
    }

    /// The key that a replica stands with.
    pub(crate) fn key_of(&self, replica: &Replica, fault: &Fault, of: Election) -> Option<String> {
        match fault.target {
            // Not the one that it waits with for another term.
            Target::Leader(election) => {
                let leader = self.replicas.leader(election);
                leader.and_then(|(_, token)| self.chronicle.standing(token))
            }
            _ => self.chronicle.standing_of(&replica.name, of),
        }
    }

    /// Takes a replica's lease or key from it, behind its back.
    pub(crate) fn end_lease(&self, replica: &Replica, fault: &Fault, of: Election) -> bool {
        let Some(key) = self.key_of(replica, fault, of) else {
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
