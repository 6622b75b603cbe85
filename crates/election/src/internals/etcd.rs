//! The store: one client per member, rotation, limits, errors.
//!
//! The etcd client crate retries nothing, bounds nothing and, given several endpoints, goes on
//! picking dead and hung members. So there is one single-endpoint client per member here; every
//! request is one *attempt* on the current member within a limit that includes connecting; and an
//! attempt that the member is to blame for makes the next member the current one (R12).
//!
//! What the store says of itself is checked on every answer: see [`seen`]; and of several endpoints
//! that disagree, no single one is believed: see [`trust`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Client, GetOptions, GetResponse, KeyValue, KvClient, ResponseHeader, Txn, TxnResponse,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch as told};

use crate::clock;

pub mod about;
mod address;
pub mod certificate;
pub mod departure;
pub mod error;
pub mod keep_alive;
mod leader;
mod lease;
pub mod member;
pub mod patience;
pub mod proxy;
pub(crate) mod reads;
mod reason;
mod revisions;
pub mod secret;
pub mod seen;
pub mod token;
pub mod trust;
pub mod version;
pub mod watch;
pub mod wording;

pub use error::Error;
pub use lease::Lifetime;
use member::Member;
pub use patience::Patience;
use secret::{PairFiles, Password};
pub use seen::Seen;
pub use token::AuthToken;
use trust::Trust;
use wording::Wording;

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
    #[serde(default, with = "crate::os_text::path")]
    pub password_file: Option<PathBuf>,
    /// The password itself, where there is no file. It is handed to no other process.
    #[serde(skip)]
    pub password: Option<Password>,
    /// TLS, where the endpoints are `https`.
    #[serde(default)]
    pub tls: Tls,
    /// Whose words errors are told in.
    #[serde(skip)]
    pub wording: Wording,
}

impl Settings {
    /// Members that are reached without TLS and ask for no user, 2 s each for connecting.
    pub fn new(endpoints: impl IntoIterator<Item: Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            connect_timeout: Duration::from_secs(2),
            username: None,
            password_file: None,
            password: None,
            tls: Tls::default(),
            wording: Wording::default(),
        }
    }
}

/// Files for TLS and mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Certificates of the authorities to trust.
    #[serde(default, with = "crate::os_text::path")]
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for mutual TLS.
    #[serde(default, with = "crate::os_text::path")]
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    #[serde(default, with = "crate::os_text::path")]
    pub key_file: Option<PathBuf>,
    /// The name to expect in the members' certificates instead of the endpoint's host.
    pub server_name: Option<String>,
}

impl Tls {
    /// Our certificate and its key, if there are both.
    pub fn pair(&self) -> Option<PairFiles> {
        Some(PairFiles {
            certificate: self.cert_file.clone()?,
            key: self.key_file.clone()?,
        })
    }
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
    trust: Trust,
    token: told::Sender<Option<AuthToken>>,
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
        Self::of_cluster(settings, 0)
    }

    /// The same, which believes no other cluster than this one; 0 if it isn't known yet.
    pub fn of_cluster(settings: &Settings, cluster: u64) -> Self {
        let (token, _) = told::channel(None);
        let members = Members::new(settings, None, &token);
        let seen = Seen {
            cluster,
            ..Seen::default()
        };
        Self {
            shared: Arc::new(Shared {
                members: Mutex::new(members),
                seen: Mutex::new(seen),
                trust: if cluster == 0 {
                    Trust::default()
                } else {
                    Trust::in_known()
                },
                token,
                look_for_leader: Notify::new(),
            }),
        }
    }

    /// The store for a command that asks once: it asks nothing of endpoints that disagree, and
    /// leaves it to the user whom to believe.
    pub fn unanimous(settings: &Settings) -> Self {
        let store = Self::new(settings);
        store.shared.trust.ask_for_unanimity();
        store
    }

    /// Uses other endpoints or credentials from the next attempt on; streams that are open stay.
    pub fn reload(&self, settings: &Settings) {
        let mut members = self.members();
        if members.all.len() == 1 && self.seen().cluster != 0 {
            self.shared.trust.be_sure();
        }
        let before = members.settings.tls.pair();
        *members = Members::new(settings, before.as_ref(), &self.shared.token);
        drop(members);
        self.shared.trust.doubt();
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
        self.attempt_on(limit, op).await.map(|(answer, _)| answer)
    }

    /// As [`attempt`](Self::attempt); says whose answer it is.
    async fn attempt_on<T>(
        &self,
        limit: Duration,
        op: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<(T, Arc<Member>), Error> {
        let until = clock::now() + limit;
        if !self.is_settled() {
            // Seldom, and deep.
            Box::pin(self.settle(limit)).await?;
        }
        let member = self.current();
        let tried = tokio::time::timeout(until.remaining(), async {
            let answer = async {
                let client = member.client().await?;
                op(client).await.map_err(|error| member.classify(&error))
            };
            match answer.await {
                Ok(answer) => Ok((answer, Arc::clone(&member))),
                Err(error) => Err(Box::pin(self.confirmed(&member, error)).await),
            }
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

    /// Whether this is one of its members; none is after a reload.
    fn has(&self, member: &Arc<Member>) -> bool {
        let members = self.members();
        members.all.iter().any(|one| Arc::ptr_eq(one, member))
    }

    /// How the store is reached, for another process or runtime to reach it too.
    pub fn settings(&self) -> Settings {
        self.members().settings.clone()
    }

    /// Whose words its errors are told in.
    pub(crate) fn wording(&self) -> Wording {
        self.members().settings.wording
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.members().all.len()
    }

    /// What the store has said of itself so far.
    pub fn seen(&self) -> Seen {
        *self.lock_seen()
    }

    /// Checks the header of an answer of `member` against what was seen before; `asked` is [`Store::seen`] from before the
    /// request was sent if the answer was linearizable.
    ///
    /// # Errors
    /// [`Error::Stranger`] if the member is of another cluster; [`Error::ClusterChanged`] if there is
    /// no other member to ask, or if it can't be the same history.
    pub fn note(
        &self,
        member: &Member,
        header: Option<&ResponseHeader>,
        asked: Option<Seen>,
    ) -> Result<Seen, Error> {
        let answer = header
            .map(Seen::from)
            .ok_or_else(|| Error::ClusterChanged("an answer came without a header".to_owned()))?;
        member.hear();
        let known = self.seen().cluster;
        if known != 0 && answer.cluster != known {
            self.give_up_on(member);
            return Err(self.is_stranger(member, answer.cluster));
        }
        let (before, noted) = {
            let mut seen = self.lock_seen();
            (*seen, seen.note(answer, asked))
        };
        if noted.is_err() {
            self.give_up_on(member);
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
        let (answer, member) = self
            .attempt_on(limit, async |client: Client| {
                keys_of(&client).txn(txn).await
            })
            .await?;
        let seen = self.note(&member, answer.header(), Some(asked))?;
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
        let (answer, member) = self
            .attempt_on(limit, async |client: Client| {
                keys_of(&client).get(key, options).await
            })
            .await?;
        let seen = self.note(&member, answer.header(), Some(asked))?;
        Ok((answer, seen))
    }

    /// Reads one key, linearizably; `None` if it isn't there.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub(crate) async fn first(
        &self,
        limit: Duration,
        key: impl Into<Vec<u8>>,
    ) -> Result<(Option<KeyValue>, Seen), Error> {
        let (mut found, seen) = self.get(limit, key, None).await?;
        Ok((found.take_kvs().into_iter().next(), seen))
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
    fn new(
        settings: &Settings,
        before: Option<&PairFiles>,
        token: &told::Sender<Option<AuthToken>>,
    ) -> Self {
        let member = |endpoint: &String| {
            let (settings, before) = (settings.clone(), before.cloned());
            Arc::new(Member::new(endpoint.clone(), settings, before, token))
        };
        let all: Vec<_> = settings.endpoints.iter().map(member).collect();
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
