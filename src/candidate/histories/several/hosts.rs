//! The daemons: processes that begin, end and stand still with all their candidates.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::errands::Errand;
use super::{NAMES, Several, Told};
use crate::candidate::decide::words::{Event, Order};
use crate::candidate::histories::Mistake;
use crate::candidate::histories::chance::nanos;
use crate::candidate::histories::clock::{any_rate, any_slew};
use crate::candidate::histories::daemon::Word;
use crate::candidate::histories::faults::{Fault, Mood};
use crate::candidate::histories::world::What;
use crate::config::Config;
use crate::keys::JobName;
use crate::placement::preference::Preference;
use crate::placement::rank::Glimpse;
use crate::placement::roster::{AfterEnd, JobChange, Name, Roster};

/// Before one is started again that could not be started.
const START_PAUSE: u64 = 10_000_000_000;

/// How long a candidate may take to begin where nothing is left of its job: a look at the hosts, and the
/// turns before.
const BEGUN: u64 = 4_000_000_000;

/// Between two looks whether they have.
const LOOK: u64 = 500_000_000;

/// A host, and its daemon.
#[derive(Debug)]
pub(super) struct Host {
    /// Whether there is a process.
    pub(super) up: bool,
    /// How many there have been.
    pub(super) process: u64,
    stopping: bool,
    /// Which jobs its configuration has.
    present: Vec<bool>,
    pub(super) roster: Roster<Arc<Config>>,
    pub(super) preference: Preference,
    /// The jobs that it led when it looked last.
    pub(super) led: Vec<usize>,
    /// When it asked last that a term go over.
    pub(super) handed_over: Option<u64>,
    /// What it has seen of other hosts, and until when that holds.
    pub(super) sight: Option<(u64, Glimpse)>,
    pub(super) is_looking: bool,
    /// Until when the others see it.
    pub(super) shown_until: u64,
    /// The jobs that wait for their turn.
    pub(super) turns: BTreeSet<usize>,
    /// Since when nothing is left of a job that has no candidate yet.
    waits_since: Vec<Option<u64>>,
}

impl Host {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            up: false,
            process: 0,
            stopping: false,
            present: vec![true; jobs],
            roster: Roster::default(),
            preference: Preference::default(),
            led: Vec::new(),
            handed_over: None,
            sight: None,
            is_looking: false,
            shown_until: 0,
            turns: BTreeSet::new(),
            waits_since: vec![None; jobs],
        }
    }

    pub(super) fn has(&self, job: usize) -> bool {
        self.present[job]
    }
}

pub(super) fn name_of(job: usize) -> Name {
    JobName::new(NAMES[job])
}

fn job_of(name: &Name) -> usize {
    let found = (0..NAMES.len()).find(|job| name_of(*job) == *name);
    found.expect("one of the jobs")
}

impl Several {
    pub(super) fn heard(&mut self, job: usize, told: Told) {
        match told {
            Told::Fault(..) | Told::Suspended(..) | Told::Wall(..) if self.quiet.is_some() => {}
            Told::Fault(at, fault) => self.fault(job, at, fault),
            Told::Suspended(at, woken) => {
                for world in &mut self.worlds {
                    world.suspend_until(at, woken);
                }
            }
            Told::Wall(at, ahead) => {
                for world in &mut self.worlds {
                    world.wall_is_set(at, ahead);
                }
            }
            Told::Changed(at) => self.reload(at),
            Told::Killed(at) => self.process_dies(at),
            Told::Ended(at) => {
                if !std::mem::replace(&mut self.hosts[at].stopping, true) {
                    let pause = 100_000_000 + self.chance.up_to(2_000_000_000);
                    self.errands.add(self.now + pause, Errand::Starts(at));
                }
            }
            Told::Exited(at) => self.candidate_ended(job, at),
            Told::Ready(at) => self.is_ready(job, at),
            Told::GuardianGone(at) => {
                if self.mistake == Some(Mistake::GuardiansDieTogether) {
                    for other in (0..self.worlds.len()).filter(|other| *other != job) {
                        self.worlds[other].tell_daemon(at, Word::Event(Event::GuardianGone));
                    }
                }
            }
            Told::Lost(at) => {
                if self.mistake == Some(Mistake::LossIsEverybodys) {
                    for world in &mut self.worlds {
                        world.order(at, Order::StepDown);
                    }
                }
            }
            Told::Retired => self.retire(),
        }
    }

    pub(super) fn run_errand(&mut self) {
        let Some(errand) = self.errands.next() else {
            return;
        };
        if let Some(at) = errand.host() {
            let woken = self.worlds[0].machines[at].clock.suspended_until;
            if self.now < woken {
                return self.errands.add(woken, errand);
            }
            let host = &self.hosts[at];
            let of_other = errand.process().is_some_and(|of| of != host.process);
            if of_other || errand.process().is_some() && !host.up {
                return;
            }
        }
        if self.traced {
            println!("{:>16} ERRAND {errand:?}", self.now);
        }
        match errand {
            Errand::Starts(at) => self.daemon_starts(at),
            Errand::Sighted(at, _) => self.sighted(at),
            Errand::Joins(at, _, job) => {
                self.worlds[job].machines[at].may_join = true;
                self.worlds[job].daemon_starts(at);
            }
            Errand::Again(at, _, job) => self.candidate_starts(job, at),
            Errand::Begun(at, _) => self.have_begun(at),
            Errand::Places(at, _) => self.places(at),
            Errand::Reload => self.take_away(),
            Errand::Restores(at, _) => {
                self.hosts[at].present.fill(true);
                self.reload(at);
            }
        }
    }

    // === what befalls all jobs ===

    fn fault(&mut self, job: usize, at: usize, fault: Fault) {
        let is_steady = self.is_steady(at);
        let stubborn = self.worlds[job].mood == Mood::Stubborn;
        let now = self.now;
        match fault {
            Fault::Suspend => {
                let longest = self.worlds[job].machines[at].truth.ttl();
                self.worlds[job].suspend(at, longest);
            }
            Fault::Rate => {
                let (rate, slew) = (any_rate(&mut self.chance), any_slew(&mut self.chance));
                for world in &mut self.worlds {
                    let clock = &mut world.machines[at].clock;
                    (clock.rate, clock.slew) = (rate, slew);
                    world.arm(at);
                }
            }
            Fault::DaemonStalls if is_steady => {
                let until = self.worlds[job].stall(at);
                for world in &mut self.worlds {
                    let machine = &mut world.machines[at];
                    machine.daemon.process.stalled_until = until;
                    machine.steady_since = until;
                }
            }
            Fault::DaemonKilled if is_steady || stubborn => self.process_dies(at),
            Fault::BothKilled if is_steady => {
                for world in &mut self.worlds {
                    if world.machines[at].is_steady(now) && !world.is_native(at) {
                        world.both_killed(at);
                    }
                }
                self.process_dies(at);
            }
            Fault::Crash => {
                for world in &mut self.worlds {
                    world.crashes(at);
                    world.machines[at].held = true;
                }
                self.process_is_gone(at);
                let pause = self.chance.up_to(20_000_000_000);
                self.errands.add(now + pause, Errand::Starts(at));
            }
            Fault::NewLeader => {
                let (extends, answers) = (self.chance.one_in(2), self.chance.one_in(2));
                for world in &mut self.worlds {
                    world.store.depose(now, extends, answers);
                    world.store_changed();
                }
            }
            Fault::DeposedGone => {
                for world in &mut self.worlds {
                    world.store.deposed = None;
                }
            }
            Fault::QuorumLost => {
                let span = self.chance.up_to(20_000_000_000);
                for world in &mut self.worlds {
                    world.store.lose_quorum(now);
                    world.after(span, What::Quorum);
                    world.store_changed();
                }
            }
            Fault::CutOff => {
                let longest = nanos(self.worlds[job].machines[at].truth.ttl() * 2);
                let until = now + self.chance.up_to(longest.max(30_000_000_000));
                for world in &mut self.worlds {
                    let machine = &mut world.machines[at];
                    machine.cut_off_until = machine.cut_off_until.max(until);
                }
            }
            Fault::Shutdown => self.stop(at, &[Order::Shutdown]),
            Fault::ShutdownNow => self.stop(at, &[Order::Shutdown, Order::ShutdownNow]),
            Fault::StepDown => {
                for world in &mut self.worlds {
                    world.order(at, Order::StepDown);
                }
            }
            // Where it can't be, or hits one job.
            _ => {}
        }
    }

    /// Whether process and guardians run, or there is nothing that they could fail.
    fn is_steady(&self, at: usize) -> bool {
        let mut worlds = self.worlds.iter();
        self.hosts[at].up
            && worlds.all(|it| it.machines[at].is_steady(self.now) || it.machines[at].is_bare())
    }

    /// Daemons whose process has ended are started again by whoever killed it, or by nobody.
    fn process_is_gone(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        (host.up, host.stopping) = (false, false);
        host.process += 1;
        host.roster = Roster::default();
        host.turns.clear();
    }

    fn process_dies(&mut self, at: usize) {
        if !self.hosts[at].up {
            return;
        }
        self.process_is_gone(at);
        let natives = self.worlds.iter();
        let natives = natives.filter_map(|world| world.machines[at].tree.native);
        // It is one process: no kill budget is counted on that it doesn't keep.
        let death = natives.map(|native| native.death).min();
        for world in &mut self.worlds {
            world.machines[at].held = true;
            world.daemon_killed(at);
            world.after(death.unwrap_or(0), What::DaemonEnds(at));
        }
    }

    fn daemon_starts(&mut self, at: usize) {
        if self.retired || self.hosts[at].up {
            return;
        }
        let host = &mut self.hosts[at];
        (host.up, host.stopping) = (true, false);
        (host.process, host.roster) = (host.process + 1, Roster::default());
        (host.preference, host.handed_over) = (Preference::default(), None);
        (host.sight, host.is_looking) = (None, false);
        host.led.clear();
        host.waits_since.fill(None);
        host.present.fill(true);
        let process = host.process;
        for job in 0..self.worlds.len() {
            if self.hosts[at].has(job) {
                self.candidate_starts(job, at);
            }
        }
        self.errands
            .add(self.now + LOOK, Errand::Begun(at, process));
        self.errands.add(self.now, Errand::Places(at, process));
    }

    /// A daemon stands for each of its jobs, or is about to.
    pub(super) fn look_at_hosts(&mut self) {
        for (at, host) in self.hosts.iter().enumerate() {
            let lacks = |job: &usize| host.has(*job) && self.worlds[*job].machines[at].held;
            let mut jobs = 0..self.worlds.len();
            if host.up
                && !host.stopping
                && !self.retired
                && let Some(job) = jobs.find(lacks)
            {
                let wrong = format!("{at} has no candidate for {}", NAMES[job]);
                self.violation.get_or_insert(wrong);
            }
        }
    }

    /// Nobody waits for what was left of another job.
    fn have_begun(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        for (job, world) in self.worlds.iter().enumerate() {
            let machine = &world.machines[at];
            let waits = !machine.held && !machine.has_candidate() && machine.is_bare();
            let since = host.waits_since[job].unwrap_or(self.now);
            let since = since.max(machine.steady_since);
            let since = since.max(machine.clock.suspended_until);
            host.waits_since[job] = waits.then_some(since);
            if waits && self.now > since + BEGUN {
                let wrong = format!("{} has not begun on {at}", NAMES[job]);
                self.violation.get_or_insert(wrong);
            }
        }
        let process = host.process;
        self.errands
            .add(self.now + LOOK, Errand::Begun(at, process));
    }

    fn stop(&mut self, at: usize, orders: &[Order]) {
        if !self.hosts[at].up {
            return;
        }
        self.hosts[at].stopping = true;
        if self.mistake != Some(Mistake::SuccessorOutlivesStop) {
            self.hosts[at].roster.all_end();
        }
        for job in 0..self.worlds.len() {
            for order in orders {
                self.candidate_is_told(job, at, order);
            }
        }
    }

    /// All are to end: the worlds tell their candidates.
    fn retire(&mut self) {
        if std::mem::replace(&mut self.retired, true) {
            return;
        }
        for at in 0..self.hosts.len() {
            self.stop(at, &[]);
            for job in 0..self.worlds.len() {
                if !self.worlds[job].machines[at].has_candidate() {
                    self.candidate_is_told(job, at, &Order::Shutdown);
                }
            }
        }
    }

    // === the candidates of one daemon ===

    fn candidate_starts(&mut self, job: usize, at: usize) {
        if self.hosts[at].stopping {
            let wrong = format!("{at} is to end, and a candidate for {} starts", NAMES[job]);
            self.violation.get_or_insert(wrong);
        }
        let machine = &mut self.worlds[job].machines[at];
        (machine.held, machine.may_join) = (false, false);
        let config = Arc::clone(&machine.config);
        self.hosts[at].roster.started(name_of(job), config);
        self.worlds[job].daemon_starts(at);
    }

    /// One that hasn't begun ends at once.
    fn candidate_is_told(&mut self, job: usize, at: usize, order: &Order) {
        if self.worlds[job].machines[at].has_candidate() {
            self.worlds[job].order(at, order.clone());
        } else {
            self.candidate_ended(job, at);
        }
    }

    fn candidate_ended(&mut self, job: usize, at: usize) {
        let host = &mut self.hosts[at];
        host.turns.remove(&job);
        self.worlds[job].machines[at].held = true;
        let process = host.process;
        match host.roster.ended(&name_of(job)) {
            Some(AfterEnd::Successor(_)) if self.mistake == Some(Mistake::SuccessorIsForgotten) => {
            }
            Some(AfterEnd::Successor(_)) => self.candidate_starts(job, at),
            Some(AfterEnd::Again(_)) => {
                let again = self.now + START_PAUSE;
                self.errands.add(again, Errand::Again(at, process, job));
            }
            Some(AfterEnd::Nothing { .. })
                if self.mistake == Some(Mistake::ExitIsEverybodys) && !self.hosts[at].stopping =>
            {
                return self.process_dies(at);
            }
            Some(AfterEnd::Nothing { .. }) | None => {}
        }
        let mut worlds = self.worlds.iter();
        if self.hosts[at].up && self.hosts[at].stopping && worlds.all(|it| it.machines[at].held) {
            self.process_is_gone(at);
            let pause = 100_000_000 + self.chance.up_to(5_000_000_000);
            self.errands.add(self.now + pause, Errand::Starts(at));
        }
    }

    /// Goes over to the configuration that there is now.
    fn reload(&mut self, at: usize) {
        if !self.hosts[at].up || self.hosts[at].stopping {
            return;
        }
        let host = &mut self.hosts[at];
        let jobs = (0..self.worlds.len()).filter(|job| host.present[*job]);
        let jobs: Vec<_> = jobs
            .map(|job| {
                (
                    name_of(job),
                    Arc::clone(&self.worlds[job].machines[at].config),
                )
            })
            .collect();
        for change in host
            .roster
            .reload(jobs.iter().map(|(name, config)| (name, config)))
        {
            match change {
                JobChange::Start(config) => {
                    self.candidate_starts(job_of(&config.job_name), at);
                }
                JobChange::Reload(name, _) => {
                    let world = &mut self.worlds[job_of(&name)];
                    let config = world.machines[at].config(self.mistake);
                    world.order(at, Order::Reload(config));
                }
                JobChange::Remove(_) if self.mistake == Some(Mistake::RemovalEndsAll) => {
                    for job in 0..self.worlds.len() {
                        self.candidate_is_told(job, at, &Order::Shutdown);
                    }
                }
                JobChange::Remove(name) => {
                    self.candidate_is_told(job_of(&name), at, &Order::Shutdown);
                }
            }
        }
    }

    /// A job is taken away from a daemon, but not the one that is let alone, and comes again soon; the
    /// last time just before all end.
    fn take_away(&mut self) {
        if self.retired {
            return;
        }
        let last = self.hosts.len() as u64 - 1;
        let at = usize::try_from(self.chance.up_to(last)).unwrap_or(0);
        let last = self.worlds.len() as u64 - 1;
        let job = usize::try_from(self.chance.up_to(last)).unwrap_or(0);
        let pause = 1_000_000_000 + self.chance.up_to(12_000_000_000);
        self.errands.add(self.now + pause, Errand::Reload);
        if self.quiet == Some(job) || !self.hosts[at].up {
            return;
        }
        self.hosts[at].present[job] = false;
        self.reload(at);
        let soon = self.chance.up_to(200_000_000);
        let pause = self.chance.pick(&[soon, soon * 20]);
        let process = self.hosts[at].process;
        let again = self.now + pause;
        self.errands.add(again, Errand::Restores(at, process));
    }
}
