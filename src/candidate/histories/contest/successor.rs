//! Who is to follow a leader that is asked to step down, and whether that can be.

use std::time::Duration;

use super::Contest;
use crate::candidate::decide::words::{Asked, Event};
use crate::candidate::histories::Mistake;
use crate::candidate::histories::store::{Answer, Request, Way};
use crate::clock::Instant;

/// How long those in front of the chosen one may take to make way.
const MAKE_WAY: Duration = Duration::from_secs(10);

/// Between two looks at whether they have, and after the last of them has gone.
const PAUSE: Duration = Duration::from_millis(100);

/// A look.
#[derive(Debug)]
pub(super) struct Looking {
    asked: Asked,
    /// The number of the request that is not answered yet.
    number: Option<u64>,
    /// When it is looked again.
    again: Option<Instant>,
    until: Instant,
    made_way: bool,
}

impl Looking {
    pub(super) const fn timer(&self) -> Option<Instant> {
        self.again
    }
}

impl Contest {
    /// Looks as asked now, no more as asked before.
    pub(super) fn look_for_successor(&mut self, asked: Asked, now: Instant) {
        let mut looking = Looking {
            asked,
            number: None,
            again: None,
            until: now + MAKE_WAY,
            made_way: false,
        };
        self.look(&mut looking, now);
        self.looking = Some(looking);
    }

    fn look(&mut self, looking: &mut Looking, now: Instant) {
        let to = looking.asked.to.as_ref().and_then(|to| to.parse().ok());
        let request = Request::Look {
            mine: Some(looking.asked.token),
            to,
        };
        let pending = self.ask(request, now, looking.asked.limit);
        (looking.number, looking.again) = (Some(pending.number), None);
    }

    pub(super) fn look_once_more(&mut self, now: Instant) {
        if let Some(mut looking) = self.looking.take() {
            if looking.again.is_some_and(|again| now >= again) {
                self.look(&mut looking, now);
            }
            self.looking = Some(looking);
        }
    }

    /// The queue was read; whether that was for this.
    pub(super) fn looked(&mut self, number: u64, answer: &Answer, now: Instant) -> bool {
        let asked = |it: &mut Looking| it.number == Some(number);
        let Answer::Queue {
            candidates,
            paused,
            way,
        } = answer
        else {
            return false;
        };
        let Some(mut looking) = self.looking.take_if(asked) else {
            return false;
        };
        let force = looking.asked.force;
        let can = force || (*candidates > 1 && !paused);
        let waits = *way == Way::Wait && now < looking.until;
        if can && (waits || *way == Way::Clear && looking.made_way) {
            looking.made_way = waits;
            (looking.number, looking.again) = (None, Some(now + PAUSE));
            self.looking = Some(looking);
            return true;
        }
        let can = can && *way == Way::Clear;
        let found = Ok(can.then_some(()).ok_or_else(|| "nobody".to_owned()));
        self.events
            .push(Event::Successor(looking.asked.wish, found));
        true
    }

    /// Whether a wish is taken to be meant for whoever sees it.
    pub(super) fn heeds_every_wish(&self) -> bool {
        self.mistake == Some(Mistake::WishIsForEveryJob)
    }
}
