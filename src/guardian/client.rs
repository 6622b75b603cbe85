//! The daemon's side of its guardian.

use std::io;

use tokio::sync::mpsc;

use super::protocol::{Report, Request};
use crate::clock::Instant;
use crate::keys::Prefix;
use crate::term::resignation::Resignation;

/// What the guardian has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A report, acknowledgements included.
    Report(Report),
    /// The guardian is dead or its socket is closed: fence at once. The last event.
    Gone,
}

/// A guardian that was started and has answered. Clones speak to the same one, from any thread.
///
/// Dropping the last clone closes the socket, which the guardian holds for this process's death:
/// unless nothing is left to guard, it kills this process.
#[derive(Clone, Debug)]
pub struct Guardian {
    _private: (),
}

/// The guardian is gone: it will acknowledge nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guardian is gone")]
pub struct Gone;

impl Guardian {
    /// Makes this process a subreaper, starts a guardian, and waits until it is ready.
    pub async fn start(
        log: &crate::log::Settings,
        election: &Prefix,
        candidate: &str,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        let _ = (log, election, candidate);
        todo!()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        todo!()
    }

    /// Sends a request; never blocks. To a guardian that is gone it is lost.
    pub fn send(&self, request: Request) {
        let _ = request;
        todo!()
    }

    /// Has the guardian remember a lease; returns once it has.
    pub async fn remember(&self, resignation: Resignation) -> Result<(), Gone> {
        let _ = resignation;
        todo!()
    }

    /// The term and deadline that the guardian acknowledged last.
    pub fn acked_deadline(&self) -> Option<(i64, Instant)> {
        todo!()
    }

    /// Kills the guardian and every other descendant of this process, off the caller's thread;
    /// returns whether the tree was proven empty by `until`.
    pub async fn fence(&self, until: Option<Instant>) -> bool {
        let _ = until;
        todo!()
    }
}
