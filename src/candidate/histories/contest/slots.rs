//! What a simulated contest asks of a schedule's records, and what its watch over them tells.

use std::time::Duration;

use super::{Candidacy, Contest, Pending, Stage};
use crate::candidate::decide::words::{Event, SlotRequest};
use crate::candidate::histories::Mistake;
use crate::candidate::histories::store::{Answer, Control, Paused, Request, WantedRun};
use crate::clock::Instant;
use crate::election::control::Notice;
use crate::keys::LeaseId;
use crate::revision::Revision;
use crate::schedule::{Stored, Written};
use crate::term::record::{PauseRecord, Record, Trigger};

/// A request that is not answered yet. It may outlive its candidacy.
#[derive(Debug)]
pub(super) struct AskedOfSlots {
    lease: LeaseId,
    number: u64,
    pub(super) until: Instant,
    what: WhatOfSlots,
}

#[derive(Debug)]
enum WhatOfSlots {
    Read(u64),
    /// With the nonce of what it claims.
    Write(u64, Option<String>),
    Answer,
}

/// The leader's watch, which begins with a look at what is there.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    look: Option<Pending>,
    /// The look was answered.
    is_open: bool,
    /// Something has changed that the look may not have seen.
    is_stale: bool,
    /// The pause that was told of last, by mod_revision.
    paused: Option<Revision>,
    wanted: Option<Revision>,
}

impl Lookout {
    /// When the look is given up on.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.look.as_ref().map(|look| look.until)
    }
}

impl Contest {
    pub(super) fn ask_of_slots(
        &mut self,
        lease: LeaseId,
        request: SlotRequest,
        now: Instant,
        limit: Duration,
    ) {
        let (request, what) = match request {
            SlotRequest::Read { number } => (Request::ReadSlots, WhatOfSlots::Read(number)),
            SlotRequest::Write(write) => {
                let number = write.number;
                let open = write.state.open.as_ref();
                let claim = open.map(|open| open.nonce.clone());
                let closes = claim.is_none()
                    && write
                        .state
                        .last
                        .as_ref()
                        .is_some_and(|last| last.attempt > 0);
                let seen = write.seen;
                let told = match self.mistake {
                    Some(Mistake::StartsUnacknowledged) => claim.is_some(),
                    Some(Mistake::CloseIsForgotten) => closes,
                    _ => false,
                };
                if told {
                    let revision = seen;
                    let done = Event::SlotsWrote(lease, number, Written::Done { revision });
                    self.events.push(done);
                    if closes {
                        return;
                    }
                }
                let request = Request::WriteSlots { lease, write };
                (request, WhatOfSlots::Write(number, claim))
            }
            SlotRequest::Answer { token, wish, .. } => {
                if self.mistake == Some(Mistake::WantedRunIsUnanswered) {
                    return;
                }
                let request = Request::AnswerWanted { lease, token, wish };
                (request, WhatOfSlots::Answer)
            }
        };
        let Pending { number, until } = self.ask(request, now, limit);
        self.asked_of_slots.push(AskedOfSlots {
            lease,
            number,
            until,
            what,
        });
    }

    /// What isn't answered in time is taken for unknown.
    pub(super) fn give_up_on_slots(&mut self, now: Instant) {
        if self.asked_of_slots.iter().all(|asked| now < asked.until) {
            return;
        }
        let asked = std::mem::take(&mut self.asked_of_slots);
        let (over, waiting) = asked.into_iter().partition(|asked| now >= asked.until);
        self.asked_of_slots = waiting;
        for AskedOfSlots { lease, what, .. } in over {
            let event = match what {
                WhatOfSlots::Read(number) => Event::SlotsRead(lease, number, Stored::Unknown),
                WhatOfSlots::Write(number, claim) => {
                    let believes = self.mistake == Some(Mistake::UnknownClaimIsDone);
                    let revision = Revision::default();
                    let written = match claim {
                        Some(_) if believes => Written::Done { revision },
                        _ => Written::Unknown,
                    };
                    Event::SlotsWrote(lease, number, written)
                }
                WhatOfSlots::Answer => continue,
            };
            self.events.push(event);
        }
    }

    /// An answer of the store, which is given back if it was to something else.
    pub(super) fn slots_answered(&mut self, number: u64, answer: Answer) -> Option<Answer> {
        let mut asked = self.asked_of_slots.iter();
        let Some(found) = asked.position(|asked| asked.number == number) else {
            return Some(answer);
        };
        let asked = self.asked_of_slots.swap_remove(found);
        let lease = asked.lease;
        let present = self.candidacy.as_ref().map(|it| it.lease);
        let is_present = present == Some(asked.lease);
        match (asked.what, answer) {
            (WhatOfSlots::Read(number), Answer::Slots(mut stored)) => {
                if let Stored::State { state, .. } = &mut stored {
                    let open = state.open.as_ref().filter(|_| is_present);
                    self.acknowledged
                        .extend(open.map(|open| open.nonce.clone()));
                    self.misread(state);
                }
                self.events.push(Event::SlotsRead(lease, number, stored));
            }
            (WhatOfSlots::Write(number, claim), Answer::Wrote(written)) => {
                let mut written = written;
                match written {
                    Written::Done { .. } => {
                        self.acknowledged.extend(claim.filter(|_| is_present));
                    }
                    Written::Refused if self.mistake == Some(Mistake::RefusedClaimIsDone) => {
                        let revision = Revision::default();
                        written = Written::Done { revision };
                    }
                    Written::Refused | Written::Unknown => {}
                }
                self.events.push(Event::SlotsWrote(lease, number, written));
            }
            _ => {}
        }
        None
    }

    fn misread(&self, state: &mut crate::schedule::record::State) {
        let mine = self.mine();
        match self.mistake {
            Some(Mistake::OpenRunIsTakenForOwn) => {
                if let Some(open) = &mut state.open {
                    open.token = mine;
                }
            }
            Some(Mistake::OpenRunIsForgotten) => {
                state.open.take_if(|open| open.token != mine);
            }
            _ => {}
        }
    }

    // === what its watch tells ===

    /// Looks at what is there, where the job has a schedule.
    pub(super) fn look_around(&mut self, it: &mut Candidacy, now: Instant) {
        if let Some(lookout) = &mut it.lookout {
            lookout.is_stale = false;
            let limit = it.timing.attempt_limit();
            let look = self.ask(Request::LookAround, now, limit);
            lookout.look = Some(look);
        }
    }

    /// Looks once more if that was not answered.
    pub(super) fn look_again(&mut self, it: &mut Candidacy, now: Instant) {
        let late = it.lookout.as_ref().and_then(Lookout::timer);
        if late.is_some_and(|late| now >= late) {
            self.look_around(it, now);
        }
    }

    pub(super) fn looked_around(
        &mut self,
        it: &mut Candidacy,
        number: u64,
        control: Control,
        now: Instant,
    ) {
        let Some(lookout) = &mut it.lookout else {
            return;
        };
        let answered = lookout.look.take_if(|look| look.number == number);
        if answered.is_none() || !matches!(it.stage, Stage::Leading) {
            return;
        }
        if lookout.is_stale {
            return self.look_around(it, now);
        }
        lookout.is_open = true;
        // Whatever was missed of the state while nobody watched it.
        self.events.push(Event::Notice(Notice::Slots { at: None }));
        if control.pause.is_none() {
            self.events.push(Event::Notice(Notice::Resumed));
        }
        self.noticed(it, control.pause, control.wanted);
    }

    /// What operators want has changed, or is seen for the first time.
    pub(super) fn noticed(
        &mut self,
        it: &mut Candidacy,
        pause: Option<Paused>,
        wanted: Option<WantedRun>,
    ) {
        let Some(lookout) = &mut it.lookout else {
            return;
        };
        if !lookout.is_open {
            lookout.is_stale = true;
            return;
        }
        let at = pause.map(|pause| pause.at);
        let before = std::mem::replace(&mut lookout.paused, at);
        if let Some(pause) = pause.filter(|_| before != at) {
            let keep_leader = pause.keep_leader;
            let untold = keep_leader && self.mistake == Some(Mistake::PauseIsUntold);
            let record = PauseRecord {
                by: String::new(),
                since: String::new(),
                keep_leader,
            };
            let pause = Record::Read(record);
            let at = at.unwrap_or_default();
            let notice = Notice::Paused { pause, at };
            self.events
                .extend((!untold).then_some(Event::Notice(notice)));
        } else if pause.is_none() && before.is_some() {
            self.events.push(Event::Notice(Notice::Resumed));
        }
        let news = wanted.filter(|it| !it.is_answered && lookout.wanted != Some(it.at));
        if let Some(wanted) = news {
            lookout.wanted = Some(wanted.at);
            let request = Trigger {
                by: String::new(),
                since: String::new(),
                token: Some(wanted.token),
                queue: wanted.queue,
                answer: None,
            };
            let asked_at = wanted.at;
            let notice = Notice::Trigger { request, asked_at };
            self.events.push(Event::Notice(notice));
        }
    }

    /// The schedule's state was written, in this revision.
    pub(in crate::candidate::histories) fn saw_slots(&mut self, at: Revision) {
        let Some(it) = &mut self.candidacy else {
            return;
        };
        if let (Stage::Leading, Some(lookout)) = (&it.stage, &mut it.lookout) {
            if lookout.is_open {
                let at = Some(at);
                self.events.push(Event::Notice(Notice::Slots { at }));
            } else {
                lookout.is_stale = true;
            }
        }
    }
}
