//! The store: what a leader reads, and which of its writes are done.

use std::collections::BTreeSet;

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

    /// Does a write if its guards hold. etcd refuses a transaction that puts a key twice, or puts and
    /// deletes it, whatever its guards say.
    pub(super) fn land(&mut self, write: &Write) -> Written {
        let mut puts = BTreeSet::new();
        let twice = write.runs.iter().any(|(seq, _)| !puts.insert(seq));
        if twice || write.trimmed.iter().any(|seq| puts.contains(seq)) {
            let (runs, trimmed) = (&write.runs, &write.trimmed);
            self.violated(format!("one key twice in a write: {runs:?}, {trimmed:?}"));
            return Written::Unknown;
        }
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
        for seq in &write.trimmed {
            self.runs.remove(seq);
        }
        self.runs.extend(write.runs.iter().cloned());
        self.judge_records();
        Written::Done {
            revision: self.revision,
        }
    }
}
