//! etcd's grpc-proxy between us and the store: what works through it, and what is refused.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::common::*;

/// The proxy of etcd itself, before a cluster.
struct GrpcProxy {
    child: Child,
    url: String,
}

impl GrpcProxy {
    fn before(cluster: &Cluster) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let mut command = Command::new(programs::etcd());
        command
            .args(["grpc-proxy", "start", "--endpoints"])
            .arg(cluster.endpoints().join(","))
            .arg("--listen-addr")
            .arg(address.to_string())
            // Those of 3.5 and 3.6 end if they don't reach themselves there.
            .arg("--advertise-client-url")
            .arg(address.to_string())
            .arg("--data-dir")
            .arg(cluster.sandbox().join("grpc-proxy.data"))
            .env_remove("ETCD")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(cluster.sandbox().join("grpc-proxy.log")).unwrap());
        cluster.sandbox().mark(&mut command, "grpc-proxy");
        let child = command.spawn().unwrap();
        let this = Self {
            child,
            url: format!("http://{address}"),
        };
        eventually(SOON, "the proxy listens", || TcpStream::connect(address));
        this
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until `observe` has told that this one leads.
#[track_caller]
fn wait_seen(observed: &Followed, name: &str) {
    let leader = format!("\"name\":\"{name}\"");
    eventually(SOON, "the leader is observed", || {
        let lines = observed.lines();
        let seen = lines.iter().any(|line| line.contains(&leader));
        if seen {
            Ok(())
        } else {
            Err((lines, observed.errors()))
        }
    });
}

#[test]
fn nobody_stands_for_election_through_a_grpc_proxy() {
    let scene = Scene::start(1);
    let mut proxy = GrpcProxy::before(&scene.cluster);
    let through = format!("etcd.endpoints = [{:?}]", proxy.url);
    let daemon = scene.daemon("a").toml(&through).spawn();
    let line = daemon.wait_log("refusing to lead", SOON);
    let said = line.text("reason");
    let expected = format!("{}: this is etcd's grpc-proxy", proxy.url);
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(scene.cluster.names(PREFIX), [""; 0]);

    let arguments = ["check", "--connect", "--endpoints", &proxy.url];
    let checked = scene.cluster.incumbent(&arguments).run();
    assert_eq!(checked.code, Some(78), "{}", checked.errors);
    assert!(checked.errors.contains(&expected), "{}", checked.errors);

    // One that names the members leads as ever, and is seen through the proxy.
    let (b, token) = scene.leader(scene.daemon("b"));
    let through = |arguments: &[&str]| {
        let endpoints = ["--endpoints", &proxy.url];
        scene.cluster.incumbent(&[arguments, &endpoints].concat())
    };
    let status = through(&["status"]).text();
    assert!(status.contains(&token.to_string()), "{status}");
    let written = through(&["kv", "txn"])
        .env("INCUMBENT_TOKEN", token.to_string())
        .env("INCUMBENT_LEADER_KEY", &scene.first().key)
        .input(b"\nput proxied v\nget proxied\n\n\n");
    assert_eq!(written.text(), "SUCCESS\n\nOK\n\nproxied\nv\n");
    let observed = through(&["observe"]).follow();
    wait_seen(&observed, "b");
    // Longer than a silent watch is left alone: an old proxy would crash on a probe.
    let c = scene.waiter(scene.daemon("c"));
    let before = process::cpu_time(observed.pid());
    throughout(secs(5), "the proxy lives", || proxy.is_alive());
    let spent = process::cpu_time(observed.pid()).saturating_sub(before);
    assert!(spent < millis(500), "{spent:?} for nothing");
    b.sigterm();
    scene.wait_leads(&c, 1, SOON);
    wait_seen(&observed, "c");
    assert!(proxy.is_alive());
    scene.assert_no_overlap();
}

#[test]
fn a_member_beside_a_grpc_proxy_is_found() {
    let scene = Scene::start(1);
    let proxy = GrpcProxy::before(&scene.cluster);
    let both = [proxy.url.clone(), scene.cluster.endpoints().concat()];
    let mixed = format!("etcd.endpoints = {both:?}");
    let daemon = scene.daemon("a").toml(&mixed).spawn();
    // At once, or after the pause that follows a refusal.
    let token = daemon.wait_elected(secs(40));
    throughout(secs(6), "a leads on", || scene.still_leads(&daemon, token));
}
