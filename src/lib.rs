//! Runs a job on exactly one of several machines.

pub mod backoff;
pub mod candidate;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod election;
pub mod etcd;
pub mod fencing;
pub mod guardian;
pub mod job;
pub mod keys;
pub mod kv;
pub mod log;
pub mod notify;
pub mod proc;
pub mod release;
pub mod role;
pub mod runtime_dir;
pub mod session;
pub mod signals;
pub mod status;
pub mod term;

pub use cli::main;
pub use job::{Job, JobError, Jobs};
pub use term::Term;

/// Compiles the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
