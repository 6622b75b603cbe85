//! A scheduled job: when it runs next, when it last succeeded, and its runs along time.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::picture::{LEAST, WIDTH};
use super::text::{Escaped, moment, parsed, span_since, words};
use crate::schedule::record::{HistoryEntry, Outcome};
use crate::schedule::{Occasion, Schedule, Slot};
use crate::status::{Overview, ScheduleStatus};
use crate::wall::Time;

/// How many runs the table lists; the picture has them all.
const RUNS_LISTED: usize = 8;

/// Writes the section; nothing where the job has no schedule.
pub(super) fn write(
    out: &mut String,
    schedule: Option<&Schedule>,
    overview: &Overview,
    now: &str,
) -> std::fmt::Result {
    let status = match (schedule, now.parse::<Time>()) {
        (Some(schedule), Ok(now)) => {
            overview
                .status
                .clone()
                .with_schedule(Some(schedule), now)
                .schedule
        }
        _ => overview.status.schedule.clone(),
    };
    let Some(status) = status else {
        return Ok(());
    };
    writeln!(out, "<h2>Schedule</h2>")?;
    if let Some(words) = &status.words {
        writeln!(out, "<p class=\"soft\">Runs {}.</p>", Escaped(words))?;
    }
    if status.is_another {
        writeln!(
            out,
            "<p class=\"warn\">The schedule on record isn't that of this replica's configuration.</p>"
        )?;
    }
    next_and_last(out, &status, now)?;
    if overview.runs.is_empty() {
        return writeln!(out, "<p class=\"soft\">No run is over yet.</p>");
    }
    draw(out, &overview.runs, now)?;
    list(out, &overview.runs)
}

fn next_and_last(out: &mut String, status: &ScheduleStatus, now: &str) -> std::fmt::Result {
    if let Some(next) = status.next {
        let next = next.to_string();
        let (at, long) = (moment(&next), span_since(now, &next));
        writeln!(out, "<p>Next run: <b>{at}</b> UTC, in {long}</p>")?;
    }
    if let Some(open) = &status.open {
        let (slot, host) = (slot(open.slot), Escaped(&open.host));
        let long = span_since(&open.at.to_string(), now);
        writeln!(
            out,
            "<p>Open run: <b class=\"leads\">{slot}</b> by {host}, for {long}</p>"
        )?;
    }
    match status.last_success.map(|slot| slot.to_string()) {
        Some(success) => {
            let (at, long) = (moment(&success), span_since(&success, now));
            writeln!(out, "<p>Last success: <b>{at}</b> UTC, {long} ago</p>")?;
        }
        None if status.last.is_some() => writeln!(out, "<p>Last success: none</p>")?,
        None => {}
    }
    if status.failures > 0 {
        let slots = if status.failures == 1 {
            "slot"
        } else {
            "slots in a row"
        };
        writeln!(
            out,
            "<p class=\"warn\">{} {slots} failed.</p>",
            status.failures
        )?;
    }
    Ok(())
}

/// What a run is for, for people.
fn slot(occasion: Occasion) -> String {
    let slot = occasion.slot().map(|slot: Slot| moment(&slot.to_string()));
    slot.unwrap_or_else(|| occasion.to_string())
}

/// The class that colours it.
const fn class(result: Outcome) -> &'static str {
    match result {
        Outcome::Success => "leads",
        Outcome::Skipped | Outcome::Rerun | Outcome::Rewound => "unknown",
        Outcome::Stopped => "planned",
        Outcome::Failure | Outcome::Timeout | Outcome::Killed | Outcome::Lost | Outcome::Missed => {
            "lost"
        }
    }
}

/// Draws the runs, which are some, the latest first.
fn draw(out: &mut String, runs: &[HistoryEntry], now: &str) -> std::fmt::Result {
    let began = |run: &HistoryEntry| parsed(&run.began.to_string());
    let first = runs.iter().filter_map(began).min();
    let (Some(first), Some(now)) = (first, parsed(now)) else {
        return Ok(());
    };
    let since_first = |time: SystemTime| time.duration_since(first).unwrap_or_default();
    let whole = since_first(now).as_secs_f64().max(0.001);
    let at = |time| (since_first(time).as_secs_f64() / whole * WIDTH).min(WIDTH);
    writeln!(
        out,
        "<div class=\"lane\"><span>runs</span><svg viewBox=\"0 0 {WIDTH} 20\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"runs along time\">"
    )?;
    for run in runs.iter().rev() {
        let Some(began) = began(run) else { continue };
        let took = Duration::from_millis(run.took_ms);
        let end = began.checked_add(took).unwrap_or(began);
        let width = (at(end) - at(began)).max(LEAST);
        let left = at(began).min(WIDTH - width);
        // What wasn't run stands lower.
        let (top, height) = if run.attempt > 0 { (0, 20) } else { (12, 8) };
        writeln!(
            out,
            "<rect class=\"{}\" x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\">\
             <title>{}: {}</title></rect>",
            class(run.result),
            slot(run.slot),
            how(run),
        )?;
    }
    let format = |time| moment(&humantime::format_rfc3339_seconds(time).to_string());
    writeln!(
        out,
        "</svg></div>\n\
         <p class=\"axis\"><span>{}</span><span>{}</span></p>\n\
         <p class=\"legend soft\"><span><b class=\"leads\">■</b> success</span>\
         <span><b class=\"planned\">■</b> stopped</span>\
         <span><b class=\"lost\">■</b> failed or lost; low: missed</span>\
         <span><b class=\"unknown\">■</b> skipped</span></p>",
        format(first),
        format(now)
    )
}

/// How it ended, in a few words.
fn how(run: &HistoryEntry) -> String {
    let word = run.result.word();
    match (run.attempt, run.code, run.signal) {
        (0, ..) if run.missed > 0 => format!("{word}, {} slots", run.missed + 1),
        (_, Some(code), _) if code != 0 => format!("{word}, code {code}"),
        (_, _, Some(signal)) => format!("{word}, signal {signal}"),
        _ => word.to_owned(),
    }
}

fn list(out: &mut String, runs: &[HistoryEntry]) -> std::fmt::Result {
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<tr><th>slot (UTC)<th>result<th>took<th class=\"spare\">host<th class=\"spare\">began (UTC)"
    )?;
    for run in runs.iter().take(RUNS_LISTED) {
        let took = Duration::from_millis(run.took_ms);
        let took = if run.attempt > 0 {
            words(took)
        } else {
            "–".to_owned()
        };
        writeln!(
            out,
            "<tr><td>{}<td class=\"{}\">{}<td>{took}<td class=\"spare\">{}<td class=\"spare\">{}",
            slot(run.slot),
            class(run.result),
            how(run),
            Escaped(&run.host),
            moment(&run.began.to_string()),
        )?;
    }
    writeln!(out, "</table></div>")
}
