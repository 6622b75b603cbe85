//! What a history must never come to, over all its replicas.

use std::time::Duration;

use super::faults::Mood;
use super::machine::Machine;
use super::store::Store;
use crate::term::resignation::Resignation;

/// Keeps watch over a history.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The first that went wrong.
    pub(super) violation: Option<String>,
    /// The token of the last run that was started, and where.
    last: (i64, usize),
}

/// Whether its job may live just now though its lease is gone.
fn is_excused(machine: &Machine, now: u64) -> bool {
    now < machine.excused_until || now < machine.clock.suspended_until
}

impl Judge {
    pub(super) fn found(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A run starts: tokens rise, one to each term, and nothing else lives.
    pub(super) fn starts(&mut self, at: usize, token: i64, machines: &[Machine], now: u64) {
        let (last, whose) = self.last;
        if token < last || (token == last && at != whose) {
            self.found(format!("{at} runs in {token} after {whose} in {last}"));
        }
        self.last = (token, at);
        if machines[at].tree.alive.is_some() {
            self.found(format!("{at} starts a second run beside its own"));
        }
        for (other, machine) in machines.iter().enumerate() {
            if other != at && machine.tree.alive.is_some() && !is_excused(machine, now) {
                self.found(format!("two jobs: {at} starts in {token} beside {other}'s"));
            }
        }
    }

    /// Two jobs that live at once, jobs that outlive their lease unless strangers may have ended that,
    /// and marks on terms whose job lives.
    pub(super) fn look(&mut self, machines: &[Machine], store: &Store, mood: Mood, now: u64) {
        let mut alive = None;
        for (at, machine) in machines.iter().enumerate() {
            let Some(job) = machine.tree.alive.filter(|_| !is_excused(machine, now)) else {
                continue;
            };
            if let Some(other) = alive.replace(at) {
                self.found(format!("two jobs: {other} and {at}"));
            }
            if mood != Mood::Strange && !store.queue.contains_key(&job.token) {
                let token = job.token;
                self.found(format!("{at} runs in {token}, whose lease is gone"));
            }
            if job.token <= store.marker {
                let marker = store.marker;
                self.found(format!(
                    "{marker} is marked, and {at} runs in {}",
                    job.token
                ));
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
        if let Some(alive) = machine.tree.alive
            && alive.token == token
        {
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
            if machine.tree.alive.is_some() {
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
    pub(super) led: bool,
    pub(super) stood: Vec<bool>,
}

impl Seen {
    pub(super) fn nobody(of: usize) -> Self {
        Self {
            led: false,
            stood: vec![false; of],
        }
    }

    pub(super) fn look(&mut self, machines: &[Machine], store: &Store) {
        for (machine, stood) in machines.iter().zip(&mut self.stood) {
            *stood |= store.queue.contains_key(&machine.daemon.contest.mine());
        }
        self.led |= machines.iter().any(|machine| machine.tree.alive.is_some());
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
