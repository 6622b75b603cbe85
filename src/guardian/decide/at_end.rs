//! The hook at the end of a term: it runs in the term's tree, once that is proven empty of the job,
//! and the term is given back only when the tree is empty of the hook as well (R5).
//!
//! It has its own limit, and D−K as the job has. Whatever kills the job leaves it no time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::protocol::{CommandSpec, Exit, Report};
use super::{Daemon, GuardAction, GuardLine, GuardedTree, TermGuard, TreeStop};
use crate::clock::Instant;
use crate::revision::Token;

/// The number of its run; the daemon counts its own from 1.
pub(crate) const HOOK: u64 = 0;

/// What is to run.
#[derive(Debug)]
pub(super) struct AtEnd {
    pub(super) command: CommandSpec,
    pub(super) limit: Duration,
}

/// What runs.
#[derive(Debug)]
pub(super) struct RunningHook {
    began: Instant,
    /// Whether SIGKILL was sent to the job before it.
    pub(super) killed_job: bool,
    /// How its main process ended, and whether it was killed for its time.
    ended: Option<(Exit, bool)>,
}

impl TermGuard {
    /// Keeps what is to run at the end of the term, unless that has begun.
    pub(super) fn run_at_end(&mut self, token: Token, at_end: AtEnd) {
        if let Some(guarded) = self.present(token)
            && !guarded.closed
        {
            guarded.at_end = Some(at_end);
        }
    }

    /// Whether the hook of the term has yet to run.
    pub(super) fn is_unfinished(&self, token: Token) -> bool {
        let present = self.term.iter().find(|guarded| guarded.term.token == token);
        present.is_some_and(|guarded| guarded.at_end.is_some() && !guarded.over)
    }

    /// There is no time for a hook.
    pub(super) fn skip_at_end(&mut self, token: Token) {
        if let Some(guarded) = self.present(token) {
            guarded.at_end = None;
        }
    }

    /// Runs the hook if this is the end: no start is accepted any more, nothing is left of the job,
    /// and something was run in this term. `killed` is what became of the job. Returns whether the
    /// tree is the hook's from now on.
    pub(super) fn begin_at_end(&mut self, token: Token, killed: bool, now: Instant) -> bool {
        // A Rust job has ended when the daemon says so, or is dead.
        let daemon_dead = self.daemon == Daemon::Dead;
        let empty = self.tree.is_none();
        let ends = self.present(token).filter(|guarded| {
            let job_over = !guarded.term.in_daemon || daemon_dead;
            guarded.closed && !guarded.over && job_over && empty
        });
        let Some(guarded) = ends else { return false };
        let Some(AtEnd { command, limit }) = guarded.at_end.take() else {
            return false;
        };
        let before = guarded.term.kill_at();
        if !guarded.has_run || now >= before {
            return false;
        }
        // From now on: there is no moment in which the tree passes for empty.
        self.tree = Some(GuardedTree {
            token,
            mains: BTreeSet::from([HOOK]),
            pid: None,
            stop: Some(TreeStop {
                signal: 0,
                began: now,
                grace_end: now + limit,
                asked_all: true,
                killing: None,
            }),
            at_end: Some(RunningHook {
                began: now,
                killed_job: killed,
                ended: None,
            }),
        });
        self.report(Report::AtEnd { token, killed });
        self.act(GuardAction::Spawn {
            run: HOOK,
            command,
            before,
        });
        true
    }

    /// Its main process runs.
    pub(super) fn at_end_executed(&mut self, pid: u32) {
        if let Some(tree) = &mut self.tree {
            tree.pid = Some(pid);
        }
    }

    /// Its main process ended; nothing was executed without one, and the tree is empty.
    pub(super) fn at_end_ended(&mut self, exit: Exit) {
        let Some(tree) = &mut self.tree else { return };
        tree.mains.remove(&HOOK);
        let killed = tree.stop.iter().any(|stop| stop.killing.is_some());
        if let Some(running) = &mut tree.at_end {
            running.ended = Some((exit, killed));
        }
    }

    /// The tree is proven empty of it.
    pub(super) fn say_at_end(&mut self, tree: &GuardedTree, running: RunningHook, now: Instant) {
        let (exit, killed) = running.ended.unzip();
        let lease = self.lease_of(tree.token);
        self.act(GuardAction::Say(GuardLine::HookEnded {
            lease,
            token: tree.token,
            pid: tree.pid,
            exit,
            killed: killed.unwrap_or_default(),
            ran: now.since(running.began),
        }));
    }
}
