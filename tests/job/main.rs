//! What a leader runs, commands and Rust code, the hooks and checks around them, and the guardian
//! that owns all their processes.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod around;
mod command;
mod container;
mod guardian;
mod guardian_faults;
mod health;
mod hooks;
mod leftovers;
mod once;
mod rust;
mod stand;
mod starts;
mod tool;
mod unkillable;
