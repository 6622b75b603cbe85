//! `incumbent status` and `incumbent observe`: who leads, as everybody may see it.

use std::process::Stdio;

use crate::common::*;
use serde_json::{Value, json};

fn status(cluster: &Cluster) -> Value {
    let text = cluster.incumbent(&["status", "-o", "json"]).text();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_queue_is_told_in_order_with_all_that_is_known() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let term = scene.term_record(token);

    let told = status(&scene.cluster);
    let keys: Vec<&String> = told.as_object().unwrap().keys().collect();
    let expected = [
        "blocked_by",
        "election",
        "leader",
        "marker",
        "paused",
        "queue",
        "revision",
    ];
    assert_eq!(keys, expected);
    assert_eq!(told["election"], PREFIX);
    assert_eq!(told["paused"], false);
    assert_eq!(told["blocked_by"], json!([]));
    assert_eq!(told["leader"], told["queue"][0]);
    assert_eq!(told["revision"], scene.cluster.revision());
    for (position, daemon) in [&a, &b].into_iter().enumerate() {
        let candidate = scene.candidate(daemon);
        let told = &told["queue"][position];
        assert_eq!(told["position"], position);
        assert_eq!(told["name"], daemon.name());
        assert_eq!(told["lease"], candidate.lease_hex());
        assert_eq!(told["token"], candidate.create_revision);
        assert_eq!(told["key"], candidate.key);
        assert_eq!(told["ttl"], 4);
        let left = told["lease_remaining_s"].as_f64().unwrap();
        assert!((0.0..=4.0).contains(&left), "{told}");
        assert_eq!(told["pid"], daemon.pid());
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
        assert!(told["host"].is_string(), "{told}");
        assert!(told["since"].as_str().unwrap().ends_with('Z'), "{told}");
    }
    assert_eq!(told["leader"]["token"], token);
    assert_eq!(told["leader"]["since"], term["since"]);

    let table = scene.cluster.incumbent(&["status"]).text();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "election  /election");
    assert_eq!(lines[1], format!("leader    a, token {token}"));
    assert!(lines[3].contains("TOKEN"), "{table}");
    assert!(lines[4].starts_with("*  0  a "), "{table}");
    assert!(lines[5].starts_with("   1  b "), "{table}");
    assert_eq!(lines.len(), 6);
}

#[test]
fn nobody_there_is_an_answer() {
    let cluster = Cluster::start(1);
    let told = status(&cluster);
    let expected = json!({
        "election": PREFIX, "leader": null, "queue": [], "blocked_by": [], "paused": false,
        "marker": null, "revision": cluster.revision(),
    });
    assert_eq!(told, expected);
    let table = cluster.incumbent(&["status"]).text();
    assert_eq!(table, "election  /election\nleader    nobody\n");
}

#[test]
fn candidates_of_go_have_nulls() {
    let cluster = Cluster::start(1);
    let mut elect = cluster.etcdctl_beside("elect", &["elect", PREFIX, "from go"]);
    let mut elect = elect.stdout(Stdio::null()).spawn().unwrap();
    cluster.wait_names(PREFIX, &["from go"]);

    let told = status(&cluster);
    let leader = &told["leader"];
    assert_eq!(leader["name"], "from go");
    assert_eq!(leader["ttl"], 60);
    for unknown in ["host", "pid", "version", "since"] {
        assert_eq!(leader[unknown], Value::Null, "{unknown}");
    }
    elect.kill().unwrap();
    elect.wait().unwrap();
}

#[test]
fn a_blocked_and_paused_election_says_so() {
    let scene = Scene::start(1);
    scene.cluster.put("/election/stray", "x");
    scene.cluster.put("/election.meta/control/pause", "{}");
    scene.cluster.put("/election.meta/ended", "17");
    let a = scene.daemon("a").spawn();
    scene.cluster.wait_names(PREFIX, &["x", "a"]);

    let told = status(&scene.cluster);
    assert_eq!(told["leader"], Value::Null);
    assert_eq!(told["queue"][0]["name"], "a");
    assert_eq!(told["blocked_by"], json!(["/election/stray"]));
    assert_eq!(told["paused"], true);
    assert_eq!(told["marker"], 17);
    let table = scene.cluster.incumbent(&["status"]).text();
    assert!(table.contains("leader    nobody\nPAUSED "), "{table}");
    assert!(table.contains("\nBLOCKED   by /election/stray,"), "{table}");
    drop(a);
}

#[test]
fn status_ends_with_69_and_78_where_it_should() {
    let cluster = Cluster::prepare(1);
    let away = cluster.incumbent(&["status", "--timeout", "300ms"]).run();
    assert_eq!(away.code, Some(69), "{}", away.errors);
    let bad = cluster.incumbent(&["status", "--election", ""]).run();
    assert_eq!(bad.code, Some(78), "{}", bad.errors);
    assert!(
        bad.errors
            .starts_with("incumbent: --election: election.prefix: "),
        "{}",
        bad.errors
    );
}

#[test]
fn watch_prints_one_line_for_each_change_and_none_for_renewals() {
    let scene = Scene::start(1);
    let watched = scene
        .cluster
        .incumbent(&["status", "--watch", "-o", "json"])
        .follow();
    let told = watched.wait_json(1);
    assert_eq!(told[0]["queue"], json!([]));
    let (a, _) = scene.leader(scene.daemon("a"));
    scene.cluster.incumbent(&["pause", "--keep-leader"]).text();
    let last = |holds: &dyn Fn(&Value) -> bool| {
        eventually(SOON, "the last line tells", || {
            let lines = watched.wait_json(1);
            let last = lines.last().unwrap().clone();
            if holds(&last) {
                Ok(lines.len())
            } else {
                Err(last)
            }
        })
    };
    let lines = last(&|told| told["paused"] == true && told["leader"]["name"] == "a");
    // Longer than two renewals take.
    throughout(secs(3), "nothing more is told", || {
        watched.lines().len() == lines
    });
    a.sigterm();
    last(&|told| told["leader"].is_null() && told["queue"] == json!([]));
}

#[test]
fn observe_tells_every_leader_and_nobody_and_what_is_proclaimed() {
    let scene = Scene::start(1);
    let observed = scene.cluster.incumbent(&["observe"]).follow();
    observed.wait_lines(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let leader = scene.candidate(&a);
    let lease = leader.lease_hex();
    let line = |event: &str, name: &str| {
        let leader = json!({"name": name, "lease": lease, "key": leader.key, "token": token});
        json!({"event": event, "leader": leader})
    };
    let proclaim = ["kv", "put", &leader.key, "b", "--lease", &lease];
    scene.cluster.incumbent(&proclaim).text();
    observed.wait_lines(3);
    a.sigterm();

    let mut told = observed.wait_json(4);
    let revisions: Vec<i64> = told
        .iter_mut()
        .map(|line| line.as_object_mut().unwrap().remove("revision").unwrap())
        .map(|revision| revision.as_i64().unwrap())
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    // Not before its claim is complete.
    assert!(revisions[1] > token);
    let nobody = json!({"event": "leader", "leader": null});
    let expected = [
        nobody.clone(),
        line("leader", "a"),
        line("value", "b"),
        nobody,
    ];
    assert_eq!(told, expected);
}

#[test]
fn observe_goes_on_while_the_store_is_away() {
    let cluster = Cluster::prepare(1);
    let observed = cluster.incumbent(&["observe"]).follow();
    eventually(SOON, "it says that the store is away", || {
        let said = observed.errors();
        match said.first() {
            Some(first) if first.contains("unreachable") => Ok(()),
            _ => Err(said),
        }
    });
    cluster.start_all().unwrap();
    assert_eq!(observed.wait_json(1)[0]["leader"], Value::Null);

    cluster.kill(0);
    cluster.restart(0);
    let lease = cluster.etcdctl(&["lease", "grant", "600"]).text();
    // Padded here, but not in a candidate's key.
    let lease = lease.split(' ').nth(1).expect("lease ID granted");
    let lease = lease.trim_start_matches('0');
    let key = format!("{PREFIX}/{lease}");
    cluster
        .etcdctl(&["put", &key, "c", "--lease", lease])
        .text();
    assert_eq!(observed.wait_json(2)[1]["leader"]["name"], "c");
    let said = observed.errors();
    assert!(said.len() <= 2, "it says so every 30 s at most: {said:?}");
}

#[test]
fn observe_ends_when_nobody_reads() {
    let cluster = Cluster::start(1);
    let mut observed = cluster.incumbent(&["observe"]).start();
    observed.stop_reading();
    let answer = observed.wait();
    assert_eq!((answer.code, answer.errors.as_str()), (Some(0), ""));
}

#[test]
fn who_is_first_in_line_leads_only_with_a_complete_claim() {
    let scene = Scene::start(1);
    scene.cluster.incumbent(&["pause"]).text();
    let observed = scene.cluster.incumbent(&["observe"]).follow();
    let a = scene.daemon("a").spawn();
    a.wait_log("election paused", SOON);
    let told = status(&scene.cluster);
    assert_eq!(told["leader"], Value::Null);
    assert_eq!(told["queue"][0]["name"], "a");
    let table = scene.cluster.incumbent(&["status"]).text();
    assert!(
        table.contains("a, token") && table.contains("first in line, paused"),
        "{table}"
    );
    let answer = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    scene.cluster.incumbent(&["resume"]).text();
    let token = scene.wait_leads(&a, 1, SOON);
    let lines = observed.wait_json(2);
    assert_eq!(lines[0]["leader"], Value::Null);
    assert_eq!(lines[1]["leader"]["token"], token);
    assert_eq!(lines.len(), 2);
}

#[test]
fn nobody_leads_in_the_take_over_delay() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b").toml("election.takeover_delay = '1h'"));
    scene.cluster.revoke(scene.candidate(&a).lease);
    b.wait_log("waiting out the last term", SOON);
    let told = eventually(SOON, "b is first", || {
        let told = status(&scene.cluster);
        if told["queue"][0]["name"] == "b" {
            Ok(told)
        } else {
            Err(told)
        }
    });
    assert_eq!(told["leader"], Value::Null);
    let table = scene.cluster.incumbent(&["status"]).text();
    assert!(
        table.contains("first in line, waiting out the last term"),
        "{table}"
    );
    let observed = scene.cluster.incumbent(&["observe"]).follow();
    assert_eq!(observed.wait_json(1)[0]["leader"], Value::Null);
}

#[test]
fn a_key_that_is_no_text_is_shown_escaped_and_its_end_is_seen() {
    let scene = Scene::start(1);
    let key = b"/election/\xff\xfe";
    scene.cluster.ask("a key of bytes", async |mut client| {
        client.put(&key[..], "x", None).await.map(drop)
    });
    let a = scene.daemon("a").spawn();
    a.wait_log("queue blocked by a key that is no candidate", SOON);
    assert_eq!(
        status(&scene.cluster)["blocked_by"],
        json!(["/election/\\xff\\xfe"])
    );
    let observed = scene.cluster.incumbent(&["observe"]).follow();
    assert_eq!(observed.wait_json(1)[0]["leader"], Value::Null);
    scene.cluster.ask("its deletion", async |mut client| {
        client.delete(&key[..], None).await.map(drop)
    });
    scene.wait_leads(&a, 1, SOON);
    assert_eq!(observed.wait_json(2)[1]["leader"]["name"], "a");
}

#[test]
fn whatever_a_candidate_is_called_status_says_it_in_cells_of_one_line() {
    let cluster = Cluster::start(1);
    let long = "x".repeat(65_536);
    let evil = "a\u{1b}[2J\u{9b}31m\n\u{202e}b\u{2066}";
    let mut elects = Vec::new();
    for name in [long.as_str(), evil] {
        let mut elect = cluster.etcdctl_beside("elect", &["elect", PREFIX, name]);
        elects.push(elect.stdout(Stdio::null()).spawn().unwrap());
        eventually(SOON, "it stands", || {
            cluster.names(PREFIX).contains(&name.to_owned())
        });
    }
    let table = cluster.incumbent(&["status"]).text();
    assert!(
        table.lines().all(|line| line.chars().count() < 1000),
        "{table}"
    );
    assert!(
        table.contains("a\\u{1b}[2J\\u{9b}31m\\n\\u{202e}b\\u{2066}"),
        "{table}"
    );
    let text = cluster.incumbent(&["status", "-o", "json"]).text();
    let is_plain = |c: char| !c.is_control() && !('\u{202a}'..='\u{2069}').contains(&c);
    assert!(text.trim_end().chars().all(is_plain));
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["queue"][0]["name"], long);
    assert_eq!(told["queue"][1]["name"], evil);
    for mut elect in elects {
        elect.kill().unwrap();
        elect.wait().unwrap();
    }
}
