//! What a leader watches: its own key (R7), and what operators ask of it.

use std::collections::VecDeque;

use etcd_client::{GetOptions, Txn, TxnOp};
use tokio::sync::watch as told;

use super::own_key::{put_back, say_not_put_back, say_put_back};
use crate::clock;
use crate::etcd::watch::{Change, Target, Watch};
use crate::etcd::{Error, Store, reads};
use crate::revision::{Revision, Token};
use crate::session::{Loss, Status};
use crate::term::Term;
use crate::term::record::{self, PauseRecord, Record, StepDown, Trigger};

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
        asked_at: Revision,
    },
    /// The election was paused.
    Paused {
        /// How, if that can be read.
        pause: Record<PauseRecord>,
        /// mod_revision of the record.
        at: Revision,
    },
    /// The election goes on.
    Resumed,
    /// The state of the schedule was written, by whomever. Told only where the job has one.
    Slots {
        /// mod_revision of the record; none if it was deleted.
        at: Option<Revision>,
    },
    /// Somebody asks for a run now, by the record with this mod_revision. Told only where the job has
    /// a schedule.
    Trigger {
        /// What was asked.
        request: Trigger,
        /// mod_revision of the record.
        asked_at: Revision,
    },
    /// The operator's record under this key can't be read, and is not heeded.
    Unreadable(String),
}

/// Watches over one term from its claim's revision on.
pub struct Lookout {
    store: Store,
    term: Term,
    /// Of its lease.
    status: told::Receiver<Status>,
    watch: Option<Watch>,
    /// Notices that have not been handed out.
    notices: VecDeque<Notice>,
    /// The value that the own key had last on its lease.
    value: Vec<u8>,
    /// The write that took the own key off its lease, by its mod_revision.
    off_lease: Option<Revision>,
    /// Whether it was said that it can't be put back.
    is_said: bool,
    /// Whether the records of a schedule are watched.
    scheduled: bool,
}

impl Lookout {
    /// A lookout for `term`, whose own key was created at its token.
    pub fn new(store: Store, term: Term) -> Self {
        Self {
            store,
            value: term.candidate().into(),
            status: term.status(),
            term,
            watch: None,
            notices: VecDeque::new(),
            off_lease: None,
            is_said: false,
            scheduled: false,
        }
    }

    /// The same, for a job that has a schedule or hasn't: its records are watched as well.
    #[must_use]
    pub const fn with_schedule(mut self, scheduled: bool) -> Self {
        self.scheduled = scheduled;
        self
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
                clock::sleep(crate::timing::LARGEST_BACKOFF).await;
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Error> {
        if let Some(at) = self.off_lease {
            return self.put_back(at).await;
        }
        let changes = match &mut self.watch {
            Some(watch) => watch.next_beside(&mut self.status).await?,
            None => self.look_and_watch().await?,
        };
        for change in &changes {
            let notice = self.read(change);
            self.notices.extend(notice);
        }
        Ok(())
    }

    /// Puts the own key back on its lease; one attempt, since the next look finds it off once more.
    async fn put_back(&mut self, at: Revision) -> Result<(), Error> {
        let (lease, limit) = (self.term.lease(), self.term.timing().attempt_limit());
        let revisions = (self.term.token(), at);
        let txn = put_back(self.term.key(), revisions, lease, self.value.clone());
        let (election, candidate) = (self.term.election(), self.term.candidate());
        match self.store.txn(limit, txn).await {
            Ok((answer, _)) => {
                if answer.succeeded() {
                    say_put_back(election, candidate, lease, self.term.key());
                }
                (self.off_lease, self.is_said) = (None, false);
                Ok(())
            }
            Err(error) => {
                if error.is_definite() && !self.is_said {
                    say_not_put_back(election, candidate, lease, &error);
                    self.is_said = true;
                }
                self.off_lease = None;
                Err(error)
            }
        }
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
        let mut targets = vec![Target::Key(key.clone().into()), Target::Prefix(control)];
        if self.scheduled {
            let state = self.term.election().schedule();
            targets.push(Target::Key(state.into()));
        }
        let watch = Watch::open(&self.store, limit, targets, seen.revision.next()).await?;
        self.watch = Some(watch);
        let found = reads::gets(&answer).flat_map(|mut get| get.take_kvs());
        let found: Vec<_> = found.map(Change::Put).collect();
        if self.scheduled {
            let pause = self.term.election().pause();
            let paused = found.iter().any(|change| match change {
                Change::Put(kv) => kv.key() == pause.as_bytes(),
                Change::Delete { .. } => false,
            });
            // Whatever was missed of the state while nobody watched it.
            self.notices.push_back(Notice::Slots { at: None });
            if !paused {
                self.notices.push_back(Notice::Resumed);
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

    fn read(&mut self, change: &Change) -> Option<Notice> {
        let election = self.term.election();
        match change {
            Change::Delete { key, .. } if key == self.term.key().as_bytes() => {
                Some(Notice::Lost(Loss::Deleted))
            }
            Change::Put(kv) if kv.key() == self.term.key().as_bytes() => {
                if Token::of(kv) != self.term.token() {
                    return Some(Notice::Lost(Loss::Deleted));
                }
                if kv.lease() == self.term.lease().get() {
                    self.value = kv.value().to_vec();
                    self.off_lease = None;
                } else {
                    self.off_lease = Some(Revision::written(kv));
                }
                None
            }
            Change::Put(kv) if kv.key() == election.step_down().as_bytes() => {
                let Record::Read(request) = record::json::<StepDown>(kv.value()) else {
                    // It may mean any term, and so it means none.
                    return Some(Notice::Unreadable(election.step_down()));
                };
                (request.token == self.term.token()).then(|| Notice::StepDown {
                    request,
                    asked_at: Revision::written(kv),
                })
            }
            Change::Put(kv) if kv.key() == election.pause().as_bytes() => {
                let pause = record::json(kv.value());
                let at = Revision::written(kv);
                Some(Notice::Paused { pause, at })
            }
            Change::Delete { key, .. } if key == election.pause().as_bytes() => {
                self.scheduled.then_some(Notice::Resumed)
            }
            Change::Put(kv) if kv.key() == election.schedule().as_bytes() => Some(Notice::Slots {
                at: Some(Revision::written(kv)),
            }),
            Change::Delete { key, .. } if key == election.schedule().as_bytes() => {
                Some(Notice::Slots { at: None })
            }
            Change::Put(kv) if self.scheduled && kv.key() == election.trigger().as_bytes() => {
                let Record::Read(request) = record::json::<Trigger>(kv.value()) else {
                    return Some(Notice::Unreadable(election.trigger()));
                };
                let asked_at = Revision::written(kv);
                // One that was answered is nobody's wish any more.
                let news = request.answer.is_none();
                news.then_some(Notice::Trigger { request, asked_at })
            }
            Change::Put(_) | Change::Delete { .. } => None,
        }
    }
}
