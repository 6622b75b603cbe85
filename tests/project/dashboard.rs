//! The dashboard that is shipped: what it asks for is what daemons tell, and it is one that Grafana takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::*;

const PAGE: &str = "docs/dashboard.json";

/// What whoever scrapes adds to each series.
const OF_SCRAPE: [&str; 2] = ["job", "instance"];

/// What who looks at it chooses, and the variable for it.
const CHOSEN: [(&str, &str); 2] = [("job", "$job"), ("election", "$election")];

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(PAGE).unwrap()).unwrap()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

/// The panels that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = list(dashboard, "panels").iter();
    panels.filter(|panel| panel["type"] != "row")
}

/// Each expression with what its series are called by.
fn asked(dashboard: &Value) -> Vec<(String, String)> {
    let targets = panels(dashboard).flat_map(|panel| list(panel, "targets"));
    let targets = targets.map(|it| (text(it, "expr"), text(it, "legendFormat")));
    let annotations = list(&dashboard["annotations"], "list").iter();
    let annotations = annotations
        .filter(|it| it["builtIn"] != 1)
        .map(|it| (text(it, "expr"), text(it, "titleFormat")));
    let asked = targets.chain(annotations);
    asked
        .map(|(expr, legend)| (expr.to_owned(), legend.to_owned()))
        .collect()
}

/// What a daemon tells: the labels of each metric, and their values.
type Told = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a daemon tells that has a check and a schedule.
fn told() -> Told {
    let scene = Scene::start(1);
    let daemon = Daemon::builder(&scene.cluster, "a")
        .job(&["true"])
        .toml("candidate.check.command = ['true']")
        .toml("job.schedule.every = '1s'")
        .spawn();
    daemon.wait_elected(SOON);
    let last = "incumbent_schedule_last_success_timestamp_seconds";
    let metrics = eventually(SOON, "a run is told of", || {
        let text = daemon.ask("GET", "/metrics").body;
        if text.contains(&format!("\n{last}{{")) {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let mut told = Told::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, matchers) = series.split_once('{').unwrap_or((series, ""));
        let labels = told.entry(name.to_owned()).or_default();
        for (label, _, value) in matched(matchers.trim_end_matches('}')) {
            labels.entry(label).or_default().insert(value);
        }
    }
    told
}

/// A label, how it is compared, and with what.
type Matcher = (String, String, String);

/// The matchers of `a="b",c!="d"`.
fn matched(matchers: &str) -> Vec<Matcher> {
    let parts: Vec<&str> = matchers.split('"').collect();
    let pairs = parts.chunks_exact(2);
    pairs
        .map(|pair| {
            let left = pair[0].trim_matches([',', ' ']);
            let label = left.trim_end_matches(['=', '!', '~']);
            (
                label.to_owned(),
                left[label.len()..].to_owned(),
                pair[1].to_owned(),
            )
        })
        .collect()
}

/// The names in the brackets after `by` or `on`.
fn grouped(expr: &str) -> BTreeSet<String> {
    let brackets = ["by (", "on ("]
        .into_iter()
        .flat_map(|start| expr.split(start).skip(1));
    let lists = brackets.map(|rest| rest.split(')').next().unwrap());
    lists
        .flat_map(|list| list.split(','))
        .map(|label| label.trim().to_owned())
        .collect()
}

/// The metrics of an expression, with what they are narrowed by.
fn metrics(expr: &str) -> Vec<(String, Vec<Matcher>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expr.match_indices("incumbent_");
    let starts = starts.filter(|(at, _)| !expr[..*at].ends_with(is_name));
    starts
        .map(|(at, _)| {
            let rest = &expr[at..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let matchers = rest[end..]
                .strip_prefix('{')
                .and_then(|it| it.split_once('}'));
            (
                rest[..end].to_owned(),
                matched(matchers.map_or("", |it| it.0)),
            )
        })
        .collect()
}

#[test]
fn the_dashboard_asks_for_what_daemons_tell_and_for_all_of_it() {
    let (dashboard, told) = (dashboard(), told());
    let mut drawn = BTreeSet::new();
    for (expr, legend) in asked(&dashboard) {
        let mut labels: BTreeSet<&str> = OF_SCRAPE.into();
        for (metric, matchers) in metrics(&expr) {
            let known = told
                .get(&metric)
                .unwrap_or_else(|| panic!("nothing tells {metric}: {expr}"));
            labels.extend(known.keys().map(String::as_str));
            let narrows = |label: &str| matchers.iter().any(|(it, ..)| it == label);
            for (label, variable) in CHOSEN {
                assert!(narrows(label), "{metric} is of every {label}: {expr}");
                let chosen = matchers.iter().filter(|(it, ..)| it == label);
                for (_, how, value) in chosen {
                    assert_eq!((&**how, &**value), ("=~", variable), "{expr}");
                }
            }
            let others = matchers.iter();
            let is_chosen = |label: &str| CHOSEN.iter().any(|(it, _)| *it == label);
            for (label, _, value) in others.filter(|(it, ..)| !is_chosen(it)) {
                let values = known.get(label);
                let values = values.unwrap_or_else(|| panic!("{metric} has no {label}: {expr}"));
                for word in value.split('|') {
                    assert!(
                        values.contains(word),
                        "{metric} has no {label} {word}: {expr}"
                    );
                }
            }
            drawn.insert(metric);
        }
        for label in grouped(&expr) {
            assert!(labels.contains(&*label), "nothing has {label}: {expr}");
        }
        for named in legend.split("{{").skip(1) {
            let label = named.split("}}").next().unwrap().trim();
            assert!(
                labels.contains(label),
                "nothing has {label}: {legend}: {expr}"
            );
            let groups = grouped(&expr);
            let is_kept = !expr.contains(" by (")
                || groups.contains(label)
                || expr.contains(&format!("by ({label})"));
            assert!(is_kept, "{label} is summed away: {expr}");
        }
    }
    let base = |name: &str| {
        let mut ends = ["_bucket", "_sum", "_count"].into_iter();
        let base = ends.find_map(|end| name.strip_suffix(end));
        base.unwrap_or(name).to_owned()
    };
    let drawn: BTreeSet<_> = drawn.iter().map(|name| base(name)).collect();
    let told: BTreeSet<_> = told.keys().map(|name| base(name)).collect();
    assert_eq!(drawn, told);
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "incumbent");
    assert!(
        dashboard["id"].is_null(),
        "a number of somebody's own Grafana"
    );
    assert!(
        dashboard["schemaVersion"].as_u64() >= Some(36),
        "{}",
        dashboard["schemaVersion"]
    );
    let [source, job, election] = list(&dashboard["templating"], "list") else {
        panic!("three variables");
    };
    assert_eq!(
        (text(source, "type"), text(source, "query")),
        ("datasource", "prometheus")
    );
    let ours = json!({ "type": "prometheus", "uid": format!("${{{}}}", text(source, "name")) });
    for (variable, name) in [(job, "job"), (election, "election")] {
        assert_eq!(
            (text(variable, "name"), text(variable, "type")),
            (name, "query")
        );
        assert_eq!(variable["datasource"], ours);
    }
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        assert!(!title.is_empty(), "{panel}");
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: an id twice"
        );
        let place = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        let [x, y, w, h] = place;
        assert!(x + w <= 24, "{title} is too wide");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            !text(panel, "description").is_empty(),
            "{title} explains nothing"
        );
        assert_eq!(panel["datasource"], ours, "{title}");
        let targets = list(panel, "targets");
        assert!(!targets.is_empty(), "{title}");
        let mut letters = BTreeSet::new();
        for target in targets {
            assert_eq!(target["datasource"], ours, "{title}");
            assert!(letters.insert(text(target, "refId")), "{title}");
        }
    }
}

#[test]
fn prometheus_understands_the_dashboard() {
    if !is_there("promtool", "the queries of docs/dashboard.json") {
        return;
    }
    let plain = |expr: String| {
        expr.replace("$job", ".*")
            .replace("$__rate_interval", "1m")
            .replace("$__range", "6h")
    };
    let rules = asked(&dashboard()).into_iter().enumerate();
    let rules =
        rules.map(|(i, (expr, _))| json!({ "record": format!("query:{i}"), "expr": plain(expr) }));
    let rules: Vec<Value> = rules.collect();
    let sandbox = Sandbox::new();
    // JSON is YAML.
    let file = sandbox.join("rules.yml");
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&file, groups.to_string()).unwrap();
    let mut check = Command::new("promtool");
    let output = check.args(["check", "rules"]).arg(&file).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
