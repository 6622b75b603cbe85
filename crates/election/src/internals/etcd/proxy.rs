//! Telling a member of the store from etcd's grpc-proxy before it.
//!
//! The proxy renews leases by itself, every third of their TTL, and hands out what it was told. Its
//! acknowledgement may be of a renewal that was sent before ours, or of none, and comes after more
//! than a renewal may take; so no deadline can be counted from it (R1).
//!
//! It is told by its watches: it numbers them itself, where a member takes the numbers that it is
//! given.

use std::time::Duration;

use super::watch::{Target, Watch};
use super::{Error, Store};
use crate::revision::Revision;

/// The key that is watched for a moment. It need not be there, nor be permitted.
const KEY: &[u8] = b"incumbent";

impl Store {
    /// Makes sure that the current member is one, which it shows once and for all.
    ///
    /// # Errors
    /// [`Error::Proxied`] if it is a proxy; others as [`attempt`](Self::attempt), which say nothing.
    pub async fn require_member(&self, limit: Duration) -> Result<(), Error> {
        let member = self.current();
        if member.shown.get().is_some() {
            return Ok(());
        }
        let shown = tokio::time::timeout(limit, self.watch_for_a_moment(limit));
        shown.await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                endpoint: member.endpoint.clone(),
                limit,
            })
        })
    }

    /// Makes sure that the current member is one, and goes on to the next where it is a proxy.
    ///
    /// # Errors
    /// [`Error::Proxied`] if there are only proxies. Whatever else goes wrong, the next request will
    /// tell.
    pub async fn find_member(&self, limit: Duration) -> Result<(), Error> {
        let mut found = Ok(());
        for _ in 0..self.member_count() {
            found = self.require_member(limit).await;
            if !matches!(found, Err(Error::Proxied { .. })) {
                return Ok(());
            }
        }
        found
    }

    /// Opens a watch, and takes what answers for what it shows itself to be.
    async fn watch_for_a_moment(&self, limit: Duration) -> Result<(), Error> {
        let mut watch = Watch::open(
            self,
            limit,
            vec![Target::Key(KEY.to_vec())],
            Revision::default(),
        )
        .await?;
        watch.answered().await?;
        // Not the current one by now, perhaps.
        let member = watch.member();
        if watch.is_proxied() == Some(true) {
            self.give_up_on(member);
            return Err(Error::Proxied {
                endpoint: member.endpoint.clone(),
                setting: self.wording().of("etcd.endpoints"),
            });
        }
        if watch.is_proxied() == Some(false) {
            member.shown.get_or_init(|| ());
        }
        Ok(())
    }
}
