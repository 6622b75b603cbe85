//! Where jobs are led: in which order daemons join their queues, and to whom they hand over.

use std::collections::BTreeSet;

use super::errands::Errand;
use super::{NAMES, Several, host_name};
use crate::candidate::decide::Mind;
use crate::candidate::decide::words::Role;
use crate::candidate::histories::Mistake;
use crate::candidate::histories::chance::nanos;
use crate::candidate::histories::no_runs;
use crate::candidate::view::Public;
use crate::clock::Instant;
use crate::keys::LeaseId;
use crate::placement::preference::{LedJob, Preference, may_be_better_led, round};
use crate::placement::rank::{Glimpse, delay};

/// How long a look at other hosts takes, and at most.
const SHOWING: u64 = 300_000_000;
const LIMIT: u64 = 2_000_000_000;

/// How long what was seen holds, and how long a host is seen.
const FRESH: u64 = 10_000_000_000;
const SHOWN: u64 = 30_000_000_000;

/// How long it is at least, in true time, from one hand-over to the next: a minute by a clock that is
/// slewed as fast as can be.
const PAUSE: u64 = 55_000_000_000;

impl Several {
    /// Nothing is left of the job there: its candidate may stand when it is its turn.
    pub(super) fn is_ready(&mut self, job: usize, at: usize) {
        let host = &mut self.hosts[at];
        if !host.turns.insert(job) {
            return;
        }
        if self.mistake == Some(Mistake::LeftoversHoldUpAll) {
            let mut worlds = self.worlds.iter();
            let waits = |it: &crate::candidate::histories::world::World| {
                let machine = &it.machines[at];
                !machine.held && !machine.has_candidate() && !machine.is_bare()
            };
            if worlds.any(waits) {
                // Asked again by whoever looks again.
                host.turns.remove(&job);
                let world = &mut self.worlds[job];
                let what = crate::candidate::histories::world::What::DaemonStarts(at);
                return world.after(100_000_000, what);
            }
        }
        let process = host.process;
        if host
            .sight
            .as_ref()
            .is_some_and(|(until, _)| self.now < *until)
        {
            self.joins_by_turn(job, at);
        } else if !std::mem::replace(&mut host.is_looking, true) {
            let is_reached = self.reaches_store(at);
            if is_reached {
                self.hosts[at].shown_until = self.now + SHOWN;
            }
            let takes = if is_reached { SHOWING } else { LIMIT };
            let seen = Errand::Sighted(at, process);
            self.errands.add(self.now + takes, seen);
        }
    }

    fn reaches_store(&self, at: usize) -> bool {
        let world = &self.worlds[0];
        world.store.has_quorum && self.now >= world.machines[at].cut_off_until
    }

    /// It has seen who else is there.
    pub(super) fn sighted(&mut self, at: usize) {
        let mut glimpse = Glimpse::default();
        if self.reaches_store(at) {
            let hosts = self.hosts.iter().enumerate();
            let shown = hosts.filter(|(_, host)| self.now < host.shown_until);
            glimpse.hosts = shown.map(|(at, _)| host_name(at)).collect();
            let taken = self.worlds.iter().filter(|it| !it.store.queue.is_empty());
            let taken = taken.map(|it| it.machines[at].config.election.prefix.to_string());
            glimpse.taken = taken.collect::<BTreeSet<_>>();
        }
        self.hosts[at].is_looking = false;
        self.hosts[at].sight = Some((self.now + FRESH, glimpse));
        for job in self.hosts[at].turns.clone() {
            self.joins_by_turn(job, at);
        }
    }

    fn joins_by_turn(&mut self, job: usize, at: usize) {
        let host = &mut self.hosts[at];
        let config = &self.worlds[job].machines[at].config;
        let election = config.election.prefix.as_str();
        if let Some((_, glimpse)) = &host.sight
            && host.turns.remove(&job)
        {
            let turn = glimpse.turn(election, &config.candidate_name, &config.prefer);
            let (after, process) = (turn.map_or(0, |turn| nanos(delay(turn))), host.process);
            self.errands
                .add(self.now + after, Errand::Joins(at, process, job));
        }
    }

    /// It looks whether others should lead in its place what it has led since it looked last.
    pub(super) fn places(&mut self, at: usize) {
        let machine = &self.worlds[0].machines[at];
        let (now, until) = (machine.shows(), machine.daemon.process.stalled_until);
        let process = self.hosts[at].process;
        if self.now < until {
            return self.errands.add(until, Errand::Places(at, process));
        }
        let led = std::mem::take(&mut self.hosts[at].led);
        self.hosts[at].preference.keep(|election| {
            let mut led = led.iter();
            led.any(|job| {
                let config = &self.worlds[*job].machines[at].config;
                config.election.prefix.as_str() == election
            })
        });
        for job in led {
            if self.reaches_store(at) {
                self.looks_for_better(job, at, now);
            }
        }
        let jobs = 0..self.worlds.len();
        let led = jobs.filter(|job| {
            let config = &self.worlds[*job].machines[at].config;
            let public = self.public(*job, at);
            may_be_better_led(&config.candidate_name, &config.prefer)
                && public.is_some_and(|it| leads(&it, now))
        });
        let led = led.collect();
        let configs = self.worlds.iter().map(|it| &it.machines[at].config);
        let pause = nanos(round(configs.map(|it| it.prefer_after)));
        self.hosts[at].led = led;
        let next = self.now + pause;
        self.errands.add(next, Errand::Places(at, process));
    }

    fn public(&self, job: usize, at: usize) -> Option<Public> {
        let machine = &self.worlds[job].machines[at];
        let mind: Option<&Mind> = machine.daemon.mind.as_ref();
        let mind = mind.filter(|_| machine.has_candidate())?;
        Some(mind.public(&no_runs()))
    }

    fn looks_for_better(&mut self, job: usize, at: usize, now: Instant) {
        let Some(public) = self.public(job, at) else {
            return;
        };
        let world = &self.worlds[job];
        let config = &world.machines[at].config;
        let mut queue = Vec::new();
        for (token, key) in &world.store.queue {
            let mut hosts = 0..self.hosts.len();
            let whose = hosts.find(|at| world.machines[*at].daemon.contest.mine() == Some(*token));
            queue.push((key.lease, whose.map_or_else(String::new, host_name)));
        }
        let led = LedJob {
            election: config.election.prefix.as_str(),
            own: &config.candidate_name,
            prefer: &config.prefer,
            patience: if self.mistake == Some(Mistake::HandsOverToNewcomers) {
                std::time::Duration::ZERO
            } else {
                config.prefer_after
            },
            in_run: self.mistake != Some(Mistake::HandsOverInRun) && public.is_in_run(),
        };
        let to = self.hosts[at].preference.successor(now, led, &queue);
        let (Some(to), Some(token)) = (to, public.token.filter(|_| leads(&public, now))) else {
            return;
        };
        self.judge_hand_over(job, at, to);
        let world = &mut self.worlds[job];
        if world.store.wish_for(token, to) {
            world.control_changed();
            self.hosts[at].handed_over = Some(self.now);
            self.hosts[at].preference.asked(now);
            if self.mistake == Some(Mistake::HandsOverAtOnce) {
                self.hosts[at].preference = Preference::default();
            }
        }
    }

    /// A term is asked to go over: to who has waited, and after a pause. Whether a run goes on is the
    /// candidate's to know when it comes to it.
    fn judge_hand_over(&mut self, job: usize, at: usize, to: LeaseId) {
        let (name, now) = (NAMES[job], self.now);
        let world = &self.worlds[job];
        let machine = &world.machines[at];
        let waits = world.store.queue.values().find(|key| key.lease == to);
        let patience = nanos(machine.config.prefer_after) / 10 * 9;
        let last = self.hosts[at].handed_over;
        let wrong = if waits.is_none() {
            format!("{name} of {at} goes over to who doesn't wait")
        } else if waits.is_some_and(|key| now - key.since < patience) {
            format!("{name} of {at} goes over to who has just come")
        } else if last.is_some_and(|last| now - last < PAUSE) {
            format!("{at} hands over twice within a minute")
        } else {
            return;
        };
        self.violation.get_or_insert(wrong);
    }
}

/// As [`Public::leads`], by a clock of the history.
fn leads(public: &Public, now: Instant) -> bool {
    let stops = public
        .deadline
        .map(|deadline| public.timing.polite_stop(deadline));
    public.role == Role::Leading && stops.is_some_and(|stops| now < stops)
}
