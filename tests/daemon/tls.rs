//! A store with TLS: hand-overs, each fault by its own name, and certificates that are renewed.

use crate::common::*;

/// What the daemon, a command that asks once, and `check --connect` say of a store that they can't
/// use, with these settings of `etcd.tls` changed.
fn assert_all_say(scene: &Scene, name: &str, tls: &[(&str, &str)], expected: &str) {
    let builder = scene.daemon(name);
    let builder = tls.iter().fold(builder, |builder, (key, value)| {
        builder.toml(&format!("etcd.tls.{key} = {value:?}"))
    });
    let daemon = builder.spawn();
    daemon.wait_said("store unreachable", expected);

    for arguments in [
        &["status", "--timeout", "2s"][..],
        &["check", "--connect", "--timeout", "2s"],
    ] {
        let typed = scene.cluster.incumbent(arguments);
        let typed = tls.iter().fold(typed, |typed, (key, value)| {
            let name = format!("INCUMBENT__ETCD__TLS__{}", key.to_uppercase());
            typed.env(&name, value)
        });
        let answer = typed.run();
        assert_eq!(answer.code, Some(69), "{name}: {}", answer.errors);
        assert!(
            answer.errors.contains(expected),
            "{name}: {}",
            answer.errors
        );
    }
    assert!(daemon.lines("elected").is_empty());
}

#[test]
fn each_fault_of_a_members_certificate_is_named() {
    let scene = Scene::on(Cluster::start_tls(1, false, &[]));
    let tls = scene.cluster.tls().unwrap();
    let stranger = tls.file("stranger.pem");
    let expected = "the member's certificate is of no authority in etcd.tls.ca_file, ";
    for name in ["stranger", security::AUTHORITY] {
        security::write(&stranger, &Authority::new(name).pem());
        let ca_file = [("ca_file", stranger.to_str().unwrap())];
        assert_all_say(&scene, name, &ca_file, expected);
    }

    let expected = "is not for the name that is expected, elsewhere.test";
    let elsewhere = [("server_name", "elsewhere.test")];
    assert_all_say(&scene, "elsewhere", &elsewhere, expected);

    tls.members_show(&tls.authority().issue_expired("member", &["127.0.0.1"]));
    assert_all_say(&scene, "old", &[], "the member's certificate has expired");

    // Its own name is enough, even where the host has another.
    tls.members_show(&tls.authority().issue("member", &["etcd.test"]));
    assert_all_say(
        &scene,
        "host",
        &[],
        "is not for the name that is expected, 127.0.0.1",
    );
    let named = scene
        .daemon("named")
        .toml("etcd.tls.server_name = 'etcd.test'");
    scene.leader(named);
}

#[test]
fn each_fault_of_our_own_certificate_is_named() {
    let scene = Scene::on(Cluster::start_tls(1, true, &[]));
    let tls = scene.cluster.tls().unwrap();
    let file = |name: &str| tls.file(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("other.pem"), file("other.key"));
    let ours = [("cert_file", certificate.as_str()), ("key_file", &key)];
    let write = |issued: Issued| issued.write(certificate.as_ref(), key.as_ref());

    write(Authority::new("stranger").issue("client", &[]));
    assert_all_say(
        &scene,
        "stranger",
        &ours,
        &format!("etcd.tls.cert_file is {certificate}"),
    );
    write(tls.authority().issue_expired("client", &[]));
    assert_all_say(
        &scene,
        "old",
        &ours,
        &format!("etcd.tls.cert_file is {certificate}"),
    );

    let ca = file("ca.pem");
    let endpoints = scene.cluster.endpoints().join(",");
    let without = |arguments: &[&str]| {
        let sandbox = scene.cluster.sandbox();
        let typed = sandbox
            .incumbent(arguments)
            .env("INCUMBENT__ETCD__TLS__CA_FILE", &ca);
        typed.env("INCUMBENT__ETCD__ENDPOINTS", &endpoints).run()
    };
    for arguments in [
        &["status", "--timeout", "2s"][..],
        &["check", "--connect", "--timeout", "2s"],
    ] {
        let answer = without(arguments);
        assert_eq!(answer.code, Some(69), "{}", answer.errors);
        let expected = "etcd.tls.cert_file, etcd.tls.key_file are not set";
        assert!(answer.errors.contains(expected), "{}", answer.errors);
    }
}

#[test]
fn the_job_is_handed_over_over_mutual_tls_planned_and_after_a_crash() {
    let scene = Scene::on(Cluster::start_tls(3, true, &[]));
    let (a, first) = scene.leader(scene.daemon("a"));
    let b = scene.waiter(scene.daemon("b"));
    let c = scene.waiter(scene.daemon("c"));
    a.sigterm();
    let second = scene.wait_leads(&b, 1, SOON);
    assert!(second > first);
    // The guardian gives the lease back over a connection of its own.
    b.sigkill();
    assert!(scene.wait_leads(&c, 1, SOON) > second);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));

    let checked = scene.cluster.incumbent(&["check", "--connect"]).run();
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
    assert!(checked.text().contains("store: 3 of 3 members serve"));
}

#[test]
fn certificates_that_are_renewed_on_disk_cost_no_term() {
    let scene = Scene::on(Cluster::start_tls(1, true, &[]));
    let tls = scene.cluster.tls().unwrap();
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").ttl("15s").through(&links));
    let b = scene.waiter(scene.daemon("b").ttl("15s").through(&links));

    // Every connection is made anew, first with a certificate that is not taken: that shows that
    // the file is read.
    let stranger = Authority::new("stranger");
    stranger
        .issue("client", &[])
        .write(&tls.certificate(), &tls.key());
    links.each(Proxy::drop_connections);
    a.wait_said("store unreachable", "etcd.tls.cert_file");
    let renewed = tls.authority().issue("renewed", &[]);
    renewed.write(&tls.certificate(), &tls.key());
    tls.members_show(&tls.authority().issue("renewed member", &["127.0.0.1"]));
    a.wait_log("store reachable again", SOON);

    throughout(secs(5), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(scene.place(&b), Some(1));
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
}

#[test]
fn a_certificate_without_its_key_leaves_the_last_pair_in_place() {
    let scene = Scene::on(Cluster::start_tls(3, true, &[]));
    let tls = scene.cluster.tls().unwrap();
    let links = Links::to(&scene.cluster);
    let (a, token) = scene.leader(scene.daemon("a").ttl("5s").through(&links));
    let b = scene.waiter(scene.daemon("b").ttl("5s").through(&links));

    // The certificate is renewed, and the key is a copy that is not.
    let renewed = tls.authority().issue("renewed", &[]);
    security::write(&tls.certificate(), &renewed.certificate);
    let going_on = "going on with the last certificate and key";
    let mut looks = 0;
    eventually(SOON, "a takes up a connection anew", || {
        // One that is being taken up just now may still have come to stand.
        if looks % 100 == 0 {
            links.each(Proxy::drop_connections);
        }
        looks += 1;
        !a.lines(going_on).is_empty()
    });
    let line = a.wait_log(going_on, SOON);
    let shown = |field: &str| line.get(field).unwrap().as_str().unwrap().to_owned();
    assert_eq!(shown("cert_file"), tls.certificate().display().to_string());
    assert_eq!(shown("key_file"), tls.key().display().to_string());
    a.sighup();
    a.wait_log("reloaded", SOON);
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(scene.place(&b), Some(1));
    assert!(b.lines("rejoining").is_empty());
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_gaps_below(secs(2));

    // Who begins with such a pair has no other, and says which files they are.
    let fresh = scene.daemon("fresh").ttl("5s").spawn();
    let (certificate, key) = (tls.certificate(), tls.key());
    let expected = format!(
        "etcd.tls.cert_file, {}, and etcd.tls.key_file, {}, do not belong together",
        certificate.display(),
        key.display()
    );
    fresh.wait_said("store unreachable", &expected);
    let checked = scene.cluster.incumbent(&["check", "--connect"]).run();
    assert_eq!(checked.code, Some(69), "{}", checked.errors);
    let said = [checked.text(), checked.errors].concat();
    assert!(said.contains(&expected), "{said}");
    // With its key it is taken up, without a word from anybody.
    security::write(&key, &renewed.key);
    scene.waiter(scene.daemon("later").ttl("5s"));
    fresh.wait_log("campaigning", SOON);
    scene.assert_no_overlap();
}

#[test]
fn members_for_whom_our_certificate_is_of_another_time_are_done_without_and_named() {
    let what = "members for whom our certificate is of another time";
    let Some(cluster) = Cluster::skewed("5h", true, &[], what) else {
        return;
    };
    let tls = cluster.tls().unwrap();
    let client = tls
        .authority()
        .issue_around_now("client", &[], secs(60 * 60));
    client.write(&tls.certificate(), &tls.key());
    cluster.start_all().unwrap();
    let scene = Scene::on(cluster);
    let (a, first) = scene.leader(scene.daemon("a").ttl("5s"));
    let b = scene.waiter(scene.daemon("b").ttl("5s"));
    for leader in [1, 2] {
        scene.cluster.move_leader(leader);
        throughout(secs(4), "a leads on", || scene.still_leads(&a, first));
    }
    a.sigkill();
    let second = scene.wait_leads(&b, 1, SOON);
    assert!(second > first);
    assert!(a.lines("term lost").is_empty());
    let check = |code| {
        let arguments = ["check", "--connect", "--timeout", "2s"];
        let checked = scene.cluster.incumbent(&arguments).run();
        assert_eq!(checked.code, Some(code), "{}", checked.errors);
        let told = checked.text();
        for i in [1, 2] {
            let start = format!("{}: does not answer: ", scene.cluster.endpoints()[i]);
            let line = told.lines().find(|line| line.contains(&start)).unwrap();
            assert!(line.contains("clock"), "{line}");
            assert!(line.contains("etcd.tls.cert_file is "), "{line}");
        }
    };
    check(0);

    // Those who are left would serve, and can't be reached.
    let vigil = scene.cluster.watch_deletion(&scene.candidate(&b).key, 1);
    scene.cluster.kill(0);
    b.wait_log("store unreachable", SOON);
    let gone = vigil.wait(secs(20));
    scene.assert_over_before(second, gone);
    check(69);
    scene.cluster.restart(0);
    scene.wait_leads(&b, 2, SOON);
    scene.assert_no_overlap();
}
