//! The shipped unit under a real system manager, against a real etcd: what `rig.sh` boots.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests fail as the tests do"
)]
#![allow(
    clippy::print_stdout,
    reason = "measured times are shown with --nocapture"
)]

#[path = "../common/mod.rs"]
mod common;
mod replicas;
mod rig;
mod store;

mod bench;
mod check;
mod credentials;
mod ends;
mod exhaustion;
mod faults;
mod hook;
mod package;
mod torture;
mod unit;
mod watchdog;
