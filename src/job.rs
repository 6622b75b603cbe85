//! Jobs: what a leader runs.
