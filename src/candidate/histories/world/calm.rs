//! When the faults are over: what is wanted of those who are well, and the end of all.

use std::time::Duration;

use super::super::chance::nanos;
use super::super::machine::Machine;
use super::super::several::Told;
use super::{LOOKED, What, World};
use crate::candidate::decide::words::Order;
use crate::revision::Token;

impl World {
    /// All is well, and something is wanted all the same.
    pub(super) fn wishes(&mut self) {
        if self.plan.is_some() && self.chance.one_in(3) {
            return self.turn_pause(true);
        }
        if self.plan.is_some() && self.chance.one_in(2) {
            let queue = self.chance.one_in(2);
            self.store.want_run(queue);
            let wanted = self.store.slots.wanted;
            self.wanted = wanted.map(|wanted| (wanted.at, wanted.token));
            return self.control_changed();
        }
        if self.chance.one_in(2) {
            self.turn_pause(false);
        } else if self.store.queue.len() > 1 {
            self.store.wish();
            // One that doesn't lead yet hears of it only by a look at its records, which isn't played.
            let wish = self.store.wish.filter(|wish| self.is_led_by(wish.token));
            self.wished = wish.map(|wish| (wish.at, wish.token));
            self.control_changed();
        }
        let last = self.machines.len() as u64 - 1;
        let at = usize::try_from(self.chance.up_to(last)).unwrap_or(0);
        if self.machines[at].config.check.is_some() {
            self.machines[at].ill = true;
            self.fell_ill = Some(at);
        }
    }

    fn is_led_by(&self, token: Token) -> bool {
        let mut leads = self.machines.iter().map(|machine| &machine.daemon);
        leads.any(|it| it.contest.mine() == Some(token) && it.role() == "leading")
    }

    /// What was wanted must have come about by now.
    fn unheeded(&self) -> Option<String> {
        if let Some((at, token)) = self.wished
            && self.store.wish.is_some_and(|wish| wish.at == at)
            && self.is_led_by(token)
        {
            return Some(format!("{token} was asked to step down, and goes on"));
        }
        if let Some((at, token)) = self.wanted
            && !self.judge.is_answered(at)
            && self.is_led_by(token)
        {
            return Some(format!("{token} was asked for a run, and doesn't answer"));
        }
        let leads = |machine: &Machine| machine.daemon.role() == "leading";
        if self.store.pause.is_some_and(|pause| !pause.keep_leader)
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
        self.tell_beside(Told::Retired);
        if let Some(unheeded) = self.unheeded() {
            self.judge.found(unheeded);
        }
        if self.plan.is_some() {
            let (state, mut wall) = (self.store.slots.state.as_ref(), self.true_wall());
            if self.store.pause.is_some() {
                // While that holds, nothing is settled; it can't be older than the look.
                wall = wall - Duration::from_nanos(LOOKED);
            }
            self.judge.slots_owed(state, self.seen.has_led(), wall);
        }
        let span = Duration::from_nanos(LOOKED);
        // A command that finds nothing due stands and leads for no longer than it takes to find that out.
        let comes_and_goes = self.plan.as_ref().is_some_and(|plan| plan.is_once);
        if let Some(missing) = self.seen.missing(span, &self.machines)
            && !comes_and_goes
        {
            self.judge.found(missing);
        }
        for at in 0..self.machines.len() {
            self.machines[at].retired = true;
            self.order(at, Order::Shutdown);
        }
        if self.is_impatient() {
            let patience = 1_000_000_000;
            let budgets = self.machines.iter().map(|it| nanos(it.longest_kill));
            let killed = budgets.max().unwrap_or(0) * 2 + 1_500_000_000;
            self.after(patience, What::Impatience);
            self.after(patience + killed, What::Dead);
        }
    }
}
