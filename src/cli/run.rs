//! `incumbent run`: the daemon.

use std::process::ExitCode;

use super::exit::Failure;
use super::options::{CommonOptions, HEADING, warned_of};
use crate::config::{self, Flag, keys};
use crate::fencing;
use crate::job::Jobs;
use crate::runtime_dir::RuntimeDir;

/// Run the daemon: stand in the election, and run the job while this is the leader
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent run -c /etc/incumbent/backup.toml
  incumbent run --endpoints http://etcd1:2379,http://etcd2:2379 --election /backup -- backup --loop")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,

    /// Name of this candidate, instead of candidate.name
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    name: Option<String>,

    /// The job's command, instead of job.command; no shell reads it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the daemon to its end.
pub(super) fn run(args: Args, jobs: Jobs) -> Result<ExitCode, Failure> {
    let mut source = args.options.source();
    source.needs_job = true;
    source.job_kinds = jobs.kinds();
    source.judge = jobs.judge();
    if let Some(name) = args.name {
        source
            .flags
            .push(Flag::text(keys::CANDIDATE_NAME.name, "--name", name));
    }
    if !args.command.is_empty() {
        source
            .flags
            .push(Flag::list(keys::JOB_COMMAND.name, "--", args.command));
    }
    let configs = warned_of(config::load_jobs(&source)?);
    for config in configs.iter() {
        fencing::leave_the_term(&config.election.prefix);
    }
    // Before there are logs: it is the user's to mend, as the rest of the configuration is.
    let shared = configs.shared();
    let directory = RuntimeDir::hold(&shared.runtime_dir).map_err(Failure::RuntimeDir)?;
    let prepared = jobs.prepare_now();
    if prepared != ExitCode::SUCCESS {
        return Ok(prepared);
    }
    Ok(crate::daemon::run(configs, source, jobs, directory))
}
