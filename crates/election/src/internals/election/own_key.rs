//! The own key, where something has taken it off its lease: `etcdctl put` does, on a key that it
//! writes. It would outlive the candidacy, and block the election for ever.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::{Candidacy, Election, until_lost};
use crate::clock;
use crate::etcd::Error;
use crate::keys::{LeaseId, Prefix};
use crate::revision::{Revision, Token};
use crate::session::{Loss, Session};

/// Puts `key` back on its `lease`, with `value`, if it still is the one that was created at `token`
/// and that the write of `mod_revision` took off it.
pub(super) fn put_back(
    key: &str,
    (token, mod_revision): (Token, Revision),
    lease: LeaseId,
    value: impl Into<Vec<u8>>,
) -> Txn {
    let own = Compare::create_revision(key, CompareOp::Equal, token.get());
    let same = Compare::mod_revision(key, CompareOp::Equal, mod_revision.get());
    let options = PutOptions::new().with_lease(lease.get());
    Txn::new()
        .when([own, same])
        .and_then([TxnOp::put(key, value, Some(options))])
}

/// Says that a key is on its lease again.
pub(super) fn say_put_back(election: &Prefix, candidate: &str, lease: LeaseId, key: &str) {
    tracing::warn!(
        %election, candidate, %lease, key,
        "own key put back on its lease: something had written to it without"
    );
}

/// Says that the store refuses to have a key put back.
pub(super) fn say_not_put_back(election: &Prefix, candidate: &str, lease: LeaseId, error: &Error) {
    tracing::error!(%election, candidate, %lease, %error, "own key is off its lease");
}

impl Election {
    /// Puts the own key back on its lease, which the write of `mod_revision` took it off; tries
    /// until the store answers or the session is lost.
    pub(super) async fn put_back(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        mod_revision: Revision,
    ) -> Result<(), Loss> {
        let revisions = (candidacy.create_revision, mod_revision);
        let name = self.candidate.as_str();
        let txn = put_back(&candidacy.key, revisions, session.lease(), name);
        let mut is_said = false;
        loop {
            let attempt = || async {
                match self.txn(session, txn.clone()).await {
                    Ok((answer, _)) => Ok(Ok(answer.succeeded())),
                    // Whoever left now would leave the key behind.
                    Err(error @ Error::Refused { .. }) => Ok(Err(error)),
                    Err(error) => Err(error),
                }
            };
            match until_lost(session, attempt).await? {
                Ok(true) => {
                    say_put_back(&self.prefix, name, session.lease(), &candidacy.key);
                    return Ok(());
                }
                // It was written once more, which will be seen.
                Ok(false) => return Ok(()),
                Err(error) => {
                    if !is_said {
                        say_not_put_back(&self.prefix, name, session.lease(), &error);
                        is_said = true;
                    }
                    clock::sleep(session.timing().renewal_interval()).await;
                }
            }
        }
    }
}
