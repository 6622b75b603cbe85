//! What else listens to what a Rust job logs: the binary's own layers of `tracing`.
//!
//! They hear the threads of a run's runtime and no others, so that one that blocks or panics is the run's
//! fault: no thread that renews, guards or decides waits for it (R14). Only whether a layer is interested in
//! a place of the code, `tracing` may ask on any thread.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::{Dispatch, Event, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

type Maker = Box<dyn FnOnce() -> AnyLayer + Send>;

/// The layers of a binary.
#[derive(Clone, Default)]
pub(crate) struct JobLayers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    makers: Mutex<Vec<Maker>>,
    /// All of them, once they are made.
    made: OnceLock<Dispatch>,
    log: ToLog,
}

impl JobLayers {
    pub(super) fn add<L: Layer<Registry> + Send + Sync>(
        &self,
        make: impl FnOnce() -> L + Send + 'static,
    ) {
        self.makers().push(Box::new(|| Box::new(make())));
    }

    /// Makes them, where there are any. What they start is none of a run's.
    pub(super) fn make(&self) {
        let makers = std::mem::take(&mut *self.makers());
        if makers.is_empty() {
            return;
        }
        let layers: Vec<_> = makers.into_iter().map(|make| make()).collect();
        let log = self.0.log.clone();
        self.0
            .made
            .get_or_init(|| Dispatch::new(Registry::default().with(layers).with(log)));
    }

    /// What a thread of a run's runtime does first. To be called where the log is the thread's listener
    /// yet.
    pub(super) fn listen(&self) -> impl Fn() + Send + Sync + 'static {
        let made = self.0.made.get().cloned();
        if made.is_some() {
            self.0
                .log
                .0
                .get_or_init(|| dispatcher::get_default(Dispatch::clone));
        }
        move || {
            if let Some(made) = &made {
                // For as long as the thread lives.
                std::mem::forget(dispatcher::set_default(made));
            }
        }
    }

    fn makers(&self) -> std::sync::MutexGuard<'_, Vec<Maker>> {
        self.0.makers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for JobLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobLayers")
    }
}

/// Hands every event on to the log, which has a filter of its own.
#[derive(Clone, Default)]
struct ToLog(Arc<OnceLock<Dispatch>>);

impl<S: Subscriber> Layer<S> for ToLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(log) = self.0.get()
            && log.enabled(event.metadata())
        {
            log.event(event);
        }
    }
}
