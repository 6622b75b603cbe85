//! Which hosts are in sight when jobs start: each shows itself in the store for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::backoff;
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::election::hosts::{self, Hosts};
use crate::etcd::Store;
use crate::keys::{LeaseId, Prefix};
use crate::placement::rank::{Glimpse, STEP};

/// How long the others have to show themselves, too.
const SHOWING: Duration = Duration::from_millis(300);

/// How long a look may take in all. A store that is away lets nobody join in any case.
const LIMIT: Duration = Duration::from_secs(2);

/// What was seen is true for so long: for all jobs that start together.
const FRESH: Duration = Duration::from_secs(10);

/// What this host sees of the others.
#[derive(Clone, Default)]
pub(in crate::daemon) struct Sight(Arc<Mutex<Option<Sighting>>>);

struct Sighting {
    until: Instant,
    glimpse: Glimpse,
}

impl Sight {
    /// How long the candidate of `config` is to leave a job to others that starts cold; not at all where
    /// somebody stands for it, or where the store doesn't tell.
    ///
    /// # Cancel safety
    /// Safe: the next who asks looks anew.
    pub(in crate::daemon) async fn delay(&self, config: &Config) -> Duration {
        let mut seen = self.0.lock().await;
        if seen.as_ref().is_none_or(|seen| seen.until.has_passed()) {
            *seen = Some(look(config).await);
        }
        let Some(seen) = &*seen else {
            return Duration::ZERO;
        };
        let (election, glimpse) = (config.election.prefix.as_str(), &seen.glimpse);
        let rank = glimpse.rank(election, &config.candidate_name, &config.prefer);
        let (delay, candidate) = (STEP * rank, &config.candidate_name);
        if rank > 0 {
            let (after_ms, hosts) = (delay.as_millis(), glimpse.hosts.len());
            tracing::info!(
                election,
                candidate,
                rank,
                hosts,
                after_ms,
                "leaving it to others first"
            );
        }
        delay
    }
}

/// Shows this host, and looks for the others once they had the time to do the same.
async fn look(config: &Config) -> Sighting {
    let root = Prefix::new(config.root());
    let store = Store::new(&config.etcd);
    let looking = async {
        let lease = LeaseId::random(backoff::random());
        hosts::show(&store, LIMIT, &root, lease, &config.candidate_name).await?;
        clock::sleep(SHOWING).await;
        hosts::read(&store, LIMIT, &root).await
    };
    let found = tokio::time::timeout(LIMIT, looking).await;
    let found = found.unwrap_or_else(|_| Ok(Hosts::default()));
    let Hosts { names, taken } = found.unwrap_or_else(|error| {
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
