//! What stands in the store beside the queue, and what is made of it: records that others wrote,
//! that can't be read or can't be true, and keys that something has written to.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use incumbent::etcd::{Settings, Store};
use incumbent::keys::{LeaseId, Prefix};
use incumbent::reason::EndReason;
use incumbent::revision::Token;
use incumbent::term::resignation::Resignation;
use serde_json::{Value, json};

use crate::common::*;

/// What the log says of a delay.
const DELAYED: &str = "waiting out the last term";

/// What the log says of a key that is back on its lease.
const PUT_BACK: &str = "own key put back on its lease: something had written to it without";

fn status(scene: &Scene) -> Value {
    let text = scene.cluster.incumbent(&["status", "-o", "json"]).text();
    serde_json::from_str(&text).unwrap()
}

/// The lease that a key is on; 0 for none.
fn lease_of(scene: &Scene, key: &str) -> i64 {
    let queue = scene.cluster.queue(PREFIX);
    let found = queue.iter().find(|candidate| candidate.key == key);
    found.map_or(-1, |candidate| candidate.lease)
}

#[test]
fn a_term_is_waited_out_for_as_long_as_its_own_kill_budget_asks() {
    let scene = Scene::start(1);
    let slow = "job.kill_budget = '4s'\nelection.takeover_delay = '5s'";
    let (a, first) = scene.leader(scene.daemon("a").ttl("15s").toml(slow));
    assert_eq!(scene.term_record(first)["kill_budget_ms"], 4000);
    let hasty = "job.kill_budget = '200ms'\nelection.takeover_delay = '500ms'";
    let b = scene.waiter(scene.daemon("b").ttl("15s").toml(hasty));
    scene.cluster.revoke(scene.candidate(&a).lease);
    let token = scene.wait_leads(&b, 1, SOON);
    assert_eq!(b.wait_log(DELAYED, SOON).int("delay_ms"), 4200);
    assert!(token > 0);
    scene.assert_no_overlap();
}

#[test]
fn a_term_on_record_that_can_not_be_read_is_waited_out_and_said() {
    let scene = Scene::start(1);
    for (record, text) in [("term", "{"), ("ended", "x"), ("foreign", "-1")] {
        let key = format!("/election.meta/{record}");
        scene.cluster.put(&key, text);
        let told = status(&scene);
        assert_eq!(told["leader"], Value::Null);
        let table = scene.cluster.incumbent(&["status"]).text();
        assert!(table.contains(&format!("\nUNREAD    {key}: ")), "{table}");
        let a = scene.daemon(&format!("a-{record}")).spawn();
        let token = a.wait_elected(SOON);
        assert_eq!(a.wait_log("record can't be read", SOON).text("key"), key);
        assert_eq!(a.lines(DELAYED).len(), 1);
        if record != "foreign" {
            // Nobody needs to wait it out again.
            eventually(SOON, "the record is mended", || {
                let marker = scene.cluster.get("/election.meta/ended").ok_or("nothing")?;
                let mended = marker.parse::<i64>().is_ok_and(|it| it >= token - 1);
                if mended {
                    Ok(())
                } else {
                    Err("a number too low, or none")
                }
            });
        }
        a.sigterm();
        a.wait_exit(SOON);
        for record in ["term", "ended", "foreign"] {
            scene.cluster.delete(&format!("/election.meta/{record}"));
        }
    }
}

#[test]
fn a_record_from_the_future_is_named_by_whoever_refuses_to_lead() {
    let scene = Scene::start(1);
    let term = json!({
        "token": 99_999, "candidate": "x", "lease": "1f", "host": "h", "since": "s",
    });
    for (record, text) in [("ended", "99999".to_owned()), ("term", term.to_string())] {
        let key = format!("/election.meta/{record}");
        scene.cluster.put(&key, &text);
        let a = scene.daemon(&format!("a-{record}")).spawn();
        let why = a.wait_log("refusing to lead", SOON);
        let why = why.text("reason");
        assert!(why.contains(&format!("delete {key}")), "{why}");
        let table = scene.cluster.incumbent(&["status"]).text();
        assert!(!table.contains('*'), "{table}");
        a.sigterm();
        a.wait_exit(SOON);
        scene.cluster.delete(&key);
    }
}

#[test]
fn a_pause_that_can_not_be_read_is_a_pause_to_the_leader_too() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let key = "/election.meta/control/pause";
    scene.cluster.put(key, r#"{"by":"x","since":"s"}"#);
    assert_eq!(a.wait_log("record can't be read", SOON).text("key"), key);
    a.wait_log("job stopped", SOON);
    assert_eq!(b.wait_log("record can't be read", SOON).text("key"), key);
    throughout(secs(1), "nobody leads", || {
        let elected = a.lines("elected").len() + b.lines("elected").len();
        if elected == 1 { Ok(()) } else { Err(elected) }
    });
    let told = status(&scene);
    assert_eq!(
        (&told["paused"], &told["leader"]),
        (&json!(true), &Value::Null)
    );
    let table = scene.cluster.incumbent(&["status"]).text();
    assert!(
        table.contains("\nPAUSED    by a record that can't be read: "),
        "{table}"
    );
    scene.cluster.incumbent(&["resume"]).text();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_leaders_key_that_is_written_to_goes_back_on_its_lease() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let leader = scene.candidate(&a);
    for n in 1..=3 {
        let answer = scene.cluster.etcdctl(&["put", &leader.key, "x"]).text();
        assert_eq!(answer.trim(), "OK");
        let told = status(&scene);
        assert_eq!(told["blocked_by"], json!([]), "{told}");
        assert_eq!(told["leader"]["token"], token, "{told}");
        assert_eq!(a.wait_nth(PUT_BACK, n, SOON).text("key"), leader.key);
    }
    eventually(SOON, "it is as it was", || {
        let first = scene.first();
        if first.lease == leader.lease && first.name == "a" {
            Ok(())
        } else {
            Err(first.name)
        }
    });
    scene.still_leads(&a, token).unwrap();
    // A value that stays on the lease is the leader's to choose.
    let lease = leader.lease_hex();
    scene
        .cluster
        .etcdctl(&["put", &leader.key, "public", "--lease", &lease])
        .text();
    scene.cluster.etcdctl(&["put", &leader.key, "x"]).text();
    a.wait_nth(PUT_BACK, 4, SOON);
    eventually(SOON, "it is public again", || {
        scene.first().name == "public"
    });

    // The host is lost: the key goes with its lease.
    a.sigkill_both();
    scene.wait_leads(&b, 1, secs(20));
    scene.assert_no_overlap();
}

#[test]
fn a_waiters_key_that_is_written_to_goes_back_on_its_lease() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    let waiter = scene.candidate(&b);
    scene.cluster.etcdctl(&["put", &waiter.key, "x"]).text();
    b.wait_log(PUT_BACK, SOON);
    assert_eq!(lease_of(&scene, &waiter.key), waiter.lease);
    b.sigkill_both();
    eventually(secs(20), "b is gone", || {
        lease_of(&scene, &waiter.key) == -1
    });
    a.sigterm();
    scene.wait_leads(&c, 1, SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_lost_leaders_key_that_outlives_its_lease_is_taken_away_by_the_next() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let leader = scene.candidate(&a);
    a.sigkill_both();
    scene.cluster.etcdctl(&["put", &leader.key, "x"]).text();
    let told = status(&scene);
    assert_eq!(told["leader"]["key"], leader.key, "{told}");
    let table = scene.cluster.incumbent(&["status"]).text();
    assert!(!table.contains("delete"), "{table}");
    assert_eq!(
        b.wait_log("the key in front is off its lease", SOON)
            .text("key"),
        leader.key
    );
    scene.wait_leads(&b, 1, secs(20));
    assert_eq!(b.lines(DELAYED).len(), 1);
    scene.assert_no_overlap();
}

#[test]
fn the_term_is_on_record_once_a_full_store_takes_it() {
    // Its smallest quota is used up by its own files.
    let scene = Scene::on(Cluster::start_with(
        1,
        &["--quota-backend-bytes", "16777216"],
    ));
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let filler = "x".repeat(1_000_000);
    eventually(SOON, "the store is full", || {
        let put = scene
            .cluster
            .etcdctl(&["put", "/filler", &filler[..100_000]])
            .run();
        put.errors.contains("database space exceeded")
    });
    a.sigterm();
    let token = b.wait_elected(SOON);
    b.wait_log("term record not written", SOON);
    let recorded = || {
        let record = scene.cluster.get("/election.meta/term").unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        record["token"].as_i64().unwrap()
    };
    assert_ne!(recorded(), token);
    let now = scene.cluster.revision().to_string();
    scene.cluster.etcdctl(&["compact", &now]).text();
    scene.cluster.etcdctl(&["defrag"]).text();
    scene.cluster.etcdctl(&["alarm", "disarm"]).text();
    eventually(SOON, "the term is on record", || recorded() == token);
    scene.assert_no_overlap();
}

#[test]
fn a_replica_with_other_settings_is_told_of_and_marked() {
    let scene = Scene::start(1);
    let grace = |name: &str, grace: &str| {
        let text = format!("job.stop_grace = {grace:?}");
        scene.daemon(name).toml(&text)
    };
    let (a, _) = scene.leader(grace("a", "9s"));
    let b = scene.waiter(grace("b", "17s"));
    let c = scene.waiter(grace("c", "9s"));
    assert_eq!(b.wait_log(DIFFERS, SOON).text("from"), "a");
    assert_eq!(c.wait_log(DIFFERS, SOON).text("from"), "b");
    let told = status(&scene);
    let differs: Vec<_> = (0..3)
        .map(|n| told["queue"][n]["differs"] == true)
        .collect();
    assert_eq!(differs, [false, true, false], "{told}");
    let table = scene.cluster.incumbent(&["status"]).text();
    assert!(table.contains("\nDIFFERS   b: "), "{table}");

    b.reload("job.stop_grace = '9s'");
    b.wait_log("reloaded", SOON);
    eventually(SOON, "it differs no more", || {
        let told = status(&scene);
        if told["queue"][1]["differs"] == true {
            Err(told)
        } else {
            Ok(())
        }
    });
    assert_eq!(b.lines(DIFFERS).len(), 1);
    assert!(a.lines(DIFFERS).is_empty());
}

/// What the log says of another candidate's settings.
pub(crate) const DIFFERS: &str =
    "settings differ: the same election.*, job.* and hooks.* are wanted everywhere";

#[test]
fn a_term_ended_in_the_history_when_its_job_did_though_the_store_was_away() {
    let scene = Scene::on(Cluster::start(1));
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").through(&links));
    links.black_hole();
    a.wait_log("job stopped", secs(20));
    let stopped = humantime::parse_rfc3339(a.wait_log("job stopped", SOON).text("timestamp"));
    throughout(secs(3), "nothing comes through", || a.is_alive());
    links.heal();
    let past = eventually(secs(20), "the history tells", || {
        let record = scene
            .cluster
            .get(&format!("/election.meta/terms/{token}"))
            .ok_or("nothing")?;
        let past: Value = serde_json::from_str(&record).map_err(|_| "no JSON")?;
        if past["ended"].is_string() {
            Ok(past)
        } else {
            Err("no end")
        }
    });
    let ended = humantime::parse_rfc3339(past["ended"].as_str().unwrap()).unwrap();
    let late = ended.duration_since(stopped.unwrap()).unwrap_or_default();
    assert!(late < Duration::from_secs(2), "{late:?}");
}

#[test]
fn an_end_is_written_down_whenever_the_next_leader_moves_the_record() {
    let cluster = Cluster::start(1);
    let prefix = Prefix::new(PREFIX);
    let (settings, limit) = (Settings::new(cluster.endpoints()), secs(2));
    let store = Store::new(&settings);
    for token in (2..200).map(|token| Token::new(token).unwrap()) {
        let record =
            json!({"token": token, "candidate": "a", "lease": "1", "host": "h", "since": ""});
        cluster.put(&prefix.term(), &record.to_string());
        let resignation = Resignation {
            store: settings.clone(),
            cluster: 0,
            prefix: prefix.clone(),
            candidate: "a".to_owned(),
            lease: LeaseId::new(1).unwrap(),
            ttl: secs(2),
            attempt_limit: limit,
            token: Some(token),
            may_mark: true,
            step_down: None,
            close: None,
        };
        // As a leader does that follows.
        let mut moved = record;
        moved["reason"] = "unknown".into();
        let place = prefix.past_term(token);
        let empty = Compare::version(place.as_str(), CompareOp::Equal, 0);
        let fill = [TxnOp::put(place.as_str(), moved.to_string(), None)];
        let follow = Txn::new().and_then([
            TxnOp::put(prefix.term(), r#"{"token":1}"#, None),
            TxnOp::txn(Txn::new().when([empty]).and_then(fill)),
        ]);
        cluster.block_on(async {
            let explain = resignation.explain(&store, "now".to_owned(), EndReason::DaemonLost);
            let ((), followed) = tokio::join!(explain, store.txn(limit, follow));
            followed.unwrap();
        });
        let past: Value = serde_json::from_str(&cluster.get(&place).unwrap()).unwrap();
        assert_eq!(past["reason"], "daemon_lost", "{past}");
    }
}

#[test]
fn the_term_record_is_on_its_way_before_the_job_is_forked() {
    if !is_there("strace", "the order of term record and fork") {
        return;
    }
    let scene = Scene::start(1);
    for round in 0..5 {
        let file = scene
            .cluster
            .sandbox()
            .path()
            .join(format!("calls-{round}"));
        let a = scene.daemon(&format!("a-{round}")).traced(&file).spawn();
        let job = a.wait_log("job started", SOON).int("pid");
        a.sigterm();
        a.wait_exit(SOON);
        let calls = std::fs::read_to_string(file).unwrap();
        let calls: Vec<_> = calls.lines().collect();
        let at = |what: &str, is_it: &dyn Fn(&str) -> bool| {
            let found = calls.iter().position(|call| is_it(call));
            found.unwrap_or_else(|| panic!("{what} is not among {} calls", calls.len()))
        };
        let record = at("the record", &|call| call.contains("kill_budget_ms"));
        let born = at("the fork", &|call| call.ends_with(&format!("= {job}")));
        // Where the child came to be traced before its parent went on, the call is on an earlier line.
        let parent = calls[born].split(' ').next().unwrap();
        let is_fork = |call: &&str| {
            let forks = call.contains("fork(") || call.contains("clone(");
            call.starts_with(parent) && forks && !call.contains("CLONE_THREAD")
        };
        let fork = calls[..=born].iter().rposition(is_fork).unwrap();
        assert!(
            record < fork,
            "the job was forked in line {fork}, the record sent in {record}"
        );
    }
}
