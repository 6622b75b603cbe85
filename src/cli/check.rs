//! `incumbent check`: is the configuration good, and with `--connect`, is the store?

use std::process::ExitCode;
use std::time::Duration;

use super::exit::Failure;
use super::options::{CommonOptions, block_on, span};
use super::output;
use crate::config;
use crate::job::Jobs;
use crate::wall;

mod connect;
mod election;
mod host;
mod members;
mod role;

/// Check the configuration, and show what follows from it; starts nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent check -c /etc/incumbent/backup.toml
  incumbent check --connect -c /etc/incumbent/backup.toml
  incumbent check --print-role -c /etc/incumbent/backup.toml | sh -ex")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,

    /// Ask the store too: versions with known bugs, the smallest TTL, round trips, the queue; and
    /// look at this host's clock and unit
    #[arg(long)]
    connect: bool,

    /// Print instead how to make a user and a role that may touch the keys of this election and no
    /// others: lines of etcdctl, to be run by who may manage the store's users
    #[arg(long, conflicts_with = "connect")]
    print_role: bool,

    /// How long to try to reach the store
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = span, requires = "connect")]
    timeout: Duration,
}

/// Reports on the configuration, and on what it leads to.
pub(super) fn run(args: &Args, jobs: &Jobs) -> Result<ExitCode, Failure> {
    let mut source = args.options.source();
    source.job_kinds = jobs.kinds();
    source.judge = jobs.judge();
    let loaded = config::load_jobs(&source)?;
    let configs = &loaded.configs;
    if args.print_role {
        output::write(role::lines(&configs.shared().without_name()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = config::check_report(&loaded, &source, wall::now());
    for config in configs.iter() {
        let job = &config.job;
        if job.kind == "command" && job.command.is_empty() {
            let warning = match &config.job_name {
                Some(name) => {
                    format!("warning: jobs.{name}.command: there is none; \"run\" needs one\n")
                }
                None => {
                    "warning: job.command: there is none; \"run\" needs one after \"--\" then\n"
                        .to_owned()
                }
            };
            report.push_str(&warning);
        }
    }
    let may_start = crate::proc::sees_own_children()
        .and_then(|()| crate::proc::look::listed().map(drop))
        .and_then(|()| crate::proc::ticks::children_share_clocks());
    if let Err(why) = may_start {
        let warning = format!("warning: \"run\" would not start here: {why}\n");
        report.push_str(&warning);
    }
    output::report(&report)?;
    if args.connect {
        let is_scheduled = configs.iter().any(|config| config.scheduling.is_some());
        let file = configs.shared().file.as_deref();
        output::report(&host::report(file, is_scheduled))?;
        block_on(connect::check(configs, args.timeout))?;
    }
    Ok(ExitCode::SUCCESS)
}
