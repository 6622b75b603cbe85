//! The guardian's second thread: it speaks to the store, so that the first one never waits.
//!
//! The thread is there from the start, since it might not be had when it is needed (R15). It begins to
//! work early in a term, and is connected then: after a daemon's death or silence nothing is left to do
//! but to say it. The guardian of a daemon that never led has no runtime and no connection.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use crate::clock::{self, Instant};
use crate::etcd::{Settings, Store};
use crate::keys::LeaseId;
use crate::reason::EndReason;
use crate::term::record::Unkillable;
use crate::term::resignation::Resignation;
use crate::vital;
use crate::worker::STORE;

/// Pause before another try to begin to work.
const PAUSE: Duration = Duration::from_millis(20);

/// What the thread is to do.
#[derive(Debug)]
enum ResignerOrder {
    Connect(Resignation),
    LookForKey(Resignation),
    Renew(Resignation, Vec<Unkillable>),
    GiveBack(Resignation, Instant),
    /// Close all connections, and free the memory.
    Rest,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResignerOutcome {
    /// A lease was given back, and whether the store confirmed it.
    GivenBack(LeaseId, bool),
    /// The key of the candidacy with this lease is gone.
    KeyGone(LeaseId),
}

/// The thread, when there is one, and what it has to tell.
#[derive(Debug)]
pub(super) struct Resigner {
    orders: Option<UnboundedSender<ResignerOrder>>,
    /// Leases whose outcome is awaited.
    awaited: usize,
    tell: Telephone,
    outcomes: mpsc::Receiver<ResignerOutcome>,
    /// Readable when there are outcomes.
    bell: UnixStream,
}

/// How the thread tells an outcome, and wakes the first thread with it.
#[derive(Clone, Debug)]
struct Telephone {
    outcomes: mpsc::Sender<ResignerOutcome>,
    bell: Arc<UnixStream>,
}

impl Telephone {
    fn tell(&self, outcome: ResignerOutcome) {
        if self.outcomes.send(outcome).is_ok() {
            // A full socket rings already.
            (&*self.bell).write_all(&[0]).ok();
        }
    }
}

impl Resigner {
    /// A resigner whose thread is started when it is [told to](Self::start), or at the first order.
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

    /// Starts the threads without which nothing can be given back.
    ///
    /// # Errors
    /// When they can't be had.
    pub(super) fn start(&mut self) -> io::Result<()> {
        STORE.start()?;
        self.orders = Some(start(self.tell.clone())?);
        Ok(())
    }

    /// Connects to the store that `resignation` names, for what will follow.
    pub(super) fn connect(&mut self, resignation: Resignation) {
        self.order(ResignerOrder::Connect(resignation));
    }

    /// Looks once for the key of a candidacy; an outcome follows if the store says that it is gone.
    pub(super) fn look_for_key(&mut self, resignation: Resignation) {
        self.order(ResignerOrder::LookForKey(resignation));
    }

    /// Renews a lease once, and shows what can't be killed to whoever looks.
    pub(super) fn renew(&mut self, resignation: Resignation, unkillable: Vec<Unkillable>) {
        self.order(ResignerOrder::Renew(resignation, unkillable));
    }

    /// Gives a lease back; the outcome follows, by `until` or soon after.
    pub(super) fn give_back(&mut self, resignation: Resignation, until: Instant) {
        self.awaited += 1;
        self.order(ResignerOrder::GiveBack(resignation, until));
    }

    /// The outcomes that have come since the last call.
    pub(super) fn outcomes(&mut self) -> Vec<ResignerOutcome> {
        let mut rings = [0; 64];
        while matches!(self.bell.read(&mut rings), Ok(length) if length > 0) {}
        let outcomes: Vec<ResignerOutcome> = self.outcomes.try_iter().collect();
        let given_back = outcomes.iter();
        let given_back = given_back.filter(|it| matches!(it, ResignerOutcome::GivenBack(..)));
        let given_back = given_back.count();
        self.awaited = self.awaited.saturating_sub(given_back);
        if given_back > 0 && self.awaited == 0 {
            // Its memory is free again, should the daemon wake up.
            self.order(ResignerOrder::Rest);
        }
        outcomes
    }

    fn order(&mut self, order: ResignerOrder) {
        if self.orders.is_none() {
            self.start()
                .inspect_err(|error| tracing::error!(%error, "store not reached"))
                .ok();
        }
        match (&self.orders, order) {
            (Some(orders), order) => {
                // The thread ends only after its orders do.
                orders.send(order).ok();
            }
            // Nothing can be done but to let the lease lapse.
            (None, ResignerOrder::GiveBack(resignation, _)) => {
                self.tell
                    .tell(ResignerOutcome::GivenBack(resignation.lease, false));
            }
            (
                None,
                ResignerOrder::Connect(_)
                | ResignerOrder::LookForKey(_)
                | ResignerOrder::Renew(..)
                | ResignerOrder::Rest,
            ) => {}
        }
    }
}

impl AsFd for Resigner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn start(tell: Telephone) -> io::Result<UnboundedSender<ResignerOrder>> {
    let (orders, mut todo) = unbounded_channel();
    vital::spawn("resigner", move || {
        while let Some(first) = todo.blocking_recv() {
            let mut waiting = VecDeque::from([first]);
            if let Some(runtime) = runtime(&mut waiting, &mut todo, &tell) {
                LocalSet::new().block_on(&runtime, work(waiting, &mut todo, &tell));
            }
        }
        Ok(())
    })?;
    Ok(orders)
}

/// A runtime for the orders that wait, tried until there is one or their time is over.
fn runtime(
    waiting: &mut VecDeque<ResignerOrder>,
    todo: &mut UnboundedReceiver<ResignerOrder>,
    tell: &Telephone,
) -> Option<Runtime> {
    let mut said = false;
    loop {
        waiting.retain(|order| match order {
            ResignerOrder::GiveBack(resignation, until) if until.has_passed() => {
                tell.tell(ResignerOutcome::GivenBack(resignation.lease, false));
                false
            }
            // Of looks there will be another soon.
            ResignerOrder::Rest | ResignerOrder::LookForKey(_) => false,
            ResignerOrder::Connect(_) | ResignerOrder::Renew(..) | ResignerOrder::GiveBack(..) => {
                true
            }
        });
        if waiting.is_empty() {
            return None;
        }
        let mut builder = tokio::runtime::Builder::new_current_thread();
        match builder.enable_all().build() {
            Ok(runtime) => return Some(runtime),
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, "store not reached: trying again");
                }
                thread::sleep(PAUSE);
            }
        }
        while let Ok(order) = todo.try_recv() {
            waiting.push_back(order);
        }
    }
}

/// Carries out all orders side by side, over one set of connections, until there is time to rest.
async fn work(
    mut waiting: VecDeque<ResignerOrder>,
    todo: &mut UnboundedReceiver<ResignerOrder>,
    tell: &Telephone,
) {
    let mut stores: Vec<Known> = Vec::new();
    loop {
        let order = match waiting.pop_front() {
            Some(order) => Some(order),
            None => todo.recv().await,
        };
        let (resignation, until) = match order {
            Some(ResignerOrder::Connect(resignation)) => {
                let store = store(&mut stores, &resignation);
                drop(spawn_local(async move {
                    // What it could not reach, the next order will try again.
                    resignation.connect(&store).await.ok();
                }));
                continue;
            }
            Some(ResignerOrder::LookForKey(resignation)) => {
                let store = store(&mut stores, &resignation);
                let tell = tell.clone();
                drop(spawn_local(async move {
                    // What isn't answered proves nothing.
                    if resignation.is_key_gone(&store).await.unwrap_or(false) {
                        tell.tell(ResignerOutcome::KeyGone(resignation.lease));
                    }
                }));
                continue;
            }
            Some(ResignerOrder::Renew(resignation, unkillable)) => {
                let store = store(&mut stores, &resignation);
                drop(spawn_local(async move {
                    resignation.renew(&store).await;
                    resignation.show_unkillable(&store, unkillable).await;
                }));
                continue;
            }
            Some(ResignerOrder::GiveBack(resignation, until)) => (resignation, until),
            Some(ResignerOrder::Rest) | None => return,
        };
        let store = store(&mut stores, &resignation);
        let tell = tell.clone();
        drop(spawn_local(async move {
            // It is given back as soon as its tree is proven empty.
            let ended = clock::wall_time();
            let confirmed = resignation.carry_out(&store, until).await;
            if confirmed {
                let reason = EndReason::DaemonLost;
                resignation.explain(&store, ended, reason).await;
            }
            tell.tell(ResignerOutcome::GivenBack(resignation.lease, confirmed));
        }));
    }
}

/// A store, and how it is reached: by which settings, and as which cluster.
type Known = ((Settings, u64), Store);

/// The store of this lease, which stays logged in; leases of one daemon differ in theirs only after a reload.
fn store(stores: &mut Vec<Known>, resignation: &Resignation) -> Store {
    let (settings, cluster) = (&resignation.store, resignation.cluster);
    let same = |(known, _): &&Known| known.0 == *settings && known.1 == cluster;
    if let Some((_, store)) = stores.iter().find(same) {
        return store.clone();
    }
    let store = resignation.open_store();
    let (kept, limit) = (store.clone(), resignation.attempt_limit);
    let key = resignation.prefix.term();
    drop(spawn_local(async move {
        kept.stay_logged_in(limit, &key).await;
    }));
    stores.push(((settings.clone(), cluster), store.clone()));
    store
}
