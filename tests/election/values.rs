//! The crate's client beside elections: logins, writes that nobody answered, and what is followed.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use incumbent_election::{
    CampaignError, Change, Client, ClientOptions, Event, Password, WriteError,
};
use tokio_stream::StreamExt as _;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::common::*;

const USER: &str = "candidate";
const PASSWORD: &str = "correct-horse-battery";

#[expect(
    clippy::disallowed_methods,
    reason = "a test may be measured by any clock"
)]
fn now() -> Instant {
    Instant::now()
}

fn client_of(cluster: &Cluster) -> Client {
    Client::new(&ClientOptions::new(cluster.endpoints())).unwrap()
}

/// Hears all that is logged in this process, at every level, while it is told to.
struct Eavesdropper {
    listens: Arc<AtomicBool>,
    heard: Arc<Mutex<String>>,
}

struct Heard<'a>(&'a mut String);

impl Visit for Heard<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        writeln!(self.0, "{field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Eavesdropper {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        self.listens.load(Ordering::Relaxed)
    }
    fn register_callsite(
        &self,
        _: &'static tracing::Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut Heard(&mut self.heard.lock().unwrap()));
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Heard(&mut self.heard.lock().unwrap()));
    }
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Heard(&mut self.heard.lock().unwrap()));
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_password_as_text_logs_in_and_is_told_to_nobody() {
    let cluster = Cluster::start_with(1, &["--bcrypt-cost", "4"]);
    cluster.ask("a user", async |mut client| {
        client.user_add(USER, PASSWORD, None).await?;
        client.user_grant_role(USER, "root").await.map(drop)
    });
    cluster.turn_auth_on();
    let (listens, heard) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let eavesdropper = Eavesdropper {
        listens: Arc::clone(&listens),
        heard: Arc::clone(&heard),
    };
    tracing::subscriber::set_global_default(eavesdropper).unwrap();
    let runtime = runtime();
    let options = |password: &str| {
        let password = Password::Text(password.to_owned());
        ClientOptions::new(cluster.endpoints()).user(USER, password)
    };

    let good = options(PASSWORD);
    let client = Client::new(&good).unwrap();
    let mut candidate = client.election("/one").unwrap().candidate("a");
    let led = runtime.block_on(candidate.campaign()).unwrap();
    runtime.block_on(led.put("/written/one", "x")).unwrap();
    let mut told = format!("{good:?} {client:?} {candidate:?} {led:?}");
    runtime.block_on(led.resign()).unwrap();

    let wrong = format!("not-{PASSWORD}");
    let client = Client::new(&options(&wrong)).unwrap();
    let refused = runtime.block_on(client.put("/k", "v")).unwrap_err();
    write!(told, "{refused:?}").unwrap();
    assert!(
        told.contains("no user \\\"candidate\\\" with this password"),
        "{told}"
    );
    let mut candidate = client.election("/one").unwrap().candidate("b");
    let refused = runtime.block_on(candidate.campaign()).unwrap_err();
    assert!(matches!(refused, CampaignError::NoLease(_)), "{refused:?}");

    listens.store(false, Ordering::Relaxed);
    let heard = heard.lock().unwrap();
    assert!(heard.contains("attempt failed"), "it listens: {heard}");
    for text in [&told, &*heard] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn a_password_in_a_file_is_read_at_each_login() {
    let cluster = Cluster::start_with(1, &["--bcrypt-cost", "4"]);
    cluster.ask("a user", async |mut client| {
        client.user_add(USER, PASSWORD, None).await?;
        client.user_grant_role(USER, "root").await.map(drop)
    });
    cluster.turn_auth_on();
    let file = cluster.sandbox().join("password");
    security::write(&file, "not yet\n");
    let options = ClientOptions::new(cluster.endpoints()).user(USER, Password::File(file.clone()));
    let client = Client::new(&options).unwrap();
    let runtime = runtime();
    let refused = runtime.block_on(client.put("/k", "v")).unwrap_err();
    assert!(matches!(refused, WriteError::Unreached(_)), "{refused:?}");
    security::write(&file, &format!("{PASSWORD}\n"));
    runtime.block_on(client.put("/k", "v")).unwrap();
}

/// Loses the answer to a write that was applied: does it over a slow way that is cut as soon as
/// `applied` says that etcd has it.
fn lose_the_answer<T: Send + 'static, F: Future<Output = T> + Send>(
    cluster: &Cluster,
    write: impl FnOnce(Client) -> F + Send + 'static,
    applied: impl Fn() -> bool,
) -> T {
    let proxy = Proxy::to(cluster.address(0));
    proxy.delay(millis(250));
    let client = Client::new(&ClientOptions::new([proxy.url()])).unwrap();
    let writes = std::thread::spawn(move || runtime().block_on(write(client)));
    eventually(SOON, "the write is applied", applied);
    proxy.drop_connections();
    writes.join().unwrap()
}

#[test]
fn a_put_whose_answer_is_lost_is_done_once() {
    let cluster = Cluster::start(1);
    cluster.put("k", "old");
    let before = cluster.revision();
    let applied = || cluster.get("k").as_deref() == Some("new");
    let put = async |client: Client| client.put("k", "new").await;
    lose_the_answer(&cluster, put, applied).unwrap();
    assert_eq!(cluster.revision(), before + 1);
}

#[test]
fn a_put_whose_answer_is_lost_undoes_no_later_write() {
    let cluster = Cluster::start(1);
    cluster.put("k", "old");
    let applied = || {
        let applied = cluster.get("k").as_deref() == Some("new");
        if applied {
            cluster.put("k", "another's");
        }
        applied
    };
    let put = async |client: Client| client.put("k", "new").await;
    let put = lose_the_answer(&cluster, put, applied);
    assert!(matches!(put, Err(WriteError::Unknown(_))), "{put:?}");
    assert_eq!(cluster.get("k").as_deref(), Some("another's"));
}

#[test]
fn a_deletion_whose_answer_is_lost_is_unknown() {
    let cluster = Cluster::start(1);
    cluster.put("k", "old");
    let delete = async |client: Client| client.delete("k").await;
    let deleted = lose_the_answer(&cluster, delete, || cluster.get("k").is_none());
    assert!(
        matches!(deleted, Err(WriteError::Unknown(_))),
        "{deleted:?}"
    );
}

#[test]
fn a_write_that_reached_nobody_never_comes() {
    let cluster = Cluster::start(1);
    cluster.freeze(0);
    let mut options = ClientOptions::new(cluster.endpoints());
    options.request_timeout = millis(700);
    let client = Client::new(&options).unwrap();
    let put = runtime().block_on(client.put("k", "late"));
    assert!(matches!(put, Err(WriteError::Unreached(_))), "{put:?}");
    cluster.thaw(0);
    throughout(secs(1), "the write never comes", || {
        cluster.get("k").is_none()
    });
}

#[test]
fn a_watcher_that_went_on_before_goes_on_soon_the_next_time() {
    let cluster = Cluster::start(1);
    let proxy = Proxy::to(cluster.address(0));
    let client = Client::new(&ClientOptions::new([proxy.url()])).unwrap();
    let mut watcher = client.watch("k");
    let runtime = runtime();
    let hears = |watcher: &mut incumbent_election::Watcher, value: &str| {
        runtime.block_on(async {
            let hears = async {
                loop {
                    match watcher.next().await {
                        Some(Change::Put(told)) if told.text() == Some(value) => return,
                        Some(_) => {}
                        None => panic!("the watcher ended"),
                    }
                }
            };
            tokio::time::timeout(patience(secs(5)), hears).await
        })
    };
    // It begins with what comes after now.
    eventually(SOON, "it watches", || {
        cluster.put("k", "first");
        let next = async { tokio::time::timeout(millis(200), watcher.next()).await };
        runtime.block_on(next).is_ok()
    });
    let mut took = Vec::new();
    for round in 0..9 {
        proxy.drop_connections();
        let begun = now();
        let value = round.to_string();
        cluster.put("k", &value);
        hears(&mut watcher, &value).expect("it goes on");
        took.push(begun.elapsed());
    }
    // Pauses that are never reset are of half a second and more by then.
    let mut late = took.split_off(4);
    late.sort();
    assert!(late[2] < millis(500), "{late:?}");
}

#[test]
fn observers_and_watchers_are_streams() {
    let cluster = Cluster::start(1);
    let client = client_of(&cluster);
    let election = client.election("/one").unwrap();
    let runtime = runtime();
    let mut names = Box::pin(election.observe().map(|event| match event {
        Event::Elected(leader) => leader.name,
        other => format!("{other:?}"),
    }));
    assert_eq!(runtime.block_on(names.next()).as_deref(), Some("Nobody"));
    let led = runtime.block_on(election.candidate("a").campaign());
    assert_eq!(runtime.block_on(names.next()).as_deref(), Some("a"));
    runtime.block_on(led.unwrap().resign()).unwrap();

    let watched = client.watch_prefix("/k").take(2);
    let runs = runtime.spawn(watched.collect::<Vec<_>>());
    eventually(SOON, "two changes are told", || {
        cluster.put("/k/1", "v");
        runs.is_finished()
    });
    assert_eq!(runtime.block_on(runs).unwrap().len(), 2);
}
