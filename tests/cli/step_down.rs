//! `incumbent step-down`: who leads next is as asked, or nothing changes.

use std::process::{Child, Stdio};

use crate::common::*;
use incumbent::election::wishes;
use incumbent::etcd::{Settings, Store};
use incumbent::keys::{LeaseId, Prefix};
use incumbent::revision::{Revision, Token};
use incumbent::term::record::StepDown;

/// Where a wish stands.
const WISH: &str = "/election.meta/control/step-down";

/// A replica that waits in the queue and stands still: it makes no way, for a minute.
fn standing_still(scene: &Scene, name: &str) -> Daemon {
    let daemon = scene.waiter(scene.daemon(name).ttl("60s"));
    daemon.sigstop();
    daemon
}

/// `incumbent step-down --wait` to this candidate, whose wish is in the store.
fn asks_for(scene: &Scene, name: &str) -> Followed {
    let lease = scene.cluster.queue(PREFIX).into_iter();
    let mut lease = lease.filter(|candidate| candidate.name == name);
    let lease = lease.next().unwrap().lease_hex();
    let words = ["step-down", "--to", name, "--wait"];
    let asks = scene.cluster.incumbent(&words).follow();
    eventually(SOON, "the wish is there", || {
        let wish = scene.cluster.get(WISH);
        wish.filter(|wish| wish.contains(&lease))
    });
    asks
}

/// A candidate of Go behind those that are there.
fn go_candidate(scene: &Scene, behind: &[&str]) -> Child {
    let mut elect = scene
        .cluster
        .etcdctl_beside("elect", &["elect", PREFIX, "go"]);
    let child = elect.stdout(Stdio::null()).spawn().unwrap();
    let names = [behind, &["go"]].concat();
    scene.cluster.wait_names(PREFIX, &names);
    child
}

#[test]
fn the_next_one_leads_and_the_old_leader_stands_in_the_queue_again() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let said = scene.cluster.incumbent(&["step-down", "--wait"]).text();
    assert!(
        said.starts_with("b (lease ") && said.ends_with(") leads\n"),
        "{said}"
    );
    scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(token);
    scene.cluster.wait_names(PREFIX, &["b", "a"]);
    assert_eq!(scene.cluster.get(WISH), None);
    let said = a.wait_log("stepping down", SOON);
    assert!(said.text("by").contains('@'), "{}", said.text);
    scene.assert_no_overlap();
}

#[test]
fn those_in_front_of_the_chosen_one_rejoin_behind_it() {
    let scene = Scene::start(3);
    let (_a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    let d = scene.waiter(scene.daemon("d"));
    let said = scene
        .cluster
        .incumbent(&["step-down", "--to", "d", "--wait"])
        .text();
    assert!(said.starts_with("d (lease "), "{said}");
    let next = scene.wait_leads(&d, 1, SOON);
    assert!(next > token);
    for passed in [&b, &c] {
        passed.wait_log("making way", SOON);
        assert!(passed.lines("elected").is_empty());
    }
    eventually(SOON, "all stand behind it", || {
        let names = scene.cluster.names(PREFIX);
        if names.len() == 4 && names[0] == "d" {
            Ok(())
        } else {
            Err(names)
        }
    });

    // By its lease as well.
    let lease = scene.candidate(&b).lease_hex();
    let by_lease = ["step-down", "--to", &lease, "--wait"];
    scene.cluster.incumbent(&by_lease).text();
    scene.wait_leads(&b, 1, SOON);
    // No claim on the gap: a chosen one that still waited for who made way when the leader resigned
    // can't tell that one from a term that ended unproven, and waits the takeover delay.
    scene.assert_no_overlap();
}

#[test]
fn nobody_is_taken_past_a_candidate_of_go() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let mut elect = go_candidate(&scene, &["a"]);
    let b = scene.waiter(scene.daemon("b"));
    let answer = scene
        .cluster
        .incumbent(&["step-down", "--to", "b", "--wait"])
        .run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(answer.errors.contains("go (lease "), "{}", answer.errors);
    scene.still_leads(&a, token).unwrap();
    assert!(b.lines("making way").is_empty());
    assert_eq!(scene.cluster.get(WISH), None);

    // To the one of Go itself there is a way.
    let said = scene
        .cluster
        .incumbent(&["step-down", "--to", "go", "--wait"])
        .text();
    assert!(said.starts_with("go (lease "), "{said}");
    let deaf = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(deaf.code, Some(3), "{}", deaf.errors);
    assert!(deaf.errors.contains("is no incumbent"), "{}", deaf.errors);
    elect.kill().unwrap();
    elect.wait().unwrap();
}

#[test]
fn nobody_steps_down_for_who_stands_behind_a_key_that_is_no_candidates() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    scene.cluster.put("/election/stray", "");
    let b = scene.daemon("b").spawn();
    scene.cluster.wait_names(PREFIX, &["a", "", "b"]);
    let answer = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer.errors.contains("/election/stray stands before it"),
        "{answer:?}"
    );
    a.sigusr1();
    let refused = a.wait_log("not stepping down", SOON);
    assert!(
        refused.text("reason").contains("/election/stray"),
        "{}",
        refused.text
    );
    scene.still_leads(&a, token).unwrap();
    assert!(b.lines("elected").is_empty());
}

#[test]
fn an_ambiguous_or_unknown_name_changes_nothing() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let other = scene.daemon("c").toml("candidate.name = 'b'").spawn();
    scene.cluster.wait_names(PREFIX, &["a", "b", "b"]);
    for (name, said) in [("b", "several candidates"), ("nobody", "no candidate has")] {
        let answer = scene.cluster.incumbent(&["step-down", "--to", name]).run();
        assert_eq!(answer.code, Some(3), "{}", answer.errors);
        assert!(answer.errors.contains(said), "{}", answer.errors);
    }
    let leads = scene.cluster.incumbent(&["step-down", "--to", "a"]).text();
    assert!(leads.contains("leads already"), "{leads}");
    scene.still_leads(&a, token).unwrap();
    drop((b, other));
}

#[test]
fn with_nobody_else_there_only_force_stops_the_job() {
    let scene = Scene::start(1);
    let nobody = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(nobody.code, Some(3), "{}", nobody.errors);
    let (a, token) = scene.leader(scene.daemon("a"));
    let answer = scene.cluster.incumbent(&["step-down"]).run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    assert!(
        answer.errors.contains("no other candidate"),
        "{}",
        answer.errors
    );
    scene.still_leads(&a, token).unwrap();

    scene
        .cluster
        .incumbent(&["step-down", "--force", "--wait"])
        .text();
    let next = scene.wait_leads(&a, 2, SOON);
    assert!(next > token);
    scene.assert_no_overlap();
}

#[test]
fn a_wish_that_the_leader_declines_is_taken_back() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let wish = format!(r#"{{"by":"x","since":"","token":{token},"to":null}}"#);
    scene.cluster.put(WISH, &wish);
    let declined = a.wait_log("not stepping down", SOON);
    assert_eq!(declined.text("reason"), "no other candidate");
    eventually(SOON, "the wish is gone", || {
        scene.cluster.get(WISH).is_none()
    });
    let b = scene.waiter(scene.daemon("b"));
    throughout(secs(1), "a leads on", || scene.still_leads(&a, token));
    drop(b);
}

#[test]
fn a_later_wish_ends_an_earlier_one_and_is_not_granted_by_its_answer() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let (b, c) = (standing_still(&scene, "b"), standing_still(&scene, "c"));
    let d = scene.waiter(scene.daemon("d"));
    let leases = [&b, &c].map(|each| scene.candidate(each).lease);
    let mut to_c = asks_for(&scene, "c");
    let mut to_d = asks_for(&scene, "d");
    let Answer { code, errors, .. } = to_c.wait_answer();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("another wish has overtaken"), "{errors}");
    let said = a.wait_log("not stepping down", SOON);
    assert!(said.text("reason").contains("overtaken"), "{}", said.text);

    // The way is clear to c, but not to d.
    scene.cluster.revoke(leases[0]);
    throughout(secs(1), "a leads on", || scene.still_leads(&a, token));
    scene.cluster.revoke(leases[1]);
    assert_eq!(to_d.wait_exit(), Some(0), "{:?}", to_d.errors());
    scene.wait_leads(&d, 1, SOON);
    assert_eq!(a.lines("stepping down").len(), 1);
    assert_eq!(scene.cluster.get(WISH), None);
    scene.assert_no_overlap();
}

#[test]
fn who_waits_for_a_chosen_one_is_told_when_a_signal_has_made_another_lead() {
    let scene = Scene::start(1);
    let debug = "log.filter = 'incumbent=debug'";
    let (a, _) = scene.leader(scene.daemon("a").toml(debug));
    let b = standing_still(&scene, "b");
    let _c = scene.waiter(scene.daemon("c"));
    let mut to_c = asks_for(&scene, "c");
    a.wait_log("asked to step down", SOON);
    a.sigusr1();
    let said = a.wait_log("stepping down", SOON);
    assert_eq!(said.text("by"), "signal");
    eventually(SOON, "the wish is gone with the term", || {
        scene.cluster.get(WISH).is_none()
    });
    b.sigcont();
    scene.wait_leads(&b, 1, SOON);
    let Answer { code, errors, .. } = to_c.wait_answer();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("but b (lease "), "{errors}");
    scene.assert_no_overlap();
}

#[test]
fn a_wish_that_is_put_twice_is_one_wish() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a").ttl("60s"));
    let lease = scene.candidate(&a).lease;
    // It would take the wish back.
    a.sigstop();
    let store = Store::new(&Settings::new(scene.cluster.endpoints()));
    let (prefix, id) = (Prefix::new(PREFIX), LeaseId::new(lease).unwrap());
    let put = |since: &str| {
        let wish = StepDown {
            by: "who".to_owned(),
            since: since.to_owned(),
            token: Token::new(token).unwrap(),
            to: None,
            force: false,
            between_runs: false,
        };
        let put = wishes::step_down(&store, secs(5), &prefix, id, &wish);
        let asked_at = scene.cluster.block_on(put).unwrap();
        asked_at.map(Revision::get)
    };
    let first = put("today");
    assert!(first > Some(token));
    // An attempt that nobody answered is repeated, or comes late.
    assert_eq!(put("today"), first);
    assert_eq!(scene.cluster.revision(), first.unwrap());
    assert!(put("tomorrow") > first);
    scene.cluster.revoke(lease);
    assert_eq!(put("tomorrow"), None);
}

#[test]
fn nobody_steps_down_for_a_pause_in_which_nobody_would_follow() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    scene.cluster.incumbent(&["pause", "--keep-leader"]).text();
    let asked: [&[&str]; 4] = [
        &["step-down"],
        &["step-down", "--wait"],
        &["step-down", "--wait", "--force"],
        &["step-down", "--wait", "--to", "b"],
    ];
    for words in asked {
        let answer = scene.cluster.incumbent(words).run();
        assert_eq!(answer.code, Some(3), "{words:?}: {}", answer.errors);
        assert!(answer.errors.contains("paused"), "{}", answer.errors);
    }
    a.sigusr1();
    let why = a.wait_log("not stepping down", SOON);
    assert_eq!(why.text("reason"), "the election is paused");
    scene.still_leads(&a, token).unwrap();

    scene.cluster.incumbent(&["step-down", "--force"]).text();
    a.wait_log("job stopped", SOON);
    assert!(b.lines("elected").is_empty());
}
