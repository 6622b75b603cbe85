//! When the store, or the whole machine, was slow: by a fault, or because others are at work on it too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::checker::{After, Reach, Thrown};
use crate::common::Cluster;
use crate::common::process::monotonic_ns;
use crate::elections::prefix;
use crate::faults::nanos;

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer that takes longer, the pause included, is a lull: so soon a daemon with the shortest TTL gives a
/// member up for another, and where all are slow it never renews its lease.
const SLOW: Duration = Duration::from_millis(250);

/// The longest that one is waited for.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Lulls(Mutex<Vec<Thrown>>);

impl Lulls {
    /// Asks one member after the other again and again, until it is told to stop.
    pub(crate) fn watch(&self, cluster: &Cluster, stop: &AtomicBool) {
        for turn in 0_usize.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let from = monotonic_ns();
            let healthy = cluster.healthy();
            let answered = healthy.get(turn % healthy.len().max(1)).is_some_and(|i| {
                let mut client = cluster.client(*i);
                let get = async { tokio::time::timeout(LIMIT, client.get(prefix(), None)).await };
                cluster.block_on(get).is_ok_and(|answer| answer.is_ok())
            });
            // The pause counts: a machine that stands still is no better.
            std::thread::sleep(PAUSE);
            let to = monotonic_ns();
            if !answered || to - from > nanos(SLOW) {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(lull(from, to));
            }
        }
    }

    /// All of them, as faults of the store.
    pub(crate) fn told(self) -> Vec<Thrown> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lull(from: u64, to: u64) -> Thrown {
    Thrown {
        name: "the store was slow".into(),
        excepted: false,
        ends_leases: false,
        spoils: false,
        after: After::Lingers,
        replica: None,
        reach: Reach::All,
        from,
        to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{eventually, secs};

    #[test]
    fn a_member_that_stands_still_makes_the_store_slow() {
        let cluster = Cluster::start(1);
        let (lulls, stop) = (Lulls::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let stopped = crate::StopAll(&[&stop]);
            scope.spawn(|| lulls.watch(&cluster, &stop));
            let from = monotonic_ns();
            cluster.freeze(0);
            eventually(secs(20), "it is slow", || {
                let all = lulls.0.lock().unwrap();
                all.iter().any(|lull| lull.from >= from)
            });
            cluster.thaw(0);
            // A whole round without one.
            eventually(secs(20), "it is slow no more", || {
                std::thread::sleep(2 * SLOW);
                let all = lulls.0.lock().unwrap();
                all.last()
                    .is_some_and(|last| last.to < monotonic_ns() - nanos(2 * SLOW))
            });
            drop(stopped);
        });
    }
}
