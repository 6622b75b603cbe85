//! Writes: what is done once, and what may be repeated.

use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{Deleted, Error, Guard, Keys, Put, Span, Written};

impl Keys {
    /// Writes a key.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn put(&self, put: &Put, guard: Option<&Guard>) -> Result<Written, Error> {
        let span = Span::key(put.key.clone());
        // What was there before a write that was not answered.
        let mut unanswered: Option<Option<KeyValue>> = None;
        let mut attempts = self.patience.attempts();
        loop {
            let looked = self.read(&span, &GetOptions::new()).await;
            let mut looked = looked.map_err(|failure| match unanswered {
                Some(_) => Error::InDoubt(attempts.telling(failure)),
                None => Error::Store(failure),
            })?;
            let now = looked.take_kvs().pop();
            if let Some(before) = &unanswered
                && put.is_done(before.as_ref(), now.as_ref())
            {
                return Ok(Written {
                    header: looked.take_header(),
                    prev_kv: before.clone().filter(|_| put.prev_kv),
                });
            }
            let txn = put.over(now.as_ref(), guard);
            match self.store.txn(self.patience.attempt(), txn).await {
                Ok((answer, _)) if answer.succeeded() => return Ok(Written::of(answer)),
                Ok((answer, _)) => match guard {
                    Some(guard) if !guard.held(&answer) => {
                        return Err(Error::NotLeader {
                            token: guard.token(),
                        });
                    }
                    // Somebody wrote the key since it was looked at.
                    _ => {}
                },
                Err(error) if error.may_pass() => {
                    unanswered = Some(now);
                    attempts.failed(error).await.map_err(Error::InDoubt)?;
                }
                // An earlier attempt may still be applied, or have been since the last look.
                Err(error) if unanswered.is_some() => return Err(Error::InDoubt(error.into())),
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
        guard: Option<&Guard>,
    ) -> Result<Deleted, Error> {
        let look = span.of_get().with_keys_only().with_limit(1);
        self.read(span, &look).await?;
        let options = span.of_delete();
        let options = if prev_kv {
            options.with_prev_key()
        } else {
            options
        };
        let txn = Txn::new()
            .when(guard.map(Guard::holds).into_iter().collect::<Vec<_>>())
            .and_then([TxnOp::delete(span.start(), Some(options))]);
        let sent = self.store.txn(self.patience.remaining(), txn).await;
        let (mut answer, _) = sent.map_err(|error| {
            if error.may_pass() {
                Error::InDoubt(self.patience.timed_out(error))
            } else {
                error.into()
            }
        })?;
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
}

impl Put {
    /// The transaction that writes if the key still is as it was when it was looked at.
    fn over(&self, now: Option<&KeyValue>, guard: Option<&Guard>) -> Txn {
        let revision = now.map_or(0, KeyValue::mod_revision);
        let unchanged = Compare::mod_revision(self.key.clone(), CompareOp::Equal, revision);
        let mut options = PutOptions::new();
        if let Some(lease) = self.lease {
            options = options.with_lease(lease.get());
        }
        if self.prev_kv {
            options = options.with_prev_key();
        }
        let put = TxnOp::put(self.key.clone(), self.value.clone(), Some(options));
        let conditions: Vec<Compare> = [Some(unchanged), guard.map(Guard::holds)]
            .into_iter()
            .flatten()
            .collect();
        let otherwise: Vec<TxnOp> = guard.map(Guard::look).into_iter().collect();
        Txn::new()
            .when(conditions)
            .and_then([put])
            .or_else(otherwise)
    }

    /// Whether the key holds now what an unanswered write over `before` was to put there.
    fn is_done(&self, before: Option<&KeyValue>, now: Option<&KeyValue>) -> bool {
        let lease = self.lease.map_or(0, crate::keys::LeaseId::get);
        let revision = |kv: Option<&KeyValue>| kv.map_or(0, KeyValue::mod_revision);
        revision(before) != revision(now)
            && now.is_some_and(|kv| kv.value() == self.value && kv.lease() == lease)
    }
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
