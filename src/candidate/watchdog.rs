//! The service manager's watchdog, which is to know of a term before anything of that starts.

use tokio::sync::{mpsc, oneshot};

/// Whom to tell that it is set for a term.
pub(crate) type Armed = oneshot::Sender<()>;

/// Has it set for terms.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog(mpsc::UnboundedSender<Armed>);

impl Watchdog {
    /// And where the wishes arrive.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Armed>) {
        let (wishes, arriving) = mpsc::unbounded_channel();
        (Self(wishes), arriving)
    }

    /// Has it set for the term that begins now; says when it is, or will not be. It is set by what the
    /// candidate has published by the time when its loop next waits.
    pub(super) fn arm(&self) -> oneshot::Receiver<()> {
        let (armed, is_armed) = oneshot::channel();
        // Where nobody hears it any more, nobody is to be waited for.
        drop(self.0.send(armed));
        is_armed
    }
}
