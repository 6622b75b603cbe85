//! Daemons of several jobs: a world for each job, and what they have in common.
//!
//! Each job has an election, with leases, guardians, candidates and a [judge](super::judge) of its own, as
//! in any other history. The machines, their clocks, the daemons' processes and the store are the same
//! to all: what befalls one of these befalls all jobs at the same moment. Which candidates a daemon has,
//! in which order they join and to whom they hand over is decided by the product's
//! [`placement`](crate::placement).
//!
//! In some of these histories nothing befalls the hosts, the network or the store, and one job is let
//! alone: its first term must go on until the end, whatever is done to the others.

mod errands;
mod hosts;
mod placing;

use std::time::Duration;

use super::Mistake;
use super::chance::Chance;
use super::faults::{Fault, Mood};
use super::judge::Judge;
use super::settings::NATIVE;
use super::store::Wished;
use super::world::{Outcome, STEPS, Wanted, World};
use crate::config::{Config, Hooks, Restart};
use crate::keys::{JobName, Prefix};
use crate::revision::Token;
use errands::{Errand, Errands};
use hosts::Host;

/// One of so many histories has several jobs.
const PART: u64 = 12;

/// The names of the jobs.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Of a world, what lies beside it.
#[derive(Debug)]
pub(super) struct Beside {
    /// How many jobs there are.
    jobs: u64,
    /// Whether whoever ends them all has no patience.
    impatient: bool,
    told: Vec<Told>,
}

/// What concerns other jobs, too.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// Something is to go wrong there.
    Fault(usize, Fault),
    /// The machine is suspended until then.
    Suspended(usize, u64),
    /// A clock is set so far ahead.
    Wall(usize, i64),
    /// The configuration of the job has changed there.
    Changed(usize),
    /// The daemon gets SIGKILL.
    Killed(usize),
    /// Its process has ended.
    Ended(usize),
    /// The candidate has ended.
    Exited(usize),
    /// One may start, once it is its turn.
    Ready(usize),
    /// Its guardian is dead.
    GuardianGone(usize),
    /// Its term is lost.
    Lost(usize),
    /// Everybody is to end.
    Retired,
}

impl World {
    pub(super) fn tell_beside(&mut self, told: Told) {
        if let Some(beside) = &mut self.beside {
            beside.told.push(told);
        }
    }

    /// How many jobs a daemon has.
    pub(super) fn jobs(&self) -> u64 {
        self.beside.as_ref().map_or(1, |beside| beside.jobs)
    }

    /// Whether all are to end at once that are to end.
    pub(super) fn is_impatient(&mut self) -> bool {
        match &self.beside {
            Some(beside) => beside.impatient,
            None => self.chance.one_in(2),
        }
    }
}

/// The jobs of some daemons.
#[derive(Debug)]
pub(super) struct Several {
    chance: Chance,
    mistake: Option<Mistake>,
    traced: bool,
    now: u64,
    /// One for each job.
    worlds: Vec<World>,
    hosts: Vec<Host>,
    errands: Errands,
    /// The job that is let alone, and nothing happens to what all have in common.
    quiet: Option<usize>,
    /// Its term.
    quiet_term: Option<Token>,
    retired: bool,
    /// The last wish of each job that was looked at.
    wishes: Vec<Option<Wished>>,
    violation: Option<String>,
}

/// Whether the history of this seed is one of several jobs.
pub(super) fn is_drawn(seed: u64, mistake: Option<Mistake>, wanted: Wanted) -> bool {
    if let Some(mistake) = mistake {
        return mistake.is_about_jobs();
    }
    let drawn = Chance::new(seed ^ 0x6a6f_6273).one_in(PART);
    wanted.several.unwrap_or(drawn)
}

impl Several {
    pub(super) fn new(seed: u64, mistake: Option<Mistake>, wanted: Wanted, traced: bool) -> Self {
        let mut chance = Chance::new(seed ^ 0x0006_a6f6_2732);
        let jobs = chance.pick(&[2, 2, 3]);
        let bound = mistake.and_then(Mistake::mood);
        let is_quiet = chance.one_in(3) && bound.is_none();
        let quiet = is_quiet.then(|| usize::try_from(chance.up_to(jobs - 1)).unwrap_or(0));
        let moods: &[Mood] = if is_quiet {
            &[Mood::Rough, Mood::Rough, Mood::Strange, Mood::Stubborn]
        } else {
            &[
                Mood::Rough,
                Mood::Rough,
                Mood::Rough,
                Mood::Strange,
                Mood::Stubborn,
                Mood::Sharp,
            ]
        };
        let mood = bound.unwrap_or(chance.pick(moods));
        let replicas = wanted.replicas.unwrap_or(chance.pick(&[1, 2, 3, 3]));
        let long = chance.one_in(4);
        let has_native = !is_quiet && chance.one_in(4);
        let impatient = chance.one_in(2);
        let mut worlds = Vec::new();
        for (job, name) in NAMES
            .iter()
            .enumerate()
            .take(usize::try_from(jobs).unwrap_or(0))
        {
            let wanted = Wanted {
                replicas: Some(replicas),
                scheduled: wanted.scheduled.or(Some(chance.one_in(2))),
                mood: Some(mood),
                long: Some(long),
                several: Some(true),
            };
            let (mut world, _) = World::draw(chance.next(), mistake, wanted, traced);
            world.beside = Some(Beside {
                jobs,
                impatient,
                told: Vec::new(),
            });
            let election = Prefix::new(format!("/jobs/{name}"));
            world.judge = Judge::new(world.plan.as_ref(), &election);
            world.calm = quiet == Some(job);
            let (prefer, after) = any_preference(&mut chance, replicas);
            for (at, machine) in world.machines.iter_mut().enumerate() {
                let config = std::sync::Arc::make_mut(&mut machine.config);
                config.job_name = JobName::new(name);
                config.election.prefix = election.clone();
                config.candidate_name = host_name(at);
                if !has_native {
                    "command".clone_into(&mut config.job.kind);
                }
                if world.calm {
                    let_alone(config);
                } else {
                    (config.prefer, config.prefer_after) = (prefer.clone(), after);
                }
                (machine.once, machine.held, machine.may_join) = (false, true, false);
            }
            worlds.push(world);
        }
        let mut several = Self {
            mistake,
            traced,
            now: worlds[0].now,
            hosts: Vec::new(),
            errands: Errands::default(),
            quiet,
            quiet_term: None,
            retired: false,
            wishes: vec![None; worlds.len()],
            violation: None,
            worlds,
            chance,
        };
        several.begin(long);
        several
    }

    /// The machines are the same to all jobs, and so is the time.
    fn begin(&mut self, long: bool) {
        let longest = self.worlds.iter().map(World::longest_ttl).max();
        for world in &mut self.worlds {
            world.lay_out(long, longest.unwrap_or(0));
        }
        let machines = self.worlds[0].machines.len();
        let together = self.chance.one_in(2);
        for at in 0..machines {
            let clock = self.worlds[0].machines[at].clock.clone();
            let natives = self.worlds.iter().filter(|world| world.is_native(at));
            let natives = natives.count();
            for world in &mut self.worlds {
                let own = usize::from(world.is_native(at));
                world.machines[at].clock = clock.clone();
                world.machines[at].beside_native = natives > own;
            }
            self.hosts.push(Host::new(self.worlds.len()));
            let most = if together { 200_000_000 } else { 2_000_000_000 };
            let after = self.chance.up_to(most);
            self.errands.add(self.now + after, Errand::Starts(at));
        }
        let first = self.now + 3_000_000_000;
        self.errands.add(first, Errand::Reload);
    }

    /// Goes on until the end.
    pub(super) fn play(mut self) -> Outcome {
        for _ in 0..STEPS * 3 {
            let next = self.worlds.iter().enumerate();
            let next = next.filter(|(_, world)| !world.ends);
            let next = next.filter_map(|(job, world)| Some((world.planned.next_at()?, job)));
            let next = next.min();
            let errand = self.errands.next_at();
            let (Some(at), is_errand) = (match (next, errand) {
                (Some((at, _)), Some(errand)) => (Some(at.min(errand)), errand <= at),
                (Some((at, _)), None) => (Some(at), false),
                // The worlds have ended, and so has all.
                (None, _) => (None, false),
            }) else {
                break;
            };
            for world in &mut self.worlds {
                world.advance(at);
            }
            self.now = at;
            if is_errand {
                self.run_errand();
                self.look_at_hosts();
            } else if let Some((_, job)) = next
                && let Some((_, what)) = self.worlds[job].planned.next()
            {
                self.worlds[job].step(what);
            }
            self.hear();
            self.keep_in_step();
            self.look();
            if self.violation.is_some() {
                break;
            }
        }
        self.over()
    }

    /// Hears what the worlds tell, until nothing is told any more.
    fn hear(&mut self) {
        loop {
            let mut heard = false;
            for (job, name) in NAMES.iter().enumerate().take(self.worlds.len()) {
                let told = self.worlds[job].beside.as_mut();
                let told = told.map_or_else(Vec::new, |it| std::mem::take(&mut it.told));
                for told in told {
                    heard = true;
                    if self.traced {
                        println!("{:>16} {name} TOLD   {told:?}", self.now);
                    }
                    self.heard(job, told);
                }
            }
            if !heard {
                return;
            }
            for world in &mut self.worlds {
                world.judged();
            }
        }
    }

    /// All elections are in one store: no revision is given out twice.
    fn keep_in_step(&mut self) {
        let all = self.worlds.iter_mut().map(|it| *it.store.revision_mut());
        let last = all.max().unwrap_or_default();
        for world in &mut self.worlds {
            *world.store.revision_mut() = last;
        }
        if self.mistake == Some(Mistake::WishIsForEveryJob) {
            self.spread_wishes();
        }
    }

    fn spread_wishes(&mut self) {
        for job in 0..self.worlds.len() {
            let wish = self.worlds[job].store.wish;
            let is_new = wish.map(|it| it.at) != self.wishes[job].map(|it| it.at);
            if let Some(wish) = wish.filter(|_| is_new) {
                for other in 0..self.worlds.len() {
                    let to = None;
                    self.worlds[other].store.wish = Some(Wished { to, ..wish });
                    self.wishes[other] = Some(wish);
                    self.worlds[other].control_changed();
                }
            }
        }
    }

    /// What one world finds wrong is wrong; and whether the job that is let alone is led all along.
    fn look(&mut self) {
        for (job, world) in self.worlds.iter_mut().enumerate() {
            if let Some(wrong) = world.judge.violation.take() {
                let wrong = format!("{}: {wrong}", NAMES[job]);
                self.violation.get_or_insert(wrong);
            }
        }
        let Some(quiet) = self.quiet.filter(|_| !self.retired) else {
            return;
        };
        let world = &self.worlds[quiet];
        let first = world.store.queue.keys().next().copied();
        let last = world.store.claims.last().map(|(token, _)| *token);
        if self.quiet_term.is_none() {
            self.quiet_term = last;
        }
        let name = NAMES[quiet];
        match self.quiet_term {
            Some(term) if first != Some(term) => {
                let wrong = format!("{name} is let alone, and its term {term} ends");
                self.violation.get_or_insert(wrong);
            }
            None if world.looking => {
                let wrong = format!("{name} is let alone, and nobody leads it");
                self.violation.get_or_insert(wrong);
            }
            _ => {}
        }
    }

    fn over(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let violation = self.violation.take();
        for world in self.worlds {
            let of_one = world.over();
            outcome.runs += of_one.runs;
            outcome.slots += of_one.slots;
            outcome.terms += of_one.terms;
            outcome.hooks += of_one.hooks;
            outcome.faults += of_one.faults;
            outcome.span = outcome.span.max(of_one.span);
            outcome.violation = outcome.violation.or(of_one.violation);
        }
        outcome.violation = violation.or(outcome.violation);
        outcome
    }
}

fn host_name(at: usize) -> String {
    format!("host-{at}")
}

/// Who should lead a job, and how long those are to have waited.
fn any_preference(chance: &mut Chance, replicas: usize) -> (Vec<String>, Duration) {
    let mut hosts: Vec<_> = (0..replicas).map(host_name).collect();
    let count = usize::try_from(chance.pick(&[0, 1, 1, 2])).unwrap_or(0);
    let mut prefer = Vec::new();
    while prefer.len() < count && !hosts.is_empty() {
        let last = hosts.len() as u64 - 1;
        let at = usize::try_from(chance.up_to(last)).unwrap_or(0);
        prefer.push(hosts.swap_remove(at));
    }
    (prefer, Duration::from_millis(2_000 + chance.up_to(10_000)))
}

/// A job whose term nothing of its own ends.
fn let_alone(config: &mut Config) {
    config.check = None;
    config.hooks = Hooks::default();
    config.job.restart = Restart::Always;
    config.job.yield_after = u32::MAX;
    if config.job.kind == NATIVE {
        "command".clone_into(&mut config.job.kind);
    }
}
