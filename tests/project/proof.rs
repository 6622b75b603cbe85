//! The page of proof: its numbers come from results, and none is lost on the way.

use serde_json::{Value, json};

#[path = "../../examples/proof/page.rs"]
mod page;

const PAGE: &str = include_str!("../../docs/proof.md");

fn results() -> Value {
    let row = |who: &str, fault: &str, median: f64, overlaps: Option<u64>| {
        json!({"row": "a row", "who": who, "fault": fault, "unit": "ms", "median": median,
               "worst": median * 2.0, "n": 7, "overlaps": overlaps})
    };
    let crowd = json!({"row": "one of 50: watch events", "who": null, "fault": null, "unit": "",
                       "median": 1.0, "worst": 1.0, "n": 30});
    json!({"cores": 2, "floor_ms": 5.25, "rows": [
        row("incumbent", "kill -9", 12.34, Some(0)),
        row("etcdctl lock", "cut off", 10_050.0, Some(7)),
        crowd,
    ]})
}

#[test]
fn every_case_has_its_place_and_two_jobs_at_once_are_said_aloud() {
    let table = page::handovers(&results()).unwrap();
    let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
    let nothing = "not measured";
    assert_eq!(
        line("| kill -9"),
        format!("| kill -9 | 12.3 ms, 24.7 ms of 7 | {nothing} | {nothing} |")
    );
    assert_eq!(
        line("| cut off"),
        format!(
            "| cut off | {nothing} | {nothing} | 10.1 s, 20.1 s of 7; **two jobs at once in 7** |"
        )
    );
    for fault in ["planned stop", "SIGSTOP", "host loss"] {
        line(&format!("| {fault} |"));
    }
    assert_eq!(
        line("| one of 50"),
        "| one of 50: watch events | 1.0 | 1.0 | 30 |"
    );
    assert!(table.contains("2 cores: 5.2 ms"), "{table}");
}

#[test]
fn the_unit_has_a_table_of_its_own() {
    let row = json!({"fault": "kill -9 of everything", "median": 61.24, "worst": 88.0,
                     "gap_median": 60.0, "gap_worst": 1_500.0, "n": 30});
    let table = page::under_the_unit(&json!({"cores": 2, "rows": [row.clone()]})).unwrap();
    let line = "| kill -9 of everything | 61.2 ms, 88.0 ms of 30 | 60.0 ms, 1.5 s of 30 |";
    assert!(table.lines().any(|found| found == line), "{table}");
    assert!(table.contains("2 cores"), "{table}");
    page::fill(PAGE, "systemd", &table).unwrap();
    page::under_the_unit(&json!({"cores": 2, "rows": [{"fault": "none"}]})).unwrap_err();
}

#[test]
fn the_runs_on_each_version_of_etcd_are_added_up_in_a_column_of_their_own() {
    let run = |etcd: &str, seed: u64, breaches: Value| {
        json!({"etcd": etcd, "seed": seed, "minutes": 10, "runs": 5, "writes": 100, "slots": 30, "slot_runs": 40,
               "terms_of_several": 20, "stands_beside": 3, "breaches": breaches, "excepted": [],
               "thrown": [{"fault": format!("kill {}", seed.min(2)), "excepted": false, "n": 3}],
               "handovers": [{"after": "kill daemon", "all_ms": [seed, 7.0]}]})
    };
    let runs = [
        run("3.4.30", 1, json!([])),
        run("3.4.30", 2, json!([{"rule": "overlap"}])),
        run("3.7.0", 3, json!([])),
    ];
    let text = page::torture(&runs).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for said in [
        "|  | etcd 3.4.30 | etcd 3.7.0 |",
        "| minutes | 20 | 10 |",
        "| seeds | 1, 2 | 3 |",
        "| faults thrown | 6 | 3 |",
        "| runs of the job that runs all the time | 10 | 5 |",
        "| guarded writes accepted | 200 | 100 |",
        "| slots of the scheduled job | 60 | 30 |",
        "| runs of these | 80 | 40 |",
        "| terms of jobs that share a daemon with others | 40 | 20 |",
        "| terms and places in a queue that only another job's fault was beside | 6 | 3 |",
        "| **breaches of the rules** | **1** | **0** |",
        "| thrown | etcd 3.4.30 | etcd 3.7.0 |",
        "| kill 1 | 3 | 0 |",
        "| kill 2 | 3 | 3 |",
        "| kill daemon | 6 | 7.0 ms | 7.0 ms |",
    ] {
        assert!(lines.contains(&said), "{said}: {text}");
    }
    let mut nowhere = run("3.4.30", 1, json!([]));
    nowhere.as_object_mut().unwrap().remove("etcd");
    for broken in [json!({"etcd": "3.4.30", "seed": 1}), nowhere] {
        let broken = page::torture(&[broken]);
        assert!(broken.is_err(), "{broken:?}");
    }
}

#[test]
fn the_page_has_a_place_for_each_part_and_keeps_the_rest() {
    for name in ["handovers", "systemd", "slots", "torture"] {
        let filled = page::fill(PAGE, name, "| new |\n").unwrap();
        assert!(filled.contains(&format!("<!-- {name} -->\n| new |\n<!-- /{name} -->")));
        let other = |text: &str| {
            let (before, rest) = text.split_once(&format!("<!-- {name} -->")).unwrap();
            let (_, after) = rest.split_once(&format!("<!-- /{name} -->")).unwrap();
            format!("{before}{after}")
        };
        assert_eq!(other(&filled), other(PAGE));
        assert_eq!(page::fill(&filled, name, "| new |").unwrap(), filled);
    }
    assert!(page::fill(PAGE, "nonesuch", "").is_err());
}

#[test]
fn slots_are_told_by_who_starts_a_job() {
    let results = json!({"rows": [
        {"who": "cron", "median": 12.34, "worst": 1500.0, "n": 4, "samples": []},
    ]});
    let page = page::slots(&results).unwrap();
    assert!(page.contains("| cron | 12.3 ms | 1.5 s | 4 |"), "{page}");
    assert!(page::slots(&json!({"rows": [{"who": "cron"}]})).is_err());
}
