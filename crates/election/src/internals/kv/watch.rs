//! A watch that outlives the members it runs over.

use etcd_client::{GetOptions, WatchOptions, WatchResponse};

use super::{Error, Keys, Span};
use crate::etcd::patience::Failure;
use crate::etcd::watch::Watch;
use crate::etcd::{self, Store};
use crate::revision::Revision;

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Which keys.
    pub span: Span,
    /// From which revision on; zero for what comes after now.
    pub revision: Revision,
    /// Whether each event shall hold what was there before.
    pub prev_kv: bool,
}

/// Follows keys over one member after another, from where the last one left off: nothing is lost
/// and nothing told twice, as long as the history isn't compacted under it.
pub struct KeyFollower {
    store: Store,
    request: WatchRequest,
    /// The first revision that was not told yet.
    from: Revision,
    watch: Option<Watch>,
}

impl Keys {
    /// Opens a watch.
    ///
    /// Without a revision it begins after the revision that a linearizable read finds: a member
    /// that lags would begin in the past.
    ///
    /// # Errors
    /// As [`Error`] lists them, within the patience; what follows has no such bound.
    pub async fn watch(&self, request: WatchRequest) -> Result<KeyFollower, Failure> {
        let mut from = request.revision;
        if from == Revision::default() {
            let look = GetOptions::new().with_limit(1).with_keys_only();
            let seen = self.read(&request.span, &look).await?;
            from = seen
                .header()
                .map_or(from, |header| Revision::new(header.revision()).next());
        }
        let mut follower = KeyFollower {
            store: self.store.clone(),
            request,
            from,
            watch: None,
        };
        let opened = self.patience.ask(async |limit| follower.open(limit).await);
        opened.await?;
        Ok(follower)
    }
}

impl KeyFollower {
    /// Waits for the next message with events; the last one says how far the history was
    /// compacted.
    ///
    /// # Errors
    /// One failed attempt; call again to go on where it stood, if the error
    /// [may pass](etcd::Error::may_pass).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Result<WatchResponse, etcd::Error> {
        let told = self.advance().await;
        match &told {
            Ok(message) => {
                let last = message.events().last().and_then(etcd_client::Event::kv);
                // A message holds all events of its revisions.
                self.from = last.map_or(self.from, |kv| Revision::new(kv.mod_revision()).next());
            }
            Err(_) => self.watch = None,
        }
        told
    }

    /// The error that a message about a compaction stands for.
    pub fn compacted(&self, message: &WatchResponse) -> Option<Error> {
        let oldest = message.compact_revision();
        (oldest != 0).then_some(Error::Compacted {
            asked: self.from,
            oldest: Revision::new(oldest),
        })
    }

    async fn advance(&mut self) -> Result<WatchResponse, etcd::Error> {
        if self.watch.is_none() {
            self.open(etcd::patience::LONGEST_ATTEMPT).await?;
        }
        match &mut self.watch {
            Some(watch) => watch.message().await,
            None => std::future::pending().await,
        }
    }

    async fn open(&mut self, limit: std::time::Duration) -> Result<(), etcd::Error> {
        let mut options: WatchOptions = self.request.span.of_watch();
        options = options.with_start_revision(self.from.get());
        if self.request.prev_kv {
            options = options.with_prev_key();
        }
        let watched = [(self.request.span.start(), options)];
        let watch = Watch::open_with(&self.store, limit, watched).await?;
        self.watch = Some(watch.through_proxy());
        Ok(())
    }
}
