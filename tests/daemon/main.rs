//! The life of the daemon: how it gets into the store, what it shows, how it is told and how it ends.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod auth;
mod descriptors;
mod exhaustion;
mod fifty;
mod http;
mod jobs;
mod names;
mod page;
mod paths;
mod reload;
mod secrets;
mod shutdown;
mod spread;
mod tls;
mod twenty;
mod watchdog;
