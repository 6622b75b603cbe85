//! `incumbent check --connect`: what it says of a store before a term is trusted to it.

use crate::common::*;

/// The command's answer with a TTL under which the store's faults don't hide each other.
fn check(cluster: &Cluster, more: &[&str]) -> Answer {
    let arguments = [&["check", "--connect", "--timeout", "2s"], more].concat();
    cluster.incumbent(&arguments).run()
}

/// All lines that begin so.
fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.starts_with(start))
        .collect()
}

/// Warnings about anything but the version, which is the machine's own choice.
fn warnings(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let of_the_store = |line: &&str| {
        !["etcd ", "job.command", "clock source", "incumbent@"]
            .iter()
            .any(|about| line.strip_prefix("warning: ").unwrap().starts_with(about))
    };
    let warnings = lines(&text, "warning: ").into_iter().filter(of_the_store);
    warnings.map(str::to_owned).collect()
}

#[test]
fn a_good_store_is_described_and_nothing_is_left_in_it() {
    let scene = Scene::start(3);
    let (_a, _) = scene.leader(scene.daemon("a"));
    let (revision, leases) = (scene.cluster.revision(), scene.cluster.leases());
    let answer = check(&scene.cluster, &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    let text = answer.text();
    assert!(text.contains("\nstore: 3 of 3 members serve\n"), "{text}");
    for endpoint in scene.cluster.endpoints() {
        let line = format!("  {endpoint}: etcd {}, ", scene.cluster.version());
        assert_eq!(lines(&text, &line).len(), 1, "{text}");
    }
    assert_eq!(text.matches(", leader, ").count(), 1, "{text}");
    assert_eq!(text.matches(", follower, ").count(), 2, "{text}");
    let smallest = "\nsmallest TTL that the store grants: 2s\n";
    assert!(text.contains(smallest), "{text}");
    let election = format!("\nelection {PREFIX}: 1 candidate, led by a\n");
    assert!(text.contains(&election), "{text}");
    assert_eq!(lines(&text, "clock source: ").len(), 1, "{text}");
    assert_eq!(lines(&text, "unit: ").len(), 1, "{text}");
    assert_eq!(warnings(&answer), [] as [&str; 0]);

    assert_eq!(scene.cluster.revision(), revision);
    assert_eq!(scene.cluster.leases(), leases);
}

#[test]
fn the_lease_bugs_of_the_version_are_named() {
    let cluster = Cluster::start(1);
    let version = cluster.version();
    let text = check(&cluster, &[]).text();
    let bugs = lines(&text, &format!("warning: etcd {version} "));
    // Of the versions that distributions have shipped.
    let expected: &[&str] = match version.as_str() {
        "3.4.23" => &["fixed in 3.4.38", "fixed in 3.4.31", "fixed in 3.4.42"],
        "3.5.16" => &["fixed in 3.5.23", "fixed in 3.5.28"],
        _ => return,
    };
    assert_eq!(bugs.len(), expected.len(), "{text}");
    for (bug, fixed) in bugs.iter().zip(expected) {
        assert!(bug.ends_with(fixed), "{text}");
    }
}

#[test]
fn members_that_are_dead_or_hang_are_named() {
    let cluster = Cluster::start(5);
    let (dead, frozen) = (cluster.follower(), (cluster.leader() + 2) % 5);
    cluster.kill(dead);
    cluster.freeze(frozen);
    let answer = check(&cluster, &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    let text = answer.text();
    assert!(text.contains("\nstore: 3 of 5 members serve\n"), "{text}");
    let endpoints = cluster.endpoints();
    for (member, why) in [(dead, "refused"), (frozen, "no answer within 2000.0 ms")] {
        let line = format!("  {}: does not answer: ", endpoints[member]);
        let said = lines(&text, &line);
        assert_eq!(said.len(), 1, "{text}");
        assert!(said[0].contains(why), "{text}");
        let warning = format!("warning: {}: does not answer", endpoints[member]);
        assert_eq!(lines(&text, &warning).len(), 1, "{text}");
    }
    cluster.thaw(frozen);
}

#[test]
fn a_store_without_a_quorum_is_69() {
    let cluster = Cluster::start(3);
    cluster.kill(0);
    cluster.kill(1);
    let answer = check(&cluster, &[]);
    assert_eq!(answer.code, Some(69), "{}", answer.text());
    assert!(answer.errors.contains("unreachable"), "{}", answer.errors);
    // It still tells what it learnt.
    let text = answer.text();
    assert!(text.contains("\nstore: 0 of 3 members serve\n"), "{text}");
    assert!(text.contains("serves no reads: "), "{text}");
}

#[test]
fn a_store_that_is_away_is_69_and_a_bad_configuration_78() {
    let cluster = Cluster::prepare(1);
    let away = check(&cluster, &[]);
    assert_eq!(away.code, Some(69), "{}", away.errors);
    let bad = check(&cluster, &["--election", ""]);
    assert_eq!(bad.code, Some(78), "{}", bad.errors);
    let unasked = cluster.incumbent(&["check", "--timeout", "1s"]).run();
    assert_eq!(unasked.code, Some(2), "{}", unasked.errors);
}

#[test]
fn members_of_two_clusters_are_78() {
    let (one, other) = (Cluster::start(1), Cluster::start(1));
    let endpoints = [one.endpoints(), other.endpoints()].concat().join(",");
    let answer = check(&one, &["--endpoints", &endpoints]);
    assert_eq!(answer.code, Some(78), "{}", answer.text());
    let expected = "incumbent: etcd.endpoints: expected members of one cluster, found ";
    assert!(answer.errors.starts_with(expected), "{}", answer.errors);
    assert_eq!([one.leases(), other.leases()].concat(), [] as [i64; 0]);
}

#[test]
fn endpoints_that_lead_to_one_member_are_named() {
    let cluster = Cluster::start(1);
    let twice = format!(
        "http://127.0.0.1:{0},http://localhost:{0}",
        cluster.address(0).port()
    );
    let answer = check(&cluster, &["--endpoints", &twice]);
    let said = warnings(&answer);
    assert!(said[0].ends_with(" are one member"), "{said:?}");
}

#[test]
fn keys_that_block_the_queue_are_named_and_nested_elections_too() {
    let cluster = Cluster::start(1);
    cluster.put("/election/stray", "x");
    cluster.put("/election/inner/1f", "x");
    let answer = check(&cluster, &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    let said = warnings(&answer);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("blocked by /election/stray,"), "{said:?}");
    assert!(said[1].contains("of election /election/inner,"), "{said:?}");

    cluster.put("/outer.meta/ended", "1");
    let nested = check(&cluster, &["--election", "/outer/inner"]);
    let said = warnings(&nested);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("nested in election /outer,"), "{said:?}");
}

#[test]
fn a_store_whose_smallest_ttl_is_longer_than_ours_is_named() {
    let slow = ["--heartbeat-interval", "500", "--election-timeout", "12000"];
    let cluster = Cluster::start_with(1, &slow);
    let answer = check(&cluster, &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
    let text = answer.text();
    let smallest = "\nsmallest TTL that the store grants: 18s\n";
    assert!(text.contains(smallest), "{text}");
    let said = warnings(&answer);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("election.ttl: 15s will be 18s"),
        "{said:?}"
    );
}

#[test]
fn a_member_that_is_slow_is_named() {
    let cluster = Cluster::start(1);
    let links = Links::to(&cluster);
    links.each(|proxy| proxy.delay(millis(450)));
    let urls = links.urls().join(",");
    let answer = check(&cluster, &["--endpoints", &urls]);
    let said = warnings(&answer);
    assert_eq!(said.len(), 1, "{said:?} {}", answer.errors);
    assert!(
        said[0].contains("an attempt may take 1500.0 ms"),
        "{said:?}"
    );
}

#[test]
fn what_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = Sandbox::new();
    let password = sandbox.join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let warnings = |mode: u32, endpoint: &str, listen: &str| {
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = sandbox
            .incumbent(&["check", "--endpoints", endpoint])
            .env("INCUMBENT__ETCD__USERNAME", "u")
            .env("INCUMBENT__ETCD__PASSWORD_FILE", &password)
            .env("INCUMBENT__HTTP__LISTEN", listen)
            .text();
        let about = ["etcd.password_file: ", "http.listen: "];
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("warning: "));
        let lines = lines.filter(|line| about.iter().any(|key| line.starts_with(key)));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let loopback = "http://127.0.0.1:2379,http://[::1]:2379,http://localhost:2379";
    assert_eq!(warnings(0o600, loopback, "127.0.0.1:9180"), [""; 0]);
    assert_eq!(warnings(0o640, loopback, "off"), [""; 0]);
    let found = warnings(0o600, "http://127.0.0.1:2379,http://etcd1:2379", "off");
    assert!(
        found.len() == 1 && found[0].contains("http://etcd1:2379"),
        "{found:?}"
    );
    for (mode, may) in [(0o644, "read"), (0o606, "read and write"), (0o620, "write")] {
        let found = warnings(mode, loopback, "off");
        assert_eq!(found.len(), 1, "{mode:o}: {found:?}");
        assert!(
            found[0].contains(&format!("others may {may} ")),
            "{found:?}"
        );
    }
    for listen in ["0.0.0.0:9180", "[::]:9180"] {
        let found = warnings(0o600, loopback, listen);
        assert!(found.len() == 1 && found[0].contains(listen), "{found:?}");
    }
}
