//! `incumbent reload`: a new configuration without losing the term.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::exit::Failure;
use super::options::{CommonOptions, block_on, span};
use super::output;
use crate::config;
use crate::http::Reloaded;
use crate::runtime_dir::CONTROL_SOCKET;

/// Have the daemon on this host read its configuration anew, and wait for the outcome
///
/// The term goes on. A configuration with a fault, or one that changes what can't change while the
/// daemon runs, changes nothing: its problems are printed, and the exit code is 78.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent reload
  incumbent reload -c /etc/incumbent/backup.toml")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,

    /// How long to wait for the daemon's answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span)]
    timeout: Duration,
}

/// Asks the daemon whose runtime directory the configuration names.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // Whatever else is wrong is the daemon's to find: it reads the same file.
    let found = config::readable(&args.options.source());
    // Typed beside the unit, whose runtime directory systemd chooses.
    let is_there = |dir: &std::path::PathBuf| dir.join(CONTROL_SOCKET).exists();
    let directory = found.of_unit.filter(is_there).unwrap_or(found.runtime_dir);
    let asking = Reloaded::ask(&directory, args.timeout);
    let outcome = block_on(async { Ok(asking.await.context("cannot reload")?) })?;
    if outcome.reloaded {
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &outcome.problems {
        output::complain(problem);
    }
    let changed = match outcome.problems.len() {
        1 => "1 problem in the configuration; nothing was changed".to_owned(),
        count => format!("{count} problems in the configuration; nothing was changed"),
    };
    Err(Failure::Misconfigured(changed))
}
