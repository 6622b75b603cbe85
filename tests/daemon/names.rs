//! Members that are known by name.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use crate::common::names::Dead;
use crate::common::ordinary::is_root;
use crate::common::*;

/// The built binary.
fn binary() -> String {
    let ours = || env!("CARGO_BIN_EXE_incumbent").into();
    let binary = std::env::var_os("INCUMBENT_BIN").unwrap_or_else(ours);
    binary.into_string().unwrap()
}

/// One member with the name `store.test`, whose first address is dead in this way.
fn half_dead(cluster: &Cluster, make: impl Fn(Ipv4Addr, u16) -> Dead) -> (PathBuf, Dead, String) {
    let dead = Ipv4Addr::new(127, 0, 0, 77);
    let port = cluster.address(0).port();
    let hosts = format!("127.0.0.1 localhost\n{dead} store.test\n127.0.0.1 store.test\n");
    // Our own address would come first.
    let order = format!("precedence ::ffff:{dead}/128 100\nprecedence ::ffff:0:0/96 10\n");
    let files = [
        ("/etc/hosts", hosts.as_str()),
        ("/etc/gai.conf", order.as_str()),
    ];
    let wrapper = cluster.sandbox().with_files("world", &binary(), &files);
    let url = format!("http://store.test:{port}");
    (wrapper, make(dead, port), url)
}

/// A replica with this TTL leads all the same.
fn leads(ttl: &str, make: impl Fn(Ipv4Addr, u16) -> Dead) {
    if !is_root("a name with a dead address") {
        return;
    }
    let cluster = Cluster::start(1);
    let (wrapper, _dead, url) = half_dead(&cluster, make);
    let daemon = Daemon::builder(&cluster, "a")
        .binary(wrapper)
        .toml(&format!("etcd.endpoints = ['{url}']"))
        .ttl(ttl)
        .toml("job = { lost_grace = '0s', kill_budget = '300ms' }")
        .spawn();
    daemon.wait_elected(secs(20));
    daemon.wait_job(SOON);
    // It connects anew in the midst of a term.
    cluster.restart(0);
    daemon.sigterm();
    assert!(daemon.wait_exit(STOPPED).success());
}

#[test]
fn an_address_of_a_name_that_is_down_holds_up_no_election() {
    leads("5s", Dead::down);
}

#[test]
fn an_address_of_a_name_that_is_down_leaves_time_within_the_smallest_lease() {
    leads("2s", Dead::down);
}

#[test]
fn an_address_of_a_name_that_hangs_is_not_tried_first_for_ever() {
    leads("5s", Dead::silent);
}

#[test]
fn a_check_of_the_connection_goes_the_daemons_way() {
    if !is_root("a name with a dead address") {
        return;
    }
    let cluster = Cluster::start(1);
    let (wrapper, _dead, url) = half_dead(&cluster, Dead::down);
    let output = std::process::Command::new(wrapper)
        .args(["check", "--connect", "--endpoints", &url, "--timeout", "3s"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 of 1 members serve"), "{said}{output:?}");
}

#[test]
fn a_silent_name_server_lengthens_no_command() {
    if !is_root("a silent name server") {
        return;
    }
    let sandbox = Sandbox::new();
    let Ok(_server) = UdpSocket::bind("127.0.0.78:53") else {
        return command::skipped("a silent name server: its port is taken");
    };
    let files = [
        ("/etc/resolv.conf", "nameserver 127.0.0.78\n"),
        ("/etc/nsswitch.conf", "hosts: files dns\n"),
    ];
    let wrapper = sandbox.with_files("world", &binary(), &files);
    let commands: [(&[&str], &str); 8] = [
        (&["status"], "--timeout"),
        (&["kv", "get", "x"], "--timeout"),
        (&["kv", "put", "x", "y"], "--timeout"),
        (&["step-down"], "--timeout"),
        (&["pause"], "--timeout"),
        (&["resume"], "--timeout"),
        (&["check", "--connect"], "--timeout"),
        (&["exec"], "--wait"),
    ];
    for (number, (command, limit)) in commands.into_iter().enumerate() {
        let runtime = sandbox.join(&format!("run-{number}"));
        std::fs::create_dir(&runtime).unwrap();
        let begun = process::monotonic_ns();
        let mut started = std::process::Command::new(&wrapper);
        command::without_our_variables(&mut started);
        started
            .args(command)
            .args([limit, "2s", "--endpoints", "http://etcd.nowhere.test:2379"])
            .env("INCUMBENT__RUNTIME_DIR", &runtime);
        if command[0] == "exec" {
            started.args(["--", "true"]);
        }
        let output = started.output().unwrap();
        let took = std::time::Duration::from_nanos(process::monotonic_ns() - begun);
        assert!(
            took < patience(millis(3500)),
            "{command:?}: {took:?}, {output:?}"
        );
        assert!(!output.status.success(), "{command:?}: {output:?}");
    }
}
