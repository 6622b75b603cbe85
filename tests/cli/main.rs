//! What users type and read: the commands, and the configuration.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod check;
mod config;
mod exec;
mod kv;
mod kv_faults;
mod pause;
mod shortage;
mod status;
mod step_down;
mod terminal;
mod usage;
