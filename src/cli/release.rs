//! `incumbent release`: the unit's stop hook.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::exit::Failure;
use super::options::Options;
use super::output;
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
    let (dir, settings) = find(&args.options)?;
    let _guard = log::init(&settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(release::run(&dir));
    Ok(ExitCode::from(outcome.code()))
}

/// The runtime directory, and how to log.
///
/// systemd hands its hooks no credentials, so a configuration that names some is found wrong here
/// though it was good enough for the daemon. The unit's own directory is as good as its word then.
fn find(options: &Options) -> Result<(PathBuf, log::Settings), Failure> {
    let problems = match config::load(&options.source()) {
        Ok(loaded) => return Ok((loaded.config.runtime_dir, loaded.config.log)),
        Err(problems) => problems,
    };
    let listed = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let dir = listed
        .to_string_lossy()
        .split(':')
        .next()
        .map(PathBuf::from);
    match dir.filter(|dir| dir.is_absolute()) {
        Some(dir) => {
            output::complain_as_is(&problems);
            Ok((dir, log::Settings::default()))
        }
        None => Err(problems.into()),
    }
}
