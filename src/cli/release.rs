//! `incumbent release`: the unit's stop hook.

use std::process::ExitCode;

use super::exit::Failure;
use super::options::{Options, block_on};
use crate::config;
use crate::{log, release};

/// For ExecStopPost= of the unit: kill what the job left behind, then give the lease back
///
/// Touches nothing unless the unit's own hook runs it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, in the [Service] section of a unit:
  ExecStopPost=/usr/bin/incumbent release")]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

/// Runs the hook.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let source = args.options.source();
    // What else is wrong was the daemon's to say, and must not keep the hook from its work.
    let settings = config::load(&source).map(|loaded| loaded.config.log);
    let _guard = log::init(&settings.unwrap_or_default());
    let dir = config::runtime_dir(&source);
    let outcome = block_on(async { Ok(release::run(&dir).await) })?;
    Ok(ExitCode::from(outcome.code()))
}
