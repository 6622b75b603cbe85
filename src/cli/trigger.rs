//! `incumbent trigger`: a run of a scheduled job now.

use std::process::ExitCode;
use std::time::Duration;

use super::away::Away;
use super::exit::Failure;
use super::options::{Asking, block_on, who};
use super::output;
use super::progress::ProgressLine;
use crate::clock;
use crate::election::follow::Follower;
use crate::election::queue::Queue;
use crate::election::wishes;
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::etcd::{Error, Store};
use crate::keys::Prefix;
use crate::log::printable;
use crate::revision::{Revision, Token};
use crate::schedule::Occasion;
use crate::schedule::record::{HistoryEntry, Outcome, Verdict};
use crate::term::record::{Trigger, TriggerAnswer};
use crate::term::run_book::RunBook;

/// How long a leader may take to answer, over and above the time that the store may take.
const ANSWER: Duration = Duration::from_secs(10);

/// No history is longer.
const RUNS: usize = 1_100;

/// Run a scheduled job now, whatever its schedule says
///
/// The leader runs it, as "manual"; no slot is used up. Refused (exit code 3), with nothing run,
/// while a run is open, unless --queue; and if nobody leads, the election is paused, or the leader's
/// job has no schedule. With --wait the exit code is the job's, 128+n if signal n ended it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent trigger --election /backup
  incumbent trigger --wait && echo done")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,

    /// Return once the run is over
    #[arg(long)]
    wait: bool,

    /// If a run is open, run after it
    #[arg(long)]
    queue: bool,
}

/// Asks for a run.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let store = Store::unanimous(&config.etcd);
    block_on(ask(args, store, config.election.prefix))
}

async fn ask(args: &Args, store: Store, prefix: Prefix) -> Result<ExitCode, Failure> {
    let patience = args.asking.patience(&store);
    let queue = Queue::ask(&store, &patience, &prefix).await?;
    let Some(leader) = queue.leader().filter(|leader| leader.member.is_some()) else {
        let why = if queue.is_paused() {
            "the election is paused"
        } else {
            "nobody leads"
        };
        return Err(Failure::Refused(why.to_owned()));
    };
    let name = printable(&leader.name);
    if queue.schedule.is_none() {
        let why = format!("{name} leads, and its job has no schedule");
        return Err(Failure::Refused(why));
    }
    let record = Trigger {
        by: who(),
        since: clock::wall_time(),
        token: Some(leader.token),
        queue: args.queue,
        answer: None,
    };
    let of = (&prefix, leader.lease, leader.token);
    let put = async |limit| wishes::trigger(&store, limit, of, &record).await;
    let Some(asked_at) = patience.ask(put).await? else {
        return Err(Failure::Refused(format!("{name} leads no more")));
    };
    let answer = tokio::select! {
        answer = answered(&store, &prefix, &record, asked_at) => answer?,
        () = clock::sleep(ANSWER) => None,
    };
    let Some(answer) = answer else {
        // Nobody is to come to it later.
        let take_back =
            async |limit| wishes::take_trigger_back(&store, limit, &prefix, asked_at).await;
        patience.ask(take_back).await?;
        return Err(Failure::Refused(format!("{name} did not answer")));
    };
    let told = match answer.verdict {
        Verdict::Claimed => "the job starts",
        Verdict::Queued => "the job starts once the run that is open is over",
        Verdict::Open => {
            return Err(Failure::Refused(
                "a run is open; --queue runs after it".to_owned(),
            ));
        }
        Verdict::Paused => return Err(Failure::Refused("the election is paused".to_owned())),
        Verdict::Ending => return Err(Failure::Refused(format!("the term of {name} ends"))),
        Verdict::Held => {
            let why = "the leader starts nothing: its clock is behind, or the schedule's record can't be read";
            return Err(Failure::Refused(why.to_owned()));
        }
    };
    if !args.wait {
        output::write(format!("{told}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let progress = ProgressLine::new();
    progress.say(format!("{told}; waiting for its end"));
    let Some(run) = ended(&store, &prefix, (leader.token, answer.seq)).await? else {
        let why = format!("the term of {name} ended before the job was started");
        return Err(Failure::Refused(why));
    };
    drop(progress);
    output::write(format!(
        "{} after {}\n",
        run.result.word(),
        super::runs::span(Duration::from_millis(run.took_ms))
    ))?;
    Ok(ExitCode::from(code(&run)))
}

/// The exit code that stands for how a run ended.
fn code(run: &HistoryEntry) -> u8 {
    let code = match (run.code, run.signal) {
        (Some(code), _) => code & 0xff,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 0,
    };
    let code = u8::try_from(code).unwrap_or(1);
    // However well it took its stop: it did not come to its end.
    if run.result == Outcome::Success {
        code
    } else {
        code.max(1)
    }
}

/// Waits for the leader's answer, if it gives one.
async fn answered(
    store: &Store,
    prefix: &Prefix,
    asked: &Trigger,
    asked_at: Revision,
) -> Result<Option<TriggerAnswer>, Failure> {
    let read = async || wishes::read_trigger(store, LONGEST_ATTEMPT, prefix).await;
    let find = |_: &Queue, seen: Option<(Revision, Trigger)>| match seen {
        Some((at, _)) if at == asked_at => Ok(None),
        Some((_, trigger)) if trigger.by == asked.by && trigger.since == asked.since => {
            Ok(Some(trigger.answer))
        }
        _ => {
            let why = "another wish has overtaken this one";
            Err(Failure::Refused(why.to_owned()))
        }
    };
    found(store, prefix, read, find).await
}

/// Waits for the end of the first run that was asked for after the record `seq`, in the term with this token;
/// `None` if that has ended without one, since nobody else heeds the wish.
async fn ended(
    store: &Store,
    prefix: &Prefix,
    (token, seq): (Token, u64),
) -> Result<Option<HistoryEntry>, Failure> {
    let read = async || RunBook::read(store, LONGEST_ATTEMPT, prefix, RUNS).await;
    let find = |queue: &Queue, book: RunBook| {
        let mut runs = book.runs.into_iter().rev();
        let run = runs.find(|(at, run)| *at > seq && run.slot == Occasion::Manual);
        if let Some((_, run)) = run {
            return Ok(Some(Some(run)));
        }
        // The queue was read first: what was begun in a term that is over stands in the state.
        let leads = queue.leader().is_some_and(|leader| leader.token == token);
        let open = book.state.map(|state| state.map(|state| state.open));
        let may_come = leads || !matches!(open, Some(Ok(None)));
        Ok((!may_come).then_some(None))
    };
    found(store, prefix, read, find).await
}

/// Reads whenever something has changed, until what is looked for is found; goes on while the store is
/// away.
async fn found<R, T>(
    store: &Store,
    prefix: &Prefix,
    read: impl AsyncFn() -> Result<R, Error>,
    find: impl Fn(&Queue, R) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let mut follower = Follower::new(store.clone(), prefix.clone(), LONGEST_ATTEMPT);
    let mut away = Away::new();
    loop {
        let seen = match follower.next().await {
            Ok(queue) => read().await.map(|seen| (queue, seen)),
            Err(error) => Err(error),
        };
        match seen {
            Ok((queue, seen)) => {
                if let Some(found) = find(&queue, seen)? {
                    return Ok(found);
                }
            }
            Err(error) => {
                away.wait(error).await?;
                follower.forget();
            }
        }
    }
}
