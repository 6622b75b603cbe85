//! Tables that fit the width of a terminal.

use super::look::{Look, LookMark};
use crate::log::printable;

/// The space between two columns.
const GAP: usize = 2;

/// The least that is left of a column that is cut.
const NARROWEST: usize = 6;

/// The most that is shown of a cell, wherever it is shown: no name of ours is longer, and others may
/// have put anything there.
const WIDEST: usize = 255;

/// Rows under headings. Where a line would be too long, some columns are cut, and then others are
/// left out.
pub(super) struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<(Option<LookMark>, [String; N])>,
    flexible: &'static [&'static str],
    dispensable: &'static [&'static str],
}

impl<const N: usize> Table<N> {
    /// A table without rows. The columns under `flexible` headings may be cut; when that isn't
    /// enough, those under `dispensable` ones are left out, the first of them first.
    pub(super) const fn new(
        headings: [&'static str; N],
        flexible: &'static [&'static str],
        dispensable: &'static [&'static str],
    ) -> Self {
        Self {
            headings,
            rows: Vec::new(),
            flexible,
            dispensable,
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, mark: Option<LookMark>, row: [String; N]) {
        self.rows.push((mark, row.map(|cell| short(&cell))));
    }

    /// The lines, as wide as they may be if that is possible at all.
    pub(super) fn render(&self, look: Look) -> String {
        let columns = self.columns(look.width.unwrap_or(usize::MAX));
        let headings = self.headings.map(str::to_owned);
        let rows = self.rows.iter().map(|(mark, row)| (*mark, row));
        let mut text = String::new();
        for (mark, row) in [(None, &headings)].into_iter().chain(rows) {
            let mut line = String::new();
            for &(column, width) in &columns {
                let cell = cut(&row[column], width);
                let rest = width.saturating_sub(cell.chars().count());
                line.extend([cell, " ".repeat(rest + GAP)]);
            }
            look.line(&mut text, line.trim_end(), mark);
        }
        text
    }

    /// The columns that are shown, each with its width.
    fn columns(&self, limit: usize) -> Vec<(usize, usize)> {
        let mut columns: Vec<_> = (0..N).map(|column| (column, self.width(column))).collect();
        let mut dispensable = self.dispensable.iter();
        loop {
            let cut = self.cut_to(columns.clone(), limit);
            if total(&cut) <= limit {
                return cut;
            }
            let Some(heading) = dispensable.next() else {
                return cut;
            };
            columns.retain(|(column, _)| self.headings[*column] != *heading);
        }
    }

    /// The width of a column's widest cell.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|(_, row)| row[column].chars().count());
        let heading = self.headings[column].chars().count();
        cells.chain([heading, 1]).max().unwrap_or(1)
    }

    /// Takes from the widest flexible columns until the line fits, or nothing is left to take.
    fn cut_to(&self, mut columns: Vec<(usize, usize)>, limit: usize) -> Vec<(usize, usize)> {
        while total(&columns) > limit {
            let flexible = columns.iter_mut().filter(|(column, width)| {
                self.flexible.contains(&self.headings[*column]) && *width > NARROWEST
            });
            match flexible.max_by_key(|(_, width)| *width) {
                Some((_, width)) => *width -= 1,
                None => break,
            }
        }
        columns
    }
}

/// How long a line of these columns is.
fn total(columns: &[(usize, usize)]) -> usize {
    let cells: usize = columns.iter().map(|(_, width)| width).sum();
    cells + GAP * columns.len().saturating_sub(1)
}

/// What others wrote, as far as people read it.
pub(super) fn short(text: &str) -> String {
    cut(&printable(text), WIDEST)
}

/// The text, or its beginning and an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}
