//! A store with authentication on: the least that a user needs, and logins that go stale.

use std::path::PathBuf;
use std::process::Command;

use crate::common::*;

/// The user of the replicas.
const USER: &str = "candidate";

/// The user's password at first.
const PASSWORD: &str = "correct-horse-battery";

/// A cluster with authentication on, and a user with the role that `check --print-role` prints for
/// the election of the tests.
struct Secured {
    scene: Scene,
    password: PathBuf,
}

impl Secured {
    fn start(n: usize, arguments: &[&str]) -> Self {
        // The cheapest hash: at etcd's own cost a login takes a tenth of a second of a core.
        let arguments = [&["--bcrypt-cost", "4"], arguments].concat();
        Self::on(Scene::on(Cluster::start_with(n, &arguments)))
    }

    fn on(scene: Scene) -> Self {
        let password = scene.cluster.sandbox().join("password");
        security::write(&password, &format!("{PASSWORD}\n"));
        let this = Self { scene, password };
        this.run_printed_role(&[]);
        this.scene.cluster.turn_auth_on();
        this
    }

    /// Runs the very lines that are printed.
    fn run_printed_role(&self, more: &[&str]) {
        let arguments = [&["check", "--print-role"], more].concat();
        let lines = self.incumbent(&arguments).text();
        let mut shell = Command::new("sh");
        shell.args(["-ec", &lines]).env("ETCDCTL_API", "3");
        shell.env(
            "ETCDCTL_ENDPOINTS",
            self.scene.cluster.endpoints().join(","),
        );
        let tls = self.scene.cluster.tls().into_iter();
        shell.envs(tls.flat_map(security::Tls::variables));
        programs::with_etcdctl(&mut shell);
        let output = shell.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{lines}{errors}");
    }

    fn incumbent(&self, arguments: &[&str]) -> command::Typed {
        let typed = self.scene.cluster.incumbent(arguments);
        typed
            .env("INCUMBENT__ETCD__USERNAME", USER)
            .env("INCUMBENT__ETCD__PASSWORD_FILE", &self.password)
    }

    fn daemon(&self, name: &str) -> daemon::Builder {
        let password = self.password.display();
        let login = format!("etcd = {{ username = '{USER}', password_file = '{password}' }}");
        self.scene.daemon(name).ttl("15s").toml(&login)
    }
}

// --- the role ---------------------------------------------------------------------------------

#[test]
fn the_printed_role_is_enough_for_every_hand_over_and_every_command() {
    let secured = Secured::start(3, &[]);
    let scene = &secured.scene;
    let (a, first) = scene.leader(secured.daemon("a"));
    let b = scene.waiter(secured.daemon("b"));
    let c = scene.waiter(secured.daemon("c"));
    a.sigterm();
    let second = scene.wait_leads(&b, 1, SOON);
    assert!(second > first);
    scene.wait_marker(first);
    b.sigkill();
    assert!(scene.wait_leads(&c, 1, SOON) > second);
    scene.wait_marker(second);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
    for daemon in [&a, &b, &c] {
        let complaints = [
            "term record not written",
            "resignation refused",
            "refusing to lead",
        ];
        let said = complaints.iter().flat_map(|line| daemon.lines(line));
        assert_eq!(said.map(|line| line.text).collect::<Vec<_>>(), [""; 0]);
    }

    let status = secured.incumbent(&["status"]).text();
    assert!(status.contains('c'), "{status}");
    let checked = secured.incumbent(&["check", "--connect"]).run();
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
    let (own, value) = ("/election/", "2h");
    let blocks = secured
        .incumbent(&["kv", "put", &format!("{own}{value}"), "x"])
        .run();
    assert_eq!(blocks.code, Some(3), "{}", blocks.errors);
}

#[test]
fn the_printed_role_reaches_no_other_election() {
    let secured = Secured::start(1, &[]);
    let scene = &secured.scene;
    for neighbour in ["/election2", "/electio", "/election.other", "/other"] {
        let daemon = secured.daemon(neighbour.trim_start_matches('/'));
        let daemon = daemon.prefix(neighbour).spawn();
        let expected = format!("user {USER:?} lacks a permission");
        daemon.wait_said("refusing to lead", &expected);
        assert_eq!(scene.cluster.names(neighbour), [""; 0]);

        let arguments = ["status", "--election", neighbour];
        let status = secured.incumbent(&arguments).run();
        assert_eq!(status.code, Some(1), "{}", status.errors);
        assert!(status.errors.contains(&expected), "{}", status.errors);
        let arguments = ["check", "--connect", "--election", neighbour];
        let checked = secured.incumbent(&arguments).run();
        assert_eq!(checked.code, Some(1), "{}", checked.errors);
        assert!(checked.errors.contains(&expected), "{}", checked.errors);
    }
    for key in ["/election", "/election2/1f", "/election.meta", "/elections"] {
        for arguments in [&["kv", "get", key][..], &["kv", "put", key, "x"]] {
            let answer = secured.incumbent(arguments).run();
            assert_eq!(answer.code, Some(1), "{key}: {}", answer.errors);
        }
    }
}

#[test]
fn a_client_certificate_can_be_the_login() {
    let secured = Scene::on(Cluster::start_tls(1, true, &["--bcrypt-cost", "4"]));
    let lines = secured.cluster.incumbent(&["check", "--print-role"]).text();
    assert!(lines.contains("user add client --no-password"), "{lines}");
    let mut shell = Command::new("sh");
    let tls = secured.cluster.tls().unwrap();
    shell
        .args(["-ec", &lines])
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", secured.cluster.endpoints().join(","))
        .env("ETCDCTL_CACERT", tls.ca())
        .env("ETCDCTL_CERT", tls.file("root.pem"))
        .env("ETCDCTL_KEY", tls.file("root.key"));
    programs::with_etcdctl(&mut shell);
    assert!(shell.output().unwrap().status.success(), "{lines}");
    secured.cluster.turn_auth_on();
    let (a, _) = secured.leader(secured.daemon("a"));
    let b = secured.waiter(secured.daemon("b"));
    a.sigkill();
    secured.wait_leads(&b, 1, SOON);
    secured.assert_no_overlap();
    let other = secured.daemon("other").prefix("/other").spawn();
    other.wait_log("refusing to lead", SOON);
}

// --- faults of a login ------------------------------------------------------------------------

#[test]
fn a_wrong_password_and_a_missing_login_are_named_and_not_shown() {
    let secured = Secured::start(1, &[]);
    let scene = &secured.scene;
    let wrong = "hunter2-hunter2";
    security::write(&secured.password, wrong);
    let file = secured.password.display();
    let expected = format!("no user {USER:?} with the password in {file}");
    let daemon = secured.daemon("wrong").spawn();
    daemon.wait_said("store unreachable", &expected);
    let code_of = |arguments: &[&str]| {
        let answer = secured.incumbent(arguments).run();
        assert!(answer.errors.contains(&expected), "{}", answer.errors);
        assert!(!answer.errors.contains(wrong) && !answer.text().contains(wrong));
        answer.code
    };
    assert_eq!(code_of(&["status"]), Some(1));
    assert_eq!(code_of(&["check", "--connect"]), Some(1));

    let nobody = scene.daemon("nobody").spawn();
    let expected = "the store asks for a user: etcd.username, etcd.password_file";
    nobody.wait_said("refusing to lead", expected);
    let status = scene.cluster.incumbent(&["status"]).run();
    assert_eq!(status.code, Some(1), "{}", status.errors);
    assert!(status.errors.contains(expected), "{}", status.errors);

    // What is mended on disk is found without a word.
    security::write(&secured.password, PASSWORD);
    scene.wait_leads(&daemon, 1, SOON);
    for line in daemon.logs() {
        assert!(!line.text.contains(wrong) && !line.text.contains(PASSWORD));
    }
}

// --- logins that go stale ---------------------------------------------------------------------

/// With tokens that expire, `a` leads on and `b` waits on, and can take over.
fn assert_tokens_may_expire(secured: &Secured) {
    let scene = &secured.scene;
    let (a, token) = scene.leader(secured.daemon("a"));
    let b = scene.waiter(secured.daemon("b"));
    throughout(secs(8), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(scene.place(&b), Some(1));
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(1));
    for daemon in [&a, &b] {
        assert!(daemon.lines("rejoining").is_empty());
    }
}

/// The flag of a store whose tokens are signed and last so long.
fn signed_tokens(sandbox: &Sandbox, ttl: &str) -> String {
    let (private, public) = (sandbox.join("jwt.key"), sandbox.join("jwt.pub"));
    let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
    for arguments in [
        &["genrsa", "-out", private, "2048"][..],
        &["rsa", "-in", private, "-pubout", "-out", public],
    ] {
        let output = Command::new("openssl").args(arguments).output();
        let output = output.expect("the tests need openssl: apt-get install openssl");
        assert!(output.status.success(), "{output:?}");
    }
    format!("--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl={ttl}")
}

#[test]
fn signed_tokens_that_expire_cost_neither_term_nor_place() {
    let keys = Sandbox::new();
    let tokens = signed_tokens(&keys, "1s");
    assert_tokens_may_expire(&Secured::start(1, &[&tokens]));
}

/// A token is good for the member that signed it, expired for one that is hours later, and of the future
/// for one that is hours earlier.
#[test]
fn signed_tokens_of_members_whose_clocks_are_hours_off_cost_neither_term_nor_place() {
    let keys = Sandbox::new();
    let arguments = ["--bcrypt-cost", "4", &signed_tokens(&keys, "5m")];
    let what = "signed tokens of members whose clocks are hours off";
    let Some(cluster) = Cluster::skewed("5h", false, &arguments, what) else {
        return;
    };
    cluster.start_all().unwrap();
    let secured = Secured::on(Scene::on(cluster));
    let scene = &secured.scene;
    let (a, first) = scene.leader(secured.daemon("a").ttl("5s"));
    let b = scene.waiter(secured.daemon("b").ttl("5s"));
    let c = scene.waiter(secured.daemon("c").ttl("5s"));
    for leader in [1, 2, 0, 2, 1] {
        scene.cluster.move_leader(leader);
        throughout(secs(2), "a leads on", || scene.still_leads(&a, first));
    }
    // Those who go on do so through whoever is left, with what another has signed.
    scene.cluster.freeze(2);
    throughout(secs(6), "a leads on", || scene.still_leads(&a, first));
    scene.cluster.thaw(2);
    scene.cluster.move_leader(2);
    a.sigkill();
    let second = scene.wait_leads(&b, 1, SOON);
    scene.wait_marker(first);
    b.sigterm();
    assert!(scene.wait_leads(&c, 1, SOON) > second);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(2));
    for daemon in [&a, &b, &c] {
        for line in ["term lost", "rejoining", "refusing to lead"] {
            let lines = daemon.lines(line);
            assert!(lines.is_empty(), "{lines:?}");
        }
        // Of the one that was frozen, and of no login.
        for line in daemon.lines("store unreachable") {
            assert!(line.text.contains("no answer within"), "{}", line.text);
        }
    }
}

#[test]
fn simple_tokens_that_expire_cost_neither_term_nor_place() {
    // Renewals are further apart than tokens last.
    assert_tokens_may_expire(&Secured::start(1, &["--auth-token-ttl", "1"]));
}

#[test]
fn a_new_password_costs_neither_term_nor_place() {
    let secured = Secured::start(3, &[]);
    let scene = &secured.scene;
    let (a, token) = scene.leader(secured.daemon("a"));
    let b = scene.waiter(secured.daemon("b"));
    // The store ends all logins of the old password at once; the file follows a moment later.
    scene.cluster.set_password(USER, "the-next-one");
    a.wait_said("store unreachable", "no user");
    security::write(&secured.password, "the-next-one");
    a.wait_log("store reachable again", SOON);
    throughout(secs(5), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(scene.place(&b), Some(1));
    // The guardian was connected since before that.
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(2));
}

#[test]
fn authentication_can_be_turned_on_during_a_term() {
    let scene = Scene::on(Cluster::start_with(1, &["--bcrypt-cost", "4"]));
    let password = scene.cluster.sandbox().join("password");
    security::write(&password, PASSWORD);
    let secured = Secured { scene, password };
    let scene = &secured.scene;
    // Users first, then authentication: etcd's own client bears that, too.
    let (a, token) = scene.leader(secured.daemon("a"));
    let b = scene.waiter(secured.daemon("b"));
    secured.run_printed_role(&[]);
    scene.cluster.turn_auth_on();
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    assert_eq!(scene.place(&b), Some(1));
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

/// Authentication is turned on under a leading job, off, and on again: it costs nobody anything.
fn assert_authentication_may_come_and_go(cluster: Cluster) {
    let scene = Scene::on(cluster);
    let password = scene.cluster.sandbox().join("password");
    security::write(&password, PASSWORD);
    let secured = Secured { scene, password };
    let scene = &secured.scene;
    let daemon = |name| secured.daemon(name).ttl("5s");
    let (a, token) = scene.leader(daemon("a"));
    let b = scene.waiter(daemon("b"));
    secured.run_printed_role(&[]);
    let goes_on = |what: &str| {
        let what = format!("a leads on, and b waits, with authentication {what}");
        throughout(secs(6), &what, || {
            scene.still_leads(&a, token)?;
            match b.lines("rejoining").first() {
                Some(line) => Err(line.text.clone()),
                None => Ok(()),
            }
        });
        assert_eq!(scene.place(&b), Some(1));
    };
    scene.cluster.turn_auth_on();
    goes_on("on");
    let (c, waiting) = (scene.waiter(daemon("c")), secs(2));
    scene.cluster.turn_auth_off();
    goes_on("off again");
    scene.cluster.turn_auth_on_again();
    goes_on("on again");
    a.sigterm();
    let second = scene.wait_leads(&b, 1, SOON);
    assert!(second > token);
    // Its guardian gives back; it was connected since authentication was on.
    scene.cluster.turn_auth_off();
    b.sigkill();
    scene.wait_leads(&c, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(waiting);
    for daemon in [&a, &b, &c] {
        assert!(daemon.lines("refusing to lead").is_empty());
    }
}

#[test]
fn authentication_may_come_and_go_under_a_password() {
    let cluster = Cluster::start_with(3, &["--bcrypt-cost", "4"]);
    assert_authentication_may_come_and_go(cluster);
}

#[test]
fn authentication_may_come_and_go_under_a_password_and_certificates() {
    let cluster = Cluster::start_tls(3, true, &["--bcrypt-cost", "4"]);
    assert_authentication_may_come_and_go(cluster);
}

#[test]
fn a_new_password_that_is_in_the_file_first_costs_no_renewal() {
    let secured = Secured::start(3, &[]);
    let scene = &secured.scene;
    let (a, token) = scene.leader(secured.daemon("a").ttl("5s"));
    let b = scene.waiter(secured.daemon("b").ttl("5s"));
    security::write(&secured.password, "the-next-one");
    // Each change of a user ends all logins: the file is read again, and is ahead of the store.
    scene
        .cluster
        .set_password(security::ROOT.0, security::ROOT.1);
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    scene.cluster.set_password(USER, "the-next-one");
    throughout(secs(6), "a leads on", || scene.still_leads(&a, token));
    for daemon in [&a, &b] {
        assert!(daemon.lines("rejoining").is_empty());
        for line in daemon.logs() {
            assert!(!line.text.contains("the-next-one") && !line.text.contains(PASSWORD));
        }
    }
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(secs(2));
}

#[test]
fn a_lease_is_given_back_by_the_last_password_where_the_next_is_not_known_yet() {
    let secured = Secured::start(1, &[]);
    let scene = &secured.scene;
    let (a, _) = scene.leader(secured.daemon("a").ttl("15s"));
    let lease = scene.candidate(&a).lease;
    security::write(&secured.password, "the-next-one");
    scene
        .cluster
        .set_password(security::ROOT.0, security::ROOT.1);
    a.sigterm();
    assert!(a.wait_exit(STOPPED).success());
    scene.wait_no_lease(lease);
    let confirmed = a.wait_log("resigned", SOON);
    assert_eq!(confirmed.get("confirmed").unwrap(), true);
}

#[test]
fn the_printed_user_is_the_one_in_the_certificate() {
    let cluster = Cluster::start_tls(1, true, &[]);
    let lines = cluster.incumbent(&["check", "--print-role"]).text();
    assert!(
        lines.contains("etcdctl user add client --no-password"),
        "{lines}"
    );
    assert!(lines.contains("etcdctl user grant-role client "), "{lines}");
}
