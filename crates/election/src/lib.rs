//! Leader election through etcd that is hard to use wrongly: what Go's `clientv3/concurrency` has, in one
//! queue with it, and with the safety of the daemon `incumbent`, of which this is the election.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use incumbent_election::{Client, ClientOptions, Term, WriteError};
//!
//! async fn count(term: &Term) -> Result<(), WriteError> {
//!     for count in 0_u64.. {
//!         // Etcd refuses it once another leads, whatever this process believes.
//!         term.put("/demo-count", count.to_string()).await?;
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!     }
//!     Ok(())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn asked_to_end() {}
//! let client = Client::new(&ClientOptions::new(["http://127.0.0.1:2379"]))?;
//! let candidate = client.election("/demo")?.candidate("node1");
//! let work = |term: Term| async move {
//!     // Dropped when the term is ending.
//!     if let Ok(Err(error)) = term.scope(count(&term)).await {
//!         eprintln!("{error}");
//!     }
//! };
//! // Leads whenever it can, until then.
//! candidate.run(asked_to_end(), work).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - **One leader.** A [`Term`] comes of a complete claim, proven by one linearizable transaction, and says
//!   [`is_ending`](Term::is_ending) before its lease can end: the deadline counts from the *sending* of the
//!   last proven renewal, on a clock that goes on while the machine sleeps. Work that ends when its term is
//!   ending, within the graces, never overlaps with the next leader's.
//! - **A thread of its own.** Leases are renewed, keys watched and campaigns waited for on a thread of the
//!   [`Client`]'s: blocking code, dropped futures and foreign runtimes can't reach it. A `tracing` subscriber
//!   can, if it blocks.
//! - **Losses are heard at once.** A key that is deleted or a lease that is revoked ends the term in
//!   milliseconds. So do an operator's `step-down` and `pause`.
//! - **Nothing is left behind.** A campaign that is dropped withdraws its key. A term is given back once the
//!   last clone of it is gone, and not before.
//! - **Fencing.** Each term has a [token](Term::token) that only rises, and writes that etcd refuses once the
//!   term is over.
//!
//! # What doesn't
//!
//! Work that goes on when its term has ended can't be stopped: here is no guardian, as the daemon has. A
//! guarded write is safe even then; what it does elsewhere is only fenced where the token is checked.
//! A lease that is revoked early leaves the work of that term the [takeover delay](Candidate::takeover_delay)
//! to end, if whoever comes next waited in the queue or finds the term on record.

#![cfg_attr(
    not(feature = "daemon"),
    allow(
        clippy::ref_option,
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "the daemon uses more of the rooms than the interface does"
    )
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "incumbent-election runs on Linux: it counts deadlines on clocks and timers of that kernel's"
);

mod api;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod internals;
#[cfg(not(feature = "daemon"))]
mod internals;

use internals::{
    backoff, clock, election, etcd, keys, kv, os_text, reason, revision, schedule, session, term,
    timing, vital, wall, worker,
};

pub use api::{
    Answers, CampaignError, Candidate, Change, Client, ClientOptions, Election, Ending, Event,
    GuardedTxn, Leader, Leadership, Lock, LockGuard, Observer, OptionsError, Password, ResignError,
    Term, Tls, User, Value, Waiting, Watcher, WriteError,
};
pub use internals::election::Progress;
pub use internals::etcd::Error;
pub use internals::keys::NotAPrefix as PrefixError;
pub use internals::revision::{NotAToken as TokenError, Revision, Token};
pub use internals::session::Loss;

/// Compiles the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ElectionReadme;
