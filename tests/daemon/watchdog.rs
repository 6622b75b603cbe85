//! The service manager's watchdog has a term's time before anything of the term starts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::common::daemon::{Builder, UNHEARD};
use crate::common::ordinary::{as_root, is_root};
use crate::common::*;

/// What a service manager listens on.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(scene: &Scene, name: &str) -> Self {
        let path = scene.cluster.sandbox().join(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path }
    }

    /// One whose queue is full at first.
    fn deaf(scene: &Scene, name: &str) -> Self {
        let manager = Self::new(scene, name);
        let others = UnixDatagram::unbound().unwrap();
        others.set_nonblocking(true).unwrap();
        while others.send_to(b"X=1\n", &manager.path).is_ok() {}
        manager
    }

    /// A replica that it is to watch over.
    fn watches(&self, builder: Builder) -> Builder {
        let builder = builder.ttl("15s").env("WATCHDOG_USEC", "30000000");
        builder.env("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    /// All that lies in the queue by now.
    fn hear(&self) -> String {
        let mut heard = String::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        heard
    }
}

#[test]
fn no_job_starts_before_the_service_manager_has_its_terms_watchdog() {
    let scene = Scene::start(1);
    // The daemon waits for a second at most, and this process may lie still for as long.
    let in_time = (0..20).any(|round| {
        let name = format!("a{round}");
        let manager = Manager::deaf(&scene, &name);
        let a = manager.watches(scene.daemon(&format!("d{round}"))).spawn();
        a.wait_log("elected", SOON);
        throughout(millis(300), "nothing starts", || {
            let started = a.lines("job started");
            let excused = !a.lines(UNHEARD).is_empty();
            if started.is_empty() || excused {
                Ok(())
            } else {
                Err(started)
            }
        });
        let heard_at = process::monotonic_ns();
        let mut heard = manager.hear();
        let token = scene.wait_leads(&a, 1, SOON);
        let in_time = a.lines(UNHEARD).is_empty();
        if in_time {
            let life = scene.last_run(token).unwrap();
            assert!(life.start > heard_at, "it started before: {life:?}");
            heard.push_str(&manager.hear());
            let (_, rest) = heard.split_once("READY=1\n").unwrap();
            let told = rest
                .lines()
                .find_map(|it| it.strip_prefix("WATCHDOG_USEC="));
            let told: u64 = told.unwrap().parse().unwrap();
            assert!(told < 15_000_000, "{heard}");
        }
        a.sigterm();
        a.wait_exit(STOPPED);
        in_time
    });
    assert!(in_time);
    scene.assert_no_overlap();
}

#[test]
fn a_service_manager_that_hears_nothing_keeps_no_job_from_running() {
    let scene = Scene::start(1);
    let manager = Manager::deaf(&scene, "deaf");
    // The hook has its time from its start on.
    let hook = "hooks.on_elected = ['true']\nhooks.on_elected_timeout = '500ms'";
    let a = manager.watches(scene.daemon("a").toml(hook)).spawn();
    scene.wait_leads(&a, 1, SOON);
    let said = a.wait_log(UNHEARD, SOON);
    assert_eq!(said.text("level"), "WARN", "{}", said.text);
    a.wait_log("job started", SOON);
    let messages: Vec<_> = a.logs();
    let at = |message: &str| messages.iter().position(|it| it.message() == Some(message));
    assert!(at("elected") < at(UNHEARD), "{messages:?}");
    assert!(at(UNHEARD) < at("job started"), "{messages:?}");
}

#[test]
fn where_no_service_manager_listens_nobody_waits_for_one() {
    let scene = Scene::start(1);
    let absent = scene.cluster.sandbox().join("absent");
    let a = scene.daemon("a").env("WATCHDOG_USEC", "30000000");
    let a = a.env("NOTIFY_SOCKET", absent.to_str().unwrap()).spawn();
    scene.wait_leads(&a, 1, SOON);
    assert!(a.lines(UNHEARD).is_empty());
}

#[test]
fn a_job_that_ends_leaves_the_others_watched_over() {
    let scene = Scene::start(1);
    let manager = Manager::new(&scene, "hears");
    let sleeps = ["sleep", "1000000"];
    let jobs = scene.daemon("a").named_job("one", &sleeps);
    let a = manager.watches(jobs.named_job("two", &sleeps)).spawn();
    a.wait_nth("job started", 2, SOON);
    a.edit(|config| {
        let jobs = config["jobs"].as_table_mut().unwrap();
        jobs.remove("two").unwrap();
    });
    a.sighup();
    a.wait_log("resigned", SOON);
    // For 2 s a loop may leave the daemon without an answer; then its watchdog isn't fed.
    throughout(secs(3), "all that it tells is a sign of life", || {
        let told = manager.hear();
        let lifeless = told.split("STATUS=").skip(1);
        let lifeless = lifeless.filter(|text| !text.contains("WATCHDOG_USEC="));
        let lifeless: Vec<_> = lifeless.map(str::to_owned).collect();
        if lifeless.is_empty() {
            Ok(())
        } else {
            Err(lifeless)
        }
    });
}

#[test]
fn a_job_that_can_not_be_killed_has_the_daemon_killed_for_no_other() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let scene = Scene::start(1);
    let manager = Manager::new(&scene, "hears");
    fs::set_permissions(&manager.path, Permissions::from_mode(0o777)).unwrap();
    let sleeps = ["sleep", "1000000"].map(str::to_owned);
    let of_root = as_root(scene.cluster.sandbox(), &sleeps);
    // Not that of other tests: root's daemons that start there would kill what has lost its guardian.
    let prefix = format!("/unkillable/{}", scene.cluster.address(0).port());
    let jobs = scene.daemon("a").named_job("one", &sleeps);
    let a = manager.watches(jobs.named_job("two", &of_root));
    let a = a.prefix(&prefix).ttl("5s").ordinary().spawn();
    a.wait_nth("job started", 2, SOON);
    let mut elected = a.lines("elected").into_iter();
    let two = elected.find(|line| line.text("election").ends_with("/two"));
    let lease = i64::from_str_radix(two.unwrap().text("lease"), 16).unwrap();
    scene.cluster.revoke(lease);
    a.wait_log("job can't be killed", SOON);
    manager.hear();
    // Longer than what its term had left by then.
    let mut told = Vec::new();
    throughout(secs(6), "the watchdog has time", || {
        let heard = manager.hear();
        let spans = heard.split("WATCHDOG_USEC=").skip(1);
        told.extend(spans.map(|rest| rest.lines().next().unwrap().parse::<u64>().unwrap()));
        if told.iter().all(|span| *span > 100_000) {
            Ok(())
        } else {
            Err(told.clone())
        }
    });
    assert!(!told.is_empty());
    let lost = ["term lost", "resigned"].map(|message| a.lines(message));
    let of_one = |line: &&Line| line.text("election").ends_with("/one");
    assert_eq!(
        lost.iter().flatten().find(of_one).map(|line| &line.text),
        None
    );
}
