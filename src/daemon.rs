//! The daemon: config, guardian, candidate, signals and notifications put together.

use std::process::ExitCode;

use crate::config::{Config, Source};
use crate::job::Jobs;

/// Runs the daemon to its end.
pub fn run(_config: Config, _source: Source, _jobs: Jobs) -> ExitCode {
    ExitCode::FAILURE
}
