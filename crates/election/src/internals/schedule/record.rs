//! What the store keeps of a schedule: one state record, and one record a run that is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Occasion, RunId, Slot};
use crate::revision::{Token, or_zero};
use crate::wall::Time;

/// The largest state record, in bytes.
pub const STATE_BYTES: usize = 1024;

/// The largest record of a run, in bytes.
pub const RUN_BYTES: usize = 512;

/// So long a host's name may be in a record, in bytes; what is longer is cut.
const HOST_BYTES: usize = 96;

/// How a run ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The job was done.
    Success,
    /// The job failed.
    Failure,
    /// It took longer than it may, and was stopped.
    Timeout,
    /// It was stopped on purpose.
    Stopped,
    /// It was killed since the term was lost.
    Killed,
    /// Nobody recorded its end.
    Lost,
    /// Slots that came while nobody could run them, and that nothing runs any more.
    Missed,
    /// Slots that were passed over on purpose: a run was going, or the election was paused.
    Skipped,
    /// To be run (again): claimed and certainly not started, or settled so by a person.
    Rerun,
    /// A person set the schedule back, or forth.
    Rewound,
}

impl Outcome {
    /// Whether it is worth somebody's look: a run that was not done, or slots that nobody could run.
    pub const fn is_wrong(self) -> bool {
        matches!(
            self,
            Self::Failure | Self::Timeout | Self::Killed | Self::Lost | Self::Missed
        )
    }

    /// The word for logs, metrics and commands.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Lost => "lost",
            Self::Missed => "missed",
            Self::Skipped => "skipped",
            Self::Rerun => "rerun",
            Self::Rewound => "rewound",
        }
    }
}

/// What becomes of a wish for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is claimed, and starts.
    Claimed,
    /// It waits for the run that is open.
    Queued,
    /// Refused: a run is open, or about to be.
    Open,
    /// Refused: the election is paused.
    Paused,
    /// Refused: the term ends, or none is.
    Ending,
    /// Refused: the wall clock is behind, or the state can't be read.
    Held,
}

/// The state record of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which schedule it is of, as the schedule tells it from others.
    pub spec: String,
    /// Slots up to this time are none of this schedule's: when it was deployed or changed.
    pub since: Time,
    /// When the election was resumed last after a pause that nobody led through: who leads then skips the
    /// slots up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Time>,
    /// The last slot that was claimed or passed over; it only rises.
    pub slot: Option<Slot>,
    /// The number of the last record of a run; zero before the first.
    pub seq: u64,
    /// The run that is claimed and not closed.
    pub open: Option<Open>,
    /// The last run that is over.
    pub last: Option<Last>,
    /// The last slot that was a success.
    pub last_success: Option<Slot>,
    /// So many slots in a row failed.
    pub failures: u64,
    /// So many slots were never run, since the schedule was first deployed: missed or skipped.
    pub missed: u64,
}

/// A run that is claimed and not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What it is for.
    pub slot: Occasion,
    /// From one.
    pub attempt: u32,
    /// The term that claimed it; none where what stands there is no token. The record is read all the
    /// same: unread it would hold up the schedule for good, and a run of no term that is known is of
    /// another than the one that reads it.
    #[serde(with = "or_zero")]
    pub token: Option<Token>,
    /// Tells this claim from every other.
    pub nonce: String,
    /// The candidate that claimed it.
    pub host: String,
    /// When it was claimed.
    pub at: Time,
    /// How many slots it stands for beyond its own.
    #[serde(default)]
    pub missed: u64,
}

/// The last run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// What it was for.
    pub slot: Occasion,
    /// Its attempt; zero if it was certainly not started.
    #[serde(default = "one")]
    pub attempt: u32,
    /// How it ended.
    pub result: Outcome,
    /// When it was claimed.
    pub began: Time,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Where it ran.
    pub host: String,
    /// The term it ran in; none as of a run that is open.
    #[serde(with = "or_zero")]
    pub token: Option<Token>,
    /// The claim's; none in what an older version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// How many slots it stood for beyond its own, as another attempt does too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The record of a run that is over, or of slots that had none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// What it was for; of several slots without a run, the last.
    pub slot: Occasion,
    /// Its attempt, from one; zero where there was no run.
    pub attempt: u32,
    /// How it ended.
    pub result: Outcome,
    /// The exit code, if it ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When it was claimed; of slots without a run, when they were passed over.
    pub began: Time,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Where it ran, or who passed the slots over.
    pub host: String,
    /// The term; none where somebody else than a leader wrote it.
    #[serde(with = "or_zero")]
    pub token: Option<Token>,
    /// How many slots it stands for beyond its own.
    pub missed: u64,
}

/// How the job of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a code; a Rust job that returned in good order with 0, else with 1.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// The state that is there can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schedule's state can't be read: {0}")]
pub struct Unreadable(pub String);

/// A repair that can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSettled {
    /// A run is open.
    #[error(
        "a run is open, claimed by {0}: wait for its end, or for the next leader to find it lost"
    )]
    Open(String),
    /// It is not the last slot that was run.
    #[error("expected the last slot that was run, {expected}, found {found}")]
    NotTheLast {
        /// The last slot, or `none`.
        expected: String,
        /// What was asked for.
        found: Slot,
    },
    /// Its end is known.
    #[error("expected a lost run, found one whose result is {}", .0.word())]
    NotLost(Outcome),
}

impl Last {
    /// Whether its claim was taken back, since it was certainly not started: it is still to be, or missed.
    pub fn is_owed(&self) -> bool {
        self.attempt == 0 && self.result == Outcome::Rerun
    }
}

impl State {
    /// The state of a schedule that begins now.
    pub fn new(spec: String, now: Time) -> Self {
        Self {
            spec,
            since: now,
            paused_until: None,
            slot: None,
            seq: 0,
            open: None,
            last: None,
            last_success: None,
            failures: 0,
            missed: 0,
        }
    }

    /// Reads a record as it is stored.
    ///
    /// # Errors
    /// If it is no state record. It counts as there all the same: nothing may be claimed over it.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(bytes).map_err(|error| Unreadable(error.to_string()))
    }

    /// As it is stored, at most [`STATE_BYTES`] long.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The last slot that can't be due any more.
    pub fn mark(&self) -> Slot {
        let since = Slot::up_to(self.since);
        self.slot.map_or(since, |slot| slot.max(since))
    }

    /// The latest time that the record knows of: a leader whose clock is before it is behind.
    pub(super) fn latest(&self) -> Time {
        let open = self.open.as_ref().map_or(Time::EPOCH, |open| open.at);
        let last = self.last.as_ref().map_or(Time::EPOCH, |last| last.began);
        let paused = self.paused_until.unwrap_or(Time::EPOCH);
        let known = [self.since, paused, open, last];
        known.into_iter().fold(self.mark().time(), Time::max)
    }

    /// Closes the open run; `None` if there is none. Returns the new state and the record.
    pub fn closed(
        &self,
        result: Outcome,
        exit: Option<Exit>,
        took: Duration,
    ) -> Option<(Self, HistoryEntry)> {
        let mut state = self.clone();
        let open = state.open.take()?;
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        state.last = Some(Last {
            slot: open.slot,
            attempt: open.attempt,
            result,
            began: open.at,
            took_ms,
            host: open.host.clone(),
            token: open.token,
            nonce: Some(open.nonce),
            missed: open.missed,
        });
        match result {
            // What somebody asked for is no slot, and says nothing of a row of them.
            _ if open.slot == Occasion::Manual => {}
            Outcome::Success => {
                state.failures = 0;
                state.last_success = open.slot.slot().or(state.last_success);
            }
            // A slot fails once, however often it is tried.
            Outcome::Failure | Outcome::Timeout | Outcome::Lost if open.attempt == 1 => {
                state.failures += 1;
            }
            _ => {}
        }
        state.seq += 1;
        let (code, signal) = match exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        let record = HistoryEntry {
            slot: open.slot,
            attempt: open.attempt,
            result,
            code,
            signal,
            began: open.at,
            took_ms,
            host: open.host,
            token: open.token,
            missed: open.missed,
        };
        Some((state, record))
    }

    /// Whether this run is the one that is open.
    pub fn has_open(&self, run: &RunId) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|it| run.is((it.slot, it.attempt, it.token), Some(&it.nonce)))
    }

    /// Whether this run is the last that is over.
    pub fn has_closed(&self, run: &RunId) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|it| run.is((it.slot, it.attempt, it.token), it.nonce.as_deref()))
    }

    /// Settles slots without a run, up to `slot`; returns the record and its number.
    pub(super) fn without_run(
        &mut self,
        slot: Slot,
        count: u64,
        result: Outcome,
        now: Time,
        host: String,
        token: Option<Token>,
    ) -> (u64, HistoryEntry) {
        self.slot = self.slot.max(Some(slot));
        self.missed = self.missed.saturating_add(count);
        self.seq += 1;
        let record = HistoryEntry {
            slot: Occasion::Slot(slot),
            attempt: 0,
            result,
            code: None,
            signal: None,
            began: now,
            took_ms: 0,
            host,
            token,
            missed: count.saturating_sub(1),
        };
        (self.seq, record)
    }

    /// Takes a claim back whose run was certainly not started, so that it is still to be.
    pub(super) fn unclaimed(&self) -> Self {
        let mut state = self.clone();
        if let Some(open) = state.open.take()
            && open.attempt == 1
            && open.slot.slot().is_some()
        {
            state.last = Some(Last {
                slot: open.slot,
                attempt: 0,
                result: Outcome::Rerun,
                began: open.at,
                took_ms: 0,
                host: open.host,
                token: open.token,
                nonce: Some(open.nonce),
                missed: open.missed,
            });
        }
        state
    }

    /// The state once the election goes on after a pause that nobody led through: who leads next skips the
    /// slots of the paused time. For the transaction that ends the pause.
    #[must_use]
    pub fn resumed(&self, now: Time) -> Self {
        let mut state = self.clone();
        state.paused_until = state.paused_until.max(Some(now));
        state
    }

    /// Sets the schedule to a time, as a person asks: the one way in which `slot` may fall. The record
    /// of it stands among the runs.
    ///
    /// # Errors
    /// While a run is open.
    pub fn rewound(
        &self,
        to: Time,
        now: Time,
        host: &str,
    ) -> Result<(Self, HistoryEntry), NotSettled> {
        self.none_open()?;
        let mut state = self.clone();
        let record = HistoryEntry {
            slot: Occasion::Slot(self.mark()),
            attempt: 0,
            result: Outcome::Rewound,
            code: None,
            signal: None,
            began: now,
            took_ms: 0,
            host: cut(host),
            token: None,
            missed: 0,
        };
        (state.since, state.paused_until) = (to, None);
        state.slot = state.slot.map(|_| Slot::up_to(to));
        state.last = None;
        state.seq += 1;
        Ok((state, record))
    }

    /// Says what became of a lost run, as a person found out; [`Outcome::Rerun`] has it run again.
    ///
    /// # Errors
    /// If it isn't the last slot that was run, or isn't lost.
    pub fn resolved(&self, slot: Slot, result: Outcome) -> Result<Self, NotSettled> {
        self.none_open()?;
        let mut state = self.clone();
        let last = state.last.as_mut();
        let Some(last) = last.filter(|last| last.slot == Occasion::Slot(slot)) else {
            let last = self.last.as_ref();
            return Err(NotSettled::NotTheLast {
                expected: last.map_or_else(|| "none".to_owned(), |last| last.slot.to_string()),
                found: slot,
            });
        };
        if last.result != Outcome::Lost {
            return Err(NotSettled::NotLost(last.result));
        }
        last.result = result;
        if result == Outcome::Success {
            state.failures = 0;
            state.last_success = Some(slot);
        }
        Ok(state)
    }

    fn none_open(&self) -> Result<(), NotSettled> {
        let open = self.open.as_ref();
        open.map_or(Ok(()), |open| Err(NotSettled::Open(open.host.clone())))
    }
}

impl HistoryEntry {
    /// Reads a record as it is stored.
    ///
    /// # Errors
    /// If it is no record of a run.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(bytes).map_err(|error| Unreadable(error.to_string()))
    }

    /// As it is stored, at most [`RUN_BYTES`] long.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A host's name, cut so that every record keeps within its size, even where JSON escapes it.
pub(super) fn cut(host: &str) -> String {
    let mut cut = String::new();
    let mut bytes = 0;
    for letter in host.chars() {
        bytes += match letter {
            '"' | '\\' => 2,
            _ if letter.is_control() => 6,
            _ => letter.len_utf8(),
        };
        if bytes > HOST_BYTES {
            break;
        }
        cut.push(letter);
    }
    cut
}

#[cfg(test)]
mod tests;
