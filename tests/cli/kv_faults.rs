//! `incumbent kv` while members hang and die, and answers get lost.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use crate::common::*;

#[test]
fn a_hung_member_costs_no_answer() {
    let cluster = Cluster::start(3);
    cluster.freeze(cluster.follower());
    for round in 0..6 {
        let value = round.to_string();
        let kv = |words: &[&str]| cluster.incumbent(&[&["kv"], words].concat()).text();
        assert_eq!(kv(&["put", "k", &value]), "OK\n");
        assert_eq!(kv(&["get", "k"]), format!("k\n{value}\n"));
        assert_eq!(kv(&["del", "k"]), "1\n");
        for script in ["\nput k 1\n\n\n", "\nget k\n\n\n"] {
            let txn = cluster.incumbent(&["kv", "txn"]).input(script.as_bytes());
            assert!(txn.text().starts_with("SUCCESS\n"), "{script}");
        }
    }
}

#[test]
fn a_store_that_is_away_is_69_in_time() {
    let cluster = Cluster::start(1);
    cluster.freeze(0);
    for words in [
        &["get", "k"][..],
        &["put", "k", "late"],
        &["del", "k"],
        &["watch", "k"],
    ] {
        let begun = std::time::Instant::now();
        let typed = [&["kv"], words, &["--timeout", "700ms"]].concat();
        let answer = cluster.incumbent(&typed).run();
        assert_eq!(answer.code, Some(69), "{words:?}: {}", answer.errors);
        assert!(
            answer.errors.contains("no answer within 700ms"),
            "{}",
            answer.errors
        );
        assert!(begun.elapsed() < patience(secs(3)), "{words:?}");
    }
    // Nothing was sent that could be applied by now: the write waits for a member that answers.
    cluster.thaw(0);
    throughout(secs(1), "the write never comes", || {
        cluster.get("k").is_none()
    });

    let nobody = ["kv", "get", "k", "--endpoints", "http://127.0.0.1:1"];
    let answer = cluster
        .incumbent(&[&nobody[..], &["--timeout", "300ms"]].concat())
        .run();
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
}

/// Loses the answer to a write that was applied: runs `words` through a slow proxy, and cuts the
/// connection as soon as `applied` says that the store has it.
fn lose_the_answer(
    cluster: &Cluster,
    words: &[&str],
    input: &[u8],
    applied: impl Fn() -> bool,
) -> Answer {
    let proxy = Proxy::to(cluster.address(0));
    proxy.delay(millis(250));
    let typed = [&["kv"], words, &["--timeout", "20s"]].concat();
    let running = cluster
        .incumbent(&typed)
        .input(input)
        .env("INCUMBENT__ETCD__ENDPOINTS", proxy.url())
        .start();
    eventually(SOON, "the write is applied", applied);
    proxy.drop_connections();
    running.wait()
}

#[test]
fn a_put_whose_answer_is_lost_is_done_once() {
    let cluster = Cluster::start(1);
    cluster.put("k", "old");
    let before = cluster.revision();
    let answer = lose_the_answer(&cluster, &["put", "k", "new", "--prev-kv"], b"", || {
        cluster.get("k").as_deref() == Some("new")
    });
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    assert_eq!(answer.text(), "OK\nk\nold\n");
    assert_eq!(cluster.revision(), before + 1);
}

/// What a guarded put says whose answer was lost, and whose term ended before it could look again;
/// `then` comes in between.
fn put_of_an_ended_term(then: impl FnOnce(&Cluster)) -> Answer {
    let cluster = Cluster::start(1);
    put_unheard(&cluster, |cluster| {
        cluster.delete("leader");
        then(cluster);
    })
}

/// What a guarded put says whose answer was lost; `then` comes before it can look again.
fn put_unheard(cluster: &Cluster, then: impl FnOnce(&Cluster)) -> Answer {
    cluster.put("k", "old");
    // A term of its own, each time.
    cluster.delete("leader");
    cluster.put("leader", "");
    let token = cluster.revision().to_string();
    let proxy = Proxy::to(cluster.address(0));
    proxy.delay(millis(250));
    let running = cluster
        .incumbent(&["kv", "put", "k", "new", "--timeout", "20s"])
        .env("INCUMBENT__ETCD__ENDPOINTS", proxy.url())
        .env("INCUMBENT_TOKEN", token)
        .env("INCUMBENT_LEADER_KEY", "leader")
        .start();
    eventually(SOON, "the write is applied", || {
        cluster.get("k").as_deref() == Some("new")
    });
    // Its answer is on its way still, and is not heard.
    proxy.refuse();
    then(cluster);
    proxy.heal();
    running.wait()
}

#[test]
fn a_put_whose_answer_is_lost_undoes_no_later_write() {
    let cluster = Cluster::start(1);
    let answer = put_unheard(&cluster, |cluster| cluster.put("k", "another's"));
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
    assert!(
        answer.errors.contains("the outcome is unknown"),
        "{}",
        answer.errors
    );
    assert_eq!(cluster.get("k").as_deref(), Some("another's"));
    // Nor one that has made the key anew, or has taken it away.
    let answer = put_unheard(&cluster, |cluster| {
        cluster.delete("k");
        cluster.put("k", "anew");
    });
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
    assert_eq!(cluster.get("k").as_deref(), Some("anew"));
    let answer = put_unheard(&cluster, |cluster| cluster.delete("k"));
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
    assert_eq!(cluster.get("k"), None);
}

#[test]
fn a_guarded_put_that_may_have_been_overwritten_does_not_say_that_nothing_was_written() {
    let answer = put_of_an_ended_term(|cluster| cluster.put("k", "the next leader's"));
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
    assert!(
        answer.errors.contains("the outcome is unknown"),
        "{}",
        answer.errors
    );
    let answer = put_of_an_ended_term(|_| {});
    assert_eq!(answer.code, Some(0), "it is there: {}", answer.errors);
}

#[test]
fn a_deletion_whose_answer_is_lost_is_in_doubt() {
    let cluster = Cluster::start(1);
    cluster.put("k", "v");
    let answer = lose_the_answer(&cluster, &["del", "k"], b"", || cluster.get("k").is_none());
    assert_eq!(answer.code, Some(69));
    assert!(
        answer.errors.contains("the outcome is unknown"),
        "{}",
        answer.errors
    );
    assert_eq!(answer.output, b"");
}

#[test]
fn a_transaction_whose_answer_is_lost_is_in_doubt_and_sent_once() {
    let cluster = Cluster::start(1);
    let before = cluster.revision();
    let script = b"\nput k v\n\n\n";
    let answer = lose_the_answer(&cluster, &["txn"], script, || cluster.get("k").is_some());
    assert_eq!(answer.code, Some(69));
    assert!(
        answer.errors.contains("the outcome is unknown"),
        "{}",
        answer.errors
    );
    assert_eq!((answer.output, cluster.revision()), (vec![], before + 1));
}

#[test]
fn a_watch_outlives_members_without_loss_or_repetition() {
    let cluster = Cluster::start(3);
    let from = cluster.revision() + 1;
    let watch = ["kv", "watch", "w", "--rev", &from.to_string(), "-o", "json"];
    let watch = cluster.incumbent(&watch).follow();
    let write = || (0..5).for_each(|value| cluster.put("w", &value.to_string()));
    write();
    watch.wait_lines(1);
    for member in 0..3 {
        cluster.kill(member);
        write();
        cluster.restart(member);
    }
    for member in 0..3 {
        cluster.freeze(member);
        write();
        cluster.thaw(member);
    }
    let last = cluster.revision();

    let told = eventually(secs(30), "the last write is seen", || {
        let lines = watch.lines();
        let told: Vec<i64> = lines.iter().flat_map(|line| revisions(line)).collect();
        if told.last() >= Some(&last) {
            Ok(told)
        } else {
            Err(told)
        }
    });
    // Nothing else is written, so every revision is one of the key's. More of them may come: a
    // write that the test gave up on may be applied when its member wakes.
    let all: Vec<i64> = (from..).take(told.len()).collect();
    assert_eq!(told, all);
}

/// The revisions of the events on a line.
fn revisions(line: &str) -> Vec<i64> {
    let message: serde_json::Value = serde_json::from_str(line).unwrap();
    let events = message["Events"].as_array().unwrap().iter();
    events
        .map(|event| event["kv"]["mod_revision"].as_i64().unwrap())
        .collect()
}
