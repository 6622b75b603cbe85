//! `incumbent config-schema`: what editors know of a configuration.

use std::process::ExitCode;

use super::exit::Failure;
use super::output;
use crate::config::schema;
use crate::job::Jobs;

/// Print a JSON schema of the configuration, for editors
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: completion, documentation and checks in an editor with taplo or Even Better TOML
  incumbent config-schema > incumbent.schema.json
  sed -i '1i #:schema ./incumbent.schema.json' backup.toml")]
pub(super) struct Args {}

/// Prints it; reads no configuration.
pub(super) fn run(_: &Args, jobs: &Jobs) -> Result<ExitCode, Failure> {
    output::write(schema::text(&jobs.kinds()))?;
    Ok(ExitCode::SUCCESS)
}
