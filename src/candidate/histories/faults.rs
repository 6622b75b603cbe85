//! What goes wrong in a history, and how.

use super::chance::nanos;
use super::clock::{any_rate, any_slew};
use super::store::Request;
use super::world::{What, World};
use crate::candidate::decide::words::{Event, Order};
use crate::config::timing::SLACK;
use crate::keys::LeaseId;
use std::sync::Arc;

/// What can go wrong, or is wanted by somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A machine is suspended.
    Suspend,
    /// A clock changes its rate.
    Rate,
    /// A daemon is stopped for a time (SIGSTOP), or hangs.
    DaemonStalls,
    /// A guardian is.
    GuardianStalls,
    DaemonKilled,
    GuardianKilled,
    /// A machine loses its power.
    Crash,
    /// The store gets a new leader.
    NewLeader,
    /// The deposed leader is heard no more.
    DeposedGone,
    /// The store loses its quorum, and regains it.
    QuorumLost,
    /// Nothing goes to or comes from the store, for a time.
    CutOff,
    /// Somebody deletes a key of the queue.
    KeyDeleted,
    /// Somebody revokes a lease.
    LeaseRevoked,
    /// A candidate of another program joins, and its lease ends by itself.
    Foreign,
    /// The job's processes end by themselves.
    JobEnds,
    /// What runs can't be killed, for a time.
    Unkillable,
    /// A check begins to fail, or to succeed again.
    Ill,
    /// An operator ends a daemon.
    Shutdown,
    /// And has no patience.
    ShutdownNow,
    /// An operator signals a leader to step down.
    StepDown,
    /// Or asks for it by a record.
    Wish,
    /// The election is paused, or no longer so.
    Pause,
    /// A daemon is given another configuration.
    Reload,
}

/// What kinds of fault come together. The rules except some that coincide: a job that can't be killed on
/// a machine that is cut off, a key that is deleted while its leader can't see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Machines, processes, clocks and the store fail.
    Rough,
    /// Strangers meddle with the store; the network is well.
    Strange,
    /// Jobs can't be killed; store and network are well.
    Stubborn,
    /// All that is counted on is as bad as it may be: clocks, threads, and the job's death.
    Sharp,
}

impl Mood {
    const fn faults(self) -> &'static [Fault] {
        use Fault::{
            Crash, CutOff, DaemonKilled, DaemonStalls, DeposedGone, Foreign, GuardianKilled,
            GuardianStalls, Ill, JobEnds, KeyDeleted, LeaseRevoked, NewLeader, Pause, QuorumLost,
            Rate, Reload, Shutdown, ShutdownNow, StepDown, Suspend, Unkillable, Wish,
        };
        match self {
            Self::Rough => &[
                Suspend,
                Suspend,
                Rate,
                DaemonStalls,
                DaemonStalls,
                GuardianStalls,
                GuardianStalls,
                DaemonKilled,
                GuardianKilled,
                Crash,
                NewLeader,
                NewLeader,
                DeposedGone,
                QuorumLost,
                CutOff,
                CutOff,
                CutOff,
                JobEnds,
                Ill,
                Shutdown,
                ShutdownNow,
                StepDown,
                Wish,
                Pause,
                Reload,
                Foreign,
            ],
            Self::Strange => &[
                KeyDeleted,
                KeyDeleted,
                LeaseRevoked,
                LeaseRevoked,
                Foreign,
                NewLeader,
                JobEnds,
                Ill,
                Shutdown,
                StepDown,
                Wish,
                Pause,
                Reload,
            ],
            Self::Stubborn => &[
                Unkillable,
                Unkillable,
                JobEnds,
                Shutdown,
                ShutdownNow,
                StepDown,
                Wish,
                Pause,
                DaemonKilled,
                Ill,
                Reload,
            ],
            Self::Sharp => &[CutOff, CutOff, CutOff, NewLeader, DeposedGone, JobEnds],
        }
    }
}

impl World {
    /// One fault, and the time of the next.
    pub(super) fn next_fault(&mut self) {
        if self.calm {
            return;
        }
        let fault = self.chance.pick(self.mood.faults());
        // Who leads is hit more often than others.
        let leader = (0..self.machines.len()).find(|at| self.leads(*at));
        let last = self.machines.len() as u64 - 1;
        let any = usize::try_from(self.chance.up_to(last)).unwrap_or(0);
        let at = leader.filter(|_| self.chance.one_in(2)).unwrap_or(any);
        if self.traced {
            println!("{:>16} {at} FAULT  {fault:?}", self.now);
        }
        self.outcome.faults += 1;
        self.fault(at, fault);
        let pause = self.chance.up_to(5_000_000_000);
        self.after(pause, What::Fault);
    }

    /// Where the polite stop has begun, mistakes are made soonest.
    pub(super) fn stop_begun(&mut self, at: usize) {
        if self.mood == Mood::Rough && !self.calm && self.chance.one_in(3) {
            let after = self.chance.span(self.machines[at].truth.lost_grace());
            let fault = self.chance.pick(&[
                Fault::GuardianStalls,
                Fault::DaemonStalls,
                Fault::Suspend,
                Fault::JobEnds,
            ]);
            self.after(after, What::FaultAt(at, fault));
        }
    }

    pub(super) fn fault(&mut self, at: usize, fault: Fault) {
        if self.calm {
            return;
        }
        let (now, both_up) = (self.now, self.machines[at].is_steady(self.now));
        match fault {
            Fault::Suspend => self.suspend(at),
            Fault::Rate => {
                let (rate, slew) = (any_rate(&mut self.chance), any_slew(&mut self.chance));
                let clock = &mut self.machines[at].clock;
                (clock.rate, clock.slew) = (rate, slew);
                self.arm(at);
            }
            Fault::DaemonStalls if both_up => {
                self.machines[at].daemon.process.stalled_until = self.stall(at);
            }
            // Where the job runs in the daemon, nobody but the guardian is left to kill it.
            Fault::GuardianStalls if self.may_stall_guardian(at) => {
                self.machines[at].guardian.process.stalled_until = self.stall(at);
            }
            Fault::DaemonKilled if both_up => self.daemon_killed(at),
            Fault::GuardianKilled if both_up && !self.is_native(at) => {
                self.guardian_killed(at);
                self.tell_daemon(at, super::daemon::Word::Event(Event::GuardianGone));
            }
            Fault::Crash => self.crash(at),
            Fault::NewLeader => {
                let (extends, deposed_answers) = (self.chance.one_in(2), self.chance.one_in(2));
                self.store.depose(now, extends, deposed_answers);
                self.store_changed();
            }
            Fault::DeposedGone => self.store.deposed = None,
            Fault::QuorumLost => {
                self.store.lose_quorum(now);
                let span = self.chance.up_to(20_000_000_000);
                self.after(span, What::Quorum);
                self.store_changed();
            }
            Fault::CutOff => {
                let span = self.chance.up_to(30_000_000_000);
                let machine = &mut self.machines[at];
                machine.cut_off_until = machine.cut_off_until.max(now + span);
            }
            // Where the daemon is dead nobody watches the key, and its hook may run yet.
            Fault::KeyDeleted if both_up => {
                let key = self.machines[at].daemon.contest.mine();
                if self.store.queue.contains_key(&key) {
                    self.store.remove(key);
                    self.store_changed();
                }
            }
            Fault::LeaseRevoked if both_up => {
                let key = self.machines[at].daemon.contest.mine();
                if let Some(key) = self.store.queue.get(&key).copied() {
                    self.store.revoke(key.lease);
                    self.store_changed();
                }
            }
            Fault::DaemonStalls
            | Fault::GuardianStalls
            | Fault::DaemonKilled
            | Fault::GuardianKilled
            | Fault::KeyDeleted
            | Fault::LeaseRevoked => {}
            Fault::Foreign => {
                let lease = LeaseId::random(self.chance.next());
                let span = self.chance.up_to(10_000_000_000);
                self.store.join_foreign(lease, now, span);
                self.store_changed();
            }
            Fault::JobEnds => self.tree_ends_by(at, now),
            Fault::Unkillable => {
                let until = now + self.chance.up_to(40_000_000_000);
                if let Some(alive) = &mut self.machines[at].tree.alive
                    && !alive.native
                    && !alive.killed
                {
                    alive.unkillable_until = until;
                }
            }
            Fault::Ill => self.machines[at].ill = !self.machines[at].ill,
            Fault::Shutdown => self.order(at, Order::Shutdown),
            Fault::ShutdownNow => {
                self.order(at, Order::Shutdown);
                self.order(at, Order::ShutdownNow);
            }
            Fault::StepDown => self.order(at, Order::StepDown),
            Fault::Wish => {
                self.store.wish();
                self.control_changed();
            }
            Fault::Pause => {
                let keep_leader = self.chance.one_in(2);
                self.store.turn_pause(keep_leader);
                self.control_changed();
            }
            Fault::Reload => self.reload(at),
        }
    }

    /// Whether the job of its daemon runs in that itself.
    pub(super) fn is_native(&self, at: usize) -> bool {
        self.machines[at].config.job.kind == super::settings::NATIVE
    }

    /// Whether the guardian may stand still just now.
    pub(super) fn may_stall_guardian(&self, at: usize) -> bool {
        let rough = self.mood == Mood::Rough && !self.calm;
        rough && self.machines[at].is_steady(self.now) && !self.is_native(at)
    }

    /// One of the two processes stands still; returns until when. The other never does at the same
    /// time, nor before this one had the time to run again.
    pub(super) fn stall(&mut self, at: usize) -> u64 {
        let longest = nanos(self.machines[at].truth.ttl() * 3 / 2);
        let until = self.now + self.chance.up_to(longest);
        self.machines[at].steady_since = until;
        until
    }

    fn suspend(&mut self, at: usize) {
        let now = self.now;
        let machine = &mut self.machines[at];
        if now < machine.clock.suspended_until {
            return;
        }
        let span = self.chance.up_to(nanos(machine.truth.ttl()));
        let woken = now + span;
        machine.clock.suspended_until = woken;
        machine.steady_since = machine.steady_since.max(woken);
        // A machine that sleeps when it should kill can but kill on waking.
        let killing = nanos(SLACK + machine.truth.kill_budget());
        let lease_ends = self.store.expiry_of(machine.daemon.contest.mine());
        if lease_ends.is_none_or(|end| woken + killing > end) {
            machine.excused_until = machine.excused_until.max(woken + killing);
        }
    }

    fn crash(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.daemon.process.dead = true;
        machine.daemon.mind = None;
        machine.guardian.process.dead = true;
        machine.tree = super::tree::Tree::default();
        let pause = self.chance.up_to(20_000_000_000);
        self.after(pause, What::DaemonStarts(at));
    }

    fn reload(&mut self, at: usize) {
        let mut config = crate::config::Config::clone(&self.machines[at].config(self.mistake));
        config.job.stop_grace = std::time::Duration::from_millis(self.chance.up_to(10_000));
        self.order(at, Order::Reload(Arc::new(config)));
    }

    /// Whether the request goes to a leader that was deposed and doesn't know it.
    pub(super) fn reaches_deposed(&mut self, request: &Request) -> Option<u64> {
        let renews = matches!(request, Request::Renew { .. });
        let deposed = self.store.deposed.filter(|_| renews)?;
        self.chance.one_in(2).then_some(deposed)
    }

    /// All faults are over.
    pub(super) fn heal(&mut self) {
        self.calm = true;
        let now = self.now;
        self.store.deposed = None;
        self.store.regain_quorum(now);
        self.store.pause = None;
        self.store.wish = None;
        for machine in &mut self.machines {
            machine.cut_off_until = machine.cut_off_until.min(now);
            machine.ill = false;
            if let Some(alive) = &mut machine.tree.alive {
                alive.unkillable_until = alive.unkillable_until.min(now);
            }
        }
        self.control_changed();
        self.store_changed();
        for at in 0..self.machines.len() {
            if let Some(alive) = self.machines[at].tree.alive
                && alive.killed
            {
                self.at(now, What::TreeEnds(at));
                if let Some(alive) = &mut self.machines[at].tree.alive {
                    alive.ends_at = Some(now);
                }
            }
        }
    }
}
