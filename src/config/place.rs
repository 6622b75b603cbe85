//! Where a value stands, and what is wrong with it there.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ::config::Value;
use serde::{Deserialize, Serialize};

use crate::faults;
use crate::keys::shown;
use crate::log::printable;

/// Where a value stands, as errors show it; the order is the one in which problems are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// A file as a whole.
    File(String),
    /// A line and a column of a file, from 1, in characters.
    Line(String, usize, usize),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// Nowhere: a built-in default, or a key that is missing.
    Default,
}

impl Place {
    /// The place as the text that the `config` crate carries along with each value.
    pub(super) fn origin(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The place of a value that came through the `config` crate.
    pub(super) fn of(value: &Value) -> Self {
        let origin = value.origin().unwrap_or_default();
        serde_json::from_str(origin).unwrap_or(Self::Default)
    }

    /// Whether the value was written into a file, whose directory its paths are relative to.
    pub(super) fn is_in_file(&self) -> bool {
        matches!(self, Self::File(_) | Self::Line(..))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(&printable(file)),
            Self::Line(file, line, column) => write!(f, "{}:{line}:{column}", printable(file)),
            Self::Variable(name) | Self::Flag(name) => f.write_str(&printable(name)),
            Self::Default => f.write_str("built-in default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key; empty if it is about a file as a whole or its syntax.
    pub key: String,
    /// What was expected and what was found.
    pub what: String,
    /// The machine's fault, which may be over at another try.
    may_pass: bool,
}

impl Problem {
    /// `what` is wrong with `key` at `place`.
    pub(super) fn new(place: Place, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place,
            key: key.into(),
            what: what.into(),
            may_pass: false,
        }
    }

    /// It came of this error, which may not be the user's to mend.
    pub(super) fn of(mut self, error: &io::Error) -> Self {
        self.may_pass = !faults::is_the_users(error);
        self
    }

    /// Whether it is about this section, or a key in it.
    pub(super) fn is_in(&self, section: &str) -> bool {
        let rest = self.key.strip_prefix(section);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Whether the other problem stands on the same line of the file.
    pub(super) fn shares_line(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Line(_, line, _), Place::Line(_, other, _)) => line == other,
            _ => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::Default {
            write!(f, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// All that is wrong with a configuration; never empty.
///
/// Prints the very lines for standard error, `incumbent: ` before each, without a newline at the
/// end. The process then exits with 78, unless [`may_pass`](Self::may_pass).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems in the order of the file, then of environment and flags.
    pub(super) fn of(mut problems: Vec<Problem>) -> Self {
        // Stable, so that the problems of one place keep the order in which they were found.
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        problems.dedup();
        Self(problems)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether it is the machine that can't read the configuration at the moment: another try may do better.
    pub fn may_pass(&self) -> bool {
        self.0.iter().any(|problem| problem.may_pass)
    }

    /// The lines that are printed.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let count = self.0.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let problems = self.0.iter().map(|problem| format!("incumbent: {problem}"));
        problems.chain([format!(
            "incumbent: {count} {noun} in the configuration; nothing was started"
        )])
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

/// The text in quotes, escaped, and cut where a line would get too long to read.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut kept: String = text.chars().take(LONGEST).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    format!("{kept:?}")
}

/// A path for people: each byte that is no UTF-8 as `\xff`.
pub(super) fn path_shown(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// As [`quoted`], of a path.
pub(super) fn path_quoted(path: &Path) -> String {
    match path.to_str() {
        Some(text) => quoted(text),
        None => format!("\"{}\"", printable(&path_shown(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_listed_by_place_and_counted() {
        let line = |line| Place::Line("a.toml".into(), line, 3);
        let problems = Problems::of(vec![
            Problem::new(Place::Flag("--ttl".into()), "election.ttl", "c"),
            Problem::new(line(10), "b", "b"),
            Problem::new(line(9), "a", "a"),
            Problem::new(Place::Default, "job.command", "d"),
        ]);
        assert_eq!(
            problems.to_string(),
            "incumbent: a.toml:9:3: a: a\n\
             incumbent: a.toml:10:3: b: b\n\
             incumbent: --ttl: election.ttl: c\n\
             incumbent: job.command: d\n\
             incumbent: 4 problems in the configuration; nothing was started"
        );
    }

    #[test]
    fn nothing_shown_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jé"), "a\\u{1b}[2Jé");
        assert_eq!(quoted("a\nb\"c"), "\"a\\nb\\\"c\"");
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn places_travel_as_origins() {
        let place = Place::Line("a \"b\".toml".into(), 3, 4);
        let value = Value::new(Some(&place.origin()), 5);
        assert_eq!(Place::of(&value), place);
        assert_eq!(Place::of(&Value::new(None, 5)), Place::Default);
    }
}
