//! `incumbent terms`: who led from when to when, and why it ended.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::Serialize;

use super::exit::Failure;
use super::look::{Look, LookMark};
use super::options::{Asking, ListFormat, block_on};
use super::output;
use super::runs::{in_seconds, span};
use super::table::{Table, short};
use crate::clock;
use crate::etcd::Store;
use crate::keys::Prefix;
use crate::log;
use crate::reason::EndReason;
use crate::revision::Token;
use crate::status::Overview;

/// How many terms are shown where nothing is said.
const SHOWN: u8 = 20;

/// Show who led from when to when, and why it ended, the latest first
///
/// The last hundred terms are kept. An end without a time is one that its own daemon didn't come to
/// writing down. Candidates of other programs leave no records.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent terms --election /backup
  incumbent terms -n 100 -o json | jq '.terms | group_by(.reason) | map({(.[0].reason // \"leads\"): length}) | add'")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,

    /// How many to show
    #[arg(short, value_name = "N", default_value_t = SHOWN, value_parser = clap::value_parser!(u8).range(1..=101))]
    number: u8,

    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    output: ListFormat,
}

/// What is printed with `-o json`.
#[derive(Debug, Serialize)]
struct TermsBody<'a> {
    election: &'a Prefix,
    terms: Vec<TermBody<'a>>,
}

#[derive(Debug, Serialize)]
struct TermBody<'a> {
    token: Token,
    candidate: &'a str,
    lease: String,
    host: Option<&'a str>,
    since: Option<&'a str>,
    /// `null` while it lasts, and where nobody wrote it down.
    ended: Option<&'a str>,
    /// `null` while it lasts.
    reason: Option<&'a str>,
}

/// Shows the terms.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let store = Store::unanimous(&config.etcd);
    let patience = args.asking.patience(&store);
    let prefix = &config.election.prefix;
    let overview = block_on(async { Ok(Overview::read(&store, prefix, &patience).await?) })?;
    let mut terms = terms(&overview);
    terms.truncate(usize::from(args.number));
    output::write(match args.output {
        ListFormat::Table => table(&terms, &clock::wall_time(), Look::of_stdout()),
        ListFormat::Json => {
            let body = TermsBody {
                election: prefix,
                terms,
            };
            log::json(&body).context("no JSON")? + "\n"
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn terms(overview: &Overview) -> Vec<TermBody<'_>> {
    let present = overview.status.leader.as_ref();
    let leader = present.map(|leader| TermBody {
        token: leader.token,
        candidate: &leader.name,
        lease: leader.lease.to_string(),
        host: leader.host.as_deref(),
        since: leader.since.as_deref(),
        ended: None,
        reason: None,
    });
    let present = present.map(|leader| leader.token);
    let past = overview.terms.iter();
    let past = past.filter(|past| Some(past.term.token) != present);
    let past = past.map(|past| TermBody {
        token: past.term.token,
        candidate: &past.term.candidate,
        lease: past.term.lease.to_string(),
        host: Some(&past.term.host),
        since: Some(&past.term.since),
        ended: past.ended.as_deref(),
        reason: Some(&past.reason),
    });
    leader.into_iter().chain(past).collect()
}

fn table(terms: &[TermBody<'_>], now: &str, look: Look) -> String {
    if terms.is_empty() {
        return "no terms\n".to_owned();
    }
    let headings = [
        "TOKEN",
        "CANDIDATE",
        "HOST",
        "SINCE",
        "UNTIL",
        "LASTED",
        "REASON",
    ];
    let mut table = Table::new(
        headings,
        &["CANDIDATE", "HOST"],
        &["HOST", "TOKEN", "SINCE"],
    );
    for term in terms {
        let known =
            |text: Option<&str>| text.map_or("-".to_owned(), |text| in_seconds(&short(text)));
        let until = if term.reason.is_none() {
            Some(now)
        } else {
            term.ended
        };
        let row = [
            term.token.to_string(),
            short(term.candidate),
            term.host.map_or("-".to_owned(), short),
            known(term.since),
            known(term.ended),
            lasted(term.since, until).map_or("-".to_owned(), span),
            term.reason.map_or("leads".to_owned(), short),
        ];
        let mark = match term.reason.map(EndReason::read) {
            None => Some(LookMark::Leader),
            Some(Some(reason)) if reason.is_planned() => None,
            _ => Some(LookMark::Trouble),
        };
        table.push(mark, row);
    }
    table.render(look)
}

fn lasted(since: Option<&str>, until: Option<&str>) -> Option<Duration> {
    let time = |text: Option<&str>| -> Option<SystemTime> { humantime::parse_rfc3339(text?).ok() };
    time(until)?.duration_since(time(since)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;

    #[test]
    fn the_table_tells_how_long_each_led_and_why_it_ended() {
        let term = |token, ended, reason| TermBody {
            token: Token::at(Revision::new(token)),
            candidate: "a",
            lease: "1".to_owned(),
            host: Some("alpha"),
            since: Some("2031-05-04T03:02:01.123Z"),
            ended,
            reason,
        };
        let terms = [
            term(9, None, None),
            term(7, Some("2031-05-04T03:02:02.323Z"), Some("resigned")),
            term(5, None, Some("unknown")),
        ];
        assert_eq!(
            table(&terms, "2031-05-04T04:02:01.123Z", Look::default()),
            "\
TOKEN  CANDIDATE  HOST   SINCE                 UNTIL                 LASTED  REASON
9      a          alpha  2031-05-04T03:02:01Z  -                     1h      leads
7      a          alpha  2031-05-04T03:02:01Z  2031-05-04T03:02:02Z  1.2s    resigned
5      a          alpha  2031-05-04T03:02:01Z  -                     -       unknown
"
        );
    }
}
