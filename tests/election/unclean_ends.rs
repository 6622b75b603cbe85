//! Ends that nobody proved (R13): the successor waits `election.takeover_delay` first, and only
//! then; and what was written late (R10) brings no candidate back.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::daemon::Builder;
use crate::common::store::Candidate;
use crate::common::*;
use crate::records::DIFFERS;
use incumbent::clock;
use incumbent::config::timing::Timing;
use incumbent::election::Election;
use incumbent::etcd::{Settings, Store};
use incumbent::keys::Prefix;
use incumbent::session::{Options, Session};
use incumbent::term::record::MemberRecord;

/// The `takeover_delay` of these tests: no hand-over takes as long by chance.
const DELAY: Duration = Duration::from_secs(3);

/// By so much may the test hear later than the candidate that a key is gone.
const HEARD_LATE: Duration = Duration::from_secs(1);

/// What the log says of a delay.
const DELAYED: &str = "waiting out the last term";

/// A replica with this `takeover_delay`.
fn patient(scene: &Scene, name: &str, delay: &str) -> Builder {
    let text = format!("election.takeover_delay = {delay:?}");
    scene.daemon(name).toml(&text)
}

/// Checks that `next` took the delay after the key was gone, once, before its job began.
#[track_caller]
fn assert_delayed(scene: &Scene, next: &Daemon, token: i64, gone: u64) {
    let began = scene.record.wait_run(token, SOON).start;
    let waited = Duration::from_nanos(began.saturating_sub(gone));
    assert!(waited + HEARD_LATE >= DELAY, "it waited {waited:?} only");
    assert_eq!(next.lines(DELAYED).len(), 1);
}

/// Revokes the lease of `old`, and checks that `next` waits it out; returns its token.
#[track_caller]
fn revoked_is_waited_out(scene: &Scene, old: &Candidate, next: &Daemon) -> i64 {
    let vigil = scene.cluster.watch_deletion(&old.key, 0);
    scene.cluster.revoke(old.lease);
    let gone = vigil.wait(SOON);
    let token = scene.wait_leads(next, 1, SOON);
    assert_delayed(scene, next, token, gone);
    token
}

/// A holder written in Go, with etcd's own session under the election's prefix; killed on drop.
struct GoHolder(Child);

impl GoHolder {
    fn start(scene: &Scene, words: &[&str]) -> Self {
        let mut command = scene.cluster.etcdctl_beside("go", words);
        command.stdout(Stdio::null());
        let holder = Self(
            command
                .spawn()
                .expect("etcdctl: apt-get install etcd-client"),
        );
        eventually(SOON, "the Go holder stands in the queue", || {
            scene.cluster.first(PREFIX).is_some()
        });
        holder
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for GoHolder {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process too.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `etcdctl elect` has a TTL of a minute; `etcdctl lock` is the same session and the same queue with
/// a TTL of one's choice.
#[test]
fn a_go_holder_stopped_past_its_ttl_is_waited_out_and_stays_out_when_it_wakes() {
    let scene = Scene::start(1);
    let holder = GoHolder::start(&scene, &["lock", "--ttl=3", PREFIX, "sleep", "1000"]);
    let old = scene.first();
    let a = scene.waiter(patient(&scene, "a", "3s"));
    let vigil = scene.cluster.watch_deletion(&old.key, 0);
    throughout(secs(4), "the Go holder renews", || {
        a.lines("elected").is_empty()
    });

    process::freeze(holder.pid());
    let gone = vigil.wait(SOON);
    let token = scene.wait_leads(&a, 1, SOON);
    assert_delayed(&scene, &a, token, gone);
    // What was waited out needs no waiting out again.
    scene.wait_marker(old.create_revision);

    process::thaw(holder.pid());
    throughout(secs(2), "a leads on", || {
        scene.still_leads(&a, token)?;
        let keys = scene.cluster.queue(PREFIX).into_iter();
        let back = keys.filter(|key| key.lease == old.lease).count();
        if back == 0 {
            Ok(())
        } else {
            Err("its key is back".to_owned())
        }
    });
}

/// Who waited behind it noted it: a newcomer that never saw it waits all the same.
#[test]
fn a_go_holder_is_waited_out_by_a_newcomer_that_a_waiter_left_word_for() {
    let scene = Scene::start(1);
    let holder = GoHolder::start(&scene, &["lock", "--ttl=3", PREFIX, "sleep", "1000"]);
    let old = scene.first();
    let a = scene.waiter(patient(&scene, "a", "3s"));
    eventually(SOON, "it is noted", || {
        scene.cluster.get("/election.meta/foreign") == Some(old.create_revision.to_string())
    });
    a.sigterm();
    assert_eq!(a.wait_exit(SOON).code(), Some(0));
    let vigil = scene.cluster.watch_deletion(&old.key, 0);
    process::freeze(holder.pid());
    let gone = vigil.wait(SOON);
    let b = patient(&scene, "b", "3s").spawn();
    let token = scene.wait_leads(&b, 1, SOON);
    assert_delayed(&scene, &b, token, gone);
    scene.wait_marker(old.create_revision);
    // What was waited out needs no waiting out again.
    b.sigterm();
    assert_eq!(b.wait_exit(SOON).code(), Some(0));
    let c = patient(&scene, "c", "1h").spawn();
    scene.wait_leads(&c, 1, SOON);
}

/// Who waits behind it notes it, and so over the note that speaks of who led before.
#[test]
fn a_go_candidate_that_waits_behind_costs_a_planned_stop_no_delay() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(patient(&scene, "b", "1h"));
    let _behind = GoHolder::start(&scene, &["elect", PREFIX, "go"]);
    scene.cluster.wait_names(PREFIX, &["a", "b", "go"]);
    let go = scene.cluster.queue(PREFIX)[2].create_revision;
    let _c = scene.waiter(scene.daemon("c"));
    eventually(SOON, "it is noted", || {
        scene.cluster.get("/election.meta/foreign") == Some(go.to_string())
    });
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    assert!(b.lines(DELAYED).is_empty());
}

#[test]
fn a_go_candidate_that_waited_in_between_and_left_costs_a_planned_stop_no_delay() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let between = GoHolder::start(&scene, &["elect", PREFIX, "go"]);
    scene.cluster.wait_names(PREFIX, &["a", "go"]);
    let go = scene.cluster.queue(PREFIX)[1].clone();
    let b = scene.waiter(patient(&scene, "b", "1h"));
    eventually(SOON, "it is noted", || {
        scene.cluster.get("/election.meta/foreign") == Some(go.create_revision.to_string())
    });
    drop(between);
    scene.cluster.revoke(go.lease);
    // Only who looks at a, which is of another delay, finds that: the queue of the store doesn't tell
    // whether b has heard that go is gone.
    b.wait_log(DIFFERS, SOON);
    let _c = scene.waiter(scene.daemon("c"));
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    assert!(b.lines(DELAYED).is_empty());
}

#[test]
fn a_go_leader_whose_lease_is_revoked_is_waited_out() {
    let scene = Scene::start(1);
    let _holder = GoHolder::start(&scene, &["elect", PREFIX, "go"]);
    let old = scene.first();
    let a = scene.waiter(patient(&scene, "a", "3s"));
    revoked_is_waited_out(&scene, &old, &a);
}

#[test]
fn a_term_whose_lease_is_revoked_is_waited_out_and_the_one_after_it_is_not() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon_with("a", &["--ignore-term"]));
    let b = scene.waiter(patient(&scene, "b", "3s"));
    let c = scene.waiter(patient(&scene, "c", "1h"));
    let next = revoked_is_waited_out(&scene, &scene.candidate(&a), &b);

    // It waited the delay out, so its own marker speaks for the term before it as well.
    b.sigterm();
    let last = scene.wait_leads(&c, 1, SOON);
    assert!(c.lines(DELAYED).is_empty());
    assert!(token < next && next < last);
    assert_eq!(scene.cluster.marker(PREFIX), Some(next));
    scene.assert_no_overlap();
}

#[test]
fn a_waiter_that_takes_over_a_new_kill_budget_waits_out_the_last_term_for_as_long_as_that_asks() {
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b").ttl("15s"));
    // Its takeover_delay is 500 ms more.
    b.reload("job.kill_budget = '2500ms'");
    b.wait_log("reloaded", SOON);
    revoked_is_waited_out(&scene, &scene.candidate(&a), &b);
    assert_eq!(b.wait_log(DELAYED, SOON).int("delay_ms"), 3000);
}

/// Deletes the key of a leader whose daemon was ended `how`, while its job, which heeds nothing, is asked
/// to stop; the next one leads before that job's grace is over.
fn a_key_deleted_in_the_polite_stop_kills_the_job(how: fn(&Daemon)) {
    let scene = Scene::start(1);
    let times =
        "job.lost_grace = '3s'\njob.kill_budget = '200ms'\nelection.takeover_delay = '500ms'";
    let a = scene.daemon_with("a", &["--ignore-term"]).ttl("8s");
    let (a, token) = scene.leader(a.toml(times));
    let b = scene.waiter(scene.daemon("b").ttl("8s").toml(times));
    let key = scene.candidate(&a).key;
    how(&a);
    scene.record.wait_asked(token, SOON);
    scene.cluster.delete(&key);
    scene.wait_leads(&b, 1, SOON);
    assert_eq!(b.wait_log(DELAYED, SOON).int("delay_ms"), 500);
    scene.assert_no_overlap();
}

#[test]
fn a_key_deleted_while_the_job_of_a_killed_daemon_is_asked_to_stop_leaves_no_two_jobs() {
    a_key_deleted_in_the_polite_stop_kills_the_job(Daemon::sigkill);
}

#[test]
fn a_key_deleted_while_the_job_of_a_stopped_daemon_is_asked_to_stop_leaves_no_two_jobs() {
    a_key_deleted_in_the_polite_stop_kills_the_job(Daemon::sigstop);
}

#[test]
fn no_marked_end_is_waited_out() {
    let scene = Scene::start(1);
    // Whoever waits here waits for longer than the test.
    let (a, _) = scene.leader(patient(&scene, "a", "1h"));
    let rest = ["b", "c", "d"].map(|name| scene.waiter(patient(&scene, name, "1h")));
    let [b, c, d] = &rest;
    a.sigusr1();
    scene.wait_leads(b, 1, SOON);
    b.sigterm();
    scene.wait_leads(c, 1, SOON);
    // Its guardian proves the job dead, and marks the end.
    c.sigkill();
    let last = scene.wait_leads(d, 1, SOON);
    for daemon in &rest {
        assert!(daemon.lines(DELAYED).is_empty(), "{}", daemon.name());
    }
    let tokens = scene.record.history().tokens();
    assert_eq!(tokens.len(), 4);
    assert_eq!(scene.cluster.marker(PREFIX), Some(tokens[2]));
    assert_eq!(tokens[3], last);
    scene.assert_no_overlap();
}

/// An etcd leader that was frozen for longer than the TTL may revoke living leases when it wakes:
/// in one round of nine with etcd 3.4.23. So the claim is of both: the term goes on and nobody
/// waited, or it ended early and was waited out, unless its own end was marked.
#[test]
fn what_a_woken_etcd_leader_revokes_is_waited_out() {
    let scene = Scene::start(3);
    let stubborn = scene.daemon_with("a", &["--ignore-term"]).ttl("4s");
    let (a, token) = scene.leader(stubborn);
    let b = scene.waiter(patient(&scene, "b", "3s").ttl("4s"));
    let (old, frozen) = (scene.candidate(&a), scene.cluster.leader());
    let through = (0..3).find(|i| *i != frozen).unwrap();
    let vigil = scene.cluster.watch_deletion(&old.key, through);
    scene.cluster.freeze(frozen);
    throughout(secs(8), "nothing overlaps", || {
        scene.record.history().overlap().is_none()
    });
    scene.cluster.thaw(frozen);
    throughout(secs(3), "nothing overlaps", || {
        scene.record.history().overlap().is_none()
    });
    match vigil.gone_at() {
        None => {
            scene.still_leads(&a, token).unwrap();
            assert!(b.lines(DELAYED).is_empty(), "nobody had to wait");
        }
        Some(gone) => {
            let next = scene.wait_settled(&[&a, &b], SOON);
            let marked = scene.cluster.marker(PREFIX) >= Some(token);
            // Both leases may have been revoked, and who rejoins first leads.
            if scene.place(&b) == Some(0) && !marked {
                assert_delayed(&scene, &b, next, gone);
            }
        }
    }
    scene.assert_no_overlap();
}

/// Candidates that joined while the leading member was frozen.
#[derive(Default)]
struct LateJoins {
    /// The leases of those who gave up at once.
    given_up: Vec<i64>,
    /// The others, who stand on.
    kept: Vec<Session>,
}

impl LateJoins {
    /// Freezes the leading member, has 20 more join by way of the others, deletes all their keys, and
    /// lets the frozen one go on.
    fn more(&mut self, cluster: &Cluster) {
        let frozen = cluster.leader();
        let others = (0..cluster.len()).filter(|i| *i != frozen);
        let endpoints = others.map(|i| cluster.endpoints()[i].clone());
        let store = Store::new(&Settings::new(endpoints));
        cluster.block_on(async {
            let mut sessions = Vec::new();
            for _ in 0..20 {
                let timing = Timing::new(secs(15), millis(300), millis(500));
                sessions.push(Session::open(&store, Options::new(timing)).await.unwrap());
            }
            cluster.freeze(frozen);
            let joining = sessions.into_iter().map(|session| {
                let prefix = Prefix::new(PREFIX);
                let election = Election::new(store.clone(), prefix, "late", DELAY);
                tokio::spawn(async move {
                    let member = MemberRecord::of_this_process("late");
                    let joined = election.join(&session, &member).await;
                    joined.expect("it joins when another member leads");
                    session
                })
            });
            for (i, joining) in joining.collect::<Vec<_>>().into_iter().enumerate() {
                let session = joining.await.unwrap();
                if i % 2 == 0 {
                    self.given_up.push(session.lease().get());
                    assert!(session.close(clock::now() + secs(15)).await);
                } else {
                    self.kept.push(session);
                }
            }
        });
        for candidate in cluster.queue(PREFIX) {
            cluster.delete(&candidate.key);
        }
        cluster.thaw(frozen);
    }
}

/// Attempts to join that timed out lie in the frozen member's sockets, and are applied when it
/// wakes, though the key was deleted meanwhile; only the revoked lease stops them. That some are is
/// seen on candidates whose key is deleted while their lease lives on.
#[test]
fn late_writes_do_not_bring_back_a_candidate_that_was_given_up() {
    let cluster = Cluster::start(3);
    // They are applied only if the member hears that it leads no more before it gets to them.
    let tries = if cluster.version().starts_with("3.4.") {
        10
    } else {
        // None was seen with 3.5.16.
        skipped("that late writes are applied at all: only etcd 3.4 is known to");
        1
    };
    let mut late = LateJoins::default();
    let came_back = (0..tries).any(|_| {
        late.more(&cluster);
        let back = || cluster.queue(PREFIX).into_iter().next();
        let found = comes(secs(3), back);
        throughout(secs(2), "nobody who was given up comes back", || {
            let mut found = cluster.queue(PREFIX);
            found.retain(|candidate| late.given_up.contains(&candidate.lease));
            if found.is_empty() { Ok(()) } else { Err(found) }
        });
        found.is_some()
    });
    assert!(came_back || tries == 1, "no late write was applied");
    let leases = cluster.leases();
    assert!(late.given_up.iter().all(|lease| !leases.contains(lease)));
}
