//! `incumbent check`: is the configuration good?

use std::process::ExitCode;

use super::exit::Failure;
use super::options::Options;
use super::output;
use crate::config;
use crate::job::Jobs;

/// Check the configuration, and show what follows from it; starts nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  incumbent check -c /etc/incumbent/backup.toml")]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

/// Reports on the configuration.
pub(super) fn run(args: &Args, jobs: &Jobs) -> Result<ExitCode, Failure> {
    let mut source = args.options.source();
    source.job_kinds = jobs.kinds();
    let loaded = config::load(&source)?;
    let mut report = config::check_report(&loaded, &source);
    let job = &loaded.config.job;
    if job.kind == "command" && job.command.is_empty() {
        report += "warning: job.command: there is none; \"run\" needs one after \"--\" then\n";
    }
    output::write(report)?;
    Ok(ExitCode::SUCCESS)
}
