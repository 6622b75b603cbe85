//! What belongs to the project itself: its harness, its pages, its layout, what it ships.

#![allow(clippy::unwrap_used, reason = "a helper of tests is part of them")]

#[path = "../common/mod.rs"]
mod common;

mod dashboard;
mod dist;
mod docs;
mod examples;
mod harness;
mod harness_faults;
mod links;
mod names;
mod proof;
mod rooms;
mod rpm;
mod unit_file;
