//! The client: how the store is reached, and the thread on which elections live.

use std::sync::Arc;

use super::engine::Engine;
use super::{ClientOptions, Election, Lock, OptionsError};
use crate::etcd::Store;
use crate::keys::{NotAPrefix, Prefix};

/// One etcd cluster, and a thread of its own on which leases are renewed, keys watched and campaigns
/// waited for. Cheap to clone.
///
/// The thread lives as long as a client, or anything that came of it. Nothing that the program does holds
/// it up: not blocking code, not a runtime that is busy or gone. The methods here may be awaited on any
/// runtime, tokio's or another.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) engine: Arc<Engine>,
}

impl Client {
    /// A client by these options. Does no input or output: etcd is reached for when first asked.
    ///
    /// # Errors
    /// What can't be meant so, and a thread that is not to be had.
    pub fn new(options: &ClientOptions) -> Result<Self, OptionsError> {
        let settings = options.settings()?;
        let engine = Engine::start(Store::new(&settings), options.request_timeout)?;
        Ok(Self { engine })
    }

    /// The election under `prefix`, with whoever else stands there: the daemon, this library, or Go's
    /// `clientv3/concurrency`.
    ///
    /// # Errors
    /// Under an empty prefix, or one that ends in `.meta` or contains `.meta/`, there is none.
    pub fn election(&self, prefix: &str) -> Result<Election, NotAPrefix> {
        Ok(Election::new(
            Arc::clone(&self.engine),
            Prefix::checked(prefix)?,
        ))
    }

    /// The lock under `prefix`: an election that is led for as long as a guard is held.
    ///
    /// # Errors
    /// As [`election`](Self::election).
    pub fn lock(&self, prefix: &str) -> Result<Lock, NotAPrefix> {
        Ok(Lock::new(self.election(prefix)?))
    }
}
