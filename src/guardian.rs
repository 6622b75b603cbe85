//! The guardian: the small process that owns the job's processes.

pub mod client;
mod decide;
pub mod fence;
mod link;
pub mod main;
mod proc;
pub mod protocol;
mod resigner;
mod tree;
