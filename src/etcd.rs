//! The store: one client per member, rotation, limits, errors.
//!
//! The etcd client crate retries nothing, bounds nothing and, given several endpoints, goes on
//! picking dead and hung members. So there is one single-endpoint client per member here; every
//! request is one *attempt* on the current member within a limit that includes connecting; and an
//! attempt that the member is to blame for makes the next member the current one (R12).
//!
//! What the store says of itself is checked on every answer: see [`seen`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Client, GetOptions, GetResponse, KvClient, LeaseGrantOptions, ResponseHeader, Txn, TxnResponse,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::keys::LeaseId;

pub mod about;
mod address;
pub mod error;
pub mod keep_alive;
mod leader;
pub mod member;
pub mod patience;
pub mod proxy;
mod reason;
pub(crate) mod secret;
pub mod seen;
pub mod version;
pub mod watch;

pub use error::Error;
use member::Member;
pub use patience::Patience;
pub use seen::Seen;

/// How to reach the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// URLs of the members.
    pub endpoints: Vec<String>,
    /// Limit of connecting to one member.
    pub connect_timeout: Duration,
    /// User name, where the store asks for one.
    pub username: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// TLS, where the endpoints are `https`.
    #[serde(default)]
    pub tls: Tls,
}

impl Settings {
    /// Members that are reached without TLS and ask for no user, 2 s each for connecting.
    pub fn new(endpoints: impl IntoIterator<Item: Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            connect_timeout: Duration::from_secs(2),
            username: None,
            password_file: None,
            tls: Tls::default(),
        }
    }
}

/// Files for TLS and mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Certificates of the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for mutual TLS.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the members' certificates instead of the endpoint's host.
    pub server_name: Option<String>,
}

/// How long a lease lives, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The TTL that was granted.
    pub granted: Duration,
    /// What is left of it, as the store counts.
    pub remaining: Duration,
}

/// The members of one cluster; cheap to clone, clones share rotation and connections.
///
/// Connections are driven by the tokio runtime on which they were opened, so a store belongs to
/// one runtime.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    members: Mutex<Members>,
    seen: Mutex<Seen>,
    /// Told when another member may lead.
    look_for_leader: Notify,
}

/// The members and which of them is asked next.
#[derive(Debug)]
struct Members {
    settings: Settings,
    all: Vec<Arc<Member>>,
    current: usize,
}

impl Store {
    /// The store that `settings` name. Does no I/O: members are connected to when first asked.
    ///
    /// Begins with a member chosen at random, so that replicas spread over the cluster; see
    /// [`go_to_leader`](Self::go_to_leader).
    pub fn new(settings: &Settings) -> Self {
        let members = Members::new(settings);
        Self {
            shared: Arc::new(Shared {
                members: Mutex::new(members),
                seen: Mutex::default(),
                look_for_leader: Notify::new(),
            }),
        }
    }

    /// Uses other endpoints or credentials from the next attempt on; streams that are open stay.
    pub fn reload(&self, settings: &Settings) {
        *self.members() = Members::new(settings);
        self.shared.look_for_leader.notify_one();
    }

    /// Makes one attempt on the current member: connects if need be, then runs `op`, all within
    /// `limit`.
    ///
    /// # Errors
    /// An error of a write that is not [definite](Error::is_definite) says nothing about whether
    /// the write was, or will be, applied.
    ///
    /// # Cancel safety
    /// Dropping it leaves a write's outcome unknown.
    pub async fn attempt<T>(
        &self,
        limit: Duration,
        op: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Error> {
        let member = self.current();
        let tried = tokio::time::timeout(limit, async {
            let client = member.client().await?;
            op(client).await.map_err(|error| member.classify(&error))
        });
        let outcome = tried.await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                endpoint: member.endpoint.clone(),
                limit,
            })
        });
        if let Err(error) = &outcome {
            tracing::debug!(%error, "attempt failed");
            if error.blames_member() {
                self.give_up_on(&member);
            }
        }
        outcome
    }

    /// Makes the member after `member` the current one, unless that has happened already, and
    /// drops the connection to `member`: a half-dead one would be used again otherwise.
    pub fn give_up_on(&self, member: &Member) {
        member.disconnect();
        let mut members = self.members();
        let blamed = members.all[members.current].endpoint == member.endpoint;
        if blamed {
            members.go_on();
        }
    }

    /// The member that the next attempt will ask.
    pub fn current(&self) -> Arc<Member> {
        let members = self.members();
        members.all[members.current].clone()
    }

    /// All members, from the current one on in the order in which they are gone to.
    fn in_turn(&self) -> Vec<Arc<Member>> {
        let members = self.members();
        let (before, rest) = members.all.split_at(members.current);
        [rest, before].concat()
    }

    /// How the store is reached, for another process or runtime to reach it too.
    pub fn settings(&self) -> Settings {
        self.members().settings.clone()
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.members().all.len()
    }

    /// What the store has said of itself so far.
    pub fn seen(&self) -> Seen {
        *self.lock_seen()
    }

    /// Checks a header against what was seen before; `asked` is [`Store::seen`] from before the
    /// request was sent if the answer was linearizable.
    ///
    /// # Errors
    /// [`Error::ClusterChanged`] if it can't be the same cluster, or not the same history.
    pub fn note(
        &self,
        header: Option<&ResponseHeader>,
        asked: Option<Seen>,
    ) -> Result<Seen, Error> {
        let answer = header
            .map(Seen::from)
            .ok_or_else(|| Error::ClusterChanged("an answer came without a header".to_owned()))?;
        let (before, noted) = {
            let mut seen = self.lock_seen();
            (*seen, seen.note(answer, asked))
        };
        if noted.is_err() {
            // It may be one member that doesn't belong to the others.
            self.members().go_on();
        } else if before.raft_term != 0 && before.raft_term < answer.raft_term {
            self.shared.look_for_leader.notify_one();
        }
        noted.map(|()| answer)
    }

    /// Runs a transaction; linearizable if it holds a get (R8).
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn txn(&self, limit: Duration, txn: Txn) -> Result<(TxnResponse, Seen), Error> {
        let asked = self.seen();
        let answer = self
            .attempt(limit, async |client: Client| {
                keys_of(&client).txn(txn).await
            })
            .await?;
        let seen = self.note(answer.header(), Some(asked))?;
        Ok((answer, seen))
    }

    /// Reads a key or a range, linearizably.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn get(
        &self,
        limit: Duration,
        key: impl Into<Vec<u8>>,
        options: Option<GetOptions>,
    ) -> Result<(GetResponse, Seen), Error> {
        let asked = self.seen();
        let key = key.into();
        let answer = self
            .attempt(limit, async |client: Client| {
                keys_of(&client).get(key, options).await
            })
            .await?;
        let seen = self.note(answer.header(), Some(asked))?;
        Ok((answer, seen))
    }

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
        let answer = self
            .attempt(limit, async |client: Client| {
                client.lease_client().grant(ttl, Some(options)).await
            })
            .await?;
        let seen = self.note(answer.header(), None)?;
        Ok((answer.ttl(), seen))
    }

    /// Revokes `lease` and with it every key attached; returns whether it was there.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub async fn revoke(&self, limit: Duration, lease: LeaseId) -> Result<bool, Error> {
        let revoked = self
            .attempt(limit, async |client: Client| {
                client.lease_client().revoke(lease.get()).await
            })
            .await;
        match revoked {
            Ok(answer) => self.note(answer.header(), None).map(|_| true),
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
        let answer = self
            .attempt(limit, async |client: Client| {
                let mut client = client.lease_client();
                client.time_to_live(lease.get(), None).await
            })
            .await?;
        self.note(answer.header(), None)?;
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

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.shared
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of the store. Answers may be as large as they are: the crate's own limit of 4 MB is
/// soon reached by a range of keys.
fn keys_of(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(usize::MAX)
}

impl Members {
    fn new(settings: &Settings) -> Self {
        let all: Vec<_> = settings
            .endpoints
            .iter()
            .map(|endpoint| Arc::new(Member::new(endpoint.clone(), settings.clone())))
            .collect();
        assert!(!all.is_empty(), "the configuration names an endpoint");
        let random = usize::try_from(crate::backoff::random() >> 33).unwrap_or(0);
        let current = random % all.len();
        Self {
            settings: settings.clone(),
            all,
            current,
        }
    }

    /// Makes the next member the current one.
    fn go_on(&mut self) {
        self.current = (self.current + 1) % self.all.len();
    }
}
