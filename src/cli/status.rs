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
    if status.paused {
        look.line(&mut text, &pause(status), Some(LookMark::Paused));
    }
    for blocking in &status.blocked_by {
        let key = short(blocking);
        let is_last_term = status.last_term.as_ref() == Some(blocking);
        let line = if is_last_term {
            format!("BLOCKED   by {key}, {OF_LAST_TERM}")
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
            format!(": {name} waits, and is handed the term between runs")
        }
        (Some(leader), None) if status.prefer.contains(&leader.name) => {
            ": the first of them that stands leads".to_owned()
        }
        (Some(_), None) => ": none of them stands".to_owned(),
    };
    format!("prefers   {names}{why}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::LeaseId;
    use crate::revision::{Revision, Token};
    use crate::schedule::Occasion;
    use crate::schedule::record::{Exit, Open, Outcome, State};
    use crate::term::record::Unkillable;

    fn candidate(position: usize, name: &str, token: i64) -> CandidateStatus {
        let lease = LeaseId::new(0x3269_6bd0_d159_d067 + token).unwrap();
        let prefix = Prefix::new("/backup");
        CandidateStatus {
            position,
            name: name.to_owned(),
            lease,
            token: Token::at(Revision::new(token)),
            key: prefix.candidate(lease),
            ttl: 15,
            lease_remaining_s: Some(12),
            host: Some("alpha".to_owned()),
            pid: Some(17),
            version: Some("0.1.0".to_owned()),
            since: Some("2031-05-04T03:02:01.123Z".to_owned()),
            differs: false,
            unkillable: Vec::new(),
            off_lease: false,
            foreign: false,
        }
    }

    fn status(queue: Vec<CandidateStatus>) -> ElectionStatus {
        ElectionStatus {
            election: Prefix::new("/backup"),
            leader: queue.first().cloned(),
            queue,
            blocked_by: Vec::new(),
            paused: false,
            pause: None,
            schedule: None,
            prefer: Vec::new(),
            waits: None,
            last_term: None,
            unreadable: Vec::new(),
            marker: None,
            revision: Revision::new(99),
        }
    }

    #[test]
    fn the_table_marks_the_leader_and_keeps_the_order() {
        let go = CandidateStatus {
            lease_remaining_s: None,
            host: None,
            since: None,
            ..candidate(1, "from go", 31)
        };
        let text = table(&status(vec![candidate(0, "a", 7), go]), Look::default());
        let expected = "\
election  /backup
leader    a, token 7

   #  NAME     TOKEN  LEASE             LEFT        HOST   SINCE
*  0  a        7      32696bd0d159d06e  12s of 15s  alpha  2031-05-04T03:02:01Z
   1  from go  31     32696bd0d159d086  -           -      -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_narrow_terminal_cuts_names_and_hosts() {
        let long = "a-candidate-with-a-name-of-its-own.example.org";
        let mut queue = vec![candidate(0, long, 7), candidate(1, "b", 8)];
        queue[1].host = Some("a-host-with-a-long-name.example.org".to_owned());
        let text = table(&status(queue.clone()), wide(80));
        assert!(fits(&text, 80), "{text}");
        assert!(text.contains("a-can") && text.contains('…'), "{text}");
        assert!(text.contains("32696bd0d159d06e"), "{text}");
        assert!(text.contains("SINCE"), "{text}");
        // Narrower still, what is needed least is left out.
        for (width, gone) in [(61, "LEASE"), (53, "HOST"), (41, "LEFT"), (20, "SINCE")] {
            let text = table(&status(queue.clone()), wide(width));
            assert!(fits(&text, width), "{width}: {text}");
            assert!(!text.contains(gone), "{width}: {text}");
            assert!(text.contains("  #  NAME "), "{width}: {text}");
        }
    }

    fn wide(width: usize) -> Look {
        Look {
            width: Some(width),
            colour: false,
        }
    }

    /// Whether the table does, which comes after an empty line.
    fn fits(text: &str, width: usize) -> bool {
        let table = text.lines().skip_while(|line| !line.is_empty());
        table
            .map(|line| line.chars().count())
            .all(|used| used <= width)
    }

    #[test]
    fn colours_mark_the_leader_and_what_is_wrong_and_nothing_else() {
        let colour = Look {
            width: None,
            colour: true,
        };
        let mut both = status(vec![candidate(0, "a", 7), candidate(1, "b", 8)]);
        both.blocked_by = vec!["/backup/x".to_owned()];
        let text = table(&both, colour);
        for (line, code) in text.lines().zip(["", "1;32", "1;31", "", "", "1;32", ""]) {
            let expected = match code {
                "" => !line.contains('\u{1b}'),
                code => line.starts_with(&format!("\u{1b}[{code}m")) && line.ends_with("\u{1b}[0m"),
            };
            assert!(expected, "{code}: {line:?}");
        }
        both.leader = None;
        assert!(table(&both, colour).contains("\u{1b}[1;31mleader    nobody"));
        both.paused = true;
        let text = table(&both, colour);
        assert!(text.contains("\u{1b}[33mleader    nobody"), "{text:?}");
        assert!(text.contains("\u{1b}[33mPAUSED "), "{text:?}");
    }

    #[test]
    fn who_should_lead_is_said_and_why_another_does() {
        let both = || status(vec![candidate(0, "a", 7), candidate(1, "b", 8)]);
        let told = |prefer: &[&str]| {
            let prefer: Vec<String> = prefer.iter().map(|name| (*name).to_owned()).collect();
            let text = table(&both().with_preference(&prefer), Look::default());
            let line = text.lines().find(|line| line.starts_with("prefers "));
            line.unwrap_or_default().to_owned()
        };
        assert_eq!(told(&[]), "");
        assert_eq!(
            told(&["b", "a"]),
            "prefers   b, a: b waits, and is handed the term between runs"
        );
        let first = "the first of them that stands leads";
        assert_eq!(told(&["c", "a"]), format!("prefers   c, a: {first}"));
        assert_eq!(told(&["c"]), "prefers   c: none of them stands");
    }

    #[test]
    fn a_pause_and_a_block_are_said_aloud() {
        let mut blocked = status(vec![candidate(0, "a", 7)]);
        blocked.leader = None;
        blocked.paused = true;
        blocked.blocked_by = vec!["/backup/x\u{1b}[2J".to_owned()];
        let text = table(&blocked, Look::default());
        assert!(text.contains("leader    nobody\n"), "{text}");
        assert!(text.contains("PAUSED "), "{text}");
        assert!(text.contains("BLOCKED   by /backup/x\\u{1b}[2J,"), "{text}");
        assert!(!text.contains('*'), "{text}");
    }

    #[test]
    fn a_job_that_can_not_be_killed_is_said_aloud_whatever_it_is_called() {
        let mut waiter = candidate(1, "b", 8);
        waiter.unkillable = vec![Unkillable {
            pid: 17,
            user: "root".to_owned(),
            command: "a\u{1b}[2J\nb".to_owned(),
        }];
        let text = table(&status(vec![candidate(0, "a", 7), waiter]), Look::default());
        let line = text
            .lines()
            .find(|line| line.starts_with("STUCK     b on alpha: "));
        let expected = ": 17 (root, a\\u{1b}[2J\\nb)";
        assert!(line.is_some_and(|line| line.ends_with(expected)), "{text}");
    }

    #[test]
    fn a_schedule_tells_the_next_run_the_open_one_and_the_last() {
        let slot = |text: &str| text.parse::<crate::schedule::Slot>().unwrap();
        let time = |text: &str| text.parse::<crate::wall::Time>().unwrap();
        let pace = crate::schedule::Pace::Cron(vec!["30 2 * * *".to_owned()]);
        let schedule = crate::schedule::Schedule::new(&pace, "Europe/Berlin").unwrap();
        let mut state = State::new(schedule.spec().to_owned(), time("2027-03-01T00:00:00Z"));
        state.slot = Some(slot("2027-03-27T01:30:00Z"));
        let open = |token| Open {
            slot: Occasion::Slot(slot("2027-03-27T01:30:00Z")),
            attempt: 2,
            token: Token::new(token),
            nonce: String::new(),
            host: "alpha".to_owned(),
            at: time("2027-03-27T01:30:00.013Z"),
            missed: 0,
        };
        state.open = Some(open(7));
        let exit = Some(Exit::Code(1));
        let (mut state, _) = state
            .closed(Outcome::Failure, exit, Duration::from_secs(90))
            .unwrap();
        state.open = Some(open(9));
        state.failures = 3;
        let now = time("2027-03-27T12:00:00Z");
        let mut status = status(Vec::new());
        status.schedule = Some(ScheduleStatus::of(&state));
        let text = table(&status.with_schedule(Some(&schedule), now), Look::default());
        assert_eq!(
            text,
            "election  /backup\n\
             leader    nobody\n\
             schedule  at 02:30 every day, Europe/Berlin\n\
             next run  2027-03-28T03:00:00+02:00, which is 2027-03-28T01:00:00Z\n\
             open run  2027-03-27T01:30:00Z, attempt 2, by alpha since 2027-03-27T01:30:00Z\n\
             last run  2027-03-27T01:30:00Z: failure after 1m 30s, by alpha\n\
             success   none\n\
             FAILS     3 slots in a row failed\n"
        );
    }

    #[test]
    fn nobody_there_is_no_table() {
        let text = table(&status(Vec::new()), Look::default());
        assert_eq!(text, "election  /backup\nleader    nobody\n");
    }
}
