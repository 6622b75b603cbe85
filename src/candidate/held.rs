//! What the candidate holds of its candidacy: the lease, and the term once there is one.

use std::sync::Arc;

use tokio::sync::watch;

use super::left::Left;
use super::lines::Lines;
use super::second_line::SecondLine;
use crate::clock::{self, Instant};
use crate::config::timing::Timing;
use crate::keys::LeaseId;
use crate::role::Event;
use crate::session::{Loss, Status};
use crate::term::Term;
use crate::term::resignation::Resignation;

/// One candidacy, from the choice of its lease id until everything is given back.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Held {
    pub(super) lease: LeaseId,
    /// How to give it back; as the guardian and the stop hook know it.
    pub(super) resignation: Resignation,
    pub(super) timing: Timing,
    /// Since when it stands.
    pub(super) since: Instant,
    pub(super) position: Option<i64>,
    /// create_revision of its candidate key.
    pub(super) revision: Option<i64>,
    /// When it joined, and when its term began, for people.
    pub(super) joined: Option<Arc<str>>,
    pub(super) led_since: Option<Arc<str>>,
    pub(super) status: Option<watch::Receiver<Status>>,
    pub(super) term: Option<Term>,
    /// What the guardian has been told of the term.
    pub(super) guard: Guard,
    /// The guardian has given the lease back in our place, and said so.
    pub(super) resigned_by_guardian: bool,
    /// The wish to step down that is being looked into.
    pub(super) wish: Option<Wish>,
    /// Why the term ends, for the history.
    pub(super) reason: &'static str,
    /// Whether it is being given back.
    pub(super) leaving: bool,
    /// Whether a run was asked for in its term.
    pub(super) has_run: bool,
    /// Whether the guardian waits for the end of a Rust job.
    pub(super) in_daemon: bool,
    /// Since when the hook at the term's end runs.
    pub(super) hook_since: Option<Instant>,
    /// What the deadline has asked for so far.
    second_line: SecondLine,
    /// What was said of the term's loss.
    loss: Said,
    /// Why the term ended, as it was said; for the metrics.
    said_lost: Option<&'static str>,
}

/// A wish to step down, until the contest has told whether somebody can follow.
#[derive(Debug)]
pub(super) struct Wish {
    /// Never used twice: what the contest tells of an earlier one says nothing of this one.
    pub(super) number: u64,
    /// Who asked.
    pub(super) by: String,
}

/// What the guardian has been told of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing.
    None,
    /// All that it needs.
    Current,
    /// The configuration has changed since.
    Outdated,
}

/// What was said of a term's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// The own key is gone; the line waits until it is known how.
    KeyGone,
    Reason,
}

impl Held {
    pub(super) fn new(lease: LeaseId, resignation: Resignation, timing: Timing) -> Self {
        Self {
            lease,
            resignation,
            timing,
            since: clock::now(),
            position: None,
            revision: None,
            joined: None,
            led_since: None,
            status: None,
            term: None,
            guard: Guard::None,
            resigned_by_guardian: false,
            wish: None,
            reason: "resigned",
            leaving: false,
            has_run: false,
            in_daemon: false,
            hook_since: None,
            second_line: SecondLine::default(),
            loss: Said::Nothing,
            said_lost: None,
        }
    }

    pub(super) fn granted(&mut self, timing: Timing, status: watch::Receiver<Status>) {
        self.timing = timing;
        self.resignation.ttl = timing.ttl();
        self.status = Some(status);
    }

    pub(super) fn joined(&mut self, position: i64, revision: i64) {
        self.position = Some(position);
        self.revision = Some(revision);
        self.joined = Some(clock::wall_time().into());
    }

    pub(super) fn elected(&mut self, term: Term, since: &str) {
        self.led_since = Some(since.into());
        self.resignation.token = Some(term.token());
        self.resignation.cluster = term.cluster();
        self.resignation.may_mark = true;
        self.term = Some(term);
    }

    pub(super) fn token(&self) -> Option<i64> {
        self.term.as_ref().map(Term::token)
    }

    /// What is known of the lease right now.
    pub(super) fn current(&mut self) -> Option<Status> {
        Some(self.status.as_mut()?.borrow_and_update().clone())
    }

    /// `D`, while there is a term.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.term.as_ref().map(Term::deadline)
    }

    /// The next of the polite stop and the SIGKILL.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.second_line.next_due(&self.timing, self.deadline()?)
    }

    /// What the deadline asks for by now, each once.
    pub(super) fn take_due(&mut self) -> Vec<Event> {
        let Some(deadline) = self.deadline() else {
            return vec![];
        };
        self.second_line
            .take_due(&self.timing, deadline, clock::now())
    }

    /// The guardian has ended the term, given the lease back, and said all that there is to say.
    pub(super) fn given_back_by_guardian(&mut self) {
        self.resigned_by_guardian = true;
        self.loss = Said::Reason;
    }

    /// Says once why the term was lost.
    pub(super) fn say_lost(&mut self, lines: &Lines, reason: &'static str) {
        if let Some(token) = self.token()
            && self.loss != Said::Reason
        {
            self.loss = Said::Reason;
            self.said_lost = Some(reason);
            lines.term_lost(self.lease, token, reason);
        }
    }

    /// Says why the term was lost, or waits with it: a key that is gone was deleted, or its lease
    /// revoked, and the contest asks which.
    pub(super) fn lost(&mut self, lines: &Lines, reason: &'static str) {
        if reason != Loss::Deleted.reason() {
            self.say_lost(lines, reason);
        } else if self.loss == Said::Nothing {
            self.loss = Said::KeyGone;
        }
    }

    /// Why the term ended, by the last that is known.
    pub(super) fn ended(&self) -> &'static str {
        self.said_lost.unwrap_or(self.reason)
    }

    /// The key was gone; the revocation has told whether the lease was gone with it.
    pub(super) fn say_lost_with_lease(&mut self, lines: &Lines, left: Left) {
        if self.loss == Said::KeyGone {
            self.say_lost(lines, left.explain(Loss::Deleted.reason()));
        }
    }
}

/// Waits until there is news of the lease; for ever if there is none.
pub(super) async fn changed(held: &mut Option<Held>) {
    if let Some(status) = held.as_mut().and_then(|held| held.status.as_mut())
        && status.changed().await.is_ok()
    {
        return;
    }
    // There are no renewals, or they have ended, and said how before.
    std::future::pending::<()>().await;
}
