//! Who leads, and who comes next, against a real etcd and whatever befalls it.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod clocks;
mod crowd;
mod failover;
mod go;
mod grpc_proxy;
mod library;
mod life;
mod members;
mod partition;
mod queue;
mod records;
mod strays;
mod unclean_ends;
mod values;
