//! An election, looked at: who leads, now and from now on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::engine::Engine;
use super::{Candidate, values};
use crate::backoff::Backoff;
use crate::clock;
use crate::election::observe::LeaderEvent;
use crate::election::{self, Queue, QueuedCandidate};
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::etcd::{Error, Store};
use crate::keys::Prefix;
use crate::revision::Token;

/// How many events may wait for an observer before the watch does.
const EVENTS: usize = 64;

/// An election under one prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Election {
    pub(super) engine: Arc<Engine>,
    pub(super) prefix: Prefix,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// Its name, or the value that it [proclaimed](super::Term::proclaim) last.
    pub name: String,
    /// The fencing token of its term.
    pub token: Token,
    /// Its key.
    pub key: String,
}

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This one leads now; the first event tells who does already.
    Elected(Leader),
    /// The leader proclaimed another value, which its name has become.
    Proclaimed(Leader),
    /// Nobody leads.
    Nobody,
}

impl Election {
    pub(super) const fn new(engine: Arc<Engine>, prefix: Prefix) -> Self {
        Self { engine, prefix }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// A candidate of this name, which observers see until it proclaims another value.
    pub fn candidate(&self, name: impl Into<String>) -> Candidate {
        Candidate::new(self.clone(), name.into())
    }

    /// Who leads right now, read linearizably. A candidate whose claim is not complete yet doesn't.
    ///
    /// # Errors
    /// As [`Client::get`](super::Client::get).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        let prefix = self.prefix.clone();
        let read = move |store: Store, limit| {
            let prefix = prefix.clone();
            async move { Queue::read(&store, limit, &prefix).await }
        };
        let queue = values::ask(&self.engine, read).await?;
        Ok(queue.leader().map(Leader::of))
    }

    /// Follows the leader from now on, over whatever happens to members and connections.
    pub fn observe(&self) -> Observer {
        let (tell, events) = mpsc::channel(EVENTS);
        let store = self.engine.store.clone();
        let observer = election::Observer::new(store, self.prefix.clone(), LONGEST_ATTEMPT);
        // Not one of those that keep the thread: it ends with who looks on.
        drop(self.engine.spawn(follow(observer, tell)));
        Observer { events }
    }
}

impl Leader {
    fn of(leader: &QueuedCandidate) -> Self {
        Self {
            name: leader.name.clone(),
            token: leader.token,
            key: leader.key.clone(),
        }
    }
}

impl Event {
    fn of(event: &LeaderEvent) -> Self {
        match event {
            LeaderEvent::Leader { leader: None, .. } => Self::Nobody,
            LeaderEvent::Leader {
                leader: Some(leader),
                ..
            } => Self::Elected(Leader::of(leader)),
            LeaderEvent::Value { leader, .. } => Self::Proclaimed(Leader::of(leader)),
        }
    }
}

/// Follows the leader of an election; made by [`Election::observe`]. As a [`Stream`] it has the same
/// events.
#[derive(Debug)]
pub struct Observer {
    events: mpsc::Receiver<Event>,
}

impl Observer {
    /// Waits for the next event. Failed attempts are made again and not told; what happened meanwhile is
    /// told as one change. `None` once the client's thread is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Stream for Observer {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}

/// Tells of every event until nobody listens.
async fn follow(mut observer: election::Observer, tell: mpsc::Sender<Event>) {
    let mut pauses = Backoff::new(values::PAUSES.0, values::PAUSES.1);
    let follow = async {
        loop {
            match observer.next().await {
                Ok(event) => {
                    pauses.reset();
                    if tell.send(Event::of(&event)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the observer's watch broke");
                    clock::sleep(pauses.next(crate::backoff::jitter())).await;
                }
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = tell.closed() => {}
    }
}
