//! The client's own thread: a runtime on which all lives that a term hangs on.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::OptionsError;
use crate::clock;
use crate::etcd::Store;
use crate::session::SharedReads;

/// How many candidates get a lease and join at once.
const AT_ONCE: usize = 16;

/// Runs what it is given on the client's thread, which ends with the last handle on it. What works there
/// holds one: nothing is given up half-way because nobody looks.
#[derive(Debug)]
pub(super) struct Engine {
    runtime: Handle,
    pub(super) store: Store,
    /// What proves the renewals of all its terms.
    pub(super) reads: SharedReads,
    /// Whose turn it is to join: hundreds at once would hold each other up until none is in time.
    pub(super) turns: Semaphore,
    /// Of one request that isn't a term's.
    pub(super) patience: Duration,
    /// The thread waits for it to be dropped.
    _over: oneshot::Sender<()>,
}

impl Engine {
    /// Starts the thread.
    pub(super) fn start(store: Store, patience: Duration) -> Result<Arc<Self>, OptionsError> {
        let failed = |error: io::Error| OptionsError::Thread(Arc::new(error));
        let (over, ended) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let built = Builder::new_current_thread().enable_all().build();
            let handle = built.as_ref().map(|runtime| runtime.handle().clone());
            drop(
                tell.send(handle.map_err(|error| io::Error::new(error.kind(), error.to_string()))),
            );
            if let Ok(runtime) = built {
                // An error is the end that is waited for.
                drop(runtime.block_on(ended));
            }
        };
        let named = thread::Builder::new().name("incumbent".to_owned());
        named.spawn(body).map_err(failed)?;
        let runtime = told.recv().map_err(io::Error::other).flatten();
        Ok(Arc::new(Self {
            runtime: runtime.map_err(failed)?,
            store,
            reads: SharedReads::default(),
            turns: Semaphore::new(AT_ONCE),
            patience,
            _over: over,
        }))
    }

    /// Runs it to its end, whoever waits; that thread lives as long.
    pub(super) fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            let done = work.await;
            drop(engine);
            done
        })
    }

    /// Runs it there and waits for the outcome; `None` if it panicked.
    ///
    /// # Cancel safety
    /// Dropping it drops the work.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut task = AbortOnDrop(self.spawn(work));
        (&mut task.0).await.ok()
    }

    /// Waits for so long, on any runtime.
    pub(super) async fn sleep(self: &Arc<Self>, span: Duration) {
        self.run(clock::sleep(span)).await;
    }
}

/// Work that nobody else waits for.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
