//! What a leader watches: its own key (R7), and what operators ask of it.

use crate::clock;
use crate::etcd::watch::{Change, Target, Watch};
use crate::etcd::{Error, Store};
use crate::session::Loss;
use crate::term::Term;
use crate::term::record::{Pause, StepDown};

/// What reaches a leader from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The term is over.
    Lost(Loss),
    /// This term is asked to step down, by the record with this mod_revision.
    StepDown {
        /// What was asked.
        request: StepDown,
        /// mod_revision of the record.
        asked_at: i64,
    },
    /// The election was paused.
    Paused(Pause),
}

/// Watches over one term from its claim's revision on.
pub struct Lookout {
    store: Store,
    term: Term,
    watch: Option<Watch>,
    from: i64,
    /// False while history that the watch needed is gone, and everything must be read anew.
    caught_up: bool,
}

impl Lookout {
    /// A lookout for `term`, whose own key was created at its token.
    pub fn new(store: Store, term: Term) -> Self {
        let from = term.claimed_at() + 1;
        Self {
            store,
            term,
            watch: None,
            from,
            caught_up: true,
        }
    }

    /// Waits for the next notice. A watch that merely breaks is none: the deadline still rules,
    /// and the proving read of each renewal sees the key as well.
    ///
    /// # Cancel safety
    /// Safe: the watch is kept, and reopened from the revision it had come to.
    pub async fn next(&mut self) -> Notice {
        loop {
            match self.advance().await {
                Ok(Some(notice)) => return notice,
                Ok(None) => {}
                Err(error) => {
                    self.watch = None;
                    if let Error::ClusterChanged(what) = error {
                        return Notice::Lost(Loss::ClusterChanged(what));
                    }
                    if let Error::Compacted { .. } = error {
                        self.caught_up = false;
                    }
                    tracing::debug!(%error, "the leader's watch broke");
                    clock::sleep(crate::config::timing::LARGEST_BACKOFF).await;
                }
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Notice>, Error> {
        let limit = self.term.timing().attempt_limit();
        if !self.caught_up {
            return self.catch_up(limit).await;
        }
        let watch = if let Some(watch) = self.watch.take() {
            watch
        } else {
            let targets = vec![
                Target::Key(self.term.key().to_owned()),
                Target::Prefix(self.term.election().control()),
            ];
            Watch::open(&self.store, limit, targets, self.from).await?
        };
        let changes = self.watch.insert(watch).next().await?;
        for change in changes {
            let revision = match &change {
                Change::Put(kv) => kv.mod_revision(),
                Change::Delete { revision, .. } => *revision,
            };
            self.from = self.from.max(revision + 1);
            if let Some(notice) = self.read(&change) {
                return Ok(Some(notice));
            }
        }
        Ok(None)
    }

    /// Reads what a compaction has swallowed the history of.
    async fn catch_up(&mut self, limit: std::time::Duration) -> Result<Option<Notice>, Error> {
        let (own, _) = self.store.get(limit, self.term.key(), None).await?;
        let token = self.term.token();
        if own
            .kvs()
            .first()
            .map(etcd_client::KeyValue::create_revision)
            != Some(token)
        {
            return Ok(Some(Notice::Lost(Loss::Deleted)));
        }
        let all = etcd_client::GetOptions::new().with_prefix();
        let control = self.term.election().control();
        let (records, seen) = self.store.get(limit, control, Some(all)).await?;
        self.caught_up = true;
        self.from = seen.revision + 1;
        let mut notices = records.kvs().iter().cloned().map(Change::Put);
        Ok(notices.find_map(|change| self.read(&change)))
    }

    fn read(&self, change: &Change) -> Option<Notice> {
        let election = self.term.election();
        match change {
            Change::Delete { key, .. } if key == self.term.key().as_bytes() => {
                Some(Notice::Lost(Loss::Deleted))
            }
            Change::Put(kv) if kv.key() == self.term.key().as_bytes() => {
                let same = kv.create_revision() == self.term.token();
                (!same).then_some(Notice::Lost(Loss::Deleted))
            }
            Change::Put(kv) if kv.key() == election.step_down().as_bytes() => {
                let request: StepDown = serde_json::from_slice(kv.value()).ok()?;
                (request.token == self.term.token()).then(|| Notice::StepDown {
                    request,
                    asked_at: kv.mod_revision(),
                })
            }
            Change::Put(kv) if kv.key() == election.pause().as_bytes() => {
                serde_json::from_slice(kv.value()).ok().map(Notice::Paused)
            }
            Change::Put(_) | Change::Delete { .. } => None,
        }
    }
}
