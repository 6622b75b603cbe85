//! Who counts renewals: the session tells, and whoever opened it keeps the numbers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt to renew came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// Acknowledged, and proven while leading.
    Ok,
    /// Acknowledged by a leader of the store that nobody else may have heard of (R1).
    Unproven,
    /// Not acknowledged.
    Failed,
}

/// Is told of every attempt to renew, on the thread that renews: it must not block (R14). By default
/// nobody is.
#[derive(Clone, Default)]
pub struct Counter(Option<Arc<Tell>>);

type Tell = dyn Fn(Renewed, Duration) + Send + Sync;

impl Counter {
    /// Calls `tell` with how an attempt came out, and how long it took.
    pub fn new(tell: impl Fn(Renewed, Duration) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn renewed(&self, result: Renewed, took: Duration) {
        if let Some(tell) = &self.0 {
            tell(result, took);
        }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counter")
    }
}
