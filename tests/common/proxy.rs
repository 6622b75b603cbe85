//! A TCP proxy before each member, so that the network of one replica can be broken and no
//! other's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::cluster::Cluster;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the replica to etcd.
    Up,
    /// From etcd to the replica.
    Down,
}

/// What happens to bytes that go one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// They wait, and arrive when the proxy is healed.
    Held,
    /// They vanish.
    Lost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rules {
    up: Flow,
    down: Flow,
    delay: Duration,
    /// New connections are closed at once.
    refuse: bool,
    /// Connections made before the last change of this number are cut.
    generation: u64,
}

impl Rules {
    fn flow(self, direction: Direction) -> Flow {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }
}

/// A port that leads to one member, until it is told otherwise.
///
/// It lives on a thread of its own, whatever happens to the test's.
pub struct Proxy {
    address: SocketAddr,
    rules: watch::Sender<Rules>,
    carried: Arc<Carried>,
    task: JoinHandle<()>,
}

/// Bytes delivered each way.
#[derive(Debug, Default)]
struct Carried {
    up: AtomicU64,
    down: AtomicU64,
}

impl Carried {
    fn count(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

impl Proxy {
    /// Opens a port that leads to `upstream`.
    pub fn to(upstream: SocketAddr) -> Self {
        let (rules, watched) = watch::channel(Rules::default());
        let carried = Arc::new(Carried::default());
        let listener = runtime()
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            rules,
            task: runtime().spawn(serve(listener, upstream, watched, Arc::clone(&carried))),
            carried,
        }
    }

    /// The URL for an etcd client that shall go through this proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections; new ones are served.
    pub fn drop_connections(&self) {
        self.rules.send_modify(|rules| rules.generation += 1);
    }

    /// Closes all connections, and each new one as soon as it is made, until [`heal`](Self::heal).
    pub fn refuse(&self) {
        self.rules.send_modify(|rules| {
            rules.generation += 1;
            rules.refuse = true;
        });
    }

    /// Holds all bytes back until [`heal`](Self::heal); none is lost.
    pub fn pause(&self) {
        self.rules.send_modify(|rules| {
            rules.up = Flow::Held;
            rules.down = Flow::Held;
        });
    }

    /// Lets all bytes vanish, the ends of connections included. Connections stay open, and new
    /// ones are accepted and hear nothing.
    pub fn black_hole(&self) {
        self.cut_one_way(Direction::Up);
        self.cut_one_way(Direction::Down);
    }

    /// Lets the bytes of one direction vanish.
    pub fn cut_one_way(&self, direction: Direction) {
        self.rules.send_modify(|rules| match direction {
            Direction::Up => rules.up = Flow::Lost,
            Direction::Down => rules.down = Flow::Lost,
        });
    }

    /// Delivers every byte so much later than it came.
    pub fn delay(&self, delay: Duration) {
        self.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Ends every fault. Connections that lost bytes are closed, since what follows would be
    /// garbage; the others go on.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| {
            *rules = Rules {
                generation: rules.generation,
                ..Rules::default()
            };
        });
    }

    /// How many bytes were delivered in one direction.
    pub fn carried(&self, direction: Direction) -> u64 {
        self.carried.count(direction).load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One replica's ways to all members: a [`Proxy`] for each.
pub struct Links {
    proxies: Vec<Proxy>,
    scheme: &'static str,
}

impl Links {
    /// New ways to all members of a cluster.
    pub fn to(cluster: &Cluster) -> Self {
        let members = 0..cluster.len();
        let proxies = members.map(|i| Proxy::to(cluster.address(i)));
        Self {
            proxies: proxies.collect(),
            scheme: cluster.scheme(),
        }
    }

    /// URLs in the order of the members.
    pub fn urls(&self) -> Vec<String> {
        let url = |proxy: &Proxy| format!("{}://{}", self.scheme, proxy.address());
        self.proxies.iter().map(url).collect()
    }

    /// Does something to each proxy.
    pub fn each(&self, fault: impl Fn(&Proxy)) {
        self.proxies.iter().for_each(fault);
    }

    /// See [`Proxy::black_hole`].
    pub fn black_hole(&self) {
        self.each(Proxy::black_hole);
    }

    /// See [`Proxy::heal`].
    pub fn heal(&self) {
        self.each(Proxy::heal);
    }

    /// See [`Proxy::drop_connections`].
    pub fn drop_connections(&self) {
        self.each(Proxy::drop_connections);
    }
}

impl std::ops::Index<usize> for Links {
    type Output = Proxy;

    fn index(&self, i: usize) -> &Proxy {
        &self.proxies[i]
    }
}

/// The one thread of all proxies, which no test's end stops.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxies")
            .enable_all()
            .build()
            .unwrap()
    })
}

async fn serve(
    listener: TcpListener,
    upstream: SocketAddr,
    rules: watch::Receiver<Rules>,
    carried: Arc<Carried>,
) {
    // Dropped with this future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        if let Ok((replica, _)) = listener.accept().await
            && !rules.borrow().refuse
        {
            let carried = Arc::clone(&carried);
            connections.spawn(connection(replica, upstream, rules.clone(), carried));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection until it ends, or is cut, or the rules heal that lost bytes of it.
async fn connection(
    replica: TcpStream,
    upstream: SocketAddr,
    rules: watch::Receiver<Rules>,
    carried: Arc<Carried>,
) {
    let generation = rules.borrow().generation;
    let damaged = AtomicBool::new(false);
    let carry = async {
        let mut watched = rules.clone();
        if wait_passage(&mut watched, Direction::Up).await == Flow::Lost {
            damaged.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        let Ok(etcd) = TcpStream::connect(upstream).await else {
            return;
        };
        etcd.set_nodelay(true).ok();
        replica.set_nodelay(true).ok();
        let (from_replica, to_replica) = replica.into_split();
        let (from_etcd, to_etcd) = etcd.into_split();
        let one_way = |direction, from, to| OneWay {
            direction,
            from,
            to,
            rules: rules.clone(),
            damaged: &damaged,
            carried: carried.count(direction),
        };
        let up = one_way(Direction::Up, from_replica, to_etcd);
        let down = one_way(Direction::Down, from_etcd, to_replica);
        // The first failure ends both ways.
        tokio::try_join!(up.carry(), down.carry()).ok();
    };
    let mut cut = rules.clone();
    let cut = cut.wait_for(|rules| {
        let open = rules.up == Flow::Open && rules.down == Flow::Open;
        rules.generation != generation || (open && damaged.load(Ordering::Relaxed))
    });
    tokio::select! {
        () = carry => {}
        _ = cut => {}
    }
}

/// One direction of one connection.
struct OneWay<'a> {
    direction: Direction,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    rules: watch::Receiver<Rules>,
    /// Set once bytes of the connection were lost, whichever way.
    damaged: &'a AtomicBool,
    carried: &'a AtomicU64,
}

/// The connection cannot go on.
struct Broken;

impl OneWay<'_> {
    async fn carry(self) -> Result<(), Broken> {
        let Self {
            direction,
            mut from,
            mut to,
            rules,
            damaged,
            carried,
        } = self;
        let mut watched = rules.clone();
        let (queue, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(64);
        let read = async move {
            loop {
                let mut chunk = vec![0; 16 * 1024];
                let length = from.read(&mut chunk).await.unwrap_or(0);
                chunk.truncate(length);
                let due = Instant::now() + rules.borrow().delay;
                // An empty chunk is the end of the stream.
                if queue.send((due, chunk)).await.is_err() || length == 0 {
                    return Ok(());
                }
            }
        };
        let write = async move {
            while let Some((due, chunk)) = chunks.recv().await {
                tokio::time::sleep_until(due).await;
                if wait_passage(&mut watched, direction).await == Flow::Lost {
                    damaged.store(true, Ordering::Relaxed);
                    // Healed just before the line above: nobody else will cut this connection.
                    if watched.borrow().flow(direction) == Flow::Open {
                        return Err(Broken);
                    }
                    if chunk.is_empty() {
                        std::future::pending::<()>().await;
                    }
                } else if chunk.is_empty() {
                    to.shutdown().await.map_err(|_| Broken)?;
                } else {
                    to.write_all(&chunk).await.map_err(|_| Broken)?;
                    let length = u64::try_from(chunk.len()).unwrap();
                    carried.fetch_add(length, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        tokio::try_join!(read, write).map(drop)
    }
}

/// Waits while bytes of this direction are held; says whether they may pass or are lost.
async fn wait_passage(rules: &mut watch::Receiver<Rules>, direction: Direction) -> Flow {
    let passage = rules.wait_for(|rules| rules.flow(direction) != Flow::Held);
    // Without a proxy there is nobody left to heal it.
    passage
        .await
        .map_or(Flow::Lost, |rules| rules.flow(direction))
}
