//! The picture: hand-over times by fault, each sample a mark, on a logarithmic scale.

use std::fmt::Write as _;

use super::faults::Fault;
use super::table::{Case, PLANNED, Row, Table, Who};

/// Width of everything, of what stands left of the scale, and of the margin right of it.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 24.0;

/// Where the first fault begins, and the heights of a lane and of the gap between faults.
const TOP: f64 = 96.0;
const LANE: f64 = 20.0;
const GAP: f64 = 14.0;

/// The scale, in powers of ten of a millisecond: 1 ms to 100 s.
const DECADES: i32 = 5;

/// Colours for light and for dark pages; shapes tell the three apart without them.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 17px; font-weight: 600; }
.small { font-size: 12px; fill: #57606a; }
.grid { stroke: #d0d7de; }
.floor { stroke: #57606a; stroke-dasharray: 4 3; }
.median { stroke-width: 2.5; }
.us { fill: #0969da; stroke: #0969da; }
.elect { fill: #bc4c00; stroke: #bc4c00; }
.lock { fill: #1a7f37; stroke: #1a7f37; }
.mark { fill-opacity: 0.45; stroke-opacity: 0.7; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.small { fill: #9ea7b3; }
.grid { stroke: #3d444d; }
.floor { stroke: #9ea7b3; }
.us { fill: #58a6ff; stroke: #58a6ff; }
.elect { fill: #f0883e; stroke: #f0883e; }
.lock { fill: #3fb950; stroke: #3fb950; }
}";

/// Draws all hand-overs that are compared.
pub(super) fn draw(table: &Table) -> String {
    let faults = [PLANNED].into_iter().chain(Fault::ALL.map(Fault::name));
    let (mut marks, mut y) = (String::new(), TOP);
    for fault in faults {
        let rows: Vec<_> = Who::ALL
            .into_iter()
            .filter_map(|who| Some((who, table.case(Case { fault, who })?)))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let middle = y + LANE * f64::from(u32::try_from(rows.len()).unwrap_or(0)) / 2.0;
        write!(
            marks,
            "<text x=\"16\" y=\"{:.1}\">{fault}</text>",
            middle + 4.0
        )
        .unwrap();
        for (who, row) in rows {
            marks += &lane(who, row, y + LANE / 2.0);
            y += LANE;
        }
        y += GAP;
    }
    let (bottom, height) = (y, y + 56.0);
    let floor = table.floor();
    let frame = [axis(bottom), floor_line(floor, bottom), legend()].concat();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"Hand-over times by fault, in milliseconds on a logarithmic scale\">\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"16\" y=\"28\">From the fault to the next leader's job</text>\n\
         {frame}{marks}</svg>\n"
    )
}

/// Where a time stands on the scale.
fn x(ms: f64) -> f64 {
    let share = ms.max(1.0).log10() / f64::from(DECADES);
    LEFT + share.min(1.0) * (WIDTH - LEFT - RIGHT)
}

/// The scale, with a line at each power of ten.
fn axis(bottom: f64) -> String {
    let mut axis = String::new();
    for power in 0..=DECADES {
        let ms = 10_f64.powi(power);
        let label = match power {
            0..3 => format!("{ms} ms"),
            _ => format!("{} s", ms / 1000.0),
        };
        let x = x(ms);
        writeln!(
            axis,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            TOP - 8.0,
            bottom + 18.0
        )
        .unwrap();
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let y = bottom + 40.0;
    writeln!(
        axis,
        "<text class=\"small\" x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">\
         time, logarithmic; a bar is the median</text>"
    )
    .unwrap();
    axis
}

/// The floor that no hand-over can be below.
fn floor_line(floor: f64, bottom: f64) -> String {
    let x = x(floor);
    format!(
        "<line class=\"floor\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
         <text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">\
         floor {floor:.1} ms</text>\n",
        TOP - 8.0,
        TOP - 14.0
    )
}

fn legend() -> String {
    let mut legend = String::new();
    for (who, x) in Who::ALL.into_iter().zip([LEFT, LEFT + 120.0, LEFT + 260.0]) {
        legend += &mark(who, x + 6.0, 52.0);
        let name = who.name();
        writeln!(legend, "<text x=\"{:.1}\" y=\"56\">{name}</text>", x + 18.0).unwrap();
    }
    legend
}

/// All samples of a row, their median, and in how many the old job lived on.
fn lane(who: Who, row: &Row, y: f64) -> String {
    let mut lane: String = row.samples.iter().map(|ms| mark(who, x(*ms), y)).collect();
    let median = x(row.median());
    writeln!(
        lane,
        "<line class=\"median {}\" x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" \
         y2=\"{:.1}\"/>",
        class(who),
        y - 8.0,
        y + 8.0
    )
    .unwrap();
    if let Some(overlaps) = row.overlaps.filter(|overlaps| *overlaps > 0) {
        let first = row.samples.iter().copied().fold(f64::INFINITY, f64::min);
        writeln!(
            lane,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">\
             two jobs at once in {overlaps} of {}</text>",
            x(first) - 10.0,
            y + 4.0,
            row.samples.len()
        )
        .unwrap();
    }
    lane
}

/// One sample.
fn mark(who: Who, x: f64, y: f64) -> String {
    let class = class(who);
    match who {
        Who::Us => {
            format!("<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\n")
        }
        Who::Elect => format!(
            "<rect class=\"mark {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"6\" height=\"6\"/>\n",
            x - 3.0,
            y - 3.0
        ),
        Who::Lock => format!(
            "<path class=\"mark {class}\" d=\"M{:.1} {:.1}h8l-4 -7z\"/>\n",
            x - 4.0,
            y + 3.5
        ),
    }
}

const fn class(who: Who) -> &'static str {
    match who {
        Who::Us => "us",
        Who::Elect => "elect",
        Who::Lock => "lock",
    }
}
