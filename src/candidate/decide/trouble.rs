//! Saying that the store is away: at once, then at most every so often, and when it is back.

use std::sync::Arc;
use std::time::Duration;

use super::words::Line;
use crate::clock::Instant;

/// At most so often.
const EVERY: Duration = Duration::from_secs(30);

/// Whether, and since when, the store is away.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    since: Option<Instant>,
    /// What was wrong last, while it is away.
    error: Option<Arc<str>>,
    /// Why this replica can't lead even where the store answers.
    refused: Option<Arc<str>>,
    /// Kept over a recovery: a store that comes and goes is no reason for more lines.
    said: Option<Instant>,
}

impl Trouble {
    /// An attempt failed; the first of its row did so at `since`. Returns what is to be said of it.
    pub(super) fn failed(&mut self, since: Instant, error: &str, now: Instant) -> Option<Line> {
        let since = *self.since.get_or_insert(since);
        if self.error.as_deref() != Some(error) {
            self.error = Some(error.into());
        }
        if self.said.is_some_and(|said| now.since(said) < EVERY) {
            return None;
        }
        self.said = Some(now);
        let (since, error) = (now.since(since), error.to_owned());
        Some(Line::StoreUnreachable { since, error })
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

    /// The store answered. Returns what is to be said of it.
    pub(super) fn over(&mut self, now: Instant) -> Option<Line> {
        self.error = None;
        let since = self.since.take()?;
        let said = self.said.is_some_and(|said| said >= since);
        let away = now.since(since);
        said.then_some(Line::StoreReachable { away })
    }
}
