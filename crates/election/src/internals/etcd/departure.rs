//! When a request has left: handed to the kernel in whole, whatever becomes of it then.
//!
//! The client crate tells of a request only once it is answered, a commit later. Here its body tells
//! when the last of it was taken, which the transport does only once the member's windows have some room,
//! and the stream below the transport when that has written what it had.
//!
//! Two orders are not told apart: a window that has room for a part of the record only, and a flush that
//! the transport makes amid its queue for a body of 256 bytes or more of another request. In both the
//! rest is written in the same turn of the connection, unless the socket blocks just there.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

tokio::task_local! {
    /// Of the requests that this task makes; the client crate has no place for it.
    static DEPARTURE: Departure;
}

/// The end of the path of a request that is waited for: a transaction.
const WRITE: &str = "/Txn";

/// Runs `requests`, and drops `pending` as soon as the first transaction among them has left, or when they are over.
///
/// A request that meets a connection with something older still to be written counts as having left
/// only with its answer: what is written then can't be told.
///
/// # Cancel safety
/// As `requests`; dropping it drops `pending`.
pub async fn until_first<F: Future>(pending: oneshot::Sender<()>, requests: F) -> F::Output {
    let departure = Departure(Arc::new(Mutex::new(Some(pending))));
    let outcome = DEPARTURE.scope(departure.clone(), requests).await;
    departure.tell();
    outcome
}

/// Whom to tell that a request has left.
#[derive(Clone, Debug)]
struct Departure(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Departure {
    fn tell(&self) {
        drop(lock(&self.0).take());
    }
}

/// What is known of what goes out over one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Outflow(Arc<Mutex<Flow>>);

#[derive(Debug, Default)]
struct Flow {
    /// Something was not taken by the kernel at once, and is still to be written.
    blocked: bool,
    /// Taken in whole, and gone with the next flush.
    taken: Vec<Departure>,
}

impl Outflow {
    fn took(&self, departure: &Departure) {
        let mut flow = lock(&self.0);
        if !flow.blocked {
            flow.taken.push(departure.clone());
        }
    }

    fn blocks(&self) {
        lock(&self.0).blocked = true;
    }

    fn flushed(&self) {
        let mut flow = lock(&self.0);
        flow.blocked = false;
        for departure in flow.taken.drain(..) {
            departure.tell();
        }
    }

    /// What was taken and not written is lost with the connection.
    fn broke(&self) {
        *lock(&self.0) = Flow::default();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream to a member that tells what has been written.
#[derive(Debug)]
pub(super) struct Stream<S> {
    inner: S,
    outflow: Outflow,
}

impl<S> Stream<S> {
    pub(super) fn new(inner: S, outflow: Outflow) -> Self {
        Self { inner, outflow }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() {
            self.outflow.blocks();
        }
        written
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        self.outflow.broke();
    }
}

impl<S: Read + Unpin> Read for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.outflow.flushed();
        }
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.note(written)
    }
}

/// The way to a member, whose requests tell when they have left, where that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Way<S> {
    inner: S,
    outflow: Outflow,
}

impl<S> Way<S> {
    /// Over the streams that were made with the same `outflow`.
    pub(super) fn new(inner: S, outflow: Outflow) -> Self {
        Self { inner, outflow }
    }
}

impl<S> Service<Request<Body>> for Way<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // A login, or a look at who answers, is none of them.
        let departure = DEPARTURE.try_with(Clone::clone).ok();
        let departure = departure.filter(|_| request.uri().path().ends_with(WRITE));
        self.inner.call(match departure {
            Some(departure) => request.map(|body| {
                Body::new(Departing {
                    body,
                    departure,
                    outflow: self.outflow.clone(),
                })
            }),
            None => request,
        })
    }
}

/// The body of a request that tells when the last of it was taken.
///
/// It never says beforehand that a frame is its last one: so the transport comes for another once it
/// has found room for that one.
#[derive(Debug)]
struct Departing {
    body: Body,
    departure: Departure,
    outflow: Outflow,
}

impl hyper::body::Body for Departing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.outflow.took(&self.departure);
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::sync::oneshot::error::TryRecvError;
    use tonic::transport::{Endpoint, Uri};
    use tower::ServiceExt;

    use super::*;

    const TEXT: &str = "what is to leave";

    /// So often everything else has its turn before something is said not to come.
    const TURNS: usize = 100;

    /// A request over a pipe that holds so many bytes, to a member that is silent; what it reads, and
    /// whether the request has left.
    fn ask(capacity: usize) -> (DuplexStream, oneshot::Receiver<()>) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let outflow = Outflow::default();
        let mut stream = Some(Stream::new(TokioIo::new(ours), outflow.clone()));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().expect("connected to once");
            async { Ok::<_, Infallible>(stream) }
        });
        let endpoint = Endpoint::from_static("http://member");
        let way = Way::new(endpoint.connect_with_connector_lazy(connector), outflow);
        let (pending, left) = oneshot::channel();
        tokio::spawn(until_first(pending, async {
            let body = Body::new(http_body_util::Full::from(TEXT));
            let answer = way.oneshot(Request::post("http://member/Txn").body(body).unwrap());
            drop(answer.await);
        }));
        (theirs, left)
    }

    async fn turns() {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    fn has_left(left: &mut oneshot::Receiver<()>) -> bool {
        left.try_recv() == Err(TryRecvError::Closed)
    }

    #[tokio::test]
    async fn a_request_has_left_before_it_is_answered() {
        let (_member, mut left) = ask(4096);
        turns().await;
        assert!(has_left(&mut left));
    }

    #[tokio::test]
    async fn no_request_has_left_before_its_last_byte() {
        for capacity in 1..400 {
            let (mut member, mut left) = ask(capacity);
            let mut read: Vec<u8> = Vec::new();
            loop {
                turns().await;
                let told = has_left(&mut left);
                let mut bytes = vec![0; capacity];
                let reading =
                    tokio::time::timeout(std::time::Duration::ZERO, member.read(&mut bytes));
                let n = reading.await.map_or(0, Result::unwrap);
                read.extend(&bytes[..n]);
                let is_out = read.windows(TEXT.len()).any(|it| it == TEXT.as_bytes());
                assert!(is_out || !told, "told too early with {capacity} bytes");
                if n == 0 || told {
                    assert!(is_out, "it never left with {capacity} bytes");
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_is_lost_with_its_connection_has_not_left() {
        let (member, mut left) = ask(40);
        turns().await;
        assert!(!has_left(&mut left));
        drop(member);
        // It is over, and so nobody waits for it any more.
        assert!((&mut left).await.is_err());
    }
}
