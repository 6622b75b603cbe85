//! The way to a member: its name is looked up, and its addresses are raced.
//!
//! The client crate's own connector looks names up on threads that are started on demand, in a
//! process that dies of it where they can't be had, and gives each address its share of a limit that
//! is longer than an attempt may take.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Uri;
use tower_service::Service;

use super::departure::{Outflow, Stream};
use crate::clock;
use crate::worker::STORE;

/// How long an address is tried alone before the next one is tried beside it. Q is 286 ms with the
/// smallest TTL.
const HEAD_START: Duration = Duration::from_millis(100);

/// How long a name server has before what it said last will do.
const FRESH: Duration = Duration::from_millis(100);

/// Where a member is: the part of its URL that has to be looked up, and what that said last.
#[derive(Debug)]
pub(super) struct Address {
    host: String,
    port: u16,
    known: Arc<Mutex<Vec<IpAddr>>>,
    /// The look-up that is under way: attempts end long before one that hangs.
    asked: Mutex<Option<watch::Receiver<Option<Answer>>>>,
    /// Which of the addresses is tried first.
    first: AtomicUsize,
}

/// What a name stands for, or why that can't be told.
type Answer = Result<Vec<IpAddr>, String>;

impl Address {
    /// Of the member with this URL.
    pub(super) fn new(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        let default = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(default),
            known: Arc::default(),
            asked: Mutex::default(),
            first: AtomicUsize::new(0),
        }
    }

    /// Another of its addresses goes first from now on: whoever answered there was of no use.
    pub(super) fn go_on(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut addresses = alternating(&self.look_up().await?);
        let first = self.first.load(Ordering::Relaxed) % addresses.len().max(1);
        addresses.rotate_left(first);
        let addresses = addresses.into_iter();
        race(addresses.map(|address| SocketAddr::new(address, self.port))).await
    }

    /// The addresses that the name stands for, or stood for where its server is silent or gone.
    async fn look_up(&self) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![address]);
        }
        let known = lock(&self.known).clone();
        let mut asked = self.ask()?;
        let answered = asked.wait_for(Option::is_some);
        let answer = if known.is_empty() {
            answered.await
        } else {
            match tokio::time::timeout(FRESH, answered).await {
                Ok(answer) => answer,
                Err(_) => return Ok(known),
            }
        };
        let answer = answer.ok().and_then(|answer| answer.clone());
        match answer {
            Some(Ok(addresses)) => Ok(addresses),
            _ if !known.is_empty() => Ok(known),
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Err(io::Error::other("the look-up of the name was given up")),
        }
    }

    /// The look-up that is under way, or a new one.
    fn ask(&self) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut present = lock(&self.asked);
        let is_under_way = |asked: &watch::Receiver<Option<Answer>>| {
            asked.borrow().is_none() && asked.has_changed().is_ok()
        };
        if let Some(asked) = present.as_ref().filter(|asked| is_under_way(asked)) {
            return Ok(asked.clone());
        }
        let (tell, asked) = watch::channel(None);
        let (host, port, known) = (self.host.clone(), self.port, Arc::clone(&self.known));
        // Its outcome is told by the channel, whoever waits for it by then.
        let work = STORE.put(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let answer = found.map(|found| {
                let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
                addresses.dedup();
                addresses
            });
            let answer = answer.map_err(|error| format!("{host}: {error}"));
            if let Ok(addresses) = &answer {
                lock(&known).clone_from(addresses);
            }
            tell.send_replace(Some(answer));
        });
        work?;
        *present = Some(asked.clone());
        Ok(asked)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses with the two families by turns, the one that came first leading: one of them may
/// lead nowhere as a whole.
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let leading = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (ours, others): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == leading);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut all = Vec::with_capacity(addresses.len());
    loop {
        let before = all.len();
        all.extend(ours.next());
        all.extend(others.next());
        if all.len() == before {
            return all;
        }
    }
}

/// Connects to whichever answers first. Each has a head start before the next, unless it fails.
async fn race(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut tried = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = addresses.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            tried.spawn(async move {
                let stream = TcpStream::connect(address).await;
                stream.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
            });
        }
        let waited = async {
            if is_last {
                std::future::pending::<()>().await;
            } else {
                clock::sleep(HEAD_START).await;
            }
        };
        tokio::select! {
            () = waited => {}
            done = tried.join_next() => match done {
                Some(Ok(Ok(stream))) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => failed = error,
                Some(Err(error)) => failed = io::Error::other(error),
                None => return Err(failed),
            },
        }
    }
}

/// What the client crate's transport connects by.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) address: Arc<Address>,
    /// Of what it connects.
    pub(super) outflow: Outflow,
}

impl Service<Uri> for Connector {
    type Response = Stream<TokioIo<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, outflow } = self.clone();
        Box::pin(async move {
            let stream = address.connect().await?;
            Ok(Stream::new(TokioIo::new(stream), outflow))
        })
    }
}
