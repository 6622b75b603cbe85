//! What the runs of a schedule must never come to, over all replicas of an election (G1 to G4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Judge;
use crate::candidate::histories::slots::Plan;
use crate::candidate::histories::store::{By, Done, SlotRecords, SlotWrite};
use crate::config::Scheduling;
use crate::keys::Prefix;
use crate::revision::Token;
use crate::schedule::planner::{Guarantee, Missed, Overlap};
use crate::schedule::record::{Last, Outcome, State};
use crate::schedule::{Occasion, Run, Slot, jitter};
use crate::wall::Time;

/// How far behind the time of day the last slot that was settled may be, once all has been well for long
/// and one leader led through it: a run and its stop, and the slots behind it.
const LATE: Duration = Duration::from_mins(1);

/// By so much a clock may be behind the last claim: hosts differ.
const BEHIND: Duration = Duration::from_secs(2);

/// Keeps watch over the runs of a schedule.
#[derive(Debug)]
pub(super) struct SlotJudge {
    scheduling: Scheduling,
    /// What the jitter goes by.
    election: Prefix,
    /// Slots that were claimed.
    claimed: BTreeSet<Slot>,
    /// Attempts that began, by slot.
    begun: BTreeSet<(Slot, u32)>,
    /// Claims whose run began, and when.
    runs: BTreeMap<String, u64>,
    /// Whether a run was a success, by its claim, since its main process ended or it closed itself.
    truth: BTreeMap<String, bool>,
    /// The ends of runs, as the state has told them.
    ends: BTreeMap<(Slot, u32), Outcome>,
    /// Slots whose end somebody knows, or settles.
    settled: BTreeSet<Slot>,
    /// Slots that somebody wants to be run again.
    again: BTreeSet<Slot>,
    /// Slots whose run closed itself.
    completed: BTreeSet<Slot>,
    /// The wishes for a run that were answered.
    answered: BTreeSet<crate::revision::Revision>,
}

impl SlotJudge {
    pub(super) fn new(plan: &Plan, election: Prefix) -> Self {
        Self {
            scheduling: plan.scheduling.clone(),
            election,
            claimed: BTreeSet::new(),
            begun: BTreeSet::new(),
            runs: BTreeMap::new(),
            truth: BTreeMap::new(),
            ends: BTreeMap::new(),
            settled: BTreeSet::new(),
            again: BTreeSet::new(),
            completed: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    /// What was done to the records.
    fn did(&mut self, done: Done, now: Option<&State>) -> Result<(), String> {
        match done {
            Done::Wrote(write) => self.wrote(&write),
            Done::WroteAfterItsTerm(token) => {
                Err(format!("{token} writes of slots, and its term is over"))
            }
            Done::GaveBack { token, is_own } => self.gave_back(token, is_own, now),
            Done::Answered { at, .. } => {
                self.answered.insert(at);
                Ok(())
            }
            Done::OneKeyTwice(what) => Err(what),
        }
    }

    /// No write may break a promise.
    fn wrote(&mut self, write: &SlotWrite) -> Result<(), String> {
        let (by, after, runs) = (write.by, &write.after, &write.runs);
        let before = write.before.as_ref();
        if let (By::Rewinder, Some(before)) = (by, before) {
            self.rewound(before, after);
            return Ok(());
        }
        let Some(before) = before else {
            return self.claims(None, after).map(drop);
        };
        if after.slot < before.slot || after.seq < before.seq || after.since < before.since {
            return Err(format!("{by:?}: the mark, or the count of records, fell"));
        }
        if let Some((seq, _)) = runs.iter().find(|(seq, _)| *seq <= before.seq) {
            return Err(format!("{by:?}: the record {seq} was written over"));
        }
        let ended = after.last.as_ref().filter(|_| before.last != after.last);
        if by == By::Operator {
            if let Some((slot, last)) = ended.and_then(|last| Some((last.slot.slot()?, last))) {
                self.ends.insert((slot, last.attempt), last.result);
                if last.result == Outcome::Rerun {
                    self.again.insert(slot);
                } else {
                    self.settled.insert(slot);
                }
            }
            return Ok(());
        }
        if let Some(last) = ended {
            self.closes(by, last)?;
        }
        let accounted = self.claims(Some(before), after)? + after.missed - before.missed;
        // What was claimed and not started was accounted for by its claim, and is claimed again, or missed.
        let last = before.last.as_ref().filter(|last| last.is_owed());
        let owed = last.filter(|_| before.open.is_none());
        let claimed = after.open.as_ref().map(|open| open.slot);
        if let Some(owed) = owed.filter(|owed| claimed.is_some_and(|slot| slot != owed.slot)) {
            return Err(format!(
                "{by:?}: {:?} was never started, and is passed over",
                owed.slot
            ));
        }
        let dropped = owed.filter(|owed| after.last.as_ref() != Some(owed));
        let dropped = dropped.map_or(0, |last| 1 + last.missed);
        let (mark, now) = (before.mark(), after.mark());
        let slots = self.scheduling.schedule.between(mark, now, 100_000);
        if slots.len() as u64 + dropped != accounted {
            let slots = slots.len();
            return Err(format!(
                "{by:?}: {slots} slots up to {now}, {accounted} accounted for"
            ));
        }
        Ok(())
    }

    /// Somebody has set the schedule to another time: what was after it is to come anew.
    fn rewound(&mut self, before: &State, after: &State) {
        let mark = after.mark();
        let owed: Vec<_> = self.claimed.iter().copied().collect();
        self.settled.extend(owed);
        self.claimed.retain(|slot| *slot <= mark);
        self.begun.retain(|(slot, _)| *slot <= mark);
        self.ends.retain(|(slot, _), _| *slot <= mark);
        self.completed.retain(|slot| *slot <= mark);
        let to_come = before.mark().max(mark);
        self.settled.retain(|slot| *slot <= mark || *slot > to_come);
    }

    /// A slot is claimed once, in its order, in its time, and over nothing that is open (G2). Returns
    /// for how many slots the claim stands that stood for none before.
    fn claims(&mut self, before: Option<&State>, after: &State) -> Result<u64, String> {
        let open = before.and_then(|before| before.open.as_ref());
        let Some(claim) = after.open.as_ref().filter(|claim| open != Some(claim)) else {
            return Ok(0);
        };
        if let Some(open) = open {
            return Err(format!(
                "{} is claimed while {} is open",
                claim.slot, open.slot
            ));
        }
        if let Some(before) = before
            && claim.at + BEHIND < before.mark().time()
        {
            return Err(format!(
                "{} is claimed by a clock that is behind",
                claim.slot
            ));
        }
        let Some(slot) = claim.slot.slot() else {
            return Ok(0);
        };
        let last = before.and_then(|before| before.last.as_ref());
        let unstarted = last.is_some_and(|last| last.slot == claim.slot && last.is_owed());
        if claim.attempt == 1 && !unstarted {
            if self.claimed.contains(&slot) {
                return Err(format!("{slot} is claimed twice"));
            }
            let mark = before.map(State::mark);
            if mark >= Some(slot) {
                return Err(format!("{slot} is claimed, and {mark:?} is over"));
            }
        }
        let policy = &self.scheduling.policy;
        let due = slot.time() + jitter(self.election.as_str(), slot, policy.jitter);
        let late = claim.at.since(due);
        // What was queued, or tried before, had come by the clock as that was then.
        let is_first = claim.attempt == 1 && !unstarted && policy.overlap == Overlap::Skip;
        let early = is_first && claim.at < due;
        if early || policy.start_within.is_some_and(|most| late > most) {
            return Err(format!("{slot}, due at {due}, is claimed at {}", claim.at));
        }
        let news = self.claimed.insert(slot);
        Ok(if news { 1 + claim.missed } else { 0 })
    }

    /// What is said of a run that is over is true, and is said once.
    fn closes(&mut self, by: By, last: &Last) -> Result<(), String> {
        let truth = last.nonce.as_ref().and_then(|nonce| self.truth.get(nonce));
        let is_false = match last.result {
            Outcome::Success => truth != Some(&true),
            Outcome::Failure => truth == Some(&true),
            _ => false,
        };
        if is_false {
            let (slot, told) = (last.slot, last.result);
            return Err(format!(
                "{by:?}: {slot} is told as {told:?}, success is {truth:?}"
            ));
        }
        let Some(slot) = last.slot.slot().filter(|_| last.attempt > 0) else {
            return Ok(());
        };
        if matches!(
            last.result,
            Outcome::Success | Outcome::Failure | Outcome::Timeout
        ) {
            self.settled.insert(slot);
        }
        match self.ends.insert((slot, last.attempt), last.result) {
            Some(before) => {
                let (attempt, told) = (last.attempt, last.result);
                Err(format!(
                    "{by:?}: {slot} ({attempt}) ended as {before:?}, and as {told:?}"
                ))
            }
            None => Ok(()),
        }
    }

    /// A term is given back: with it a run that had begun is closed, unless somebody else has written
    /// since it was claimed.
    fn gave_back(&self, token: Token, is_own: bool, now: Option<&State>) -> Result<(), String> {
        let open = now.and_then(|state| state.open.as_ref());
        let open = open.filter(|open| is_own && open.token == Some(token));
        match open.filter(|open| self.runs.contains_key(&open.nonce)) {
            Some(open) => Err(format!(
                "{token} is given back, and {} left open",
                open.slot
            )),
            None => Ok(()),
        }
    }

    /// A run begins: by its claim, and as often as the guarantee says (G3, G4).
    fn begins(&mut self, run: &Run, state: Option<&State>, now: u64) -> Result<(), String> {
        if state.is_some_and(|state| !state.has_open(&run.id())) {
            return Err(format!("{} starts without its claim", run.slot));
        }
        if self.runs.insert(run.nonce.clone(), now).is_some() {
            return Err(format!("{} starts twice by one claim", run.slot));
        }
        let Occasion::Slot(slot) = run.slot else {
            return Ok(());
        };
        let attempt = run.attempt;
        if !self.begun.insert((slot, attempt)) {
            return Err(format!("{slot} ({attempt}) starts twice"));
        }
        if self.completed.contains(&slot) {
            return Err(format!("{slot} starts, and had closed itself"));
        }
        let before = attempt.checked_sub(1).filter(|before| *before > 0);
        let Some(before) = before.filter(|_| !self.again.contains(&slot)) else {
            return Ok(());
        };
        let policy = &self.scheduling.policy;
        let end = self.ends.get(&(slot, before)).copied();
        let may_again = match end {
            Some(Outcome::Failure | Outcome::Timeout) => before <= policy.retries,
            Some(Outcome::Lost | Outcome::Stopped | Outcome::Killed) => {
                policy.guarantee == Guarantee::AtLeastOnce
            }
            _ => false,
        };
        if may_again {
            return Ok(());
        }
        Err(format!("{slot} starts again after {before}: {end:?}"))
    }

    /// What is owed, once all has been well for long.
    fn owes(&self, state: Option<&State>, led: bool, wall: Time) -> Result<(), String> {
        let Some(state) = state else {
            // A hook may have refused every term.
            return Ok(());
        };
        let (mark, policy) = (state.mark(), &self.scheduling.policy);
        let at_most_once = policy.guarantee == Guarantee::AtMostOnce;
        let late = wall.since(mark.time());
        if led && at_most_once && policy.retries == 0 && policy.missed != Missed::All && late > LATE
        {
            return Err(format!(
                "the last slot that was settled is {mark}, at {wall}"
            ));
        }
        if !at_most_once && policy.start_within.is_none() && policy.overlap != Overlap::Replace {
            let latest = self.claimed.last().copied();
            let owed = self.claimed.difference(&self.settled).copied();
            let owed: Vec<_> = owed.filter(|slot| Some(*slot) != latest).collect();
            if !owed.is_empty() {
                let owed: Vec<_> = owed.iter().map(ToString::to_string).collect();
                return Err(format!("claimed, and no end is recorded: {owed:?}"));
            }
        }
        Ok(())
    }
}

impl Judge {
    fn of_slots(&mut self, judge: impl FnOnce(&mut SlotJudge) -> Result<(), String>) {
        if let Some(slots) = &mut self.slots
            && let Err(what) = judge(slots)
        {
            self.found(what);
        }
    }

    /// What was done to the records of a schedule.
    pub(in crate::candidate::histories) fn look_at_slots(&mut self, records: &mut SlotRecords) {
        for done in std::mem::take(&mut records.done) {
            self.of_slots(|slots| slots.did(done, records.state.as_ref()));
        }
    }

    /// A run of the schedule begins; with the state, if its term goes on.
    pub(in crate::candidate::histories) fn slot_begins(
        &mut self,
        at: usize,
        run: &Run,
        state: Option<&State>,
        now: u64,
    ) {
        self.of_slots(|slots| {
            let began = slots.begins(run, state, now);
            began.map_err(|what| format!("{at}: {what}"))
        });
    }

    /// Its main process, or its code, has ended.
    pub(in crate::candidate::histories) fn slot_ended(&mut self, run: &Run, success: bool) {
        if let Some(slots) = &mut self.slots {
            slots.truth.entry(run.nonce.clone()).or_insert(success);
        }
    }

    /// It has closed itself.
    pub(in crate::candidate::histories) fn slot_completed(&mut self, run: &Run) {
        if let Some(slots) = &mut self.slots {
            slots.truth.insert(run.nonce.clone(), true);
            slots.completed.extend(run.slot.slot());
        }
    }

    /// Nothing may be owed any more.
    pub(in crate::candidate::histories) fn slots_owed(
        &mut self,
        state: Option<&State>,
        led: bool,
        wall: Time,
    ) {
        self.of_slots(|slots| slots.owes(state, led, wall));
    }

    /// When the run of this claim began.
    pub(in crate::candidate::histories) fn slot_began(&self, nonce: &str) -> Option<u64> {
        self.slots.as_ref()?.runs.get(nonce).copied()
    }

    /// Whether the wish for a run that was put then was answered.
    pub(in crate::candidate::histories) fn is_answered(
        &self,
        at: crate::revision::Revision,
    ) -> bool {
        self.slots
            .as_ref()
            .is_none_or(|slots| slots.answered.contains(&at))
    }
}
