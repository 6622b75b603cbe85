//! `incumbent runs`: what became of a scheduled job's runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;

use super::away::Away;
use super::exit::Failure;
use super::look::{Look, LookMark};
use super::options::{Asking, ListFormat, block_on};
use super::output;
use super::table::{Table, short};
use crate::election::follow::Follower;
use crate::etcd::Store;
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::keys::Prefix;
use crate::log;
use crate::revision::Token;
use crate::schedule::record::{HistoryEntry, Open, Outcome};
use crate::term::run_book::RunBook;

mod repair;

/// How many runs are shown where nothing is said.
const SHOWN: u16 = 20;

/// No history is longer.
const ALL: usize = 1_100;

/// Clears a terminal, and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the last runs of a scheduled job, the latest first
///
/// Kept are as many as job.schedule.history says. What happened to slots without a run is among
/// them: those that were missed or skipped.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  incumbent runs --election /backup
  incumbent runs --failed -o json | jq -r .runs[].slot
  incumbent runs resolve 2027-03-28T01:00:00Z --as success"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<RunsCommand>,

    #[command(flatten)]
    asking: Asking,

    /// How many to show
    #[arg(short, value_name = "N", default_value_t = SHOWN, value_parser = clap::value_parser!(u16).range(1..=1000))]
    number: u16,

    /// Only those that went wrong: failed, timed out, killed, lost or missed
    #[arg(long)]
    failed: bool,

    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    output: ListFormat,

    /// Go on, and show each change: on a terminal in place of the last, else below it
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    Resolve(repair::ResolveArgs),
    Rewind(repair::RewindArgs),
}

/// What is printed with `-o json`.
#[derive(Debug, PartialEq, Serialize)]
struct RunsBody<'a> {
    election: &'a Prefix,
    open: Option<&'a Open>,
    runs: Vec<RunBody<'a>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct RunBody<'a> {
    /// The number of its record.
    seq: u64,
    #[serde(flatten)]
    run: &'a HistoryEntry,
}

/// Shows the runs, or mends their records.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Some(RunsCommand::Resolve(args)) => return repair::resolve(args),
        Some(RunsCommand::Rewind(args)) => return repair::rewind(args),
        None => {}
    }
    let config = args.asking.load()?;
    let store = Store::unanimous(&config.etcd);
    let prefix = config.election.prefix;
    if args.watch {
        return block_on(async {
            tokio::select! {
                failed = watch(args, store, prefix) => failed,
                () = output::closed() => Ok(ExitCode::SUCCESS),
            }
        });
    }
    let patience = args.asking.patience(&store);
    block_on(async {
        let read = async |limit| read(args, &store, limit, &prefix).await;
        let book = patience.ask(read).await?;
        output::write(render(args, &prefix, &book)?)?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn read(
    args: &Args,
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
) -> Result<RunBook, crate::etcd::Error> {
    let number = usize::from(args.number);
    let most = if args.failed { ALL } else { number };
    let mut book = RunBook::read(store, limit, prefix, most).await?;
    if args.failed {
        book.runs.retain(|(_, run)| run.result.is_wrong());
        book.runs.truncate(number);
    }
    Ok(book)
}

/// Shows each change until nobody reads any more; goes on while the store is away.
async fn watch(args: &Args, store: Store, prefix: Prefix) -> Result<ExitCode, Failure> {
    let is_table = args.output == ListFormat::Table;
    let redraws = is_table && output::width().is_some();
    let mut follower = Follower::new(store.clone(), prefix.clone(), LONGEST_ATTEMPT);
    let mut away = Away::new();
    let mut shown = None;
    loop {
        let next = match follower.next().await {
            Ok(_) => read(args, &store, LONGEST_ATTEMPT, &prefix).await,
            Err(error) => Err(error),
        };
        let book = match next {
            Ok(book) => book,
            Err(error) => {
                away.wait(error).await?;
                follower.forget();
                continue;
            }
        };
        let text = render(args, &prefix, &book)?;
        if shown.as_ref() == Some(&text) {
            continue;
        }
        let before = match (redraws, is_table && shown.is_some()) {
            (true, _) => CLEAR,
            (false, true) => "\n",
            (false, false) => "",
        };
        output::write(format!("{before}{text}"))?;
        shown = Some(text);
    }
}

fn render(args: &Args, prefix: &Prefix, book: &RunBook) -> Result<String, Failure> {
    let open = book.readable().and_then(|state| state.open.as_ref());
    Ok(match args.output {
        ListFormat::Table => table(book, open, Look::of_stdout()),
        ListFormat::Json => {
            let runs = book
                .runs
                .iter()
                .map(|(seq, run)| RunBody { seq: *seq, run });
            let body = RunsBody {
                election: prefix,
                open,
                runs: runs.collect(),
            };
            log::json(&body).context("no JSON")? + "\n"
        }
    })
}

/// The runs for people, the open one on top.
fn table(book: &RunBook, open: Option<&Open>, look: Look) -> String {
    let mut text = String::new();
    if let Some(Err(why)) = &book.state {
        look.line(
            &mut text,
            &format!("UNREAD    {why}"),
            Some(LookMark::Trouble),
        );
    }
    if open.is_none() && book.runs.is_empty() {
        look.line(&mut text, "no runs", None);
        return text;
    }
    let headings = [
        "SLOT", "ATTEMPT", "RESULT", "BEGAN", "TOOK", "HOST", "TOKEN",
    ];
    let mut table = Table::new(
        headings,
        &["HOST", "RESULT"],
        &["TOKEN", "ATTEMPT", "BEGAN"],
    );
    if let Some(open) = open {
        let row = [
            open.slot.to_string(),
            open.attempt.to_string(),
            and_missed("open".to_owned(), open.missed),
            in_seconds(&open.at.to_string()),
            "-".to_owned(),
            short(&open.host),
            open.token.map_or(0, Token::get).to_string(),
        ];
        table.push(Some(LookMark::Leader), row);
    }
    for (_, run) in &book.runs {
        let is_run = run.attempt > 0;
        let of_run = |text: String| if is_run { text } else { "-".to_owned() };
        let row = [
            run.slot.to_string(),
            of_run(run.attempt.to_string()),
            result(run),
            in_seconds(&run.began.to_string()),
            of_run(span(Duration::from_millis(run.took_ms))),
            short(&run.host),
            run.token.map_or(0, Token::get).to_string(),
        ];
        table.push(run.result.is_wrong().then_some(LookMark::Trouble), row);
    }
    text + &table.render(look)
}

/// How it ended, in a few words.
fn result(run: &HistoryEntry) -> String {
    let word = run.result.word();
    let how = match (run.code, run.signal) {
        (Some(code), _) if run.result != Outcome::Success => format!("{word}, code {code}"),
        (None, Some(signal)) => format!("{word}, signal {signal}"),
        _ => word.to_owned(),
    };
    if run.attempt > 0 {
        return and_missed(how, run.missed);
    }
    match run.missed {
        0 => how,
        // Beside the last of them, which the record names.
        more => format!("{how}, {} slots", more + 1),
    }
}

/// A run that stands for others too.
fn and_missed(how: String, missed: u64) -> String {
    match missed {
        0 => how,
        missed => format!("{how}, for {missed} missed too"),
    }
}

/// A time that a run took, in its two largest units or so.
pub(super) fn span(span: Duration) -> String {
    if span < Duration::from_secs(10) {
        return format!("{:.1}s", span.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
}

/// Milliseconds are for scripts.
pub(super) fn in_seconds(time: &str) -> String {
    let seconds = time.split_once('.');
    seconds.map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;
    use crate::schedule::record::{Exit, State};
    use crate::schedule::{Occasion, Slot};
    use crate::wall::Time;

    fn book() -> RunBook {
        let slot: Slot = "2027-03-28T01:00:00Z".parse().unwrap();
        let at: Time = "2027-03-28T01:00:00.013Z".parse().unwrap();
        let open = Open {
            slot: Occasion::Slot(slot),
            attempt: 1,
            token: Some(Token::at(Revision::new(17))),
            nonce: "00".to_owned(),
            host: "alpha".to_owned(),
            at,
            missed: 2,
        };
        let mut state = State::new("s".to_owned(), Time::EPOCH);
        state.open = Some(open.clone());
        let closed = |exit, result, took| {
            let (_, run) = state
                .closed(result, exit, Duration::from_millis(took))
                .unwrap();
            run
        };
        let missed = HistoryEntry {
            attempt: 0,
            missed: 11,
            ..closed(None, Outcome::Missed, 0)
        };
        let manual = HistoryEntry {
            slot: Occasion::Manual,
            missed: 0,
            ..closed(Some(Exit::Code(3)), Outcome::Failure, 1234)
        };
        let killed = closed(Some(Exit::Signal(9)), Outcome::Killed, 90_061_000);
        let done = closed(Some(Exit::Code(0)), Outcome::Success, 4);
        RunBook {
            state: Some(Ok(state.clone())),
            runs: vec![(4, missed), (3, manual), (2, killed), (1, done)],
            ..RunBook::default()
        }
    }

    #[test]
    fn the_table_has_the_open_run_on_top_and_says_how_the_others_ended() {
        let book = book();
        let open = book.readable().unwrap().open.as_ref();
        assert_eq!(
            table(&book, open, Look::default()),
            "\
SLOT                  ATTEMPT  RESULT                              BEGAN                 TOOK           HOST   TOKEN
2027-03-28T01:00:00Z  1        open, for 2 missed too              2027-03-28T01:00:00Z  -              alpha  17
2027-03-28T01:00:00Z  -        missed, 12 slots                    2027-03-28T01:00:00Z  -              alpha  17
manual                1        failure, code 3                     2027-03-28T01:00:00Z  1.2s           alpha  17
2027-03-28T01:00:00Z  1        killed, signal 9, for 2 missed too  2027-03-28T01:00:00Z  1day 1h 1m 1s  alpha  17
2027-03-28T01:00:00Z  1        success, for 2 missed too           2027-03-28T01:00:00Z  0.0s           alpha  17
"
        );
    }

    #[test]
    fn nothing_is_said_so() {
        let none = table(&RunBook::default(), None, Look::default());
        assert_eq!(none, "no runs\n");
    }
}
