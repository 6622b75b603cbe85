//! Saying that the store is away: at once, then at most every so often, and when it is back.

use std::time::Duration;

use super::lines::Lines;
use crate::clock::{self, Instant};

/// At most so often.
const EVERY: Duration = Duration::from_secs(30);

/// Whether, and since when, the store is away.
#[derive(Debug, Default)]
pub(super) struct StoreTrouble {
    since: Option<Instant>,
    /// Kept over a recovery: a store that comes and goes is no reason for more lines.
    said: Option<Instant>,
}

impl StoreTrouble {
    /// An attempt failed; the first of its row did so at `since`.
    pub(super) fn failed(&mut self, since: Instant, error: &str, lines: &Lines) {
        let since = *self.since.get_or_insert(since);
        let now = clock::now();
        if self.said.is_none_or(|said| now.since(said) >= EVERY) {
            self.said = Some(now);
            lines.store_unreachable(now.since(since), error);
        }
    }

    /// The store answered.
    pub(super) fn over(&mut self, lines: &Lines) {
        if let Some(since) = self.since.take()
            && self.said.is_some_and(|said| said >= since)
        {
            lines.store_reachable(clock::now().since(since));
        }
    }
}
