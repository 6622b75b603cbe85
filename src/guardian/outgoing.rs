//! What goes out to the guardian: in the order in which it was asked, and held back only where
//! nothing that ends anything waits behind it.

use std::collections::VecDeque;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Request, encode};

/// What goes out to the guardian, in order.
#[derive(Debug)]
pub(super) enum Outgoing {
    Request(Request),
    /// Wait for this before anything more is sent.
    After(oneshot::Receiver<()>),
    /// Close the socket.
    Close,
}

impl Outgoing {
    /// Whether it ends something, and so must not depend on whoever is to end the wait.
    const fn is_urgent(&self) -> bool {
        match self {
            Self::Request(request) => match request {
                Request::Hello { .. }
                | Request::Log(_)
                | Request::Lease(_)
                | Request::Term(_)
                | Request::Deadline { .. }
                | Request::AtEnd { .. }
                | Request::Start { .. } => false,
                Request::Forget { .. }
                | Request::Stop { .. }
                | Request::StopRun { .. }
                | Request::Signal { .. }
                | Request::Kill { .. }
                | Request::JobOver { .. }
                | Request::Check { .. }
                | Request::EndTerm { .. } => true,
            },
            Self::After(_) => false,
            Self::Close => true,
        }
    }
}

/// Sends requests in order until the guardian is dismissed or forgotten; then closes the socket.
/// What is asked at once is written at once: the guardian wakes once for a term and its job.
pub(super) async fn write(
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    mut socket: OwnedWriteHalf,
) {
    let mut next = VecDeque::new();
    while let Some(first) = queue.recv().await {
        next.push_back(first);
        while let Ok(more) = queue.try_recv() {
            next.push_back(more);
        }
        let (mut lines, mut closed) = (Vec::new(), false);
        while let Some(it) = next.pop_front() {
            match it {
                Outgoing::Request(request) => lines.extend(encode(&request).unwrap_or_default()),
                Outgoing::After(done) => {
                    if socket.write_all(&lines).await.is_err() {
                        return;
                    }
                    lines.clear();
                    wait(done, &mut queue, &mut next).await;
                }
                Outgoing::Close => {
                    closed = true;
                    break;
                }
            }
        }
        // A guardian that reads no more is noticed by the reader.
        if socket.write_all(&lines).await.is_err() || closed {
            return;
        }
    }
}

/// Waits until `done` is said, or something urgent comes; what comes meanwhile is put to `next`.
///
/// No time limit: a start that waits for ever is the deadline's to end, and an early one would
/// break the order that was asked for just when the machine is slow.
async fn wait(
    mut done: oneshot::Receiver<()>,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    next: &mut VecDeque<Outgoing>,
) {
    while !next.iter().any(Outgoing::is_urgent) {
        tokio::select! {
            _ = &mut done => return,
            more = queue.recv() => match more {
                Some(more) => next.push_back(more),
                None => return,
            },
        }
    }
}
