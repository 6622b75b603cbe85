//! Jobs: what a leader runs.

pub mod restart;

/// The jobs in Rust that this binary knows by name.
#[derive(Debug, Default)]
pub struct Jobs {}

impl Jobs {
    /// The names that `job.kind` may have beside `command`.
    pub fn kinds(&self) -> Vec<String> {
        Vec::new()
    }
}
