//! The service manager's watchdog, which is to know of a term before anything of that starts.

use tokio::sync::{mpsc, oneshot};

use crate::config::timing::Timing;
use crate::keys::Prefix;

/// Has it set for terms.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog(mpsc::UnboundedSender<UnwatchedTerm>);

/// A term that waits for it.
#[derive(Debug)]
pub(crate) struct UnwatchedTerm {
    /// Its election.
    pub election: Prefix,
    /// Its times.
    pub timing: Timing,
    /// Whom to tell that it need wait no longer.
    pub go_on: oneshot::Sender<()>,
}

impl Watchdog {
    /// And where the terms arrive that wait for it.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<UnwatchedTerm>) {
        let (terms, arriving) = mpsc::unbounded_channel();
        (Self(terms), arriving)
    }

    /// Has it set for the term that begins now; says when it is, or will not be. It is set by what the
    /// candidate has published by the time when its loop next waits.
    pub(super) fn arm(&self, election: &Prefix, timing: Timing) -> oneshot::Receiver<()> {
        let (go_on, may_go_on) = oneshot::channel();
        let term = UnwatchedTerm {
            election: election.clone(),
            timing,
            go_on,
        };
        // Where nobody hears it any more, nobody is to be waited for.
        drop(self.0.send(term));
        may_go_on
    }
}
