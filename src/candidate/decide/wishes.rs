//! Operators' wishes: to step down, to pause, to make way.

use super::Mind;
use super::place::{After, Pause, Place, Wish};
use super::tenure::Stop;
use super::words::{Asked, Command, Found, Line};
use crate::election::control::Notice;
use crate::revision::Revision;
use crate::schedule::planner::Event as Told;
use crate::term::record::StepDown;

impl Mind {
    pub(super) fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::StepDown { request, asked_at } => self.step_down(Some((request, asked_at))),
            Notice::Paused { pause, .. } => {
                if pause.is_unreadable() {
                    self.unreadable(self.config.election.prefix.pause());
                }
                self.plan(Told::Paused(true));
                if !pause.as_ref().is_some_and(|pause| pause.keep_leader) {
                    self.leave_to_others();
                }
            }
            Notice::Resumed => self.plan(Told::Paused(false)),
            Notice::Slots { at } => self.slots_changed(at),
            Notice::Trigger { request, asked_at } => self.trigger(&request, asked_at),
            Notice::Unreadable(key) => self.unreadable(key),
            Notice::Lost(_) => {}
        }
    }

    /// Says that a record can't be read which may be meant for this candidacy.
    fn unreadable(&mut self, key: String) {
        if let Some(candidacy) = self.place.candidacy() {
            let lease = candidacy.lease;
            self.say(Line::Unreadable { lease, key });
        }
    }

    pub(super) fn make_way(&mut self) {
        if let Some(candidacy) = self.place.candidacy() {
            let lease = candidacy.lease;
            self.say(Line::MakingWay { lease });
            self.leave_to_others();
        }
    }

    /// Lets somebody else lead.
    pub(super) fn leave_to_others(&mut self) {
        let after = After::Rejoin(Pause::None);
        match self.place {
            Place::Standing(_) => self.give_back(after),
            Place::Leading(..) => self.end(after, Stop::Planned),
            _ => {}
        }
    }

    /// Steps down if somebody can follow, which the contest has to look up. Asked by the record
    /// with this mod_revision, or by a signal. The last wish counts.
    pub(super) fn step_down(&mut self, wish: Option<(StepDown, Revision)>) {
        let leads = matches!(self.place, Place::Leading(..));
        let Some(tenure) = self.place.tenure_mut() else {
            let reason = "not the leader".to_owned();
            let term = None;
            return self.say(Line::NotSteppingDown { term, reason });
        };
        let (request, asked_at) = wish.unzip();
        let known = &mut tenure.candidacy.resignation.step_down;
        if tenure.wish.is_some() && asked_at.is_some() && asked_at == *known {
            // The lookout has watched anew, and found what it had told before.
            return;
        }
        // After a signal the record of an earlier wish is there yet, and shares the signal's fate.
        *known = asked_at.or(*known);
        if !leads {
            // The term ends already; the record goes with it.
            return;
        }
        self.wishes += 1;
        let by = request.as_ref().map_or("signal", |request| &request.by);
        let (number, by) = (self.wishes, by.to_owned());
        let (lease, token, limit) = (
            tenure.lease(),
            tenure.token,
            tenure.timing().attempt_limit(),
        );
        let earlier = tenure.wish.replace(Wish {
            number,
            by: by.clone(),
            between_runs: request.as_ref().is_some_and(|it| it.between_runs),
        });
        self.say(Line::AskedToStepDown { lease, token, by });
        if let Some(earlier) = earlier {
            let reason = format!("another wish has overtaken that of {}", earlier.by);
            let term = Some((lease, token));
            self.say(Line::NotSteppingDown { term, reason });
        }
        self.ask(Command::LookForSuccessor(Asked {
            wish: number,
            token,
            to: request.as_ref().and_then(|request| request.to.clone()),
            force: request.is_some_and(|request| request.force),
            limit,
        }));
    }

    /// The contest has looked for who can follow, as the wish with this number asks.
    pub(super) fn successor(&mut self, number: u64, found: Found) {
        let leads = matches!(self.place, Place::Leading(..));
        // Until now a run may have begun.
        let is_in_run = self.is_in_run();
        let Some(tenure) = self.place.tenure_mut() else {
            return;
        };
        let wish = tenure.wish.take_if(|wish| wish.number == number);
        let Some(wish) = wish.filter(|_| leads) else {
            return;
        };
        let (lease, token) = (tenure.lease(), tenure.token);
        let reason = match found {
            Ok(Ok(())) if wish.between_runs && is_in_run => "a run goes on".to_owned(),
            Ok(Ok(())) => {
                let by = wish.by;
                self.say(Line::SteppingDown { lease, token, by });
                return self.leave_to_others();
            }
            Ok(Err(why)) => why,
            Err(error) => format!("the queue can't be read: {error}"),
        };
        let limit = tenure.timing().attempt_limit();
        let asked_at = tenure.candidacy.resignation.step_down.take();
        let term = Some((lease, token));
        self.say(Line::NotSteppingDown { term, reason });
        if let Some(asked_at) = asked_at {
            // Nobody is to come to it later, when whoever asked has long done something else.
            self.ask(Command::TakeBack(asked_at, limit));
        }
    }
}
