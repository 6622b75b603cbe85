//! What a simulated contest makes of the store's answers.

use std::time::Duration;

use super::{Candidacy, Contest, GivingBack, Renewal, Stage};
use crate::candidate::decide::words::{Elected, Event, Joined, Left};
use crate::candidate::histories::Mistake;
use crate::candidate::histories::store::{Answer, Request};
use crate::clock::Instant;
use crate::election::claim::{ClaimStep, WaitedFor};
use crate::etcd::keep_alive::Ack;
use crate::keys::Prefix;
use crate::session::deadline::{is_enough, is_proven};
use crate::session::{Loss, Status};

impl Contest {
    /// The store answers the request with this number.
    pub(in crate::candidate::histories) fn answered(
        &mut self,
        number: u64,
        answer: Answer,
        raft_term: u64,
        now: Instant,
    ) {
        self.newest = self.newest.max(raft_term);
        if self.looked(number, &answer, now) {
            return;
        }
        let Some(answer) = self.slots_answered(number, answer) else {
            return;
        };
        let given_back = |it: &mut Box<GivingBack>| {
            let pending = it.pending.as_ref();
            pending.is_some_and(|pending| pending.number == number)
        };
        if self.giving_back.take_if(given_back).is_some() {
            let left = match answer {
                Answer::GivenBack { was_there: true } => Left::Revoked,
                _ => Left::Gone,
            };
            return self.events.push(Event::Left(left));
        }
        if let Some(mut candidacy) = self.candidacy.take() {
            self.renewal_answered(&mut candidacy, number, &answer, raft_term, now);
            self.stage_answered(&mut candidacy, number, answer, raft_term, now);
            self.candidacy = Some(candidacy);
        }
    }

    pub(super) fn lose(&mut self, it: &mut Candidacy, loss: Loss) {
        if let Some(status) = &mut it.status {
            status.loss.get_or_insert(loss);
            self.news = Some(status.clone());
        }
    }

    fn renewal_answered(
        &mut self,
        it: &mut Candidacy,
        number: u64,
        answer: &Answer,
        raft_term: u64,
        now: Instant,
    ) {
        match (&it.renewal, answer) {
            (Renewal::Renewing(pending, sent), answer) if pending.number == number => {
                let mut sent = *sent;
                if matches!(answer, Answer::Gone) {
                    return self.lose(it, Loss::Revoked);
                }
                if self.mistake == Some(Mistake::DeadlineFromReply) {
                    sent = now;
                }
                let ack = Ack {
                    sent,
                    ttl: 1,
                    raft_term,
                };
                let Some(status) = &mut it.status else { return };
                if let Some(token) = it.mine.filter(|_| it.claimed) {
                    let limit = it.timing.attempt_limit();
                    if self.mistake == Some(Mistake::BelievesEveryAck) {
                        status.proven(ack, it.timing);
                        self.news = Some(status.clone());
                        it.renewal = Renewal::Idle(it.next_due(sent));
                        return self.lead(it, now);
                    }
                    let pending = self.ask(Request::Read { token }, now, limit);
                    it.renewal = Renewal::Reading(pending, ack);
                } else {
                    status.acknowledged(ack, it.timing);
                    self.news = Some(status.clone());
                    it.renewal = Renewal::Idle(it.next_due(sent));
                }
            }
            (Renewal::Reading(pending, ack), answer) if pending.number == number => {
                let ack = *ack;
                if matches!(answer, Answer::Gone) {
                    return self.lose(it, Loss::Deleted);
                }
                let proves = is_proven(ack, raft_term, self.newest);
                if proves || self.mistake == Some(Mistake::AnyReadProves) {
                    if let Some(status) = &mut it.status {
                        status.proven(ack, it.timing);
                        self.news = Some(status.clone());
                    }
                    it.renewal = Renewal::Idle(it.next_due(ack.sent));
                    self.lead(it, now);
                } else {
                    it.renewal = Renewal::Idle(now + Duration::from_millis(10));
                }
            }
            _ => {}
        }
    }

    fn stage_answered(
        &mut self,
        it: &mut Candidacy,
        number: u64,
        answer: Answer,
        raft_term: u64,
        now: Instant,
    ) {
        if it
            .record
            .take_if(|record| record.number == number)
            .is_some()
        {
            return;
        }
        if let Answer::Control(control) = answer {
            return self.looked_around(it, number, control, now);
        }
        match (&it.stage, answer) {
            (Stage::Granting(pending, sent), Answer::Granted) if pending.number == number => {
                let ack = Ack {
                    sent: *sent,
                    ttl: 1,
                    raft_term,
                };
                let status = Status::granted(ack, it.timing);
                it.renewal = Renewal::Idle(it.next_due(ack.sent));
                it.status = Some(status.clone());
                self.granted = Some(it.lease);
                self.events.push(Event::Granted(it.timing, status));
                self.join(it, now);
            }
            (Stage::Joining(pending), Answer::Joined { token, position })
                if pending.number == number =>
            {
                it.mine = Some(token);
                self.events.push(Event::Joined(Joined {
                    position,
                    revision: token,
                    at: "".into(),
                }));
                self.claim(it, now);
            }
            (Stage::Joining(pending), Answer::Gone) if pending.number == number => {
                self.lose(it, Loss::Revoked);
            }
            (Stage::Claiming(pending, _), Answer::Gone) if pending.number == number => {
                self.lose(it, Loss::Deleted);
            }
            (
                Stage::Claiming(pending, _),
                Answer::Behind {
                    predecessor,
                    makes_way,
                },
            ) if pending.number == number => {
                if makes_way {
                    it.stage = Stage::Over;
                    return self.events.push(Event::MakeWay);
                }
                it.waited_out = None;
                it.waited_for = WaitedFor {
                    token: Some(predecessor),
                    in_front: true,
                };
                self.wait(it, Some(predecessor), now);
            }
            (Stage::Claiming(pending, acked), Answer::First(standing))
                if pending.number == number =>
            {
                let (Some(mine), acked) = (it.mine, *acked) else {
                    return;
                };
                let prefix = Prefix::new("/a");
                let delayed = it.waited_out.is_some();
                match standing.next(&prefix, mine, it.waited_for, delayed) {
                    ClaimStep::Refuse(why) => {
                        it.stage = Stage::Over;
                        self.events.push(Event::Refused(why));
                    }
                    ClaimStep::Pause(_) if self.mistake != Some(Mistake::PauseIsPassedOver) => {
                        self.wait(it, None, now);
                    }
                    ClaimStep::Delay if self.mistake != Some(Mistake::NoTakeoverDelay) => {
                        let own = self.takeover_delay;
                        let delay = match self.mistake {
                            Some(Mistake::DelayByOwnBudget) => own,
                            _ => standing.delay(own),
                        };
                        it.waited_out = standing.last(mine, it.waited_for);
                        it.stage = Stage::Delaying(now + delay, now + delay);
                        self.began_to_wait = true;
                    }
                    ClaimStep::Pause(_) | ClaimStep::Delay | ClaimStep::Lead => {
                        self.claimed(it, acked, raft_term, now);
                    }
                }
            }
            _ => {}
        }
    }

    fn claimed(&mut self, it: &mut Candidacy, acked: Ack, raft_term: u64, now: Instant) {
        it.claimed = true;
        it.stage = Stage::Proving;
        let idle = matches!(it.renewal, Renewal::Idle(_));
        if idle && is_enough(acked, raft_term, self.newest, it.timing, now) {
            if let Some(status) = &mut it.status {
                status.proven(acked, it.timing);
                self.news = Some(status.clone());
            }
            it.renewal = Renewal::Idle(it.next_due(acked.sent).max(now));
            self.lead(it, now);
        } else {
            // A renewal that is on its way is followed by another.
            it.renewal = Renewal::Idle(now);
        }
    }

    /// The claim is complete, and a renewal proven.
    fn lead(&mut self, it: &mut Candidacy, now: Instant) {
        let (Stage::Proving, Some(status), Some(token)) = (&it.stage, &it.status, it.mine) else {
            return;
        };
        if status.loss.is_some() {
            return;
        }
        self.events.push(Event::Elected(Elected {
            token,
            cluster: 7,
            status: status.clone(),
            at: "".into(),
        }));
        it.stage = Stage::Leading;
        self.record(it, now);
        self.look_around(it, now);
    }
}
