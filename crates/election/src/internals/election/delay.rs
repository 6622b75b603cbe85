//! How long a claim waits after an end that was not proven (R13).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// `takeover_delay`. Clones share it, so that a new configuration reaches whoever is campaigning.
#[derive(Clone, Debug)]
pub struct TakeoverDelay(Arc<AtomicU64>);

impl TakeoverDelay {
    /// The delay of a wait that begins now.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Makes it at least so long, for every wait that begins from now on. It never gets shorter:
    /// the term that is to be waited out may have begun by an earlier configuration.
    pub fn raise(&self, delay: Duration) {
        self.0.fetch_max(nanos(delay), Ordering::Relaxed);
    }
}

impl From<Duration> for TakeoverDelay {
    fn from(delay: Duration) -> Self {
        Self(Arc::new(AtomicU64::new(nanos(delay))))
    }
}

/// As nanoseconds; 584 years are as good as more.
fn nanos(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)
}
