//! What users type and read: the commands, and the configuration.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod check;
mod config;
mod exec;
mod kv;
mod kv_faults;
mod kv_txn;
mod next;
mod pause;
mod runs;
mod shortage;
mod status;
mod step_down;
mod terminal;
mod trigger;
mod usage;
