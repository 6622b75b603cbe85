//! What a history whose job has a schedule has beside the others: the time of day, operators who meddle
//! with the records of its runs, and the unit's stop hook.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Mistake;
use super::chance::{Chance, nanos};
use super::daemon::Word;
use super::faults::{Fault, Mood};
use super::several::Told;
use super::store::Request;
use super::world::{Asker, What, World};
use crate::candidate::decide::Mind;
use crate::candidate::decide::words::Event;
use crate::config::Scheduling;
use crate::schedule::Run;
use crate::schedule::record::Outcome;
use crate::term::resignation::Resignation;

/// How far a clock may be set from true time, in milliseconds.
const SET: u64 = 20_000;

/// How far it may differ when nobody sets it.
const SKEW: u64 = 500;

/// How long the stop hook tries to reach the store.
const RESIGN_LIMIT: u64 = 5_000_000_000;

/// Between two looks of the stop hook at what lives.
const HOOK_PAUSE: u64 = 5_000_000;

/// How long the lease file may take that is to be written soon.
const WRITTEN_SOON: u64 = 50_000_000;

/// How late a daemon may be for a slot, and a run for its end.
const SLEPT: u64 = 2_000_000_000;

/// For how long a pause may go unheeded.
const HEEDED: u64 = 1_000_000_000;

/// The longest runs of a job: of most, of some, and of few.
const RUNS: [u64; 3] = [300_000_000, 3_000_000_000, 12_000_000_000];

/// What the history's job is run by.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) scheduling: Scheduling,
    /// Whether a daemon's end is its unit's: nothing of it lives on, and the stop hook follows.
    pub(super) is_unit: bool,
    /// Whether each daemon is a command in a crontab: it runs for one slot, or finds none due, and ends.
    pub(super) is_once: bool,
    /// How far the clocks differ from true time at first, in milliseconds, each from `-SKEW`.
    skews: Chance,
}

impl Plan {
    /// That of the history with this seed, if it has one. Drawn apart from all else: a history without
    /// one is what it was.
    pub(super) fn any(seed: u64, mistake: Option<Mistake>, wanted: Option<bool>) -> Option<Self> {
        let mut chance = Chance::new(!seed);
        let drawn = chance.one_in(7) || mistake.is_some_and(Mistake::is_about_slots);
        let planned = wanted.unwrap_or(drawn);
        planned.then(|| {
            let mut plan = Self {
                scheduling: super::settings::any_scheduling(&mut chance),
                is_unit: chance.one_in(2) || mistake == Some(Mistake::LeaseFileIsNotRenewed),
                is_once: chance.one_in(8) && mistake.is_none(),
                skews: chance,
            };
            if plan.is_once {
                plan.scheduling.policy.retries = 0;
            }
            plan
        })
    }

    pub(super) fn skew(&mut self) -> i64 {
        around(self.skews.up_to(2 * SKEW), SKEW)
    }
}

fn around(drawn: u64, middle: u64) -> i64 {
    i64::try_from(drawn).unwrap_or(0) - i64::try_from(middle).unwrap_or(0)
}

/// What a machine has for it.
#[derive(Debug, Default)]
pub(super) struct SlotDesk {
    /// The runs that its daemon asked for, by number.
    pub(super) runs: BTreeMap<u64, Arc<Run>>,
    file: LeaseFile,
    hook: Option<Hook>,
}

/// What the stop hook would find.
#[derive(Debug, Default)]
struct LeaseFile {
    there: Option<Resignation>,
    /// And what it will find from then on.
    soon: Option<(u64, Resignation)>,
}

impl LeaseFile {
    fn settle(&mut self, now: u64) {
        if let Some((_, resignation)) = self.soon.take_if(|(at, _)| *at <= now) {
            self.there = Some(resignation);
        }
    }
}

/// The stop hook while it runs.
#[derive(Debug)]
struct Hook {
    until: u64,
    /// Whether the file that it reads is the newest.
    knows: bool,
    /// The request that it waits for, and until when.
    asked: Option<(u64, u64)>,
}

impl SlotDesk {
    /// Whether its stop hook runs.
    pub(super) const fn hook_runs(&self) -> bool {
        self.hook.is_some()
    }

    /// The machine has lost its power: the file is in memory.
    pub(super) fn lose_all(&mut self) {
        *self = Self::default();
    }
}

impl World {
    // === the time of day ===

    /// When the alarm on the wall clock wakes the daemon.
    pub(super) fn wall_wake(&self, at: usize) -> Option<u64> {
        self.plan
            .as_ref()
            .filter(|_| self.mistake != Some(Mistake::AlarmIsNotHeard))?;
        let daemon = &self.machines[at].daemon;
        let mind = daemon.mind.as_ref().filter(|_| !daemon.process.dead)?;
        let wall = mind.next_wall()?;
        Some(self.machines[at].clock.wall_when(wall).max(self.now))
    }

    /// Has the daemon's loop run when its alarm rings, which it has set as it last ran.
    pub(super) fn arm_wall(&mut self, at: usize) {
        if let Some(when) = self.machines[at].daemon.rings_at {
            let late = if when > self.now { self.lateness() } else { 0 };
            self.daemon_runs_at(at, when.max(self.now) + late);
        }
    }

    /// A clock is set: whoever waits for a time of day is woken.
    fn set_wall(&mut self, at: usize, ahead: i64) {
        if self.beside.is_some() {
            return self.tell_beside(Told::Wall(at, ahead));
        }
        self.wall_is_set(at, ahead);
    }

    pub(super) fn wall_is_set(&mut self, at: usize, ahead: i64) {
        if self.traced {
            println!("{:>16} {at} CLOCK  {ahead} ms", self.now);
        }
        self.machines[at].clock.set_wall(ahead);
        self.machines[at].daemon.rings_at = self.wall_wake(at);
        if self.machines[at].daemon.rings_at.is_some() {
            let when = self.now + self.soon();
            self.daemon_runs_at(at, when);
        }
    }

    // === what operators do, and what fails beside it ===

    pub(super) fn meddle(&mut self) {
        let Some(plan) = self.plan.as_ref().filter(|_| !self.calm) else {
            return;
        };
        let keeps = plan.scheduling.policy.history;
        let at = self.any_machine();
        self.outcome.faults += 1;
        match self.chance.up_to(9) {
            0..=3 => {
                let most = self.chance.pick(&[SKEW, 2_000, SET]);
                let ahead = around(self.chance.up_to(2 * most), most);
                self.set_wall(at, ahead);
            }
            4 | 5 => {
                let queue = self.chance.one_in(2);
                self.store.want_run(queue);
                self.control_changed();
            }
            6 | 7 => self.settle(),
            8 => {
                let wall = self.true_wall();
                let span = self.chance.span(Duration::from_mins(1));
                let span = Duration::from_nanos(span);
                let to = if self.chance.one_in(4) {
                    wall + span / 4
                } else {
                    wall - span
                };
                self.store.rewind(to, wall, keeps);
                self.store_changed();
            }
            _ => self.turn_pause(true),
        }
        let pause = self.chance.up_to(8_000_000_000);
        self.after(pause, What::Meddle);
    }

    /// Somebody finds out what became of a lost run.
    fn settle(&mut self) {
        let result = self
            .chance
            .pick(&[Outcome::Rerun, Outcome::Success, Outcome::Failure]);
        self.store.settle(result);
        self.store_changed();
    }

    /// What the time of day is, by a clock that is right.
    pub(super) fn true_wall(&self) -> crate::wall::Time {
        super::clock::true_wall(self.now)
    }

    /// A pause begins or ends; its end is told to the schedule where nobody leads by then.
    pub(super) fn turn_pause(&mut self, keep_leader: bool) {
        let is_led = self.store.is_led();
        if self
            .store
            .pause
            .is_some_and(|pause| !pause.keep_leader || !is_led)
            && self.plan.is_some()
        {
            let wall = self.true_wall();
            self.store.slots_resume(wall);
        }
        self.store.turn_pause(keep_leader);
        self.paused_at = self.now;
        self.control_changed();
        if self.plan.is_some() {
            self.store_changed();
        }
    }

    /// A write to the records sets out: what fails may fail just then.
    pub(super) fn slots_asked(&mut self, at: usize) {
        if self.calm || !self.chance.one_in(10) {
            return;
        }
        let faults: &[Fault] = match self.mood {
            Mood::Rough => &[
                Fault::DaemonKilled,
                Fault::GuardianKilled,
                Fault::BothKilled,
                Fault::CutOff,
                Fault::Crash,
                Fault::DaemonStalls,
                Fault::Shutdown,
                Fault::StepDown,
            ],
            Mood::Strange => &[Fault::KeyDeleted, Fault::LeaseRevoked, Fault::DaemonKilled],
            Mood::Stubborn => &[Fault::DaemonKilled, Fault::Shutdown],
            Mood::Sharp => return,
        };
        let after = self.chance.up_to(8_000_000) * self.chance.up_to(1);
        self.strikes(at, after, faults);
    }

    /// The store is about to hear of a write: somebody else may write just before.
    pub(super) fn slots_heard(&mut self) {
        if !self.calm && self.chance.one_in(8) {
            self.settle();
        }
    }

    /// All clocks are right again, or nearly so.
    pub(super) fn heal_clocks(&mut self) {
        for at in 0..self.machines.len() {
            let ahead = around(self.chance.up_to(2 * SKEW), SKEW);
            self.set_wall(at, ahead);
        }
    }

    // === runs ===

    /// The daemon asks for the job: by a claim of this very term that was acknowledged (R4).
    pub(super) fn slot_asked(&mut self, at: usize, number: u64, run: Option<Arc<Run>>) {
        let Some(run) = run else {
            if self.plan.is_some() {
                self.judge.found(format!("{at} starts without a slot"));
            }
            return;
        };
        if self.calm && self.store.pause.is_some() && self.now > self.paused_at + HEEDED {
            self.judge
                .found(format!("{at} starts {}, and all is paused", run.slot));
        }
        let contest = &self.machines[at].daemon.contest;
        if contest.mine() != Some(run.token) {
            self.judge.found(format!(
                "{at} starts {} by a claim of {}",
                run.slot, run.token
            ));
        } else if !contest.acknowledged.contains(&run.nonce) {
            self.judge.found(format!(
                "{at} starts {}, and its claim was not acknowledged",
                run.slot
            ));
        }
        self.machines[at].desk.runs.insert(number, run);
    }

    /// The slot of a run, where it is the job's and has one.
    pub(super) fn slot_of(&self, at: usize, number: u64) -> Option<&Arc<Run>> {
        self.machines[at].desk.runs.get(&number)
    }

    /// The job begins.
    pub(super) fn slot_begins(&mut self, at: usize, number: u64) {
        let Some(run) = self.slot_of(at, number).cloned() else {
            return;
        };
        let there = self.store.queue.contains_key(&run.token);
        let state = self.store.slots.state.as_ref().filter(|_| there);
        self.judge.slot_begins(at, &run, state, self.now);
        self.outcome.slots += 1;
        if self.chance.one_in(5) {
            let after = self.chance.up_to(2_000_000_000);
            self.after(after, What::Completes(at, number));
        }
    }

    /// Its main process, or its code, has ended.
    pub(super) fn slot_ended(&mut self, at: usize, number: u64, success: bool) {
        if let Some(run) = self.slot_of(at, number).cloned() {
            self.judge.slot_ended(&run, success);
        }
    }

    /// All is well: looks whether somebody sleeps, or a run goes on, that must not.
    pub(super) fn look_at_slots(&mut self) -> Option<String> {
        let timeout = self.plan.as_ref()?.scheduling.policy.timeout;
        for (at, machine) in self.machines.iter().enumerate() {
            let due = machine.daemon.mind.as_ref().and_then(Mind::next_wall);
            if let Some(due) = due
                && machine.is_steady(self.now)
                && machine.daemon.role() == "leading"
                && machine.clock.wall_when(due) + SLEPT < self.now
            {
                return Some(format!("{at} sleeps, and a slot is due"));
            }
            let run = machine
                .tree
                .run()
                .and_then(|number| self.slot_of(at, number));
            let began = run.and_then(|run| self.judge.slot_began(&run.nonce));
            if let (Some(timeout), Some(began)) = (timeout, began) {
                let stop = machine.config.job.stop_grace + machine.longest_kill;
                if self.now - began > nanos(timeout + stop) + SLEPT {
                    return Some(format!("a run of {at} goes on after its time"));
                }
            }
        }
        self.seen
            .look_at_open(&self.machines, &self.store, self.now)
    }

    /// For how long a run of the job takes.
    pub(super) fn span_of_slot(&mut self) -> u64 {
        let longest = self.chance.pick(&RUNS);
        1 + self.chance.up_to(longest)
    }

    /// It closes itself, with what it writes.
    pub(super) fn completes(&mut self, at: usize, number: u64) {
        let tree = &self.machines[at].tree;
        if tree.runs(number)
            && let Some(run) = self.slot_of(at, number).cloned()
            && self.now >= self.machines[at].cut_off_until
            && self.store.complete(&run.id())
        {
            self.judge.slot_completed(&run);
            self.store_changed();
        }
    }

    // === the unit's stop hook ===

    pub(super) fn write_lease_file(&mut self, at: usize, resignation: Resignation, soon: bool) {
        if self.plan.is_none() {
            return;
        }
        let (now, late) = (self.now, self.chance.up_to(WRITTEN_SOON));
        let file = &mut self.machines[at].desk.file;
        file.settle(now);
        let renews = file
            .there
            .as_ref()
            .is_some_and(|it| it.lease == resignation.lease);
        if renews && self.mistake == Some(Mistake::LeaseFileIsNotRenewed) {
            let stale = file.there.clone();
            file.there = stale.map(|it| Resignation {
                close: it.close,
                ..resignation
            });
            return;
        }
        if soon {
            let at = file.soon.as_ref().map_or(now + late, |(at, _)| *at);
            file.soon = Some((at, resignation));
        } else {
            (file.there, file.soon) = (Some(resignation), None);
        }
    }

    pub(super) fn remove_lease_file(&mut self, at: usize, lease: crate::keys::LeaseId) {
        let file = &mut self.machines[at].desk.file;
        file.there.take_if(|it| it.lease == lease);
        file.soon.take_if(|(_, it)| it.lease == lease);
    }

    /// Whether what a daemon leaves behind ends with its unit.
    pub(super) fn is_unit(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_unit)
    }

    /// The daemon is gone, however it went: the unit kills all that is left, and its stop hook gives
    /// the term back.
    pub(super) fn unit_stops(&mut self, at: usize) {
        self.guardian_killed(at);
        let file = &mut self.machines[at].desk.file;
        file.settle(self.now);
        // Nobody writes it any more.
        let knows = file.soon.take().is_none();
        self.machines[at].desk.hook = Some(Hook {
            until: self.now + RESIGN_LIMIT,
            knows,
            asked: None,
        });
        self.machines[at].tree.starting = None;
        self.tree_killed(at);
        self.after(HOOK_PAUSE, What::Hook(at));
    }

    /// The stop hook looks whether it is alone, and resigns once it is.
    pub(super) fn hook_goes_on(&mut self, at: usize) {
        let now = self.now;
        let lives = self.machines[at].tree.lives();
        let (asked_at, number) = (self.machines[at].shows(), self.next_number());
        let machine = &mut self.machines[at];
        let Some(hook) = &mut machine.desk.hook else {
            return;
        };
        if lives {
            // What hangs on it is renewed.
            hook.until = now + RESIGN_LIMIT;
            let lease = machine.desk.file.there.as_ref().map(|it| it.lease);
            if let Some(lease) = lease {
                self.ask_store(at, Asker::Nobody, 0, Request::Renew { lease });
            }
            return self.after(20 * HOOK_PAUSE, What::Hook(at));
        }
        let Some(resignation) = machine.desk.file.there.clone() else {
            machine.desk.hook = None;
            return;
        };
        if now >= hook.until {
            machine.desk.hook = None;
            return;
        }
        if hook.asked.is_none_or(|(_, until)| now >= until) {
            let limit = nanos(resignation.attempt_limit).max(20_000_000);
            hook.asked = Some((number, now + limit));
            let file_is_newest = hook.knows;
            self.judge
                .gives_back(at, &resignation, &self.machines[at], now);
            let mut request = Request::give_back(resignation, asked_at);
            if let Request::GiveBack { knows, .. } = &mut request {
                *knows = file_is_newest;
            }
            self.ask_store(at, Asker::Hook, number, request);
        }
        self.after(4 * HOOK_PAUSE, What::Hook(at));
    }

    pub(super) fn hook_is_answered(&mut self, at: usize, number: u64) {
        let desk = &mut self.machines[at].desk;
        let asked = |hook: &mut Hook| hook.asked.is_some_and(|(asked, _)| asked == number);
        if desk.hook.take_if(asked).is_some() {
            desk.file = LeaseFile::default();
        }
    }

    /// The schedule's zone is read anew.
    pub(super) fn refreshed(&mut self, at: usize, schedule: Arc<crate::schedule::Schedule>) {
        self.tell_daemon(at, Word::Event(Event::Refreshed(schedule)));
    }
}
