//! What the candidate makes of the words of the contest: the queue, the term, the lease.

use super::contest::Command;
use super::held::Wish;
use super::left::Left;
use super::successor::{Asked, Found};
use super::{Candidate, Report};
use crate::clock;
use crate::election::Progress;
use crate::election::control::Notice;
use crate::guardian::protocol::Request;
use crate::role::{Event, Reason, Role};
use crate::session::{Loss, Status};
use crate::term::record::StepDown;

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
            | Report::LoggedIn(_)
            | Report::Notice(_)
            | Report::Successor(..)
            | Report::MakeWay
            | Report::Left(Left::Unconfirmed) => {}
        }
        let report = match report {
            Report::Left(left) => return self.left(left),
            Report::LoggedIn(token) => return self.logged_in(token),
            report => report,
        };
        let lines = self.lines.clone();
        let Some(held) = &mut self.held else { return };
        let lease = held.lease;
        match report {
            Report::Granted(timing, status) => held.granted(timing, status),
            Report::Joined { position, revision } => {
                held.joined(position, revision);
                self.trouble.stands();
                lines.campaigning(lease, position);
            }
            Report::Progress(progress) => match progress {
                Progress::Behind(_) => {}
                Progress::Blocked(key) => lines.blocked(lease, &key),
                Progress::OffLease(key) => lines.off_lease(lease, &key),
                Progress::Unreadable(key) => lines.unreadable(lease, &key),
                // Whoever runs a command once has a job of its own.
                Progress::Differs(_) if self.once.is_some() => {}
                Progress::Differs(from) => lines.differs(lease, &from),
                Progress::Paused => lines.paused(lease),
                Progress::Delayed(delay) => lines.delayed(lease, delay),
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
                self.trouble.refused(&why);
                self.on(Event::Lost(Reason("refused")));
            }
            Report::Unreachable(_) => {
                if held.status.is_none() && !held.leaving {
                    self.on(Event::Lost(Reason("unreachable")));
                }
            }
            Report::Notice(notice) => self.noticed(notice),
            Report::Successor(wish, found) => self.successor(wish, found),
            Report::MakeWay => {
                lines.making_way(lease);
                self.on(Event::StepDown);
            }
            Report::Left(_) | Report::LoggedIn(_) => {}
        }
    }

    pub(super) fn lost(&mut self, loss: &Loss) {
        if let (Loss::ClusterChanged(what) | Loss::Refused(what), Some(held)) = (loss, &self.held) {
            self.lines.refused(held.lease, what);
            self.trouble.refused(what);
        }
        self.on(Event::Lost(Reason(loss.reason())));
    }

    pub(super) fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::StepDown { request, asked_at } => self.step_down(Some((request, asked_at))),
            Notice::Paused { pause, .. } => {
                if pause.is_unreadable() {
                    self.unreadable(&self.config.election.prefix.pause());
                }
                if !pause.as_ref().is_some_and(|pause| pause.keep_leader) {
                    self.on(Event::StepDown);
                }
            }
            Notice::Unreadable(key) => self.unreadable(&key),
            Notice::Lost(_) => {}
        }
    }

    /// Says that a record can't be read which may be meant for this term.
    fn unreadable(&self, key: &str) {
        if let Some(held) = &self.held {
            self.lines.unreadable(held.lease, key);
        }
    }

    /// Steps down if somebody can follow, which the contest has to look up. Asked by the record
    /// with this mod_revision, or by a signal. The last wish counts.
    pub(super) fn step_down(&mut self, wish: Option<(StepDown, i64)>) {
        let leads = self.machine.role() == Role::Leading;
        let Some(held) = self.held.as_mut().filter(|held| held.term.is_some()) else {
            return self.lines.step_down_without_term();
        };
        let (request, asked_at) = wish.unzip();
        if held.wish.is_some() && asked_at.is_some() && asked_at == held.resignation.step_down {
            // The lookout has watched anew, and found what it had told before.
            return;
        }
        // After a signal the record of an earlier wish is there yet, and shares the signal's fate.
        held.resignation.step_down = asked_at.or(held.resignation.step_down);
        if !leads {
            // The term ends already; the record goes with it.
            return;
        }
        self.wishes += 1;
        let by = request.as_ref().map_or("signal", |request| &request.by);
        let (number, by) = (self.wishes, by.to_owned());
        let (lease, token) = (held.lease, held.token().unwrap_or_default());
        tracing::debug!(%lease, token, by, "asked to step down");
        if let Some(earlier) = held.wish.replace(Wish { number, by }) {
            let why = format!("another wish has overtaken that of {}", earlier.by);
            self.lines.not_stepping_down(lease, token, &why);
        }
        self.contest.send(Command::LookForSuccessor(Asked {
            wish: number,
            token,
            to: request.as_ref().and_then(|request| request.to.clone()),
            force: request.is_some_and(|request| request.force),
            limit: held.timing.attempt_limit(),
        }));
    }

    /// The contest has looked for who can follow, as the wish with this number asks.
    pub(super) fn successor(&mut self, number: u64, found: Found) {
        let leads = self.machine.role() == Role::Leading;
        let Some(held) = &mut self.held else { return };
        let (Some(wish), Some(token)) = (
            held.wish.take_if(|wish| wish.number == number),
            held.token().filter(|_| leads),
        ) else {
            return;
        };
        let lease = held.lease;
        let stays = match found {
            Ok(Ok(())) => {
                self.lines.stepping_down(lease, token, &wish.by);
                return self.on(Event::StepDown);
            }
            Ok(Err(why)) => why,
            Err(error) => format!("the queue can't be read: {error}"),
        };
        self.lines.not_stepping_down(lease, token, &stays);
        if let Some(asked_at) = held.resignation.step_down.take() {
            // Nobody is to come to it later, when whoever asked has long done something else.
            let limit = held.timing.attempt_limit();
            self.contest.send(Command::TakeBack(asked_at, limit));
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
            held.say_lost_with_lease(&self.lines, left);
            if !held.resigned_by_guardian {
                self.lines.resigned(held.lease, held.token(), confirmed);
            }
            self.guarding.send(Request::Forget { lease: held.lease });
            // What may live on is the stop hook's to try.
            let lives = |status: Status| !status.deadline.has_passed();
            if confirmed || !held.current().is_some_and(lives) {
                drop(self.files.remove(held.lease));
            }
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
