//! A machine of a history: our clock on it, and the processes that stand still, die and start anew.

use std::sync::Arc;
use std::time::Duration;

use super::Mistake;
use super::chance::{Chance, nanos};
use super::clock::{Clock, SLOWEST};
use super::daemon::Daemon;
use super::faults::Mood;
use super::guardian::Guardian;
use super::settings::{NATIVE, any_config, any_timing};
use super::slots::{Plan, SlotDesk};
use super::tree::Tree;
use crate::clock::Instant;
use crate::config::timing::{SLACK, Timing};
use crate::config::{Config, Restart};

/// A process that can stand still.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) dead: bool,
    /// It stands still until then.
    pub(super) stalled_until: u64,
    /// When its loop runs next; other times are out of date.
    pub(super) runs_at: Option<u64>,
}

/// Whether it is a process's turn to run.
pub(super) enum Turn {
    Now,
    Later(u64),
    Never,
}

impl Process {
    /// Plans a turn; returns whether it is an earlier one than is planned already.
    pub(super) fn runs(&mut self, at: u64) -> bool {
        let earlier = !self.dead && self.runs_at.is_none_or(|planned| at < planned);
        if earlier {
            self.runs_at = Some(at);
        }
        earlier
    }

    pub(super) fn turn(&mut self, now: u64, suspended_until: u64) -> Turn {
        if self.dead || self.runs_at != Some(now) {
            return Turn::Never;
        }
        let until = self.stalled_until.max(suspended_until);
        if now < until {
            self.runs_at = Some(until);
            return Turn::Later(until);
        }
        self.runs_at = None;
        Turn::Now
    }
}

/// A machine.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) clock: Clock,
    pub(super) config: Arc<Config>,
    /// The times of its terms as they are; the product's own may be mistaken.
    pub(super) truth: Timing,
    pub(super) daemon: Daemon,
    pub(super) guardian: Guardian,
    pub(super) tree: Tree,
    /// Since when, or from when on, neither process stands still.
    pub(super) steady_since: u64,
    /// Nothing goes to or comes from the store until then.
    pub(super) cut_off_until: u64,
    /// Whether its job heeds a polite stop.
    pub(super) obedient: bool,
    /// How long the processes of the job's next run take to be dead after SIGKILL.
    pub(super) death: u64,
    /// The longest K that any of its runs began with.
    pub(super) longest_kill: Duration,
    /// Until then the job may live on though its lease is gone: the whole machine stood still when it
    /// was to be killed.
    pub(super) excused_until: u64,
    /// Whether the check of this machine fails.
    pub(super) ill: bool,
    /// Whether the operator has ended it for good.
    pub(super) retired: bool,
    /// Whether its daemon is to run its command once, and be done.
    pub(super) once: bool,
    /// No candidate for this job may start there for now: the daemon is down, or has no such job.
    pub(super) held: bool,
    /// Whether one may stand that has started; of several jobs each has its turn.
    pub(super) may_join: bool,
    /// Whether another job of its daemon is one in Rust: where that doesn't end, the daemon dies of it.
    pub(super) beside_native: bool,
    /// What it has for a job that has a schedule.
    pub(super) desk: SlotDesk,
}

impl Machine {
    pub(super) fn new(
        chance: &mut Chance,
        mistake: Option<Mistake>,
        mood: Mood,
        long: bool,
    ) -> Self {
        let truth = any_timing(chance, long, least_kill(mood));
        let mut config = any_config(chance, truth);
        let once = chance.one_in(8);
        if once {
            is_to_run_once(&mut config);
        }
        let mut machine = Self {
            clock: Clock::new(chance, mistake),
            config: Arc::new(config),
            truth,
            daemon: Daemon::default(),
            guardian: Guardian::default(),
            tree: Tree::default(),
            steady_since: 0,
            cut_off_until: 0,
            obedient: chance.one_in(2),
            death: 0,
            longest_kill: truth.kill_budget(),
            excused_until: 0,
            ill: false,
            retired: false,
            once,
            held: false,
            may_join: true,
            beside_native: false,
            desk: SlotDesk::default(),
        };
        let room = machine.room(mood);
        machine.death = chance.span(room);
        if mood == Mood::Sharp {
            machine.obedient = false;
            machine.death = nanos(room);
            machine.clock.rate = SLOWEST;
            machine.clock.slew = 0;
        }
        machine
    }

    /// Its job has a schedule, and its clock shows some time of day.
    pub(super) fn schedule(&mut self, plan: &mut Plan) {
        let config = Arc::make_mut(&mut self.config);
        config.run_timeout = plan.scheduling.policy.timeout;
        config.scheduling = Some(plan.scheduling.clone());
        self.once = plan.is_once;
        if self.once {
            is_to_run_once(config);
        }
        self.clock.set_wall(plan.skew());
    }

    /// How long the death of a job may take at most.
    fn room(&self, mood: Mood) -> Duration {
        let kill_budget = self.truth.kill_budget();
        // The daemon gives a guardian that acts some of K before it acts itself.
        let late = super::world::FENCED_LATE.min(kill_budget / 2);
        match mood {
            Mood::Rough => kill_budget.saturating_sub(late),
            // Its daemon is killed only when K is over.
            Mood::Strange if self.config.job.kind == NATIVE => SLACK / 10,
            Mood::Strange | Mood::Stubborn | Mood::Sharp => kill_budget,
        }
    }

    /// Its configuration is to have another stop_grace, and perhaps other graces for a term that is lost.
    /// They hold from the next run on; a longer K would have to be known to everybody else before.
    pub(super) fn reconfigure(&mut self, chance: &mut Chance, mood: Mood) {
        let mut config = Config::clone(&self.config);
        config.job.stop_grace = Duration::from_millis(chance.up_to(10_000));
        let lost_grace = Duration::from_millis(chance.up_to(3000));
        let most = nanos(self.truth.kill_budget());
        let kill_budget = Duration::from_nanos(most - chance.up_to(most - most / 8));
        let kill_budget = kill_budget.max(least_kill(mood));
        let timing = Timing::new(self.truth.ttl(), lost_grace, kill_budget);
        if chance.one_in(2) && timing.check().is_ok() {
            self.truth = timing;
            (config.job.lost_grace, config.job.kill_budget) = (lost_grace, kill_budget);
            self.death = self.death.min(nanos(self.room(mood)));
        }
        self.config = Arc::new(config);
    }

    /// What its processes read from the clock.
    pub(super) fn shows(&self) -> Instant {
        self.clock.shows()
    }

    /// The configuration as the product is given it.
    pub(super) fn config(&self, mistake: Option<Mistake>) -> Arc<Config> {
        let Some(mistake) = mistake else {
            return Arc::clone(&self.config);
        };
        let timing = mistake.timing(self.truth);
        let mut config = Config::clone(&self.config);
        config.election.ttl = timing.ttl();
        config.job.lost_grace = timing.lost_grace();
        config.job.kill_budget = timing.kill_budget();
        if let Some(scheduling) = &mut config.scheduling {
            mistake.policy(&mut scheduling.policy);
        }
        Arc::new(config)
    }

    /// Whether both processes run, and have done so for long enough to have caught up.
    pub(super) fn is_steady(&self, now: u64) -> bool {
        self.has_caught_up(now) && self.daemon.mind.is_some() && !self.daemon.process.dead
    }

    /// Whether it has a candidate for the job.
    pub(super) const fn has_candidate(&self) -> bool {
        self.daemon.mind.is_some() && !self.daemon.process.dead
    }

    /// Whether there is nothing for the job on it: no candidate, no guardian, no process.
    pub(super) const fn is_bare(&self) -> bool {
        let guarded = !self.guardian.process.dead && self.guardian.number > 0;
        !self.has_candidate() && !guarded && !self.tree.lives() && self.tree.starting.is_none()
    }

    /// Whether a run of the job itself goes on: no hook, and not only what a run has left behind.
    pub(super) fn runs_job(&self) -> bool {
        let main = self.tree.alive.filter(|alive| alive.main);
        main.is_some_and(|alive| alive.run == self.daemon.job.0)
    }

    /// Whether somebody watches its key: the daemon, or the guardian of one that is dead.
    pub(super) fn is_watched(&self, now: u64) -> bool {
        self.is_steady(now) || self.has_caught_up(now) && self.daemon.process.dead
    }

    /// Whether the guardian runs, and neither process has stood still of late.
    fn has_caught_up(&self, now: u64) -> bool {
        now >= self.steady_since + nanos(SLACK) && !self.guardian.process.dead
    }
}

/// Its daemon runs its command once, and is done.
fn is_to_run_once(config: &mut Config) {
    "command".clone_into(&mut config.job.kind);
    config.job.restart = Restart::Never;
}

/// A guardian that is late twice must not pass for one that doesn't kill any more.
fn least_kill(mood: Mood) -> Duration {
    Duration::from_millis(if mood == Mood::Stubborn { 250 } else { 10 })
}
