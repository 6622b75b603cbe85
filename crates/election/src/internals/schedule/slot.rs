//! Slots: the instants at which a schedule wants a run; and runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::revision::Token;
use crate::wall::Time;

/// An instant at which a schedule wants a run: whole seconds of the wall clock.
///
/// Prints as RFC 3339 in UTC, `2027-03-28T01:00:00Z`, which is what a job sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot(u64);

impl Slot {
    /// The slot so many seconds after 1970-01-01 00:00 UTC; `None` past the year 9999.
    pub fn at(seconds: u64) -> Option<Self> {
        (Time::from_secs(seconds).as_secs() == seconds).then_some(Self(seconds))
    }

    /// The last whole second up to a time: what a search after, or before, it may begin with.
    pub const fn up_to(time: Time) -> Self {
        Self(time.as_secs())
    }

    /// Seconds since 1970-01-01 00:00 UTC.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// When it is, by the wall clock.
    pub const fn time(self) -> Time {
        Time::from_secs(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.time().fmt(f)
    }
}

/// The text is no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a slot such as 2027-03-28T01:00:00Z, found {0:?}")]
pub struct NotASlot(String);

impl FromStr for Slot {
    type Err = NotASlot;

    fn from_str(text: &str) -> Result<Self, NotASlot> {
        let time = text.parse::<Time>();
        time.ok()
            .filter(|time| Self::up_to(*time).time() == *time)
            .map(Self::up_to)
            .ok_or_else(|| NotASlot(text.to_owned()))
    }
}

impl TryFrom<String> for Slot {
    type Error = NotASlot;

    fn try_from(text: String) -> Result<Self, NotASlot> {
        text.parse()
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Occasion {
    /// A slot of the schedule.
    Slot(Slot),
    /// Somebody asked for it.
    Manual,
}

/// How a run is called that somebody asked for.
const MANUAL: &str = "manual";

impl Occasion {
    /// The slot, unless somebody asked for the run.
    pub const fn slot(self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Manual => None,
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => slot.fmt(f),
            Self::Manual => f.pad(MANUAL),
        }
    }
}

impl TryFrom<String> for Occasion {
    type Error = NotASlot;

    fn try_from(text: String) -> Result<Self, NotASlot> {
        if text == MANUAL {
            return Ok(Self::Manual);
        }
        text.parse().map(Self::Slot)
    }
}

impl From<Occasion> for String {
    fn from(occasion: Occasion) -> Self {
        occasion.to_string()
    }
}

/// A run, told from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunId {
    /// What it is for.
    pub slot: Occasion,
    /// From one.
    pub attempt: u32,
    /// The term it runs in.
    pub token: Token,
    /// The claim's, without which two runs that somebody asked for in one term are the same; none where it
    /// isn't known.
    pub nonce: Option<String>,
}

impl RunId {
    /// Whether a record of this slot, attempt, term and claim is this run's.
    pub(super) fn is(&self, of: (Occasion, u32, Option<Token>), nonce: Option<&str>) -> bool {
        let known = self.nonce.as_deref().zip(nonce);
        of == (self.slot, self.attempt, Some(self.token)) && known.is_none_or(|(a, b)| a == b)
    }
}

/// A run to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it is for.
    pub slot: Occasion,
    /// From one.
    pub attempt: u32,
    /// How many slots it stands for beyond its own.
    pub missed: u64,
    /// The last slot that was a success.
    pub last_success: Option<Slot>,
    /// The term whose claim was acknowledged (R4): in no other may it be started.
    pub token: Token,
    /// The claim's.
    pub nonce: String,
}

impl Run {
    /// What tells it from every other.
    pub fn id(&self) -> RunId {
        RunId {
            slot: self.slot,
            attempt: self.attempt,
            token: self.token,
            nonce: Some(self.nonce.clone()),
        }
    }
}
