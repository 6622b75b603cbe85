//! Which hosts are in sight when jobs start: each shows itself in the store for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::backoff;
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::election::hosts::{self, Hosts};
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::placement::rank::{Glimpse, delay};
use crate::term::record::Turn;

/// How long the others have to show themselves, too.
const SHOWING: Duration = Duration::from_millis(300);

/// How long the slowest of this host's own candidates is waited for, so that the others still see it in
/// time.
const OWN: Duration = Duration::from_millis(1500);

/// From one look to the next, while some host starts yet.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a look may take in all, and those who start yet are waited for. A store that is away lets
/// nobody join in any case.
const LIMIT: Duration = Duration::from_secs(2);

/// What was seen is true for so long: for all jobs that start together.
const FRESH: Duration = Duration::from_secs(10);

/// What this host sees of the others, and how far its own candidates have come.
#[derive(Clone)]
pub(in crate::daemon) struct Sight {
    seen: Arc<Mutex<Option<Sighting>>>,
    /// How many candidates of this host have yet to come as far as to contend.
    starting: watch::Sender<usize>,
}

struct Sighting {
    until: Instant,
    glimpse: Glimpse,
}

/// A candidate that starts, until this is dropped.
pub(in crate::daemon) struct Starting(watch::Sender<usize>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.send_modify(|starting| *starting -= 1);
    }
}

impl Sight {
    pub(in crate::daemon) fn new() -> Self {
        Self {
            seen: Arc::default(),
            starting: watch::Sender::new(0),
        }
    }

    /// Another candidate of this host starts.
    pub(in crate::daemon) fn starts(&self) -> Starting {
        self.starting.send_modify(|starting| *starting += 1);
        Starting(self.starting.clone())
    }

    /// Shows this host before it is ready: who is ready sooner waits for it a while.
    pub(in crate::daemon) fn show(&self, config: &Arc<Config>) {
        let (seen, config) = (Arc::clone(&self.seen), Arc::clone(config));
        tokio::spawn(async move {
            // Nobody looks before that is done, or given up.
            let _seen = seen.lock().await;
            let store = Store::new(&config.etcd);
            let shown = tokio::time::timeout(LIMIT, show(&store, &config, false)).await;
            if let Ok(Err(error)) = shown {
                tracing::debug!(%error, "this host not shown");
            }
        });
    }

    /// When the turn of the candidate of `config` is at a cold start; none where somebody stands for its
    /// job, or where the store doesn't tell.
    ///
    /// # Cancel safety
    /// Safe: the next who asks looks anew.
    pub(in crate::daemon) async fn turn(&self, config: &Config, own: Starting) -> Option<Turn> {
        drop(own);
        let mut seen = self.seen.lock().await;
        if seen.as_ref().is_none_or(|seen| seen.until.has_passed()) {
            *seen = Some(self.look(config).await);
        }
        let (election, candidate) = (config.election.prefix.as_str(), &config.candidate_name);
        let glimpse = &seen.as_ref()?.glimpse;
        let turn = glimpse.turn(election, candidate, &config.prefer)?;
        let Turn { rank, hosts } = turn;
        if rank > 0 {
            let after_ms = delay(turn).as_millis();
            tracing::info!(
                election,
                candidate,
                rank,
                hosts,
                after_ms,
                "leaving it to others first"
            );
        }
        Some(turn)
    }

    /// Shows this host once all its candidates are ready, and looks for the others when they had the time
    /// to do the same. Who isn't ready in time is left behind.
    async fn look(&self, config: &Config) -> Sighting {
        let root = Prefix::new(config.root());
        let store = Store::new(&config.etcd);
        let until = clock::now() + LIMIT;
        let mut starting = self.starting.subscribe();
        let looking = async {
            let all_ready = starting.wait_for(|starting| *starting == 0);
            drop(tokio::time::timeout(OWN, all_ready).await);
            show(&store, config, true).await?;
            clock::sleep(SHOWING).await;
            loop {
                let found = hosts::read(&store, LIMIT, &root).await?;
                if !found.is_any_starting || until.has_passed() {
                    return Ok(found);
                }
                clock::sleep(PAUSE).await;
            }
        };
        let found = tokio::time::timeout(LIMIT * 2, looking).await;
        let found = found.unwrap_or_else(|_| Ok(Hosts::default()));
        let Hosts { names, taken, .. } = found.unwrap_or_else(|error: Error| {
            tracing::debug!(%error, "other hosts not seen");
            Hosts::default()
        });
        Sighting {
            until: clock::now() + FRESH,
            glimpse: Glimpse {
                hosts: names,
                taken,
            },
        }
    }
}

async fn show(store: &Store, config: &Config, is_ready: bool) -> Result<(), Error> {
    let root = Prefix::new(config.root());
    let lease = LeaseId::random(backoff::random());
    hosts::show(store, LIMIT, &root, lease, &config.candidate_name, is_ready).await
}
