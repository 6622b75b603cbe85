//! Leader election through etcd, as the daemon `incumbent` does it.

#![cfg_attr(
    not(feature = "daemon"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "the daemon uses more of the rooms than the interface does"
    )
)]

#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod internals;
#[cfg(not(feature = "daemon"))]
mod internals;

use internals::{
    backoff, clock, etcd, keys, os_text, reason, session, term, timing, vital, worker,
};
