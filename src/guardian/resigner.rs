//! The guardian's second thread: it speaks to the store, so that the first one never waits.
//!
//! It begins early in a term, and is connected then: after a daemon's death or silence nothing is
//! left to do but to say it. The guardian of a daemon that never led has no runtime and no connection.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use crate::clock::{self, Instant};
use crate::etcd::{Settings, Store};
use crate::keys::LeaseId;
use crate::term::resignation::Resignation;

/// Why a term ended that its daemon did not give back: in the history.
const DAEMON_LOST: &str = "daemon_lost";

/// What the thread is to do.
#[derive(Debug)]
enum Order {
    Connect(Resignation),
    Renew(Resignation),
    GiveBack(Resignation, Instant),
}

/// How a lease was given back, and whether the store confirmed it.
type Outcome = (LeaseId, bool);

/// The thread, when there is one, and what it has to tell.
#[derive(Debug)]
pub(super) struct Resigner {
    orders: Option<UnboundedSender<Order>>,
    /// Leases whose outcome is awaited.
    awaited: usize,
    tell: Telephone,
    outcomes: mpsc::Receiver<Outcome>,
    /// Readable when there are outcomes.
    bell: UnixStream,
}

/// How the thread tells an outcome, and wakes the first thread with it.
#[derive(Clone, Debug)]
struct Telephone {
    outcomes: mpsc::Sender<Outcome>,
    bell: Arc<UnixStream>,
}

impl Telephone {
    fn tell(&self, outcome: Outcome) {
        if self.outcomes.send(outcome).is_ok() {
            // A full socket rings already.
            (&*self.bell).write_all(&[0]).ok();
        }
    }
}

impl Resigner {
    /// A resigner without a thread.
    pub(super) fn new() -> io::Result<Self> {
        let (bell, rings) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rings.set_nonblocking(true)?;
        let (sender, outcomes) = mpsc::channel();
        let tell = Telephone {
            outcomes: sender,
            bell: Arc::new(rings),
        };
        Ok(Self {
            orders: None,
            awaited: 0,
            tell,
            outcomes,
            bell,
        })
    }

    /// Connects to the store that `resignation` names, for what will follow.
    pub(super) fn connect(&mut self, resignation: Resignation) {
        self.order(Order::Connect(resignation));
    }

    /// Renews a lease once.
    pub(super) fn renew(&mut self, resignation: Resignation) {
        self.order(Order::Renew(resignation));
    }

    /// Gives a lease back; the outcome follows, by `until` or soon after.
    pub(super) fn give_back(&mut self, resignation: Resignation, until: Instant) {
        self.awaited += 1;
        self.order(Order::GiveBack(resignation, until));
    }

    /// The outcomes that have come since the last call.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        let mut rings = [0; 64];
        while matches!(self.bell.read(&mut rings), Ok(length) if length > 0) {}
        let outcomes: Vec<Outcome> = self.outcomes.try_iter().collect();
        self.awaited = self.awaited.saturating_sub(outcomes.len());
        if !outcomes.is_empty() && self.awaited == 0 {
            // The thread ends, and its memory is free again, should the daemon wake up.
            self.orders = None;
        }
        outcomes
    }

    fn order(&mut self, order: Order) {
        if self.orders.is_none() {
            self.orders = start(self.tell.clone())
                .inspect_err(|error| tracing::error!(%error, "store not reached"))
                .ok();
        }
        match (&self.orders, order) {
            (Some(orders), order) => {
                // The thread ends only after its orders do.
                orders.send(order).ok();
            }
            // Nothing can be done but to let the lease lapse.
            (None, Order::GiveBack(resignation, _)) => self.tell.tell((resignation.lease, false)),
            (None, Order::Connect(_) | Order::Renew(_)) => {}
        }
    }
}

impl AsFd for Resigner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn start(tell: Telephone) -> io::Result<UnboundedSender<Order>> {
    let (orders, todo) = unbounded_channel();
    let builder = thread::Builder::new().name("resigner".to_owned());
    builder.spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        match builder.enable_all().build() {
            Ok(runtime) => LocalSet::new().block_on(&runtime, work(todo, tell)),
            Err(error) => refuse(todo, &tell, &error),
        }
    })?;
    Ok(orders)
}

/// Answers every order as one that failed.
fn refuse(mut todo: UnboundedReceiver<Order>, tell: &Telephone, error: &io::Error) {
    tracing::error!(%error, "store not reached");
    while let Some(order) = todo.blocking_recv() {
        if let Order::GiveBack(resignation, _) = order {
            tell.tell((resignation.lease, false));
        }
    }
}

/// Carries out all orders side by side, over one set of connections.
async fn work(mut todo: UnboundedReceiver<Order>, tell: Telephone) {
    let mut stores: Vec<Known> = Vec::new();
    while let Some(order) = todo.recv().await {
        let (Order::Connect(resignation)
        | Order::Renew(resignation)
        | Order::GiveBack(resignation, _)) = &order;
        let resignation = resignation.clone();
        let store = store(&mut stores, &resignation);
        match order {
            Order::Connect(_) => drop(spawn_local(async move {
                // What it could not reach, the next order will try again.
                resignation.connect(&store).await.ok();
            })),
            Order::Renew(_) => drop(spawn_local(async move { resignation.renew(&store).await })),
            Order::GiveBack(_, until) => {
                let tell = tell.clone();
                drop(spawn_local(async move {
                    let lease = resignation.lease;
                    // It is given back as soon as its tree is proven empty.
                    let ended = clock::wall_time();
                    let work = async move {
                        let confirmed = resignation.carry_out_on(&store, until).await;
                        if confirmed {
                            resignation.explain_on(&store, ended, DAEMON_LOST).await;
                        }
                        confirmed
                    };
                    // A panic must not leave the guardian waiting for ever.
                    let confirmed = spawn_local(work).await.unwrap_or(false);
                    tell.tell((lease, confirmed));
                }));
            }
        }
    }
}

/// A store, and how it is reached: by which settings, and as which cluster.
type Known = ((Settings, u64), Store);

/// The store of this lease; leases of one daemon differ in theirs only after a reload.
fn store(stores: &mut Vec<Known>, resignation: &Resignation) -> Store {
    let (settings, cluster) = (&resignation.store, resignation.cluster);
    let same = |(known, _): &&Known| known.0 == *settings && known.1 == cluster;
    if let Some((_, store)) = stores.iter().find(same) {
        return store.clone();
    }
    let store = resignation.open_store();
    stores.push(((settings.clone(), cluster), store.clone()));
    store
}
