//! Which hosts are in sight when jobs start: each shows itself in the store for a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::{STEP, rank};
use crate::backoff;
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::election::hosts::{self, Hosts};
use crate::etcd::Store;
use crate::keys::{LeaseId, Prefix};
use crate::term::record::Turn;

/// How long the others have to show themselves, too.
const SHOWING: Duration = Duration::from_millis(300);

/// How long a look may take in all. A store that is away lets nobody join in any case.
const LIMIT: Duration = Duration::from_secs(2);

/// What was seen is true for so long: for all jobs that start together.
const FRESH: Duration = Duration::from_secs(10);

/// What this host sees of the others.
#[derive(Clone, Default)]
pub(in crate::daemon) struct Sight(Arc<Mutex<Option<Glimpse>>>);

struct Glimpse {
    until: Instant,
    hosts: Vec<String>,
    /// The elections where somebody stands.
    taken: BTreeSet<String>,
}

impl Sight {
    /// When the turn of the candidate of `config` is at a cold start; none where somebody stands for its
    /// job, or where the store doesn't tell.
    ///
    /// # Cancel safety
    /// Safe: the next who asks looks anew.
    pub(in crate::daemon) async fn turn(&self, config: &Config) -> Option<Turn> {
        let mut seen = self.0.lock().await;
        if seen.as_ref().is_none_or(|seen| seen.until.has_passed()) {
            *seen = Some(look(config).await);
        }
        let seen = seen.as_ref().filter(|seen| !seen.hosts.is_empty())?;
        let election = config.election.prefix.as_str();
        if seen.taken.contains(election) {
            return None;
        }
        let rank = rank(
            election,
            &config.candidate_name,
            &seen.hosts,
            &config.prefer,
        );
        let hosts = u32::try_from(seen.hosts.len()).unwrap_or(u32::MAX);
        let turn = Turn { rank, hosts };
        if rank > 0 {
            let (after_ms, candidate) = (delay(turn).as_millis(), &config.candidate_name);
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
}

/// How long it is to be left to others first.
pub(in crate::daemon) const fn delay(turn: Turn) -> Duration {
    STEP.saturating_mul(turn.rank)
}

/// Shows this host, and looks for the others once they had the time to do the same.
async fn look(config: &Config) -> Glimpse {
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
    Glimpse {
        until: clock::now() + FRESH,
        hosts: names,
        taken,
    }
}
