//! A run that closes itself: as a success, in the transaction that does what it is for.
//!
//! The state's `mod_revision` guards each attempt, and the state is the first thing that an attempt
//! reads. Conditions of the run's own stand beside that guard: a run isn't closed for what wasn't done.
//! So of several that were not answered at most one is done, and the run's own record tells
//! later whether one was.

use std::time::Duration;

use etcd_client::{Compare, GetOptions, ResponseHeader, Txn, TxnOp, TxnResponse};

use super::{Term, WriteError, slots};
use crate::etcd::{Error, Store, reads};
use crate::keys::{LeaseId, Prefix};
use crate::revision::{Revision, Token};
use crate::schedule::record::{Exit, HistoryEntry, Outcome, State};
use crate::schedule::{RunId, Write};
use crate::{backoff, wall};

/// What came of an attempt that was answered.
#[derive(Debug)]
pub enum Completed {
    /// The run is closed, and the operations are done: by this attempt, or by an earlier one that was
    /// not answered. The header of the answer that says so.
    Done(Option<ResponseHeader>),
    /// Nothing was written: the term is over.
    NotLeader,
    /// Nothing was written: the run is not open, or not any more.
    NotOpen(NotOpen),
    /// Nothing was written, and the run is open: a condition of its own doesn't hold.
    ConditionFailed,
    /// An attempt was not answered, and what would tell of it is gone or can't be asked.
    Unknown,
}

/// What a run does with its close: under these conditions of its own, these operations.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// All of them have to hold, or nothing is done, and the run stays open.
    pub conditions: Vec<Compare>,
    /// None of them may write to the election's own keys.
    pub operations: Vec<TxnOp>,
}

/// What there is instead of the open run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOpen {
    /// How the run ended, if it was the last that did.
    pub result: Option<Outcome>,
    /// The number of the last record of a run.
    pub seq: u64,
}

/// The closing transaction of a run, attempt after attempt.
#[derive(Debug)]
pub struct Completion<'a> {
    prefix: &'a Prefix,
    lease: LeaseId,
    run: RunId,
    effects: Effects,
    /// What was sent and not answered.
    sent: Option<Write>,
}

impl<'a> Completion<'a> {
    /// Of the run, in the term that hangs on the lease: its effects, and the record that it is a
    /// success.
    pub const fn new((prefix, lease): (&'a Prefix, LeaseId), run: RunId, effects: Effects) -> Self {
        Self {
            prefix,
            lease,
            run,
            effects,
            sent: None,
        }
    }

    /// Whether it may be done, or become so, though no attempt was answered.
    pub const fn is_in_doubt(&self) -> bool {
        self.sent.is_some()
    }

    /// Makes an attempt. May be repeated after any error.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown, to the next attempt too.
    pub async fn attempt(&mut self, store: &Store, limit: Duration) -> Result<Completed, Error> {
        let (answer, _) = store.txn(limit, Txn::new().and_then(self.looks())).await?;
        let mut seen = self.found(&answer);
        loop {
            let Some(write) = self.write(&seen) else {
                return self.not_open(store, limit, &seen).await;
            };
            let of = (self.prefix, self.lease);
            let txn = slots::guarded(of, &write, self.effects.clone()).or_else(self.looks());
            let same = |earlier: &Write| earlier.seen == write.seen;
            let is_first = !self.sent.as_ref().is_some_and(same);
            self.sent = Some(write);
            let answer = store.txn(limit, txn).await;
            let is_refused = match &answer {
                Ok((answer, _)) => !answer.succeeded(),
                Err(error) => !error.leaves_doubt(),
            };
            if is_first && is_refused {
                self.sent = None;
            }
            let (mut answer, _) = answer?;
            if answer.succeeded() {
                return Ok(Completed::Done(answer.take_header()));
            }
            let before = std::mem::replace(&mut seen, self.found(&answer));
            if seen.leads && seen.revision == before.revision {
                // What wasn't answered earlier may still come, once its conditions hold.
                return Ok(if self.is_in_doubt() {
                    Completed::Unknown
                } else {
                    Completed::ConditionFailed
                });
            }
            // Somebody else wrote since it was looked at, or an earlier attempt of ours was done.
        }
    }

    /// What tells whether the run is open, and the term goes on.
    fn looks(&self) -> [TxnOp; 2] {
        let keys_only = Some(GetOptions::new().with_keys_only());
        let leader = self.prefix.candidate(self.lease);
        [
            TxnOp::get(self.prefix.schedule(), None),
            TxnOp::get(leader, keys_only),
        ]
    }

    fn found(&self, answer: &TxnResponse) -> Finding {
        let mut found = reads::firsts(answer);
        let (state, leader) = (found.next().flatten(), found.next().flatten());
        Finding {
            leads: leader.is_some_and(|it| Token::of(&it) == self.run.token),
            revision: state
                .as_ref()
                .map_or(Revision::default(), Revision::written),
            state: state.and_then(|it| State::read(it.value()).ok()),
        }
    }

    /// What closes the run, if it is open.
    fn write(&self, seen: &Finding) -> Option<Write> {
        let state = seen.state.as_ref().filter(|_| seen.leads)?;
        let open = state.open.as_ref().filter(|_| state.has_open(&self.run))?;
        // The same once more, so that what tells of one tells of all.
        if let Some(sent) = self.sent.as_ref().filter(|it| it.seen == seen.revision) {
            return Some(sent.clone());
        }
        let (now, began) = (wall::now(), open.at);
        let took = if now > began {
            now.since(began)
        } else {
            Duration::ZERO
        };
        let (state, record) = state.closed(Outcome::Success, None::<Exit>, took)?;
        Some(Write {
            number: 0,
            token: self.run.token,
            seen: seen.revision,
            runs: vec![(state.seq, record)],
            // The leader's next write sees to it, who knows how many are kept.
            trimmed: Vec::new(),
            state,
            last: false,
        })
    }

    async fn not_open(
        &self,
        store: &Store,
        limit: Duration,
        seen: &Finding,
    ) -> Result<Completed, Error> {
        let seq = seen.state.as_ref().map_or(0, |state| state.seq);
        // Records are written once, in the order of their numbers.
        let sent = self.sent.as_ref().and_then(|sent| sent.runs.first());
        if let Some((number, record)) = sent.filter(|(number, _)| *number <= seq) {
            let key = self.prefix.run(*number);
            let (mut answer, _) = store.get(limit, key, None).await?;
            let found = answer.kvs().first();
            match found.map(|kv| HistoryEntry::read(kv.value())) {
                Some(Ok(found)) if found == *record => {
                    return Ok(Completed::Done(answer.take_header()));
                }
                Some(_) => {}
                None => return Ok(Completed::Unknown),
            }
        }
        let state = seen.state.as_ref();
        let closed = state.filter(|state| state.has_closed(&self.run));
        let result = closed.and_then(|state| state.last.as_ref());
        let result = result.map(|last| last.result);
        if !seen.leads && result.is_none() {
            return Ok(Completed::NotLeader);
        }
        Ok(Completed::NotOpen(NotOpen { result, seq }))
    }
}

impl Term {
    /// Closes a run of this term as a success, together with its effects: done both, or neither. Tries
    /// member after member until the term is over.
    ///
    /// # Errors
    /// As [`Term::put`]; nothing is done then. [`Completed::Unknown`] says where it may be.
    ///
    /// # Cancel safety
    /// Dropping it leaves the outcome unknown.
    pub async fn complete(&self, run: RunId, effects: Effects) -> Result<Completed, WriteError> {
        self.refuse_own(effects.operations.iter().cloned().map(Into::into))?;
        let limit = self.timing().attempt_limit();
        let of = (self.election(), self.lease());
        let mut completion = Completion::new(of, run, effects);
        let mut pauses = crate::session::backoff();
        loop {
            match completion.attempt(&self.store, limit).await {
                Err(error) if error.is_definite() || self.remaining().is_zero() => {
                    // Whatever this attempt met, an earlier one may have come through.
                    let doubt = completion.is_in_doubt();
                    return if doubt {
                        Ok(Completed::Unknown)
                    } else {
                        Err(error.into())
                    };
                }
                Err(_) => tokio::time::sleep(pauses.next(backoff::jitter())).await,
                Ok(completed) => return Ok(completed),
            }
        }
    }
}

/// What an attempt finds.
#[derive(Debug, Default)]
struct Finding {
    /// Whether the term is not over.
    leads: bool,
    state: Option<State>,
    /// The state's `mod_revision`.
    revision: Revision,
}
