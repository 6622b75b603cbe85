//! Decides, from what was recorded of the schedule and by its runs, whether its promises held. Pure, as the
//! other checker.
//!
//! Each write of the state is guarded by the state that it was made for, so the store's history is one chain:
//! each link is judged by the one before.

use std::collections::{BTreeMap, BTreeSet};

use incumbent::schedule::planner::{Guarantee, Missed, Overlap};
use incumbent::schedule::record::{HistoryEntry, Last, Open, Outcome, State};
use incumbent::schedule::{Occasion, Slot};

use crate::checker::{Breach, Candidacy, Outcome as Told, breach, leads_at};
use crate::slots::{LEEWAY_MS, SlotPolicy, Slots, StateWrite};

pub(crate) const USURPED: &str = "a slot was claimed in no term, or one that was over";
pub(crate) const SUNK: &str = "the schedule's mark or its count of records fell";
pub(crate) const UNCLAIMED: &str = "a run started that was not claimed so";
pub(crate) const TWICE: &str = "a slot's job was started twice";
pub(crate) const OPEN: &str = "a run's end is in no record";
pub(crate) const UNTRUE: &str = "a run's end is recorded as it was not";
pub(crate) const UNACCOUNTED: &str = "a slot is in no record, and no run stood for it";
pub(crate) const DROPPED: &str = "a slot was given up that the policy keeps";
pub(crate) const FORGOTTEN: &str = "a slot that was owed was not run again";
pub(crate) const UNDONE: &str = "an effect is lost, or there without its run's close";
pub(crate) const STILL: &str = "the schedule stood still, though all faults were over";

/// A slot that is no later was not missed.
const ON_TIME_MS: u64 = 5_000;

/// The schedule does something at least so often, in good order: a run takes less, and so does a pause
/// between two attempts.
const BUSY_MS: u64 = 15_000;

/// What breaks a rule is added to the breaches.
pub(crate) fn check(slots: &Slots, candidates: &[Candidacy], breaches: &mut Vec<Breach>) {
    let mut chain = Chain {
        slots,
        candidates,
        started: slots.starts.iter().map(|it| it.nonce.as_str()).collect(),
        claims: BTreeMap::new(),
        stands_for: BTreeMap::new(),
        breaches,
    };
    let mut before: Option<&StateWrite> = None;
    for write in &slots.writes {
        chain.judge(before, write);
        if write.state.is_some() {
            before = Some(write);
        }
    }
    let claims = chain.claims;
    starts(slots, &claims, breaches);
    effects(slots, breaches);
    if let Some((write, state)) = before.and_then(|write| Some((write, write.state.as_ref()?))) {
        if let Some(open) = &state.open {
            breaches.push(breach(OPEN, write.at, format!("{open:?}, at the end")));
        }
        if slots.stopped_at > latest(state) + BUSY_MS {
            let what = format!("at {} nothing but {}", slots.stopped_at, state.to_json());
            breaches.push(breach(STILL, write.at, what));
        }
    }
}

/// When the state last told of anything, in milliseconds.
fn latest(state: &State) -> u64 {
    let mark = state.mark().time().as_millis();
    let last = state.last.as_ref();
    let ended = last.map_or(0, |last| last.began.as_millis() + last.took_ms);
    mark.max(ended)
}

/// What runs say, held against what was claimed.
fn starts(slots: &Slots, claims: &BTreeMap<String, (Open, u64)>, breaches: &mut Vec<Breach>) {
    let mut seen = BTreeSet::new();
    for start in &slots.starts {
        let shown = format!("{start:?}");
        let Some((open, at)) = claims.get(&start.nonce) else {
            breaches.push(breach(UNCLAIMED, u64::MAX, shown));
            continue;
        };
        let token = open.token.map(incumbent::Token::get);
        let said = (Some(start.token), start.attempt, start.missed);
        if said != (token, open.attempt, open.missed) || start.slot != open.slot.to_string() {
            let what = format!("{shown}\n    for {open:?}");
            breaches.push(breach(UNCLAIMED, *at, what));
        }
        if !seen.insert((start.slot.clone(), start.attempt)) {
            breaches.push(breach(TWICE, *at, shown));
        }
    }
}

/// What runs were told of their effects, held against what is there: each slot's once.
fn effects(slots: &Slots, breaches: &mut Vec<Breach>) {
    let mut of_slots = BTreeSet::new();
    let mut of_runs = BTreeSet::new();
    for write in &slots.writes {
        if let Some((slot, nonce)) = &write.done {
            of_runs.insert(nonce);
            if !of_slots.insert(slot) {
                breaches.push(breach(TWICE, write.at, format!("the effect of {slot}")));
            }
        }
    }
    for told in &slots.completions {
        let rule = match (told.outcome, of_runs.contains(&told.nonce)) {
            (Told::Accepted, false) => UNDONE,
            (Told::Refused, true) => UNTRUE,
            _ => continue,
        };
        breaches.push(breach(rule, u64::MAX, format!("{told:?}")));
    }
}

struct Chain<'a> {
    slots: &'a Slots,
    candidates: &'a [Candidacy],
    /// Of those that said so.
    started: BTreeSet<&'a str>,
    /// All that was claimed, by nonce, and when the store told of it.
    claims: BTreeMap<String, (Open, u64)>,
    /// For how many slots the first claim of each stands beyond its own.
    stands_for: BTreeMap<Slot, u64>,
    breaches: &'a mut Vec<Breach>,
}

impl Chain<'_> {
    fn broken(&mut self, rule: &'static str, write: &StateWrite, what: &str) {
        let shown = format!("{what}: revision {}, {:?}", write.revision, write.entries);
        let state = write.state.as_ref().map(State::to_json);
        let shown = format!("{shown}\n    {}", state.unwrap_or_default());
        self.breaches.push(breach(rule, write.at, shown));
    }

    fn judge(&mut self, before: Option<&StateWrite>, write: &StateWrite) {
        let Some(new) = &write.state else {
            return self.broken(UNDONE, write, "without the state");
        };
        let Some(old) = before.and_then(|before| before.state.as_ref()) else {
            if new.open.is_some() || new.slot.is_some() {
                self.broken(USURPED, write, "claimed before there was a state");
            }
            return;
        };
        if new.slot < old.slot || new.seq < old.seq || new.since < old.since {
            self.broken(SUNK, write, "less than before");
        }
        let numbers = write.entries.iter().map(|(seq, _)| *seq);
        if !numbers.eq(old.seq + 1..=new.seq) {
            self.broken(OPEN, write, "not one record after the other");
        }
        let closed = old
            .open
            .as_ref()
            .filter(|open| !is(new.open.as_ref(), open));
        let claim = new
            .open
            .as_ref()
            .filter(|open| !is(old.open.as_ref(), open));
        if let Some((slot, nonce)) = &write.done {
            let is_its = |open: &Open| open.nonce == *nonce && open.slot.to_string() == *slot;
            let success = runs(write).any(|entry| entry.result == Outcome::Success);
            if !closed.is_some_and(is_its) || !success {
                self.broken(UNDONE, write, "it closes no such run");
            }
        }
        if let Some(open) = closed {
            self.judge_close(open, write);
        } else if runs(write).next().is_some() {
            self.broken(UNTRUE, write, "the record of a run that was not open");
        }
        if let Some(open) = claim {
            if old.open.is_some() {
                self.broken(OPEN, write, "claimed over an open run");
            }
            self.judge_claim(old, open, write);
        }
        self.account(old, new, claim, write);
        for (_, entry) in &write.entries {
            match entry.result {
                Outcome::Missed if !self.may_miss(entry, claim) => {
                    self.broken(DROPPED, write, "missed");
                }
                Outcome::Skipped if !self.may_skip(entry, old) => {
                    self.broken(DROPPED, write, "skipped, and nothing ran");
                }
                _ => {}
            }
        }
        if let Some(open) = claim {
            self.claims
                .insert(open.nonce.clone(), (open.clone(), write.at));
        }
    }

    /// The open run is open no more.
    fn judge_close(&mut self, open: &Open, write: &StateWrite) {
        let Some(entry) = runs(write).next() else {
            if self.started.contains(open.nonce.as_str()) {
                self.broken(OPEN, write, "taken back, though it had started");
            }
            return;
        };
        let of = (entry.slot, entry.attempt, entry.token, entry.missed);
        if of != (open.slot, open.attempt, open.token, open.missed) {
            self.broken(UNTRUE, write, "the record of another run");
        }
        let mut ends = self.slots.ends.iter();
        let said = ends.find(|end| end.nonce == open.nonce);
        let said = said.map(|end| end.code);
        let untrue = match entry.result {
            Outcome::Success => said != Some(0) && write.done.is_none(),
            // One that has said so may still be killed.
            Outcome::Failure => entry.signal.is_none() && entry.code != said && said.is_some(),
            _ => false,
        };
        if untrue {
            self.broken(UNTRUE, write, &format!("the run said {said:?}"));
        }
    }

    fn judge_claim(&mut self, old: &State, open: &Open, write: &StateWrite) {
        let token = open.token.map_or(0, incumbent::Token::get);
        if !leads_at(self.candidates, token, write.revision) {
            self.broken(USURPED, write, "claimed");
        }
        let Some(slot) = open.slot.slot() else {
            return self.broken(UNCLAIMED, write, "nobody asked for a run");
        };
        let policy = &self.slots.policy;
        let last = old.last.as_ref();
        let same = last.filter(|last| last.slot == open.slot);
        if open.attempt > 1 {
            let again = same.is_some_and(|last| {
                last.attempt + 1 == open.attempt && may_run_again(policy, last)
            });
            if !again {
                self.broken(TWICE, write, "an attempt that nothing asks for");
            }
        } else if self.stands_for.contains_key(&slot)
            && !same.is_some_and(|last| last.result == Outcome::Rerun)
        {
            self.broken(TWICE, write, "claimed before");
        }
        // What is owed comes first.
        if let Some(last) = last.filter(|last| is_owed(policy, last)) {
            let owed = last.slot.slot();
            let late = owed.is_none_or(|owed| is_too_late(policy, owed, open.at.as_millis()));
            if (open.slot, open.attempt) != (last.slot, last.attempt + 1) && !late {
                self.broken(FORGOTTEN, write, &format!("{last:?}"));
            }
        }
    }

    /// Every slot that the mark passes is claimed, stood for, or in a record.
    fn account(&mut self, old: &State, new: &State, claim: Option<&Open>, write: &StateWrite) {
        let came = self.slots.policy.between(old.mark(), new.mark());
        let passed = write.entries.iter().map(|(_, entry)| entry);
        let passed = passed.filter(|entry| is_of_no_run(entry));
        let passed: u64 = passed.map(|entry| 1 + entry.missed).sum();
        let mut claimed = 0;
        if let Some(open) = claim
            && let Occasion::Slot(slot) = open.slot
        {
            match self.stands_for.get(&slot) {
                None => {
                    claimed = 1 + open.missed;
                    self.stands_for.insert(slot, open.missed);
                }
                // Those that it stands for are not run by anybody else.
                Some(stands_for) if *stands_for != open.missed => {
                    let what = format!("its first claim stood for {stands_for} more");
                    self.broken(UNACCOUNTED, write, &what);
                }
                Some(_) => {}
            }
        }
        if came != passed + claimed {
            let what = format!("{came} came, {claimed} are claimed, {passed} passed over");
            self.broken(UNACCOUNTED, write, &what);
        }
        if new.missed != old.missed + passed {
            self.broken(
                UNACCOUNTED,
                write,
                "those without a run are not all counted",
            );
        }
    }

    fn may_miss(&self, entry: &HistoryEntry, claim: Option<&Open>) -> bool {
        let policy = &self.slots.policy;
        let (Some(slot), now) = (entry.slot.slot(), entry.began.as_millis()) else {
            return false;
        };
        if is_too_late(policy, slot, now) {
            return true;
        }
        match policy.missed {
            Missed::Last => false,
            Missed::All => {
                now / 1_000 / policy.period - slot.as_secs() / policy.period >= policy.missed_max
            }
            Missed::Skip => {
                let newer = claim.is_some_and(|open| open.slot.slot() > Some(slot));
                newer || now.saturating_sub(slot.time().as_millis()) > ON_TIME_MS
            }
        }
    }

    /// Only those that came while a run was going: the open one, or the last if it closed itself.
    fn may_skip(&self, entry: &HistoryEntry, old: &State) -> bool {
        let open = old.open.as_ref().map(|open| (open.token, open.at));
        let closed_itself = |last: &&Last| {
            let mut done = self.slots.writes.iter().filter_map(|it| it.done.as_ref());
            done.any(|(_, nonce)| last.nonce.as_ref() == Some(nonce))
        };
        let last = old.last.as_ref().filter(closed_itself);
        let last = last.map(|last| (last.token, last.began));
        let (Some(slot), Some((token, began))) = (entry.slot.slot(), open.or(last)) else {
            return false;
        };
        let policy = &self.slots.policy;
        let first = (slot.as_secs() - entry.missed * policy.period) * 1_000;
        // Of several that come before a run, or during it, the last replaces it.
        let replaced = policy.overlap == Overlap::Replace && policy.missed != Missed::All;
        let came_during = first + policy.jitter_ms + LEEWAY_MS >= began.as_millis();
        token == entry.token && (replaced || came_during)
    }
}

/// Whether this is the open run.
fn is(open: Option<&Open>, other: &Open) -> bool {
    open.is_some_and(|open| open.nonce == other.nonce)
}

fn is_of_no_run(entry: &HistoryEntry) -> bool {
    matches!(entry.result, Outcome::Missed | Outcome::Skipped)
}

/// The records of runs.
fn runs(write: &StateWrite) -> impl Iterator<Item = &HistoryEntry> {
    let all = write.entries.iter().map(|(_, entry)| entry);
    all.filter(|entry| !is_of_no_run(entry))
}

fn is_too_late(policy: &SlotPolicy, slot: Slot, now: u64) -> bool {
    let late = now.saturating_sub(slot.time().as_millis());
    policy
        .start_within
        .is_some_and(|within| late > within * 1_000)
}

/// Whether another attempt may follow this one.
fn may_run_again(policy: &SlotPolicy, last: &Last) -> bool {
    match last.result {
        Outcome::Failure | Outcome::Timeout => last.attempt <= policy.retries,
        Outcome::Lost | Outcome::Stopped | Outcome::Killed => {
            policy.guarantee == Guarantee::AtLeastOnce
        }
        _ => false,
    }
}

/// Whether another attempt has to follow this one, before any other slot is run.
fn is_owed(policy: &SlotPolicy, last: &Last) -> bool {
    match last.result {
        Outcome::Rerun => true,
        Outcome::Lost | Outcome::Killed => policy.guarantee == Guarantee::AtLeastOnce,
        Outcome::Stopped => {
            policy.guarantee == Guarantee::AtLeastOnce && policy.overlap != Overlap::Replace
        }
        _ => false,
    }
}
