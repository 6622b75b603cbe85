//! Plain tables that fit the width of a terminal.

/// The space between two columns.
const GAP: usize = 2;

/// The least that is left of a column that is cut.
const NARROWEST: usize = 6;

/// Rows under headings; some columns may be cut where a line would be too long.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    flexible: Vec<usize>,
}

impl<const N: usize> Table<N> {
    /// A table without rows; the columns under `flexible` headings may be cut.
    pub(super) fn new(headings: [&str; N], flexible: &[&str]) -> Self {
        let is_flexible = |column: &usize| flexible.contains(&headings[*column]);
        Self {
            flexible: (0..N).filter(is_flexible).collect(),
            rows: vec![headings.map(str::to_owned)],
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The lines, cut to `width` as far as the flexible columns allow.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths(width.unwrap_or(usize::MAX));
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let cell = cut(cell, width);
                line.extend([format!("{cell:width$}"), " ".repeat(GAP)]);
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// The width of each column: that of its widest cell, and less for the widest flexible ones
    /// until the line fits.
    fn widths(&self, limit: usize) -> [usize; N] {
        let mut widths = [0; N];
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&mut widths) {
                *width = (*width).max(cell.chars().count().max(1));
            }
        }
        while widths.iter().sum::<usize>() + GAP * (N - 1) > limit {
            let widest = self
                .flexible
                .iter()
                .copied()
                .max_by_key(|column| widths[*column]);
            match widest {
                Some(column) if widths[column] > NARROWEST => widths[column] -= 1,
                _ => break,
            }
        }
        widths
    }
}

/// The text, or its beginning and an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}
