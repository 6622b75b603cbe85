//! When the store, or the whole machine, was slow: by a fault, or because others are at work on it too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::checker::{After, Reach, Thrown};
use crate::common::process::monotonic_ns;
use crate::common::{Cluster, millis};
use crate::elections::prefix;
use crate::faults::nanos;
use crate::store::try_ask;

/// An answer that takes longer is a lull. A lease takes several in a row that are lost.
const SLOW: std::time::Duration = std::time::Duration::from_millis(500);

#[derive(Default)]
pub(crate) struct Lulls(Mutex<Vec<Thrown>>);

impl Lulls {
    /// Asks again and again, until it is told to stop.
    pub(crate) fn watch(&self, cluster: &Cluster, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let from = monotonic_ns();
            let get = async |mut client: etcd_client::Client| client.get(prefix(), None).await;
            let answered = try_ask(cluster, get).is_some();
            // The pause counts: a machine that stands still is no better.
            std::thread::sleep(millis(100));
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
