//! `incumbent runs resolve` and `incumbent runs rewind`: what only a person can know.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::exit::Failure;
use crate::cli::options::{Asking, block_on, who};
use crate::cli::output;
use crate::cli::runs::span;
use crate::config::Config;
use crate::etcd::{Error, Store};
use crate::schedule::record::{Outcome, State};
use crate::schedule::{Occasion, Slot};
use crate::term::run_book::{RepairError, RunBook};
use crate::wall::{self, Time};

/// How many records are read: those of a lost run may be any of the last.
const LOOKED_AT: usize = 1_100;

/// How many records are kept where the configuration doesn't say.
const HISTORY: u64 = 1_000;

/// Say what became of a run whose end nobody recorded
///
/// It must be the last slot that was run, and lost. Refused (exit code 3), with nothing changed, if
/// it is not, or while a run is open, or if it is to be run again and later than `start_within`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent runs resolve 2027-03-28T01:00:00Z --as success
  incumbent runs resolve 2027-03-28T01:00:00Z --as rerun")]
pub(super) struct ResolveArgs {
    #[command(flatten)]
    asking: Asking,

    /// The slot, as "runs" names it
    slot: Slot,

    /// What became of it: it was done, it wasn't and shall not be, or it is to be run again
    #[arg(long = "as", value_enum, value_name = "RESULT")]
    result: Resolution,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Resolution {
    Success,
    Failure,
    Rerun,
}

impl Resolution {
    const fn outcome(self) -> Outcome {
        match self {
            Self::Success => Outcome::Success,
            Self::Failure => Outcome::Failure,
            Self::Rerun => Outcome::Rerun,
        }
    }
}

/// Set a schedule back, or forth: no slot up to TIME is run, those after it are due
///
/// For a mark from the future, as a host leaves that ran with a wrong clock: nothing is due before
/// it. What was run after TIME may be run again. Refused (exit code 3), with nothing changed, while
/// a run is open. The history keeps who did it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  incumbent runs rewind --to 2027-03-28T01:00:00Z")]
pub(super) struct RewindArgs {
    #[command(flatten)]
    asking: Asking,

    /// RFC 3339; or a date, with or without a time of day, in the schedule's time zone
    #[arg(long, value_name = "TIME")]
    to: String,
}

/// Settles a lost run.
pub(super) fn resolve(args: &ResolveArgs) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let (slot, result) = (args.slot, args.result.outcome());
    if args.result == Resolution::Rerun
        && let Some(setup) = config.planner_setup()
        && let Some(most) = setup.policy.start_within
        && setup.is_too_late(slot, wall::now())
    {
        let most = span(most);
        let why = format!(
            "{slot} is later than job.schedule.start_within, {most}: nothing runs it any more"
        );
        return Err(Failure::Refused(why));
    }
    let is_done = |state: &State| {
        let last = state.last.as_ref();
        last.is_some_and(|last| last.slot == Occasion::Slot(slot) && last.result == result)
    };
    let write = async |book: &RunBook, store: &Store, limit| {
        let prefix = &config.election.prefix;
        book.resolve(store, limit, prefix, slot, result).await
    };
    repaired(&args.asking, &config, is_done, &write)?;
    let told = match args.result {
        Resolution::Success => "is recorded as a success",
        Resolution::Failure => "is recorded as a failure",
        Resolution::Rerun if config.scheduling.is_some() => "is to be run again",
        Resolution::Rerun => "is to be run again, if job.schedule.start_within lets it",
    };
    output::write(format!("{slot} {told}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Sets the schedule to a time.
pub(super) fn rewind(args: &RewindArgs) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let scheduling = config.scheduling.as_ref();
    let usage = |why: &dyn Display| Failure::Usage(format!("--to: {why}"));
    let to = match scheduling {
        Some(scheduling) => {
            let to = scheduling.schedule.time(&args.to);
            to.map_err(|why| usage(&why))?.time()
        }
        None => args.to.parse::<Time>().map_err(|why| usage(&why))?,
    };
    let history = scheduling.map_or(HISTORY, |scheduling| scheduling.policy.history);
    let by = who();
    let is_done = |state: &State| state.since == to && state.last.is_none();
    let write = async |book: &RunBook, store: &Store, limit| {
        let prefix = &config.election.prefix;
        let how = (to, wall::now(), &*by);
        book.rewind(store, limit, prefix, how, history).await
    };
    repaired(&args.asking, &config, is_done, &write)?;
    output::write(format!("slots after {to} are due\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the records, and writes what is to be mended, until that stands. Where an attempt wasn't
/// answered, the next look tells whether it was done.
fn repaired(
    asking: &Asking,
    config: &Config,
    is_done: impl Fn(&State) -> bool,
    write: &impl AsyncFn(&RunBook, &Store, Duration) -> Result<bool, RepairError>,
) -> Result<(), Failure> {
    let store = Store::unanimous(&config.etcd);
    let patience = asking.patience(&store);
    let prefix = &config.election.prefix;
    let mut in_doubt = false;
    let attempt = async |limit: Duration| -> Result<Result<(), RepairError>, Error> {
        loop {
            let book = RunBook::read(&store, limit, prefix, LOOKED_AT).await?;
            if in_doubt && book.readable().is_some_and(&is_done) {
                return Ok(Ok(()));
            }
            in_doubt = true;
            match write(&book, &store, limit).await {
                Ok(true) => return Ok(Ok(())),
                // Somebody else has written meanwhile.
                Ok(false) => in_doubt = false,
                Err(RepairError::Store(error)) => return Err(error),
                Err(refused) => return Ok(Err(refused)),
            }
        }
    };
    let done = block_on(async { Ok(patience.ask(attempt).await?) })?;
    done.map_err(|why| Failure::Refused(why.to_string()))
}
