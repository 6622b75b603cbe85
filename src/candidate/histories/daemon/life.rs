//! How a daemon of a machine begins and ends, or its candidate for this job.

use super::super::Mistake;
use super::super::contest::Contest;
use super::super::settings::NATIVE;
use super::super::several::Told;
use super::super::world::{What, World};
use super::Daemon;
use crate::candidate::decide::Mind;

impl World {
    /// A daemon starts, with nothing left of an earlier one.
    pub(in crate::candidate::histories) fn daemon_starts(&mut self, at: usize) {
        if !self.machines[at].daemon.process.dead && self.machines[at].daemon.mind.is_some() {
            return;
        }
        let machine = &mut self.machines[at];
        if machine.retired || machine.held {
            return;
        }
        if machine.desk.hook_runs() {
            let pause = 100_000_000;
            return self.after(pause, What::DaemonStarts(at));
        }
        let left = machine.tree.alive.is_some() || machine.tree.starting.is_some();
        let left = left && self.mistake != Some(Mistake::LeftoversLive);
        if left || !machine.guardian.process.dead && machine.daemon.number > 0 {
            // What an earlier daemon left is killed first, its guardian waited for.
            if machine.guardian.process.dead {
                self.tree_killed(at);
                let machine = &mut self.machines[at];
                machine.tree.starting = None;
            }
            let pause = 100_000_000;
            return self.after(pause, What::DaemonStarts(at));
        }
        if !machine.may_join {
            // Nothing is left of an earlier one, and it is to wait for its turn.
            return self.tell_beside(Told::Ready(at));
        }
        machine.may_join = self.beside.is_none();
        machine.desk.runs.clear();
        let number = machine.daemon.number + 1;
        let config = machine.config(self.mistake);
        let now = machine.shows();
        let takeover_delay = machine.config.election.takeover_delay;
        // What an earlier one left is dead.
        if machine.excused_until == u64::MAX {
            machine.excused_until = self.now;
        }
        let mind = if machine.once && self.mistake != Some(Mistake::RunsTwice) {
            Mind::for_one_run(config, now)
        } else {
            Mind::new(config, vec![NATIVE.to_owned()], now)
        };
        machine.daemon = Daemon {
            number,
            mind: Some(mind),
            contest: Contest::new(takeover_delay, self.mistake),
            ..Daemon::default()
        };
        self.guardian_starts(at);
        self.daemon_runs_at(at, self.now);
    }

    /// The daemon gets SIGKILL.
    pub(in crate::candidate::histories) fn daemon_killed(&mut self, at: usize) {
        if !self.machines[at].daemon.process.dead {
            self.machines[at].daemon.process.dead = true;
            self.daemon_died(at);
            let native = self.machines[at].tree.native;
            let span = native.map_or(0, |native| native.death);
            if self.beside.is_some() {
                return self.tell_beside(Told::Killed(at));
            }
            self.after(span, What::DaemonEnds(at));
        }
    }

    pub(in crate::candidate::histories) fn daemon_ended(&mut self, at: usize) {
        self.machines[at].tree.native = None;
        self.guardian_sees_daemon_dead(at);
        self.is_over(at, Told::Ended(at), 2_000_000_000);
    }

    /// What follows the end of a daemon: with several jobs that is told, else its unit stops, and starts
    /// within the `longest` pause.
    fn is_over(&mut self, at: usize, told: Told, longest: u64) {
        if self.beside.is_some() {
            return self.tell_beside(told);
        }
        if self.is_unit() {
            self.unit_stops(at);
        }
        let pause = 100_000_000 + self.chance.up_to(longest);
        self.after(pause, What::DaemonStarts(at));
    }

    /// It ends in an orderly way; its guardian has nothing left to guard.
    pub(in crate::candidate::histories) fn daemon_exits(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.daemon.process.dead = true;
        machine.guardian.process.dead = true;
        if machine.tree.lives() {
            self.judge
                .found(format!("the daemon of {at} exits, and its job lives"));
        }
        let kept = machine.daemon.contest.granted;
        let kept = kept.filter(|it| self.store.holds(*it));
        if self.calm
            && !self.looking
            && self.machines[at].retired
            && let Some(kept) = kept
        {
            self.judge
                .found(format!("the daemon of {at} exits, and keeps {kept}"));
        }
        self.is_over(at, Told::Exited(at), 5_000_000_000);
    }
}
