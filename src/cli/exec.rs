//! `incumbent exec`: one run of a command, by the leader.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use super::exit::Failure;
use super::options::{CommonOptions, HEADING, JobOption, block_on, span, warned};
use super::output;
use super::progress::ProgressLine;
use crate::config::{self, Config, Flag, Restart, keys};
use crate::daemon::once::{self, OnceOutcome, Public, Role};
use crate::etcd::{Error, Store};
use crate::runtime_dir::own::OwnDir;

mod once_per;

/// How long the endpoints may take to disagree. Where they are silent, the wait begins.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// Wait for leadership, run a command once, give back, and exit with the command's own code
///
/// The command has this process's standard input, output and error. SIGTERM, SIGINT, SIGHUP,
/// SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to it. SIGTERM or SIGINT again a second after the
/// first or later kills it, and so does SIGQUIT after either of them. It can't be suspended.
/// Exit codes: that of the command, 128+n if signal n ended it, 127 or 126 if it can't be executed;
/// 3 if it was not started within --wait, 69 if the store was unreachable all that time; 1 if the
/// term was lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent exec --election /jobs/report -- report --daily
  incumbent exec -c /etc/incumbent/backup.toml --wait 10m -- sh -c 'pg_dump shop > shop.sql'
  incumbent exec --election /jobs/report --once-per '30 3 * * *' -- report --daily")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,

    #[command(flatten)]
    job: JobOption,

    /// Name of this candidate, instead of candidate.name
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    name: Option<String>,

    /// How long to wait for leadership; for ever without it
    #[arg(long, value_name = "DURATION", value_parser = span)]
    wait: Option<Duration>,

    /// For a crontab on several hosts: run for the latest slot of this pattern of cron, or exit 0 at
    /// once if another has claimed that
    #[arg(long, value_name = "CRON")]
    once_per: Option<String>,

    /// The time zone of --once-per [default: job.schedule.timezone]
    #[arg(long, value_name = "ZONE", requires = "once_per")]
    timezone: Option<String>,

    /// The command; no shell reads it
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command, if it comes to that.
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut source = args.options.source();
    source.needs_job = true;
    args.job.choose(&mut source);
    let flags = &mut source.flags;
    flags.extend(
        args.name
            .map(|name| Flag::text(keys::CANDIDATE_NAME.name, "--name", name)),
    );
    flags.push(Flag::text(keys::JOB_KIND.name, "--", "command"));
    flags.push(Flag::list(keys::JOB_COMMAND.name, "--", args.command));
    let once_per = args.once_per.is_some();
    for (key, flag, value) in [
        (keys::JOB_SCHEDULE_CRON.name, "--once-per", args.once_per),
        (
            keys::JOB_SCHEDULE_TIMEZONE.name,
            "--timezone",
            args.timezone,
        ),
    ] {
        flags.extend(value.map(|value| Flag::text(key, flag, value)));
    }
    let loaded = config::load(&source)?;
    let is_quiet = !loaded
        .set
        .iter()
        .any(|set| set.key == keys::LOG_FILTER.name);
    let mut config = warned(loaded);
    config.job.restart = Restart::Never;
    if !once_per {
        // It runs now.
        config.scheduling = None;
    }
    if is_quiet {
        // The command's own words are what is to be read.
        "warn".clone_into(&mut config.log.filter);
    }
    crate::fencing::leave_the_term(&config.election.prefix);
    keep_to_the_foreground();
    let parents = [config.runtime_dir.clone(), std::env::temp_dir()];
    let directory = OwnDir::hold(&parents).map_err(Failure::RuntimeDir)?;
    require_agreement(&config)?;
    let election = config.election.prefix.to_string();
    let claim = once_per::Claim::of(&mut config)?;
    if let Some(said) = claim
        .as_ref()
        .map(once_per::Claim::prepare)
        .transpose()?
        .flatten()
    {
        output::complain(said);
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = wait_and_run(config, &directory, args.wait, claim.as_ref());
    // Removed before anything is said: whoever reads that may look.
    drop(directory);
    let outcome = outcome?;
    if let Some(claim) = claim
        && !outcome.ran
        && outcome.signal.is_none()
        && let Some(said) = claim.prepare()?
    {
        output::complain(said);
        return Ok(ExitCode::SUCCESS);
    }
    told(&outcome, &election, args.wait)
}

/// Refuses endpoints that disagree on the cluster, as every command does that is typed; what else
/// is wrong with them the wait will show.
fn require_agreement(config: &Config) -> Result<(), Failure> {
    if config.etcd.endpoints.len() == 1 {
        return Ok(());
    }
    block_on(async {
        let store = Store::unanimous(&config.etcd);
        match store.settle(LONGEST_LOOK).await {
            Err(error @ Error::Disputed(_)) => Err(error.into()),
            _ => Ok(()),
        }
    })
}

fn wait_and_run(
    config: Config,
    directory: &OwnDir,
    wait: Option<Duration>,
    claim: Option<&once_per::Claim>,
) -> anyhow::Result<OnceOutcome> {
    let progress = ProgressLine::new();
    let election = crate::log::printable(config.election.prefix.as_str());
    let watched = |public: &Public| match public.role {
        Role::Waiting | Role::Campaigning => {
            let queue = match public.position {
                Some(0) => "first in the queue".to_owned(),
                Some(position) => format!("joined the queue at {position}"),
                None => "not in the queue yet".to_owned(),
            };
            progress.say(format!("waiting to lead {election}: {queue}"));
        }
        Role::Unhealthy => progress.say(format!(
            "waiting to lead {election}: this host's check fails"
        )),
        _ => progress.clear(),
    };
    let in_vain = async {
        match claim {
            Some(claim) => claim.made().await,
            None => std::future::pending().await,
        }
    };
    once::run(config, directory.dir(), wait, in_vain, watched)
}

/// Says what there is to say, and returns the exit code.
fn told(
    outcome: &OnceOutcome,
    election: &str,
    wait: Option<Duration>,
) -> Result<ExitCode, Failure> {
    let mut code = 1;
    if let Some(ended) = &outcome.ended {
        if let Some(error) = &ended.error {
            output::complain(format_args!("the command can't be executed: {error}"));
        }
        code = ended.exit_code().unwrap_or(1);
    }
    if let Some(reason) = outcome.lost {
        output::complain(format_args!(
            "the term was lost ({reason}), and the command was stopped"
        ));
        // However well it took that: it did not come to its end.
        code = code.max(1);
    } else if !outcome.ran {
        match (outcome.signal, wait) {
            (Some(signal), _) => code = 128 + signal,
            (None, Some(wait)) => {
                let wait = humantime::format_duration(wait);
                if let Some(why) = &outcome.unreachable {
                    return Err(Failure::Unreachable(format!(
                        "the store is unreachable, and was for {wait}; the command was not \
                         started: {why}"
                    )));
                }
                return Err(Failure::Refused(format!(
                    "not elected in {election} within {wait}; the command was not started"
                )));
            }
            (None, None) => output::complain("the command was not started"),
        }
    }
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}

/// In the background of a terminal, the command would take the input that is the shell's: the
/// kernel stops only those of the terminal's own session for that.
fn keep_to_the_foreground() {
    let stdin = io::stdin();
    let foreground = rustix::termios::tcgetpgrp(&stdin);
    if stdin.is_terminal()
        && foreground.is_ok_and(|group| group != rustix::process::getpgrp())
        && let Ok(null) = std::fs::File::open("/dev/null")
    {
        _ = rustix::stdio::dup2_stdin(null);
    }
}
