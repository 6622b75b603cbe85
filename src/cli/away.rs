//! Commands that follow something go on while the store is away.

use std::time::Duration;

use super::exit::Failure;
use super::output;
use crate::backoff::{self, Backoff};
use crate::clock::{self, Instant};
use crate::etcd;

/// How often it is said that the store is away.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// An absence shorter than this is not worth a word: another member takes over meanwhile.
const WORTH_A_WORD: Duration = Duration::from_secs(2);

/// Two failures further apart than this belong to two absences. A single attempt takes less.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// The store's absence, as it is seen by attempt after attempt.
#[derive(Debug)]
pub(super) struct Away {
    /// The first failure of this absence, and the last.
    failures: Option<(Instant, Instant)>,
    said: Option<Instant>,
    pauses: Backoff,
}

impl Away {
    /// The store is there.
    pub(super) fn new() -> Self {
        Self {
            failures: None,
            said: None,
            pauses: Backoff::new(Duration::from_millis(10), Duration::from_secs(1)),
        }
    }

    /// Takes a failed attempt in: says so if it is time to, and waits until the next is due.
    ///
    /// # Errors
    /// What no further attempt will mend.
    pub(super) async fn wait(&mut self, error: etcd::Error) -> Result<(), Failure> {
        if !error.may_pass() {
            return Err(error.into());
        }
        let now = clock::now();
        let began = match self.failures {
            Some((began, last)) if now.since(last) < FORGOTTEN => began,
            _ => {
                self.pauses.reset();
                now
            }
        };
        self.failures = Some((began, now));
        let is_due = self.said.is_none_or(|said| now.since(said) >= SAY_EVERY);
        if now.since(began) >= WORTH_A_WORD && is_due {
            self.said = Some(now);
            output::complain(format_args!(
                "the store is unreachable, still trying: {error}"
            ));
        }
        clock::sleep(self.pauses.next(backoff::jitter())).await;
        Ok(())
    }
}
