//! Keys and values that are nobody's: read, written and watched by whoever likes.

use std::sync::Arc;
use std::time::Duration;

use std::pin::Pin;
use std::task::{Context, Poll};

use etcd_client::KeyValue;
use futures_core::Stream;
use tokio::sync::mpsc;

use super::engine::Engine;
use super::{Client, WriteError};
use crate::backoff::Backoff;
use crate::clock;
use crate::etcd::patience::{Failure, LONGEST_ATTEMPT, Patience};
use crate::etcd::watch::{self, Target, Watch};
use crate::etcd::{Error, Store};
use crate::kv::{self, Keys, Put, Span};
use crate::revision::Revision;

/// First and largest pause between attempts of who goes on for ever.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How many changes may wait for a watcher before the watch does.
const CHANGES: usize = 64;

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which it was made.
    pub create_revision: Revision,
    /// The revision at which it was written last.
    pub mod_revision: Revision,
    /// How often it was written since it was made, that included.
    pub version: i64,
}

impl Value {
    pub(super) fn of(kv: &KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            value: kv.value().to_vec(),
            create_revision: Revision::created(kv),
            mod_revision: Revision::written(kv),
            version: kv.version(),
        }
    }

    /// The value as text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }
}

/// What a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A key was written.
    Put(Value),
    /// A key was deleted, or its lease ended.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// The revision since which it is gone.
        revision: Revision,
    },
    /// History was compacted before it was told: what changed meanwhile is not known, and what comes
    /// next is.
    Missed,
}

impl Client {
    /// Reads what stands under `key`, linearizably.
    ///
    /// Goes on asking, member after member, for at most
    /// [`request_timeout`](super::ClientOptions::request_timeout).
    ///
    /// # Errors
    /// What was wrong with the last attempt, or what another member would say too.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Value>, Error> {
        let key = key.into();
        let get = move |store: Store, limit| {
            let key = key.clone();
            async move { store.get(limit, key, None).await }
        };
        let (found, _) = ask(&self.engine, get).await?;
        Ok(found.kvs().first().map(Value::of))
    }

    /// Writes `value` under `key`, whoever leads: a leader's writes are
    /// [`Term::put`](super::Term::put).
    ///
    /// Reads the key first, and writes on the condition that it still is as it was read, which is begun
    /// anew where somebody else wrote in between. So an attempt that nobody answered is repeated, for at
    /// most [`request_timeout`](super::ClientOptions::request_timeout) in all, and one that arrives late
    /// can't undo a later write. Nor does a repeated one: where somebody else has written since, and the
    /// first may have been applied before that, it ends as [`WriteError::Unknown`].
    ///
    /// # Errors
    /// [`WriteError::Unreached`] and [`WriteError::Refused`] if nothing was written;
    /// [`WriteError::Unknown`] if it may be.
    ///
    /// # Cancel safety
    /// Dropping it leaves open whether it is written.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), WriteError> {
        let put = Put {
            key: key.into(),
            value: value.into(),
            lease: None,
            prev_kv: false,
        };
        self.write(async move |keys: Keys| keys.put(&put, None).await.map(drop))
            .await
    }

    /// Deletes `key`; returns whether it was there.
    ///
    /// Reads the key first, which finds a member that works. The deletion itself is sent once: a second
    /// attempt could neither tell whether the first was applied, nor take back what it undid.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<bool, WriteError> {
        let span = Span::key(key.into());
        let delete = async move |keys: Keys| keys.delete(&span, false, None).await;
        Ok(self.write(delete).await?.count > 0)
    }

    /// Watches `key` from now on.
    pub fn watch(&self, key: impl Into<Vec<u8>>) -> Watcher {
        self.watcher(Target::Key(key.into()))
    }

    /// Watches every key that begins with `prefix`, from now on.
    pub fn watch_prefix(&self, prefix: impl Into<String>) -> Watcher {
        self.watcher(Target::Prefix(prefix.into()))
    }

    fn watcher(&self, target: Target) -> Watcher {
        let (tell, changes) = mpsc::channel(CHANGES);
        let store = self.engine.store.clone();
        drop(self.engine.spawn(follow(store, target, tell)));
        Watcher { changes }
    }

    async fn write<T: Send + 'static, F>(
        &self,
        write: impl FnOnce(Keys) -> F + Send + 'static,
    ) -> Result<T, WriteError>
    where
        F: Future<Output = Result<T, kv::Error>> + Send + 'static,
    {
        let (store, total) = (self.engine.store.clone(), self.engine.patience);
        let written = self.engine.run(async move {
            let patience = Patience::new(&store, total);
            write(Keys::new(store, patience)).await
        });
        Ok(written.await.ok_or(WriteError::Gone)??)
    }
}

/// Follows keys; made by [`Client::watch`]. As a [`Stream`] it has the same changes.
#[derive(Debug)]
pub struct Watcher {
    changes: mpsc::Receiver<Change>,
}

impl Watcher {
    /// Waits for the next change. Watches that break are opened anew where they left off, and not told.
    /// `None` once the client's thread is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

impl Stream for Watcher {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_recv(context)
    }
}

/// Tells of every change until nobody listens.
async fn follow(store: Store, target: Target, tell: mpsc::Sender<Change>) {
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
    let mut from = Revision::default();
    let follow = async {
        loop {
            let begun = clock::now();
            let told_before = from;
            let told = tell_changes(&store, &target, &mut from, &tell).await;
            // It told of something, or was there to tell.
            if (told_before != Revision::default() && from > told_before)
                || clock::now().since(begun) > PAUSES.1
            {
                pauses.reset();
            }
            match told {
                Ok(()) => return,
                Err(Error::Compacted { oldest }) => {
                    from = oldest;
                    if tell.send(Change::Missed).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a watch broke");
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

/// Opens a watch after what was told last, and tells of changes until it breaks or nobody listens.
async fn tell_changes(
    store: &Store,
    target: &Target,
    from: &mut Revision,
    tell: &mpsc::Sender<Change>,
) -> Result<(), Error> {
    if *from == Revision::default() {
        // A member that lags would begin in the past.
        let key = match target {
            Target::Key(key) => key.clone(),
            Target::Prefix(prefix) => prefix.clone().into_bytes(),
        };
        let (_, seen) = store.get(LONGEST_ATTEMPT, key, None).await?;
        *from = seen.revision.next();
    }
    let mut watch = Watch::open(store, LONGEST_ATTEMPT, vec![target.clone()], *from).await?;
    loop {
        for change in watch.next().await? {
            let (change, revision) = match change {
                watch::Change::Put(kv) => (Change::Put(Value::of(&kv)), Revision::written(&kv)),
                watch::Change::Delete { key, revision } => {
                    (Change::Delete { key, revision }, revision)
                }
            };
            if tell.send(change).await.is_err() {
                return Ok(());
            }
            *from = revision.next();
        }
    }
}

/// Makes attempts, member after member, until one is answered or the client's time for it is over.
///
/// # Errors
/// What was wrong with the last one, or what another member would say too.
pub(super) async fn ask<T: Send + 'static, F>(
    engine: &Arc<Engine>,
    mut attempt: impl FnMut(Store, Duration) -> F + Send + 'static,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (store, total) = (engine.store.clone(), engine.patience);
    let asked = engine.run(async move {
        let patience = Patience::new(&store, total);
        let mut attempts = patience.attempts();
        loop {
            match attempt(store.clone(), patience.attempt()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.weigh(error).await?,
            }
        }
    });
    match asked.await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(Failure::TimedOut { last, .. } | Failure::Store(last))) => Err(last),
        None => Err(Error::Unreachable {
            endpoint: "client".to_owned(),
            reason: "its thread is gone".to_owned(),
        }),
    }
}
