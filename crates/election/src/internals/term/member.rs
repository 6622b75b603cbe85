//! Changes of a candidate's member record: several tell of it there, and each keeps what the others
//! wrote.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::record::{self, MemberRecord};
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};

/// Where a member record stands.
#[derive(Clone, Copy, Debug)]
pub struct MemberPlace<'a> {
    pub prefix: &'a Prefix,
    /// The lease of the candidate, and of the record.
    pub lease: LeaseId,
}

impl MemberPlace<'_> {
    /// Changes the record as it stands, in one attempt; one that is missing, or can't be read, is
    /// written anew from `otherwise`, or left alone. Returns whether nothing is left to do: the record
    /// may have changed since it was read.
    ///
    /// # Errors
    /// As [`Store::attempt`].
    pub async fn amend(
        self,
        store: &Store,
        limit: Duration,
        otherwise: Option<&MemberRecord>,
        change: impl FnOnce(&mut MemberRecord),
    ) -> Result<bool, Error> {
        let key = self.prefix.member(self.lease);
        let (found, _) = store.get(limit, key.as_str(), None).await?;
        let found = found.kvs().first();
        let as_found = found.and_then(|kv| record::json::<MemberRecord>(kv.value()).read());
        let Some(mut member) = as_found.clone().or_else(|| otherwise.cloned()) else {
            return Ok(true);
        };
        change(&mut member);
        if as_found.as_ref() == Some(&member) {
            return Ok(true);
        }
        let member = serde_json::to_string(&member).unwrap_or_default();
        let at = found.map_or(0, etcd_client::KeyValue::mod_revision);
        let same = Compare::mod_revision(key.as_str(), CompareOp::Equal, at);
        let options = PutOptions::new().with_lease(self.lease.get());
        let txn = Txn::new()
            .when([same])
            .and_then([TxnOp::put(key, member, Some(options))]);
        let (answer, _) = store.txn(limit, txn).await?;
        Ok(answer.succeeded())
    }
}
