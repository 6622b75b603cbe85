//! The simulated world: true time, our clock, the job, and what can go wrong.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Mistake;
use super::chance::{Chance, nanos};
use super::clock::Clock;
use super::daemon::{Daemon, Word};
use super::faults::Fault;
use super::guardian::Guardian;
use super::job::Job;
use super::store::{Heard, Store};
use crate::clock::Instant;
use crate::config::timing::{SLACK, Timing};

/// Every history has one term, with this token.
pub(super) const TOKEN: i64 = 7;

/// How long the daemon's fence may come after D−K at the latest. K has room for it.
const FENCED_LATE: Duration = Duration::from_millis(100);

/// Steps after which a history is taken for one that doesn't end.
const STEPS: usize = 5000;

/// What happens.
#[derive(Debug)]
pub(super) enum What {
    /// The daemon's loop runs.
    Daemon,
    /// The guardian's loop runs.
    Guardian,
    /// The store hears something of the candidate.
    Store(Heard),
    /// An answer of the store arrives at the daemon.
    Answer(Word),
    /// The exec of this run goes on.
    Executed(u64),
    /// The job's processes end.
    JobEnds,
    /// The daemon's process ends.
    DaemonEnds,
    /// Something goes wrong.
    Fault(Fault),
}

/// What happens at an instant of true time; at the same one, in the order of planning.
#[derive(Debug)]
struct Planned {
    at: u64,
    order: u64,
    what: What,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its largest.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}

/// A process that can stand still.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) dead: bool,
    /// It stands still until then.
    pub(super) stalled_until: u64,
    /// When its loop runs next; other times are out of date.
    runs_at: Option<u64>,
}

/// Whether it is a process's turn to run.
enum Turn {
    Now,
    Later(u64),
    Never,
}

impl Process {
    /// Plans a turn; returns whether it is an earlier one than is planned already.
    fn runs(&mut self, at: u64) -> bool {
        let earlier = !self.dead && self.runs_at.is_none_or(|planned| at < planned);
        if earlier {
            self.runs_at = Some(at);
        }
        earlier
    }

    fn turn(&mut self, now: u64) -> Turn {
        if self.dead || self.runs_at != Some(now) {
            return Turn::Never;
        }
        if now < self.stalled_until {
            self.runs_at = Some(self.stalled_until);
            return Turn::Later(self.stalled_until);
        }
        self.runs_at = None;
        Turn::Now
    }
}

/// Everything.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) mistake: Option<Mistake>,
    /// True time.
    pub(super) now: u64,
    queue: BinaryHeap<Planned>,
    planned: u64,
    pub(super) clock: Clock,
    /// Since when neither process stands still.
    pub(super) steady_since: u64,
    /// The times of the term as they are; the product's own may be mistaken.
    pub(super) truth: Timing,
    pub(super) store: Store,
    pub(super) cut_off: bool,
    pub(super) daemon: Daemon,
    pub(super) guardian: Guardian,
    pub(super) job: Job,
    /// Whether the job runs in the daemon itself.
    pub(super) in_daemon: bool,
    /// Whether the job heeds a polite stop.
    pub(super) obedient: bool,
    /// The limit of the hook at the term's end, if it has one. To the rules it is as the job.
    pub(super) hook: Option<Duration>,
    /// Whether the daemon may have to kill in its guardian's place.
    pub(super) relayed: bool,
    /// How long the job's processes take to be dead after SIGKILL.
    pub(super) death: u64,
    /// The whole machine stood still when the job was to be killed: until then it may live on.
    pub(super) excused_until: u64,
    pub(super) outcome: Outcome,
}

/// What came of a history.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Whether the job ran.
    pub(super) ran: bool,
    /// How many hooks ran.
    pub(super) hooks: u64,
    /// What went wrong.
    pub(super) violation: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut chance = Chance::new(seed);
        let truth = any_timing(&mut chance);
        let start = 1_000_000_000;
        let clock = Clock::new(&mut chance, mistake);
        let timing = mistake.map_or(truth, |mistake| mistake.timing(truth));
        let mut world = Self {
            mistake,
            now: start,
            queue: BinaryHeap::new(),
            planned: 0,
            steady_since: 0,
            truth,
            store: Store::new(nanos(truth.ttl()), start),
            cut_off: false,
            daemon: Daemon::new(&mut chance, timing, clock.shows()),
            clock,
            guardian: Guardian::default(),
            job: Job::default(),
            in_daemon: chance.one_in(5),
            obedient: chance.one_in(2),
            hook: None,
            relayed: false,
            death: 0,
            excused_until: 0,
            outcome: Outcome::default(),
            chance,
        };
        world.relayed = world.plan_faults();
        if world.chance.one_in(3) {
            let limit = world.chance.up_to(nanos(truth.ttl()));
            world.hook = Some(Duration::from_nanos(limit));
        }
        // The daemon gives a guardian that acts some of K before it acts itself.
        let late = FENCED_LATE.min(truth.kill_budget() / 2);
        let room = if world.relayed {
            truth.kill_budget().saturating_sub(late)
        } else {
            truth.kill_budget()
        };
        world.death = world.chance.span(room);
        world.arm();
        world
    }

    /// Goes on until nothing is left to happen.
    pub(super) fn play(mut self) -> Outcome {
        for _ in 0..STEPS {
            let Some(Planned { at, what, .. }) = self.queue.pop() else {
                return self.outcome;
            };
            self.clock.advance(self.now, at);
            self.now = at;
            self.check();
            if self.outcome.violation.is_some() {
                return self.outcome;
            }
            self.happen(what);
        }
        self.outcome.violation = Some("it never ended".to_owned());
        self.outcome
    }

    /// Never two: the job is dead by the time the lease is gone, whatever ended it.
    fn check(&mut self) {
        let allowed = self.store.expiry.max(self.excused_until);
        if self.job.alive && self.now > allowed {
            let late = Duration::from_nanos(self.now - allowed);
            let violation = format!("the job outlives the lease by {late:?}; {:?}", self.truth);
            self.outcome.violation = Some(violation);
        }
    }

    fn happen(&mut self, what: What) {
        if !matches!(what, What::Store(_)) && self.now < self.clock.suspended_until {
            // The daemon's and the guardian's turns are found again by their instant.
            for (process, is) in [
                (&mut self.daemon.process, matches!(what, What::Daemon)),
                (&mut self.guardian.process, matches!(what, What::Guardian)),
            ] {
                if is && process.runs_at == Some(self.now) {
                    process.runs_at = Some(self.clock.suspended_until);
                }
            }
            return self.at(self.clock.suspended_until, what);
        }
        match what {
            What::Daemon => match self.daemon.process.turn(self.now) {
                Turn::Now => {
                    self.daemon_runs();
                    self.arm();
                }
                Turn::Later(at) => self.at(at, What::Daemon),
                Turn::Never => {}
            },
            What::Guardian => match self.guardian.process.turn(self.now) {
                Turn::Now => {
                    self.guardian_runs();
                    self.arm();
                }
                Turn::Later(at) => self.at(at, What::Guardian),
                Turn::Never => {}
            },
            What::Store(heard) => self.store_hears(heard),
            What::Answer(word) => self.tell_daemon(word),
            What::Executed(run) => self.job_executed(run),
            What::JobEnds => {
                if self.job.alive && self.job.ends_at.is_some_and(|at| at <= self.now) {
                    self.job_ended();
                }
            }
            What::DaemonEnds => self.daemon_ended(),
            What::Fault(fault) => self.fault(fault),
        }
    }

    fn store_hears(&mut self, heard: Heard) {
        if let Some(word) = self.store.hears(heard, self.now) {
            self.answered(word);
        }
    }

    /// The store's answer sets out for the daemon, and may be late, or lost.
    fn answered(&mut self, word: Word) {
        if !self.cut_off && !self.chance.one_in(30) {
            let late = self.truth.ttl() / 2;
            let after = self.chance.delay(late);
            self.after(after, What::Answer(word));
        }
    }

    /// A request sets out for the store, and may be late, or lost.
    pub(super) fn ask_store(&mut self, heard: Heard) {
        if !self.cut_off && !self.chance.one_in(30) {
            let late = self.truth.ttl() / 2;
            let after = self.chance.delay(late);
            self.after(after, What::Store(heard));
        }
    }

    // === time ===

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.planned += 1;
        let order = self.planned;
        self.queue.push(Planned { at, order, what });
    }

    pub(super) fn after(&mut self, span: u64, what: What) {
        self.at(self.now + span, what);
    }

    /// What our processes read from the clock.
    pub(super) fn clock(&self) -> Instant {
        self.clock.shows()
    }

    // === the two processes ===

    pub(super) fn tell_daemon(&mut self, word: Word) {
        if !self.daemon.process.dead {
            self.daemon.inbox.push(word);
            let at = self.now + self.chance.delay(SLACK);
            self.daemon_runs_at(at);
        }
    }

    pub(super) fn daemon_runs_at(&mut self, at: u64) {
        if self.daemon.process.runs(at) {
            self.at(at, What::Daemon);
        }
    }

    pub(super) fn guardian_runs_at(&mut self, at: u64) {
        if self.guardian.process.runs(at) {
            self.at(at, What::Guardian);
        }
    }

    /// Has both loops run when their timers fire: a thread may get to run so late as `mu` says.
    pub(super) fn arm(&mut self) {
        if let Some(at) = self.daemon_timer() {
            let at = self.clock.when(at, self.now) + self.chance.span(SLACK);
            self.daemon_runs_at(at);
        }
        if let Some(at) = self.guardian_timer() {
            let at = self.clock.when(at, self.now) + self.chance.span(SLACK);
            self.guardian_runs_at(at);
        }
    }
}

/// Times of a term that the configuration accepts.
fn any_timing(chance: &mut Chance) -> Timing {
    loop {
        let ttl = Duration::from_secs(2 + chance.up_to(13));
        let lost_grace = Duration::from_millis(chance.up_to(3000));
        let kill_budget = Duration::from_millis(10 + chance.up_to(2000));
        let timing = Timing::new(ttl, lost_grace, kill_budget);
        if timing.check().is_ok() {
            return timing;
        }
    }
}
