//! `incumbent pause` and `incumbent resume`: maintenance, during which nobody new leads.

use std::process::ExitCode;

use super::away::Away;
use super::exit::Failure;
use super::nesting::outer_election;
use super::options::{Asking, block_on, who};
use super::output;
use super::progress::ProgressLine;
use crate::clock;
use crate::election::follow::Follower;
use crate::election::queue::Queue;
use crate::election::wishes;
use crate::etcd::Store;
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::keys::Prefix;
use crate::log::printable;
use crate::term::record::PauseRecord;
use crate::wall;

/// Let nobody lead until it is resumed; returns once no job runs
///
/// The leader stops its job and gives up its place; everybody waits in the queue. With
/// --keep-leader the leader keeps its place and its job, but nobody follows it when it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent pause --election /backup
  incumbent pause --election /backup --keep-leader")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,

    /// Let the present leader go on
    #[arg(long)]
    keep_leader: bool,
}

/// End a pause: the first in the queue leads
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  incumbent resume --election /backup")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Pauses the election.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let store = Store::unanimous(&config.etcd);
    block_on(pause(args, store, config.election.prefix))
}

async fn pause(args: &Args, store: Store, prefix: Prefix) -> Result<ExitCode, Failure> {
    let patience = args.asking.patience(&store);
    let queue = Queue::ask(&store, &patience, &prefix).await?;
    if let Some(why) = deaf(&queue, args.keep_leader) {
        return Err(Failure::Refused(why));
    }
    if let Some(outer) = outer_election(&store, &prefix, &patience).await {
        let (this, outer) = (printable(prefix.as_str()), printable(outer.as_str()));
        let why = format!("{this} is nested in election {outer}, which a record of it would block");
        return Err(Failure::Refused(why));
    }
    let record = PauseRecord {
        by: who(),
        since: clock::wall_time(),
        keep_leader: args.keep_leader,
    };
    let put = async |limit| wishes::pause(&store, limit, &prefix, &record).await;
    let paused_at = patience.ask(put).await?;
    let progress = ProgressLine::new();
    let election = printable(prefix.as_str());
    let mut follower = Follower::new(store, prefix, LONGEST_ATTEMPT);
    let mut away = Away::new();
    loop {
        match follower.next().await {
            Ok(queue) if !queue.is_paused() => {
                return Err(Failure::Refused("somebody has resumed it".to_owned()));
            }
            Ok(queue) => match wishes::unpaused(&queue, paused_at) {
                Some(leader) => {
                    let name = printable(&leader.name);
                    progress.say(format!("paused; waiting for {name} to heed it"));
                }
                None => break,
            },
            Err(error) => away.wait(error).await?,
        }
    }
    drop(progress);
    output::write(format!("{election} is paused\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Who would lead on or lead next whatever is asked, if there is one.
fn deaf(queue: &Queue, keep_leader: bool) -> Option<String> {
    let mut candidates = queue.candidates.iter().enumerate();
    let (position, go) = candidates.find(|(_, candidate)| candidate.member.is_none())?;
    if keep_leader && position > 0 {
        return None;
    }
    let (name, lease) = (printable(&go.name), go.lease);
    Some(format!(
        "{name} (lease {lease}) is no incumbent and would lead all the same"
    ))
}

/// Ends the pause.
pub(super) fn resume(args: &ResumeArgs) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let store = Store::unanimous(&config.etcd);
    let prefix = config.election.prefix;
    let patience = args.asking.patience(&store);
    let was_paused = block_on(async {
        let delete = async |limit| wishes::resume(&store, limit, &prefix, wall::now()).await;
        Ok(patience.ask(delete).await?)
    })?;
    let election = printable(prefix.as_str());
    let said = if was_paused {
        "is resumed"
    } else {
        "was not paused"
    };
    output::write(format!("{election} {said}\n"))?;
    Ok(ExitCode::SUCCESS)
}
