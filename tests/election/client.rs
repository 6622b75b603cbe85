//! The election's own crate, misused as far as it lets one: dropped, cancelled, blocked, doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use incumbent_election::{
    CampaignError, Change, Client, ClientOptions, Ending, Event, GuardedTxn, Leadership, Loss,
    OptionsError, PrefixError, Progress, ResignError, Term, WriteError,
};
use tokio::runtime::Runtime;

use crate::common::*;

/// A TTL that nothing here waits for unless it says so.
const TTL: Duration = Duration::from_secs(5);

/// A cluster, and a program that uses the library.
struct Program {
    runtime: Runtime,
    cluster: Cluster,
    client: Client,
}

impl Program {
    fn start() -> Self {
        let cluster = Cluster::start(1);
        let client = Client::new(&ClientOptions::new(cluster.endpoints())).unwrap();
        Self {
            runtime: runtime(),
            cluster,
            client,
        }
    }

    /// Runs a future that must not take long.
    #[track_caller]
    fn wait<F: Future>(&self, future: F) -> F::Output {
        let limited = async { tokio::time::timeout(patience(SOON), future).await };
        self.runtime.block_on(limited).expect("it ends")
    }

    fn candidate(&self, prefix: &str, name: &str) -> incumbent_election::Candidate {
        let election = self.client.election(prefix).unwrap();
        election.candidate(name).ttl(TTL)
    }

    #[track_caller]
    fn leader(&self, prefix: &str, name: &str) -> Leadership {
        self.wait(self.candidate(prefix, name).campaign()).unwrap()
    }

    /// How long it takes until a term is ending, and why it does.
    #[track_caller]
    fn ending(&self, term: &Term) -> (Duration, Ending) {
        let begun = now();
        let ending = self.wait(term.ending());
        (begun.elapsed(), ending)
    }

    fn lease_of(&self, prefix: &str) -> i64 {
        let lease = self.cluster.first(prefix).unwrap().lease_hex();
        i64::from_str_radix(&lease, 16).unwrap()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test may be measured by any clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn two_elections_of_one_client_are_lost_and_given_back_each_by_itself() {
    let program = Program::start();
    let (one, two) = (program.leader("/one", "a"), program.leader("/two", "a"));
    program.cluster.delete(one.key());
    let (took, ending) = program.ending(&one);
    assert_eq!(ending, Ending::Lost(Loss::Deleted));
    assert!(took < millis(500), "heard after {took:?}");
    assert!(!two.is_ending());
    program.wait(two.put("/written/two", "x")).unwrap();
    program.wait(two.resign()).unwrap();
    program.wait(one.resign()).unwrap();
    assert_eq!(program.cluster.leases(), [] as [i64; 0]);
}

#[test]
fn candidates_of_the_same_options_have_leases_and_tokens_of_their_own() {
    let program = Program::start();
    let options = ClientOptions::new(program.cluster.endpoints());
    let clients = [options.clone(), options].map(|options| Client::new(&options).unwrap());
    let [first, second] = clients.map(|client| {
        let election = client.election("/one").unwrap();
        program.runtime.spawn(async move {
            let leadership = election.candidate("a").ttl(TTL).campaign().await.unwrap();
            let token = leadership.token();
            leadership.resign().await.unwrap();
            token
        })
    });
    let tokens = [first, second].map(|it| program.wait(it).unwrap());
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn a_lease_that_is_revoked_early_is_heard_of_in_milliseconds_and_waited_out() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    let record = program.cluster.get("/one.meta/term").unwrap();
    assert!(
        record.contains(&format!("\"token\":{}", a.token())),
        "{record}"
    );
    // Time for the watch to be there; the record was before.
    program.wait(a.put("/written/one", "x")).unwrap();
    std::thread::sleep(millis(100));
    program.cluster.revoke(program.lease_of("/one"));
    let (took, ending) = program.ending(&a);
    assert!(
        matches!(ending, Ending::Lost(Loss::Deleted | Loss::Revoked)),
        "{ending:?}"
    );
    assert!(took < millis(500), "heard after {took:?}");
    assert_eq!(
        program.wait(a.put("/written/one", "late")),
        Err(WriteError::NotLeader)
    );
    // Whoever comes now was not there, and waits for the work of a term that nobody ended.
    let mut b = program.candidate("/one", "b");
    let mut waits = b.progress();
    let begun = now();
    let leads = program.wait(b.campaign()).unwrap();
    assert!(begun.elapsed() >= secs(1), "{:?}", begun.elapsed());
    assert!(matches!(
        program.wait(waits.next()),
        Some(Progress::Delayed(_))
    ));
    assert!(leads.token() > a.token());
}

#[test]
fn a_campaign_that_is_dropped_leaves_no_key_and_no_lease() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    for _ in 0..3 {
        let mut b = program.candidate("/one", "b");
        let waited = async { tokio::time::timeout(millis(300), b.campaign()).await };
        assert!(program.runtime.block_on(waited).is_err());
    }
    eventually(secs(2), "b is gone", || {
        program.cluster.names("/one") == ["a"] && program.cluster.leases().len() == 1
    });
    // The same candidate may come again, and needs nobody to poll it to keep its place.
    let mut b = program.candidate("/one", "b");
    let given_up = async { tokio::time::timeout(millis(300), b.campaign()).await };
    assert!(program.runtime.block_on(given_up).is_err());
    let led = program.runtime.spawn(async move { b.campaign().await });
    program.cluster.wait_names("/one", &["a", "b"]);
    program.wait(a.resign()).unwrap();
    program
        .wait(program.wait(led).unwrap().unwrap().resign())
        .unwrap();
}

#[test]
fn a_leadership_that_is_dropped_is_given_back() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    let token = a.token().get();
    drop(a);
    let b = program.leader("/one", "b");
    assert_eq!(program.cluster.marker("/one"), Some(token));
    program.wait(b.resign()).unwrap();
    assert_eq!(program.cluster.leases(), [] as [i64; 0]);
}

#[test]
fn a_leader_steps_down_once_another_is_there_and_heeds_a_pause() {
    let program = Program::start();
    let a = program.leader("/election", "a");
    // Nobody would follow.
    let alone = program.cluster.incumbent(&["step-down"]).run();
    assert_ne!(alone.code, Some(0), "{}", alone.text());
    assert!(!a.is_ending());
    let mut b = program.candidate("/election", "b");
    let b = program.runtime.spawn(async move { b.campaign().await });
    program.cluster.wait_names("/election", &["a", "b"]);
    let asks = program.cluster.incumbent(&["step-down", "--wait"]).start();
    assert_eq!(program.ending(&a).1, Ending::StepDown);
    program.wait(a.resign()).unwrap();
    assert_eq!(asks.wait().code, Some(0));
    let b = program.wait(b).unwrap().unwrap();

    program
        .cluster
        .incumbent(&["pause", "--keep-leader"])
        .text();
    assert!(!b.is_ending());
    let asks = program.cluster.incumbent(&["pause"]).start();
    assert_eq!(program.ending(&b).1, Ending::Paused);
    program.wait(b.resign()).unwrap();
    assert_eq!(asks.wait().code, Some(0));
    let mut c = program.candidate("/election", "c");
    let mut waits = c.progress();
    let c = program.runtime.spawn(async move { c.campaign().await });
    assert_eq!(program.wait(waits.next()), Some(Progress::Paused));
    program.cluster.incumbent(&["resume"]).text();
    program
        .wait(program.wait(c).unwrap().unwrap().resign())
        .unwrap();
}

/// Has every worker of the runtime sleep for longer than a TTL, and says whether the term went on.
fn leads_on_beside_blocked_workers(program: &Program, runtime: &Runtime, workers: usize) {
    let a = program.leader("/one", "a");
    let token = a.token().get();
    let asleep = Arc::new(AtomicUsize::new(0));
    let sleepers: Vec<_> = (0..workers)
        .map(|_| {
            let asleep = Arc::clone(&asleep);
            runtime.spawn(async move {
                asleep.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(TTL + secs(2));
            })
        })
        .collect();
    runtime.block_on(async {
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
    });
    assert_eq!(asleep.load(Ordering::SeqCst), workers);
    assert!(!a.is_ending(), "{:?} remain", a.remaining());
    assert_eq!(
        program.cluster.first("/one").unwrap().create_revision,
        token
    );
    program.wait(a.resign()).unwrap();
}

#[test]
fn blocked_workers_cost_no_term() {
    let program = Program::start();
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    leads_on_beside_blocked_workers(&program, &workers, 2);
    let single = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    leads_on_beside_blocked_workers(&program, &single, 1);
}

#[test]
fn a_runtime_that_is_gone_takes_nothing_with_it() {
    let program = Program::start();
    let mut a = program.candidate("/one", "a");
    let gone = runtime();
    let a = gone.block_on(a.campaign()).unwrap();
    gone.shutdown_background();
    std::thread::sleep(millis(1500));
    assert!(!a.is_ending());
    program.wait(a.put("/written/one", "x")).unwrap();
    program.wait(a.resign()).unwrap();
}

#[test]
fn resigning_waits_for_the_last_clone_of_the_term() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    let mut b = program.candidate("/one", "b");
    let b = program.runtime.spawn(async move { b.campaign().await });
    program.cluster.wait_names("/one", &["a", "b"]);
    let term = a.term();
    let over = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&over);
    let begun = now();
    let elapsed = move || u64::try_from(begun.elapsed().as_millis()).unwrap();
    program.runtime.spawn(async move {
        assert_eq!(term.ending().await, Ending::Stopping);
        // Work that takes its time to end.
        std::thread::sleep(millis(800));
        term.put("/written/last", "x").await.unwrap();
        told.store(elapsed(), Ordering::SeqCst);
        drop(term);
    });
    program.wait(a.resign()).unwrap();
    let resigned = elapsed();
    let over = over.load(Ordering::SeqCst);
    assert!(over >= 800 && over <= resigned, "{over} {resigned}");
    assert_eq!(program.cluster.get("/written/last").as_deref(), Some("x"));
    program
        .wait(program.wait(b).unwrap().unwrap().resign())
        .unwrap();
}

#[test]
fn a_term_whose_work_never_ends_is_not_given_back_but_runs_out() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    let (kept, key) = (a.term(), a.key().to_owned());
    let vigil = program.cluster.watch_deletion(&key, 0);
    let resigned = program.wait(a.resign());
    assert!(
        matches!(resigned, Err(ResignError::StillWorking(1))),
        "{resigned:?}"
    );
    assert!(vigil.gone_at().is_none());
    assert!(kept.is_ending());
    vigil.wait(TTL * 2);
    assert_eq!(
        program.wait(kept.put("/written/late", "x")),
        Err(WriteError::NotLeader)
    );
}

#[test]
fn a_leader_can_not_block_its_own_election() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    for key in ["/one/count", "/one/", "/one.meta/term"] {
        let blocks = Err(WriteError::Blocks {
            key: key.to_owned(),
        });
        assert_eq!(program.wait(a.put(key, "1")), blocks);
        assert_eq!(program.wait(a.delete(key)), blocks);
        let txn = GuardedTxn::new().when_missing("/x").put(key, "1");
        assert_eq!(program.wait(a.txn(txn)).map(drop), blocks);
    }
    program.wait(a.proclaim("at your service")).unwrap();
    assert_eq!(program.cluster.names("/one"), ["at your service"]);
    for (prefix, why) in [
        ("", PrefixError::Text),
        ("/x.meta", PrefixError::Records),
        ("/x.meta/y", PrefixError::Records),
    ] {
        assert_eq!(program.client.election(prefix).unwrap_err(), why);
        assert_eq!(program.client.lock(prefix).unwrap_err(), why);
    }
    program.wait(a.resign()).unwrap();
}

#[test]
fn options_that_can_not_be_meant_are_errors() {
    let refused = |options: ClientOptions| Client::new(&options).unwrap_err();
    let none = ClientOptions::new([] as [&str; 0]);
    assert!(matches!(refused(none), OptionsError::NoEndpoint));
    for endpoint in ["", "localhost:2379", "https://", "http://a b"] {
        let error = refused(ClientOptions::new([endpoint]));
        assert!(matches!(error, OptionsError::Endpoint(_)), "{error}");
    }
    let mut half = ClientOptions::default();
    half.tls.cert_file = Some("/a".into());
    let error = refused(half);
    assert!(
        matches!(
            error,
            OptionsError::TlsPair {
                missing: "key_file"
            }
        ),
        "{error}"
    );
    let mut zero = ClientOptions::default();
    zero.request_timeout = Duration::ZERO;
    assert!(matches!(
        refused(zero),
        OptionsError::Zero("request_timeout")
    ));

    let program = Program::start();
    let election = program.client.election("/one").unwrap();
    let campaign = |candidate: incumbent_election::Candidate| {
        let mut candidate = candidate;
        match program.wait(candidate.campaign()) {
            Err(CampaignError::Options(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for ttl in [Duration::ZERO, millis(500), secs(1), millis(2500)] {
        let error = campaign(election.candidate("a").ttl(ttl));
        assert!(
            matches!(error, OptionsError::Ttl(found) if found == ttl),
            "{error}"
        );
    }
    let graces = election
        .candidate("a")
        .ttl(secs(5))
        .graces(secs(3), secs(3));
    let error = campaign(graces);
    assert!(matches!(error, OptionsError::NoRoom(_)), "{error}");
    let error = campaign(election.candidate("a").takeover_delay(millis(10)));
    assert!(
        matches!(error, OptionsError::TakeoverDelay { .. }),
        "{error}"
    );
    assert_eq!(program.cluster.leases(), [] as [i64; 0]);
}

#[test]
fn a_loss_says_why_and_an_error_has_its_source() {
    let program = Program::start();
    let _a = program.leader("/one", "a");
    let mut b = program.candidate("/one", "b");
    let b = program.runtime.spawn(async move { b.campaign().await });
    program.cluster.wait_names("/one", &["a", "b"]);
    let lease = program.cluster.queue("/one")[1].lease_hex();
    program
        .cluster
        .revoke(i64::from_str_radix(&lease, 16).unwrap());
    let error = program.wait(b).unwrap().unwrap_err();
    let CampaignError::Lost(Loss::Deleted | Loss::Revoked) = &error else {
        panic!("{error:?}");
    };
    assert!(error.may_pass());
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<Loss>().is_some());

    let away = Client::new(&ClientOptions::new(["http://127.0.0.1:1"])).unwrap();
    let mut away = away.election("/one").unwrap().candidate("c").ttl(TTL);
    let error = program.wait(away.campaign()).unwrap_err();
    assert!(matches!(error, CampaignError::NoLease(_)), "{error:?}");
    assert!(error.may_pass() && std::error::Error::source(&error).is_some());
}

#[test]
fn a_run_leads_again_after_a_loss_and_resigns_last() {
    let program = Program::start();
    let candidate = program.candidate("/one", "a");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = program.runtime.spawn(async move {
        let until = async { drop(stopped.await) };
        let work = |term: Term| {
            let tell = tell.clone();
            async move {
                tell.send(term.token().get()).unwrap();
                term.ending().await;
            }
        };
        candidate.run(until, work).await
    });
    let first = program.wait(told.recv()).unwrap();
    program.cluster.delete(
        &program
            .cluster
            .first("/one")
            .map(|it| format!("/one/{}", it.lease_hex()))
            .unwrap(),
    );
    let second = program.wait(told.recv()).unwrap();
    assert!(second > first);
    stop.send(()).unwrap();
    program.wait(run).unwrap().unwrap();
    assert_eq!(program.cluster.names("/one"), [] as [&str; 0]);
    assert_eq!(program.cluster.marker("/one"), Some(second));
    assert_eq!(program.cluster.leases(), [] as [i64; 0]);
}

#[test]
fn a_run_that_is_stopped_in_the_queue_withdraws_before_it_returns() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    let b = program.candidate("/one", "b");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let until = async { drop(stopped.await) };
    let run = program.runtime.spawn(b.run(until, |_| async {}));
    program.cluster.wait_names("/one", &["a", "b"]);
    stop.send(()).unwrap();
    program.wait(run).unwrap().unwrap();
    assert_eq!(program.cluster.names("/one"), ["a"]);
    program.wait(a.resign()).unwrap();
}

#[test]
fn a_lock_is_held_by_one_and_tried_by_others() {
    let program = Program::start();
    // No lease ends by itself here.
    let lock = program.client.lock("/lock").unwrap().ttl(secs(600));
    let held = program.wait(lock.lock()).unwrap();
    assert!(program.wait(lock.try_lock()).unwrap().is_none());
    let next = lock.clone();
    let waits = program.runtime.spawn(async move { next.lock().await });
    eventually(SOON, "another waits", || {
        program.cluster.names("/lock").len() == 2
    });
    let token = held.token();
    program.wait(held.put("/written/locked", "x")).unwrap();
    program.wait(held.unlock()).unwrap();
    let next = program.wait(waits).unwrap().unwrap();
    assert!(next.token() > token);
    drop(next);
    eventually(SOON, "it is free", || {
        program.cluster.names("/lock").is_empty()
    });
    let tried = program.wait(lock.try_lock()).unwrap().expect("it is free");
    program.wait(tried.unlock()).unwrap();
    // What was dropped gives its key back first, so that the next comes to hold it.
    eventually(SOON, "no lease is left", || {
        program.cluster.leases().is_empty()
    });
}

#[test]
fn a_transaction_is_done_by_its_own_conditions_and_in_its_term_alone() {
    let program = Program::start();
    let a = program.leader("/one", "a");
    let once = || {
        let txn = GuardedTxn::new()
            .when_missing("/written/done")
            .get("/written/done");
        txn.put("/written/done", "yes")
    };
    let first = program.wait(a.txn(once())).unwrap();
    assert!(first.is_done);
    assert_eq!(first.values, [None]);
    let second = program.wait(a.txn(once())).unwrap();
    assert!(!second.is_done);
    assert_eq!(second.values[0].as_ref().unwrap().text(), Some("yes"));
    let term = a.term();
    program.cluster.delete(a.key());
    let late = GuardedTxn::new().put("/written/done", "late");
    assert_eq!(program.wait(term.txn(late)), Err(WriteError::NotLeader));
    assert_eq!(program.cluster.get("/written/done").as_deref(), Some("yes"));
}

#[test]
fn values_are_read_written_and_watched_and_leaders_are_observed() {
    let program = Program::start();
    let client = &program.client;
    assert_eq!(program.wait(client.get("/k")).unwrap(), None);
    let election = client.election("/one").unwrap();
    let mut observer = election.observe();
    assert_eq!(program.wait(observer.next()), Some(Event::Nobody));
    assert_eq!(program.wait(election.leader()).unwrap(), None);
    let mut watcher = client.watch_prefix("/k");
    // It begins with what comes after now: write until it is seen.
    let seen = program.wait(async {
        loop {
            client.put("/k", "v").await.unwrap();
            let next = tokio::time::timeout(millis(200), watcher.next());
            if let Ok(change) = next.await {
                return change;
            }
        }
    });
    let Some(Change::Put(value)) = seen else {
        panic!("{seen:?}");
    };
    assert_eq!(
        (value.text(), value.key.as_slice()),
        (Some("v"), &b"/k"[..])
    );
    assert!(program.wait(client.delete("/k")).unwrap());
    assert!(!program.wait(client.delete("/k")).unwrap());

    let a = program.leader("/one", "a");
    let elected = program.wait(observer.next());
    assert!(
        matches!(&elected, Some(Event::Elected(it)) if it.name == "a" && it.token == a.token()),
        "{elected:?}"
    );
    program.wait(a.proclaim("mine")).unwrap();
    let said = program.wait(observer.next());
    assert!(
        matches!(&said, Some(Event::Proclaimed(it)) if it.name == "mine"),
        "{said:?}"
    );
    assert_eq!(
        program.wait(election.leader()).unwrap().unwrap().name,
        "mine"
    );
    program.wait(a.resign()).unwrap();
    assert_eq!(program.wait(observer.next()), Some(Event::Nobody));
}
