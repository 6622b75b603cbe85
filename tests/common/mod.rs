//! The harness: real etcd members, a proxy for each, the built daemon, and a job that keeps a
//! record from which overlap is measured.
//!
//! Every test has a cluster and a temporary folder of its own, so the files and the tests of a
//! file run beside each other. Variables that change how the harness works:
//!
//! | variable | means |
//! |---|---|
//! | `ETCD`, `ETCDCTL` | the etcd and the `etcdctl` to run, instead of those in `PATH` |
//! | `INCUMBENT_BIN` | the daemon to test, instead of the one just built |
//! | `INCUMBENT_TEST_PATIENCE` | factor on every budget, for slow machines (default 1) |
//! | `INCUMBENT_TEST_SLOTS` | how many clusters may run at once on this machine (default 2) |
//! | `INCUMBENT_TEST_KEEP` | keep the temporary folder of tests that pass, too |
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each tests/*.rs compiles the harness anew and uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a harness that fails should fail the test at once, and say where the logs are"
)]

pub mod cluster;
pub mod command;
pub mod config;
pub mod contenders;
pub mod daemon;
pub mod example;
pub mod held;
pub mod http;
pub mod names;
pub mod ordinary;
pub mod output;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod random;
pub mod record;
pub mod sandbox;
pub mod scene;
pub mod security;
pub mod source;
pub mod store;
pub mod terminal;
pub mod timens;
pub mod wait;

pub use cluster::Cluster;
pub use command::{Answer, Followed, is_there, skipped};
pub use contenders::{Contenders, Served};
pub use daemon::{Daemon, PREFIX, program};
pub use example::example;
pub use held::HeldProgram;
pub use output::Line;
pub use proxy::{Direction, Links, Proxy};
pub use random::Random;
pub use record::{History, Record};
pub use sandbox::Sandbox;
pub use scene::{SOON, STOPPED, Scene};
pub use security::{Authority, Issued, ROOT, Tls};
pub use source::sources;
pub use store::{Candidate, Vigil, runtime};
pub use terminal::{shown, terminal};
pub use wait::{comes, eventually, millis, patience, secs, throughout};
