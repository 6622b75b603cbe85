//! Rows, what they are held against, and how they are shown.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::picture;

/// The rows that together are the floor.
pub(super) const FLOOR: &str = "F: delete, watch event, linearizable read";
pub(super) const EXEC: &str = "E: fork and exec of the bare job";

/// What a schedule adds.
pub(super) const COMMIT: &str = "C: commit of a write";

/// What a row is held against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A comparison, or the floor itself.
    None,
    /// The median, in floors (`F+E`), and the worst sample, in the row's unit.
    Floors { median: f64, worst: Option<f64> },
    /// The median, in the row's unit.
    Median(f64),
    /// The median: so many floors, a commit, and so many milliseconds.
    AfterCommit { floors: f64, millis: f64 },
    /// The worst sample, in the row's unit.
    Worst(f64),
    /// The smallest sample is above zero.
    Margin,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("—"),
            Self::Floors { median, worst } => {
                let worst = worst.map_or(String::new(), |worst| format!(", worst ≤ {worst}"));
                f.pad(&format!("≤ {median} (F+E){worst}"))
            }
            Self::AfterCommit { floors, millis } => {
                let first = if *floors > 0.0 {
                    format!("{floors} (F+E)")
                } else {
                    format!("{millis}")
                };
                f.pad(&format!("median ≤ {first} + C"))
            }
            Self::Median(most) => f.pad(&format!("median ≤ {most}")),
            Self::Worst(most) => f.pad(&format!("≤ {most:.3}")),
            Self::Margin => f.pad("every one > 0"),
        }
    }
}

/// Who hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Us,
    Elect,
    Lock,
}

impl Who {
    pub(super) const ALL: [Self; 3] = [Self::Us, Self::Elect, Self::Lock];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Us => "incumbent",
            Self::Elect => "etcdctl elect",
            Self::Lock => "etcdctl lock",
        }
    }
}

/// A hand-over that is compared: who was hit by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) fault: &'static str,
    pub(super) who: Who,
}

/// The fault that is none.
pub(super) const PLANNED: &str = "planned stop";

/// Samples of one thing.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: String,
    unit: &'static str,
    target: Target,
    pub(super) case: Option<Case>,
    pub(super) samples: Vec<f64>,
    /// In how many of the samples the old job lived on when the next one began.
    pub(super) overlaps: Option<usize>,
}

impl Row {
    pub(super) fn new(name: &str, unit: &'static str, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            target,
            case: None,
            samples: Vec::new(),
            overlaps: None,
        }
    }

    /// The same for a hand-over that is compared.
    pub(super) const fn of(mut self, case: Case) -> Self {
        self.case = Some(case);
        self
    }

    fn sorted(&self) -> Vec<f64> {
        let mut samples = self.samples.clone();
        samples.sort_by(f64::total_cmp);
        samples
    }

    pub(super) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The largest sample, or of a margin the smallest.
    fn worst(&self) -> f64 {
        let sorted = self.sorted();
        let worst = match self.target {
            Target::Margin => sorted.first(),
            _ => sorted.last(),
        };
        worst.copied().unwrap_or(f64::NAN)
    }

    /// Whether the target is met; `None` if there is none.
    fn passes(&self, floor: f64, commit: f64) -> Option<bool> {
        Some(match self.target {
            Target::None => return None,
            Target::Floors { median, worst } => {
                self.median() <= median * floor && worst.is_none_or(|most| self.worst() <= most)
            }
            Target::AfterCommit { floors, millis } => {
                self.median() <= floors * floor + millis + commit
            }
            Target::Median(most) => self.median() <= most,
            Target::Worst(most) => self.worst() <= most,
            Target::Margin => self.worst() > 0.0,
        })
    }
}

/// All rows of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        let rows = rows.into_iter().filter(|row| !row.samples.is_empty());
        self.rows.extend(rows);
    }

    /// The row of a hand-over that is compared.
    pub(super) fn case(&self, case: Case) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == Some(case))
    }

    /// `F+E`, in milliseconds.
    pub(super) fn floor(&self) -> f64 {
        let parts = self
            .rows
            .iter()
            .filter(|row| [FLOOR, EXEC].contains(&&*row.name));
        parts.map(Row::median).sum()
    }

    /// The median of a commit, in milliseconds.
    fn commit(&self) -> f64 {
        let row = self.rows.iter().find(|row| row.name == COMMIT);
        row.map_or(0.0, Row::median)
    }

    /// Writes everything to a file in the folder of all that is built, and a picture beside it;
    /// returns the file's path.
    pub(super) fn write(&self) -> PathBuf {
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().nth(3).unwrap_or(Path::new("."));
        let file = target.join("handover.json");
        std::fs::write(&file, format!("{:#}\n", self.json())).unwrap();
        std::fs::write(file.with_extension("svg"), picture::draw(self)).unwrap();
        file
    }

    fn json(&self) -> Value {
        let (floor, commit) = (self.floor(), self.commit());
        let row = |row: &Row| {
            json!({
                "row": row.name,
                "unit": row.unit,
                "target": row.target.to_string(),
                "median": row.median(),
                "worst": row.worst(),
                "n": row.samples.len(),
                "ratio_to_floor": (row.unit == "ms").then(|| row.median() / floor),
                "pass": row.passes(floor, commit),
                "fault": row.case.map(|case| case.fault),
                "who": row.case.map(|case| case.who.name()),
                "overlaps": row.overlaps,
                "samples": row.samples,
            })
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({
            "cores": cores,
            "floor_ms": floor,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let floor = self.floor();
        let width = |row: &Row| row.name.chars().count();
        let name = self.rows.iter().map(width).max().unwrap_or(0);
        writeln!(
            f,
            "{:name$}  {:26}  {:>9}  {:>9}     {:>4}  {:>6}",
            "row", "target", "median", "worst", "n", "÷(F+E)"
        )?;
        for row in &self.rows {
            let ratio = match row.unit {
                "ms" => format!("{:.2}", row.median() / floor),
                _ => String::new(),
            };
            let verdict = match row.passes(floor, self.commit()) {
                Some(true) => "pass",
                Some(false) => "MISS",
                None => "",
            };
            writeln!(
                f,
                "{:name$}  {:26}  {:>9.3}  {:>9.3} {:3} {:>4}  {ratio:>6}  {verdict}",
                row.name,
                row.target,
                row.median(),
                row.worst(),
                row.unit,
                row.samples.len(),
            )?;
        }
        writeln!(f, "F+E: {floor:.2} ms, the sum of both medians")
    }
}
