//! The status endpoints: on the control socket, on TCP, and what the metrics say when.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a helper of tests is part of them; a test that is skipped says so; counts are small"
)]

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::common::http::{free_address, request};
use crate::common::*;

/// The samples of a page of metrics, as Prometheus' own client library for Python reads them.
const PARSER: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    print(family.name, family.type, len(family.samples), bool(family.documentation))
";

fn listens_on(address: SocketAddr) -> String {
    format!("http.listen = '{address}'")
}

#[test]
fn each_replica_says_how_it_stands() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));

    for (daemon, leads, word) in [(&a, 200, "leading"), (&b, 503, "campaigning")] {
        assert_eq!(daemon.get("/livez"), "ok\n");
        assert_eq!(daemon.get("/readyz"), format!("{word}\n"));
        let leader = daemon.ask("GET", "/leader");
        assert_eq!(
            (leader.status, leader.body.as_str()),
            (leads, format!("{word}\n").as_str())
        );
        let socket = daemon.folder().join("run/control.sock");
        let mode = std::fs::metadata(socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let record = scene.term_record(token);
    let told = a.status();
    assert_eq!(told["role"], "leading");
    assert_eq!(told["term"]["token"], token);
    assert_eq!(told["term"]["since"], record["since"]);
    assert_eq!(told["job"]["kind"], "command");
    assert_eq!(told["job"]["pid"], a.wait_job(SOON));
    assert_eq!(told["job"]["up"], true);
    assert_eq!(told["job"]["runs"], 1);
    assert!(told["job"]["last_exit"].is_null(), "{told}");
    let left = told["deadline_in_s"].as_f64().unwrap();
    assert!(0.0 < left && left < 4.0, "{told}");

    let told = b.status();
    let candidate = scene.candidate(&b);
    assert_eq!(told["role"], "campaigning");
    assert_eq!(told["candidate"]["position"], 1);
    assert_eq!(told["candidate"]["name"], "b");
    assert_eq!(told["candidate"]["lease"], candidate.lease_hex());
    assert_eq!(told["candidate"]["key"], candidate.key);
    assert_eq!(told["candidate"]["token"], candidate.create_revision);
    assert_eq!(told["candidate"]["ttl"], 4);
    assert_eq!(told["candidate"]["pid"], b.pid());
    assert!(
        told["term"].is_null() && told["deadline_in_s"].is_null(),
        "{told}"
    );
    assert_eq!(told["job"]["up"], false);
}

#[test]
fn a_place_in_the_queue_is_told_as_it_is_now() {
    let scene = Scene::start(1);
    let (_a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    assert_eq!(c.status()["candidate"]["position"], 2);
    b.sigterm();
    b.wait_exit(STOPPED);
    eventually(SOON, "c has moved up", || {
        let told = c.status();
        let position = told["candidate"]["position"].clone();
        if position == 1 { Ok(()) } else { Err(position) }
    });
}

#[test]
fn the_gauge_falls_before_the_job_is_stopped() {
    let scene = Scene::start(1);
    // The job takes a second to stop, and all the while the daemon leads no more.
    let ready = scene.cluster.sandbox().join("ready");
    let script = format!(
        "trap 'sleep 1; exit 0' TERM; touch {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let slow = ["sh", "-c", &script];
    let daemon = Daemon::builder(&scene.cluster, "a").job(&slow).spawn();
    let token = daemon.wait_elected(SOON);
    let job = daemon.wait_job(SOON);
    eventually(SOON, "the job hears its stop", || ready.exists());
    assert_eq!(daemon.metric("incumbent_leader"), 1.0);
    assert_eq!(daemon.metric("incumbent_fencing_token"), token as f64);
    assert_eq!(daemon.metric("incumbent_job_up"), 1.0);
    assert!(daemon.metric("incumbent_lease_remaining_seconds") > 0.0);

    daemon.sigterm();
    let mut seen_stopping = 0;
    while process::is_alive(job) && daemon.is_alive() {
        let Ok(reply) = daemon.try_ask("GET", "/status", secs(5)) else {
            break;
        };
        let told: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        if told["role"] == "stopping" {
            // The daemon may have left meanwhile.
            let (Ok(metrics), Ok(leader)) = (
                daemon.try_ask("GET", "/metrics", secs(5)),
                daemon.try_ask("GET", "/leader", secs(5)),
            ) else {
                break;
            };
            seen_stopping += 1;
            assert!(
                metrics
                    .body
                    .contains("\nincumbent_leader{election=\"/election\"} 0\n"),
                "{metrics:?}"
            );
            assert_eq!(leader.status, 503);
        }
    }
    assert!(seen_stopping > 3, "the stop was seen {seen_stopping} times");
    daemon.wait_exit(STOPPED);
}

#[test]
fn a_leader_that_is_cut_off_stops_saying_that_it_leads_before_its_lease_ends() {
    let scene = Scene::start(1);
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").through(&links));
    let lease = scene.candidate(&a).lease;
    links.black_hole();
    eventually(SOON, "a says that it leads no more", || {
        a.metric("incumbent_leader") == 0.0
    });
    assert!(
        scene.cluster.leases().contains(&lease),
        "the lease was over before"
    );
    scene.wait_job_over(token, SOON);
    links.heal();
    a.wait_elected_nth(2, secs(30));
    let lost = ["deadline", "expired"]
        .map(|reason| a.metric(&format!("incumbent_terms_total{{reason=\"{reason}\"}}")));
    assert_eq!(lost.iter().sum::<f64>(), 1.0, "{lost:?}");
    assert!(a.metric("incumbent_renew_seconds_count{result=\"failed\"}") > 0.0);
    eventually(SOON, "a renewal is counted", || {
        a.metric("incumbent_renew_seconds_count{result=\"ok\"}") > 0.0
    });
}

#[test]
fn runs_are_counted_by_their_result() {
    let scene = Scene::start(1);
    let daemon = Daemon::builder(&scene.cluster, "a")
        .job(&["sh", "-c", "exit 3"])
        .toml("job = { restart_delay = '10ms', restart_delay_max = '60s', yield_after = 3 }")
        .toml("job.yield_cooldown = '1000s'")
        .spawn();
    daemon.wait_elected(SOON);
    eventually(SOON, "three runs have failed", || {
        daemon.metric("incumbent_job_runs_total{result=\"failure\"}") >= 3.0
    });
    eventually(SOON, "it cools down", || {
        daemon.status()["role"] == "cooldown"
    });
    let told = daemon.status();
    assert_eq!(told["job"]["last_exit"], 3);
    assert_eq!(told["job"]["runs"], 3);
    assert_eq!(told["job"]["up"], false);
    assert_eq!(daemon.ask("GET", "/readyz").status, 503);
    eventually(SOON, "the term is counted once it is given back", || {
        daemon.metric("incumbent_terms_total{reason=\"resigned\"}") == 1.0
    });
}

#[test]
fn a_real_parser_reads_the_metrics() {
    let can = Command::new("python3")
        .args(["-c", "import prometheus_client"])
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3 has no prometheus_client (pip install prometheus_client)");
        return;
    }
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let mut parser = Command::new("python3")
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let reply = a.ask("GET", "/metrics");
    assert!(
        reply
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{reply:?}"
    );
    let mut stdin = parser.stdin.take().unwrap();
    stdin.write_all(reply.body.as_bytes()).unwrap();
    drop(stdin);
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut families: Vec<_> = text.lines().collect();
    families.sort_unstable();
    let expected = [
        "incumbent_fencing_token gauge 1 True",
        "incumbent_job_runs counter 4 True",
        "incumbent_job_up gauge 1 True",
        "incumbent_leader gauge 1 True",
        "incumbent_lease_remaining_seconds gauge 1 True",
        "incumbent_renew_seconds histogram 42 True",
        "incumbent_terms counter 11 True",
    ];
    assert_eq!(families, expected);
}

#[test]
fn over_tcp_nothing_can_be_changed() {
    let scene = Scene::start(1);
    let address = free_address();
    let (a, token) = scene.leader(scene.daemon("a").toml(&listens_on(address)));
    let paths = ["/", "/livez", "/readyz", "/leader", "/status", "/metrics"];
    for path in paths {
        assert_eq!(request(address, "GET", path).unwrap().status, 200, "{path}");
        let head = request(address, "HEAD", path).unwrap();
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        // What HAProxy asks unless it is told otherwise.
        let options = request(address, "OPTIONS", path).unwrap();
        assert_eq!(options.status, 200, "{path}");
        assert!(options.head.contains("allow: get, head, options"));
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        for path in paths {
            let reply = request(address, method, path).unwrap();
            assert_eq!(reply.status, 405, "{method} {path}");
            assert!(
                reply.head.contains("allow: get, head, options"),
                "{reply:?}"
            );
        }
        // What the control socket knows is not even there.
        for path in ["/reload", "//reload", "/reload/", "/step-down", "/x"] {
            let reply = request(address, method, path).unwrap();
            assert_eq!(reply.status, 404, "{method} {path}");
        }
    }
    assert_eq!(request(address, "GET", "/reload").unwrap().status, 404);
    assert_eq!(a.ask("GET", "/reload").status, 405);
    assert_eq!(a.lines("reloaded").len(), 0);
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_stuck_daemon_is_not_live() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    assert_eq!(a.get("/livez"), "ok\n");
    a.sigstop();
    assert!(a.try_ask("GET", "/livez", secs(1)).is_err());
    a.sigcont();
    eventually(SOON, "it is live again", || {
        a.ask("GET", "/livez").status == 200
    });
}

#[test]
fn hostile_clients_do_not_disturb_renewals() {
    let scene = Scene::start(1);
    let address = free_address();
    let (a, token) = scene.leader(scene.daemon("a").toml(&listens_on(address)));
    let renewed = || a.metric("incumbent_renew_seconds_count{result=\"ok\"}");
    let failed = || a.metric("incumbent_renew_seconds_count{result=\"failed\"}");
    let (before, failed_before) = (renewed(), failed());
    let begun = process::monotonic_ns();

    // Clients that send a head byte by byte, and hold on to what they have.
    let mut slow: Vec<TcpStream> = Vec::new();
    for i in 0..10_000 {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, patience(secs(5))) else {
            continue;
        };
        stream.write_all(b"GET /status HT").ok();
        slow.push(stream);
        if slow.len() > 500 {
            // The test has descriptors to spare, too.
            slow.drain(..100);
        }
        if i % 1000 == 0 {
            // A request that never ends, and one whose body does not.
            let mut huge = TcpStream::connect_timeout(&address, patience(secs(5))).unwrap();
            huge.set_write_timeout(Some(patience(secs(5)))).unwrap();
            huge.write_all(b"GET / HTTP/1.1\r\nX: ").ok();
            huge.write_all(&vec![b'x'; 1 << 20]).ok();
            let mut body = TcpStream::connect_timeout(&address, patience(secs(5))).unwrap();
            body.set_write_timeout(Some(patience(secs(5)))).unwrap();
            body.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
                .ok();
            body.write_all(&vec![b'x'; 1 << 20]).ok();
            // Those who ask properly are answered all the while.
            assert_eq!(request(address, "GET", "/livez").unwrap().status, 200);
        }
    }
    // At least two intervals of the renewals, so that there is something to miss.
    eventually(SOON, "the flood lasted for a TTL", || {
        process::monotonic_ns() - begun > 4_000_000_000
    });
    let lasted = (process::monotonic_ns() - begun) as f64 / 1e9;
    let count = renewed() - before;
    // One each 0.8 s; on a machine that is busy some come later, and some fail.
    let busy = patience(secs(1)).as_secs_f64();
    let expected = lasted / 0.8 * 0.7 / busy - 1.0;
    assert!(count >= expected, "{count} in {lasted} s");
    let failed = failed() - failed_before;
    assert!(failed <= busy, "{failed} have failed");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", a.pid())).unwrap();
    let descriptors = descriptors.count();
    assert!(descriptors < 150, "{descriptors} are open");
    scene.still_leads(&a, token).unwrap();
    drop(slow);
    assert_eq!(request(address, "GET", "/leader").unwrap().status, 200);
}

#[test]
fn http_listen_changes_at_run_time() {
    let scene = Scene::start(1);
    let (first, second) = (free_address(), free_address());
    let (a, token) = scene.leader(scene.daemon("a"));
    assert!(request(first, "GET", "/livez").is_err());
    for (address, other) in [(first, second), (second, first)] {
        a.reload(&listens_on(address));
        eventually(SOON, "it listens where it is told to", || {
            request(address, "GET", "/livez").is_ok() && request(other, "GET", "/livez").is_err()
        });
    }
    // From one host's address to all: the same port, which is its own.
    a.reload(&format!("http.listen = '0.0.0.0:{}'", second.port()));
    a.wait_nth("reloaded", 3, SOON);
    eventually(SOON, "it listens everywhere", || {
        let elsewhere = format!("127.0.0.2:{}", second.port());
        request(elsewhere.parse().unwrap(), "GET", "/livez").is_ok()
    });
    a.reload("http.listen = 'off'");
    eventually(SOON, "it listens no more", || {
        request(second, "GET", "/livez").is_err()
    });
    scene.still_leads(&a, token).unwrap();
}

/// The status of `GET path` that names these hosts.
fn asked_as(address: SocketAddr, hosts: &[&str], path: &str) -> u16 {
    use std::io::Read as _;
    let mut stream = TcpStream::connect_timeout(&address, secs(5)).unwrap();
    let named: Vec<String> = hosts
        .iter()
        .map(|host| format!("Host: {host}\r\n"))
        .collect();
    let hosts = named.concat();
    let version = if hosts.is_empty() { "1.0" } else { "1.1" };
    write!(stream, "GET {path} HTTP/{version}\r\n{hosts}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn only_who_asks_for_this_host_by_a_name_of_its_own_is_answered() {
    let scene = Scene::start(1);
    let address = free_address();
    let listens = listens_on(address);
    let (a, _) = scene.leader(scene.daemon("a").toml(&listens));
    let own = address.to_string();
    let [foreign, name] = ["rebound.example:80", "Node1.example"];
    for path in ["/status", "/", "/metrics", "/leader", "/x"] {
        let status = asked_as(address, &[foreign], path);
        assert_eq!(status, 403, "{path}");
    }
    for hosts in [&[own.as_str()][..], &["127.0.0.1"], &["localhost:1"], &[]] {
        assert_eq!(asked_as(address, hosts, "/status"), 200, "{hosts:?}");
    }
    assert_eq!(asked_as(address, &[&own, foreign], "/status"), 403);
    assert_eq!(asked_as(address, &[name], "/status"), 403);
    a.reload("http.hosts = ['node1.EXAMPLE']");
    eventually(SOON, "the name is known", || {
        asked_as(address, &[name], "/status") == 200
    });
    assert_eq!(asked_as(address, &[foreign], "/status"), 403);
}
