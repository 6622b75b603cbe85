//! When the faults are over: what is wanted of those who are well, and the end of all.

use std::time::Duration;

use super::super::chance::nanos;
use super::super::machine::Machine;
use super::{LOOKED, What, World};
use crate::candidate::decide::words::Order;

impl World {
    /// All is well, and something is wanted all the same.
    pub(super) fn wishes(&mut self) {
        if self.chance.one_in(2) {
            self.store.turn_pause(false);
            self.control_changed();
        } else if self.store.queue.len() > 1 {
            self.store.wish();
            self.wished = self.store.wish.map(|wish| (wish.at, wish.token));
            self.control_changed();
        }
        let last = self.machines.len() as u64 - 1;
        let at = usize::try_from(self.chance.up_to(last)).unwrap_or(0);
        if self.machines[at].config.check.is_some() {
            self.machines[at].ill = true;
            self.fell_ill = Some(at);
        }
    }

    /// What was wanted must have come about by now.
    fn unheeded(&self) -> Option<String> {
        if let Some((at, token)) = self.wished
            && self.store.wish.is_some_and(|wish| wish.at == at)
        {
            let term = |machine: &&Machine| machine.daemon.contest.mine() == Some(token);
            let asked = self.machines.iter().find(term);
            if asked.is_some_and(|machine| machine.daemon.role() == "leading") {
                return Some(format!("{token} was asked to step down, and goes on"));
            }
        }
        let leads = |machine: &Machine| machine.daemon.role() == "leading";
        if self.store.pause.is_some()
            && let Some(at) = self.machines.iter().position(leads)
        {
            return Some(format!("all is paused, and {at} leads"));
        }
        let at = self.fell_ill?;
        let role = self.machines[at].daemon.role();
        let stands = matches!(role, "leading" | "campaigning");
        stands.then(|| format!("{at} is ill, and is {role}"))
    }

    /// Everybody must have stood, and somebody led; now they all end.
    pub(super) fn retire(&mut self) {
        self.looking = false;
        if let Some(unheeded) = self.unheeded() {
            self.judge.found(unheeded);
        }
        let span = Duration::from_nanos(LOOKED);
        if let Some(missing) = self.seen.missing(span, &self.machines) {
            self.judge.found(missing);
        }
        for at in 0..self.machines.len() {
            self.machines[at].retired = true;
            self.order(at, Order::Shutdown);
        }
        if self.chance.one_in(2) {
            let patience = 1_000_000_000;
            let budgets = self.machines.iter().map(|it| nanos(it.longest_kill));
            let killed = budgets.max().unwrap_or(0) * 2 + 1_500_000_000;
            self.after(patience, What::Impatience);
            self.after(patience + killed, What::Dead);
        }
    }
}
