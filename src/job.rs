//! Jobs: what a leader runs.

pub mod restart;
