//! Who leads: one of several, in the order of joining, with etcd's own tools in the same queue.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's own patience is no deadline of ours"
)]

use std::fs::File;
use std::process::Child;

use crate::common::*;
use rustix::process::Signal;

#[test]
fn one_of_three_leads_and_the_others_wait_in_line() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    assert_eq!(scene.cluster.names(PREFIX), ["a", "b", "c"]);
    assert_eq!(b.wait_log("campaigning", SOON).int("position"), 1);
    assert_eq!(c.wait_log("campaigning", SOON).int("position"), 2);
    assert_eq!(
        a.wait_log("elected", SOON).text("lease"),
        scene.first().lease_hex()
    );

    // Longer than the TTL, so that each must have renewed.
    let queue = scene.cluster.queue(PREFIX);
    throughout(secs(6), "nothing moves in the queue", || {
        scene.cluster.queue(PREFIX) == queue
    });
    scene.still_leads(&a, token).unwrap();
    assert!(b.lines("elected").is_empty() && c.lines("elected").is_empty());
    assert_eq!(scene.record.history().tokens(), [token]);
}

#[test]
fn succession_is_in_the_order_of_joining() {
    let scene = Scene::start(3);
    let (a, first) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    a.sigterm();
    let second = scene.wait_leads(&b, 1, SOON);
    assert!(c.lines("elected").is_empty());
    b.sigterm();
    let third = scene.wait_leads(&c, 1, SOON);
    assert_eq!(scene.record.history().tokens(), [first, second, third]);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
}

#[test]
fn two_elections_do_not_meet() {
    let scene = Scene::start(1);
    let records =
        ["one.record", "two.record"].map(|name| Record::new(scene.cluster.sandbox(), name));
    let daemon = |name, prefix, record| {
        let builder = Daemon::builder(&scene.cluster, name).prefix(prefix);
        builder.records(record, &[]).spawn()
    };
    // The second prefix begins as the first one does.
    let one = daemon("one", "/jobs", &records[0]);
    let two = daemon("two", "/jobs-more", &records[1]);
    let tokens = [one.wait_elected(SOON), two.wait_elected(SOON)];
    records[0].wait_run(tokens[0], SOON);
    records[1].wait_run(tokens[1], SOON);
    assert_eq!(scene.cluster.names("/jobs"), ["one"]);
    assert_eq!(scene.cluster.names("/jobs-more"), ["two"]);

    one.sigterm();
    assert_eq!(one.wait_exit(STOPPED).code(), Some(0));
    assert_eq!(scene.cluster.marker("/jobs"), Some(tokens[0]));
    assert_eq!(scene.cluster.marker("/jobs-more"), None);
    assert!(two.lines("term lost").is_empty());
}

#[test]
fn twenty_quick_terms_never_overlap() {
    let scene = Scene::start(3);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let mut terms = [0, 0];
    for turn in 0..20 {
        let (leader, next) = if turn % 2 == 0 { (&a, "b") } else { (&b, "a") };
        terms[turn % 2] += 1;
        scene.wait_leads(leader, terms[turn % 2], SOON);
        scene.cluster.wait_names(PREFIX, &[leader.name(), next]);
        leader.sigusr1();
    }
    scene.wait_leads(&a, 11, SOON);
    assert_eq!(scene.record.history().tokens().len(), 21);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(500));
}

#[test]
fn a_candidate_that_resigns_in_its_takeover_delay_writes_no_marker() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let patient = scene.daemon("b").toml("election.takeover_delay = '1h'");
    let b = scene.waiter(patient);
    let key = scene.candidate(&b);

    // No word from the guardian either, so nobody has proven the job dead.
    a.sigkill_both();
    scene.cluster.wait_names(PREFIX, &["b"]);
    throughout(secs(6), "b waits, and renews, in its delay", || {
        b.lines("elected").is_empty() && scene.cluster.first(PREFIX) == Some(key.clone())
    });
    b.sigterm();
    assert_eq!(b.wait_exit(STOPPED).code(), Some(0));
    assert_eq!(scene.cluster.first(PREFIX), None);
    scene.wait_no_lease(key.lease);
    assert!(scene.cluster.marker(PREFIX) < Some(token));

    let begun = std::time::Instant::now();
    let late = scene.daemon("c").toml("election.takeover_delay = '2s'");
    let (_c, next) = scene.leader(late);
    assert!(begun.elapsed() >= secs(2), "c waits in b's place");
    assert!(next > key.create_revision);
    scene.assert_no_overlap();
}

#[test]
fn a_foreign_key_blocks_the_queue_and_is_named() {
    let scene = Scene::start(1);
    let foreign = format!("{PREFIX}/not-a-candidate");
    scene.cluster.put(&foreign, "left by hand");
    let a = scene.daemon("a").spawn();
    let complaint = eventually(SOON, "a names the key that blocks", || {
        let mut lines = a.logs().into_iter();
        lines.find(|line| line.text.contains(&foreign))
    });
    assert!(["WARN", "ERROR"].contains(&complaint.text("level")));
    throughout(secs(2), "a does not lead", || a.lines("elected").is_empty());
    assert_eq!(scene.record.history().lives.len(), 0);

    scene.cluster.delete(&foreign);
    scene.wait_leads(&a, 1, SOON);
}

#[test]
fn without_a_store_it_waits_says_so_once_and_recovers() {
    let scene = Scene::on(Cluster::prepare(1));
    let a = scene.daemon("a").spawn();
    let said = a.wait_log("store unreachable", SOON);
    assert!(!said.text("error").is_empty());
    throughout(secs(8), "it waits, without saying it again", || {
        a.is_alive() && a.lines("store unreachable").len() == 1
    });
    scene.cluster.start_all().unwrap();
    scene.wait_leads(&a, 1, SOON);
}

// --- etcd's own tool --------------------------------------------------------------------------

/// `etcdctl elect`: a Go candidate. It prints its key and value when it is told that it leads.
struct Etcdctl {
    child: Child,
    printed: std::path::PathBuf,
}

impl Etcdctl {
    fn elect(cluster: &Cluster, name: &str) -> Self {
        let printed = cluster.sandbox().join(name);
        let mut command = cluster.etcdctl_beside(name, &["elect", PREFIX, name]);
        command.stdout(File::create(&printed).unwrap());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run etcdctl: {error}; apt-get install etcd-client")
        });
        Self { child, printed }
    }

    fn leads(&self) -> bool {
        !std::fs::read_to_string(&self.printed).unwrap().is_empty()
    }

    fn resign(mut self) {
        process::signal(i32::try_from(self.child.id()).unwrap(), Signal::INT);
        self.child.wait().unwrap();
    }
}

#[test]
fn etcdctl_elect_before_us_is_waited_for() {
    let scene = Scene::start(3);
    let cli = Etcdctl::elect(&scene.cluster, "cli");
    scene.cluster.wait_names(PREFIX, &["cli"]);
    let token = scene.first().create_revision;
    let a = scene.waiter(scene.daemon("a"));
    throughout(secs(2), "etcdctl leads", || {
        cli.leads() && a.lines("elected").is_empty()
    });
    cli.resign();
    assert!(scene.wait_leads(&a, 1, SOON) > token);
}

#[test]
fn etcdctl_elect_behind_us_leads_after_our_job_is_over() {
    let scene = Scene::start(3);
    let (a, token) = scene.leader(scene.daemon("a"));
    let cli = Etcdctl::elect(&scene.cluster, "cli");
    scene.cluster.wait_names(PREFIX, &["a", "cli"]);
    let b = scene.waiter(scene.daemon("b"));
    throughout(secs(2), "we lead", || !cli.leads());
    a.sigterm();
    eventually(SOON, "etcdctl leads", || cli.leads());
    scene.wait_job_over(token, millis(10));
    scene.cluster.wait_names(PREFIX, &["cli", "b"]);
    cli.resign();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}
