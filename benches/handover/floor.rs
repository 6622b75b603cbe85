//! The floor: what no hand-over through this store, to a job of its own process, can be below.

use std::process::{Command, Stdio};

use etcd_client::{Client, WatchOptions, WatchStream};
use tokio::runtime::Runtime;

use super::Contest;
use super::common::process::monotonic_ns;
use super::common::{Cluster, Record, eventually, secs, store};
use super::replicas::{JOB, ms};

/// `F`: commit of a delete, delivery of the watch event, one linearizable read.
///
/// All clients live on one thread, which is as few wake-ups as there can be. As replicas do, they
/// use different members, another pair each time.
pub(super) struct Floor {
    runtime: Runtime,
    clients: Vec<Client>,
    turn: usize,
    watch: WatchStream,
}

const KEY: &str = "/floor";

impl Floor {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (clients, watch) = runtime.block_on(async {
            let mut clients = Vec::new();
            for endpoint in cluster.endpoints() {
                clients.push(store::connect(&endpoint).await);
            }
            let watch = prepare(&clients, 0).await;
            (clients, watch)
        });
        Self {
            runtime,
            clients,
            turn: 0,
            watch,
        }
    }
}

/// Writes the key and watches it through the member whose turn it is.
async fn prepare(clients: &[Client], turn: usize) -> WatchStream {
    let mut client = clients[turn % clients.len()].clone();
    let put = client.put(KEY, "", None).await.unwrap();
    let from = put.header().unwrap().revision() + 1;
    let options = WatchOptions::new().with_start_revision(from);
    let mut watch = client.watch(KEY, Some(options)).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());
    // The connection of who deletes is warm as well.
    for client in clients {
        client.clone().get(KEY, None).await.unwrap();
    }
    watch
}

impl Contest for Floor {
    fn sample(&mut self) -> f64 {
        let members = self.clients.len();
        let watcher = self.turn % members;
        let deleter = (self.turn / members) % members;
        let (mut watching, mut deleting) =
            (self.clients[watcher].clone(), self.clients[deleter].clone());
        self.turn += 1;
        let (clients, turn, watch) = (&self.clients, self.turn, &mut self.watch);
        let (took, next) = self.runtime.block_on(async {
            let begun = monotonic_ns();
            let seen = async {
                assert_eq!(watch.message().await.unwrap().unwrap().events().len(), 1);
                watching.get(KEY, None).await.unwrap();
                monotonic_ns()
            };
            let (ended, removed) = tokio::join!(seen, deleting.delete(KEY, None));
            assert_eq!(removed.unwrap().deleted(), 1);
            (ended - begun, prepare(clients, turn).await)
        });
        self.watch = next;
        ms(took)
    }
}

/// `E`: fork and exec of the bare job, until it says that it runs.
pub(super) struct Exec {
    record: Record,
}

impl Exec {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            record: Record::new(cluster.sandbox(), "exec"),
        }
    }
}

impl Contest for Exec {
    fn sample(&mut self) -> f64 {
        let argv = self.record.command(JOB);
        let begun = monotonic_ns();
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let ran = eventually(secs(5), "the bare job runs", || {
            let history = self.record.history();
            let started = history.lives.last().map(|life| life.start);
            started.filter(|start| *start > begun)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        ms(ran - begun)
    }
}
