//! The open connections: few, short, and small.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::{ServerState, Via, routes};

/// How long a client may take to send its request's head.
const HEAD_TIME: Duration = Duration::from_secs(3);

/// How long a connection over TCP may last in all: nothing that is asked there takes longer.
const TCP_TIME: Duration = Duration::from_secs(10);

/// The same on the control socket, where the daemon may be asked to wait for a disk.
const CONTROL_TIME: Duration = Duration::from_mins(2);

/// The longest head of a request; the least that hyper can do with.
const LONGEST_HEAD: usize = 8192;

/// The most headers of a request.
const MOST_HEADERS: usize = 64;

/// The connections that came by one way.
pub(super) struct Connections {
    most: usize,
    state: Arc<ServerState>,
    /// The oldest first.
    open: VecDeque<AbortHandle>,
}

impl Connections {
    pub(super) fn new(most: usize, state: &Arc<ServerState>) -> Self {
        Self {
            most,
            state: Arc::clone(state),
            open: VecDeque::new(),
        }
    }

    /// Answers one request on `stream`. The oldest connection makes room if there are too many: who
    /// asks and reads is done long before it is the oldest.
    pub(super) fn serve<S>(&mut self, stream: S, via: Via)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if self.open.len() >= self.most {
            self.open.retain(|connection| !connection.is_finished());
        }
        if self.open.len() >= self.most
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abort();
        }
        let state = Arc::clone(&self.state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(routes::answer(&state, via, &request).await) }
        });
        let mut protocol = http1::Builder::new();
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .keep_alive(false);
        let connection = protocol.serve_connection(TokioIo::new(stream), service);
        let time = match via {
            Via::Tcp(_) => TCP_TIME,
            Via::Control => CONTROL_TIME,
        };
        let task = tokio::task::spawn_local(async move {
            // How it ends is the client's affair.
            drop(tokio::time::timeout(time, connection).await);
        });
        self.open.push_back(task.abort_handle());
    }
}
