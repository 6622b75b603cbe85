//! The records of a schedule in the simulated store: the same guards as the real one's transactions.

use std::collections::BTreeMap;

use super::super::Mistake;
use super::{Answer, Paused, Store, Wished};
use crate::keys::LeaseId;
use crate::revision::{Revision, Token};
use crate::schedule::record::{HistoryEntry, Outcome, State};
use crate::schedule::{RunId, Stored, Write, Written};
use crate::wall::Time;

/// What is kept of a schedule.
#[derive(Debug, Default)]
pub(in crate::candidate::histories) struct SlotRecords {
    pub(in crate::candidate::histories) state: Option<State>,
    /// The state's `mod_revision`, zero where there is none.
    pub(in crate::candidate::histories) seen: Revision,
    pub(in crate::candidate::histories) runs: BTreeMap<u64, HistoryEntry>,
    pub(in crate::candidate::histories) wanted: Option<WantedRun>,
    /// What was done to all of this since the judge looked last.
    pub(in crate::candidate::histories) done: Vec<Done>,
    /// The state was written since that was asked last.
    pub(in crate::candidate::histories) is_changed: bool,
}

/// A wish for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::candidate::histories) struct WantedRun {
    pub(in crate::candidate::histories) at: Revision,
    pub(in crate::candidate::histories) token: Token,
    pub(in crate::candidate::histories) queue: bool,
    pub(in crate::candidate::histories) is_answered: bool,
}

/// What operators want, at one revision.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::candidate::histories) struct Control {
    pub(in crate::candidate::histories) pause: Option<Paused>,
    pub(in crate::candidate::histories) wish: Option<Wished>,
    pub(in crate::candidate::histories) wanted: Option<WantedRun>,
}

/// What was done.
#[derive(Debug)]
pub(in crate::candidate::histories) enum Done {
    /// The state was written.
    Wrote(Box<SlotWrite>),
    /// A term that is over has written.
    WroteAfterItsTerm(Token),
    /// A term was given back whose key was there, by one that knew how to close this run.
    GaveBack {
        token: Token,
        /// Whether the state is as the last write of the term left it, and whoever gave that back knew so.
        is_own: bool,
    },
    /// A wish for a run was answered.
    Answered { at: Revision },
    /// etcd refuses such a transaction, whatever its guards say.
    OneKeyTwice(String),
}

/// What was written.
#[derive(Debug)]
pub(in crate::candidate::histories) struct SlotWrite {
    pub(in crate::candidate::histories) by: By,
    pub(in crate::candidate::histories) before: Option<State>,
    pub(in crate::candidate::histories) after: State,
    pub(in crate::candidate::histories) runs: Vec<(u64, HistoryEntry)>,
}

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::candidate::histories) enum By {
    /// The leader in this term.
    Leader(Token),
    /// Whoever gave its term back.
    Resigner(Token),
    /// The run itself, in this term.
    Run(Token),
    /// An operator, who ends a pause or settles a lost run.
    Operator,
    /// An operator, who sets the schedule to another time.
    Rewinder,
}

impl By {
    /// The term it was written in.
    const fn token(self) -> Option<Token> {
        match self {
            Self::Leader(token) | Self::Resigner(token) | Self::Run(token) => Some(token),
            Self::Operator | Self::Rewinder => None,
        }
    }
}

impl Store {
    pub(super) fn read_slots(&self) -> Answer {
        Answer::Slots(match &self.slots.state {
            None => Stored::Absent,
            Some(state) => Stored::State {
                state: Box::new(state.clone()),
                revision: self.slots.seen,
            },
        })
    }

    pub(super) fn look_around(&self) -> Answer {
        Answer::Control(self.control())
    }

    /// What operators want.
    pub(in crate::candidate::histories) fn control(&self) -> Control {
        Control {
            pause: self.pause,
            wish: self.wish,
            wanted: self.slots.wanted,
        }
    }

    /// A leader's write, guarded by its key and by the state.
    pub(super) fn write_slots(&mut self, lease: LeaseId, write: &Write) -> Answer {
        let own = self.queue.get(&write.token);
        let own = own.is_some_and(|key| key.lease == lease);
        let guarded = self.mistake != Some(Mistake::SlotsUnguardedByTerm);
        let same = write.seen == self.slots.seen;
        let follows = same || self.mistake == Some(Mistake::SlotsUnguardedByState);
        if (guarded && !own) || !follows {
            return Answer::Wrote(Written::Refused);
        }
        if !own {
            self.slots.done.push(Done::WroteAfterItsTerm(write.token));
        }
        if self.put_slots(By::Leader(write.token), write) {
            let revision = self.slots.seen;
            return Answer::Wrote(Written::Done { revision });
        }
        Answer::Wrote(Written::Unknown)
    }

    /// The close that is nested in the transaction that gives a term back: guarded by the state alone.
    pub(super) fn close_with_term(&mut self, token: Token, close: Option<&Write>, knows: bool) {
        let Some(state) = &self.slots.state else {
            return;
        };
        let claimed = state
            .open
            .as_ref()
            .is_some_and(|open| open.token == Some(token));
        let written_by = self.slots_by.and_then(By::token);
        let is_own = knows && claimed && written_by == Some(token);
        if let Some(write) = close {
            let mut write = write.clone();
            if self.mistake == Some(Mistake::NestedCloseIsUnguarded) {
                write.seen = self.slots.seen;
            }
            if write.seen == self.slots.seen {
                self.put_slots(By::Resigner(token), &write);
            }
        }
        self.slots.done.push(Done::GaveBack { token, is_own });
    }

    /// The run closes itself, if it is open in a term that goes on.
    pub(in crate::candidate::histories) fn complete(&mut self, run: &RunId) -> bool {
        let leads = self.has_quorum && self.queue.contains_key(&run.token);
        let state = self.slots.state.as_ref().filter(|_| leads);
        let state = state.filter(|state| state.has_open(run));
        let took = std::time::Duration::ZERO;
        let closed = state.and_then(|state| state.closed(Outcome::Success, None, took));
        let Some((state, record)) = closed else {
            return false;
        };
        let runs = vec![(state.seq, record)];
        self.put_state(By::Run(run.token), state, runs, &[]);
        true
    }

    /// An operator ends a pause that nobody led through: the slots of that time are none of the
    /// schedule's.
    pub(in crate::candidate::histories) fn slots_resume(&mut self, wall: Time) {
        if let Some(state) = &self.slots.state {
            let state = state.resumed(wall);
            self.put_state(By::Operator, state, Vec::new(), &[]);
        }
    }

    /// An operator says what became of the last run, if that is lost.
    pub(in crate::candidate::histories) fn settle(&mut self, result: Outcome) {
        let state = self.slots.state.as_ref();
        let slot = state.and_then(|state| state.last.as_ref()?.slot.slot());
        if let Some((state, slot)) = state.zip(slot)
            && let Ok(state) = state.resolved(slot, result)
        {
            self.put_state(By::Operator, state, Vec::new(), &[]);
        }
    }

    /// An operator sets the schedule to another time, unless a run is open.
    pub(in crate::candidate::histories) fn rewind(&mut self, to: Time, wall: Time, keeps: u64) {
        let state = self.slots.state.as_ref();
        if let Some(Ok((state, record))) = state.map(|state| state.rewound(to, wall, "operator")) {
            let seq = state.seq;
            let old: Vec<_> = seq.checked_sub(keeps.max(1)).into_iter().collect();
            let old = old.first().map_or(0, |old| old + 1);
            let trimmed: Vec<u64> = self.slots.runs.range(..old).map(|(seq, _)| *seq).collect();
            self.put_state(By::Rewinder, state, vec![(seq, record)], &trimmed);
        }
    }

    /// An operator asks who stands in front for a run.
    pub(in crate::candidate::histories) fn want_run(&mut self, queue: bool) {
        let at = self.next_revision();
        let first = self.queue.keys().next().copied();
        self.slots.wanted = first.map(|token| WantedRun {
            at,
            token,
            queue,
            is_answered: false,
        });
    }

    pub(super) fn answer_wanted(
        &mut self,
        (lease, token): (LeaseId, Token),
        wish: Revision,
    ) -> Answer {
        let own = self.queue.get(&token);
        let own = own.is_some_and(|key| key.lease == lease);
        if let Some(wanted) = self.slots.wanted.filter(|wanted| own && wanted.at == wish) {
            let at = self.next_revision();
            self.slots.wanted = Some(WantedRun {
                at,
                is_answered: true,
                ..wanted
            });
            self.slots.done.push(Done::Answered { at: wish });
        }
        Answer::Done
    }

    /// Does a write whose guards hold.
    fn put_slots(&mut self, by: By, write: &Write) -> bool {
        let mut puts = std::collections::BTreeSet::new();
        let twice = write.runs.iter().any(|(seq, _)| !puts.insert(seq));
        if twice || write.trimmed.iter().any(|seq| puts.contains(seq)) {
            let (runs, trimmed) = (&write.runs, &write.trimmed);
            let what = format!("one key twice in a write: {runs:?}, {trimmed:?}");
            self.slots.done.push(Done::OneKeyTwice(what));
            return false;
        }
        self.put_state(by, write.state.clone(), write.runs.clone(), &write.trimmed);
        true
    }

    fn put_state(&mut self, by: By, after: State, runs: Vec<(u64, HistoryEntry)>, trimmed: &[u64]) {
        let seen = self.next_revision();
        let slots = &mut self.slots;
        slots.seen = seen;
        slots.is_changed = true;
        for seq in trimmed {
            slots.runs.remove(seq);
        }
        slots.runs.extend(runs.iter().cloned());
        let before = slots.state.replace(after.clone());
        slots.done.push(Done::Wrote(Box::new(SlotWrite {
            by,
            before,
            after,
            runs,
        })));
        self.slots_by = Some(by);
    }
}
