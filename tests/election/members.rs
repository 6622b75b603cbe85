//! Which member of the store is asked: the one that leads it, where it can be had; and how a watch
//! tells a quiet one from one that hangs.

use std::time::Duration;

use crate::common::*;
use incumbent::clock;
use incumbent::etcd::watch::{Target, Watch};
use incumbent::etcd::{Settings, Store};
use incumbent::revision::Revision;

/// Limit of one look at the store.
const LIMIT: Duration = Duration::from_secs(1);

/// The place in the cluster of the member that `store` asks.
fn asked(cluster: &Cluster, store: &Store) -> usize {
    let endpoint = store.current().endpoint.clone();
    let mut endpoints = cluster.endpoints().into_iter();
    endpoints.position(|it| it == endpoint).unwrap()
}

fn store(cluster: &Cluster) -> Store {
    Store::new(&Settings::new(cluster.endpoints()))
}

#[test]
fn a_store_goes_to_the_member_that_leads_wherever_it_begins() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    for begins in 0..3 {
        let store = store(&cluster);
        while asked(&cluster, &store) != begins {
            store.give_up_on(&store.current());
        }
        cluster.block_on(store.go_to_leader(LIMIT));
        assert_eq!(asked(&cluster, &store), leader, "begun with {begins}");
    }
}

#[test]
fn a_store_stays_where_it_is_while_nobody_says_that_it_leads() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let store = store(&cluster);
    // What it has heard of who leads is used up.
    cluster.block_on(store.go_to_leader(LIMIT));
    while asked(&cluster, &store) == leader {
        store.give_up_on(&store.current());
    }
    let before = asked(&cluster, &store);
    cluster.freeze(leader);
    cluster.block_on(store.go_to_leader(millis(100)));
    assert_eq!(asked(&cluster, &store), before);
}

#[test]
fn a_store_follows_a_change_of_leader() {
    let cluster = Cluster::start(3);
    let store = store(&cluster);
    let follows = store.clone();
    cluster.block_on(async {
        tokio::spawn(async move {
            follows.go_to_leader(LIMIT).await;
            follows.follow_leader(LIMIT).await;
        });
    });
    let goes_to = |leader| {
        eventually(SOON, "the store is with the leader", || {
            // A change is learned from answers alone.
            let read = cluster.block_on(store.get(LIMIT, "/", None));
            let with = asked(&cluster, &store);
            match read {
                Ok(_) if with == leader => Ok(()),
                read => Err(format!("with {with}, not {leader}: {:?}", read.err())),
            }
        });
    };
    let first = cluster.leader();
    goes_to(first);
    cluster.freeze(first);
    let second = cluster.leader();
    cluster.thaw(first);
    goes_to(second);
}

#[test]
fn a_leader_resigns_through_the_member_that_leads() {
    let scene = Scene::start(3);
    let leader = scene.cluster.leader();
    let links = Links::to(&scene.cluster);
    let (a, _) = scene.leader(scene.daemon("a").ttl("15s").through(&links));
    let b = scene.waiter(scene.daemon("b").ttl("15s"));
    eventually(SOON, "a has asked the member that leads", || {
        links[leader].carried(Direction::Down) > 0
    });
    for i in (0..3).filter(|i| *i != leader) {
        links[i].black_hole();
    }
    // An attempt on another member is given up after 1.5 s.
    let begun = clock::now();
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    let took = clock::now().since(begun);
    assert!(took < patience(secs(1)).min(millis(1400)), "{took:?}");
    scene.assert_no_overlap();
}

#[test]
fn a_watch_lives_on_while_nothing_happens_and_ends_when_its_member_hangs() {
    let cluster = Cluster::start(1);
    let store = store(&cluster);
    let from = Revision::new(cluster.revision() + 1);
    let targets = || {
        vec![
            Target::Key(b"/key".to_vec()),
            Target::Prefix("/keys/".into()),
        ]
    };
    let mut watch = cluster
        .block_on(Watch::open(&store, LIMIT, targets(), from))
        .unwrap();
    // It is asked three times whether it lives.
    let quiet = cluster.block_on(async { tokio::time::timeout(secs(8), watch.next()).await });
    assert!(quiet.is_err(), "{quiet:?}");
    cluster.put("/key", "x");
    let heard = cluster.block_on(watch.next()).unwrap();
    assert_eq!(heard.len(), 1, "{heard:?}");
    cluster.freeze(0);
    let hangs = async { tokio::time::timeout(patience(secs(8)), watch.next()).await };
    let hangs = cluster.block_on(hangs).expect("it is given up");
    assert!(hangs.is_err(), "{hangs:?}");
    cluster.thaw(0);
}
