//! The parts of the page that come from results, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// The faults, in the order of the page.
const FAULTS: [&str; 5] = ["planned stop", "kill -9", "SIGSTOP", "cut off", "host loss"];

/// Who is compared.
const WHO: [&str; 3] = ["incumbent", "etcdctl elect", "etcdctl lock"];

/// Puts `part` between the marks of this name.
pub(crate) fn fill(page: &str, name: &str, part: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let missing = || format!("the page has no place for {name}");
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}{}\n{end}{after}", part.trim_end()))
}

/// The table of hand-overs, of `target/handover.json`.
pub(crate) fn handovers(results: &Value) -> Result<String, String> {
    let rows = results["rows"].as_array().ok_or("no rows")?;
    let case = |fault: &str, who: &str| {
        let mut rows = rows.iter();
        rows.find(|row| row["fault"] == fault && row["who"] == who)
    };
    let mut page = format!("| | {} |\n|---|---|---|---|\n", WHO.join(" | "));
    for fault in FAULTS {
        let cells: Result<Vec<_>, _> = WHO.iter().map(|who| cell(case(fault, who))).collect();
        writeln!(page, "| {fault} | {} |", cells?.join(" | ")).map_err(|e| e.to_string())?;
    }
    let floor = number(results, "floor_ms")?;
    let cores = results["cores"].as_u64().ok_or("no cores")?;
    write!(
        page,
        "\nMedian, worst of n. The floor in the same run, on a machine with {cores} cores: {}.\n",
        span(floor)
    )
    .map_err(|e| e.to_string())?;
    let crowds: Vec<_> = rows
        .iter()
        .filter(|row| {
            row["row"]
                .as_str()
                .is_some_and(|name| name.starts_with("one of "))
        })
        .collect();
    if !crowds.is_empty() {
        page += "\n| in a large election | median | worst | n |\n|---|---|---|---|\n";
    }
    for row in crowds {
        let unit = row["unit"].as_str().unwrap_or_default();
        let shown = |value: f64| match unit {
            "ms" => span(value),
            _ => format!("{value:.1}"),
        };
        let name = row["row"].as_str().unwrap_or_default();
        let (median, worst) = (number(row, "median")?, number(row, "worst")?);
        let (median, worst, n) = (shown(median), shown(worst), &row["n"]);
        writeln!(page, "| {name} | {median} | {worst} | {n} |").map_err(|e| e.to_string())?;
    }
    Ok(page)
}

/// The table of hand-overs under the shipped unit, of `target/systemd.json`.
pub(crate) fn under_the_unit(results: &Value) -> Result<String, String> {
    let rows = results["rows"].as_array().ok_or("no rows")?;
    let mut page = "| | to the next job | without a job |\n|---|---|---|\n".to_owned();
    for row in rows {
        let fault = row["fault"].as_str().ok_or("a row has no fault")?;
        let both = |median: &str, worst: &str| -> Result<String, String> {
            let (median, worst) = (number(row, median)?, number(row, worst)?);
            Ok(format!("{}, {} of {}", span(median), span(worst), row["n"]))
        };
        let (took, gap) = (both("median", "worst")?, both("gap_median", "gap_worst")?);
        writeln!(page, "| {fault} | {took} | {gap} |").map_err(|e| e.to_string())?;
    }
    let cores = results["cores"].as_u64().ok_or("no cores")?;
    write!(
        page,
        "\nMedian, worst of n, on a machine with {cores} cores.\n"
    )
    .map_err(|e| e.to_string())?;
    Ok(page)
}

/// The table of who starts a job how late, of `target/slots.json`.
pub(crate) fn slots(results: &Value) -> Result<String, String> {
    let rows = results["rows"].as_array().ok_or("no rows")?;
    let mut page = "| | median | worst | n |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let who = row["who"].as_str().ok_or("a row has no name")?;
        let (median, worst, n) = (number(row, "median")?, number(row, "worst")?, &row["n"]);
        let (median, worst) = (span(median), span(worst));
        writeln!(page, "| {who} | {median} | {worst} | {n} |").map_err(|e| e.to_string())?;
    }
    Ok(page)
}

fn cell(row: Option<&Value>) -> Result<String, String> {
    let Some(row) = row else {
        return Ok("not measured".to_owned());
    };
    let (median, worst, n) = (number(row, "median")?, number(row, "worst")?, &row["n"]);
    let mut cell = format!("{}, {} of {n}", span(median), span(worst));
    match row["overlaps"].as_u64() {
        Some(overlaps) if overlaps > 0 => {
            write!(cell, "; **two jobs at once in {overlaps}**").map_err(|e| e.to_string())?;
        }
        _ => {}
    }
    Ok(cell)
}

/// All runs of `make torture` on one version of etcd.
#[derive(Default)]
struct Tortured {
    minutes: f64,
    seeds: Vec<String>,
    faults: u64,
    /// By the names in [`COUNTS`].
    counts: [u64; COUNTS.len()],
}

/// What is counted of each version.
const COUNTS: [&str; 8] = [
    "runs of the job that runs all the time",
    "guarded writes accepted",
    "slots of the scheduled job",
    "runs of these",
    "terms of jobs that share a daemon with others",
    "terms and places in a queue that only another job's fault was beside",
    "**breaches of the rules**",
    "in the class of faults that are not promised against",
];

/// What was thrown and what came of it, of all runs of `make torture`; a column for each version of etcd.
pub(crate) fn torture(runs: &[Value]) -> Result<String, String> {
    let mut versions = BTreeMap::<&str, Tortured>::new();
    let mut thrown = BTreeMap::<(bool, String), BTreeMap<&str, u64>>::new();
    let mut after = BTreeMap::<String, Vec<f64>>::new();
    for run in runs {
        let etcd = run["etcd"]
            .as_str()
            .ok_or("no etcd in a result of the torture run")?;
        let version = versions.entry(etcd).or_default();
        version.seeds.push(run["seed"].to_string());
        version.minutes += number(run, "minutes")?;
        let counts = [
            whole(run, "runs")?,
            whole(run, "writes")?,
            whole(run, "slots")?,
            whole(run, "slot_runs")?,
            whole(run, "terms_of_several")?,
            whole(run, "stands_beside")?,
            length(run, "breaches")?,
            length(run, "excepted")?,
        ];
        for (sum, count) in version.counts.iter_mut().zip(counts) {
            *sum += count;
        }
        for fault in list(run, "thrown")? {
            let name = fault["fault"].as_str().ok_or("a fault has no name")?;
            let class = fault["excepted"].as_bool().unwrap_or(false);
            let n = whole(fault, "n")?;
            let kind = thrown.entry((class, name.to_owned())).or_default();
            *kind.entry(etcd).or_default() += n;
            version.faults += n;
        }
        for kind in list(run, "handovers")? {
            let name = kind["after"].as_str().ok_or("hand-overs after nothing")?;
            let spans = list(kind, "all_ms")?.iter().filter_map(Value::as_f64);
            after.entry(name.to_owned()).or_default().extend(spans);
        }
    }
    Ok([
        summary(&versions),
        how_often(&versions, &thrown),
        handed_over(after),
    ]
    .join("\n"))
}

/// The head of a table with a column for each version.
fn head(name: &str, versions: &BTreeMap<&str, Tortured>) -> String {
    let names = versions.keys().map(|etcd| format!("etcd {etcd}"));
    line(name, names) + &format!("|---|{}\n", "---|".repeat(versions.len()))
}

fn line(name: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = std::iter::once(name.to_owned()).chain(cells).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn summary(versions: &BTreeMap<&str, Tortured>) -> String {
    let mut page = head("", versions);
    let mut row = |name: &str, cell: &dyn Fn(&Tortured) -> String| {
        page += &line(name, versions.values().map(cell));
    };
    row("minutes", &|it| it.minutes.to_string());
    row("seeds", &|it| it.seeds.join(", "));
    row("faults thrown", &|it| it.faults.to_string());
    for (i, name) in COUNTS.iter().enumerate() {
        let marks = if name.starts_with('*') { "**" } else { "" };
        row(name, &|it| format!("{marks}{}{marks}", it.counts[i]));
    }
    page
}

fn how_often(
    versions: &BTreeMap<&str, Tortured>,
    thrown: &BTreeMap<(bool, String), BTreeMap<&str, u64>>,
) -> String {
    let mut page = head("thrown", versions);
    for ((class, name), counts) in thrown {
        let class = if *class {
            " (not promised against)"
        } else {
            ""
        };
        let count = |etcd| counts.get(etcd).copied().unwrap_or_default();
        let cells = versions.keys().map(|etcd| count(*etcd).to_string());
        page += &line(&format!("{name}{class}"), cells);
    }
    page
}

fn handed_over(after: BTreeMap<String, Vec<f64>>) -> String {
    let mut page = "| hand-over after | n | median | worst |\n|---|---|---|---|\n".to_owned();
    for (name, mut spans) in after {
        spans.sort_by(f64::total_cmp);
        let (Some(worst), n) = (spans.last(), spans.len()) else {
            continue;
        };
        let (median, worst) = (span(spans[n / 2]), span(*worst));
        page += &line(&name, [n.to_string(), median, worst].into_iter());
    }
    page
}

fn list<'a>(run: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    let list = run[name].as_array();
    list.ok_or(format!("no {name} in a result of the torture run"))
}

fn length(run: &Value, name: &str) -> Result<u64, String> {
    u64::try_from(list(run, name)?.len()).map_err(|error| error.to_string())
}

fn whole(value: &Value, name: &str) -> Result<u64, String> {
    let number = value[name].as_u64();
    number.ok_or(format!("no {name} in a result of the torture run"))
}

fn number(value: &Value, name: &str) -> Result<f64, String> {
    value[name]
        .as_f64()
        .ok_or(format!("no number {name} in the results"))
}

/// Milliseconds as people read them.
fn span(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}
