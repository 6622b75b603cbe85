//! Stopping the tree: asked first, those left behind next, and SIGKILL until it is empty.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::protocol::{Exit, Refusal, Report};
use super::{
    Daemon, GuardAction, GuardLine, GuardedTree, Killing, TermGuard, TreeStop, UNKILLABLE,
};
use crate::clock::Instant;
use crate::revision::Token;

/// Between two rounds of SIGKILL; the tree's own ends bring more of them.
const KILL_ROUND: Duration = Duration::from_millis(10);

/// Between two rounds of SIGKILL that have been in vain for a second.
const SLOW_KILL_ROUND: Duration = Duration::from_millis(100);

/// Between two words about a tree that can't be emptied.
const STUCK_REPORT: Duration = Duration::from_secs(5);

impl TermGuard {
    /// A run is to be started: from now on the tree doesn't pass for empty.
    pub(super) fn starts(&mut self, token: Token, run: u64) {
        let tree = self.tree.get_or_insert_with(|| GuardedTree {
            token,
            mains: BTreeSet::new(),
            pid: None,
            stop: None,
            at_end: None,
        });
        tree.mains.insert(run);
    }

    pub(super) fn executed(&mut self, run: u64, pid: u32) {
        let Some(tree) = &mut self.tree else { return };
        tree.pid = Some(pid);
        let token = tree.token;
        if let Some(guarded) = self.present(token) {
            guarded.stopped = None;
            guarded.has_run = true;
        }
        self.report(Report::Started { run, pid });
    }

    /// Nothing was executed, and no process of the run is left.
    pub(super) fn not_started(&mut self, run: u64) {
        if let Some(tree) = &mut self.tree {
            tree.mains.remove(&run);
        }
    }

    pub(super) fn not_executed(&mut self, run: u64, code: i32, error: String) {
        self.not_started(run);
        self.report(Report::MainEnded {
            run,
            pid: None,
            exit: Exit::NotExecuted { code, error },
        });
    }

    /// To a term that ends it is a start that was refused.
    pub(super) fn killed_early(&mut self, run: u64, signal: i32) {
        self.not_started(run);
        let token = self.tree.as_ref().map(|tree| tree.token);
        let term = self.term.as_ref();
        match term.filter(|guarded| Some(guarded.term.token) == token) {
            Some(guarded) if guarded.late => self.refuse(run, Refusal::Deadline),
            Some(guarded) if !guarded.closed => self.report(Report::MainEnded {
                run,
                pid: None,
                exit: Exit::Signal(signal),
            }),
            _ => self.refuse(run, Refusal::Stopping),
        }
    }

    pub(super) fn report_empty(&mut self, token: Token, killed: bool) {
        let (run, unfinished) = (self.last_run, self.is_unfinished(token));
        let token = Some(token);
        self.report(Report::Empty {
            token,
            killed,
            run,
            unfinished,
        });
    }

    pub(super) fn main_ended(&mut self, run: u64, pid: u32, exit: Exit) {
        if let Some(tree) = &mut self.tree {
            tree.mains.remove(&run);
        }
        self.report(Report::MainEnded {
            run,
            pid: Some(pid),
            exit,
        });
    }

    /// Goes on with a stop among those that are left.
    pub(super) fn reaped(&mut self, now: Instant) {
        let Some(tree) = &mut self.tree else { return };
        let Some(stop) = &mut tree.stop else { return };
        if stop.killing.is_some() {
            self.kill_round(now);
        } else if tree.mains.is_empty() && tree.at_end.is_some() {
            // What a hook leaves behind is not waited for.
            self.kill_tree(now);
        } else if tree.mains.is_empty() && !stop.asked_all {
            stop.asked_all = true;
            let signal = stop.signal;
            self.act(GuardAction::StopTree { signal });
        }
    }

    pub(super) fn tree_empty(&mut self, now: Instant) {
        let Some(mut tree) = self.tree.take() else {
            return;
        };
        self.next_renewal = None;
        let token = tree.token;
        if let Some(running) = tree.at_end.take() {
            let killed = running.killed_job;
            self.say_at_end(&tree, running, now);
            return self.emptied(token, killed, None, now);
        }
        let killed = tree.stop.iter().any(|stop| stop.killing.is_some());
        let lease = self.lease_of(token);
        // What was never executed was no job.
        let stop = tree.stop.filter(|_| tree.pid.is_some());
        let stopped = stop.map(|stop| GuardLine::JobStopped {
            lease,
            token,
            pid: tree.pid,
            killed,
            took: now.since(stop.began),
        });
        if self.begin_at_end(token, killed, now) {
            self.keep_stopped(token, stopped);
        } else {
            self.emptied(token, killed, stopped, now);
        }
    }

    /// Nothing of the term lives, and nothing of it will, unless its job is started again.
    fn emptied(&mut self, token: Token, killed: bool, stopped: Option<GuardLine>, now: Instant) {
        self.report_empty(token, killed);
        self.keep_stopped(token, stopped);
        if self.daemon != Daemon::Alive {
            return self.give_all_back(now);
        }
        if let Some(guarded) = self.present(token) {
            if guarded.over {
                self.term = None;
            }
            self.listen(now);
        }
    }

    /// Says how the job was stopped where the daemon can't, or keeps it in case that it doesn't.
    fn keep_stopped(&mut self, token: Token, stopped: Option<GuardLine>) {
        if self.daemon != Daemon::Alive {
            return self.actions.extend(stopped.map(GuardAction::Say));
        }
        if let (Some(guarded), Some(_)) = (self.present(token), &stopped) {
            guarded.stopped = stopped.filter(|_| guarded.closed);
        }
    }

    /// Asks the tree to stop, if it isn't asked already; a stop only ever gets shorter.
    pub(super) fn stop_tree(
        &mut self,
        token: Token,
        signal: i32,
        grace_end: Instant,
        now: Instant,
    ) {
        if self.tree.is_none() && self.begin_at_end(token, false, now) {
            return;
        }
        let Some(tree) = &mut self.tree else {
            return self.report_empty(token, false);
        };
        if let Some(stop) = &mut tree.stop {
            stop.grace_end = stop.grace_end.min(grace_end);
            return;
        }
        tree.stop = Some(TreeStop {
            signal,
            began: now,
            grace_end,
            asked_all: tree.mains.is_empty(),
            killing: None,
        });
        self.act(GuardAction::StopTree { signal });
    }

    /// Begins to kill the tree.
    pub(super) fn kill_tree(&mut self, now: Instant) {
        let Some(tree) = &mut self.tree else { return };
        let stop = tree.stop.get_or_insert(TreeStop {
            signal: 0,
            began: now,
            grace_end: now,
            asked_all: true,
            killing: None,
        });
        if stop.killing.is_some() {
            return;
        }
        let budget = self
            .term
            .as_ref()
            .map(|guarded| guarded.term.graces.kill_budget);
        stop.killing = Some(Killing {
            since: now,
            next_round: now,
            next_word: now + budget.unwrap_or_default().max(UNKILLABLE),
        });
        self.kill_round(now);
    }

    /// Sends SIGKILL once more, and says so loudly where that has long been in vain.
    pub(super) fn kill_round(&mut self, now: Instant) {
        let Some(tree) = &mut self.tree else { return };
        let token = tree.token;
        let killing = tree.stop.as_mut().and_then(|stop| stop.killing.as_mut());
        let Some(killing) = killing else { return };
        let vain = now.since(killing.since) > Duration::from_secs(1);
        killing.next_round = now + if vain { SLOW_KILL_ROUND } else { KILL_ROUND };
        let stuck = now >= killing.next_word;
        if stuck {
            killing.next_word = now + STUCK_REPORT;
        }
        self.act(GuardAction::KillTree);
        if stuck {
            let lease = self.lease_of(token);
            self.act(GuardAction::SayStuck { token, lease });
        }
    }

    pub(super) fn killing(&self) -> Option<&Killing> {
        self.tree.as_ref()?.stop.as_ref()?.killing.as_ref()
    }

    /// When the tree that was asked to stop is killed.
    pub(super) fn tree_kill_at(&self) -> Option<Instant> {
        let stop = self.tree.as_ref()?.stop.as_ref()?;
        let deadline = self.term.as_ref().map(|guarded| guarded.term.kill_at());
        let asked = stop.killing.is_none();
        asked.then(|| deadline.map_or(stop.grace_end, |at| at.min(stop.grace_end)))
    }
}
