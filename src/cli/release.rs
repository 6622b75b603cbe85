//! `incumbent release`: the unit's stop hook.

use std::process::ExitCode;

use super::exit::Failure;
use super::options::{CommonOptions, block_on};
use super::output;
use crate::config;
use crate::{log, release};

/// For ExecStopPost= of the unit: kill what the job left behind, then give the lease back
///
/// Touches nothing unless the unit's own hook runs it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, in the [Service] section of a unit:
  ExecStopPost=+/usr/bin/incumbent release")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,
}

/// Runs the hook.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = config::readable(&args.options.source());
    // While there is one thread.
    let dir = release::open(&config.runtime_dir);
    // A unit that is full of processes leaves no thread for the log: to fence it is worth more.
    let _guard = log::init(&config.log)
        .inspect_err(|error| output::complain(format_args!("no thread for the log: {error}")));
    let outcome = block_on(async { Ok(release::run(dir).await) })?;
    Ok(ExitCode::from(outcome.code()))
}
