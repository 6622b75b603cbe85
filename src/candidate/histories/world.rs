//! The simulated world: true time, the store, the machines, and what travels between them.

mod calm;
mod travel;

use std::time::Duration;

use super::Mistake;
use super::chance::{Chance, nanos};
use super::daemon::Word;
use super::faults::{Fault, Mood};
use super::judge::{Judge, Seen};
use super::machine::{Machine, Turn};
use super::planned::Planned;
use super::several::Beside;
use super::slots::Plan;
use super::store::{Answer, Request, Store};
use crate::candidate::decide::words::Order;
use crate::clock::Instant;
use crate::config::timing::SLACK;
use crate::revision::{Revision, Token};

/// How long a daemon's fence may come after D−K at the latest. K has room for it.
pub(super) const FENCED_LATE: Duration = Duration::from_millis(100);

/// Steps after which a history is taken for one that doesn't end.
pub(super) const STEPS: usize = 400_000;

/// How long faults go on in a history.
const ROUGH: u64 = 60_000_000_000;

/// How long it may take after them until everybody stands in the queue again and somebody leads,
/// beside the longest TTL three times: who stands still as they end, and for a lease that was granted
/// late; and pauses.
const HEALED: u64 = 30_000_000_000;

/// How long it is then looked whether they do; a job that ends by itself makes for short absences.
const LOOKED: u64 = 30_000_000_000;

/// After how much of that an operator wants something.
const WISHED: u64 = 10_000_000_000;

/// How long everybody may take to end, beside the longest TTL twice, for a hook and a lease: a grace,
/// and some.
const ENDED: u64 = 30_000_000_000;

/// Between two looks.
pub(super) const LOOK: u64 = 250_000_000;

/// Who asks the store for something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// The daemon with this number.
    Daemon(u64),
    /// The guardian with this number.
    Guardian(u64),
    /// The stop hook.
    Hook,
    /// Somebody who waits for no answer.
    Nobody,
}

/// What happens.
#[derive(Debug)]
pub(super) enum What {
    /// The loops of a daemon run.
    Daemon(usize),
    /// The loop of a guardian runs.
    Guardian(usize),
    /// The store hears something.
    Store(usize, Asker, u64, Box<Request>),
    /// An answer of the store arrives.
    Answer(usize, Asker, u64, Box<Answer>, u64),
    /// A daemon's watch tells of a key that is gone.
    Gone(usize, Token),
    /// Or of what operators want.
    Control(usize),
    /// Or that the state of the schedule was written, in this revision.
    Slots(usize, Revision),
    /// A run of the job closes itself.
    Completes(usize, u64),
    /// A stop hook looks what is left to be done.
    Hook(usize),
    /// Somebody sets a clock, or meddles with what is recorded of runs.
    Meddle,
    /// A lease may be over.
    Expiry,
    /// The store has its quorum again.
    Quorum,
    /// The exec of a run goes on.
    Executed(usize, u64),
    /// A job's processes may end.
    TreeEnds(usize),
    /// Rust code may end.
    NativeEnds(usize),
    /// Or want a process.
    ProcessWanted(usize, u64),
    /// A daemon's process ends.
    DaemonEnds(usize),
    /// A daemon is started.
    DaemonStarts(usize),
    /// A guardian is there that was started in place of another, by the daemon with this number.
    GuardianStarts(usize, u64),
    /// Something goes wrong.
    Fault,
    /// That goes wrong there.
    FaultAt(usize, Fault),
    /// Faults are over.
    Heal,
    /// It is looked who leads and who stands.
    Look,
    /// All is well, and an operator wants another leader, or a machine falls ill.
    Wishes,
    /// Everybody is to end.
    Retire,
    /// At once.
    Impatience,
    /// Every job is dead.
    Dead,
    /// The history ends.
    End,
}

/// Everything.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) mistake: Option<Mistake>,
    /// Whether everything is told that happens.
    pub(super) traced: bool,
    /// True time.
    pub(super) now: u64,
    pub(super) planned: Planned,
    number: u64,
    /// By what the job is run, where it has a schedule.
    pub(super) plan: Option<Plan>,
    pub(super) store: Store,
    /// When it is looked next whether a lease is over.
    expiry_planned: Option<u64>,
    pub(super) machines: Vec<Machine>,
    pub(super) mood: Mood,
    /// How late a thread may get to run.
    pub(super) late: Duration,
    /// Faults are over.
    pub(super) calm: bool,
    /// They have been for long, and nobody was told to end: no term is lost.
    pub(super) looking: bool,
    /// The wish to step down that was put then, by mod_revision, and for which term.
    wished: Option<(Revision, Token)>,
    /// The wish for a run that was put then, and for which term.
    wanted: Option<(Revision, Token)>,
    /// When the last pause began, or ended.
    pub(super) paused_at: u64,
    /// The machine that fell ill then.
    fell_ill: Option<usize>,
    pub(super) judge: Judge,
    pub(super) seen: Seen,
    pub(super) ends: bool,
    /// What concerns the other jobs of its daemons, where they have any.
    pub(super) beside: Option<Beside>,
    pub(super) outcome: Outcome,
}

/// What came of a history.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// How many runs were started.
    pub(super) runs: u64,
    /// How many of them were a schedule's.
    pub(super) slots: u64,
    /// How many terms began.
    pub(super) terms: u64,
    /// How many hooks ran at the end of one.
    pub(super) hooks: u64,
    /// How many faults there were.
    pub(super) faults: u64,
    /// How long it lasted, in nanoseconds.
    pub(super) span: u64,
    /// What went wrong.
    pub(super) violation: Option<String>,
}

/// What is not left to the seed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// So many replicas stand.
    pub(super) replicas: Option<usize>,
    /// Whether the job has a schedule.
    pub(super) scheduled: Option<bool>,
    /// Which faults come together.
    pub(super) mood: Option<Mood>,
    /// Whether its TTLs are long ones.
    pub(super) long: Option<bool>,
    /// Whether its daemons have several jobs.
    pub(super) several: Option<bool>,
}

impl World {
    /// The history of this seed, with as much of it as it draws itself as isn't wanted otherwise.
    pub(super) fn new(seed: u64, mistake: Option<Mistake>, wanted: Wanted, traced: bool) -> Self {
        let (mut world, long) = Self::draw(seed, mistake, wanted, traced);
        for at in 0..world.machines.len() {
            let after = world.chance.up_to(2_000_000_000);
            world.after(after, What::DaemonStarts(at));
        }
        let longest = world.longest_ttl();
        world.lay_out(long, longest);
        world
    }

    /// Its machines and its store, and whether its TTLs are long ones; nothing is to happen yet.
    pub(super) fn draw(
        seed: u64,
        mistake: Option<Mistake>,
        wanted: Wanted,
        traced: bool,
    ) -> (Self, bool) {
        let mut chance = Chance::new(seed);
        let drawn = match chance.up_to(5) {
            0 => Mood::Strange,
            1 => Mood::Stubborn,
            2 => Mood::Sharp,
            _ => Mood::Rough,
        };
        let drawn = mistake.and_then(Mistake::mood).unwrap_or(drawn);
        let mood = wanted.mood.unwrap_or(drawn);
        let drawn = chance.pick(&[1, 2, 3, 3, 5]);
        let count = wanted.replicas.unwrap_or(drawn);
        let drawn = chance.one_in(2);
        let long = wanted.long.unwrap_or(drawn);
        let start = 1_000_000_000;
        let mut machines: Vec<_> = (0..count)
            .map(|_| Machine::new(&mut chance, mistake, mood, long))
            .collect();
        let mut plan = Plan::any(seed, mistake, wanted.scheduled);
        if let Some(plan) = &mut plan {
            // A daemon of several jobs is none in a crontab, and its unit's end is another matter.
            let one = wanted.several != Some(true);
            (plan.is_unit, plan.is_once) = (plan.is_unit && one, plan.is_once && one);
            for machine in &mut machines {
                machine.schedule(plan);
            }
        }
        let world = Self {
            mistake,
            traced,
            now: start,
            planned: Planned::default(),
            number: 0,
            store: Store::new(mistake),
            judge: Judge::new(plan.as_ref(), &machines[0].config.election.prefix),
            plan,
            expiry_planned: None,
            seen: Seen::nobody(machines.len()),
            machines,
            mood,
            // Where a lease ends early the take-over delay has room for all of this, and for the death
            // of a daemon that is killed when K is over.
            late: match mood {
                Mood::Strange => SLACK / 10,
                Mood::Stubborn => SLACK / 4,
                Mood::Rough | Mood::Sharp => SLACK,
            },
            calm: false,
            looking: false,
            wished: None,
            wanted: None,
            paused_at: 0,
            fell_ill: None,
            ends: false,
            beside: None,
            outcome: Outcome::default(),
            chance,
        };
        (world, long)
    }

    /// When what kind of thing goes on, where the longest TTL is that.
    pub(super) fn lay_out(&mut self, long: bool, longest: u64) {
        let world = self;
        if !world.calm {
            world.after(ROUGH / 20, What::Fault);
            if world.plan.is_some() {
                world.after(ROUGH / 10, What::Meddle);
            }
        }
        let healed = if long { ROUGH + longest * 2 } else { ROUGH };
        let looked = healed + longest * 3 + HEALED;
        let retired = looked + LOOKED;
        if world.calm {
            // Nothing ever befalls it: it is looked as soon as somebody may lead.
            world.after(longest + HEALED / 2, What::Look);
        } else {
            world.after(healed, What::Heal);
            world.after(looked, What::Look);
            world.after(looked + WISHED, What::Wishes);
        }
        world.after(retired, What::Retire);
        world.after(retired + longest * 2 + ENDED, What::End);
    }

    /// The longest TTL of its replicas.
    pub(super) fn longest_ttl(&self) -> u64 {
        let ttls = self
            .machines
            .iter()
            .map(|machine| nanos(machine.truth.ttl()));
        ttls.max().unwrap_or(0)
    }

    /// Goes on until the end.
    pub(super) fn play(mut self) -> Outcome {
        for _ in 0..STEPS {
            let Some((at, what)) = self.planned.next() else {
                break;
            };
            self.advance(at);
            self.step(what);
            if self.judge.violation.is_some() || self.ends {
                break;
            }
        }
        self.over()
    }

    /// True time goes on.
    #[inline]
    pub(super) fn advance(&mut self, at: u64) {
        for machine in &mut self.machines {
            machine.clock.advance(self.now, at);
        }
        self.now = at;
        self.store.now = at;
    }

    /// Something happens, and is judged.
    #[inline]
    pub(super) fn step(&mut self, what: What) {
        self.happen(what);
        self.judged();
    }

    /// Looks at what there is now.
    pub(super) fn judged(&mut self) {
        self.judge.look_at_slots(&mut self.store.slots);
        self.judge
            .look(&self.machines, &self.store, self.mood, self.now);
    }

    /// What came of it.
    pub(super) fn over(mut self) -> Outcome {
        if !self.ends {
            self.judge.found("it never ended".to_owned());
        }
        self.outcome.span = self.now;
        self.outcome.violation = self.judge.violation.take();
        if self.traced {
            println!("{:>16} {:?} {:?}", self.now, self.outcome, self.store);
        }
        self.outcome
    }

    #[expect(clippy::too_many_lines, reason = "a table: an arm a happening")]
    fn happen(&mut self, what: What) {
        match what {
            What::Daemon(at) => {
                let suspended = self.machines[at].clock.suspended_until;
                match self.machines[at].daemon.process.turn(self.now, suspended) {
                    Turn::Now => {
                        let timer = self.daemon_runs(at);
                        self.arm_daemon(at, timer);
                    }
                    Turn::Later(when) => self.at(when, What::Daemon(at)),
                    Turn::Never => {}
                }
            }
            What::Guardian(at) => {
                let suspended = self.machines[at].clock.suspended_until;
                match self.machines[at].guardian.process.turn(self.now, suspended) {
                    Turn::Now => {
                        self.guardian_runs(at);
                        self.arm_guardian(at);
                    }
                    Turn::Later(when) => self.at(when, What::Guardian(at)),
                    Turn::Never => {}
                }
            }
            What::Store(at, asker, number, request) => {
                self.store_hears(at, asker, number, &request);
            }
            What::Answer(at, asker, number, answer, raft_term) => {
                self.answer(at, asker, number, *answer, raft_term);
            }
            What::Gone(at, key) => self.tell_daemon(at, Word::SawGone(key)),
            What::Control(at) => {
                let control = self.store.control();
                self.tell_daemon(at, Word::SawControl(control));
            }
            What::Slots(at, seen) => self.tell_daemon(at, Word::SawSlots(seen)),
            What::Meddle => self.meddle(),
            What::Expiry => {
                if self.expiry_planned == Some(self.now) {
                    self.expiry_planned = None;
                }
                self.store.expire(self.now);
                self.store_changed();
            }
            What::Quorum => {
                self.store.regain_quorum(self.now);
                self.store_changed();
            }
            What::Executed(at, _)
            | What::TreeEnds(at)
            | What::NativeEnds(at)
            | What::ProcessWanted(at, _)
            | What::DaemonEnds(at)
            | What::DaemonStarts(at)
            | What::GuardianStarts(at, _)
            | What::Completes(at, _)
            | What::Hook(at)
            | What::FaultAt(at, _)
                if self.now < self.machines[at].clock.suspended_until =>
            {
                let woken = self.machines[at].clock.suspended_until;
                self.at(woken, what);
            }
            What::Executed(at, run) => self.executed(at, run),
            What::Completes(at, run) => self.completes(at, run),
            What::Hook(at) => self.hook_goes_on(at),
            What::TreeEnds(at) => self.tree_may_end(at),
            What::NativeEnds(at) => self.native_may_end(at),
            What::ProcessWanted(at, run) => self.process_wanted(at, run),
            What::DaemonEnds(at) => self.daemon_ended(at),
            What::DaemonStarts(at) => self.daemon_starts(at),
            What::GuardianStarts(at, number) => self.guardian_is_there(at, number),
            What::Fault => self.next_fault(),
            What::FaultAt(at, fault) => self.fault(at, fault),
            What::Heal => self.heal(),
            What::Look if self.machines.iter().all(|machine| machine.retired) => {}
            What::Look => {
                if !self.looking {
                    // Nothing is as bad as it may be any more.
                    self.late = SLACK / 10;
                    self.looking = true;
                }
                let seen = self.seen.look(&self.machines, &self.store, self.now);
                if let Some(wrong) = seen.or_else(|| self.look_at_slots()) {
                    self.judge.found(wrong);
                }
                self.after(LOOK, What::Look);
            }
            What::Wishes => self.wishes(),
            What::Retire => self.retire(),
            What::Impatience => {
                for at in 0..self.machines.len() {
                    self.order(at, Order::ShutdownNow);
                }
            }
            What::Dead => {
                // The guardian of a dead daemon takes its time.
                let lives = |it: &Machine| !it.daemon.process.dead && it.tree.lives();
                if let Some(at) = self.machines.iter().position(lives) {
                    let wrong = format!("{at} was to end at once, and its job lives");
                    self.judge.found(wrong);
                }
            }
            What::End => {
                self.judge.ends(&self.machines, &self.store);
                self.ends = true;
            }
        }
    }

    // === time ===

    pub(super) fn at(&mut self, at: u64, what: What) {
        // Or true time would go back, and every clock count a span of it twice.
        assert!(at >= self.now, "{what:?} is planned in the past");
        self.planned.add(at, what);
    }

    pub(super) fn after(&mut self, span: u64, what: What) {
        self.at(self.now + span, what);
    }

    // === the two processes of a machine ===

    pub(super) fn daemon_runs_at(&mut self, at: usize, when: u64) {
        if self.machines[at].daemon.process.runs(when) {
            self.at(when, What::Daemon(at));
        }
    }

    pub(super) fn guardian_runs_at(&mut self, at: usize, when: u64) {
        if self.machines[at].guardian.process.runs(when) {
            self.at(when, What::Guardian(at));
        }
    }

    /// How long a word takes from one thread or process to another.
    pub(super) fn soon(&mut self) -> u64 {
        match self.mood {
            Mood::Sharp => self.chance.up_to(1_000_000),
            _ => self.chance.delay(self.late),
        }
    }

    pub(super) fn lateness(&mut self) -> u64 {
        match self.mood {
            Mood::Sharp => nanos(self.late),
            _ => self.chance.span(self.late),
        }
    }

    /// Has both loops run when their timers fire.
    pub(super) fn arm(&mut self, at: usize) {
        self.arm_daemon(at, self.daemon_timer(at));
        self.arm_guardian(at);
    }

    /// Has the daemon's loops run when their timer fires.
    fn arm_daemon(&mut self, at: usize, timer: Option<Instant>) {
        if let Some(timer) = timer {
            let when = self.fires(at, timer);
            self.daemon_runs_at(at, when);
        }
        self.arm_wall(at);
    }

    fn arm_guardian(&mut self, at: usize) {
        if let Some(timer) = self.guardian_timer(at) {
            let when = self.fires(at, timer);
            self.guardian_runs_at(at, when);
        }
    }

    /// When a loop that has just run does so for this timer: a thread that sleeps may get to run so late
    /// as `mu` says, and for what is due already none goes to sleep.
    fn fires(&mut self, at: usize, timer: Instant) -> u64 {
        if timer <= self.machines[at].shows() {
            return self.now;
        }
        self.machines[at].clock.when(timer, self.now) + self.lateness()
    }
}
