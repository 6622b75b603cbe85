//! The terms along time, a lane for each candidate.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::text::{Escaped, moment, parsed, words};
use crate::reason::EndReason;
use crate::revision::Token;
use crate::status::Overview;

/// How many candidates get a lane: those that led last.
const LANES: usize = 8;

/// The picture's width in its own units, and the least that a term takes of it.
pub(super) const WIDTH: f64 = 1000.0;
pub(super) const LEAST: f64 = 3.0;

/// A term on the page.
#[derive(Debug)]
pub(super) struct TermBar<'a> {
    pub(super) token: Token,
    pub(super) candidate: &'a str,
    pub(super) since: &'a str,
    begin: SystemTime,
    end: SystemTime,
    /// Why it ended; `None` while it lasts.
    reason: Option<&'a str>,
}

impl TermBar<'_> {
    /// How long it lasted, or has lasted so far.
    pub(super) fn length(&self) -> Duration {
        self.end.duration_since(self.begin).unwrap_or_default()
    }

    /// Why it ended, for people.
    pub(super) fn why(&self) -> &str {
        self.reason.unwrap_or("leads")
    }

    /// The class that colours it.
    pub(super) fn class(&self) -> &'static str {
        match self.reason {
            None => "leads",
            Some(reason) => match EndReason::read(reason) {
                Some(EndReason::Unknown) => "unknown",
                Some(reason) if reason.is_planned() => "planned",
                // A newer version may know more losses.
                _ => "lost",
            },
        }
    }
}

/// The terms that the store tells of, the earliest first. One whose end nobody wrote down lasted
/// until the next one at most.
pub(super) fn terms<'a>(overview: &'a Overview, now: &str) -> Vec<TermBar<'a>> {
    let Some(now) = parsed(now) else {
        return Vec::new();
    };
    let mut terms = Vec::new();
    let mut next = now;
    let present = overview.status.leader.as_ref();
    if let Some((leader, since)) =
        present.and_then(|leader| Some((leader, leader.since.as_deref()?)))
        && let Some(begin) = parsed(since)
    {
        terms.push(TermBar {
            token: leader.token,
            candidate: &leader.name,
            since,
            begin,
            end: now.max(begin),
            reason: None,
        });
        next = begin;
    }
    for past in &overview.terms {
        let is_present = present.is_some_and(|leader| leader.token == past.term.token);
        let Some(begin) = parsed(&past.term.since).filter(|_| !is_present) else {
            continue;
        };
        let end = past.ended.as_deref().and_then(parsed).unwrap_or(next);
        terms.push(TermBar {
            token: past.term.token,
            candidate: &past.term.candidate,
            since: &past.term.since,
            begin,
            end: end.max(begin),
            reason: Some(&past.reason),
        });
        next = begin;
    }
    terms.reverse();
    terms
}

/// Draws `terms`, which are some, the earliest first.
pub(super) fn draw(out: &mut String, terms: &[TermBar<'_>]) -> std::fmt::Result {
    let mut lanes: Vec<&str> = Vec::new();
    for term in terms.iter().rev() {
        if !lanes.contains(&term.candidate) && lanes.len() < LANES {
            lanes.push(term.candidate);
        }
    }
    lanes.sort_unstable();
    let first = terms.iter().map(|term| term.begin).min();
    let last = terms.iter().map(|term| term.end).max();
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(());
    };
    let since_first = |time: SystemTime| time.duration_since(first).unwrap_or_default();
    let whole = since_first(last).as_secs_f64().max(0.001);
    let at = |time| since_first(time).as_secs_f64() / whole * WIDTH;
    for lane in lanes {
        let name = Escaped(lane);
        writeln!(
            out,
            "<div class=\"lane\"><span title=\"{name}\">{name}</span>\
             <svg viewBox=\"0 0 {WIDTH} 20\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"terms of {name}\">"
        )?;
        for term in terms.iter().filter(|term| term.candidate == lane) {
            let width = (at(term.end) - at(term.begin)).max(LEAST);
            let left = at(term.begin).min(WIDTH - width);
            writeln!(
                out,
                "<rect class=\"{}\" x=\"{left:.1}\" y=\"0\" width=\"{width:.1}\" height=\"20\">\
                 <title>token {}: {}, {}</title></rect>",
                term.class(),
                term.token,
                words(term.length()),
                Escaped(term.why()),
            )?;
        }
        writeln!(out, "</svg></div>")?;
    }
    let format = |time| moment(&humantime::format_rfc3339_seconds(time).to_string());
    writeln!(
        out,
        "<p class=\"axis\"><span>{}</span><span>{}</span></p>\n\
         <p class=\"legend soft\"><span><b class=\"leads\">■</b> leads</span>\
         <span><b class=\"planned\">■</b> ended on purpose</span>\
         <span><b class=\"lost\">■</b> lost</span>\
         <span><b class=\"unknown\">■</b> unknown</span></p>",
        format(first),
        format(last)
    )
}
