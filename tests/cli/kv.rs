//! `incumbent kv`: the answers of etcdctl, and writes that end with the term.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::common::*;
use incumbent::clock;

/// Arguments of commands whose output is the same for both tools.
const READS: [&[&str]; 17] = [
    &["get", "a"],
    &["get", "nobody"],
    &["get", "a", "--keys-only"],
    &["get", "a", "c"],
    &["get", "", "--prefix"],
    &["get", "b", "--prefix", "--limit", "1"],
    &["get", "a", "c", "--limit", "1"],
    &["get", "a", "--rev", "2"],
    &["get", "leased"],
    &["get", "a", "z", "--order", "DESCEND"],
    &["get", "a", "z", "--order", "ascend", "--sort-by", "modify"],
    &["get", "", "--prefix", "--sort-by", "CREATE", "--limit", "2"],
    &["get", "", "--prefix", "--sort-by", "VERSION"],
    &[
        "get",
        "",
        "--prefix",
        "--sort-by",
        "VALUE",
        "--order",
        "DESCEND",
    ],
    &[
        "get",
        "",
        "--prefix",
        "--sort-by",
        "KEY",
        "--order",
        "ASCEND",
    ],
    &["get", "b", "--from-key"],
    &["get", "", "--from-key", "--keys-only", "--limit", "3"],
];

/// Keys of every kind: rewritten, empty, binary, with a lease.
fn fill(cluster: &Cluster) {
    cluster.put("a", "first");
    cluster.put("a", "second\nline");
    cluster.put("b", "");
    cluster.put("bb", "3");
    let key: &[u8] = b"bin\xfe\xff\n";
    cluster.ask("a binary write", async |mut client| {
        client.put(key, b"\x00\xff\x80", None).await.map(drop)
    });
    let lease = cluster.etcdctl(&["lease", "grant", "600"]).text();
    // Padded here, but not in a candidate's key.
    let lease = lease.split(' ').nth(1).expect("lease ID granted");
    let lease = lease.trim_start_matches('0');
    cluster
        .etcdctl(&["put", "leased", "v", "--lease", lease])
        .text();
}

#[test]
fn reads_answer_as_etcdctl_byte_for_byte() {
    let cluster = Cluster::start(1);
    fill(&cluster);
    for arguments in READS {
        let ours = |more: &[&str]| {
            let typed = [&["kv"], arguments, more].concat();
            cluster.incumbent(&typed).output()
        };
        let theirs = |more: &[&str]| cluster.etcdctl(&[arguments, more].concat()).output();
        assert_eq!(
            String::from_utf8_lossy(&ours(&["-o", "json"])),
            String::from_utf8_lossy(&theirs(&["-w", "json"])),
            "{arguments:?}"
        );
        assert_eq!(ours(&[]), theirs(&[]), "{arguments:?}");
    }
    let counted = |more: &[&str]| {
        let typed = [&["kv", "get", "", "--prefix", "--count-only"], more].concat();
        cluster.incumbent(&typed).text()
    };
    assert_eq!(counted(&["--limit", "1"]), "5\n");
    assert!(counted(&["-o", "json"]).ends_with("},\"count\":5}\n"));
    let values = ["get", "", "--prefix", "--print-value-only"];
    let ours = cluster.incumbent(&[&["kv"][..], &values].concat()).output();
    assert_eq!(ours, cluster.etcdctl(&values).output());
}

#[test]
fn keys_are_found_by_when_they_were_made_and_written() {
    let cluster = Cluster::start(1);
    for key in ["a", "b", "c", "a"] {
        cluster.put(key, "x");
    }
    let last = cluster.revision();
    // By etcdctl since 3.6.
    let is_known = cluster
        .etcdctl(&["get", "--help"])
        .text()
        .contains("--min-mod-rev");
    let get = |flag: &str, revision: i64| {
        let revision = revision.to_string();
        let typed = ["kv", "get", "", "--prefix", "--keys-only", flag, &revision];
        let ours = cluster.incumbent(&typed).text();
        if is_known {
            assert_eq!(ours, cluster.etcdctl(&typed[1..]).text());
        }
        ours.replace("\n\n", " ")
    };
    assert_eq!(get("--min-create-rev", last - 2), "b c ");
    assert_eq!(get("--max-create-rev", last - 2), "a b ");
    assert_eq!(get("--min-mod-rev", last - 1), "a c ");
    assert_eq!(get("--max-mod-rev", last - 1), "b c ");
}

#[test]
fn writes_answer_as_etcdctl_but_for_the_revision() {
    let cluster = Cluster::start(1);
    for (write, undo) in [
        (&["put", "k", "v"][..], &["put", "k", "v"][..]),
        (&["put", "k", "w", "--prev-kv"], &["put", "k", "v"]),
        (&["del", "k"], &["put", "k", "v"]),
        (&["del", "k", "--prev-kv"], &["put", "k", "v"]),
        (&["del", "nobody"], &["get", "nobody"]),
        (&["del", "", "--prefix", "--prev-kv"], &["put", "k", "v"]),
    ] {
        for format in ["json", "plain"] {
            let theirs: &[&str] = if format == "json" {
                &["-w", "json"]
            } else {
                &[]
            };
            // The same history for both: every key is written anew.
            cluster.etcdctl(&["del", "", "--prefix"]).text();
            cluster.etcdctl(&["put", "k", "v"]).text();
            let ours = [&["kv"], write, &["-o", format]].concat();
            let ours = cluster.incumbent(&ours).text();
            cluster.etcdctl(undo).text();
            cluster.etcdctl(&["del", "", "--prefix"]).text();
            cluster.etcdctl(&["put", "k", "v"]).text();
            let theirs = cluster.etcdctl(&[write, theirs].concat()).text();
            assert_eq!(leveled(&ours), leveled(&theirs), "{write:?} as {format}");
        }
    }
}

/// The text with every revision as `N`.
fn leveled(text: &str) -> String {
    let mut parts = text.split("revision\":");
    let mut leveled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        leveled += "revision\":N";
        leveled += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    leveled
}

/// What etcdctl prints of a watch as JSON, as it did before 3.7, which tells of a reason, too.
fn before_3_7(json: &str) -> String {
    let less = json.replace(r#","CancelReason":""}"#, "}");
    less.replace(r#""Events":null"#, r#""Events":[]"#)
}

#[test]
fn a_watch_answers_as_etcdctl_byte_for_byte() {
    let cluster = Cluster::start(1);
    fill(&cluster);
    cluster.delete("a");
    for more in [&[][..], &["--prev-kv"]] {
        for (format, of_etcdctl) in [("json", "json"), ("plain", "simple")] {
            let watch = [&["watch", "", "--prefix", "--rev", "1"], more].concat();
            let theirs = cluster.etcdctl(&[&watch[..], &["-w", of_etcdctl]].concat());
            let ours = cluster.incumbent(&[&["kv"], &watch[..], &["-o", format]].concat());
            let (theirs, ours) = (theirs.follow(), ours.follow());
            let enough = if format == "json" { 1 } else { 21 };
            theirs.wait_lines(enough);
            ours.wait_lines(enough);
            eventually(SOON, "both print the same", || {
                let theirs = theirs.lines();
                let theirs: Vec<_> = theirs.iter().map(|line| before_3_7(line)).collect();
                let printed = (ours.lines(), theirs);
                if printed.0 == printed.1 {
                    Ok(())
                } else {
                    Err(printed)
                }
            });
        }
    }
}

#[test]
fn history_that_is_compacted_is_said_to_be() {
    let cluster = Cluster::start(1);
    for value in ["1", "2", "3", "4"] {
        cluster.put("a", value);
    }
    let oldest = cluster.revision() - 1;
    cluster.compact(oldest);
    let said = format!("incumbent: revision 2 was compacted; oldest is {oldest}\n");

    for command in ["get", "watch"] {
        let answer = cluster.incumbent(&["kv", command, "a", "--rev", "2"]).run();
        assert_eq!((answer.code, answer.errors), (Some(1), said.clone()));
        assert_eq!(answer.output, b"");
    }
    let watch = ["watch", "a", "--rev", "2"];
    let ours = cluster.incumbent(&[&["kv"], &watch[..], &["-o", "json"]].concat());
    let theirs = cluster.etcdctl(&[&watch[..], &["-w", "json"]].concat());
    assert_eq!(ours.run().text(), before_3_7(&theirs.run().text()));
    let oldest = oldest.to_string();
    let get = ["kv", "get", "a", "--rev", &oldest, "--print-value-only"];
    assert_eq!(cluster.incumbent(&get).text(), "3\n");
}

#[test]
fn bytes_survive_as_they_are() {
    let cluster = Cluster::start(1);
    let key = OsStr::from_bytes(b"\xff\xfe");
    let kv = |words: &[&OsStr]| {
        let all: Vec<&OsStr> = [OsStr::new("kv")].iter().chain(words).copied().collect();
        cluster.incumbent(&all)
    };
    let put = kv(&["put".as_ref(), key]).input(b"\x00\x80\n\n");
    assert_eq!(put.text(), "OK\n");
    let put = kv(&["put".as_ref(), "dash".as_ref(), "-".as_ref()]).input(b"in");
    assert_eq!(put.text(), "OK\n");
    let put = kv(&["put".as_ref(), "minus".as_ref(), "-5".as_ref()]);
    assert_eq!(put.text(), "OK\n");

    let get = |key: &OsStr| kv(&["get".as_ref(), key, "--print-value-only".as_ref()]).output();
    assert_eq!(get(key), b"\x00\x80\n\n\n");
    assert_eq!(get("dash".as_ref()), b"in\n");
    assert_eq!(get("minus".as_ref()), b"-5\n");
}

#[test]
fn an_answer_may_be_larger_than_4_megabytes() {
    let cluster = Cluster::start(1);
    let large = vec![b'x'; 1_000_000];
    for i in 0..6 {
        cluster
            .incumbent(&["kv", "put", &format!("large/{i}")])
            .input(&large)
            .text();
    }
    let get = ["kv", "get", "large/", "--prefix", "--print-value-only"];
    assert_eq!(cluster.incumbent(&get).output().len(), 6 * 1_000_001);
    let del = ["kv", "del", "large/", "--prefix", "--prev-kv"];
    assert!(cluster.incumbent(&del).output().len() > 6_000_000);
}

#[test]
fn a_write_after_the_term_writes_nothing() {
    let cluster = Cluster::start(1);
    cluster.put("leader", "a");
    let token = cluster.revision().to_string();
    cluster.put("kept", "old");
    let in_job = |words: &[&str]| {
        let typed = [&["kv"], words].concat();
        cluster
            .incumbent(&typed)
            .env("INCUMBENT_TOKEN", &token)
            .env("INCUMBENT_LEADER_KEY", "leader")
    };
    assert_eq!(in_job(&["put", "x", "1"]).text(), "OK\n");
    let prev = in_job(&["put", "x", "2", "--prev-kv"]).text();
    assert_eq!(prev, "OK\nx\n1\n");
    assert_eq!(in_job(&["del", "x", "--prev-kv"]).text(), "1\nx\n2\n");

    // Another term under the same key: another candidate's would have another.
    cluster.delete("leader");
    cluster.put("leader", "a");
    let before = cluster.revision();
    for words in [
        &["put", "x", "3"][..],
        &["put", "kept", "new", "--prev-kv", "-o", "json"],
        &["del", "kept"],
        &["del", "", "--prefix"],
    ] {
        let answer = in_job(words).run();
        assert_eq!(answer.code, Some(3), "{words:?}: {}", answer.errors);
        let said = format!("the term with token {token} is over; nothing was written");
        assert!(answer.errors.contains(&said), "{}", answer.errors);
        assert_eq!(answer.output, b"");
    }
    assert_eq!(cluster.revision(), before);

    assert_eq!(
        in_job(&["get", "kept", "--print-value-only"]).text(),
        "old\n"
    );
    assert_eq!(in_job(&["put", "x", "4", "--unguarded"]).text(), "OK\n");
    assert_eq!(in_job(&["del", "x", "--unguarded"]).text(), "1\n");

    let bad = in_job(&["put", "x", "5"])
        .env("INCUMBENT_TOKEN", "7x")
        .run();
    assert_eq!((bad.code, cluster.get("x")), (Some(3), None));
}

#[test]
fn a_job_needs_no_flags_for_its_guarded_writes() {
    let scene = Scene::start(1);
    let script = "\"$0\" kv put /result \"$INCUMBENT_TOKEN\"; exec sleep 1000000";
    let binary = env!("CARGO_BIN_EXE_incumbent");
    let job = ["sh", "-c", script, binary];
    let daemon = Daemon::builder(&scene.cluster, "a").job(&job).spawn();
    let token = daemon.wait_elected(SOON);
    eventually(SOON, "the job has written its token", || {
        match scene.cluster.get("/result") {
            Some(written) if written == token.to_string() => Ok(()),
            other => Err(other),
        }
    });
}

#[test]
fn keys_that_would_block_an_election_are_refused() {
    let cluster = Cluster::start(1);
    let before = cluster.revision();
    let own = format!("{PREFIX}/x");
    let detached = format!("{PREFIX}/1f");
    for (key, election) in [(&own, ""), (&detached, ""), (&"/job/x".to_owned(), "/job")] {
        let answer = cluster
            .incumbent(&["kv", "put", key, "v"])
            .env("INCUMBENT_ELECTION", election)
            .run();
        assert_eq!(answer.code, Some(3), "{}", answer.errors);
        assert!(answer.errors.contains("would block"), "{}", answer.errors);
    }
    assert_eq!(cluster.revision(), before);

    let granted = cluster.etcdctl(&["lease", "grant", "600"]).text();
    // Padded here, but not in a candidate's key.
    let lease = granted.split(' ').nth(1).expect("lease ID granted");
    let lease = lease.trim_start_matches('0');
    let good = format!("{PREFIX}/{lease}");
    for typed in [
        &["kv", "put", &good, "v", "--lease", lease][..],
        &["kv", "put", "/election.meta/x", "v"],
        &["kv", "put", "/elections", "v"],
    ] {
        assert_eq!(cluster.incumbent(typed).text(), "OK\n");
    }
}

#[test]
fn a_watch_ends_when_nobody_reads() {
    let cluster = Cluster::start(1);
    let mut watch = cluster.incumbent(&["kv", "watch", "k"]).start();
    watch.stop_reading();
    let answer = watch.wait();
    assert_eq!((answer.code, answer.errors.as_str()), (Some(0), ""));
}

#[test]
fn wrong_usage_is_2_and_a_bad_configuration_78() {
    let cluster = Cluster::prepare(1);
    for words in [
        &["get"][..],
        &["get", "a", "b", "--prefix"],
        &["get", "a", "--rev", "-1"],
        &["put", "a", "b", "--lease", "0"],
        &["get", "a", "--timeout", "5"],
        &["get", "a", "--print-value-only", "-o", "json"],
        &["get", "a", "--count-only", "--keys-only"],
        &["get", "a", "b", "--from-key"],
        &["get", "a", "--order", "UP"],
    ] {
        let answer = cluster.incumbent(&[&["kv"], words].concat()).run();
        assert_eq!(answer.code, Some(2), "{words:?}: {}", answer.errors);
    }
    for (words, said) in [
        (&["-c", "/no/such.toml"][..], "/no/such.toml: "),
        (
            &["--endpoints", "10.0.0.7"],
            "--endpoints: etcd.endpoints[0]: ",
        ),
    ] {
        let answer = cluster
            .incumbent(&[&["kv", "get", "a"], words].concat())
            .run();
        assert_eq!(answer.code, Some(78), "{words:?}: {}", answer.errors);
        assert!(answer.errors.contains(said), "{}", answer.errors);
    }
}

#[test]
fn flags_outrank_variables_and_variables_the_file() {
    let cluster = Cluster::start(1);
    cluster.put("k", "v");
    let good = cluster.endpoints().join(",");
    let bad = "http://127.0.0.1:1";
    let file = cluster.sandbox().join("client.toml");
    let get = |file_has: &str, told: &str, set: Option<&str>, more: &[&str]| {
        std::fs::write(&file, format!("[etcd]\nendpoints = [\"{file_has}\"]\n")).unwrap();
        let typed = [&["kv", "get", "k", "--timeout", "400ms"], more].concat();
        let typed = cluster
            .incumbent(&typed)
            .env("INCUMBENT_CONFIG", &file)
            .env("INCUMBENT_ENDPOINTS", told);
        let typed = match set {
            Some(set) => typed.env("INCUMBENT__ETCD__ENDPOINTS", set),
            None => typed.without("INCUMBENT__ETCD__ENDPOINTS"),
        };
        typed.run().code
    };
    let named = ["-c", file.to_str().unwrap()];
    let flag = ["--endpoints", &good];
    assert_eq!(get(bad, bad, Some(bad), &flag), Some(0));
    assert_eq!(get(bad, bad, Some(&good), &[]), Some(0));
    assert_eq!(get(bad, &good, None, &[]), Some(0));
    assert_eq!(get(&good, bad, None, &[]), Some(69));
    // Whoever names a file means its store, not the one of the job that runs the command.
    assert_eq!(get(&good, bad, None, &named), Some(0));
    assert_eq!(get(&good, "", None, &[]), Some(0));
}

#[test]
fn a_value_that_is_too_large_is_refused_at_once() {
    let cluster = Cluster::start(1);
    for size in [1_800_000, 3_000_000] {
        let begun = clock::now();
        let words = ["kv", "put", "big", "-", "--timeout", "20s"];
        let answer = cluster.incumbent(&words).input(&vec![b'x'; size]).run();
        assert_eq!(answer.code, Some(1), "{}", answer.errors);
        assert!(answer.errors.contains("too large") || answer.errors.contains("larger than max"));
        assert!(
            clock::now().since(begun) < patience(secs(5)),
            "{}",
            answer.errors
        );
        assert_eq!(cluster.get("big"), None);
    }
}
