//! What requests ask of the store: seldom, for a short time, and with connections of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::{self, Instant};
use crate::etcd::{Patience, Settings, Store};
use crate::keys::{LeaseId, Prefix};
use crate::status::{Overview, position};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was read is told for so long again, whoever asks.
const FRESH: Duration = Duration::from_secs(1);

/// And longer by so much for each candidate: there is a request for each one's lease.
const FRESH_EACH: Duration = Duration::from_millis(50);

/// After so long without a request the connections are closed.
const IDLE: Duration = Duration::from_secs(30);

/// The election as it was read last, or why it could not be.
pub(super) type OverviewRead = Result<Arc<Overview>, String>;

/// Reads on demand, one reader at a time.
pub(super) struct OverviewReader(Mutex<Inner>);

struct Inner {
    settings: Settings,
    store: Option<Store>,
    used: Instant,
    /// By the election's prefix, each up to when it is told again.
    overviews: BTreeMap<String, (Instant, OverviewRead)>,
    positions: BTreeMap<LeaseId, (Instant, Option<usize>)>,
}

impl OverviewReader {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Mutex::new(Inner {
            settings,
            store: None,
            used: Instant::BOOT,
            overviews: BTreeMap::new(),
            positions: BTreeMap::new(),
        }))
    }

    /// Reads by these settings from now on.
    pub(super) fn reload(self: &Arc<Self>, settings: Settings) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut inner = this.0.lock().await;
            inner.settings = settings;
            inner.store = None;
        });
    }

    /// The election under `prefix`.
    pub(super) async fn overview(self: &Arc<Self>, prefix: &Prefix) -> OverviewRead {
        let mut inner = self.0.lock().await;
        // Of jobs that are gone nothing is kept.
        inner.overviews.retain(|_, (until, _)| !until.has_passed());
        if let Some((_, read)) = inner.overviews.get(prefix.as_str()) {
            return read.clone();
        }
        let store = self.store(&mut inner);
        let patience = Patience::new(&store, PATIENCE);
        let read = Overview::read(&store, prefix, &patience).await;
        let read = read.map(Arc::new).map_err(|error| error.to_string());
        let count = read.as_ref().map_or(0, |read| read.status.queue.len());
        let fresh = FRESH + FRESH_EACH * u32::try_from(count).unwrap_or(u32::MAX);
        let known = (clock::now() + fresh, read.clone());
        inner.overviews.insert(prefix.to_string(), known);
        read
    }

    /// The place of this lease's candidate in the queue; `None` if the store doesn't tell.
    pub(super) async fn position(
        self: &Arc<Self>,
        prefix: &Prefix,
        lease: LeaseId,
    ) -> Option<usize> {
        let mut inner = self.0.lock().await;
        inner.positions.retain(|_, (until, _)| !until.has_passed());
        if let Some((_, position)) = inner.positions.get(&lease) {
            return *position;
        }
        let store = self.store(&mut inner);
        let patience = Patience::new(&store, PATIENCE);
        let place = position(&store, prefix, lease, &patience).await.ok()?;
        inner.positions.insert(lease, (clock::now() + FRESH, place));
        place
    }

    /// The store, which is closed again some time after the last use.
    fn store(self: &Arc<Self>, inner: &mut Inner) -> Store {
        inner.used = clock::now();
        if let Some(store) = &inner.store {
            return store.clone();
        }
        let store = Store::new(&inner.settings);
        inner.store = Some(store.clone());
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut until = clock::now() + IDLE;
            while !until.has_passed() {
                clock::sleep_until(until).await;
                until = this.0.lock().await.used + IDLE;
            }
            this.0.lock().await.store = None;
        });
        store
    }
}
