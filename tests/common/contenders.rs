//! A large election: candidates of the library in one process, which share a runtime and a client
//! of each member.

use std::collections::VecDeque;

use incumbent::config::timing::Timing;
use incumbent::election::{Candidacy, Election};
use incumbent::etcd::{Settings, Store};
use incumbent::keys::Prefix;
use incumbent::session::{Options, Session};
use incumbent::term::Term;
use incumbent::term::record::MemberRecord;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use super::cluster::Cluster;
use super::process::monotonic_ns;
use super::scene::SOON;
use super::wait::{eventually, millis, patience, secs};

/// How many join at once.
const BATCH: usize = 50;

/// What each who waits watches: the one in front, its own key, and what operators ask for.
const WATCHES: usize = 3;

/// Watches that a member serves now.
const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";

/// Events that the members have sent to watchers.
const EVENTS: &str = "etcd_debugging_mvcc_events_total";

/// Calls that the members have begun to serve, by method.
const CALLS: &str = "grpc_server_started_total";

/// Messages that the members have got: a call's, or one of those of a stream.
const REQUESTS: &str = "grpc_server_msg_received_total";

/// What the members of a cluster have done for their clients so far, all together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Events sent to watchers.
    pub events: f64,
    /// Calls begun.
    pub calls: f64,
    /// Requests, those on streams as well.
    pub requests: f64,
    /// Watches that are open.
    pub watchers: f64,
}

impl Cluster {
    /// What the members themselves count.
    pub fn served(&self) -> Served {
        let mut served = Served {
            events: 0.0,
            calls: 0.0,
            requests: 0.0,
            watchers: 0.0,
        };
        for (name, value) in (0..self.len()).flat_map(|member| self.metrics(member)) {
            match name.as_str() {
                EVENTS => served.events += value,
                WATCHERS => served.watchers += value,
                name if name.starts_with(CALLS) => served.calls += value,
                name if name.starts_with(REQUESTS) => served.requests += value,
                _ => {}
            }
        }
        served
    }
}

/// One that leads.
struct Elected {
    session: Session,
    election: Election,
    term: Term,
    /// When its claim was complete.
    at: u64,
}

/// One that has joined and does not wait yet.
struct Joined {
    session: Session,
    election: Election,
    candidacy: Candidacy,
}

impl Joined {
    async fn join(store: Store, prefix: String, name: String) -> Self {
        // So long that no renewal comes while somebody counts: the first of each is a call.
        let timing = Timing::new(secs(600), millis(300), millis(500));
        let opened = Session::open(&store, Options::new(timing)).await;
        let session = opened.expect("a lease is granted");
        let election = Election::new(store, Prefix::new(prefix), &name, secs(1));
        let member = MemberRecord::of_this_process(&name);
        let candidacy = election.join(&session, &member).await.unwrap();
        Self {
            session,
            election,
            candidacy,
        }
    }

    async fn campaign(mut self) -> Elected {
        let campaign = self
            .election
            .campaign(&self.session, &self.candidacy, |_| {});
        let term = campaign.await.unwrap();
        Elected {
            at: monotonic_ns(),
            session: self.session,
            election: self.election,
            term,
        }
    }
}

/// A leader, and a queue behind it.
pub struct Contenders<'a> {
    // First, so that sessions end before the store does.
    runtime: Runtime,
    cluster: &'a Cluster,
    prefix: String,
    stores: Vec<Store>,
    leader: Option<Elected>,
    queue: VecDeque<JoinHandle<Elected>>,
    joined: usize,
}

impl<'a> Contenders<'a> {
    /// Lets `n` join, and returns when one leads and all others watch.
    #[track_caller]
    pub fn start(cluster: &'a Cluster, prefix: &str, n: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let endpoints = cluster.endpoints();
        let mut contenders = Self {
            runtime,
            cluster,
            prefix: prefix.to_owned(),
            stores: endpoints
                .iter()
                .map(|endpoint| Store::new(&Settings::new([endpoint])))
                .collect(),
            leader: None,
            queue: VecDeque::new(),
            joined: 0,
        };
        let before = cluster.served().watchers;
        while contenders.joined < n {
            contenders.join(BATCH.min(n - contenders.joined));
        }
        contenders.settle();
        let waiting = u32::try_from((n - 1) * WATCHES).unwrap();
        eventually(SOON, "all who wait watch", || {
            let watchers = cluster.served().watchers - before;
            if watchers >= f64::from(waiting) {
                Ok(())
            } else {
                Err((watchers, waiting))
            }
        });
        contenders
    }

    /// How many wait behind the leader.
    pub fn waiting(&self) -> usize {
        let waits = |contender: &&JoinHandle<_>| !contender.is_finished();
        self.queue.iter().filter(waits).count()
    }

    /// The leader's fencing token.
    pub fn token(&self) -> i64 {
        self.leader.as_ref().unwrap().term.token().get()
    }

    /// The leader resigns; returns how many nanoseconds later the next one leads.
    #[track_caller]
    pub fn hand_over(&mut self) -> u64 {
        let past = self.leader.take().unwrap();
        let next = self.queue.pop_front().unwrap();
        let begun = monotonic_ns();
        let Elected {
            session,
            election,
            term,
            ..
        } = past;
        let handed = async {
            let both = async { tokio::join!(election.resign(session, Some(&term)), next) };
            tokio::time::timeout(patience(SOON), both).await
        };
        let (confirmed, next) = self.runtime.block_on(handed).expect("the next one leads");
        assert!(confirmed, "the store confirms the resignation");
        let next = next.unwrap();
        let took = next.at - begun;
        self.leader = Some(next);
        took
    }

    /// Another joins at the end, and waits.
    #[track_caller]
    pub fn replace(&mut self) {
        let before = self.cluster.served().watchers;
        self.join(1);
        eventually(SOON, "the new one watches", || {
            self.cluster.served().watchers > before
        });
    }

    fn join(&mut self, n: usize) {
        let mut joining = JoinSet::new();
        for number in self.joined..self.joined + n {
            let store = self.stores[number % self.stores.len()].clone();
            let name = format!("contender-{number}");
            let joined = Joined::join(store, self.prefix.clone(), name);
            joining.spawn_on(joined, self.runtime.handle());
        }
        self.joined += n;
        let mut joined = self.runtime.block_on(joining.join_all());
        joined.sort_by_key(|joined| joined.candidacy.create_revision);
        let waiting = joined
            .into_iter()
            .map(|joined| self.runtime.spawn(joined.campaign()));
        self.queue.extend(waiting);
    }

    /// Waits until the first leads.
    #[track_caller]
    fn settle(&mut self) {
        let first = self.queue.pop_front().unwrap();
        let limited = async { tokio::time::timeout(patience(SOON), first).await };
        let elected = self.runtime.block_on(limited).expect("the first leads");
        self.leader = Some(elected.unwrap());
    }
}
