//! What the candidate makes of the words of the contest: the queue, the term, the lease.

use super::contest::Left;
use super::{Candidate, Report};
use crate::clock;
use crate::election::Progress;
use crate::election::control::Notice;
use crate::etcd::Error;
use crate::guardian::protocol::Request;
use crate::role::{Event, Reason};
use crate::session::Loss;

impl Candidate {
    pub(super) fn reported(&mut self, report: Report) {
        match &report {
            Report::Unreachable(error) => {
                self.trouble
                    .failed(clock::now(), &error.to_string(), &self.lines);
            }
            Report::Granted(..)
            | Report::Joined { .. }
            | Report::Progress(_)
            | Report::Elected(..)
            | Report::Left(Left::Revoked | Left::Gone) => self.trouble.over(&self.lines),
            // None of these shows that the store is there.
            Report::Lost(_)
            | Report::Refused(_)
            | Report::Notice(_)
            | Report::Others(_)
            | Report::Left(Left::Unconfirmed) => {}
        }
        if let Report::Left(left) = report {
            return self.left(left);
        }
        let lines = self.lines.clone();
        let Some(held) = &mut self.held else { return };
        let lease = held.lease;
        match report {
            Report::Granted(timing, status) => held.granted(timing, status),
            Report::Joined { position, revision } => {
                held.joined(position, revision);
                lines.campaigning(lease, position);
            }
            Report::Progress(progress) => match progress {
                Progress::Behind(_) => {}
                Progress::Blocked(key) => lines.blocked(lease, &key),
                Progress::Paused => lines.paused(lease),
                Progress::Delayed => lines.delayed(lease, self.config.election.takeover_delay),
            },
            // The contest gives it back by itself.
            Report::Elected(..) if held.leaving => {}
            Report::Elected(term, since, recorded) => {
                self.guarding.hold(recorded);
                lines.elected(lease, term.token(), clock::now().since(held.since));
                held.elected(term, &since);
                self.on(Event::Elected);
            }
            Report::Lost(loss) => self.lost(&loss),
            Report::Refused(why) => {
                lines.refused(lease, &why);
                self.on(Event::Lost(Reason("refused")));
            }
            Report::Unreachable(_) => {
                if held.status.is_none() && !held.leaving {
                    self.on(Event::Lost(Reason("unreachable")));
                }
            }
            Report::Notice(notice) => self.noticed(notice),
            Report::Others(others) => self.others(others),
            Report::Left(_) => {}
        }
    }

    pub(super) fn lost(&mut self, loss: &Loss) {
        if let (Loss::ClusterChanged(what) | Loss::Refused(what), Some(held)) = (loss, &self.held) {
            self.lines.refused(held.lease, what);
        }
        self.on(Event::Lost(Reason(loss.reason())));
    }

    pub(super) fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::StepDown { request, asked_at } => {
                if let Some(held) = &mut self.held {
                    held.resignation.step_down = Some(asked_at);
                }
                self.step_down(&request.by);
            }
            Notice::Paused(pause) if !pause.keep_leader => self.on(Event::StepDown),
            Notice::Paused(_) | Notice::Lost(_) => {}
        }
    }

    pub(super) fn others(&mut self, others: Result<bool, Error>) {
        let Some(held) = &mut self.held else { return };
        let (Some(by), Some(token)) = (held.step_down_by.take(), held.token()) else {
            return;
        };
        match others {
            Ok(true) => {
                self.lines.stepping_down(held.lease, token, &by);
                self.on(Event::StepDown);
            }
            Ok(false) => {
                held.resignation.step_down = None;
                self.lines.step_down_alone(held.lease, token);
            }
            Err(error) => {
                let error = error.to_string();
                self.lines.step_down_failed(held.lease, token, &error);
            }
        }
    }

    pub(super) fn status_changed(&mut self) {
        let Some(held) = &mut self.held else { return };
        let Some(status) = held.current() else { return };
        match &status.trouble {
            Some(trouble) => {
                self.trouble
                    .failed(trouble.since, &trouble.error.to_string(), &self.lines);
            }
            None => self.trouble.over(&self.lines),
        }
        if let Some(token) = held.token() {
            self.guarding.move_deadline(token, status.deadline);
        }
    }

    /// Everything is given back, or can't be.
    pub(super) fn left(&mut self, left: Left) {
        if let Some(mut held) = self.held.take() {
            let confirmed = left != Left::Unconfirmed;
            held.say_lost_with_lease(&self.lines, left == Left::Gone);
            if !held.resigned_by_guardian {
                self.lines.resigned(held.lease, held.token(), confirmed);
            }
            self.guarding.send(Request::Forget { lease: held.lease });
            drop(self.files.remove(held.lease));
            if held.term.is_some() {
                self.metrics.term_ended(held.ended());
            }
            let survived = clock::now().since(held.since);
            if held.term.is_some() || survived > self.timing.ttl() {
                self.rejoin.reset();
            }
        }
        self.on(Event::Left);
    }
}
