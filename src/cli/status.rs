//! `incumbent status`: who leads, and who stands in the queue.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::away::Away;
use super::exit::Failure;
use super::look::{Look, LookMark};
use super::options::{AskedAbout, Asking, block_on};
use super::output;
use super::runs::{in_seconds, span};
use super::table::{Table, short};
use crate::clock;
use crate::election::follow::Follower;
use crate::etcd::patience::{self, LONGEST_ATTEMPT};
use crate::etcd::{Error, Store};
use crate::keys::Prefix;
use crate::log;
use crate::status::{CandidateStatus, ElectionStatus, InPause, OF_LAST_TERM, ScheduleStatus};
use crate::wall;

mod jobs;
#[cfg(test)]
mod tests;

/// How often the time that the leases have left is asked for anew.
const REFRESH: Duration = Duration::from_secs(5);

/// Clears a terminal, and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show who leads, and who stands in the queue; of several jobs a line each
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent status --election /backup
  incumbent status --job backup
  incumbent status -o json | jq -r .leader.name
  incumbent status --watch")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,

    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = StatusFormat::Table)]
    output: StatusFormat,

    /// Go on, and show each change: on a terminal in place of the last, else below it
    #[arg(long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    Table,
    Json,
}

/// Shows the status.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = match args.asking.load_all()? {
        AskedAbout::One(config) => config,
        AskedAbout::All(configs) => {
            let patience = |store: &Store| args.asking.patience(store);
            return block_on(async {
                tokio::select! {
                    ended = jobs::run(&configs, patience, args.output, args.watch) => ended,
                    () = output::closed(), if args.watch => Ok(ExitCode::SUCCESS),
                }
            });
        }
    };
    let store = Store::unanimous(&config.etcd);
    let planned = |status: ElectionStatus| {
        let status = status.with_preference(&config.prefer);
        status.with_schedule(config.schedule(), wall::now())
    };
    if args.watch {
        return block_on(async {
            tokio::select! {
                failed = watch(store, &config.election.prefix, args.output, planned) => failed,
                () = output::closed() => Ok(ExitCode::SUCCESS),
            }
        });
    }
    let patience = args.asking.patience(&store);
    let prefix = &config.election.prefix;
    block_on(async {
        let failure = match ElectionStatus::read(&store, prefix, &patience).await {
            Ok(status) => {
                output::write(render(&planned(status), args.output)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(failure) => failure,
        };
        if matches!(failure, patience::Failure::Store(Error::Disputed(_))) {
            // What most of the endpoints say is shown all the same.
            let store = Store::new(&config.etcd);
            if let Ok(status) = ElectionStatus::read(&store, prefix, &patience).await {
                output::write(render(&planned(status), args.output)?)?;
            }
        }
        Err(failure.into())
    })
}

fn render(status: &ElectionStatus, format: StatusFormat) -> Result<String, Failure> {
    Ok(match format {
        StatusFormat::Table => table(status, Look::of_stdout()),
        StatusFormat::Json => log::json(status).context("no JSON")? + "\n",
    })
}

/// Shows each change until nobody reads any more; goes on while the store is away.
async fn watch(
    store: Store,
    prefix: &Prefix,
    format: StatusFormat,
    planned: impl Fn(ElectionStatus) -> ElectionStatus,
) -> Result<ExitCode, Failure> {
    let redraws = format == StatusFormat::Table && output::width().is_some();
    let mut follower = Follower::new(store.clone(), prefix.clone(), LONGEST_ATTEMPT);
    let mut away = Away::new();
    let mut queue = None;
    let mut shown: Option<ElectionStatus> = None;
    loop {
        // Only the time that the leases have left changes without a word of the store's.
        let due = async {
            match &queue {
                Some(_) if redraws => clock::sleep(REFRESH).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            next = follower.next() => match next {
                Ok(next) => queue = Some(next),
                Err(error) => {
                    away.wait(error).await?;
                    continue;
                }
            },
            () = due => {}
        }
        let Some(queue) = queue.clone() else { continue };
        let status = ElectionStatus::with_lifetimes(&store, prefix, queue, LONGEST_ATTEMPT).await;
        let status = planned(status);
        let text = render(&status, format)?;
        let bare = status.without_time();
        if redraws {
            output::write(format!("{CLEAR}{text}"))?;
        } else if shown.as_ref() != Some(&bare) {
            let gap = if format == StatusFormat::Table && shown.is_some() {
                "\n"
            } else {
                ""
            };
            output::write(format!("{gap}{text}"))?;
        }
        shown = Some(bare);
    }
}

/// The status for people; the table in lines that fit, if that is possible.
fn table(status: &ElectionStatus, look: Look) -> String {
    let mut text = String::new();
    let election = short(status.election.as_str());
    look.line(&mut text, &format!("election  {election}"), None);
    let (leader, mark) = match &status.leader {
        Some(leader) => {
            let name = short(&leader.name);
            (format!("{name}, token {}", leader.token), LookMark::Leader)
        }
        // Nobody is wanted while it is paused.
        None if status.paused => ("nobody".to_owned(), LookMark::Paused),
        None => ("nobody".to_owned(), LookMark::Trouble),
    };
    look.line(&mut text, &format!("leader    {leader}"), Some(mark));
    if !status.prefer.is_empty() {
        look.line(&mut text, &preference(status), None);
    }
    if let Some(turn) = turn(status) {
        look.line(&mut text, &turn, None);
    }
    if status.paused {
        look.line(&mut text, &pause(status), Some(LookMark::Paused));
    }
    for blocking in &status.blocked_by {
        let key = short(blocking);
        let is_last_term = status.last_term.as_ref() == Some(blocking);
        let line = if is_last_term {
            format!("BLOCKED   by {key}, {OF_LAST_TERM}")
        } else if let Some(other) = status.election_below(blocking) {
            // What is to be deleted is never a candidate's key, and what is a candidate's is told here.
            let other = short(other);
            format!(
                "BLOCKED   by {key}, which is of the election {other}: none can stand above another"
            )
        } else {
            format!("BLOCKED   by {key}, which is no candidate's key: delete it")
        };
        look.line(&mut text, &line, Some(LookMark::Trouble));
    }
    for key in &status.unreadable {
        let line = format!("UNREAD    {}: that record can't be read", short(key));
        look.line(&mut text, &line, Some(LookMark::Trouble));
    }
    for candidate in status.queue.iter().filter(|it| it.off_lease) {
        let key = short(&candidate.key);
        let line = format!("OFF LEASE {key}, which its daemon will put back");
        look.line(&mut text, &line, Some(LookMark::Trouble));
    }
    for candidate in &status.queue {
        let Some(stuck) = candidate.stuck() else {
            continue;
        };
        let host = candidate.host.as_deref().unwrap_or_default();
        let (name, host, stuck) = (short(&candidate.name), short(host), short(&stuck));
        let line = format!(
            "STUCK     {name} on {host}: its job can't be killed, and nobody else leads before it is dead: {stuck}"
        );
        look.line(&mut text, &line, Some(LookMark::Trouble));
    }
    for candidate in status.queue.iter().filter(|it| it.differs) {
        let name = short(&candidate.name);
        let line =
            format!("DIFFERS   {name}: its election.*, job.* or hooks.* aren't the leader's");
        look.line(&mut text, &line, Some(LookMark::Trouble));
    }
    if let (Some((token, waits)), Some(first)) = (&status.waits, status.queue.first()) {
        let (name, waits) = (short(&first.name), short(waits));
        let line = format!("next      {name}, token {token}: first in line, {waits}");
        look.line(&mut text, &line, None);
    }
    if let Some(schedule) = &status.schedule {
        scheduled(&mut text, schedule, look);
    }
    if status.queue.is_empty() {
        return text;
    }
    let headings = ["", "#", "NAME", "TOKEN", "LEASE", "LEFT", "HOST", "SINCE"];
    let mut table = Table::new(
        headings,
        &["NAME", "HOST"],
        &["LEASE", "HOST", "LEFT", "SINCE"],
    );
    for candidate in &status.queue {
        let leads = status
            .leader
            .as_ref()
            .is_some_and(|leader| leader.token == candidate.token);
        table.push(leads.then_some(LookMark::Leader), row(candidate, leads));
    }
    text + "\n" + &table.render(look)
}

/// The lines of a scheduled job.
fn scheduled(text: &mut String, schedule: &ScheduleStatus, look: Look) {
    let mut line = |line: &str, mark| look.line(text, line, mark);
    if let Some(words) = &schedule.words {
        line(&format!("schedule  {}", short(words)), None);
    }
    if schedule.is_another {
        let what = "DIFFERS   the schedule on record isn't that of this configuration";
        line(what, Some(LookMark::Trouble));
    }
    if let Some(next) = schedule.next {
        let local = schedule.next_local.as_deref().unwrap_or_default();
        let told = match next.to_string() {
            utc if local.ends_with("+00:00") => utc,
            utc => format!("{local}, which is {utc}"),
        };
        line(&format!("next run  {told}"), None);
    }
    if let Some(open) = &schedule.open {
        let (host, began) = (short(&open.host), in_seconds(&open.at.to_string()));
        let attempt = match open.attempt {
            0 | 1 => String::new(),
            attempt => format!(", attempt {attempt}"),
        };
        let open = format!("open run  {}{attempt}, by {host} since {began}", open.slot);
        line(&open, Some(LookMark::Leader));
    }
    if let Some(last) = &schedule.last {
        let (host, result) = (short(&last.host), last.result.word());
        let took = span(Duration::from_millis(last.took_ms));
        let told = if last.attempt > 0 {
            format!("last run  {}: {result} after {took}, by {host}", last.slot)
        } else {
            format!("last run  {}: {result}", last.slot)
        };
        let mark = last.result.is_wrong().then_some(LookMark::Trouble);
        line(&told, mark);
        let success = schedule.last_success.map(|slot| slot.to_string());
        if last.result.is_wrong() {
            let success = success.as_deref().unwrap_or("none");
            line(&format!("success   {success}"), None);
        }
    }
    if schedule.failures > 1 {
        let failures = format!("FAILS     {} slots in a row failed", schedule.failures);
        line(&failures, Some(LookMark::Trouble));
    }
}

/// The line of those who should lead, and why they don't.
fn preference(status: &ElectionStatus) -> String {
    let names: Vec<String> = status.prefer.iter().map(|name| short(name)).collect();
    let names = names.join(", ");
    let why = match (&status.leader, status.better()) {
        (None, _) => String::new(),
        (Some(_), Some(better)) => {
            let name = short(&better.name);
            if status.schedule.is_some() {
                format!(": {name} waits, and is handed the term between runs")
            } else {
                format!(
                    ": {name} waits, and is handed the term when the job ends; step-down does it now"
                )
            }
        }
        (Some(leader), None) if status.prefer.contains(&leader.name) => {
            ": the first of them that stands leads".to_owned()
        }
        (Some(_), None) => ": none of them stands".to_owned(),
    };
    format!("prefers   {names}{why}")
}

/// The line of the turn that the leader had at a cold start, and why one whose turn was before doesn't
/// lead.
fn turn(status: &ElectionStatus) -> Option<String> {
    let turn = status.leader.as_ref()?.turn?;
    let hosts = turn.hosts;
    let nth = format!(
        "{} of {hosts} hosts in sight at the start",
        ordinal(turn.rank)
    );
    let before = status
        .queue
        .iter()
        .filter_map(|it| Some((it.turn?.rank, it)));
    let before = before.filter(|(rank, _)| *rank < turn.rank);
    let why = match before.min_by_key(|(rank, _)| *rank) {
        _ if turn.rank == 0 => String::new(),
        Some((rank, one)) => {
            let (name, nth) = (short(&one.name), ordinal(rank));
            format!(", and joined before {name}, which is the {nth}")
        }
        None => "; those before it were late, or have left since".to_owned(),
    };
    Some(format!("rank      the {nth}{why}"))
}

/// That many come before it.
fn ordinal(before: u32) -> String {
    let nth = u64::from(before) + 1;
    let ending = match (nth % 10, nth % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{nth}{ending}")
}

/// The line of a paused election.
fn pause(status: &ElectionStatus) -> String {
    let unreadable = "by a record that can't be read".to_owned();
    let by = status.pause.as_ref().map_or(unreadable, |pause| {
        let (by, since) = (short(&pause.by), in_seconds(&short(&pause.since)));
        format!("by {by} since {since}")
    });
    let means = match status.in_pause() {
        InPause::Nobody => ": nobody will lead".to_owned(),
        InPause::Kept => ", keeping the leader: nobody new will lead".to_owned(),
        InPause::Stops(leader) => {
            let name = short(&leader.name);
            format!(": {name} is to stop its job, and nobody new will lead")
        }
        InPause::Deaf(leader) => {
            let name = short(&leader.name);
            format!(": {name} is no incumbent and leads all the same, and nobody else will")
        }
    };
    format!("PAUSED    {by}{means} until it is resumed")
}

fn row(candidate: &CandidateStatus, leads: bool) -> [String; 8] {
    let known = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), short);
    let left = candidate.lease_remaining_s;
    [
        if leads { "*" } else { "" }.to_owned(),
        candidate.position.to_string(),
        short(&candidate.name),
        candidate.token.to_string(),
        candidate.lease.to_string(),
        left.map_or("-".to_owned(), |left| {
            format!("{left}s of {}s", candidate.ttl)
        }),
        known(&candidate.host),
        in_seconds(&known(&candidate.since)),
    ]
}
