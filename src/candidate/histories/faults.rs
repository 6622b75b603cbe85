//! What goes wrong in a history, and how.

use super::chance::nanos;
use super::clock::{any_rate, any_slew};
use super::several::Told;
use super::store::Request;
use super::world::{What, World};
use crate::candidate::decide::words::{Event, Order};
use crate::config::timing::SLACK;
use crate::keys::LeaseId;
use crate::revision::Token;

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
    /// Both die at once, and with them the job's main process.
    BothKilled,
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
    /// Somebody deletes the key of a candidate that waits.
    WaiterDeleted,
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
    /// A signal for the job comes to the daemon.
    PassOn,
    /// Whoever waits for leadership gives up.
    GiveUp,
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

impl Fault {
    /// Whether it hits all jobs of a daemon, or of all daemons: the process, the machine, or the store.
    const fn is_shared(self) -> bool {
        matches!(
            self,
            Self::Suspend
                | Self::Rate
                | Self::DaemonStalls
                | Self::DaemonKilled
                | Self::BothKilled
                | Self::Crash
                | Self::NewLeader
                | Self::DeposedGone
                | Self::QuorumLost
                | Self::CutOff
                | Self::Shutdown
                | Self::ShutdownNow
                | Self::StepDown
        )
    }
}

impl Mood {
    const fn faults(self) -> &'static [Fault] {
        use Fault::{
            BothKilled, Crash, CutOff, DaemonKilled, DaemonStalls, DeposedGone, Foreign, GiveUp,
            GuardianKilled, GuardianStalls, Ill, JobEnds, KeyDeleted, LeaseRevoked, NewLeader,
            PassOn, Pause, QuorumLost, Rate, Reload, Shutdown, ShutdownNow, StepDown, Suspend,
            Unkillable, WaiterDeleted, Wish,
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
                BothKilled,
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
                PassOn,
                GiveUp,
                WaiterDeleted,
                WaiterDeleted,
            ],
            Self::Strange => &[
                KeyDeleted,
                KeyDeleted,
                LeaseRevoked,
                LeaseRevoked,
                DaemonKilled,
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
        let at = self.any_machine();
        self.outcome.faults += 1;
        self.fault(at, fault);
        let pause = self.chance.up_to(5_000_000_000) * self.jobs();
        self.after(pause, What::Fault);
    }

    /// The machine that is hit: that of who leads more often than others.
    pub(super) fn any_machine(&mut self) -> usize {
        let leader = (0..self.machines.len()).find(|at| self.leads(*at));
        let last = self.machines.len() as u64 - 1;
        let any = usize::try_from(self.chance.up_to(last)).unwrap_or(0);
        leader.filter(|_| self.chance.one_in(2)).unwrap_or(any)
    }

    /// One of `faults` comes at a machine after so long.
    pub(super) fn strikes(&mut self, at: usize, after: u64, faults: &[Fault]) {
        let fault = self.chance.pick(faults);
        self.after(after, What::FaultAt(at, fault));
    }

    /// Where the polite stop has begun, mistakes are made soonest.
    pub(super) fn stop_begun(&mut self, at: usize) {
        if self.mood == Mood::Rough && !self.calm && self.chance.one_in(3) {
            let after = self.chance.span(self.machines[at].truth.lost_grace());
            let faults = [
                Fault::GuardianStalls,
                Fault::DaemonStalls,
                Fault::Suspend,
                Fault::JobEnds,
            ];
            self.strikes(at, after, &faults);
        }
    }

    /// A start was asked for: what ends the term may come close behind it.
    pub(super) fn start_asked(&mut self, at: usize) {
        let wished = matches!(self.mood, Mood::Rough | Mood::Strange) && !self.calm;
        if wished && self.chance.one_in(8) {
            // Often before the guardian hears of the start.
            let after = self.chance.up_to(3_000_000) * self.chance.up_to(1);
            let faults = [
                Fault::Shutdown,
                Fault::Shutdown,
                Fault::StepDown,
                Fault::Reload,
            ];
            self.strikes(at, after, &faults);
        }
    }

    /// A candidate has begun to wait a term out: what ends it meanwhile must not mark that.
    pub(super) fn wait_begun(&mut self, at: usize) {
        let wished = matches!(self.mood, Mood::Rough | Mood::Strange) && !self.calm;
        if wished && self.chance.one_in(6) {
            let after = self.chance.span(self.machines[at].truth.kill_budget());
            let faults = [Fault::Shutdown, Fault::KeyDeleted, Fault::Pause];
            self.strikes(at, after, &faults);
        }
    }

    /// A daemon was killed: strangers may end its lease while its guardian stops the job politely.
    pub(super) fn daemon_died(&mut self, at: usize) {
        if self.mood == Mood::Strange && !self.calm && self.chance.one_in(2) {
            let after = self.chance.span(self.machines[at].truth.lost_grace());
            self.strikes(at, after, &[Fault::KeyDeleted, Fault::LeaseRevoked]);
        }
    }

    /// What was sent SIGKILL can't be killed: then its daemon may die as well, and somebody has to go on.
    pub(super) fn kill_is_in_vain(&mut self, at: usize) {
        if self.mood == Mood::Stubborn && !self.calm && self.chance.one_in(3) {
            let after = 100_000_000 + self.chance.up_to(2_000_000_000);
            self.after(after, What::FaultAt(at, Fault::DaemonKilled));
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: an arm a fault")]
    pub(super) fn fault(&mut self, at: usize, fault: Fault) {
        if self.calm {
            return;
        }
        if self.beside.is_some() && fault.is_shared() {
            return self.tell_beside(Told::Fault(at, fault));
        }
        if self.traced {
            println!("{:>16} {at} FAULT  {fault:?}", self.now);
        }
        let (now, both_up) = (self.now, self.machines[at].is_steady(self.now));
        match fault {
            Fault::Suspend => self.suspend(at, self.machines[at].truth.ttl()),
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
            // No guardian is ever stopped or killed where jobs are stubborn.
            Fault::DaemonKilled if both_up || self.mood == Mood::Stubborn => self.daemon_killed(at),
            Fault::BothKilled if both_up && !self.is_native(at) => self.both_killed(at),
            Fault::GuardianKilled if both_up && !self.machines[at].beside_native => {
                self.guardian_killed(at);
                self.tell_daemon(at, super::daemon::Word::Event(Event::GuardianGone));
                self.tell_beside(Told::GuardianGone(at));
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
                let machine = &mut self.machines[at];
                let longest = nanos(machine.truth.ttl() * 2).max(30_000_000_000);
                let span = self.chance.up_to(longest);
                machine.cut_off_until = machine.cut_off_until.max(now + span);
            }
            // Where the network fails too, only those are hit who have nothing to lose yet.
            Fault::KeyDeleted
                if self.machines[at].is_watched(now)
                    && (self.mood == Mood::Strange
                        || self.machines[at].daemon.contest.waits_out()) =>
            {
                let there = |key: &Token| self.store.queue.contains_key(key);
                let key = self.machines[at].daemon.contest.mine().filter(there);
                if let Some(key) = key.filter(|key| self.is_known(at, *key)) {
                    self.store.remove(key);
                    self.store_changed();
                }
            }
            // However late its watch is: it has nothing to lose but its place.
            Fault::WaiterDeleted => {
                let mut waiters = self.store.queue.keys().skip(1);
                let key = waiters.next_back().copied();
                let daemons = self.machines.iter().map(|it| &it.daemon);
                let mut waits = daemons.filter(|it| it.role() == "campaigning");
                let key = key.filter(|key| waits.any(|it| it.contest.mine() == Some(*key)));
                if let Some(key) = key {
                    self.store.remove(key);
                    self.store_changed();
                }
            }
            Fault::LeaseRevoked if self.machines[at].is_watched(now) => {
                let mine = self.machines[at].daemon.contest.mine();
                let mine = mine.filter(|mine| self.is_known(at, *mine));
                let key = mine.and_then(|mine| self.store.queue.get(&mine).copied());
                if let Some(key) = key {
                    self.store.revoke(key.lease);
                    self.store_changed();
                }
            }
            Fault::Foreign => {
                let lease = LeaseId::random(self.chance.next());
                let span = self.chance.up_to(10_000_000_000);
                self.store.join_foreign(lease, now, span);
                self.store_changed();
            }
            Fault::JobEnds => {
                self.tree_ends_by(at, now);
                self.native_ends_by(at, now);
            }
            Fault::Unkillable => {
                let until = now + self.chance.up_to(40_000_000_000);
                if let Some(alive) = &mut self.machines[at].tree.alive
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
                self.turn_pause(keep_leader);
            }
            Fault::Reload => self.reload(at),
            // A daemon is passed no signals for its jobs, where these have names.
            Fault::PassOn if self.beside.is_some() => {}
            Fault::PassOn => {
                let (signal, ends) = (15, self.chance.one_in(2));
                self.order(at, Order::PassOn { signal, ends });
            }
            Fault::GiveUp if self.machines[at].once => self.order(at, Order::GiveUp),
            // Where it can't be, or would prove nothing.
            Fault::DaemonStalls
            | Fault::GuardianStalls
            | Fault::DaemonKilled
            | Fault::GuardianKilled
            | Fault::BothKilled
            | Fault::KeyDeleted
            | Fault::LeaseRevoked
            | Fault::GiveUp => {}
        }
    }

    /// Whether the job of its daemon runs in that itself.
    pub(super) fn is_native(&self, at: usize) -> bool {
        self.machines[at].config.job.kind == super::settings::NATIVE
    }

    /// Whether the guardian may stand still just now.
    pub(super) fn may_stall_guardian(&self, at: usize) -> bool {
        let rough = self.mood == Mood::Rough && !self.calm;
        let machine = &self.machines[at];
        rough && machine.is_steady(self.now) && !self.is_native(at) && !machine.beside_native
    }

    /// One of the two processes stands still; returns until when. The other never does at the same
    /// time, nor before this one had the time to run again.
    pub(super) fn stall(&mut self, at: usize) -> u64 {
        let longest = nanos(self.machines[at].truth.ttl() * 3 / 2);
        let until = self.now + self.chance.up_to(longest);
        self.machines[at].steady_since = until;
        until
    }

    /// Whether a term that has begun is on record: one that strangers end before has nobody who comes
    /// later wait.
    fn is_known(&self, at: usize, token: Token) -> bool {
        let claimed = self.store.claims.iter().any(|(claim, _)| *claim == token);
        let recorded = self.store.recorded.as_ref().map(|term| term.token);
        let forgets = self.mistake == Some(super::Mistake::RecordIsForgotten);
        let waits = self.machines[at].daemon.contest.waits_out();
        !claimed || waits || forgets || recorded == Some(token)
    }

    pub(super) fn suspend(&mut self, at: usize, longest: std::time::Duration) {
        let now = self.now;
        let machine = &self.machines[at];
        if now < machine.clock.suspended_until {
            return;
        }
        let span = self.chance.up_to(nanos(longest));
        let woken = now + span;
        if self.beside.is_some() {
            return self.tell_beside(Told::Suspended(at, woken));
        }
        self.suspend_until(at, woken);
    }

    pub(super) fn suspend_until(&mut self, at: usize, woken: u64) {
        let machine = &mut self.machines[at];
        machine.clock.suspended_until = woken;
        machine.steady_since = machine.steady_since.max(woken);
        // A machine that sleeps when it should kill can but kill on waking.
        let killing = nanos(SLACK + machine.longest_kill);
        let mine = machine.daemon.contest.mine();
        let lease_ends = mine.and_then(|mine| self.store.expiry_of(mine));
        if lease_ends.is_none_or(|end| woken + killing > end) {
            machine.excused_until = machine.excused_until.max(woken + killing);
        }
    }

    /// What the job's main process has started may live on until the next daemon kills it.
    pub(super) fn both_killed(&mut self, at: usize) {
        // Under a unit the stop hook comes to it.
        let lives_on = self.chance.one_in(2) && !self.is_unit();
        let tree = &mut self.machines[at].tree;
        tree.starting = None;
        tree.alive.take_if(|_| !lives_on);
        if let Some(alive) = &mut tree.alive {
            (alive.main, alive.ends_at) = (false, None);
            self.machines[at].excused_until = u64::MAX;
        }
        self.guardian_killed(at);
        self.daemon_killed(at);
    }

    fn crash(&mut self, at: usize) {
        self.crashes(at);
        let pause = self.chance.up_to(20_000_000_000);
        self.after(pause, What::DaemonStarts(at));
    }

    pub(super) fn crashes(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.daemon.process.dead = true;
        machine.daemon.mind = None;
        machine.guardian.process.dead = true;
        machine.tree = super::tree::Tree::default();
        machine.desk.lose_all();
    }

    fn reload(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.reconfigure(&mut self.chance, self.mood);
        if self.beside.is_some() {
            return self.tell_beside(Told::Changed(at));
        }
        let config = machine.config(self.mistake);
        self.order(at, Order::Reload(config));
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
        if self.plan.is_some() {
            if self.store.pause.is_some() {
                self.turn_pause(false);
            }
            self.heal_clocks();
        }
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
