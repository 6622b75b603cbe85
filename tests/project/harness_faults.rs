//! The harness itself: the network and the members really break as it says. Needs no daemon.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use std::time::{Duration, Instant};

use crate::common::process;
use crate::common::*;
use etcd_client::{Client, ConnectOptions, Error, PutOptions};

// --- the cluster ------------------------------------------------------------------------------

#[test]
fn a_cluster_answers_through_every_member_and_leaves_nothing_behind() {
    let cluster = Cluster::start(3);
    for i in 0..3 {
        cluster.read_through(i).unwrap();
    }
    let folder = cluster.sandbox().path().to_owned();
    cluster.put("/x", "1");
    assert_eq!(cluster.get("/x").as_deref(), Some("1"));
    let puts = "etcd_mvcc_put_total";
    assert_eq!(cluster.metric(0, puts), Some(1.0));
    drop(cluster);
    assert!(!folder.exists());
}

#[test]
fn a_killed_member_is_replaced_as_leader_and_comes_back() {
    let cluster = Cluster::start(3);
    cluster.put("/x", "1");
    let leader = cluster.leader();
    cluster.kill(leader);
    assert!(cluster.read_through(leader).is_err());
    let next = cluster.leader();
    assert_ne!(next, leader);
    cluster.put("/x", "2");
    cluster.restart(leader);
    cluster.read_through(leader).unwrap();
    assert_eq!(cluster.get("/x").as_deref(), Some("2"));
}

#[test]
fn a_frozen_member_is_silent_until_it_is_thawed() {
    let cluster = Cluster::start(3);
    let follower = cluster.follower();
    cluster.freeze(follower);
    assert!(cluster.read_through(follower).is_err());
    assert_eq!(cluster.healthy().len(), 2);
    cluster.put("/x", "1");
    cluster.thaw(follower);
    eventually(secs(10), "it answers again", || {
        cluster.read_through(follower)
    });
}

#[test]
fn without_quorum_nobody_answers() {
    let cluster = Cluster::start(3);
    cluster.kill(0);
    cluster.kill(1);
    assert!(cluster.read_through(2).is_err());
    cluster.start_again(0);
    eventually(secs(20), "two of three answer", || cluster.read_through(2));
}

#[test]
fn a_prepared_cluster_is_not_there_until_it_is_started() {
    let cluster = Cluster::prepare(1);
    assert!(cluster.read_through(0).is_err());
    cluster.start_all().unwrap();
    cluster.read_through(0).unwrap();
}

#[test]
fn the_queue_is_in_the_order_of_joining_and_revoking_takes_out_of_it() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(0);
    let join = async |client: &mut Client, name: &str| {
        let lease = client.lease_grant(60, None).await.unwrap().id();
        let options = PutOptions::new().with_lease(lease);
        let key = format!("/e/{lease:x}");
        client.put(key, name, Some(options)).await.unwrap();
        lease
    };
    let (a, b) = cluster.block_on(async {
        let a = join(&mut client, "a").await;
        (a, join(&mut client, "b").await)
    });
    cluster.put("/e.meta/ended", "41");
    cluster.put("/ee/x", "in another election");

    let queue = cluster.queue("/e");
    assert_eq!(cluster.names("/e"), ["a", "b"]);
    assert_eq!((queue[0].lease, queue[1].lease), (a, b));
    assert!(queue[0].create_revision < queue[1].create_revision);
    assert_eq!(queue[0].key, format!("/e/{}", queue[0].lease_hex()));
    assert_eq!(cluster.marker("/e"), Some(41));
    assert_eq!(cluster.marker("/ee"), None);

    let vigil = cluster.watch_deletion(&queue[0].key, 0);
    let before = process::monotonic_ns();
    assert_eq!(vigil.gone_at(), None);
    cluster.revoke(a);
    let gone = vigil.wait(secs(5));
    assert!(gone > before && gone < process::monotonic_ns());
    cluster.wait_names("/e", &["b"]);
    assert_eq!(cluster.leases(), [b]);
    cluster.delete(&queue[1].key);
    assert_eq!(cluster.first("/e"), None);
}

#[test]
fn a_compacted_revision_can_not_be_read() {
    let cluster = Cluster::start(1);
    cluster.put("/x", "1");
    let old = cluster.revision();
    cluster.put("/x", "2");
    cluster.compact(old + 1);
    let options = etcd_client::GetOptions::new().with_revision(old);
    let mut client = cluster.client(0);
    let read = cluster.block_on(client.get("/x", Some(options)));
    assert!(read.unwrap_err().to_string().contains("compacted"));
}

// --- the proxy --------------------------------------------------------------------------------

/// A client behind a proxy, and the time it may take.
fn through(cluster: &Cluster, proxy: &Proxy) -> Client {
    let options = ConnectOptions::new().with_keep_alive_while_idle(false);
    let client = cluster.block_on(Client::connect([proxy.url()], Some(options)));
    client.unwrap()
}

#[derive(Debug)]
enum Asked {
    Answered,
    Failed(#[expect(dead_code, reason = "read by Debug")] Error),
    Silent,
}

fn ask(cluster: &Cluster, client: &Client, limit: Duration) -> Asked {
    let mut client = client.clone();
    cluster.block_on(async move {
        match tokio::time::timeout(limit, client.get("/x", None)).await {
            Ok(Ok(_)) => Asked::Answered,
            Ok(Err(error)) => Asked::Failed(error),
            Err(_) => Asked::Silent,
        }
    })
}

/// What a client with a warm connection gets after a fault.
fn ask_after(fault: impl Fn(&Proxy)) -> (Cluster, Proxy, Client, Asked) {
    let cluster = Cluster::start(1);
    let proxy = Proxy::to(cluster.address(0));
    let client = through(&cluster, &proxy);
    let warm = ask(&cluster, &client, secs(5));
    assert!(matches!(warm, Asked::Answered), "{warm:?}");
    fault(&proxy);
    let asked = ask(&cluster, &client, millis(500));
    (cluster, proxy, client, asked)
}

fn recovers(cluster: &Cluster, client: &Client) {
    eventually(secs(5), "it answers again", || {
        matches!(ask(cluster, client, millis(500)), Asked::Answered)
    });
}

#[test]
fn a_black_hole_is_silent_for_old_and_new_connections_and_heals() {
    let (cluster, proxy, client, asked) = ask_after(Proxy::black_hole);
    assert!(matches!(asked, Asked::Silent), "{asked:?}");
    let down = proxy.carried(Direction::Down);
    let new = through(&cluster, &proxy);
    let asked = ask(&cluster, &new, millis(500));
    assert!(
        matches!(asked, Asked::Silent),
        "accepted, and then nothing: {asked:?}"
    );
    assert_eq!(proxy.carried(Direction::Down), down);
    proxy.heal();
    recovers(&cluster, &client);
    recovers(&cluster, &new);
}

#[test]
fn a_pause_loses_nothing() {
    let cluster = Cluster::start(1);
    let proxy = Proxy::to(cluster.address(0));
    let mut client = through(&cluster, &proxy);
    recovers(&cluster, &client);
    proxy.pause();
    let begun = Instant::now();
    cluster.block_on(async move {
        let put = client.put("/x", "late", None);
        tokio::pin!(put);
        let early = tokio::time::timeout(millis(300), &mut put).await;
        assert!(early.is_err(), "held back");
        proxy.heal();
        put.await.unwrap();
    });
    assert!(begun.elapsed() >= millis(300));
    assert_eq!(cluster.get("/x").as_deref(), Some("late"));
}

#[test]
fn dropped_connections_fail_at_once_and_new_ones_are_served() {
    let cluster = Cluster::start(1);
    let proxy = Proxy::to(cluster.address(0));
    let mut client = through(&cluster, &proxy);
    let mut stream = cluster.block_on(client.watch("/x", None)).unwrap();
    cluster.block_on(stream.message()).unwrap();
    proxy.drop_connections();
    let broke = cluster.block_on(async { tokio::time::timeout(secs(2), stream.message()).await });
    assert!(!matches!(broke, Err(_) | Ok(Ok(Some(_)))), "{broke:?}");
    recovers(&cluster, &client);
}

#[test]
fn a_request_arrives_although_its_answer_is_cut_off() {
    let cluster = Cluster::start(1);
    let proxy = Proxy::to(cluster.address(0));
    let mut client = through(&cluster, &proxy);
    recovers(&cluster, &client);
    proxy.cut_one_way(Direction::Down);
    cluster.block_on(async {
        let put = client.put("/x", "unheard", None);
        let answer = tokio::time::timeout(millis(500), put).await;
        assert!(answer.is_err(), "{answer:?}");
    });
    assert_eq!(cluster.get("/x").as_deref(), Some("unheard"));
    proxy.heal();
    recovers(&cluster, &client);
}

#[test]
fn a_request_cut_off_on_its_way_never_arrives() {
    let cluster = Cluster::start(1);
    let proxy = Proxy::to(cluster.address(0));
    let mut client = through(&cluster, &proxy);
    recovers(&cluster, &client);
    proxy.cut_one_way(Direction::Up);
    cluster.block_on(async {
        let put = client.put("/x", "lost", None);
        let answer = tokio::time::timeout(millis(500), put).await;
        assert!(answer.is_err(), "{answer:?}");
    });
    proxy.heal();
    recovers(&cluster, &client);
    assert_eq!(cluster.get("/x"), None);
}

#[test]
fn a_delay_is_paid_both_ways() {
    let (cluster, proxy, client, asked) = ask_after(|proxy| proxy.delay(millis(60)));
    assert!(matches!(asked, Asked::Answered), "{asked:?}");
    let begun = Instant::now();
    ask(&cluster, &client, secs(5));
    let slow = begun.elapsed();
    assert!(slow >= millis(120), "{slow:?}");
    proxy.heal();
    let begun = Instant::now();
    ask(&cluster, &client, secs(5));
    assert!(
        begun.elapsed() < slow,
        "healed, yet as slow: {:?}",
        begun.elapsed()
    );
}

#[test]
fn each_replica_has_faults_of_its_own() {
    let cluster = Cluster::start(3);
    let (cut, whole) = (Links::to(&cluster), Links::to(&cluster));
    cut.black_hole();
    for i in 0..3 {
        let asked = ask(&cluster, &through(&cluster, &whole[i]), secs(2));
        assert!(matches!(asked, Asked::Answered), "{asked:?}");
        let asked = ask(&cluster, &through(&cluster, &cut[i]), millis(300));
        assert!(matches!(asked, Asked::Silent), "{asked:?}");
    }
}
