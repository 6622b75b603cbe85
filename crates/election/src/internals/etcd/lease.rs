//! Leases: granted, given back, asked for.

use std::time::Duration;

use etcd_client::{Client, LeaseGrantOptions};

use super::{Error, Seen, Store};
use crate::keys::LeaseId;

/// How long a lease lives, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The TTL that was granted.
    pub granted: Duration,
    /// What is left of it, as the store counts.
    pub remaining: Duration,
}

impl Store {
    /// Asks for `lease` with a TTL of `ttl` seconds; returns the TTL granted and the answer's header.
    ///
    /// # Errors
    /// [`Error::LeaseExists`] if an earlier attempt with the same id was applied after all.
    pub async fn grant(
        &self,
        limit: Duration,
        lease: LeaseId,
        ttl: i64,
    ) -> Result<(i64, Seen), Error> {
        let options = LeaseGrantOptions::new().with_id(lease.get());
        let (answer, member) = self
            .attempt_on(limit, async |client: Client| {
                client.lease_client().grant(ttl, Some(options)).await
            })
            .await?;
        let seen = self.note(&member, answer.header(), None)?;
        Ok((answer.ttl(), seen))
    }

    /// Revokes `lease` and with it every key attached; returns whether it was there.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn revoke(&self, limit: Duration, lease: LeaseId) -> Result<bool, Error> {
        let revoked = self
            .attempt_on(limit, async |client: Client| {
                client.lease_client().revoke(lease.get()).await
            })
            .await;
        match revoked {
            Ok((answer, member)) => self.note(&member, answer.header(), None).map(|_| true),
            Err(Error::LeaseGone) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks how long `lease` will live, in the eyes of the store's leader; `None` if it is gone.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn time_to_live(
        &self,
        limit: Duration,
        lease: LeaseId,
    ) -> Result<Option<Lifetime>, Error> {
        let (answer, member) = self
            .attempt_on(limit, async |client: Client| {
                let mut client = client.lease_client();
                client.time_to_live(lease.get(), None).await
            })
            .await?;
        self.note(&member, answer.header(), None)?;
        let seconds = |count| u64::try_from(count).ok().map(Duration::from_secs);
        let lifetime = |remaining| {
            Some(Lifetime {
                granted: seconds(answer.granted_ttl())?,
                remaining,
            })
        };
        // The store says -1 of a lease that is gone.
        Ok(seconds(answer.ttl()).and_then(lifetime))
    }
}
