//! The hosts that stand for several jobs below one prefix: who starts, and where somebody stands already.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{GetOptions, PutOptions, Txn, TxnOp};

use crate::etcd::{Error, Store, reads};
use crate::keys::{LeaseId, Prefix};

/// How long a host is shown that doesn't do so again: as long as it may take others to start.
const SHOWN: Duration = Duration::from_secs(30);

/// What stands below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The names of the hosts that were shown in the last half minute.
    pub names: Vec<String>,
    /// Whether one of them has yet to come as far as to contend.
    pub is_any_starting: bool,
    /// The prefixes of the elections that have candidates.
    pub taken: BTreeSet<String>,
}

/// What a host that is ready to contend says of itself, and one that has yet to come so far.
const READY: &str = "ready";
const STARTING: &str = "starting";

/// Shows the host whose candidates have this `name`, for half a minute, under a lease of its own; and
/// whether it is ready to contend.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn show(
    store: &Store,
    limit: Duration,
    root: &Prefix,
    lease: LeaseId,
    name: &str,
    is_ready: bool,
) -> Result<(), Error> {
    let seconds = i64::try_from(SHOWN.as_secs()).unwrap_or(i64::MAX);
    store.grant(limit, lease, seconds).await?;
    let options = PutOptions::new().with_lease(lease.get());
    let state = if is_ready { READY } else { STARTING };
    let put = TxnOp::put(root.host(name), state, Some(options));
    store.txn(limit, Txn::new().and_then([put])).await.map(drop)
}

/// Reads who is shown, and which elections below `root` have candidates, in one linearizable attempt.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn read(store: &Store, limit: Duration, root: &Prefix) -> Result<Hosts, Error> {
    let below = || GetOptions::new().with_prefix();
    let txn = Txn::new().and_then([
        TxnOp::get(root.hosts(), Some(below())),
        TxnOp::get(root.candidates(), Some(below().with_keys_only())),
    ]);
    let (answer, _) = store.txn(limit, txn).await?;
    let mut found = reads::gets(&answer).map(|mut get| get.take_kvs());
    let mut next = || found.next().unwrap_or_default().into_iter();
    let (mut names, mut is_any_starting) = (Vec::new(), false);
    for kv in next() {
        let name = kv.key().strip_prefix(root.hosts().as_bytes());
        names.push(String::from_utf8_lossy(name.unwrap_or_default()).into_owned());
        is_any_starting |= kv.value() == STARTING.as_bytes();
    }
    let taken = next().filter_map(|kv| {
        let key = std::str::from_utf8(kv.key()).ok()?.to_owned();
        let (election, _) = key.rsplit_once('/')?;
        let is_candidate = Prefix::new(election).lease_of(&key).is_some();
        is_candidate.then(|| election.to_owned())
    });
    Ok(Hosts {
        names,
        is_any_starting,
        taken: taken.collect(),
    })
}
