//! Own keys of many sessions, read together: in hundreds of elections the proof of a renewal costs the
//! store as good as nothing then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{KeyValue, Txn, TxnOp};
use tokio::sync::oneshot;

use crate::clock::{self, Instant};
use crate::etcd::{Error, Seen, Store, reads};

/// How long the first read waits for others.
const WAIT: Duration = Duration::from_millis(10);

/// How many keys one transaction reads at most: etcd takes 128, unless it is told otherwise.
const MOST: usize = 100;

/// What reads the own keys of all sessions that have a clone of it.
#[derive(Clone, Debug, Default)]
pub struct SharedReads(Arc<Mutex<Vec<AskedKey>>>);

/// A key that somebody waits for.
#[derive(Debug)]
struct AskedKey {
    key: Arc<str>,
    until: Instant,
    tell: oneshot::Sender<Result<Read, Error>>,
}

/// What a key is, if it is, and what the store said of itself.
type Read = (Option<KeyValue>, Seen);

impl SharedReads {
    /// Reads a key linearizably, by a request that begins after this does.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn first(
        &self,
        store: &Store,
        limit: Duration,
        key: &Arc<str>,
    ) -> Result<Read, Error> {
        let (tell, told) = oneshot::channel();
        let asked = AskedKey {
            key: Arc::clone(key),
            until: clock::now() + limit,
            tell,
        };
        let is_alone = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(asked);
            waiting.len() == 1
        };
        if is_alone {
            tokio::spawn(self.clone().ask(store.clone()));
        }
        let member = store.current();
        // Others may have longer than this one.
        let answer = tokio::time::timeout(limit, told).await;
        answer.ok().and_then(Result::ok).unwrap_or_else(|| {
            store.give_up_on(&member);
            Err(Error::Timeout {
                endpoint: member.endpoint.clone(),
                limit,
            })
        })
    }

    /// Waits for others, and reads what all of them ask for.
    async fn ask(self, store: Store) {
        tokio::time::sleep(WAIT).await;
        let mut waiting =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // Whoever has no time left blames no member for it.
        waiting.retain(|one| !one.until.has_passed());
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(MOST));
            tokio::spawn(read(store.clone(), waiting));
            waiting = rest;
        }
    }
}

/// Reads all of them in one request.
async fn read(store: Store, asked: Vec<AskedKey>) {
    let limit = asked.iter().map(|one| one.until.remaining()).max();
    let gets = asked.iter().map(|one| TxnOp::get(one.key.as_bytes(), None));
    let txn = Txn::new().and_then(gets.collect::<Vec<_>>());
    let answer = store.txn(limit.unwrap_or_default(), txn).await;
    match answer {
        Ok((answer, seen)) => {
            for (one, found) in asked.into_iter().zip(reads::firsts(&answer)) {
                // Whoever waits no more needs no answer.
                drop(one.tell.send(Ok((found, seen))));
            }
        }
        // One may be refused what the others are not.
        Err(Error::Refused { .. }) if asked.len() > 1 => {
            for one in asked {
                tokio::spawn(read_alone(store.clone(), one));
            }
        }
        Err(error) => {
            for one in asked {
                drop(one.tell.send(Err(error.clone())));
            }
        }
    }
}

async fn read_alone(store: Store, asked: AskedKey) {
    let read = store.first(asked.until.remaining(), asked.key.as_bytes());
    drop(asked.tell.send(read.await));
}
