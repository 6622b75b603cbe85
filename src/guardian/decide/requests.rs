//! What the daemon asks of its guardian, and when a start is refused.

use std::time::Duration;

use super::super::protocol::{Refusal, Report, Request, TermSpec};
use super::{AtEnd, GuardAction, Guarded, GuardedTree, Lease, TermGuard};
use crate::clock::Instant;
use crate::revision::Token;

/// How long a job has for its start before the guardian connects to the store.
const JOBS_TURN: Duration = Duration::from_millis(500);

impl TermGuard {
    pub(super) fn asked(&mut self, request: Request, now: Instant) {
        match request {
            // Answered before there is a guard.
            Request::Hello { .. } | Request::Log(_) => {}
            Request::Lease(resignation) => {
                let lease = resignation.lease;
                let known = Lease {
                    resignation: *resignation,
                    given_back: false,
                };
                self.leases.insert(lease, known);
                self.report(Report::Remembered { lease });
            }
            Request::Forget { lease } => {
                self.leases.remove(&lease);
            }
            Request::Term(term) => self.guard(term, now),
            Request::Deadline { token, deadline } => self.extend(token, deadline),
            Request::Start {
                token,
                run,
                command,
                sole,
            } => {
                self.last_run = self.last_run.max(run);
                match self.may_start(token, sole, now) {
                    Ok(before) => {
                        self.starts(token, run);
                        self.act(GuardAction::Spawn {
                            run,
                            command,
                            before,
                        });
                    }
                    Err(reason) => self.refuse(run, reason),
                }
            }
            Request::Stop { token, .. }
            | Request::StopRun { token, .. }
            | Request::Kill { token }
            | Request::JobOver { token }
            | Request::EndTerm { token }
                if self.tree.iter().any(|tree| tree.token > token) =>
            {
                // A word about a term whose tree was empty long ago.
            }
            Request::Stop {
                token,
                stop_signal,
                grace,
            } => {
                self.close(token, now + grace);
                self.stop_tree(token, stop_signal, now + grace, now);
            }
            Request::StopRun {
                token,
                stop_signal,
                grace,
            } => self.stop_tree(token, stop_signal, now + grace, now),
            Request::Signal { token, signal } => {
                // A job that has ended meanwhile hears nothing any more.
                let is_job = |tree: &GuardedTree| tree.token == token && tree.at_end.is_none();
                if self.tree.as_ref().is_some_and(is_job) {
                    self.act(GuardAction::SignalTree { signal });
                }
            }
            Request::Kill { token } => {
                let budget = self
                    .term
                    .as_ref()
                    .map(|guarded| guarded.term.graces.kill_budget);
                self.close(token, now + budget.unwrap_or_default());
                self.skip_at_end(token);
                if self.tree.is_none() {
                    self.report_empty(token, false);
                }
                self.kill_tree(now);
            }
            Request::AtEnd {
                token,
                command,
                limit,
            } => self.run_at_end(token, AtEnd { command, limit }),
            Request::JobOver { token } => {
                if let Some(guarded) = self.present(token) {
                    guarded.term.in_daemon = false;
                }
                if self.tree.is_none() && !self.begin_at_end(token, false, now) {
                    self.report_empty(token, false);
                }
            }
            // A guardian of a term runs no checks: they would be in its tree.
            Request::Check { run, .. } => self.refuse(run, Refusal::NoTerm),
            Request::EndTerm { token } => self.end(token, now),
        }
    }

    /// Guards a term, or takes on what changed in the present one.
    fn guard(&mut self, term: TermSpec, now: Instant) {
        let token = term.token;
        if Some(token) <= self.ended {
            return;
        }
        match &mut self.term {
            Some(guarded) if guarded.term.token == token => {
                let deadline = guarded.term.deadline;
                guarded.has_run |= term.in_daemon;
                if !guarded.late {
                    guarded.term = term;
                }
                guarded.term.deadline = guarded.term.deadline.max(deadline);
            }
            present => {
                self.ended = present.take().map(|past| past.term.token).or(self.ended);
                self.term = Some(Guarded {
                    // When a Rust job starts is not told.
                    has_run: term.in_daemon,
                    at_end: None,
                    term,
                    closed: false,
                    late: false,
                    over: false,
                    daemon_grace_end: None,
                    silent_until: None,
                    stopped: None,
                    connect_at: Some(now + JOBS_TURN),
                });
                // What an earlier term left behind bars every start until it is gone.
                self.kill_tree(now);
            }
        }
        self.extend(token, Instant::BOOT);
    }

    /// Moves the deadline, never back, and acknowledges the one that holds.
    fn extend(&mut self, token: Token, deadline: Instant) {
        if let Some(guarded) = self.present(token) {
            if !guarded.late {
                guarded.term.deadline = guarded.term.deadline.max(deadline);
            }
            let deadline = guarded.term.deadline;
            self.report(Report::Guarded { token, deadline });
        }
    }

    /// Until when a start may be executed, or why it may not (R4).
    fn may_start(&self, token: Token, sole: bool, now: Instant) -> Result<Instant, Refusal> {
        if Some(token) <= self.ended {
            return Err(Refusal::Ended);
        }
        let guarded = self.term.as_ref().ok_or(Refusal::NoTerm)?;
        if guarded.term.token != token {
            return Err(Refusal::NoTerm);
        }
        let before = guarded.term.stop_at();
        if guarded.late || now >= before {
            return Err(Refusal::Deadline);
        }
        if guarded.closed {
            return Err(Refusal::Stopping);
        }
        if let Some(tree) = &self.tree {
            if tree.stop.is_some() {
                return Err(Refusal::Stopping);
            }
            if sole || tree.token != token {
                return Err(Refusal::NotEmpty);
            }
        }
        Ok(before)
    }

    /// Accepts no start of the term any more.
    fn close(&mut self, token: Token, daemon_grace_end: Instant) {
        if let Some(guarded) = self.present(token) {
            guarded.closed = true;
            let end = guarded.daemon_grace_end.get_or_insert(daemon_grace_end);
            *end = (*end).min(daemon_grace_end);
        }
    }

    /// Forgets the term once nothing of it lives.
    fn end(&mut self, token: Token, now: Instant) {
        self.ended = self.ended.max(Some(token));
        if let Some(guarded) = self.present(token) {
            guarded.closed = true;
            guarded.over = true;
            if self.tree.is_none() {
                self.term = None;
            }
        }
        self.kill_tree(now);
    }
}
