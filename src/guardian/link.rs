//! The guardian's end of the socket to its daemon. Nothing here ever waits.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, SendFlags, recvmsg, send,
};

use super::protocol::{Inbox, Report, Request, encode};

/// How many bytes of reports may wait for a daemon that doesn't read, beyond what the socket
/// holds. One that lets so much wait won't come back to read it.
const OUTBOX_LIMIT: usize = 256 * 1024;

/// How many bytes one [`Link::receive`] reads at most: more than a socket holds, so that nothing
/// is left of what lay in it when it began.
const READ_LIMIT: usize = 4 * 1024 * 1024;

/// The socket, and what has passed through it in part.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    inbox: Inbox,
    outbox: Vec<u8>,
    open: bool,
    /// Descriptors that came with a message.
    handed_over: VecDeque<OwnedFd>,
}

impl Link {
    /// Speaks over the socket that this process was given as its standard input.
    ///
    /// # Errors
    /// Fails if standard input is no socket.
    pub(super) fn on_stdin() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Fails on all but sockets.
        socket.peer_addr()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            open: true,
            handed_over: VecDeque::new(),
        })
    }

    /// The next descriptor that came with what was received so far, if one did.
    pub(super) fn take_handed_over(&mut self) -> Option<OwnedFd> {
        self.handed_over.pop_front()
    }

    /// Whether the daemon's end is open, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether reports wait for room in the socket.
    pub(super) fn has_backlog(&self) -> bool {
        self.open && !self.outbox.is_empty()
    }

    /// Every whole message that has arrived.
    pub(super) fn receive(&mut self) -> Vec<Request> {
        self.read();
        let mut requests = Vec::new();
        loop {
            match self.inbox.take() {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => return requests,
                Err(error) => {
                    // A daemon that can't be understood is as good as dead.
                    tracing::error!(%error, "daemon not understood");
                    self.open = false;
                    return requests;
                }
            }
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        let mut total = 0;
        while self.open && total < READ_LIMIT {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut chunk)];
            let received = recvmsg(&self.socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC);
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.handed_over.extend(descriptors);
                }
            }
            match received {
                Ok(RecvMsg { bytes: 0, .. }) => self.open = false,
                Ok(RecvMsg { bytes, .. }) => {
                    self.inbox.push(&chunk[..bytes]);
                    total += bytes;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.open = false,
            }
        }
    }

    /// Queues a report; see [`Link::flush`].
    pub(super) fn send(&mut self, report: &Report) {
        if let (true, Ok(line)) = (self.open, encode(report)) {
            self.outbox.extend(line);
        }
    }

    /// Sends a report at once, if nothing waits before it: one that is worth nothing later.
    pub(super) fn send_now(&mut self, report: &Report) {
        self.flush();
        if !self.has_backlog() {
            self.send(report);
            self.flush();
        }
    }

    /// Sends what the socket has room for.
    pub(super) fn flush(&mut self) {
        while self.has_backlog() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.socket, &self.outbox, flags) {
                Ok(sent) => {
                    self.outbox.drain(..sent);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Judged only here, where a daemon that reads has had its chance.
                    self.open = self.outbox.len() <= OUTBOX_LIMIT;
                    return;
                }
                Err(_) => self.open = false,
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
