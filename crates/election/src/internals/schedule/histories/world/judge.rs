//! What must never be, whoever led and whatever failed.

use std::time::Duration;

use super::World;
use crate::schedule::Write;
use crate::schedule::planner::{Action, Guarantee, Line, Overlap};
use crate::schedule::record::Outcome;

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
            match record.result {
                Outcome::Missed | Outcome::Skipped => self.accounted += 1 + record.missed,
                Outcome::Success | Outcome::Failure | Outcome::Timeout => {
                    self.settled.extend(record.slot.slot());
                    let truth = self.truth.get(&(record.slot, record.attempt)).copied();
                    let told = record.result;
                    if truth.is_none() || told != Outcome::Timeout && truth != Some(told) {
                        self.violated(format!("{} told as {told:?}, was {truth:?}", record.slot));
                    }
                }
                _ => {}
            }
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
        let unstarted = old.and_then(|old| old.last).is_some_and(|last| {
            last.slot == open.slot && last.attempt == 0 && last.result == Outcome::Rerun
        });
        if open.attempt == 1 && again && !unstarted {
            self.violated(format!("{slot} was claimed twice"));
        }
        if self.claimed.insert(slot) {
            self.accounted += 1 + open.missed;
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
            && !self.forking
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
        if policy.guarantee == Guarantee::AtLeastOnce && policy.overlap != Overlap::Replace {
            let owed = self.claimed.difference(&self.settled).copied();
            let owed: Vec<_> = owed.filter(|slot| Some(*slot) != latest).collect();
            if !owed.is_empty() {
                self.violated(format!("claimed, and no end is recorded: {owed:?}"));
            }
        }
    }
}
