//! Writes: what is done once, and what may be repeated.

use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{Deleted, Error, Keys, Put, Span, WriteGuard, Written};
use crate::etcd::{self, reads};
use crate::revision::Revision;

impl Keys {
    /// Writes a key.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn put(&self, put: &Put, guard: Option<&WriteGuard>) -> Result<Written, Error> {
        let span = Span::key(put.key.clone());
        // What was there before a write that was not answered, and why it was not.
        let mut unanswered: Option<(Option<KeyValue>, etcd::Error)> = None;
        let mut attempts = self.patience.attempts();
        loop {
            let looked = self.read(&span, &GetOptions::new()).await;
            let mut looked = looked.map_err(|failure| match unanswered {
                Some(_) => Error::InDoubt(attempts.telling(failure)),
                None => Error::Store(failure),
            })?;
            let now = looked.take_kvs().pop();
            if let Some((before, error)) = &unanswered {
                let before = before.as_ref();
                if put.is_done(before, now.as_ref()) {
                    return Ok(Written {
                        header: looked.take_header(),
                        prev_kv: before.cloned().filter(|_| put.prev_kv),
                    });
                }
                // Once more, it might undo what somebody wrote who had seen the first.
                if !is_written_at_most_once(before, now.as_ref()) {
                    return Err(Error::Overwritten(error.clone()));
                }
            }
            let txn = put.over(now.as_ref(), guard);
            match self.store.txn(self.patience.attempt(), txn).await {
                Ok((answer, _)) if answer.succeeded() => return Ok(Written::of(answer)),
                Ok((answer, _)) => match guard {
                    Some(guard) if !guard.held(&answer) => {
                        let token = guard.token();
                        // None of the earlier ones can be applied any more; one may have been, and
                        // overwritten, if the key has changed since.
                        let revision = Put::revision_in(&answer);
                        let same = |before| revision == Some(mod_revision(before));
                        let before = unanswered.as_ref().map(|(before, _)| before.as_ref());
                        return Err(if before.is_none_or(same) {
                            Error::NotLeader { token }
                        } else {
                            Error::Overtaken { token }
                        });
                    }
                    // Somebody wrote the key since it was looked at.
                    _ => {}
                },
                Err(error) if error.may_pass() => {
                    unanswered = Some((now, error.clone()));
                    attempts.failed(error).await.map_err(Error::InDoubt)?;
                }
                // An earlier attempt may still be applied, or have been since the last look.
                Err(error) if unanswered.is_some() || error.leaves_doubt() => {
                    return Err(Error::InDoubt(error.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn delete(
        &self,
        span: &Span,
        prev_kv: bool,
        guard: Option<&WriteGuard>,
    ) -> Result<Deleted, Error> {
        let look = span.of_get().with_keys_only().with_limit(1);
        self.read(span, &look).await?;
        let txn = Txn::new()
            .when(guard.map(WriteGuard::holds).into_iter().collect::<Vec<_>>())
            .and_then([span.deletion(prev_kv)]);
        let mut answer = self.send_once(txn).await?;
        match (answer.op_responses().pop(), guard) {
            (Some(TxnOpResponse::Delete(mut deleted)), _) => Ok(Deleted {
                header: answer.take_header(),
                count: deleted.deleted(),
                prev_kvs: deleted.take_prev_kvs(),
            }),
            (_, Some(guard)) => Err(Error::NotLeader {
                token: guard.token(),
            }),
            (_, None) => unreachable!("a transaction without conditions succeeds"),
        }
    }

    /// Sends a write that must not be sent twice, with all the time that is left.
    pub(super) async fn send_once(&self, txn: Txn) -> Result<TxnResponse, Error> {
        match self.store.txn(self.patience.remaining(), txn).await {
            Ok((answer, _)) => Ok(answer),
            Err(error) if error.may_pass() => Err(Error::InDoubt(self.patience.timed_out(error))),
            Err(error) if error.leaves_doubt() => Err(Error::InDoubt(error.into())),
            Err(error) => Err(error.into()),
        }
    }
}

impl Put {
    /// The transaction that writes if the key still is as it was when it was looked at.
    fn over(&self, now: Option<&KeyValue>, guard: Option<&WriteGuard>) -> Txn {
        let revision = mod_revision(now);
        let unchanged = Compare::mod_revision(self.key.clone(), CompareOp::Equal, revision.get());
        let put = self.operation();
        let conditions: Vec<Compare> = [Some(unchanged), guard.map(WriteGuard::holds)]
            .into_iter()
            .flatten()
            .collect();
        let keys_only = Some(GetOptions::new().with_keys_only());
        let otherwise = guard.map(|guard| {
            let key = TxnOp::get(self.key.clone(), keys_only);
            vec![guard.look(), key]
        });
        Txn::new()
            .when(conditions)
            .and_then([put])
            .or_else(otherwise.unwrap_or_default())
    }

    /// The write itself.
    pub(super) fn operation(&self) -> TxnOp {
        let mut options = PutOptions::new();
        if let Some(lease) = self.lease {
            options = options.with_lease(lease.get());
        }
        if self.prev_kv {
            options = options.with_prev_key();
        }
        TxnOp::put(self.key.clone(), self.value.clone(), Some(options))
    }

    /// The key's mod_revision as [`over`](Self::over) reads it beside the guard when it fails.
    fn revision_in(answer: &TxnResponse) -> Option<Revision> {
        let key = reads::firsts(answer).nth(1)?;
        Some(mod_revision(key.as_ref()))
    }

    /// Whether the key holds now what an unanswered write over `before` was to put there.
    fn is_done(&self, before: Option<&KeyValue>, now: Option<&KeyValue>) -> bool {
        mod_revision(before) != mod_revision(now) && now.is_some_and(|now| self.is_as(now))
    }

    /// Whether the key holds what this was to put there.
    pub(super) fn is_as(&self, kv: &KeyValue) -> bool {
        let lease = self.lease.map_or(0, crate::keys::LeaseId::get);
        kv.value() == self.value && kv.lease() == lease
    }
}

/// When a key was written last; zero if it is not there.
fn mod_revision(key: Option<&KeyValue>) -> Revision {
    key.map_or(Revision::default(), Revision::written)
}

/// Whether a key was written once at most between two looks at it. Then what stands there now, and isn't
/// what an unanswered write was to put there, has kept that from being applied, now or later.
fn is_written_at_most_once(before: Option<&KeyValue>, now: Option<&KeyValue>) -> bool {
    mod_revision(before) == mod_revision(now)
        || before.zip(now).is_some_and(|(before, now)| {
            before.create_revision() == now.create_revision()
                && before.version() + 1 == now.version()
        })
}

impl Written {
    fn of(mut answer: TxnResponse) -> Self {
        let prev_kv = match answer.op_responses().pop() {
            Some(TxnOpResponse::Put(mut put)) => put.take_prev_key(),
            _ => None,
        };
        Self {
            header: answer.take_header(),
            prev_kv,
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;

    /// A key by when it was made and written, and how often since.
    fn key((create_revision, mod_revision, version): (i64, i64, i64)) -> PbKeyValue {
        PbKeyValue {
            create_revision,
            mod_revision,
            version,
            ..PbKeyValue::default()
        }
    }

    #[test]
    fn a_key_tells_whether_it_may_have_been_written_twice() {
        let once = |before: Option<(i64, i64, i64)>, now: Option<(i64, i64, i64)>| {
            let (before, now) = (before.map(key), now.map(key));
            is_written_at_most_once(
                before.as_ref().map(Into::into),
                now.as_ref().map(Into::into),
            )
        };
        let old = Some((5, 7, 2));
        assert!(once(old, old) && once(None, None));
        assert!(once(old, Some((5, 9, 3))));
        assert!(!once(old, Some((5, 9, 4))), "written twice");
        assert!(!once(old, Some((9, 9, 1))), "made anew");
        assert!(!once(old, Some((9, 10, 3))), "made anew, and written");
        assert!(!once(old, None) && !once(None, Some((9, 9, 1))));
    }
}
