//! The guardian: the small process that owns the job's processes.
//!
//! The daemon starts it through [`client`] and tells it, by [`protocol`], which leases there are
//! to give back, which term runs until when, and what to start and stop in it. It alone forks,
//! signals and reaps the job. The invariant: a process of a term lives only while the term's
//! deadline and the daemon allow it, and a lease is given back only for a tree that is proven
//! empty. It knows nothing of elections but how to resign.
//!
//! When the daemon is lost, it stops the job and resigns in the daemon's place. When it is lost
//! itself, the kernel kills the main processes, and the daemon [fences](fence) the rest.
//!
//! Checks of the replica's health run in a guardian of their own: the same process, which decides by
//! `decide::checks` and guards no term.
//!
//! ```text
//! client ──protocol──▶ main ─┬─ decide    what follows from what happened: no I/O, no clock
//!                            ├─ tree      start, signal, reap; launch forks
//!                            ├─ link      the socket, never waited for
//!                            └─ resigner  the store, on a thread of its own
//! ```

mod claims;
pub mod client;
pub(crate) mod decide;
pub mod fence;
mod launch;
mod link;
pub mod main;
pub(crate) mod mark;
pub(crate) mod offspring;
pub(crate) mod orphans;
mod outgoing;
mod proc;
pub mod protocol;
mod resigner;
pub(crate) mod signals;
mod tree;
mod waits;
