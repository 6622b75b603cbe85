//! What a session knows of its lease, as its renewals publish it.

use tokio::sync::watch;

use super::Loss;
use crate::clock::Instant;
use crate::etcd::Error;
use crate::etcd::keep_alive::Ack;

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `D`: up to here the lease is held for certain.
    pub deadline: Instant,
    /// The last acknowledged renewal.
    pub ack: Ack,
    /// Whether the deadline counts from proven renewals only: the session carries a term.
    pub proven: bool,
    /// Since when, and why, no renewal has come through; `None` while they do.
    pub trouble: Option<LeaseTrouble>,
    /// Why it is over; final.
    pub loss: Option<Loss>,
}

/// A row of failed attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTrouble {
    /// When the first of them failed.
    pub since: Instant,
    /// What the last one said.
    pub error: Error,
}

/// Waits until `status` tells of a loss.
///
/// # Cancel safety
/// Safe.
pub async fn lost(status: &mut watch::Receiver<Status>) -> Loss {
    match status.wait_for(|status| status.loss.is_some()).await {
        Ok(status) => status.loss.clone().unwrap_or(Loss::Closed),
        Err(_) => Loss::Closed,
    }
}
