//! The cluster that the candidate stands in, for whoever asks whether a configuration is about it.

use std::time::Duration;

use crate::config::Config;
use crate::etcd::Store;

/// How long the endpoints of a new configuration are asked of which cluster they are.
const LIMIT: Duration = Duration::from_secs(2);

/// The cluster that a candidate stands in, once it has heard of one.
#[derive(Clone, Debug)]
pub(crate) struct Cluster(Store);

impl Cluster {
    /// That of the candidate's store.
    pub(super) const fn of(store: Store) -> Self {
        Self(store)
    }

    /// Whether it has heard of one.
    pub(crate) fn is_known(&self) -> bool {
        self.0.seen().cluster != 0
    }

    /// Why the endpoints of `config` can't be gone over to: most of them are of another cluster. An
    /// election can't be moved by one replica alone. Endpoints that don't say are no reason.
    ///
    /// Blocks, for a thread of its own.
    pub(crate) fn refuses(&self, config: &Config) -> Option<String> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().ok()?;
        let store = Store::new(&config.etcd);
        let found = runtime.block_on(store.cluster_now(LIMIT))?;
        let known = self.0.seen().cluster;
        (known != 0 && found != known).then(|| {
            format!(
                "etcd.endpoints: expected members of cluster {known:x}, in which this replica \
                 stands, found another cluster, {found:x}: stop all replicas, and start them with \
                 the new endpoints"
            )
        })
    }
}
