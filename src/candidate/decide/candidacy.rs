//! A candidacy: from the choice of its lease, over the queue, until everything is given back.

use std::time::Duration;

use super::Mind;
use super::once::Once;
use super::place::{After, Candidacy, Held, Job, Limit, Out, Pause, Place, Tenure};
use super::slots::Planning;
use super::tenure::Stop;
use super::words::{Action, Command, Elected, Joined, Left, Line, Role};
use crate::election::Progress;
use crate::etcd;
use crate::guardian::protocol::Request;
use crate::keys::LeaseId;
use crate::reason::EndReason;
use crate::session::{Loss, Status};
use crate::term::resignation::Resignation;

/// Pause before a candidate stands again that the store's memory or identity rules out.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);

impl Mind {
    /// The role to publish.
    pub(in crate::candidate) fn role(&self) -> Role {
        match self.place {
            Place::Out(_) if self.is_ill() => Role::Unhealthy,
            // What was lost may take long to be given back to a store that is away.
            Place::Out(Out {
                cooldown: false, ..
            })
            | Place::GivingBack(_, After::Rejoin(Pause::Backoff(_))) => Role::Waiting,
            Place::Out(Out { cooldown: true, .. })
            | Place::GivingBack(_, After::Rejoin(Pause::Cooldown(_))) => Role::Cooldown,
            Place::Standing(_) => Role::Campaigning,
            Place::Leading(..) => Role::Leading,
            Place::Ending(..) | Place::GivingBack(..) | Place::Over => Role::Stopping,
        }
    }

    /// The time to stand for election has come. Without a guardian or its health it stands later.
    pub(super) fn rejoin_due(&mut self) {
        if self.guardian.gone || !self.is_well() {
            if let Place::Out(out) = &mut self.place {
                out.rejoin_at = None;
            }
            return;
        }
        self.stand();
    }

    /// Stands for election if the time for it came while it could not.
    pub(super) fn make_up(&mut self) {
        if matches!(
            self.place,
            Place::Out(Out {
                rejoin_at: None,
                ..
            })
        ) {
            self.rejoin_due();
        }
    }

    /// Chooses a lease; it is contended with once guardian and stop hook know it (R6).
    fn stand(&mut self) {
        let lease = LeaseId::random(self.random);
        let resignation = Resignation {
            store: self.config.etcd.clone(),
            cluster: 0,
            prefix: self.config.election.prefix.clone(),
            candidate: self.config.candidate_name.clone(),
            lease,
            ttl: self.timing.ttl(),
            attempt_limit: self.timing.attempt_limit(),
            token: None,
            may_mark: false,
            step_down: None,
            close: None,
        };
        self.planning = self.setup().map(Planning::new);
        self.act(Action::Prepare(resignation.clone()));
        self.place = Place::Standing(Box::new(Candidacy {
            lease,
            resignation,
            timing: self.timing,
            since: self.now,
            status: None,
            joined: None,
            turn: None,
        }));
    }

    /// Guardian and stop hook know the lease: it may be granted.
    pub(super) fn prepared(&mut self, lease: LeaseId) {
        if let Place::Standing(candidacy) = &self.place
            && candidacy.lease == lease
        {
            let timing = candidacy.timing;
            let scheduled = self.planning.is_some();
            self.ask(Command::Contend {
                lease,
                timing,
                scheduled,
                turn: self.turn,
            });
        }
    }

    /// The store has answered.
    pub(super) fn store_answers(&mut self) {
        let line = self.trouble.over(self.now);
        self.actions.extend(line.map(Action::Say));
    }

    pub(super) fn unreachable(&mut self, error: &etcd::Error) {
        let line = self.trouble.failed(self.now, &error.to_string(), self.now);
        self.actions.extend(line.map(Action::Say));
        if let Place::Standing(candidacy) = &self.place
            && candidacy.status.is_none()
        {
            self.lose(EndReason::Unreachable);
        }
    }

    pub(super) fn lease_is_known(&mut self, status: Status) {
        match &status.trouble {
            Some(trouble) => {
                let (since, error) = (trouble.since, trouble.error.to_string());
                let line = self.trouble.failed(since, &error, self.now);
                self.actions.extend(line.map(Action::Say));
            }
            None => self.store_answers(),
        }
        let deadline = status.deadline;
        self.place.know(status);
        if let Some(token) = self.place.tenure().map(|tenure| tenure.token)
            && self.guardian.silence.deadline(token, deadline)
        {
            self.tell(Request::Deadline { token, deadline });
        }
    }

    pub(super) fn joined(&mut self, joined: Joined) {
        self.store_answers();
        if let Some(candidacy) = self.place.candidacy_mut() {
            let (lease, position) = (candidacy.lease, joined.position);
            candidacy.joined = Some(joined);
            candidacy.turn = self.turn.take();
            self.trouble.stands();
            self.say(Line::Campaigning { lease, position });
        }
    }

    pub(super) fn progress(&mut self, progress: Progress) {
        self.store_answers();
        let Some(candidacy) = self.place.candidacy() else {
            return;
        };
        let lease = candidacy.lease;
        self.say(match progress {
            Progress::Behind(_) => return,
            Progress::Blocked(key) => Line::Blocked { lease, key },
            Progress::OffLease(key) => Line::OffLease { lease, key },
            Progress::Unreadable(key) => Line::Unreadable { lease, key },
            // Whoever runs a command once has a job of its own.
            Progress::Differs(_) if self.once.is_some() => return,
            Progress::Differs(from) => Line::Differs { lease, from },
            Progress::Paused => Line::Paused { lease },
            Progress::Delayed(delay) => Line::Delayed { lease, delay },
        });
    }

    pub(super) fn elected(&mut self, elected: Elected) {
        self.store_answers();
        match std::mem::take(&mut self.place) {
            Place::Standing(candidacy) => {
                let (lease, token) = (candidacy.lease, elected.token);
                let waited = self.now.since(candidacy.since);
                self.say(Line::Elected {
                    lease,
                    token,
                    waited,
                });
                let tenure = Box::new(Tenure::new(*candidacy, elected));
                self.place = Place::Leading(tenure, Job::Due(self.now));
                self.start_run();
            }
            // The contest gives it back by itself.
            place => self.place = place,
        }
    }

    pub(super) fn lost(&mut self, loss: &Loss) {
        let why = match loss {
            Loss::ClusterChanged(why) => Some(why.clone()),
            Loss::Refused(error) => Some(error.to_string()),
            _ => None,
        };
        if let (Some(why), Some(candidacy)) = (why, self.place.candidacy()) {
            let lease = candidacy.lease;
            self.refuses(lease, &why);
        }
        self.lose(loss.reason());
    }

    pub(super) fn refused(&mut self, why: &str) {
        if let Some(candidacy) = self.place.candidacy() {
            let lease = candidacy.lease;
            self.refuses(lease, why);
            self.lose(EndReason::Refused);
        }
    }

    /// The store, or a rule, refuses what this replica needs to lead.
    fn refuses(&mut self, lease: LeaseId, why: &str) {
        let reason = why.to_owned();
        self.say(Line::Refused { lease, reason });
        self.trouble.refused(why);
    }

    /// The candidacy or the term is gone in the store's eyes, or can never lead.
    fn lose(&mut self, reason: EndReason) {
        match self.place {
            Place::Standing(_) => self.give_back(After::Rejoin(Pause::Backoff(reason))),
            Place::Leading(..) => self.lose_term(reason, Stop::Kill),
            Place::Ending(..) => {
                self.term_is_lost();
                self.kill_job();
            }
            _ => {}
        }
    }

    /// Gives back what is held, whose tree is empty (R5).
    pub(super) fn give_back(&mut self, after: After) {
        // What is to be recorded of the last run goes with it.
        self.plan_over();
        let held = match std::mem::take(&mut self.place) {
            Place::Standing(candidacy) => Held::Place(candidacy),
            Place::Ending(tenure, _) => Held::Term(tenure),
            place => {
                self.place = place;
                return;
            }
        };
        let (resignation, reason) = match &held {
            Held::Place(candidacy) => (candidacy.resignation.clone(), EndReason::Resigned),
            Held::Term(tenure) => (tenure.candidacy.resignation.clone(), tenure.reason),
        };
        // No word is expected of the guardian any more.
        self.guardian.silence = super::Silence::default();
        if let Held::Term(tenure) = &held
            && tenure.guard != super::place::Guard::None
        {
            let token = tenure.token;
            self.tell(Request::EndTerm { token });
        }
        self.place = Place::GivingBack(held, after);
        self.ask(Command::GiveBack(resignation, reason));
        if let After::Exit(limit) = after {
            self.hurry(limit);
        }
    }

    /// Gives back no longer than this.
    pub(super) fn hurry(&mut self, limit: Limit) {
        let Some(candidacy) = self.place.candidacy() else {
            return;
        };
        let status = self.place.status();
        let once = self.now + candidacy.timing.attempt_limit();
        let until = match (limit, status) {
            // Not even a lease was granted, and to give back is not answered any sooner.
            (_, None) if self.trouble.away().is_some() => self.now,
            (Limit::Deadline, Some(status)) => status.deadline.max(once),
            (Limit::Deadline, None) | (Limit::OneAttempt, _) => once,
        };
        self.ask(Command::Hurry(until));
    }

    /// Everything is given back, or can't be.
    pub(super) fn left(&mut self, left: Left) {
        if left != Left::Unconfirmed {
            self.store_answers();
        }
        let (held, after) = match std::mem::take(&mut self.place) {
            Place::GivingBack(held, after) => (held, after),
            place => {
                self.place = place;
                return;
            }
        };
        let confirmed = left != Left::Unconfirmed;
        let (candidacy, tenure) = match held {
            Held::Place(candidacy) => (*candidacy, None),
            Held::Term(mut tenure) => {
                let line = tenure.say_lost_with_lease(left);
                self.actions.extend(line.map(Action::Say));
                let ended = tenure.ended();
                let Tenure {
                    candidacy,
                    token,
                    status,
                    resigned_by_guardian,
                    ..
                } = *tenure;
                let status = Some(status);
                let candidacy = Candidacy {
                    status,
                    ..candidacy
                };
                (candidacy, Some((token, ended, resigned_by_guardian)))
            }
        };
        let lease = candidacy.lease;
        if !matches!(tenure, Some((.., true))) {
            let token = tenure.map(|(token, ..)| token);
            self.say(Line::Resigned {
                lease,
                token,
                confirmed,
            });
        }
        self.tell(Request::Forget { lease });
        // What may live on is the stop hook's to try.
        let lives = |status: &Status| self.now < status.deadline;
        if confirmed || !candidacy.status.as_ref().is_some_and(lives) {
            self.act(Action::RemoveLeaseFile(lease));
        }
        if let Some((_, ended, _)) = tenure {
            self.act(Action::TermOver(ended));
        }
        if tenure.is_some() || self.now.since(candidacy.since) > self.timing.ttl() {
            self.rejoin.reset();
        }
        match after {
            After::Exit(_) => self.exit(),
            // The one run was had, or is wanted no more.
            After::Rejoin(_) if self.once.as_ref().is_some_and(Once::is_over) => self.exit(),
            After::Rejoin(pause) => self.stay_out(pause),
        }
    }

    fn stay_out(&mut self, pause: Pause) {
        let (span, cooldown) = match pause {
            Pause::None => (Duration::ZERO, false),
            Pause::Cooldown(after) => {
                self.say(Line::CoolingDown { after });
                (after, true)
            }
            Pause::Backoff(reason) => {
                let after = if reason.needs_operator() {
                    REFUSED_PAUSE
                } else {
                    self.rejoin.next(self.jitter())
                };
                self.say(Line::Rejoining { after, reason });
                (after, false)
            }
        };
        self.place = Place::Out(Out {
            rejoin_at: Some(self.now + span),
            cooldown,
        });
    }
}
