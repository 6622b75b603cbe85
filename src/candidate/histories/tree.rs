//! The job of a machine: its processes, and those that it runs in.

use super::world::{What, World};
use crate::guardian::protocol::Exit;
use crate::revision::Token;

/// The job's processes.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) alive: Option<Alive>,
    /// The run that hangs on its way to its exec.
    pub(super) starting: Option<Starting>,
}

/// What lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alive {
    pub(super) run: u64,
    /// The term that it runs in.
    pub(super) token: Token,
    /// Whether it runs in the daemon itself.
    pub(super) native: bool,
    /// Whether its main process lives; else what that has left behind.
    pub(super) main: bool,
    pub(super) ends_at: Option<u64>,
    /// How long it takes to be dead after SIGKILL.
    pub(super) death: u64,
    /// Whether SIGKILL was sent.
    pub(super) killed: bool,
    /// Until then no SIGKILL ends it.
    pub(super) unkillable_until: u64,
}

/// What is to live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starting {
    pub(super) run: u64,
    pub(super) token: Token,
}

impl World {
    pub(super) fn tree_starts(&mut self, at: usize, run: u64, token: Token, native: bool) {
        self.judge.starts(at, token, &self.machines, self.now);
        self.runs_once(at, run);
        self.machines[at].tree = Tree {
            alive: Some(Alive {
                run,
                token,
                native,
                main: true,
                ends_at: None,
                death: self.machines[at].death,
                killed: false,
                unkillable_until: 0,
            }),
            starting: None,
        };
        self.outcome.runs += 1;
        // Some jobs end by themselves.
        if self.chance.one_in(3) {
            let span = 1 + self.chance.up_to(20_000_000_000);
            self.tree_ends_by(at, self.now + span);
        }
    }

    /// The exec of a run hangs for so long, unless the child is killed before.
    pub(super) fn tree_hangs(&mut self, at: usize, run: u64, token: Token) {
        self.machines[at].tree.starting = Some(Starting { run, token });
        let span = self.chance.span(self.machines[at].truth.ttl() * 2);
        self.after(span, What::Executed(at, run));
    }

    /// A hung exec goes on. A child whose guardian is dead was killed with it.
    pub(super) fn executed(&mut self, at: usize, run: u64) {
        let machine = &mut self.machines[at];
        let starting = machine.tree.starting.take_if(|it| it.run == run);
        if let Some(starting) = starting
            && !machine.guardian.process.dead
        {
            self.tree_starts(at, run, starting.token, false);
            self.guardian_sees_executed(at, run);
        }
    }

    /// The tree is asked to stop.
    pub(super) fn tree_asked(&mut self, at: usize) {
        let machine = &self.machines[at];
        if machine.tree.starting.is_some() {
            return self.tree_killed(at);
        }
        if machine.obedient {
            let span = self.chance.span(machine.truth.lost_grace() * 2);
            self.tree_ends_by(at, self.now + span);
        }
    }

    /// The tree gets SIGKILL.
    pub(super) fn tree_killed(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if let Some(starting) = machine.tree.starting.take() {
            return self.guardian_sees_killed_early(at, starting.run);
        }
        if let Some(alive) = &mut machine.tree.alive
            && !alive.native
            && !std::mem::replace(&mut alive.killed, true)
        {
            let in_vain = alive.unkillable_until > self.now;
            // Whatever it would have done by itself comes to nothing.
            let end = (self.now + alive.death).max(alive.unkillable_until);
            let earlier = alive.ends_at.filter(|_| alive.unkillable_until == 0);
            alive.ends_at = None;
            // It may have been over while the machine was suspended.
            let earlier = earlier.map(|earlier| earlier.max(self.now));
            self.tree_ends_by(at, earlier.map_or(end, |earlier| earlier.min(end)));
            if in_vain {
                self.kill_is_in_vain(at);
            }
        }
    }

    pub(super) fn tree_ends_by(&mut self, at: usize, end: u64) {
        if let Some(alive) = &mut self.machines[at].tree.alive
            && alive.ends_at.is_none_or(|earlier| end < earlier)
        {
            alive.ends_at = Some(end);
            self.at(end, What::TreeEnds(at));
        }
    }

    /// It may be time for the tree to end.
    pub(super) fn tree_may_end(&mut self, at: usize) {
        let now = self.now;
        let Some(alive) = self.machines[at].tree.alive else {
            return;
        };
        if alive.ends_at.is_none_or(|end| end > now) {
            return;
        }
        if now < alive.unkillable_until {
            let until = alive.unkillable_until;
            return self.at(until, What::TreeEnds(at));
        }
        if alive.main && !alive.killed && !alive.native && self.chance.one_in(4) {
            // What a main process leaves behind.
            if let Some(alive) = &mut self.machines[at].tree.alive {
                alive.main = false;
                alive.ends_at = None;
            }
            return self.main_is_reaped(at, alive.run);
        }
        self.tree_ended(at, alive);
    }

    fn main_is_reaped(&mut self, at: usize, run: u64) {
        let failed = self.chance.one_in(3);
        let exit = Exit::Code(i32::from(failed));
        self.guardian_reaps_main(at, run, exit);
    }

    fn tree_ended(&mut self, at: usize, alive: Alive) {
        self.machines[at].tree.alive = None;
        if alive.native {
            return self.native_ended(at, alive.run);
        }
        if self.machines[at].guardian.process.dead {
            return self.fence_looks(at);
        }
        if alive.main {
            self.main_is_reaped(at, alive.run);
        }
        self.guardian_reaps_all(at);
    }

    /// The Rust job dies with its daemon.
    pub(super) fn native_dies(&mut self, at: usize) {
        let tree = &mut self.machines[at].tree;
        tree.alive.take_if(|alive| alive.native);
    }
}
