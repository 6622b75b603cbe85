//! The guardian: the small process that owns the job's processes.

pub mod client;
mod decide;
pub mod protocol;
