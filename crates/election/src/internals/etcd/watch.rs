//! A watch on a few keys over one stream, probed while it is silent.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, KeyValue, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch as told;

use super::member::Member;
use super::{Error, Store};
use crate::clock::{self, Instant};
use crate::revision::Revision;

/// Silence of a member after which a watch is asked whether it is alive: a member that hangs gives no
/// error.
const PROBE_AFTER: Duration = Duration::from_secs(2);

/// How long a watch is silent at most before it is asked, though its member answers other requests over
/// the same connection, such as renewals: these show that it lives, and a connection that lives keeps its
/// streams. That it knows of the watch is to be seen now and then only.
const PROBE_AT_LAST: Duration = Duration::from_mins(1);

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One key.
    Key(Vec<u8>),
    /// Every key that begins with this text.
    Prefix(String),
}

impl Target {
    fn options(self, from: Revision) -> (Vec<u8>, WatchOptions) {
        let options = WatchOptions::new().with_start_revision(from.get());
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
        revision: Revision,
    },
}

/// An open watch. After an error it is over: look again, then open another from where you looked.
pub struct Watch {
    store: Store,
    member: Arc<Member>,
    stream: WatchStream,
    limit: Duration,
    /// Answers that are owed to its opening: one for each target.
    opening: usize,
    /// What opened it, which asks whether it is alive when it is sent once more: its number is taken, so
    /// that it is refused at once. The store's own question for that, after its progress, is not
    /// answered where the watch begins with a revision to come, by etcd since 3.5.8.
    probe: (Vec<u8>, WatchOptions),
    /// Since when an answer to that is awaited.
    probed: Option<Instant>,
    /// The connection that it was opened over.
    connection: u64,
    /// When it was opened, or its last message came.
    spoke: Instant,
    /// Whether the member has shown that it is a proxy, by its answer to the first request.
    proxied: Option<bool>,
    /// Whether a proxy will do.
    bears_proxy: bool,
}

/// Watches are numbered by us: a member takes our numbers, and etcd's grpc-proxy, which hands out
/// its own, is found out by its answer.
const FIRST_ID: i64 = 7001;

impl Watch {
    /// Watches `targets` from revision `from` on, over the current member.
    ///
    /// # Errors
    /// As [`Store::attempt`]; [`Error::Refused`] if there is nothing to watch.
    pub async fn open(
        store: &Store,
        limit: Duration,
        targets: Vec<Target>,
        from: Revision,
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
        let mut requests = requests
            .into_iter()
            .zip(FIRST_ID..)
            .map(|((key, options), id)| (key.into(), options.with_watch_id(id)))
            .collect::<Vec<(Vec<u8>, _)>>()
            .into_iter();
        let opening = requests.len();
        let probe = requests.next().ok_or_else(|| Error::Refused {
            endpoint: store.current().endpoint.clone(),
            reason: "nothing to watch".to_owned(),
        })?;
        let (stream, member) = store
            .attempt_on(limit, async |client: Client| {
                // One revision may hold more than the crate takes in a message by itself.
                let mut watcher = client.watch_client().max_decoding_message_size(usize::MAX);
                let (key, options) = probe.clone();
                let mut stream = watcher.watch(key, Some(options)).await?;
                for (key, options) in requests {
                    stream.watch(key, Some(options)).await?;
                }
                Ok(stream)
            })
            .await?;
        Ok(Self {
            store: store.clone(),
            connection: member.connection(),
            spoke: clock::now(),
            member,
            stream,
            limit,
            opening,
            probe,
            probed: None,
            proxied: None,
            bears_proxy: false,
        })
    }

    /// Goes on through a proxy, too, whose silence can't be told from its death: for who only looks
    /// on. Otherwise the first answer of one is an error.
    #[must_use]
    pub const fn through_proxy(mut self) -> Self {
        self.bears_proxy = true;
        self
    }

    /// What it goes through.
    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    /// Whether what answers is a proxy of etcd's; `None` before the first answer.
    pub(super) const fn is_proxied(&self) -> Option<bool> {
        self.proxied
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
                oldest: Revision::new(message.compact_revision()),
            });
        }
        Ok(changes(&message))
    }

    /// As [`next`](Self::next), beside `renewals`, of which there is news each time: its patience begins
    /// anew with the member's answers to them, so that nothing wakes this thread in between.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub(crate) async fn next_beside<T>(
        &mut self,
        renewals: &mut told::Receiver<T>,
    ) -> Result<Vec<Change>, Error> {
        loop {
            tokio::select! {
                biased;
                changes = self.next() => return changes,
                Ok(()) = renewals.changed() => {}
            }
        }
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

    /// Waits for the first answer, with events or without.
    pub(super) async fn answered(&mut self) -> Result<(), Error> {
        let message = self.stream.message().await;
        let message = message.map_err(|error| self.member.classify(&error))?;
        match message {
            Some(message) => self.take_note_of(&message),
            None => Ok(()),
        }
    }

    async fn wait(&mut self) -> Result<WatchResponse, Error> {
        loop {
            let patience = match (self.probed, self.proxied) {
                (Some(at), _) => (at + self.limit).remaining(),
                // It answers no probe, and old ones crash on it.
                (None, Some(true)) => PROBE_AFTER,
                (None, _) => self.rest(),
            };
            let silence = tokio::time::timeout(patience, self.stream.message());
            let Ok(message) = silence.await else {
                let is_due = self.proxied != Some(true) && self.rest().is_zero();
                if self.probed.is_some() {
                    return Err(Error::Timeout {
                        endpoint: self.member.endpoint.clone(),
                        limit: self.limit,
                    });
                }
                if !is_due {
                    continue;
                }
                self.probed = Some(clock::now());
                if self.opening == 0 {
                    let (key, options) = self.probe.clone();
                    let probe = self.stream.watch(key, Some(options));
                    if let Ok(Err(error)) = tokio::time::timeout(self.limit, probe).await {
                        return Err(self.member.classify(&error));
                    }
                }
                continue;
            };
            self.probed = None;
            self.spoke = clock::now();
            let message = message.map_err(|error| self.member.classify(&error))?;
            let message = message.ok_or_else(|| Error::Unreachable {
                endpoint: self.member.endpoint.clone(),
                reason: "the member ended the watch".to_owned(),
            })?;
            let answers_probe = message.created() && self.opening == 0;
            self.take_note_of(&message)?;
            if answers_probe {
                if !message.canceled() {
                    return Err(Error::Unreachable {
                        endpoint: self.member.endpoint.clone(),
                        reason: "the member knew nothing of the watch".to_owned(),
                    });
                }
                // Whatever the refusal's reason, such as a login that has expired since. Before 3.4.22
                // and 3.5.6 etcd dropped the watch of that number when it refused for want of permission.
                if message.watch_id() >= FIRST_ID {
                    return Err(self.member.cancelled(message.cancel_reason()));
                }
                continue;
            }
            if self.proxied == Some(true) && !self.bears_proxy {
                return Err(Error::Proxied {
                    endpoint: self.member.endpoint.clone(),
                    setting: self.store.wording().of("etcd.endpoints"),
                });
            }
            if message.compact_revision() != 0 || !message.events().is_empty() {
                return Ok(message);
            }
            // A cancelled watch leaves its stream open and silent.
            if message.canceled() {
                let reason = message.cancel_reason();
                return Err(self.member.cancelled(reason));
            }
        }
    }

    /// For how long it may be silent yet before it is asked.
    fn rest(&self) -> Duration {
        let heard = self.member.heard(self.connection).unwrap_or(self.spoke);
        let asked = heard.max(self.spoke) + PROBE_AFTER;
        asked.min(self.spoke + PROBE_AT_LAST).remaining()
    }

    fn take_note_of(&mut self, message: &WatchResponse) -> Result<(), Error> {
        if message.created() {
            self.opening = self.opening.saturating_sub(1);
        }
        if self.proxied.is_none() {
            let ours = message.watch_id() >= FIRST_ID;
            let is_nobody = message
                .header()
                .is_none_or(|header| header.cluster_id() == 0);
            self.proxied = Some(is_nobody || !(ours || message.canceled()));
        }
        // A proxy leaves out of which cluster it speaks.
        if self.proxied == Some(false) {
            self.store.note(&self.member, message.header(), None)?;
        }
        Ok(())
    }
}

fn changes(message: &WatchResponse) -> Vec<Change> {
    let change = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        Some(match event.event_type() {
            EventType::Put => Change::Put(kv.clone()),
            EventType::Delete => Change::Delete {
                key: kv.key().to_vec(),
                revision: Revision::written(kv),
            },
        })
    };
    message.events().iter().filter_map(change).collect()
}
