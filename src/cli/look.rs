//! How what people read is shown: as wide as their terminal, and in colours where they want them.

use std::fmt::Write as _;
use std::io;

use super::output;
use crate::log;

/// What is worth a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookMark {
    /// Who leads.
    Leader,
    /// On purpose, and not for long.
    Paused,
    /// To be mended.
    Trouble,
}

impl LookMark {
    const fn code(self) -> &'static str {
        match self {
            Self::Leader => "\x1b[1;32m",
            Self::Paused => "\x1b[33m",
            Self::Trouble => "\x1b[1;31m",
        }
    }
}

/// How the reader of standard output is to be shown something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// How many characters fit on a line; `None` where it may be as long as it will.
    pub(super) width: Option<usize>,
    /// Whether marks are shown.
    pub(super) colour: bool,
}

impl Look {
    /// That of standard output: plain, unless it is a terminal.
    pub(super) fn of_stdout() -> Self {
        Self {
            width: output::width(),
            colour: log::takes_colour(&io::stdout()),
        }
    }

    /// Appends a line, marked as a whole; nothing else in it reaches the terminal's own language.
    pub(super) fn line(self, text: &mut String, line: &str, mark: Option<LookMark>) {
        let line = log::printable(line);
        // Writing to a String can't fail.
        _ = match mark.filter(|_| self.colour) {
            Some(mark) => writeln!(text, "{}{line}\x1b[0m", mark.code()),
            None => writeln!(text, "{line}"),
        };
    }
}
