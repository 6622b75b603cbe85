//! The examples do what they say.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::common::*;

/// A file of the examples.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

#[test]
fn the_configurations_are_good() {
    let sandbox = Sandbox::new();
    let checked = |name: &str| ["check".into(), "-c".into(), file(name)];
    let command = sandbox.incumbent(&checked("backup.toml")).run();
    assert_eq!((command.code, command.errors.as_str()), (Some(0), ""));
    let tally = sandbox.example("tally", &checked("tally.toml")).run();
    assert_eq!((tally.code, tally.errors.as_str()), (Some(0), ""));
    let rust = checked("reindex.toml");
    let answer = sandbox.example("reindex", &rust).run();
    assert_eq!((answer.code, answer.errors.as_str()), (Some(0), ""));
    // Only the binary that has the job knows its kind.
    let answer = sandbox.incumbent(&rust).run();
    assert_eq!(answer.code, Some(78));
    assert!(answer.errors.contains("job.kind"), "{}", answer.errors);
}

#[test]
fn reindex_goes_on_where_the_last_term_has_come_to() {
    let cluster = Cluster::start(1);
    let documents = cluster.sandbox().join("documents");
    let script = format!("echo $0 $1 $INCUMBENT_TOKEN >>{}", documents.display());
    let replica = |name| {
        let config = fs::read_to_string(file("reindex.toml")).unwrap();
        let builder = Daemon::builder(&cluster, name).binary(example("reindex"));
        let builder = builder
            .toml(&config)
            .toml(&format!("etcd.endpoints = {:?}", cluster.endpoints()))
            .toml(&format!("job.settings.program = ['sh', '-c', {script:?}]"));
        builder.toml("job.settings.pause = '20ms'").spawn()
    };
    let next = || -> u64 {
        let text = cluster.get("/reindex/next").unwrap_or_default();
        text.parse().unwrap_or(0)
    };
    let a = replica("a");
    let first = a.wait_elected(SOON);
    let b = replica("b");
    b.wait_log("campaigning", SOON);
    eventually(SOON, "a has indexed some batches", || next() >= 300);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let second = b.wait_elected(SOON);
    let handed_over = next();
    eventually(SOON, "b has indexed more", || next() >= handed_over + 300);

    let indexed = fs::read_to_string(&documents).unwrap();
    let (mut expected, mut last_token) = (0, first);
    for line in indexed.lines() {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().unwrap());
        let (document, batch) = (words.next().unwrap(), words.next().unwrap());
        let token = i64::try_from(words.next().unwrap()).unwrap();
        // A batch may be indexed once more if its progress was not written down any more.
        assert!(
            document == expected || document + 100 == expected,
            "{indexed}"
        );
        assert_eq!(batch, 100);
        assert!(token >= last_token, "{indexed}");
        (expected, last_token) = (document + 100, token);
    }
    assert_eq!(last_token, second);
}

#[test]
fn backup_writes_under_its_term() {
    let cluster = Cluster::start(1);
    let config = fs::read_to_string(file("backup.toml")).unwrap();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_incumbent"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let a = Daemon::builder(&cluster, "a")
        .toml(&config)
        .toml(&format!("etcd.endpoints = {:?}", cluster.endpoints()))
        .env("PATH", &path)
        .spawn();
    let token = a.wait_elected(SOON);
    eventually(SOON, "the job has written", || {
        cluster.get("/backup/last") == Some(format!("term {token}"))
    });
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
}

#[test]
fn two_campaigns_lead_one_after_the_other() {
    let cluster = Cluster::start(1);
    let campaign = |name: &str| {
        let arguments = [cluster.endpoints()[0].as_str(), "/demo", name].map(ToOwned::to_owned);
        cluster.sandbox().example("campaign", &arguments).start()
    };
    let running = [campaign("a"), campaign("b")];
    let tokens = running.map(|campaign| {
        let answer = campaign.wait();
        let text = answer.text();
        assert_eq!(answer.code, Some(0), "{text}{}", answer.errors);
        assert!(text.ends_with("resigned\n"), "{text}");
        let token = text
            .lines()
            .find_map(|line| line.strip_prefix("elected: token "));
        token.unwrap().parse::<i64>().unwrap()
    });
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(cluster.marker("/demo"), tokens.into_iter().max());
    assert_eq!(cluster.first("/demo"), None);
    assert_eq!(cluster.leases(), [] as [i64; 0]);
}

#[test]
fn a_value_is_written_read_and_seen_by_who_watches() {
    let cluster = Cluster::start(3);
    let all = cluster.endpoints().join(",");
    let watch = [all.as_str(), "/demo"].map(ToOwned::to_owned);
    let watches = cluster.sandbox().example("watch", &watch).follow();
    let values = |key: &str| {
        let arguments = [all.as_str(), key, "a value"].map(ToOwned::to_owned);
        cluster.sandbox().example("values", &arguments).text()
    };
    cluster.freeze(cluster.follower());
    let said = values("/demo-key");
    assert!(said.starts_with("/demo-key = a value (revision "), "{said}");
    // It begins with what comes after now: write until it is seen.
    eventually(SOON * 2, "the watch sees it", || {
        values("/demo-key");
        watches
            .lines()
            .contains(&"PUT /demo-key a value".to_owned())
    });
    cluster.delete("/demo-key");
    eventually(SOON, "and its end", || {
        watches.lines().contains(&"DELETE /demo-key".to_owned())
    });
}

#[test]
fn a_service_works_in_one_replica_and_hands_over_at_its_end() {
    let cluster = Cluster::start(1);
    let service = |name: &str| {
        let endpoint = cluster.endpoints()[0].clone();
        let arguments = [endpoint.as_str(), "/demo", name, "127.0.0.1:0"];
        let arguments = arguments.map(ToOwned::to_owned);
        let mut command = cluster
            .sandbox()
            .example("service", &arguments)
            .into_command();
        let pipe = || std::process::Stdio::piped();
        let mut child = command.stdin(pipe()).stdout(pipe()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line.strip_prefix("listening on ").unwrap().to_owned();
        (child, address, lines)
    };
    let ask = |address: &str| {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (mut a, at_a, mut said) = service("a");
    eventually(SOON, "a leads", || {
        ask(&at_a).contains("leading with token")
    });
    let (mut b, at_b, _said) = service("b");
    cluster.wait_names("/demo", &["a", "b"]);
    assert!(ask(&at_b).ends_with("standing by\n"));
    eventually(SOON, "a works", || cluster.get("/demo-count").is_some());
    drop(a.stdin.take());
    assert!(a.wait().unwrap().success());
    assert_eq!(said.next().unwrap().unwrap(), "resigned");
    eventually(SOON, "b leads", || {
        ask(&at_b).contains("leading with token")
    });
    drop(b.stdin.take());
    assert!(b.wait().unwrap().success());
    assert_eq!(cluster.leases(), [] as [i64; 0]);
}
