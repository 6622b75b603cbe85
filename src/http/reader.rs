//! What requests ask of the store: seldom, for a short time, and with connections of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::{self, Instant};
use crate::etcd::{Patience, Settings, Store};
use crate::keys::{LeaseId, Prefix};
use crate::status::{Overview, position, side_by_side};

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

/// What can't be: all that is asked for is answered, or has failed.
fn not_read() -> OverviewRead {
    Err("not read".to_owned())
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
        let mut read = self.overviews(&[prefix]).await;
        read.pop().unwrap_or_else(not_read)
    }

    /// The elections under these prefixes, in this order. They are asked for side by side, and share the
    /// time that it may take.
    pub(super) async fn overviews(self: &Arc<Self>, prefixes: &[&Prefix]) -> Vec<OverviewRead> {
        let mut inner = self.0.lock().await;
        // Of jobs that are gone nothing is kept.
        inner.overviews.retain(|_, (until, _)| !until.has_passed());
        let is_unknown = |prefix: &&&Prefix| !inner.overviews.contains_key(prefix.as_str());
        let unknown: Vec<Prefix> = prefixes
            .iter()
            .filter(is_unknown)
            .map(|it| (*it).clone())
            .collect();
        let ask = |store: Store, prefix: Prefix, patience| async move {
            let read = Overview::read(&store, &prefix, &patience).await;
            (
                prefix,
                read.map(Arc::new).map_err(|error| error.to_string()),
            )
        };
        for (prefix, read) in self.ask_all(&mut inner, unknown, ask).await {
            let count = read.as_ref().map_or(0, |read| read.status.queue.len());
            let fresh = FRESH + FRESH_EACH * u32::try_from(count).unwrap_or(u32::MAX);
            let known = (clock::now() + fresh, read);
            inner.overviews.insert(prefix.to_string(), known);
        }
        let told = prefixes.iter().map(|prefix| {
            let known = inner.overviews.get(prefix.as_str());
            known.map_or_else(not_read, |(_, read)| read.clone())
        });
        told.collect()
    }

    /// The places of these leases' candidates in their queues, in this order, asked for as
    /// [`overviews`](Self::overviews) are; `None` where the store doesn't tell.
    pub(super) async fn positions(
        self: &Arc<Self>,
        candidates: &[(&Prefix, LeaseId)],
    ) -> Vec<Option<usize>> {
        let mut inner = self.0.lock().await;
        inner.positions.retain(|_, (until, _)| !until.has_passed());
        let is_unknown = |(_, lease): &&(&Prefix, LeaseId)| !inner.positions.contains_key(lease);
        let unknown = candidates.iter().filter(is_unknown);
        let unknown: Vec<_> = unknown
            .map(|(prefix, lease)| ((*prefix).clone(), *lease))
            .collect();
        let ask = |store: Store, (prefix, lease): (Prefix, LeaseId), patience| async move {
            let place = position(&store, &prefix, lease, &patience).await;
            (lease, place)
        };
        for (lease, place) in self.ask_all(&mut inner, unknown, ask).await {
            if let Ok(place) = place {
                inner.positions.insert(lease, (clock::now() + FRESH, place));
            }
        }
        let told = candidates
            .iter()
            .map(|(_, lease)| inner.positions.get(lease)?.1);
        told.collect()
    }

    /// Asks for all of these, some at a time, within the time for one answer.
    async fn ask_all<A, F>(
        self: &Arc<Self>,
        inner: &mut Inner,
        all: Vec<A>,
        ask: impl Fn(Store, A, Patience) -> F,
    ) -> Vec<F::Output>
    where
        F: Future<Output: 'static> + 'static,
    {
        if all.is_empty() {
            return Vec::new();
        }
        let store = self.store(inner);
        let patience = Patience::new(&store, PATIENCE);
        let all = all.into_iter();
        side_by_side(all.map(|one| ask(store.clone(), one, patience))).await
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
