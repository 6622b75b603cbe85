//! The term as a Rust job sees it.

use std::sync::Arc;
use std::time::Duration;

use incumbent_election::{Answers, GuardedTxn};
use tokio::sync::watch;

use super::process::{JobCommand, Spawner};
use crate::revision::Token;
use crate::schedule::record::Outcome;
use crate::schedule::{self, RunId};
use crate::term::completion::Completed;
use crate::term::{Term, WriteError};

/// The term that a run of a Rust job is made in, and the run itself. Cheap to clone.
///
/// Reads and writes go through only while the term still is in etcd's eyes, whatever this process
/// believes.
#[derive(Clone, Debug)]
pub struct JobTerm {
    term: Term,
    run: Option<ScheduledRun>,
    /// Turns true when the job is to stop.
    stop: watch::Receiver<bool>,
    spawner: Spawner,
}

/// What a run of a job with a schedule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduledRun {
    /// The slot in UTC, `2027-03-28T01:00:00Z`, or `manual`: the idempotency key. Slots rise as texts do.
    pub slot: String,
    /// From one.
    pub attempt: u32,
    /// How many missed slots it stands for beyond its own.
    pub missed: u64,
    /// The last slot that was a success.
    pub last_success: Option<String>,
    id: RunId,
}

impl ScheduledRun {
    fn of(run: &schedule::Run) -> Self {
        Self {
            slot: run.slot.to_string(),
            attempt: run.attempt,
            missed: run.missed,
            last_success: run.last_success.map(|slot| slot.to_string()),
            id: run.id(),
        }
    }
}

/// A run did not close itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompletionError {
    /// The job has no schedule, so that its runs are recorded nowhere. Nothing was written.
    #[error("no run to close: the job has no schedule")]
    NoSchedule,
    /// A condition of the transaction's own doesn't hold. Nothing was written, and the run is open still.
    #[error("a condition does not hold; nothing was written, and the run is open")]
    ConditionFailed,
    /// The run is closed already; nothing was written.
    #[error("the run is closed already{}; nothing was written", told(.0.as_deref()))]
    Closed(Option<String>),
    /// An attempt was not answered, and what would tell of it is gone or can't be asked.
    #[error("the outcome is unknown, an attempt was not answered")]
    Unknown,
    /// As of any guarded write.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn told(result: Option<&str>) -> String {
    result.map_or_else(String::new, |result| format!(", as {result}"))
}

impl JobTerm {
    pub(super) fn new(
        term: Term,
        run: Option<Arc<schedule::Run>>,
        stop: watch::Receiver<bool>,
        spawner: Spawner,
    ) -> Self {
        Self {
            term,
            run: run.map(|run| ScheduledRun::of(&run)),
            stop,
            spawner,
        }
    }

    /// What this run is for; `None` where the job has no schedule.
    pub const fn run(&self) -> Option<&ScheduledRun> {
        self.run.as_ref()
    }

    /// Closes this run as a success, and does `txn`, in one transaction: both are done, or neither, so
    /// that what it writes is there exactly once for the slot, whoever dies when.
    ///
    /// From then on the run is a success, whatever [`Job::run`](super::Job::run) returns: call it last.
    /// With `job.schedule.guarantee = "at-least-once"` a slot is run again until it has been closed. Where
    /// one of `txn`'s own conditions doesn't hold, neither is done, and the run goes on open, so that it may
    /// be closed otherwise. Tries member after member until the term is over.
    ///
    /// # Errors
    /// After [`CompletionError::Unknown`] it may be done; after the others it is not.
    ///
    /// # Cancel safety
    /// Dropping it leaves open whether it is done.
    pub async fn complete(&self, txn: GuardedTxn) -> Result<(), CompletionError> {
        let run = self.run.as_ref().ok_or(CompletionError::NoSchedule)?;
        match self.term.complete(run.id.clone(), txn.effects()).await? {
            Completed::Done(_) => Ok(()),
            Completed::NotLeader => Err(WriteError::NotLeader.into()),
            Completed::NotOpen(instead) => {
                let result = instead.result.map(Outcome::word);
                Err(CompletionError::Closed(result.map(str::to_owned)))
            }
            Completed::ConditionFailed => Err(CompletionError::ConditionFailed),
            Completed::Unknown => Err(CompletionError::Unknown),
        }
    }

    /// A command to run within this term, started by the guardian: it can't outlive the term.
    pub fn command(&self, program: impl Into<String>) -> JobCommand {
        JobCommand::new(self.spawner.clone(), program.into())
    }

    /// The fencing token: it rises with every term of the election, whoever leads.
    pub fn token(&self) -> Token {
        self.term.token()
    }

    /// The leader's key in etcd.
    pub fn key(&self) -> &str {
        self.term.key()
    }

    /// The candidate's name.
    pub fn candidate(&self) -> &str {
        self.term.candidate()
    }

    /// The election's prefix.
    pub fn election(&self) -> &str {
        self.term.election().as_str()
    }

    /// How long this is certainly the leader, by a clock that goes on while the machine is suspended:
    /// until the polite stop is due, not until the deadline. Zero once the term is lost.
    pub fn remaining(&self) -> Duration {
        self.term.remaining()
    }

    /// Waits until the term is lost: etcd says so, or the time of the polite stop has come.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn lost(&self) {
        self.term.lost().await;
    }

    /// Whether the job is to end: a planned stop has begun, or the term is lost.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow() || self.remaining().is_zero()
    }

    /// Waits until the job is to end: a planned stop has begun, or the term is lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stopping(&self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.lost() => {}
            // A sender that is gone belongs to a run that is over.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Reads the value under `key`, linearizably, if the term still is. Tries member after member until
    /// the term is over.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>, WriteError> {
        self.term.get(key).await
    }

    /// Writes `value` under `key` if the term still is. Tries member after member until the term is over:
    /// repeating it does no harm to a key that the leader alone writes.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] if the term is over, and [`WriteError::Blocks`] for a key of the election
    /// itself; then nothing was written.
    ///
    /// # Cancel safety
    /// Dropping it leaves open whether it is written, guarded even then.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), WriteError> {
        self.term.put(key, value).await
    }

    /// Deletes `key`, guarded as [`put`](Self::put).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<(), WriteError> {
        self.term.delete(key).await
    }

    /// Runs a transaction if the term still is, in one attempt.
    ///
    /// # Errors
    /// As [`put`](Self::put). [`WriteError::Store`] with a time-out leaves the outcome unknown, guarded
    /// even then.
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn txn(&self, txn: GuardedTxn) -> Result<Answers, WriteError> {
        let answer = self.term.txn(vec![txn.operation()]).await?;
        Ok(Answers::read(&answer))
    }

    /// Sets the public value: what everyone reads under the leader's key.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<(), WriteError> {
        self.term.proclaim(value).await
    }
}
