//! A watch on a few keys over one stream, probed while it is silent.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, KeyValue, WatchOptions, WatchResponse, WatchStream};

use super::member::Member;
use super::{Error, Store};

/// Silence after which a watch is asked whether it is alive: a member that hangs gives no error.
const PROBE_AFTER: Duration = Duration::from_secs(2);

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One key.
    Key(Vec<u8>),
    /// Every key that begins with this text.
    Prefix(String),
}

impl Target {
    fn options(self, from: i64) -> (Vec<u8>, WatchOptions) {
        let options = WatchOptions::new().with_start_revision(from);
        match self {
            Self::Key(key) => (key, options),
            Self::Prefix(key) => (key.into_bytes(), options.with_prefix()),
        }
    }
}

/// A change of one key.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was written.
    Put(KeyValue),
    /// It was deleted, or its lease ended, at this revision.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// Revision of the deletion.
        revision: i64,
    },
}

/// An open watch. After an error it is over: look again, then open another from where you looked.
pub struct Watch {
    store: Store,
    member: Arc<Member>,
    stream: WatchStream,
    limit: Duration,
    probed: bool,
}

impl Watch {
    /// Watches `targets` from revision `from` on, over the current member.
    ///
    /// # Errors
    /// As [`Store::attempt`]; [`Error::Refused`] if there is nothing to watch.
    pub async fn open(
        store: &Store,
        limit: Duration,
        targets: Vec<Target>,
        from: i64,
    ) -> Result<Self, Error> {
        let requests = targets.into_iter().map(|target| target.options(from));
        Self::open_with(store, limit, requests).await
    }

    /// As [`open`](Self::open), for keys and options as the store's protocol has them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        store: &Store,
        limit: Duration,
        requests: impl IntoIterator<Item = (impl Into<Vec<u8>>, WatchOptions)>,
    ) -> Result<Self, Error> {
        let member = store.current();
        let mut requests = requests.into_iter();
        let (key, options) = requests.next().ok_or_else(|| Error::Refused {
            endpoint: member.endpoint.clone(),
            reason: "nothing to watch".to_owned(),
        })?;
        let stream = store
            .attempt(limit, async |client: Client| {
                // One revision may hold more than the crate takes in a message by itself.
                let mut watcher = client.watch_client().max_decoding_message_size(usize::MAX);
                let mut stream = watcher.watch(key, Some(options)).await?;
                for (key, options) in requests {
                    stream.watch(key, Some(options)).await?;
                }
                Ok(stream)
            })
            .await?;
        Ok(Self {
            store: store.clone(),
            member,
            stream,
            limit,
            probed: false,
        })
    }

    /// Waits for the next changes; probes the stream while it is silent.
    ///
    /// # Errors
    /// Any: the watch is over then. [`Error::Compacted`] if its history is gone.
    ///
    /// # Cancel safety
    /// Safe to drop: nothing that has arrived is lost.
    pub async fn next(&mut self) -> Result<Vec<Change>, Error> {
        let message = self.message().await?;
        if message.compact_revision() != 0 {
            return Err(Error::Compacted {
                oldest: message.compact_revision(),
            });
        }
        Ok(changes(&message))
    }

    /// As [`next`](Self::next), as the store's protocol has it: a message with events, or the last
    /// one, which says how far the history was compacted.
    ///
    /// # Errors
    /// Any: the watch is over then.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn message(&mut self) -> Result<WatchResponse, Error> {
        let outcome = self.wait().await;
        if let Err(error) = &outcome
            && error.blames_member()
        {
            self.store.give_up_on(&self.member);
        }
        outcome
    }

    async fn wait(&mut self) -> Result<WatchResponse, Error> {
        loop {
            let patience = if self.probed { self.limit } else { PROBE_AFTER };
            let Ok(message) = tokio::time::timeout(patience, self.stream.message()).await else {
                if self.probed {
                    return Err(Error::Timeout {
                        endpoint: self.member.endpoint.clone(),
                        limit: self.limit,
                    });
                }
                self.probed = true;
                let probe = tokio::time::timeout(self.limit, self.stream.request_progress());
                if let Ok(Err(error)) = probe.await {
                    return Err(Error::classify(&self.member.endpoint, &error));
                }
                continue;
            };
            self.probed = false;
            let message =
                message.map_err(|error| Error::classify(&self.member.endpoint, &error))?;
            let message = message.ok_or_else(|| Error::Unreachable {
                endpoint: self.member.endpoint.clone(),
                reason: "the member ended the watch".to_owned(),
            })?;
            self.store.note(message.header(), None)?;
            if message.compact_revision() != 0 || !message.events().is_empty() {
                return Ok(message);
            }
            // A cancelled watch leaves its stream open and silent.
            if message.canceled() {
                let reason = message.cancel_reason();
                return Err(Error::from_cancellation(&self.member.endpoint, reason));
            }
        }
    }
}

fn changes(message: &WatchResponse) -> Vec<Change> {
    let change = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        Some(match event.event_type() {
            EventType::Put => Change::Put(kv.clone()),
            EventType::Delete => Change::Delete {
                key: kv.key().to_vec(),
                revision: kv.mod_revision(),
            },
        })
    };
    message.events().iter().filter_map(change).collect()
}
