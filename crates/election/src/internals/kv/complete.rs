//! A write that closes the run that it is made in.

use etcd_client::{Txn, TxnOp, TxnResponse};

use super::{Error, Keys, Put, RunGuard, Written};
use crate::etcd::{self, reads};
use crate::schedule::record::Outcome;
use crate::term::completion::{Completed, Completion, Effects, NotOpen};

impl Keys {
    /// Writes a key and closes the run as a success, in one transaction. The same once more is
    /// answered as the first was.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn complete(&self, put: &Put, run: &RunGuard) -> Result<Written, Error> {
        let mut attempts = self.patience.attempts();
        let of = (&run.prefix, run.lease);
        let effects = Effects {
            operations: vec![put.operation()],
            ..Effects::default()
        };
        let mut completion = Completion::new(of, run.id.clone(), effects);
        loop {
            let error = match self.try_to_complete(&mut completion, put, run).await {
                Ok(written) => return written,
                Err(error) => error,
            };
            let failed = if completion.is_in_doubt() && !error.may_pass() {
                Err(error.into())
            } else {
                attempts.weigh(error).await
            };
            failed.map_err(|failure| {
                if completion.is_in_doubt() {
                    Error::InDoubt(failure)
                } else {
                    Error::Store(failure)
                }
            })?;
        }
    }

    /// One attempt; `Err` if it was not answered.
    async fn try_to_complete(
        &self,
        completion: &mut Completion<'_>,
        put: &Put,
        run: &RunGuard,
    ) -> Result<Result<Written, Error>, etcd::Error> {
        let limit = self.patience.attempt();
        let done = |header| Written {
            header,
            prev_kv: None,
        };
        Ok(match completion.attempt(&self.store, limit).await? {
            Completed::Done(header) => Ok(done(header)),
            Completed::NotLeader => Err(Error::NotLeader {
                token: run.id.token,
            }),
            // It has no conditions of its own.
            Completed::Unknown | Completed::ConditionFailed => Err(Error::NoRecord),
            Completed::NotOpen(instead) => match self.closed_by(put, run, &instead).await? {
                Some(answer) => Ok(done(answer.header().cloned())),
                None => Err(Error::NotOpen {
                    slot: run.id.slot,
                    attempt: run.id.attempt,
                    result: instead.result,
                }),
            },
        })
    }

    /// What tells that the run was closed by this very write, if so: the key stands as the closing
    /// transaction put it.
    async fn closed_by(
        &self,
        put: &Put,
        run: &RunGuard,
        instead: &NotOpen,
    ) -> Result<Option<TxnResponse>, etcd::Error> {
        if instead.result != Some(Outcome::Success) {
            return Ok(None);
        }
        let record = TxnOp::get(run.prefix.run(instead.seq), None);
        let key = TxnOp::get(put.key.clone(), None);
        let txn = Txn::new().and_then([record, key]);
        let (answer, _) = self.store.txn(self.patience.attempt(), txn).await?;
        let mut found = reads::firsts(&answer);
        let (Some(record), Some(key)) = (found.next().flatten(), found.next().flatten()) else {
            return Ok(None);
        };
        let is_it = record.mod_revision() == key.mod_revision() && put.is_as(&key);
        Ok(is_it.then_some(answer))
    }
}
