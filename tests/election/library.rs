//! Session, election and term without the daemon, as Go's concurrency package is used.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use etcd_client::{DeleteOptions, Txn};
use incumbent::clock;
use incumbent::config::timing::Timing;
use incumbent::election::observe::LeaderEvent;
use incumbent::election::{CampaignError, Election, Observer};
use incumbent::etcd::{Settings, Store};
use incumbent::keys::{NotAPrefix, Prefix};
use incumbent::session::{Counter, Loss, Options, Session};
use incumbent::term::Term;
use incumbent::term::{TxnOp, WriteError};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Limit of one look at the store.
const LIMIT: Duration = Duration::from_secs(1);

/// A cluster, and a runtime for those who use the library.
struct Library {
    // First, so that sessions end before the store does.
    runtime: Runtime,
    cluster: Cluster,
}

/// One who stands for election.
struct Standing {
    session: Session,
    election: Election,
}

impl Library {
    fn on(members: usize) -> Self {
        Self {
            runtime: runtime(),
            cluster: Cluster::start(members),
        }
    }

    fn store(&self) -> Store {
        Store::new(&Settings::new(self.cluster.endpoints()))
    }

    /// A candidate with a session of its own.
    fn candidate(&self, name: &str, ttl: u64) -> Standing {
        self.candidate_through(&self.store(), name, ttl)
    }

    fn candidate_through(&self, store: &Store, name: &str, ttl: u64) -> Standing {
        let timing = Timing::new(secs(ttl), millis(300), millis(500));
        let opened = self.wait(Session::open(store, Options::new(timing)));
        let prefix = Prefix::new(PREFIX);
        Standing {
            session: opened.unwrap(),
            election: Election::new(store.clone(), prefix, name, secs(1)),
        }
    }

    /// A candidate that leads at once.
    fn leader(&self, name: &str, ttl: u64) -> (Standing, Term) {
        let mut standing = self.candidate(name, ttl);
        let term = self.wait(standing.election.stand(&standing.session));
        (standing, term.unwrap())
    }

    /// A candidate that stands in line behind `ahead` others, until it leads.
    fn stand(&self, name: &str, ttl: u64, ahead: usize) -> JoinHandle<(Standing, Term)> {
        let mut standing = self.candidate(name, ttl);
        let stands = self.runtime.spawn(async move {
            let term = standing.election.stand(&standing.session).await.unwrap();
            (standing, term)
        });
        eventually(SOON, &format!("{name} stands in line"), || {
            self.cluster.names(PREFIX).get(ahead).map(String::as_str) == Some(name)
        });
        stands
    }

    fn observer(&self) -> Observer {
        Observer::new(self.store(), Prefix::new(PREFIX), LIMIT)
    }

    /// What the next event says: the leader's name, `None` for nobody.
    fn seen(&self, observer: &mut Observer) -> Option<String> {
        match self.wait(observer.next()).unwrap() {
            LeaderEvent::Leader { leader, .. } => leader.map(|leader| leader.name),
            LeaderEvent::Value { leader, .. } => Some(leader.name),
        }
    }

    /// Runs a future that must not take long.
    #[track_caller]
    fn wait<F: Future>(&self, future: F) -> F::Output {
        let limited = async { tokio::time::timeout(patience(SOON), future).await };
        self.runtime.block_on(limited).expect("it ends")
    }

    fn resign(&self, standing: Standing, term: &Term) {
        let Standing { session, election } = standing;
        assert!(self.wait(election.resign(session, Some(term))));
    }
}

#[test]
fn who_joins_an_empty_election_leads_by_that_without_a_claim() {
    let library = Library::on(1);
    let transactions = || {
        let metrics = library.cluster.metrics(0).into_iter();
        let of_txn =
            |name: &str| name.starts_with("grpc_server_handled") && name.contains("\"Txn\"");
        let counts = metrics.filter(|(name, _)| of_txn(name));
        counts.map(|(_, count)| count).sum::<f64>()
    };
    let before = transactions();
    let (a, term) = library.leader("a", 15);
    // It joined, and put its term on record.
    assert!((transactions() - before - 2.0).abs() < 0.5);
    library.resign(a, &term);
}

#[test]
fn who_waits_renews_less_often_than_who_leads_and_at_once_when_it_comes_to_lead() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 60);
    let renewed = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&renewed);
    let timing = Timing::new(secs(5), millis(300), millis(500));
    let mut options = Options::new(timing);
    options.counter = Counter::new(move |_, _| told.lock().unwrap().push(clock::now()));
    let session = library.wait(Session::open(&library.store(), options));
    let session = session.unwrap();
    let mut election = Election::new(library.store(), Prefix::new(PREFIX), "b", secs(1));
    let stands = library.runtime.spawn(async move {
        let term = election.stand(&session).await.unwrap();
        (Standing { session, election }, term)
    });
    eventually(SOON, "three renewals", || {
        renewed.lock().unwrap().len() >= 3
    });
    for pair in renewed.lock().unwrap().windows(2) {
        assert!(pair[1].since(pair[0]) > timing.renewal_interval() * 3 / 2);
    }
    // Older than any of a leader's, and not yet due for who waits.
    eventually(SOON, "the last renewal is old", || {
        let last = *renewed.lock().unwrap().last().unwrap();
        clock::now().since(last) > timing.renewal_interval() * 6 / 5
    });
    let before = renewed.lock().unwrap().len();
    library.resign(a, &term);
    let (b, term) = library.wait(stands).unwrap();
    let elected = clock::now();
    eventually(SOON, "it renews", || renewed.lock().unwrap().len() > before);
    let (last, next) = {
        let renewed = renewed.lock().unwrap();
        (renewed[before - 1], renewed[before])
    };
    // On a machine that is too busy for that, one was due in any case.
    let sooner = timing.waiting_interval().saturating_sub(millis(100));
    assert!(next.since(last) < sooner || elected.since(last) + millis(100) > sooner);
    library.resign(b, &term);
}

#[test]
fn candidates_lead_in_the_order_in_which_they_joined() {
    let library = Library::on(1);
    let (a, first) = library.leader("a", 5);
    let b = library.stand("b", 5, 1);
    let c = library.stand("c", 5, 2);
    let queue = library.cluster.queue(PREFIX);
    library.resign(a, &first);
    let (b, second) = library.wait(b).unwrap();
    assert!(!c.is_finished());
    library.resign(b, &second);
    let (c, third) = library.wait(c).unwrap();
    let tokens = [&first, &second, &third].map(|term| term.token().get());
    assert_eq!(
        tokens.to_vec(),
        queue.iter().map(|c| c.create_revision).collect::<Vec<_>>()
    );
    assert!(tokens.is_sorted());
    assert_eq!(library.cluster.marker(PREFIX), Some(second.token().get()));
    library.resign(c, &third);
    assert_eq!(library.cluster.queue(PREFIX), []);
    assert_eq!(library.cluster.leases(), [] as [i64; 0]);
}

#[test]
fn an_observer_sees_every_value_and_every_leader_and_nobody() {
    let library = Library::on(1);
    let mut observer = library.observer();
    assert_eq!(library.seen(&mut observer), None);

    let (a, term) = library.leader("a", 5);
    let values: Vec<_> = (0..50).map(|n| format!("value {n}")).collect();
    for value in &values {
        library.wait(a.election.proclaim(&term, value)).unwrap();
    }
    library.resign(a, &term);
    let mut expected = vec![Some("a".to_owned())];
    expected.extend(values.into_iter().map(Some));
    expected.push(None);
    for name in ["b", "c", "d"] {
        let (standing, term) = library.leader(name, 5);
        library.resign(standing, &term);
        expected.extend([Some(name.to_owned()), None]);
    }
    for expected in expected {
        assert_eq!(library.seen(&mut observer), expected);
    }
}

#[test]
fn an_observer_tells_of_a_hand_over_once_the_next_claim_is_complete() {
    let library = Library::on(1);
    let (a, first) = library.leader("a", 5);
    let mut observer = library.observer();
    assert_eq!(library.seen(&mut observer).as_deref(), Some("a"));
    let b = library.stand("b", 5, 1);
    library.resign(a, &first);
    assert_eq!(library.seen(&mut observer), None);
    let event = library.wait(observer.next()).unwrap();
    let (_b, second) = library.wait(b).unwrap();
    match event {
        LeaderEvent::Leader {
            leader: Some(leader),
            ..
        } => {
            assert_eq!((leader.name.as_str(), leader.token), ("b", second.token()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn leader_names_the_leader_and_nobody() {
    let library = Library::on(1);
    let onlooker = Election::new(library.store(), Prefix::new(PREFIX), "onlooker", secs(1));
    assert_eq!(library.wait(onlooker.leader(LIMIT)).unwrap(), None);
    let (a, term) = library.leader("a", 5);
    let leader = library.wait(onlooker.leader(LIMIT)).unwrap().unwrap();
    assert_eq!((leader.name.as_str(), leader.token), ("a", term.token()));
    assert_eq!(leader.lease, term.lease());
    library.resign(a, &term);
    assert_eq!(library.wait(onlooker.leader(LIMIT)).unwrap(), None);
}

#[test]
fn a_revoked_lease_ends_the_term() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 5);
    library.cluster.revoke(a.session.lease().get());
    // Seen by the next renewal, which is due a second after the last.
    library.wait(async { tokio::time::timeout(secs(3), term.lost()).await.unwrap() });
    let loss = library.wait(a.session.lost());
    assert!(matches!(loss, Loss::Revoked | Loss::Deleted), "{loss:?}");
    assert_eq!(term.remaining(), Duration::ZERO);
    assert!(term.remaining().is_zero());
    let written = library.wait(term.put("/written/late", "x"));
    assert_eq!(written, Err(WriteError::NotLeader));
    assert_eq!(library.cluster.get("/written/late"), None);
}

#[test]
fn a_deleted_key_ends_the_term_though_its_lease_lives() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 5);
    library.cluster.delete(term.key());
    library.wait(async { tokio::time::timeout(secs(3), term.lost()).await.unwrap() });
    assert_eq!(library.wait(a.session.lost()), Loss::Deleted);
    assert!(library.cluster.leases().contains(&term.lease().get()));
    assert!(library.wait(a.session.close(clock::now() + secs(5))));
    assert_eq!(library.cluster.leases(), [] as [i64; 0]);
}

#[test]
fn a_waiting_candidate_whose_lease_is_lost_never_leads() {
    let library = Library::on(1);
    let (_a, first) = library.leader("a", 5);
    let mut b = library.candidate("b", 5);
    let lease = b.session.lease();
    let stands = library.runtime.spawn(async move {
        let outcome = b.election.stand(&b.session).await;
        (b, outcome.map(|term| term.token()))
    });
    library.cluster.wait_names(PREFIX, &["a", "b"]);
    library.cluster.revoke(lease.get());
    let (mut b, outcome) = library.wait(stands).unwrap();
    assert!(
        matches!(outcome, Err(CampaignError::Lost(_))),
        "{outcome:?}"
    );
    // A new session is a new place in the queue; the old one is gone for good.
    let again = library.wait(b.election.stand(&b.session));
    assert!(matches!(again, Err(CampaignError::Lost(_))), "{again:?}");
    assert_eq!(
        library.cluster.first(PREFIX).unwrap().create_revision,
        first.token().get()
    );
}

#[test]
fn a_guarded_transaction_is_done_whole_or_not_at_all() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 5);
    let writes = |value: &str| {
        vec![
            TxnOp::put("/written/one", value, None),
            TxnOp::put("/written/two", value, None),
        ]
    };
    library.wait(term.txn(writes("first"))).unwrap();
    assert_eq!(
        library.wait(term.get("/written/one")).unwrap().as_deref(),
        Some(&b"first"[..])
    );
    assert_eq!(library.wait(term.get("/written/none")).unwrap(), None);
    library.wait(term.put("/written/three", "x")).unwrap();
    library.wait(term.delete("/written/three")).unwrap();
    assert_eq!(library.cluster.get("/written/three"), None);

    library.resign(a, &term);
    // Another leads now, under a key of its own, and is none of the old term's business.
    let (_b, _next) = library.leader("b", 5);
    let refused = library.wait(term.txn(writes("second")));
    assert_eq!(refused.unwrap_err(), WriteError::NotLeader);
    let refused = library.wait(term.get("/written/one"));
    assert_eq!(refused, Err(WriteError::NotLeader));
    let refused = library.wait(term.delete("/written/one"));
    assert_eq!(refused, Err(WriteError::NotLeader));
    assert_eq!(
        library.wait(term.proclaim("mine")),
        Err(WriteError::NotLeader)
    );
    for key in ["/written/one", "/written/two"] {
        assert_eq!(library.cluster.get(key).as_deref(), Some("first"));
    }
    assert_eq!(library.cluster.names(PREFIX), ["b"]);
}

#[test]
fn remaining_comes_to_zero_when_the_polite_stop_is_due() {
    let library = Library::on(1);
    let links = Links::to(&library.cluster);
    let store = Store::new(&Settings::new(links.urls()));
    let mut a = library.candidate_through(&store, "a", 4);
    let term = library.wait(a.election.stand(&a.session)).unwrap();
    assert!(term.remaining() > secs(2), "{:?}", term.remaining());
    links.black_hole();
    library.wait(term.lost());
    let (lost, deadline) = (clock::now(), term.deadline());
    assert_eq!(term.remaining(), Duration::ZERO);
    // Not before D−G−K, which is 800 ms before D here, and before D−K for certain.
    assert!(lost + millis(800) >= deadline);
    assert!(
        lost + millis(500) < deadline,
        "{:?} late",
        lost.since(deadline)
    );
    // What happened meanwhile is no loss yet: the lease is there until its end.
    assert!(library.cluster.leases().contains(&term.lease().get()));
    assert_eq!(library.wait(a.session.lost()), Loss::Expired);
    assert!(clock::now() >= deadline);
}

#[test]
fn a_session_renews_beside_work_that_blocks_another_runtime() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 4);
    let work = runtime();
    let theirs = term.with_store(library.store());
    let worked = work.spawn(async move {
        for n in 0..9 {
            // No await: the runtime's only thread does nothing else meanwhile.
            std::thread::sleep(millis(1000));
            theirs.put("/written/by-work", n.to_string()).await?;
        }
        Ok::<_, WriteError>(theirs.remaining().is_zero())
    });
    let stopping = work.block_on(worked).unwrap().unwrap();
    assert!(!stopping, "two TTL later it leads on");
    assert_eq!(
        library.cluster.get("/written/by-work").as_deref(),
        Some("8")
    );
    assert_eq!(
        library.cluster.first(PREFIX).unwrap().create_revision,
        term.token().get()
    );
    library.resign(a, &term);
}

#[test]
fn a_member_in_a_black_hole_costs_a_try_and_not_the_term() {
    let library = Library::on(3);
    let links = Links::to(&library.cluster);
    let store = Store::new(&Settings::new(links.urls()));
    let mut a = library.candidate_through(&store, "a", 5);
    let term = library.wait(a.election.stand(&a.session)).unwrap();
    let mut asked = BTreeSet::new();
    for _ in 0..3 {
        let current = store.current().endpoint.clone();
        let urls = links.urls();
        let i = urls.iter().position(|url| *url == current).unwrap();
        links[i].black_hole();
        let before = term.deadline();
        eventually(secs(5), "another member is asked, and renews", || {
            store.current().endpoint != current && term.deadline() > before
        });
        asked.insert(current);
        links[i].heal();
    }
    assert!(asked.len() > 1, "{asked:?}");
    assert!(!term.remaining().is_zero());
    library.wait(term.put("/written/after", "x")).unwrap();
    assert_eq!(
        library.cluster.first(PREFIX).unwrap().create_revision,
        term.token().get()
    );
    library.resign(a, &term);
}

#[test]
fn a_dropped_session_leaves_its_lease_to_the_ttl() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 2);
    let key = term.key().to_owned();
    let vigil = library.cluster.watch_deletion(&key, 0);
    drop(a);
    library.wait(term.lost());
    assert_eq!(term.remaining(), Duration::ZERO);
    assert!(term.remaining().is_zero());
    assert!(vigil.gone_at().is_none(), "lost in time");
    vigil.wait(secs(10));
    assert_eq!(
        library.wait(term.put("/written/late", "x")),
        Err(WriteError::NotLeader)
    );
}

#[test]
fn a_session_stands_in_one_election_and_once() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 5);
    let prefix = Prefix::new("/other/election");
    let mut other = Election::new(library.store(), prefix, "a", secs(1));
    let taken = library.wait(other.stand(&a.session));
    assert_eq!(taken.unwrap_err(), CampaignError::SessionTaken);
    let mut same = Election::new(library.store(), Prefix::new(PREFIX), "a", secs(1));
    let taken = library.wait(same.stand(&a.session));
    assert_eq!(taken.unwrap_err(), CampaignError::SessionTaken);
    assert_eq!(library.cluster.queue("/other/election"), []);
    // Its own key is watched over as before.
    assert!(!term.remaining().is_zero());
    library.cluster.delete(term.key());
    library.wait(async { tokio::time::timeout(secs(3), term.lost()).await.unwrap() });
}

#[test]
fn nobody_resigns_with_a_session_or_a_term_that_is_not_theirs() {
    let library = Library::on(1);
    let (a, first) = library.leader("a", 5);
    let b = library.candidate("b", 5);
    let lease = b.session.lease();
    assert!(!library.wait(a.election.resign(b.session, Some(&first))));
    let elsewhere = Election::new(library.store(), Prefix::new("/other"), "a", secs(1));
    assert!(!first.remaining().is_zero());
    assert_ne!(first.lease(), lease);
    assert!(!library.wait(elsewhere.resign(a.session, Some(&first))));
    // The session is over, and so is its term; its lease is left to the TTL.
    library.wait(first.lost());
    assert_eq!(library.cluster.names(PREFIX), ["a"]);
}

#[test]
fn two_sessions_of_the_same_options_are_two_leases() {
    let library = Library::on(1);
    let options = Options::new(Timing::new(secs(5), millis(300), millis(500)));
    let store = library.store();
    let open = || {
        library
            .wait(Session::open(&store, options.clone()))
            .unwrap()
    };
    let (one, other) = (open(), open());
    assert_ne!(one.lease(), other.lease());
    assert_eq!(library.cluster.leases().len(), 2);
}

#[test]
fn a_session_that_is_not_waited_for_leaves_no_lease() {
    let library = Library::on(1);
    let links = Links::to(&library.cluster);
    let store = Store::new(&Settings::new(links.urls()));
    let options = Options::new(Timing::new(secs(60), millis(300), millis(500)));
    // Granted, and never heard of.
    links[0].cut_one_way(Direction::Down);
    let opened = library.runtime.spawn(async move {
        let opening = Session::open(&store, options);
        tokio::time::timeout(secs(1), opening).await.is_err()
    });
    eventually(SOON, "the lease is granted", || {
        library.cluster.leases().len() == 1
    });
    assert!(library.wait(opened).unwrap());
    links[0].heal();
    eventually(SOON, "the lease is gone", || {
        library.cluster.leases().is_empty()
    });
}

#[test]
fn a_leader_writes_nothing_that_would_block_its_own_election() {
    let library = Library::on(1);
    let (a, term) = library.leader("a", 5);
    let own = |key: &str| format!("{PREFIX}{key}");
    let blocks = |key: String| Err(WriteError::Blocks { key });
    for key in [
        own("/count"),
        own("/"),
        own(".meta/ended"),
        term.key().to_owned(),
    ] {
        assert_eq!(
            library.wait(term.put(key.as_str(), "1")),
            blocks(key.clone())
        );
        assert_eq!(library.wait(term.delete(key.as_str())), blocks(key.clone()));
    }
    let put = || TxnOp::put(own("/count"), "1", None);
    let nested = || TxnOp::txn(Txn::new().or_else([TxnOp::txn(Txn::new().and_then([put()]))]));
    let everything = || TxnOp::delete("/", Some(DeleteOptions::new().with_prefix()));
    for operation in [put(), nested(), everything()] {
        let get = TxnOp::get("/written/none", None);
        let done = library.wait(term.txn(vec![get, operation]));
        assert!(matches!(done, Err(WriteError::Blocks { .. })), "{done:?}");
    }
    // What only looks alike is nobody's business, and reads do no harm.
    for key in [PREFIX.to_owned(), own("-count"), own("s/count")] {
        library.wait(term.put(key, "1")).unwrap();
    }
    assert!(library.wait(term.get(term.key())).unwrap().is_some());
    library.wait(term.proclaim("mine")).unwrap();
    library.resign(a, &term);
    let (b, next) = library.leader("b", 5);
    library.resign(b, &next);
}

#[test]
fn nobody_stands_under_a_prefix_that_is_none() {
    let library = Library::on(1);
    for (prefix, why) in [
        ("", NotAPrefix::Text),
        ("/x.meta", NotAPrefix::Records),
        ("/x.meta/y", NotAPrefix::Records),
    ] {
        assert_eq!(Prefix::checked(prefix), Err(why));
        let timing = Timing::new(secs(5), millis(300), millis(500));
        let session = library.wait(Session::open(&library.store(), Options::new(timing)));
        let mut election = Election::new(library.store(), Prefix::new(prefix), "a", secs(1));
        let stood = library.wait(election.stand(&session.unwrap()));
        assert_eq!(stood.unwrap_err(), CampaignError::Prefix(why));
    }
}
