//! The page at `/`: one screen for people, whole without scripts and live with them.

use std::fmt::Write as _;
use std::sync::Arc;

use super::ServerState;
use super::reader::OverviewRead;
use crate::candidate::{JobStanding, Public};
use crate::clock;
use crate::config::Config;
use crate::status::{CandidateStatus, ElectionStatus, InPause, OF_LAST_TERM, Overview};

mod jobs;
mod picture;
mod schedule;
mod text;

use text::{Escaped, moment, span_since, words};

/// Loaded by the page, from here: nothing in the page itself is a script or a style, so that no
/// name in it can become one.
pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// How many ended terms the table lists; the picture has them all.
const TERMS_LISTED: usize = 8;

/// How many candidates are listed.
const QUEUE_LISTED: usize = 50;

/// The page of a job as it is now.
pub(super) async fn render(state: &ServerState, standing: &JobStanding) -> String {
    let config = &standing.config;
    let read = state.reader.overview(&config.election.prefix).await;
    let public = standing.view.public.borrow().clone();
    page(config, &public, &read, &clock::wall_time())
}

/// The page of several jobs, a line for each.
pub(super) async fn render_jobs(state: &ServerState, standings: &[JobStanding]) -> String {
    let prefixes = standings.iter().map(|it| &it.config.election.prefix);
    let all = state.reader.overviews(&prefixes.collect::<Vec<_>>()).await;
    let rows = standings.iter().zip(all).map(|(standing, read)| {
        let public = standing.view.public.borrow().clone();
        jobs::JobRow::new(Arc::clone(&standing.config), public, read)
    });
    let rows: Vec<_> = rows.collect();
    let shared = state.shared();
    let mut body = String::new();
    let shown = jobs::write(&mut body, &shared, &rows, &clock::wall_time());
    debug_assert!(shown.is_ok());
    whole(shared.root(), &body, "")
}

fn page(config: &Config, public: &Public, read: &OverviewRead, now: &str) -> String {
    let mut body = String::new();
    let shown = write_body(&mut body, config, public, read, now);
    // Writing to a String can't fail.
    debug_assert!(shown.is_ok());
    let of_job = config.job_name.as_ref();
    let of_job = of_job.map_or(String::new(), |name| format!("?job={name}"));
    whole(config.election.prefix.as_str(), &body, &of_job)
}

/// The page with this `body`, about what the links' `query` names.
fn whole(election: &str, body: &str, query: &str) -> String {
    let election = Escaped(election);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{election} – incumbent</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/page.css\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
         <main>\n{body}</main>\n\
         <footer><span id=\"live\"></span> <a href=\"/status{query}\">status</a> · \
         <a href=\"/metrics{query}\">metrics</a></footer>\n\
         <script src=\"/page.js\"></script>\n</html>\n"
    )
}

fn write_body(
    out: &mut String,
    config: &Config,
    public: &Public,
    read: &OverviewRead,
    now: &str,
) -> std::fmt::Result {
    if config.job_name.is_some() {
        writeln!(out, "<p class=\"soft\"><a href=\"/\">All jobs</a></p>")?;
    }
    writeln!(
        out,
        "<h1>Election {}</h1>",
        Escaped(config.election.prefix.as_str())
    )?;
    match read {
        Ok(overview) => {
            leader(out, &overview.status, now)?;
            replica(out, config, public)?;
            schedule::write(out, config.schedule(), overview, now)?;
            queue(out, &overview.status)?;
            terms(out, overview, now)?;
        }
        Err(error) => {
            writeln!(
                out,
                "<p class=\"warn\">The store can't be read: {}</p>",
                Escaped(error)
            )?;
            replica(out, config, public)?;
        }
    }
    runs(out, public)?;
    writeln!(out, "<p class=\"soft\">As of {} UTC.</p>", moment(now))
}

fn leader(out: &mut String, status: &ElectionStatus, now: &str) -> std::fmt::Result {
    match &status.leader {
        Some(leader) => {
            let name = Escaped(&leader.name);
            write!(out, "<p class=\"who\"><b>{name}</b> leads")?;
            if let Some(since) = &leader.since {
                let long = span_since(since, now);
                write!(out, " since {} UTC, {long}", moment(since))?;
            }
            let host = leader.host.as_deref().unwrap_or("unknown");
            writeln!(
                out,
                "</p>\n<p class=\"soft\">token {} on host {}</p>",
                leader.token,
                Escaped(host)
            )?;
        }
        None => writeln!(out, "<p class=\"who\">Nobody leads</p>")?,
    }
    if let (Some((_, waits)), Some(first)) = (&status.waits, status.queue.first()) {
        writeln!(
            out,
            "<p class=\"soft\">{} is first in line: {}</p>",
            Escaped(&first.name),
            Escaped(waits)
        )?;
    }
    if status.paused {
        pause(out, status)?;
    }
    for key in &status.blocked_by {
        let why = if status.last_term.as_ref() == Some(key) {
            OF_LAST_TERM
        } else {
            "which is no candidate's key: delete it"
        };
        let key = Escaped(key);
        writeln!(
            out,
            "<p class=\"warn\">Blocked by <code>{key}</code>, {why}.</p>"
        )?;
    }
    for key in &status.unreadable {
        let key = Escaped(key);
        writeln!(
            out,
            "<p class=\"warn\">The record <code>{key}</code> can't be read.</p>"
        )?;
    }
    for candidate in &status.queue {
        if let Some(stuck) = candidate.stuck() {
            let (name, stuck) = (Escaped(&candidate.name), Escaped(&stuck));
            writeln!(
                out,
                "<p class=\"warn\">The job of <b>{name}</b> can't be killed, and nobody else leads before it is dead: {stuck}.</p>"
            )?;
        }
    }
    for candidate in status.queue.iter().filter(|candidate| candidate.differs) {
        let name = Escaped(&candidate.name);
        writeln!(
            out,
            "<p class=\"warn\">The settings of <b>{name}</b> aren't the leader's.</p>"
        )?;
    }
    Ok(())
}

fn pause(out: &mut String, status: &ElectionStatus) -> std::fmt::Result {
    write!(out, "<p class=\"warn\">Paused by ")?;
    match &status.pause {
        Some(pause) => {
            let (by, since) = (Escaped(&pause.by), moment(&pause.since));
            write!(out, "{by} since {since} UTC")?;
        }
        None => write!(out, "a record that can't be read")?,
    }
    match status.in_pause() {
        InPause::Nobody => write!(out, ": nobody will lead")?,
        InPause::Kept => write!(out, ", keeping the leader: nobody new will lead")?,
        InPause::Stops(leader) => {
            let name = Escaped(&leader.name);
            write!(
                out,
                ": <b>{name}</b> is to stop its job, and nobody new will lead"
            )?;
        }
        InPause::Deaf(leader) => {
            let name = Escaped(&leader.name);
            write!(
                out,
                ": <b>{name}</b> is no incumbent and leads all the same, and nobody else will"
            )?;
        }
    }
    writeln!(out, " until it is resumed.</p>")
}

/// The replica that was asked.
fn replica(out: &mut String, config: &Config, public: &Public) -> std::fmt::Result {
    let job = match (public.job.up, public.pid) {
        (true, Some(pid)) => format!("its job runs as process {pid}"),
        (true, None) => "its job runs".to_owned(),
        (false, _) => "its job does not run".to_owned(),
    };
    let name = Escaped(&config.candidate_name);
    let role = public.role.word();
    writeln!(out, "<p>This replica, <b>{name}</b>, is {role}; {job}.</p>")?;
    match &public.health {
        Some(health) if health.healthy == Some(false) => {
            let last = Escaped(health.last.as_deref().unwrap_or_default());
            writeln!(
                out,
                "<p class=\"warn\">Its check fails: {last}. It stands for election again once the check succeeds.</p>"
            )
        }
        _ => Ok(()),
    }
}

fn queue(out: &mut String, status: &ElectionStatus) -> std::fmt::Result {
    writeln!(out, "<h2>Queue</h2>")?;
    if status.queue.is_empty() {
        return writeln!(out, "<p class=\"soft\">Nobody stands in it.</p>");
    }
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<tr><th>#<th>name<th>lease left<th class=\"spare\">host<th class=\"spare\">since (UTC)"
    )?;
    for candidate in status.queue.iter().take(QUEUE_LISTED) {
        row(out, candidate)?;
    }
    writeln!(out, "</table></div>")?;
    match status.queue.len().checked_sub(QUEUE_LISTED) {
        Some(more) if more > 0 => writeln!(out, "<p class=\"soft\">and {more} more</p>"),
        _ => Ok(()),
    }
}

fn row(out: &mut String, candidate: &CandidateStatus) -> std::fmt::Result {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    let left = match candidate.lease_remaining_s {
        Some(left) => format!(
            "<progress max=\"{0}\" value=\"{left}\"></progress> {left} s of {0} s",
            candidate.ttl
        ),
        None => "–".to_owned(),
    };
    writeln!(
        out,
        "<tr><td>{}<td class=\"name\">{}<td>{left}<td class=\"spare\">{}<td class=\"spare\">{}",
        candidate.position,
        Escaped(&candidate.name),
        Escaped(&known(&candidate.host)),
        moment(&known(&candidate.since)),
    )
}

fn terms(out: &mut String, overview: &Overview, now: &str) -> std::fmt::Result {
    writeln!(out, "<h2>Terms</h2>")?;
    let terms = picture::terms(overview, now);
    if terms.is_empty() {
        return writeln!(out, "<p class=\"soft\">There was none yet.</p>");
    }
    picture::draw(out, &terms)?;
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<tr><th>token<th>candidate<th>lasted<th>ended<th class=\"spare\">began (UTC)"
    )?;
    for term in terms.iter().rev().take(TERMS_LISTED) {
        writeln!(
            out,
            "<tr><td>{}<td class=\"name\">{}<td>{}<td class=\"{}\">{}<td class=\"spare\">{}",
            term.token,
            Escaped(term.candidate),
            words(term.length()),
            term.class(),
            Escaped(term.why()),
            moment(term.since),
        )?;
    }
    writeln!(out, "</table></div>")
}

fn runs(out: &mut String, public: &Public) -> std::fmt::Result {
    writeln!(out, "<h2>Last runs of the job here</h2>")?;
    if public.job.last.is_empty() {
        return writeln!(
            out,
            "<p class=\"soft\">None has ended since this daemon started.</p>"
        );
    }
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<tr><th>ended (UTC)<th>result<th>ran<th>token"
    )?;
    for run in public.job.last.iter() {
        let how = match (run.end.code, run.end.signal) {
            (Some(code), _) => format!(", code {code}"),
            (None, Some(signal)) => format!(", signal {signal}"),
            (None, None) => String::new(),
        };
        writeln!(
            out,
            "<tr><td>{}<td>{}{how}<td>{}<td>{}",
            moment(&run.ended),
            run.result.word(),
            words(run.ran),
            run.token
        )?;
    }
    writeln!(out, "</table></div>")
}
