//! Scheduled jobs, with real etcd members and real processes: which slots are run, by whom, and what
//! the store keeps of it when somebody dies at a bad moment.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod complete;
mod crashes;
mod policy;
mod stage;
