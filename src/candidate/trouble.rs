//! Saying that the store is away: at once, then at most every so often, and when it is back.

use std::sync::Arc;
use std::time::Duration;

use super::lines::Lines;
use crate::clock::{self, Instant};

/// At most so often.
const EVERY: Duration = Duration::from_secs(30);

/// Whether, and since when, the store is away.
#[derive(Debug, Default)]
pub(super) struct StoreTrouble {
    since: Option<Instant>,
    /// What was wrong last, while it is away.
    error: Option<Arc<str>>,
    /// Why this replica can't lead even where the store answers.
    refused: Option<Arc<str>>,
    /// Kept over a recovery: a store that comes and goes is no reason for more lines.
    said: Option<Instant>,
}

impl StoreTrouble {
    /// An attempt failed; the first of its row did so at `since`.
    pub(super) fn failed(&mut self, since: Instant, error: &str, lines: &Lines) {
        let since = *self.since.get_or_insert(since);
        if self.error.as_deref() != Some(error) {
            self.error = Some(error.into());
        }
        let now = clock::now();
        if self.said.is_none_or(|said| now.since(said) >= EVERY) {
            self.said = Some(now);
            lines.store_unreachable(now.since(since), error);
        }
    }

    /// The store, or a rule, refuses what this replica needs to lead.
    pub(super) fn refused(&mut self, why: &str) {
        self.refused = Some(why.into());
    }

    /// It stands in the queue: nothing is refused any more.
    pub(super) fn stands(&mut self) {
        self.refused = None;
    }

    /// What is wrong with the store, while it is away.
    pub(super) fn away(&self) -> Option<&Arc<str>> {
        self.error.as_ref()
    }

    /// Why it can't stand, or go on, as far as is known.
    pub(super) fn why(&self) -> Option<Arc<str>> {
        self.away().or(self.refused.as_ref()).cloned()
    }

    /// The store answered.
    pub(super) fn over(&mut self, lines: &Lines) {
        self.error = None;
        if let Some(since) = self.since.take()
            && self.said.is_some_and(|said| said >= since)
        {
            lines.store_reachable(clock::now().since(since));
        }
    }
}
