//! The contest of a simulated daemon: when it asks the store for what, and what it makes of the
//! answers. What they are worth is the product's to say: to the deadline (R1) and to a claim (R8,
//! R13).

use std::time::Duration;

mod answers;
mod slots;
mod successor;

use super::Mistake;
use super::chance::Chance;
use super::store::{Control, Recorded, Request};
use crate::candidate::decide::words::{Command, Event, Left};
use crate::clock::Instant;
use crate::config::timing::Timing;
use crate::election::claim::WaitedFor;
use crate::election::control::Notice;
use crate::etcd::Error;
use crate::etcd::keep_alive::Ack;
use crate::keys::LeaseId;
use crate::placement::preference::BY;
use crate::revision::{Revision, Token};
use crate::session::{Loss, Status};
use crate::term::record::{PauseRecord, Record, StepDown};
use crate::term::resignation::Resignation;
use slots::{AskedOfSlots, Lookout};
use successor::Looking;

/// Between attempts to give back.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What was asked, whose answer is awaited until then.
#[derive(Debug)]
struct Pending {
    number: u64,
    until: Instant,
}

/// How far the present attempt to renew has come.
#[derive(Debug)]
enum Renewal {
    Idle(Instant),
    Renewing(Pending, Instant),
    Reading(Pending, Ack),
}

/// What the candidacy does beside its renewals.
#[derive(Debug)]
enum Stage {
    Granting(Pending, Instant),
    Joining(Pending),
    /// With the last renewal that was acknowledged before.
    Claiming(Pending, Ack),
    /// Until somebody in front is gone, or a pause is over.
    Waiting {
        predecessor: Option<Token>,
    },
    /// Until both clocks have come to the first; it is looked at the second whether they have.
    Delaying(Instant, Instant),
    /// The claim is complete but for a proven renewal.
    Proving,
    Leading,
    /// It is lost, or never began.
    Over,
}

/// A candidacy.
#[derive(Debug)]
struct Candidacy {
    lease: LeaseId,
    timing: Timing,
    status: Option<Status>,
    renewal: Renewal,
    stage: Stage,
    /// create_revision of its key, once it has joined.
    mine: Option<Token>,
    waited_for: WaitedFor,
    waited_out: Option<Token>,
    claimed: bool,
    /// The record of its term, until it stands.
    record: Option<Pending>,
    /// Whether something has changed since the claim was sent: a watch tells of it.
    changed: bool,
    /// Whether its loss was told.
    loss_told: bool,
    /// What it has looked at beside its key, where its job has a schedule.
    lookout: Option<Lookout>,
}

/// What is being given back.
#[derive(Debug)]
struct GivingBack {
    resignation: Resignation,
    pending: Option<Pending>,
    retry_at: Instant,
    /// Not longer than this.
    until: Option<Instant>,
}

/// The contest.
#[derive(Debug, Default)]
pub(super) struct Contest {
    candidacy: Option<Box<Candidacy>>,
    giving_back: Option<Box<GivingBack>>,
    /// The last lease that it knows to be granted: a grant that is heard after its revocation lasts for
    /// its TTL.
    pub(super) granted: Option<LeaseId>,
    /// A look for somebody who can follow.
    looking: Option<Looking>,
    /// The highest raft term that was seen.
    newest: u64,
    asked: u64,
    /// The pause and the wish that were told of last, by mod_revision.
    told_of: (Revision, Revision),
    pub(super) mistake: Option<Mistake>,
    takeover_delay: Duration,
    /// What is to be sent to the store, with its number.
    pub(super) requests: Vec<(u64, Request)>,
    /// What the candidate is to be told.
    pub(super) events: Vec<Event>,
    /// Whether it has begun to wait a term out, since that was asked last.
    pub(super) began_to_wait: bool,
    /// What is known of the lease, where that is news.
    pub(super) news: Option<Status>,
    /// What was asked of the schedule's records.
    asked_of_slots: Vec<AskedOfSlots>,
    /// The claims of the present candidacy that the store has acknowledged, by their nonces.
    pub(super) acknowledged: Vec<String>,
}

impl Contest {
    pub(super) fn new(takeover_delay: Duration, mistake: Option<Mistake>) -> Self {
        Self {
            mistake,
            takeover_delay,
            ..Self::default()
        }
    }

    fn ask(&mut self, request: Request, now: Instant, limit: Duration) -> Pending {
        self.asked += 1;
        self.requests.push((self.asked, request));
        Pending {
            number: self.asked,
            until: now + limit,
        }
    }

    /// The candidate asks for something.
    pub(super) fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Contend {
                lease,
                timing,
                scheduled,
                turn: _,
            } => {
                let ttl = super::chance::nanos(timing.ttl());
                let limit = timing.attempt_limit();
                let pending = self.ask(Request::Grant { lease, ttl }, now, limit);
                self.candidacy = Some(Box::new(Candidacy {
                    lease,
                    timing,
                    status: None,
                    renewal: Renewal::Idle(now),
                    stage: Stage::Granting(pending, now),
                    mine: None,
                    waited_for: WaitedFor::default(),
                    waited_out: None,
                    claimed: false,
                    record: None,
                    changed: false,
                    loss_told: false,
                    lookout: scheduled.then(Lookout::default),
                }));
                self.acknowledged.clear();
            }
            Command::GiveBack(mut resignation, _) => {
                let marks_early = self.mistake == Some(Mistake::MarkedInTheDelay);
                let candidacy = self.candidacy.take();
                if let Some(candidacy) = candidacy
                    && (candidacy.claimed || (marks_early && candidacy.mine.is_some()))
                {
                    resignation.token = candidacy.mine;
                    resignation.may_mark = true;
                }
                self.giving_back = Some(Box::new(GivingBack {
                    resignation,
                    pending: None,
                    retry_at: now,
                    until: None,
                }));
            }
            Command::Hurry(until) => {
                if let Some(giving_back) = &mut self.giving_back {
                    giving_back.until = Some(until);
                }
            }
            Command::LookForSuccessor(_) if self.mistake == Some(Mistake::WishIsForgotten) => {}
            Command::LookForSuccessor(asked) => self.look_for_successor(asked, now),
            Command::TakeBack(at, limit) => {
                self.ask(Request::TakeBack { at }, now, limit);
            }
            Command::Slots {
                lease,
                limit,
                request,
            } => self.ask_of_slots(lease, request, now, limit),
            Command::ShowUnkillable(..) => {}
            Command::Reload(_, takeover_delay, _) => {
                self.takeover_delay = self.takeover_delay.max(takeover_delay);
            }
        }
    }

    /// When it has something to do by itself.
    pub(super) fn timer(&self) -> Option<Instant> {
        let giving_back = self.giving_back.as_ref().map(|it| {
            let next = it
                .pending
                .as_ref()
                .map_or(it.retry_at, |pending| pending.until);
            it.until.map_or(next, |until| until.min(next))
        });
        let candidacy = self.candidacy.as_ref().and_then(|it| it.timer());
        let slots = self.asked_of_slots.iter().map(|asked| asked.until);
        let looking = self.looking.as_ref().and_then(Looking::timer);
        giving_back
            .into_iter()
            .chain(looking)
            .chain(candidacy)
            .chain(slots)
            .reduce(Instant::min)
    }

    /// Does what is due by now.
    pub(super) fn run(&mut self, now: Instant, chance: &mut Chance) {
        self.give_back(now);
        self.give_up_on_slots(now);
        self.look_once_more(now);
        let Some(mut candidacy) = self.candidacy.take() else {
            return;
        };
        self.renew(&mut candidacy, now, chance);
        self.go_on(&mut candidacy, now);
        self.candidacy = Some(candidacy);
    }

    fn give_back(&mut self, now: Instant) {
        let Some(mut it) = self.giving_back.take() else {
            return;
        };
        if it.until.is_some_and(|until| now >= until) {
            return self.events.push(Event::Left(Left::Unconfirmed));
        }
        let limit = it.resignation.attempt_limit;
        if it.pending.take_if(|pending| now >= pending.until).is_some() {
            self.events.push(Event::Unreachable(timeout(limit)));
            it.retry_at = now + RETRY_PAUSE;
        }
        if it.pending.is_none() && now >= it.retry_at {
            let mut resignation = it.resignation.clone();
            if self.mistake == Some(Mistake::CloseGoesNotWithTerm) {
                resignation.close = None;
            }
            let request = Request::give_back(resignation, now);
            it.pending = Some(self.ask(request, now, limit));
        }
        self.giving_back = Some(it);
    }

    /// The renewals, as far as they are a matter of time.
    fn renew(&mut self, it: &mut Candidacy, now: Instant, chance: &mut Chance) {
        let Some(status) = &mut it.status else { return };
        if status.loss.is_none() && now >= status.deadline {
            status.loss = Some(Loss::Expired);
            self.news = Some(status.clone());
        }
        // What hangs on an expired lease may not be over: it is renewed, and proves nothing (R5).
        let holds_on = it.claimed && status.loss == Some(Loss::Expired);
        if status.loss.is_some() && !holds_on {
            return;
        }
        let late = |pending: &Pending| now >= pending.until;
        match &it.renewal {
            Renewal::Idle(due) if now >= *due => {
                let (lease, limit) = (it.lease, it.timing.attempt_limit());
                let pending = self.ask(Request::Renew { lease }, now, limit);
                it.renewal = Renewal::Renewing(pending, now);
            }
            Renewal::Renewing(pending, _) | Renewal::Reading(pending, _) if late(pending) => {
                let pause = Duration::from_millis(10 + chance.up_to(40));
                it.renewal = Renewal::Idle(now + pause);
            }
            _ => {}
        }
    }

    /// The candidacy beside its renewals, as far as it is a matter of time.
    fn go_on(&mut self, it: &mut Candidacy, now: Instant) {
        let loss = it.status.as_ref().and_then(|status| status.loss.as_ref());
        if let Some(loss) = loss {
            if !std::mem::replace(&mut it.loss_told, true) {
                it.stage = Stage::Over;
                self.events.push(Event::Lost(loss.clone()));
            }
            return;
        }
        match &it.stage {
            Stage::Granting(pending, _) if now >= pending.until => {
                it.stage = Stage::Over;
                let limit = it.timing.attempt_limit();
                self.events.push(Event::Unreachable(timeout(limit)));
            }
            Stage::Joining(pending) if now >= pending.until => self.join(it, now),
            Stage::Claiming(pending, _) if now >= pending.until => self.claim(it, now),
            Stage::Delaying(until, look) if now >= *look => {
                let (until, left) = (*until, until.after_by_both(now));
                if left.is_zero() {
                    self.claim(it, now);
                } else {
                    it.stage = Stage::Delaying(until, now + left);
                }
            }
            Stage::Leading => {
                if it.record.as_ref().is_some_and(|it| now >= it.until) {
                    self.record(it, now);
                }
                self.look_again(it, now);
            }
            _ => {}
        }
    }

    /// Puts the term on record.
    fn record(&mut self, it: &mut Candidacy, now: Instant) {
        if self.mistake == Some(Mistake::RecordIsForgotten) {
            return;
        }
        let Some(token) = it.mine else { return };
        let recorded = Recorded {
            lease: it.lease,
            token,
            kill_budget: it.timing.kill_budget(),
            waited_out: it.waited_out,
        };
        let limit = it.timing.attempt_limit();
        it.record = Some(self.ask(Request::Record(recorded), now, limit));
    }

    fn join(&mut self, it: &mut Candidacy, now: Instant) {
        let (lease, limit) = (it.lease, it.timing.attempt_limit());
        it.stage = Stage::Joining(self.ask(Request::Join { lease }, now, limit));
    }

    fn wait(&mut self, it: &mut Candidacy, predecessor: Option<Token>, now: Instant) {
        it.stage = Stage::Waiting { predecessor };
        if it.changed {
            self.claim(it, now);
        }
    }

    fn claim(&mut self, it: &mut Candidacy, now: Instant) {
        if let (Some(status), Some(mine)) = (&it.status, it.mine) {
            let (limit, acked) = (it.timing.attempt_limit(), status.ack);
            let pending = self.ask(Request::Claim { mine }, now, limit);
            it.changed = false;
            it.stage = Stage::Claiming(pending, acked);
        }
    }

    // === what watches tell ===

    /// A key is gone.
    pub(super) fn saw_gone(&mut self, key: Token, now: Instant) {
        let Some(mut it) = self.candidacy.take() else {
            return;
        };
        let watched = self.mistake != Some(Mistake::OwnKeyIsNotWatched);
        if watched && it.mine == Some(key) && it.status.as_ref().is_some_and(|it| it.loss.is_none())
        {
            self.lose(&mut it, Loss::Deleted);
            self.go_on(&mut it, now);
        }
        it.changed = true;
        if let Stage::Waiting {
            predecessor: Some(predecessor),
        } = it.stage
            && predecessor == key
        {
            self.claim(&mut it, now);
        }
        self.candidacy = Some(it);
    }

    /// An operator's record is there, or gone.
    pub(super) fn saw_control(
        &mut self,
        Control {
            pause,
            wish,
            wanted,
        }: Control,
        now: Instant,
    ) {
        let Some(mut it) = self.candidacy.take() else {
            return;
        };
        it.changed = true;
        match it.stage {
            Stage::Waiting { .. } => self.claim(&mut it, now),
            Stage::Leading => {
                self.noticed(&mut it, pause, wanted);
                let unscheduled = it.lookout.is_none();
                if let Some(pause) = pause.filter(|it| unscheduled && it.at > self.told_of.0) {
                    self.told_of.0 = pause.at;
                    if !pause.keep_leader {
                        let (by, since) = (String::new(), String::new());
                        let keep_leader = false;
                        let pause_record = PauseRecord {
                            by,
                            since,
                            keep_leader,
                        };
                        self.events.push(Event::Notice(Notice::Paused {
                            pause: Record::Read(pause_record),
                            at: pause.at,
                        }));
                    }
                }
                if let Some(wish) = wish.filter(|wish| wish.at > self.told_of.1)
                    && (Some(wish.token) == it.mine || self.heeds_every_wish())
                {
                    self.told_of.1 = wish.at;
                    let by = if wish.by_preference { BY } else { "" };
                    let request = StepDown {
                        by: by.to_owned(),
                        since: String::new(),
                        token: it.mine.unwrap_or(wish.token),
                        to: wish.to.map(|to| to.to_string()),
                        force: false,
                        between_runs: wish.by_preference
                            && self.mistake != Some(Mistake::HandsOverInRun),
                    };
                    let asked_at = wish.at;
                    self.events
                        .push(Event::Notice(Notice::StepDown { request, asked_at }));
                }
            }
            _ => {}
        }
        self.candidacy = Some(it);
    }

    /// Whether it has nothing to say, neither to the store nor to the candidate.
    pub(super) const fn is_silent(&self) -> bool {
        self.requests.is_empty() && self.events.is_empty() && !self.began_to_wait
    }

    /// Whether it is waiting an earlier term out.
    pub(super) fn waits_out(&self) -> bool {
        let stage = self.candidacy.as_ref().map(|it| &it.stage);
        matches!(stage, Some(Stage::Delaying(..)))
    }

    /// Whether its claim is complete, and its term goes on.
    pub(super) fn leads(&self) -> bool {
        let stage = self.candidacy.as_ref().map(|it| &it.stage);
        matches!(stage, Some(Stage::Leading))
    }

    /// create_revision of the key of its candidacy, if it has one.
    pub(super) fn mine(&self) -> Option<Token> {
        self.candidacy.as_ref().and_then(|it| it.mine)
    }
}

impl Candidacy {
    /// When the next renewal is due, after one that was sent then.
    fn next_due(&self, sent: Instant) -> Instant {
        sent + if self.claimed {
            self.timing.renewal_interval()
        } else {
            self.timing.waiting_interval()
        }
    }

    fn timer(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Granting(pending, _) | Stage::Joining(pending) | Stage::Claiming(pending, _) => {
                Some(pending.until)
            }
            Stage::Delaying(_, look) => Some(*look),
            Stage::Leading => {
                let record = self.record.as_ref().map(|record| record.until);
                let look = self.lookout.as_ref().and_then(Lookout::timer);
                record.into_iter().chain(look).reduce(Instant::min)
            }
            Stage::Waiting { .. } | Stage::Proving | Stage::Over => None,
        };
        let Some(status) = &self.status else {
            return stage;
        };
        let holds_on = self.claimed && status.loss == Some(Loss::Expired);
        if status.loss.is_some() && !holds_on {
            return None;
        }
        let renewal = match &self.renewal {
            Renewal::Idle(due) => *due,
            Renewal::Renewing(pending, _) | Renewal::Reading(pending, _) => pending.until,
        };
        let deadline = status.loss.is_none().then_some(status.deadline);
        let stage = stage.filter(|_| status.loss.is_none());
        stage
            .into_iter()
            .chain(deadline)
            .chain([renewal])
            .reduce(Instant::min)
    }
}

fn timeout(limit: Duration) -> Error {
    Error::Timeout {
        endpoint: String::new(),
        limit,
    }
}
