//! What of the job can't be killed, for whoever looks from elsewhere.

use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::{Backoff, jitter};
use crate::clock;
use crate::etcd::Store;
use crate::keys::{LeaseId, Prefix};
use crate::term::member::MemberPlace;
use crate::term::record::{MemberRecord, Unkillable};

/// First and largest pause between attempts to show it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What can't be killed, and the lease of its candidacy; `None` before anything was told.
pub(super) type ShownUnkillable = Option<(LeaseId, Vec<Unkillable>)>;

/// Puts what can't be killed into the member record, each time until it stands there: those who wait
/// for the term to end have nowhere else to look.
pub(super) async fn show_unkillable(
    store: Store,
    prefix: Prefix,
    limit: Duration,
    mut told: watch::Receiver<ShownUnkillable>,
) {
    while told.changed().await.is_ok() {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let Some((lease, unkillable)) = told.borrow_and_update().clone() else {
                break;
            };
            let place = MemberPlace {
                prefix: &prefix,
                lease,
            };
            let show = |member: &mut MemberRecord| member.unkillable = unkillable;
            match place.amend(&store, limit, None, show).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "member record not changed");
                    clock::sleep(pauses.next(jitter())).await;
                }
            }
        }
    }
}
