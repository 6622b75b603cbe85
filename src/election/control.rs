//! What a leader watches: its own key (R7), and what operators ask of it.

use std::collections::VecDeque;

use etcd_client::{GetOptions, Txn, TxnOp, TxnOpResponse};

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
    Paused {
        /// How.
        pause: Pause,
        /// mod_revision of the record.
        at: i64,
    },
}

/// Watches over one term from its claim's revision on.
pub struct Lookout {
    store: Store,
    term: Term,
    watch: Option<Watch>,
    /// Notices that have not been handed out.
    notices: VecDeque<Notice>,
}

impl Lookout {
    /// A lookout for `term`, whose own key was created at its token.
    pub fn new(store: Store, term: Term) -> Self {
        Self {
            store,
            term,
            watch: None,
            notices: VecDeque::new(),
        }
    }

    /// The term that it watches over.
    pub const fn term(&self) -> &Term {
        &self.term
    }

    /// Waits for the next notice. A watch that merely breaks is none: the deadline still rules,
    /// and the proving read of each renewal sees the key as well.
    ///
    /// # Cancel safety
    /// Safe: the watch and what it has brought are kept.
    pub async fn next(&mut self) -> Notice {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return notice;
            }
            if let Err(error) = self.advance().await {
                self.watch = None;
                if let Error::ClusterChanged(what) = error {
                    return Notice::Lost(Loss::ClusterChanged(what));
                }
                tracing::debug!(%error, "the leader's watch broke");
                clock::sleep(crate::config::timing::LARGEST_BACKOFF).await;
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Error> {
        let changes = match &mut self.watch {
            Some(watch) => watch.next().await?,
            None => self.look_and_watch().await?,
        };
        let notices: Vec<_> = changes.iter().filter_map(|c| self.read(c)).collect();
        self.notices.extend(notices);
        Ok(())
    }

    /// Reads what is there, and watches from just after it: at the start, since a request may have
    /// come before the claim was complete; and wherever a watch broke, whatever was missed.
    async fn look_and_watch(&mut self) -> Result<Vec<Change>, Error> {
        let limit = self.term.timing().attempt_limit();
        let (key, control) = (self.term.key().to_owned(), self.term.election().control());
        let under_control = GetOptions::new().with_prefix();
        let look = Txn::new().and_then([
            TxnOp::get(key.as_str(), None),
            TxnOp::get(control.as_str(), Some(under_control)),
        ]);
        let (answer, seen) = self.store.txn(limit, look).await?;
        let targets = vec![Target::Key(key.clone().into()), Target::Prefix(control)];
        let watch = Watch::open(&self.store, limit, targets, seen.revision + 1).await?;
        self.watch = Some(watch);
        let mut found = Vec::new();
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(mut get) = response {
                found.extend(get.take_kvs().into_iter().map(Change::Put));
            }
        }
        let own_is_there = found.iter().any(|change| match change {
            Change::Put(kv) => kv.key() == key.as_bytes(),
            Change::Delete { .. } => false,
        });
        if !own_is_there {
            self.notices.push_front(Notice::Lost(Loss::Deleted));
        }
        Ok(found)
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
                let pause = serde_json::from_slice(kv.value()).ok()?;
                let at = kv.mod_revision();
                Some(Notice::Paused { pause, at })
            }
            Change::Put(_) | Change::Delete { .. } => None,
        }
    }
}
