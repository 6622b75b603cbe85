//! What must never be, whoever led and whatever failed.

use std::time::Duration;

use super::{Job, World};
use crate::schedule::planner::{Action, Guarantee, Line, Overlap};
use crate::schedule::record::{HistoryEntry, Last, Outcome, State};
use crate::schedule::{Run, Write};

/// How long a run may take to stop, and some.
const STOPPED: Duration = Duration::from_millis(1_100);

/// Whether the record is of the last run that the state knows.
fn is_of(record: &HistoryEntry, state: &State) -> bool {
    let last = state.last.as_ref();
    last.is_some_and(|last| {
        (last.slot, last.attempt, last.result) == (record.slot, record.attempt, record.result)
    })
}

impl World {
    /// No write may break a promise.
    pub(super) fn judge_write(&mut self, write: &Write) {
        let new = &write.state;
        let old = self.state.clone();
        if old.is_none() {
            self.since = Some(new.mark());
        }
        if let Some(old) = &old
            && (new.slot < old.slot || new.seq < old.seq || new.since < old.since)
        {
            self.violated("the mark, or the count of records, fell".to_owned());
        }
        for (seq, record) in &write.runs {
            if old.as_ref().is_some_and(|old| *seq <= old.seq) {
                self.violated(format!("the record {seq} was written over"));
            }
            if *seq == new.seq && record.attempt > 0 && !is_of(record, new) {
                self.violated(format!("the record {seq} isn't of the last run"));
            }
        }
        self.accounted += new.missed - old.as_ref().map_or(0, |old| old.missed);
        let last = old.as_ref().and_then(|old| old.last.as_ref());
        // What was claimed and not started was accounted for by its claim.
        let idle = old.as_ref().is_some_and(|old| old.open.is_none());
        if let Some(last) = last.filter(|last| idle && new.last.as_ref() != Some(last))
            && last.is_owed()
        {
            self.accounted -= 1 + last.missed;
        }
        if let Some(ended) = &new.last
            && last != Some(ended)
        {
            self.judge_close(ended);
        }
        let claims = old.as_ref().and_then(|old| old.open.as_ref()) != new.open.as_ref();
        let Some(open) = new.open.as_ref().filter(|_| claims) else {
            return;
        };
        if let Some(old) = &old {
            if old.open.is_some() {
                self.violated("claimed over an open run".to_owned());
            }
            if open.at + Duration::from_secs(2) < old.mark().time() {
                self.violated("claimed by a clock that is behind".to_owned());
            }
        }
        let Some(slot) = open.slot.slot() else {
            return;
        };
        let again = self.claimed.contains(&slot);
        let unstarted = last.is_some_and(|last| last.slot == open.slot && last.is_owed());
        if open.attempt == 1 && again && !unstarted {
            self.violated(format!("{slot} was claimed twice"));
        }
        let mark = old.as_ref().map(State::mark);
        if open.attempt == 1 && !unstarted && mark >= Some(slot) {
            self.violated(format!("{slot} was claimed, and {mark:?} was over"));
        }
        let late = open.at.since(self.setup.due_at(slot));
        let within = self.setup.policy.start_within;
        if within.is_some_and(|most| late > most) {
            self.violated(format!("{slot} was claimed {late:?} late"));
        }
        if self.claimed.insert(slot) {
            self.accounted += 1 + open.missed;
        }
    }

    /// What the state says of a run that is over is true, and is said once.
    fn judge_close(&mut self, last: &Last) {
        let (run, told) = ((last.slot, last.attempt), last.result);
        let is_end = matches!(told, Outcome::Success | Outcome::Failure | Outcome::Timeout);
        let truth = self.truth.get(&run).copied();
        if is_end && (truth.is_none() || told != Outcome::Timeout && truth != Some(told)) {
            self.violated(format!("{} told as {told:?}, was {truth:?}", last.slot));
        }
        let Some(slot) = last.slot.slot() else {
            return;
        };
        if is_end {
            self.settled.insert(slot);
        }
        if last.attempt > 0
            && let Some(before) = self.ends.insert((slot, last.attempt), told)
        {
            self.violated(format!("{slot} ended as {before:?}, and as {told:?}"));
        }
    }

    /// The last records are there, as many as are kept, and at most one more: a run that closes itself
    /// trims nothing.
    pub(super) fn judge_records(&mut self) {
        let seq = self.state.as_ref().map_or(0, |state| state.seq);
        let keeps = self.setup.policy.history;
        let first = (seq + 1).saturating_sub(keeps).max(1);
        let older = self.runs.range(..first).count();
        let kept = self.runs.range(first..).map(|(seq, _)| *seq);
        if older > 1 || !kept.eq(first..=seq) {
            let there: Vec<_> = self.runs.keys().collect();
            self.violated(format!("{keeps} records are kept up to {seq}: {there:?}"));
        }
    }

    /// A run begins: alone, by its claim, and as often as the policy says.
    pub(super) fn judge_start(&mut self, life: u64, run: &Run) {
        if let Some(job) = &self.job {
            let (this, other) = (run.slot, job.run.slot);
            let same = job.life == life;
            self.violated(format!("{this} started beside {other}, same term: {same}"));
        }
        let open = self.state.as_ref().and_then(|state| state.open.as_ref());
        if !open.is_some_and(|open| open.nonce == run.nonce && open.token == self.leader) {
            self.violated(format!("{} started without its claim", run.slot));
        }
        if self.paused.is_some_and(|since| self.now > since + 20) {
            self.violated(format!("{} started while paused", run.slot));
        }
        if let Some(slot) = run.slot.slot() {
            if !self.started.insert((slot, run.attempt)) {
                self.violated(format!("{slot} attempt {} started twice", run.attempt));
            }
            if self.completed.contains(&slot) {
                self.violated(format!("{slot} started, and had closed itself"));
            }
        }
        let Some(slot) = run.slot.slot() else {
            return;
        };
        // However often somebody wants it again.
        let before = run.attempt.checked_sub(1).filter(|before| *before > 0);
        let Some(before) = before.filter(|_| !self.again.contains(&slot)) else {
            return;
        };
        let policy = &self.setup.policy;
        let may_again = match self.ends.get(&(slot, before)) {
            Some(Outcome::Failure | Outcome::Timeout) => before <= policy.retries,
            Some(Outcome::Lost | Outcome::Stopped | Outcome::Killed) => {
                policy.guarantee == Guarantee::AtLeastOnce
            }
            _ => false,
        };
        if !may_again {
            let end = self.ends.get(&(slot, before)).copied();
            self.violated(format!("{slot} started again after {before}: {end:?}"));
        }
    }

    /// A run takes no longer than it may, and a second to stop.
    pub(super) fn judge_span(&mut self, job: &Job) {
        let took = Duration::from_millis(self.now - job.began);
        let most = self.setup.policy.timeout.map(|most| most + STOPPED);
        if most.is_some_and(|most| took > most) {
            self.violated(format!("{} took {took:?}", job.run.slot));
        }
    }

    /// No slot is skipped for a run that isn't there.
    pub(super) fn judge_action(&mut self, action: &Action) {
        if let Action::Say(Line::Skipped {
            slot,
            paused: false,
            ..
        }) = action
            && self.job.is_none()
            && self.forking.is_none()
            && self.ended != self.now
        {
            self.violated(format!("{slot} was skipped, and nothing ran"));
        }
    }

    /// All has healed for twenty minutes: nothing may be owed.
    pub(super) fn judge_end(&mut self) {
        let Some(state) = self.state.clone() else {
            return self.violated("there is no state".to_owned());
        };
        let policy = self.setup.policy.clone();
        let now = self.present().wall;
        let mark = state.mark();
        // A run takes up to 100 s, and may be tried three times, with a queue behind it.
        let late = now.since(mark.time());
        if late > Duration::from_mins(8) {
            self.violated(format!(
                "the last slot that was settled is {mark}, at {now}"
            ));
        }
        let since = self.since.expect("it has begun");
        let slots = self.setup.schedule.between(since, mark, 1_000_000);
        let slots = u64::try_from(slots.len()).expect("a number");
        if slots != self.accounted {
            let accounted = self.accounted;
            self.violated(format!("{slots} slots came, {accounted} are accounted for"));
        }
        let latest = self.claimed.last().copied();
        let at_least_once =
            policy.guarantee == Guarantee::AtLeastOnce && policy.start_within.is_none();
        if at_least_once && policy.overlap != Overlap::Replace {
            let owed = self.claimed.difference(&self.settled).copied();
            let owed: Vec<_> = owed.filter(|slot| Some(*slot) != latest).collect();
            if !owed.is_empty() {
                self.violated(format!("claimed, and no end is recorded: {owed:?}"));
            }
        }
    }
}
