//! What is read and written of a schedule's records, whoever decides on it.

use serde::{Deserialize, Serialize};

use super::record::{HistoryEntry, State};
use crate::revision::{Revision, Token};

/// What a read found.
#[derive(Clone, Debug)]
pub enum Stored {
    /// No record.
    Absent,
    /// A record.
    State {
        /// It.
        state: Box<State>,
        /// Its `mod_revision`.
        revision: Revision,
    },
    /// A record that can't be read.
    Unreadable {
        /// Why.
        why: String,
        /// Its `mod_revision`.
        revision: Revision,
    },
    /// The store didn't say.
    Unknown,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was done, in this revision.
    Done {
        /// The state's `mod_revision` from now on.
        revision: Revision,
    },
    /// It was refused: the state is another, or the term is over.
    Refused,
    /// The store didn't say: it may be done now, later, or never.
    Unknown,
}

/// A guarded write: only while the leader's key has `create_revision = token` and the state has
/// `mod_revision = seen` (zero where it is absent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Tells its answer from others.
    pub number: u64,
    /// The term.
    pub token: Token,
    /// The state's `mod_revision`.
    pub seen: Revision,
    /// What to put as the state.
    pub state: State,
    /// Records of runs to put, by their numbers.
    pub runs: Vec<(u64, HistoryEntry)>,
    /// Numbers of the records to delete.
    pub trimmed: Vec<u64>,
    /// Whether it is the last close of its term, which goes with the resignation, too, where nothing is
    /// heard of it.
    pub last: bool,
}
