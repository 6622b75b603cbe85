//! The store: what a leader reads, and which of its writes are done.

use super::{Mistake, Stored, World, Write, Written};

impl World {
    pub(super) fn stored(&self) -> Stored {
        let Some(mut state) = self.state.clone() else {
            return Stored::Absent;
        };
        if self.makes(Mistake::OpenIsForgotten) {
            state.open = None;
        }
        if self.makes(Mistake::SlotIsForgotten) {
            state.slot = None;
        }
        if self.makes(Mistake::SinceIsNow) {
            state.since = self.present().wall;
        }
        if self.makes(Mistake::AttemptIsForgotten) {
            state
                .last
                .iter_mut()
                .for_each(|last| last.attempt = last.attempt.min(1));
            state.open.iter_mut().for_each(|open| open.attempt = 0);
        }
        Stored::State {
            state: Box::new(state),
            revision: self.revision,
        }
    }

    pub(super) fn land(&mut self, write: &Write) -> Written {
        let of_term = Some(write.token) == self.leader || self.makes(Mistake::TermIsUnguarded);
        let follows = write.seen == self.revision || self.makes(Mistake::StateIsUnguarded);
        if !of_term || !follows {
            return Written::Refused;
        }
        if Some(write.token) != self.leader {
            self.violated("a write of a term that is over was done".to_owned());
        }
        self.judge_write(write);
        self.revision = self.revision.next();
        self.state = Some(write.state.clone());
        Written::Done {
            revision: self.revision,
        }
    }
}
