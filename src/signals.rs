//! The signals that the daemon understands.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_tokio::Signals;
use tokio_stream::StreamExt;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: a planned stop; the second one, an impatient one.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: let another candidate lead.
    StepDown,
}

/// The signals as they arrive.
pub struct Arriving(Signals);

impl Arriving {
    /// Takes the signals over from their defaults, at once.
    ///
    /// # Errors
    /// When the kernel has no descriptor to spare.
    pub fn new() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map(Self)
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Signal {
        match self.0.next().await {
            Some(SIGHUP) => Signal::Reload,
            Some(SIGUSR1) => Signal::StepDown,
            Some(_) => Signal::Stop,
            // Nothing closes the stream.
            None => std::future::pending().await,
        }
    }
}
