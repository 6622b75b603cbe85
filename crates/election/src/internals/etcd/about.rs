//! What a member says of itself, and how long it takes to: for `incumbent check --connect`.

use std::time::Duration;

use etcd_client::{Client, GetOptions, ResponseHeader};

use super::trust::Word;
use super::{Error, Settings, Store};
use crate::clock;
use crate::keys::LeaseId;

/// What one member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its version, as it writes it.
    pub version: String,
    /// Id of its cluster.
    pub cluster: u64,
    /// Its own id.
    pub id: u64,
    /// Id of the leader that it follows; 0 for none.
    pub leader: u64,
    /// Whether it only learns, and serves nobody.
    pub is_learner: bool,
    /// Its alarms, such as a full disk.
    pub alarms: Vec<String>,
    /// How long the answer took, connecting and logging in included.
    pub took: Duration,
}

impl Settings {
    /// The same for one of the members.
    #[must_use]
    pub fn of_member(&self, endpoint: &str) -> Self {
        Self {
            endpoints: vec![endpoint.to_owned()],
            ..self.clone()
        }
    }
}

impl Store {
    /// Asks the current member about itself, which it answers without the others.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn about(&self, limit: Duration) -> Result<About, Error> {
        let begun = clock::now();
        let (answer, member) = self
            .attempt_on(limit, async |client: Client| {
                client.maintenance_client().status().await
            })
            .await?;
        let took = clock::now().since(begun);
        let seen = self.note(&member, answer.header(), None)?;
        Ok(About {
            version: answer.version().to_owned(),
            cluster: seen.cluster,
            id: answer.header().map_or(0, ResponseHeader::member_id),
            leader: answer.leader(),
            is_learner: answer.is_learner(),
            alarms: answer.errors().to_vec(),
            took,
        })
    }

    /// Asks the current member of which cluster it is, and who belongs to that.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn word(&self, limit: Duration) -> Result<Word, Error> {
        let member = self.current();
        let word = tokio::time::timeout(limit, member.full_word()).await;
        word.unwrap_or_else(|_| {
            Err(Error::Timeout {
                endpoint: member.endpoint.clone(),
                limit,
            })
        })
    }

    /// How long the current member takes for a linearizable read of `key`.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn time_read(&self, limit: Duration, key: &str) -> Result<Duration, Error> {
        let begun = clock::now();
        self.get(limit, key, None).await?;
        Ok(clock::now().since(begun))
    }

    /// Whether any key begins with `start`.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn has_any(&self, limit: Duration, start: &str) -> Result<bool, Error> {
        let one = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_limit(1);
        let (answer, _) = self.get(limit, start, Some(one)).await?;
        Ok(!answer.kvs().is_empty())
    }

    /// The smallest TTL that the store grants: asks for `lease` with less, and gives it back.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn smallest_ttl(&self, limit: Duration, lease: LeaseId) -> Result<Duration, Error> {
        let (granted, _) = match self.grant(limit, lease, 1).await {
            // An earlier attempt was applied after all.
            Err(Error::LeaseExists) => {
                let lifetime = self.time_to_live(limit, lease).await?;
                let granted = lifetime.ok_or(Error::LeaseGone)?.granted;
                (
                    i64::try_from(granted.as_secs()).unwrap_or(i64::MAX),
                    self.seen(),
                )
            }
            granted => granted?,
        };
        // It ends by itself in a moment if this fails.
        self.revoke(limit, lease).await.ok();
        Ok(Duration::from_secs(u64::try_from(granted).unwrap_or(0)))
    }
}
