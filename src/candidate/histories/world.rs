//! The simulated world: true time, the store, the machines, and what travels between them.

mod calm;

use std::time::Duration;

use super::Mistake;
use super::chance::{Chance, nanos};
use super::daemon::Word;
use super::faults::{Fault, Mood};
use super::judge::{Judge, Seen};
use super::machine::{Machine, Turn};
use super::planned::Planned;
use super::slots::Plan;
use super::store::{Answer, Request, Store};
use crate::candidate::decide::words::Order;
use crate::clock::Instant;
use crate::config::timing::SLACK;
use crate::revision::{Revision, Token};

/// How long a daemon's fence may come after D−K at the latest. K has room for it.
pub(super) const FENCED_LATE: Duration = Duration::from_millis(100);

/// Steps after which a history is taken for one that doesn't end.
const STEPS: usize = 400_000;

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
    planned: Planned,
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
    ends: bool,
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
}

impl World {
    /// The history of this seed, with as much of it as it draws itself as isn't wanted otherwise.
    pub(super) fn new(seed: u64, mistake: Option<Mistake>, wanted: Wanted, traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let drawn = match chance.up_to(5) {
            0 => Mood::Strange,
            1 => Mood::Stubborn,
            2 => Mood::Sharp,
            _ => Mood::Rough,
        };
        let mood = mistake.and_then(Mistake::mood).unwrap_or(drawn);
        let drawn = chance.pick(&[1, 2, 3, 3, 5]);
        let count = wanted.replicas.unwrap_or(drawn);
        let long = chance.one_in(2);
        let start = 1_000_000_000;
        let mut machines: Vec<_> = (0..count)
            .map(|_| Machine::new(&mut chance, mistake, mood, long))
            .collect();
        let mut plan = Plan::any(seed, mistake, wanted.scheduled);
        if let Some(plan) = &mut plan {
            for machine in &mut machines {
                machine.schedule(plan);
            }
        }
        let ttls = machines.iter().map(|machine| nanos(machine.truth.ttl()));
        let longest = ttls.max().unwrap_or(0);
        let mut world = Self {
            mistake,
            traced,
            now: start,
            planned: Planned::default(),
            number: 0,
            store: Store::new(mistake),
            judge: Judge::new(plan.as_ref()),
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
            outcome: Outcome::default(),
            chance,
        };
        for at in 0..world.machines.len() {
            let after = world.chance.up_to(2_000_000_000);
            world.after(after, What::DaemonStarts(at));
        }
        world.after(ROUGH / 20, What::Fault);
        if world.plan.is_some() {
            world.after(ROUGH / 10, What::Meddle);
        }
        let healed = if long { ROUGH + longest * 2 } else { ROUGH };
        let looked = healed + longest * 3 + HEALED;
        let retired = looked + LOOKED;
        world.after(healed, What::Heal);
        world.after(looked, What::Look);
        world.after(looked + WISHED, What::Wishes);
        world.after(retired, What::Retire);
        world.after(retired + longest * 2 + ENDED, What::End);
        world
    }

    /// Goes on until the end.
    pub(super) fn play(mut self) -> Outcome {
        for _ in 0..STEPS {
            let Some((at, what)) = self.planned.next() else {
                break;
            };
            for machine in &mut self.machines {
                machine.clock.advance(self.now, at);
            }
            self.now = at;
            self.store.now = at;
            self.happen(what);
            self.judge.look_at_slots(&mut self.store.slots);
            self.judge
                .look(&self.machines, &self.store, self.mood, self.now);
            if self.judge.violation.is_some() || self.ends {
                break;
            }
        }
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

    // === the store ===

    pub(super) const fn next_number(&mut self) -> u64 {
        self.number += 1;
        // Not one that a contest gives.
        self.number | 1 << 63
    }

    fn is_cut_off(&mut self, at: usize) -> bool {
        let lost = !self.is_quick() && self.chance.one_in(60);
        lost || self.now < self.machines[at].cut_off_until
    }

    fn travel(&mut self) -> u64 {
        if self.is_quick() {
            self.chance.up_to(2_000_000)
        } else {
            self.chance.delay(Duration::from_secs(4))
        }
    }

    /// Whether the network loses and delays nothing.
    fn is_quick(&self) -> bool {
        self.calm || self.mood != Mood::Rough
    }

    /// A request sets out for the store, and may be late, or lost.
    pub(super) fn ask_store(&mut self, at: usize, asker: Asker, number: u64, request: Request) {
        let request = match request {
            // Whatever the product takes it for.
            Request::Grant { lease, .. } => Request::Grant {
                lease,
                ttl: nanos(self.machines[at].truth.ttl()),
            },
            request => request,
        };
        if matches!(request, Request::WriteSlots { .. }) {
            self.slots_asked(at);
        }
        if !self.is_cut_off(at) {
            let after = self.travel();
            let request = Box::new(request);
            self.after(after, What::Store(at, asker, number, request));
        }
    }

    fn store_hears(&mut self, at: usize, asker: Asker, number: u64, request: &Request) {
        if matches!(request, Request::WriteSlots { .. }) {
            self.slots_heard();
        }
        let heard = match self.reaches_deposed(request) {
            // Nobody else hears of it.
            Some(raft_term) => Some((Answer::Renewed, raft_term)),
            None => self.store.hear(request, self.now),
        };
        if let Some((answer, raft_term)) = heard
            && !self.is_cut_off(at)
        {
            let after = self.travel();
            let answer = Box::new(answer);
            self.after(after, What::Answer(at, asker, number, answer, raft_term));
        }
        self.store_changed();
    }

    fn answer(&mut self, at: usize, asker: Asker, number: u64, answer: Answer, raft_term: u64) {
        match asker {
            Asker::Daemon(daemon) if self.machines[at].daemon.number == daemon => {
                self.tell_daemon(at, Word::Answer(number, answer, raft_term));
            }
            Asker::Guardian(guardian) => {
                self.guardian_is_answered(at, guardian, number, &answer);
            }
            Asker::Hook => self.hook_is_answered(at, number),
            Asker::Daemon(_) | Asker::Nobody => {}
        }
    }

    /// Watches tell of what is gone, and the next lease ends some time.
    pub(super) fn store_changed(&mut self) {
        for key in std::mem::take(&mut self.store.gone) {
            for at in 0..self.machines.len() {
                let after = self.watched(at, Some(key));
                self.after(after, What::Gone(at, key));
            }
        }
        if std::mem::take(&mut self.store.slots.is_changed) {
            let seen = self.store.slots.seen;
            for at in 0..self.machines.len() {
                if self.machines[at].daemon.contest.leads() {
                    let after = self.watched(at, None);
                    self.after(after, What::Slots(at, seen));
                }
            }
        }
        // A renewal puts it off; then that is found when it would have come.
        if let Some(expiry) = self.store.next_expiry()
            && self.expiry_planned.is_none_or(|planned| expiry < planned)
        {
            let expiry = expiry.max(self.now + 1);
            self.expiry_planned = Some(expiry);
            self.at(expiry, What::Expiry);
        }
    }

    pub(super) fn control_changed(&mut self) {
        for at in 0..self.machines.len() {
            let after = self.watched(at, None);
            self.after(after, What::Control(at));
        }
    }

    /// How long a watch takes to tell. It may be late, or break and be opened anew; not so for the own
    /// key where strangers delete it, since then nothing else tells of it in time (R7).
    fn watched(&mut self, at: usize, key: Option<Token>) -> u64 {
        let own = key.is_some() && key == self.machines[at].daemon.contest.mine();
        let after = if self.calm || (own && self.mood == Mood::Strange) {
            self.chance.up_to(2_000_000)
        } else {
            self.travel()
        };
        after + self.machines[at].cut_off_until.saturating_sub(self.now)
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
