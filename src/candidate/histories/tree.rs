//! The job of a machine: its processes, or Rust code in the daemon and the processes that this wants.

use std::time::Duration;

use super::chance::nanos;
use super::daemon::Word;
use super::world::{What, World};
use crate::candidate::decide::words::Event;
use crate::guardian::protocol::Exit;
use crate::revision::Token;

/// The longest that Rust code does without another process.
const WANTED: Duration = Duration::from_secs(8);

/// What there is of the job.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Rust code in the daemon itself.
    pub(super) native: Option<Native>,
    /// The processes of one run.
    pub(super) alive: Option<Alive>,
    /// The run that hangs on its way to its exec.
    pub(super) starting: Option<Starting>,
}

impl Tree {
    /// Whether anything of the job lives.
    pub(super) const fn lives(&self) -> bool {
        self.native.is_some() || self.alive.is_some()
    }

    /// Whether this run lives: Rust code, or a main process and what it left behind.
    pub(super) fn runs(&self, run: u64) -> bool {
        let native = self.native.is_some_and(|native| native.run == run);
        native || self.alive.is_some_and(|alive| alive.run == run)
    }

    /// The run that lives.
    pub(super) fn run(&self) -> Option<u64> {
        let native = self.native.map(|native| native.run);
        native.or(self.alive.map(|alive| alive.run))
    }

    /// The terms in which something runs.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        let native = self.native.map(|native| native.token);
        native
            .into_iter()
            .chain(self.alive.map(|alive| alive.token))
    }
}

/// Rust code that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Native {
    run: u64,
    /// The term that it runs in.
    pub(super) token: Token,
    ends_at: Option<u64>,
    /// Whether its `run()` has returned, and only what that has left behind runs yet.
    returned: bool,
    /// Whether it has asked for a process, and wasn't told yet what became of that.
    wants: bool,
    /// How long the daemon takes to be dead after SIGKILL.
    pub(super) death: u64,
}

/// Processes that live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alive {
    pub(super) run: u64,
    /// The term that it runs in.
    pub(super) token: Token,
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
    /// Rust code starts in the daemon.
    pub(super) fn native_starts(&mut self, at: usize, run: u64, token: Token) {
        if self.machines[at].tree.lives() {
            self.judge.found_second_run(at);
        }
        self.judge.starts(at, token, &self.machines, self.now);
        self.machines[at].tree.native = Some(Native {
            run,
            token,
            ends_at: None,
            returned: false,
            wants: false,
            death: self.machines[at].death,
        });
        self.outcome.runs += 1;
        self.slot_begins(at, run);
        if self.slot_of(at, run).is_some() {
            let span = self.span_of_slot();
            self.native_ends_by(at, self.now + span);
        } else if self.chance.one_in(3) {
            let span = 1 + self.chance.up_to(20_000_000_000);
            self.native_ends_by(at, self.now + span);
        }
        if self.chance.one_in(2) {
            let span = self.chance.span(WANTED);
            self.after(span, What::ProcessWanted(at, run));
        }
    }

    /// Rust code, which is this run, wants another process from time to time.
    pub(super) fn process_wanted(&mut self, at: usize, run: u64) {
        let tree = &self.machines[at].tree;
        if tree.native.is_some_and(|native| native.run == run) {
            self.want_process(at);
            let span = self.chance.span(WANTED);
            self.after(span, What::ProcessWanted(at, run));
        }
    }

    /// It wants one if it has none, whether it may have one or not.
    fn want_process(&mut self, at: usize) {
        let tree = &mut self.machines[at].tree;
        let has = tree.alive.is_some() || tree.starting.is_some();
        if let Some(native) = &mut tree.native
            && !has
            && !std::mem::replace(&mut native.wants, true)
        {
            self.tell_daemon(at, Word::Event(Event::ProcessWanted));
        }
    }

    /// It was started, or won't be.
    pub(super) fn want_is_answered(&mut self, at: usize) {
        if let Some(native) = &mut self.machines[at].tree.native {
            native.wants = false;
        }
    }

    /// Processes start: the job, a hook, or what Rust code wants.
    pub(super) fn tree_starts(&mut self, at: usize, run: u64, token: Token) {
        let tree = &self.machines[at].tree;
        let beside = tree.native.is_none_or(|native| native.token == token);
        if tree.alive.is_some() || !beside {
            self.judge.found_second_run(at);
        }
        self.judge.starts(at, token, &self.machines, self.now);
        self.runs_once(at, run);
        let machine = &mut self.machines[at];
        machine.tree.alive = Some(Alive {
            run,
            token,
            main: true,
            ends_at: None,
            death: machine.death,
            killed: false,
            unkillable_until: 0,
        });
        machine.tree.starting = None;
        self.outcome.runs += 1;
        self.slot_begins(at, run);
        // Some jobs end by themselves, and those of a schedule do.
        if self.slot_of(at, run).is_some() {
            let span = self.span_of_slot();
            self.tree_ends_by(at, self.now + span);
        } else if self.chance.one_in(3) {
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
            self.tree_starts(at, run, starting.token);
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
        if alive.main && !alive.killed && self.chance.one_in(4) {
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
        self.slot_ended(at, run, !failed);
        let exit = Exit::Code(i32::from(failed));
        self.guardian_reaps_main(at, run, exit);
    }

    fn tree_ended(&mut self, at: usize, alive: Alive) {
        self.machines[at].tree.alive = None;
        // Rust code follows one process with the next, before anybody has heard of its end.
        if self.machines[at].tree.native.is_some() && self.chance.one_in(2) {
            self.want_process(at);
        }
        if self.machines[at].guardian.process.dead {
            return self.fence_looks(at);
        }
        if alive.main {
            self.main_is_reaped(at, alive.run);
        }
        self.guardian_reaps_all(at);
    }

    // === Rust code ===

    /// It is asked to stop.
    pub(super) fn native_asked(&mut self, at: usize) {
        let machine = &self.machines[at];
        if machine.obedient {
            let span = self.chance.span(machine.truth.lost_grace() * 2);
            self.native_ends_by(at, self.now + span);
        }
    }

    pub(super) fn native_ends_by(&mut self, at: usize, end: u64) {
        if let Some(native) = &mut self.machines[at].tree.native
            && native.ends_at.is_none_or(|earlier| end < earlier)
        {
            native.ends_at = Some(end);
            self.at(end, What::NativeEnds(at));
        }
    }

    /// It may be time for it to end: its `run()` returns, and threads of it may go on for a while.
    pub(super) fn native_may_end(&mut self, at: usize) {
        let now = self.now;
        let Some(native) = self.machines[at].tree.native else {
            return;
        };
        if native.ends_at.is_none_or(|end| end > now) {
            return;
        }
        if !native.returned && self.chance.one_in(4) {
            if let Some(native) = &mut self.machines[at].tree.native {
                (native.returned, native.ends_at) = (true, None);
            }
            let returned = Event::NativeReturned(native.run);
            self.tell_daemon(at, Word::Event(returned));
            let span = 1 + self
                .chance
                .up_to(nanos(self.machines[at].truth.lost_grace()));
            return self.native_ends_by(at, now + span);
        }
        self.machines[at].tree.native = None;
        self.native_ended(at, native.run);
    }
}
