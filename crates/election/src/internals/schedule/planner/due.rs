//! Which slots are due, and what the policy makes of them.

use std::time::Duration;

use super::words::{Missed, Setup};
use crate::schedule::{Slot, jitter};
use crate::wall::Time;

/// A slot that is no later than this was not missed: a hand-over, or a write that had to be sent
/// twice, takes as long.
pub(super) const ON_TIME: Duration = Duration::from_secs(5);

/// So many due slots are counted; of more, it is said that there were at least so many.
pub(super) const COUNTED: usize = 10_000;

/// So many missed slots are run at most, whatever the configuration says.
const RUN_AT_MOST: usize = 1_000;

/// What is due, by the policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The slot to run, and how many it stands for beyond its own.
    pub(super) run: Option<(Slot, u64)>,
    /// The last of the slots before it that nothing runs, and how many they are.
    pub(super) missed: Option<(Slot, u64)>,
    /// Whether more is to be run after it.
    pub(super) more: bool,
}

impl Setup {
    /// When the run of a slot begins.
    pub fn due_at(&self, slot: Slot) -> Time {
        slot.time() + jitter(&self.election, slot, self.policy.jitter)
    }

    /// Whether a slot is so late that it is missed for good.
    pub fn is_too_late(&self, slot: Slot, now: Time) -> bool {
        let within = self.policy.start_within;
        within.is_some_and(|within| now.since(self.due_at(slot)) > within)
    }

    /// The slots after `mark` that are due, oldest first; none overtakes one before it. Where they
    /// are too many, the last of them, and how many at least were left out.
    pub(super) fn due(&self, mark: Slot, now: Time) -> (Vec<Slot>, u64) {
        let first = self.due_from(mark, now, COUNTED);
        if first.len() < COUNTED {
            return (first, 0);
        }
        let keep = self.policy.missed_max.clamp(1, RUN_AT_MOST);
        let mut from = Slot::up_to(now - self.policy.jitter);
        for _ in 0..keep {
            match self.schedule.previous(from) {
                Some(earlier) if earlier > mark => from = earlier,
                _ => break,
            }
        }
        let before = Slot::at(from.as_secs().saturating_sub(1)).unwrap_or(from);
        let last = self.due_from(before.max(mark), now, COUNTED);
        let left_out = first.iter().filter(|slot| **slot < from).count();
        (last, u64::try_from(left_out).unwrap_or(u64::MAX))
    }

    fn due_from(&self, mark: Slot, now: Time, most: usize) -> Vec<Slot> {
        let mut slots = self.schedule.between(mark, Slot::up_to(now), most);
        let not_yet = slots.iter().position(|slot| self.due_at(*slot) > now);
        slots.truncate(not_yet.unwrap_or(slots.len()));
        slots
    }

    /// What is to become of the slots after `mark`.
    pub(super) fn choose(&self, mark: Slot, now: Time) -> Choice {
        let (slots, left_out) = self.due(mark, now);
        let number = |slots: &[Slot]| u64::try_from(slots.len()).unwrap_or(u64::MAX);
        let late = slots.iter().rposition(|slot| self.is_too_late(*slot, now));
        let (too_late, fresh) = slots.split_at(late.map_or(0, |last| last + 1));
        let (run, stands_for, more) = match self.policy.missed {
            Missed::Skip => {
                let last = fresh.last();
                let run = last.filter(|slot| now.since(self.due_at(**slot)) <= ON_TIME);
                (run, 0, false)
            }
            Missed::Last => {
                let before = number(fresh).saturating_sub(1);
                let out = if too_late.is_empty() { left_out } else { 0 };
                (fresh.last(), before + out, false)
            }
            Missed::All => {
                let most = self.policy.missed_max.clamp(1, RUN_AT_MOST);
                let kept = &fresh[fresh.len().saturating_sub(most)..];
                (kept.first(), 0, kept.len() > 1)
            }
        };
        let run = run.copied();
        let before: Vec<Slot> = match self.policy.missed {
            Missed::Last if run.is_some() => too_late.to_vec(),
            _ => {
                let is_before = |slot: &&Slot| run.is_none_or(|run| **slot < run);
                slots.iter().filter(is_before).copied().collect()
            }
        };
        let left_out = if stands_for > 0 { 0 } else { left_out };
        let counted = number(&before) + left_out;
        let last = before.last().copied().or_else(|| {
            let run = run.filter(|_| left_out > 0)?;
            self.schedule.previous(run)
        });
        Choice {
            run: run.map(|slot| (slot, stands_for)),
            missed: last.map(|last| (last, counted)),
            more,
        }
    }
}
