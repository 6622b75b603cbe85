//! What a history must never come to, over all its replicas.

use std::time::Duration;

mod slots;

use super::faults::Mood;
use super::machine::Machine;
use super::slots::Plan;
use super::store::Store;
use super::world::LOOK;
use crate::keys::Prefix;
use crate::revision::Token;
use crate::term::resignation::Resignation;
use slots::SlotJudge;

/// Keeps watch over a history.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The first that went wrong.
    pub(super) violation: Option<String>,
    /// The token of the last run that was started, and where.
    last: Option<(Token, usize)>,
    /// The runs of a schedule.
    slots: Option<Box<SlotJudge>>,
}

/// Whether its job may live just now though its lease is gone.
fn is_excused(machine: &Machine, now: u64) -> bool {
    now < machine.excused_until || now < machine.clock.suspended_until
}

impl Judge {
    pub(super) fn new(plan: Option<&Plan>, election: &Prefix) -> Self {
        let slots = plan.map(|plan| Box::new(SlotJudge::new(plan, election.clone())));
        Self {
            slots,
            ..Self::default()
        }
    }

    pub(super) fn found(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A claim is complete: it was so when the store heard of it, in an election that went on, and
    /// every term before was proven dead or waited out (R8, R13).
    pub(super) fn elected(&mut self, at: usize, token: Token, store: &Store) {
        // What was sent earlier may be heard later.
        let heard = |paused: bool| store.claims.contains(&(token, paused));
        if !heard(false) {
            let why = if heard(true) {
                "all is paused"
            } else {
                "claimed nothing"
            };
            self.found(format!("{at} leads in {token}, and {why}"));
        }
        let lives = |it: &&super::store::Unproven| {
            it.token < token && Some(it.token) > store.marker && store.now < it.dead_at
        };
        if let Some(before) = store.unproven.iter().find(lives) {
            let before = before.token;
            self.found(format!(
                "{at} leads in {token}, and didn't wait {before} out"
            ));
        }
    }

    /// A run's own code begins: its term goes on, unless strangers have ended it just now.
    pub(super) fn begins(&mut self, at: usize, token: Token, store: &Store, mood: Mood) {
        if mood != Mood::Strange && !store.queue.contains_key(&token) {
            self.found(format!("{at} starts in {token}, whose lease is gone"));
        }
    }

    /// A run starts while something else of its machine's job lives.
    pub(super) fn found_second_run(&mut self, at: usize) {
        self.found(format!("{at} starts a second run beside its own"));
    }

    /// A run starts: tokens rise, one to each term, and nothing else lives.
    pub(super) fn starts(&mut self, at: usize, token: Token, machines: &[Machine], now: u64) {
        // Its machine has just woken, and an exec that hung goes on.
        let excused = is_excused(&machines[at], now);
        match self.last {
            Some((last, whose)) if token < last || token == last && at != whose => {
                if !excused {
                    self.found(format!("{at} runs in {token} after {whose} in {last}"));
                }
            }
            _ => self.last = Some((token, at)),
        }
        for (other, machine) in machines.iter().enumerate() {
            let lives = other != at && machine.tree.lives();
            if lives && !excused && !is_excused(machine, now) {
                self.found(format!("two jobs: {at} starts in {token} beside {other}'s"));
            }
        }
    }

    /// Two jobs that live at once, jobs that outlive their lease unless strangers may have ended that,
    /// and marks on terms whose job lives.
    pub(super) fn look(&mut self, machines: &[Machine], store: &Store, mood: Mood, now: u64) {
        if let Some((marker, early)) = store.marked_early {
            self.found(format!("{marker} is marked, and {early} not waited out"));
        }
        let mut alive = None;
        for (at, machine) in machines.iter().enumerate() {
            if !machine.tree.lives() || is_excused(machine, now) {
                continue;
            }
            if let Some(other) = alive.replace(at) {
                self.found(format!("two jobs: {other} and {at}"));
            }
            for token in machine.tree.tokens() {
                if mood != Mood::Strange && !store.queue.contains_key(&token) {
                    self.found(format!("{at} runs in {token}, whose lease is gone"));
                }
                if let Some(marker) = store.marker.filter(|marker| token <= *marker) {
                    self.found(format!("{marker} is marked, and {at} runs in {token}"));
                }
            }
        }
    }

    /// A term is given back, of which nothing may live.
    pub(super) fn gives_back(
        &mut self,
        at: usize,
        resignation: &Resignation,
        machine: &Machine,
        now: u64,
    ) {
        let Some(token) = resignation.token else {
            return;
        };
        if machine.tree.tokens().any(|alive| alive == token) {
            self.found(format!(
                "{at} gives {token} back at {now}, and its job lives"
            ));
        }
    }

    /// The end: nothing is left over.
    pub(super) fn ends(&mut self, machines: &[Machine], store: &Store) {
        for (at, machine) in machines.iter().enumerate() {
            if !machine.daemon.process.dead && machine.daemon.mind.is_some() {
                self.found(format!("{at} has not ended: {}", machine.daemon.role()));
            }
            if machine.tree.lives() {
                self.found(format!("{at} has ended, and its job lives"));
            }
        }
        if !store.queue.is_empty() || store.leases() > 0 {
            let left = (&store.queue, store.leases());
            self.found(format!("keys and leases are left over: {left:?}"));
        }
    }
}

/// Who was seen to lead, and to stand in the queue, once the faults were over.
#[derive(Debug)]
pub(super) struct Seen {
    led: bool,
    stood: Vec<bool>,
    /// Since when a machine leads and runs nothing.
    idle_since: Vec<Option<u64>>,
    /// Of which run nothing lives but what its main process has left behind, and since when.
    left_since: Vec<Option<((Token, u64), u64)>>,
    /// Whether a machine has led whenever it was looked.
    led_all_along: Vec<bool>,
    /// The claim that is open while nothing runs, and since when.
    open_since: Option<(String, u64)>,
}

/// For how long a leader may run nothing: the longest pause between two runs, and some.
const IDLE: u64 = 6_000_000_000;

/// For how long a run may be open and not alive: its claim, its start and its close, and a take-over.
const OPEN: u64 = 12_000_000_000;

/// For how long what was left behind may live: the longest stop_grace, the longest kill, and some.
const LEFT: u64 = 14_000_000_000;

impl Seen {
    pub(super) fn nobody(of: usize) -> Self {
        Self {
            led: false,
            stood: vec![false; of],
            idle_since: vec![None; of],
            left_since: vec![None; of],
            led_all_along: vec![true; of],
            open_since: None,
        }
    }

    /// Looks once; returns what has gone on for too long.
    pub(super) fn look(&mut self, machines: &[Machine], store: &Store, now: u64) -> Option<String> {
        let mut wrong = None;
        for (at, machine) in machines.iter().enumerate() {
            let (tree, role) = (&machine.tree, machine.daemon.role());
            let leads = role == "leading";
            let runs_hook = |run| !machine.desk.runs.contains_key(&run);
            let is_held = tree.starting.is_some() || tree.run().is_some_and(runs_hook);
            self.led_all_along[at] &= leads && !is_held;
            let planned = machine.config.scheduling.is_some();
            self.led |= planned && leads;
            let idle = !planned && leads && !tree.lives() && tree.starting.is_none();
            // Some runs are over before anybody looks.
            let idle_for = lasts(&mut self.idle_since[at], idle, now);
            if idle_for.min(now - machine.daemon.asked_at) > IDLE {
                wrong = Some(format!("{at} leads, and runs nothing"));
            }
            // Beside Rust code it may live for as long as that does.
            let left = tree
                .alive
                .filter(|alive| !alive.main && tree.native.is_none());
            let seen = self.left_since[at].take();
            self.left_since[at] = left.map(|alive| {
                let of = (alive.token, alive.run);
                seen.filter(|(same, _)| *same == of).unwrap_or((of, now))
            });
            if self.left_since[at].is_some_and(|(_, since)| now - since > LEFT) {
                wrong = Some(format!("what a run of {at} has left behind lives on"));
            }
        }
        // A hook may refuse each term, and be over before anybody looks.
        let asked = |it: &Machine| now - it.daemon.asked_at < LOOK;
        for (machine, stood) in machines.iter().zip(&mut self.stood) {
            let stands = |mine| store.queue.contains_key(&mine);
            *stood |= asked(machine) || machine.daemon.contest.mine().is_some_and(stands);
        }
        let runs = |it: &Machine| asked(it) || it.tree.lives() || it.tree.starting.is_some();
        self.led |= machines.iter().any(runs);
        wrong
    }

    /// Whether somebody has led whenever it was looked.
    pub(super) fn has_led(&self) -> bool {
        self.led_all_along.contains(&true)
    }

    /// Looks once for a run that is open while nothing runs, and somebody leads.
    pub(super) fn look_at_open(
        &mut self,
        machines: &[Machine],
        store: &Store,
        now: u64,
    ) -> Option<String> {
        let state = store.slots.state.as_ref();
        let open = state.and_then(|state| state.open.as_ref());
        let is_busy = |it: &Machine| it.tree.lives() || it.tree.starting.is_some();
        let leads = machines.iter().any(|it| it.daemon.role() == "leading");
        let open = open.filter(|_| leads && !machines.iter().any(is_busy));
        let before = self.open_since.take();
        let open = open?;
        let same = before.filter(|(nonce, _)| *nonce == open.nonce);
        let (nonce, since) = same.unwrap_or_else(|| (open.nonce.clone(), now));
        self.open_since = Some((nonce, since));
        (now - since > OPEN).then(|| format!("{} is open, and nothing runs", open.slot))
    }

    /// What is missing after `span`.
    pub(super) fn missing(&self, span: Duration, machines: &[Machine]) -> Option<String> {
        if !self.led {
            let all: Vec<_> = machines.iter().map(|it| it.daemon.role()).collect();
            return Some(format!("no job runs for {span:?}: {all:?}"));
        }
        let out = self.stood.iter().position(|stood| !stood)?;
        let role = machines[out].daemon.role();
        Some(format!("{out} stands nowhere for {span:?}: {role}"))
    }
}

/// For how long something has been so.
fn lasts(since: &mut Option<u64>, is_so: bool, now: u64) -> u64 {
    *since = is_so.then(|| since.unwrap_or(now));
    since.map_or(0, |since| now - since)
}
