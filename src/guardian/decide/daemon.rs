//! Standing in for a daemon that is dead or silent: ending its term, giving its leases back.

use std::time::Duration;

use super::super::protocol::Report;
use super::{Daemon, GuardAction, GuardLine, Guarded, Lease, TermGuard, UNKILLABLE};
use crate::clock::Instant;
use crate::keys::LeaseId;
use crate::reason::EndReason;
use crate::revision::Token;

/// How long a daemon may be silent, once a term that D−G−K ended has an empty tree, before the
/// guardian gives the lease back in its place. It is stopped or hung then.
const SILENCE: Duration = Duration::from_millis(100);

/// How much longer than its job's grace a daemon has to kill itself, which it does after saying
/// why. `takeover_delay` has room for it (R13).
const DAEMON_LATE: Duration = Duration::from_millis(50);

impl TermGuard {
    /// When the daemon is killed for the sake of the Rust job that runs in it.
    pub(super) fn daemon_kill_at(&self) -> Option<Instant> {
        let guarded = self.term.as_ref().filter(|guarded| !guarded.over)?;
        let alive = self.daemon == Daemon::Alive && self.daemon_killed.is_none();
        let deadline = guarded.term.kill_at();
        (guarded.term.in_daemon && guarded.closed && alive).then(|| {
            guarded
                .daemon_grace_end
                .map_or(deadline, |at| deadline.min(at + DAEMON_LATE))
        })
    }

    /// Says why the daemon is killed, unless it has said so itself when it asked for the stop.
    pub(super) fn say_why_killed(&mut self, now: Instant) {
        let Some(guarded) = &self.term else { return };
        let token = guarded.term.token;
        let reason = match guarded.daemon_grace_end {
            None => EndReason::Deadline,
            Some(at) if now >= at + DAEMON_LATE => EndReason::JobStuck,
            Some(_) => return,
        };
        self.say_lost(token, reason);
    }

    pub(super) fn say_lost(&mut self, token: Token, reason: EndReason) {
        let lease = self.lease_of(token);
        self.act(GuardAction::Say(GuardLine::TermLost {
            lease,
            token,
            reason,
        }));
    }

    pub(super) fn kill_daemon(&mut self, now: Instant) {
        if self.daemon_killed.is_none() {
            self.daemon_killed = Some(now);
            self.act(GuardAction::KillDaemon);
        }
    }

    /// Waits for a word of the daemon, where D−G−K has ended a term and its tree is empty.
    pub(super) fn listen(&mut self, now: Instant) {
        let empty = self.tree.is_none();
        if let Some(guarded) = &mut self.term
            && guarded.late
            && empty
            && !guarded.term.in_daemon
        {
            guarded.silent_until = Some(now + SILENCE);
        }
    }

    /// Gives the lease back in the place of a daemon that was silent for too long.
    pub(super) fn stand_in(&mut self, now: Instant) {
        let due = |guarded: &mut Guarded| guarded.silent_until.is_some_and(|at| now >= at);
        let Some(guarded) = self.term.take_if(due) else {
            return;
        };
        let token = guarded.term.token;
        self.ended = self.ended.max(Some(token));
        self.say_lost(token, EndReason::Deadline);
        self.actions.extend(guarded.stopped.map(GuardAction::Say));
        self.give_back(now, |lease| lease.resignation.token == Some(token));
    }

    pub(super) fn daemon_closed(&mut self, now: Instant) {
        if self.daemon != Daemon::Alive {
            return;
        }
        if self.leases.is_empty() && self.term.is_none() && self.tree.is_none() {
            return self.act(GuardAction::Exit);
        }
        self.daemon = Daemon::Closed;
        self.kill_daemon(now);
        self.lose_daemon(now);
    }

    pub(super) fn daemon_dead(&mut self, now: Instant) {
        let news = self.daemon == Daemon::Alive;
        self.daemon = Daemon::Dead;
        if news {
            self.lose_daemon(now);
        }
        self.give_all_back(now);
    }

    /// Gets ready for the store early in a term: should the daemon die, the lease goes back at once.
    pub(super) fn make_ready(&mut self, now: Instant) {
        let due = |guarded: &mut Guarded| guarded.connect_at.take_if(|at| now >= *at);
        if self.term.as_mut().and_then(due).is_some() {
            self.connect();
        }
    }

    /// Connects for the lease that will be given back first: the present term's, if there is one.
    fn connect(&mut self) {
        let leases = self.leases.values().map(|lease| &lease.resignation);
        if let Some(latest) = leases.max_by_key(|resignation| resignation.token) {
            let latest = latest.clone();
            self.act(GuardAction::Connect(latest));
        }
    }

    /// Stops what runs, politely, since the term is being lost; gets ready for the store meanwhile.
    fn lose_daemon(&mut self, now: Instant) {
        let mut ready = false;
        if let Some(guarded) = &mut self.term {
            ready = guarded.connect_at.take().is_none();
            guarded.closed = true;
            guarded.silent_until = None;
            let (token, signal) = (guarded.term.token, guarded.term.stop_signal);
            let grace_end = now + guarded.term.graces.lost_grace;
            // The hook at the end goes on: it would have been started now as well.
            if self.tree.iter().any(|tree| tree.at_end.is_none()) {
                self.stop_tree(token, signal, grace_end, now);
            }
        }
        if !ready {
            self.connect();
        }
    }

    // === the leases ===

    /// Gives every lease back if nothing can run the job any more, and leaves after the last.
    pub(super) fn give_all_back(&mut self, now: Instant) {
        if self.daemon == Daemon::Dead && self.tree.is_none() {
            let token = self.term.as_ref().map(|guarded| guarded.term.token);
            if token.is_some_and(|token| self.begin_at_end(token, false, now)) {
                return;
            }
            self.give_back(now, |_| true);
            self.leave();
        }
    }

    pub(super) fn give_back(&mut self, now: Instant, which: impl Fn(&Lease) -> bool) {
        for lease in self.leases.values_mut() {
            if which(lease) && !lease.given_back {
                lease.given_back = true;
                self.actions.push(GuardAction::GiveBack {
                    resignation: lease.resignation.clone(),
                    // Past its TTL the lease is gone by itself.
                    until: now + lease.resignation.ttl,
                });
            }
        }
    }

    pub(super) fn given_back(&mut self, lease: LeaseId, confirmed: bool) {
        if let Some(known) = self.leases.remove(&lease) {
            self.act(GuardAction::Say(GuardLine::Resigned {
                lease,
                token: known.resignation.token,
                confirmed,
            }));
            self.report(Report::Resigned { lease, confirmed });
        }
        self.leave();
    }

    fn leave(&mut self) {
        if self.daemon == Daemon::Dead && self.tree.is_none() && self.leases.is_empty() {
            self.act(GuardAction::Exit);
        }
    }

    /// When the leases are renewed, since something can't be killed and nobody else renews.
    pub(super) fn renewal_at(&self) -> Option<Instant> {
        let late = self.term.iter().any(|guarded| guarded.late);
        let alone = self.daemon != Daemon::Alive || late;
        let tree = self.killing().map(|killing| killing.since);
        let in_daemon = self.term.iter().any(|guarded| guarded.term.in_daemon);
        let daemon = self
            .daemon_killed
            .filter(|_| in_daemon && self.daemon != Daemon::Dead);
        let since = tree
            .into_iter()
            .chain(daemon)
            .reduce(Instant::min)
            .filter(|_| alone)?;
        // With a small K the lease would have ended by then.
        let budget = self
            .term
            .as_ref()
            .map(|guarded| guarded.term.graces.kill_budget);
        let unkillable = budget.map_or(UNKILLABLE, |budget| UNKILLABLE.min(budget / 2));
        Some(self.next_renewal.unwrap_or(since + unkillable))
    }

    pub(super) fn renew(&mut self, now: Instant) {
        let token = self.term.as_ref().map(|guarded| guarded.term.token);
        let alive = self.daemon == Daemon::Alive;
        let mut pause = Duration::from_secs(1);
        for lease in self.leases.values() {
            // A daemon that is only late renews its other leases itself.
            if !alive || lease.resignation.token == token {
                pause = pause.max(lease.resignation.ttl / 5);
                self.actions
                    .push(GuardAction::Renew(lease.resignation.clone()));
            }
        }
        self.next_renewal = Some(now + pause);
    }
}
