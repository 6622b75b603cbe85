//! What etcd says: the test's own view of an election, past the daemon's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, EventType, GetOptions, WatchOptions};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::daemon::PREFIX;
use super::process::monotonic_ns;
use super::security::Tls;
use super::wait::{eventually, secs};

/// Limit of one question to one member.
const LIMIT: Duration = Duration::from_secs(1);

/// A candidate key, as it stands in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The whole key.
    pub key: String,
    /// The key's value: the name of the candidate.
    pub name: String,
    /// The lease it hangs on, 0 for none.
    pub lease: i64,
    /// Its place in the queue, and its fencing token once it leads.
    pub create_revision: i64,
}

impl Candidate {
    /// The lease as logs and keys have it.
    pub fn lease_hex(&self) -> String {
        format!("{:x}", self.lease)
    }
}

/// A client of one member; it connects when it is first used.
pub async fn connect(url: &str) -> Client {
    connect_with(url, None, |options| options).await
}

/// The same with TLS and more options; with a user it connects at once.
pub async fn connect_with(
    url: &str,
    tls: Option<&Tls>,
    more: impl Fn(ConnectOptions) -> ConnectOptions,
) -> Client {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(LIMIT)
        .with_keep_alive_while_idle(false)
        .with_auto_token_refresh(true);
    if let Some(tls) = tls {
        options = options.with_tls(tls.options());
    }
    Client::connect([url], Some(more(options))).await.unwrap()
}

/// A runtime for those who use the library.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

impl Cluster {
    /// Asks the healthy members in turn until one answers.
    ///
    /// A question that timed out may have been applied, so `ask` must bear being repeated.
    #[track_caller]
    pub fn ask<T>(&self, what: &str, ask: impl AsyncFn(Client) -> Result<T, Error>) -> T {
        let mut turn = 0;
        eventually(secs(20), what, || {
            let healthy = self.healthy();
            let member = healthy[turn % healthy.len()];
            turn += 1;
            self.ask_one(member, &ask)
        })
    }

    /// The version of etcd, as it says itself.
    #[track_caller]
    pub fn version(&self) -> String {
        let status = self.ask("its version", async |mut client| client.status().await);
        status.version().to_owned()
    }

    fn ask_one<T>(
        &self,
        i: usize,
        ask: impl AsyncFn(Client) -> Result<T, Error>,
    ) -> Result<T, String> {
        self.block_on(async {
            match tokio::time::timeout(LIMIT, ask(self.client(i))).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("member {i} says nothing")),
            }
        })
    }

    /// One linearizable read through one member.
    ///
    /// # Errors
    /// Why it failed; a member without quorum, or without an answer, fails after a second.
    pub fn read_through(&self, i: usize) -> Result<(), String> {
        self.ask_one(i, async |mut client| client.get("/", None).await.map(drop))
    }

    /// The member that leads the cluster, as the healthy ones see it.
    #[track_caller]
    pub fn leader(&self) -> usize {
        eventually(secs(20), "the healthy members know their leader", || {
            let mut seen = Vec::new();
            for i in self.healthy() {
                let status = self.ask_one(i, async |mut client| client.status().await)?;
                let id = status.header().map(etcd_client::ResponseHeader::member_id);
                seen.push((status.raft_term(), status.leader(), i, id.unwrap()));
            }
            let (term, leader, ..) = *seen.iter().max().unwrap();
            let agreed = seen.iter().all(|(t, l, ..)| (*t, *l) == (term, leader));
            let found = seen.iter().find(|(.., id)| *id == leader);
            match found {
                Some((_, _, i, _)) if agreed => Ok(*i),
                _ => Err(format!("{seen:x?}")),
            }
        })
    }

    /// A member that does not lead the cluster.
    pub fn follower(&self) -> usize {
        (self.leader() + 1) % self.len()
    }

    /// Every key of the election's queue in its order, foreign ones included.
    #[track_caller]
    pub fn queue(&self, prefix: &str) -> Vec<Candidate> {
        let start = format!("{prefix}/");
        let options = GetOptions::new().with_prefix();
        let mut queue = self.ask("the queue", async |mut client| {
            let answer = client.get(start.as_str(), Some(options.clone())).await?;
            let candidate = |kv: &etcd_client::KeyValue| Candidate {
                key: kv.key_str().unwrap().to_owned(),
                name: String::from_utf8_lossy(kv.value()).into_owned(),
                lease: kv.lease(),
                create_revision: kv.create_revision(),
            };
            Ok(answer.kvs().iter().map(candidate).collect::<Vec<_>>())
        });
        queue.sort_by_key(|candidate| candidate.create_revision);
        queue
    }

    /// Names in the queue, in its order.
    #[track_caller]
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.queue(prefix).into_iter().map(|c| c.name).collect()
    }

    /// First in the queue.
    #[track_caller]
    pub fn first(&self, prefix: &str) -> Option<Candidate> {
        self.queue(prefix).into_iter().next()
    }

    /// First in the queues of the jobs `job-0` and on, so many: by number, of those that have one.
    #[track_caller]
    pub fn firsts(&self, jobs: usize) -> BTreeMap<usize, Candidate> {
        let first = |job| Some((job, self.first(&format!("{PREFIX}/job-{job}"))?));
        (0..jobs).filter_map(first).collect()
    }

    /// Waits until the queue has these names in this order.
    #[track_caller]
    pub fn wait_names(&self, prefix: &str, names: &[&str]) {
        let what = format!("the queue of {prefix} is {names:?}");
        eventually(secs(20), &what, || {
            let seen = self.names(prefix);
            if seen == names { Ok(()) } else { Err(seen) }
        });
    }

    /// The marker: the token up to which every job is proven dead.
    #[track_caller]
    pub fn marker(&self, prefix: &str) -> Option<i64> {
        let marker = self.get(&format!("{prefix}.meta/ended"))?;
        Some(marker.parse().expect("the marker is decimal text"))
    }

    /// A key's value.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<String> {
        self.ask("a key's value", async |mut client| {
            let answer = client.get(key, None).await?;
            let value = answer.kvs().first().map(etcd_client::KeyValue::value);
            Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
        })
    }

    /// Writes a key without a lease.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        self.ask("a write", async |mut client| {
            client.put(key, value, None).await.map(drop)
        });
    }

    /// Deletes a key.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.ask("a deletion", async |mut client| {
            client.delete(key, None).await.map(drop)
        });
    }

    /// Ids of all living leases.
    #[track_caller]
    pub fn leases(&self) -> Vec<i64> {
        self.ask("the leases", async |mut client| {
            let answer = client.leases().await?;
            let leases = answer.leases().iter();
            Ok(leases.map(etcd_client::LeaseStatus::id).collect())
        })
    }

    /// Revokes a lease behind its holder's back.
    #[track_caller]
    pub fn revoke(&self, lease: i64) {
        self.ask("a revoke", async |mut client| {
            match client.lease_revoke(lease).await {
                Err(error) if error.to_string().contains("lease not found") => Ok(()),
                answer => answer.map(drop),
            }
        });
    }

    /// The store's revision now.
    #[track_caller]
    pub fn revision(&self) -> i64 {
        self.ask("the revision", async |mut client| {
            let answer = client.get("/", None).await?;
            Ok(answer.header().unwrap().revision())
        })
    }

    /// Forgets the history before `revision`.
    #[track_caller]
    pub fn compact(&self, revision: i64) {
        self.ask("a compaction", async |mut client| {
            match client.compact(revision, None).await {
                Err(error) if error.to_string().contains("has been compacted") => Ok(()),
                answer => answer.map(drop),
            }
        });
    }

    /// One value of a member's own metrics, the labels included in its name.
    pub fn metric(&self, i: usize, name: &str) -> Option<f64> {
        self.metrics(i).remove(name)
    }

    /// All of a member's own metrics, the labels included in their names.
    pub fn metrics(&self, i: usize) -> BTreeMap<String, f64> {
        let mut stream = TcpStream::connect(self.address(i)).unwrap();
        stream.set_read_timeout(Some(secs(5))).unwrap();
        let host = self.address(i);
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(value).collect()
    }

    /// Watches a key through one member, from now on, for its deletion.
    #[track_caller]
    pub fn watch_deletion(&self, key: &str, through: usize) -> Vigil {
        let options = WatchOptions::new().with_start_revision(self.revision());
        let mut client = self.client(through);
        let mut stream = self
            .block_on(client.watch(key, Some(options)))
            .expect("the member that the test watches through is healthy");
        let gone = Arc::new(AtomicU64::new(0));
        let task = self.runtime.spawn({
            let gone = Arc::clone(&gone);
            async move {
                while let Ok(Some(message)) = stream.message().await {
                    let deleted =
                        |event: &etcd_client::Event| event.event_type() == EventType::Delete;
                    if message.events().iter().any(deleted) {
                        gone.store(monotonic_ns(), Ordering::SeqCst);
                        return;
                    }
                }
            }
        });
        Vigil { gone, task }
    }
}

/// A watch over one key that notes when it was deleted.
pub struct Vigil {
    gone: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Vigil {
    /// When the news of the deletion came, on `CLOCK_MONOTONIC`.
    pub fn gone_at(&self) -> Option<u64> {
        match self.gone.load(Ordering::SeqCst) {
            0 => None,
            at => Some(at),
        }
    }

    /// Waits for the deletion.
    #[track_caller]
    pub fn wait(&self, budget: Duration) -> u64 {
        eventually(budget, "the key is deleted", || {
            assert!(
                !self.task.is_finished() || self.gone_at().is_some(),
                "the watch broke"
            );
            self.gone_at()
        })
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.task.abort();
    }
}
