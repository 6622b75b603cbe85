//! A candidacy for one run: the job is started once, and with its end the candidate is done.

use tokio::sync::oneshot;

use super::Candidate;
use super::end::End;
use crate::guardian::protocol::Request;
use crate::role::{Event, Role};

/// What became of the one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the job was started, or tried to be.
    pub ran: bool,
    /// How it ended; `None` where nobody saw it.
    pub ended: Option<End>,
    /// The signal that ended the candidacy before there was a run.
    pub signal: Option<i32>,
    /// Why the term was lost, which stopped the job.
    pub lost: Option<&'static str>,
}

/// The one run, and who is told of it in the end.
#[derive(Debug)]
pub(super) struct Once {
    outcome: Outcome,
    tell: oneshot::Sender<Outcome>,
}

impl Once {
    pub(super) fn new(tell: oneshot::Sender<Outcome>) -> Self {
        Self {
            outcome: Outcome::default(),
            tell,
        }
    }

    /// Its run was asked for.
    pub(super) fn asked(&mut self) {
        self.outcome.ran = true;
    }

    /// Its run was refused, and never began.
    pub(super) fn refused(&mut self) {
        self.outcome.ran = false;
    }

    /// The run ended, by itself or not.
    pub(super) fn ended(&mut self, end: &End) {
        self.outcome.ended = Some(end.clone());
    }

    /// The term was lost; the first reason is the one that counts.
    pub(super) fn lost(&mut self, reason: &'static str) {
        if self.outcome.ran && self.outcome.ended.is_none() {
            self.outcome.lost.get_or_insert(reason);
        }
    }

    /// Whether its run is over, or may be: there must not be another one.
    pub(super) fn is_done(&self) -> bool {
        self.outcome.ran
    }

    pub(super) fn tell(self) {
        // Who doesn't wait any more has no need to know.
        drop(self.tell.send(self.outcome));
    }
}

impl Candidate {
    /// Passes a signal on to the job; without one, a signal that ends processes ends the candidacy.
    pub(super) fn pass_on(&mut self, signal: i32, ends: bool) {
        let token = self.held.as_ref().and_then(super::Held::token);
        match (&self.run, token) {
            (Some(run), Some(token)) if run.hook.is_none() => {
                self.guarding.send(Request::Signal { token, signal });
            }
            _ if ends => {
                if let Some(once) = &mut self.once
                    && !once.is_done()
                {
                    once.outcome.signal.get_or_insert(signal);
                }
                self.on(Event::Shutdown);
            }
            _ => {}
        }
    }

    /// Ends a candidacy that has not come to lead.
    pub(super) fn give_up(&mut self) {
        let is_done = self.once.as_ref().is_some_and(Once::is_done);
        if !is_done && self.machine.role() != Role::Leading {
            self.on(Event::Shutdown);
        }
    }
}
