//! The service manager's watchdog has a term's time before anything of the term starts.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::common::daemon::Builder;
use crate::common::*;

/// The daemon's line where the service manager hears nothing.
const UNHEARD: &str = "the service manager hears nothing: a term begins without its watchdog";

/// What a service manager listens on, with a queue that is full at first.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn deaf(scene: &Scene, name: &str) -> Self {
        let path = scene.cluster.sandbox().join(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        let others = UnixDatagram::unbound().unwrap();
        for one in [&socket, &others] {
            one.set_nonblocking(true).unwrap();
        }
        while others.send_to(b"X=1\n", &path).is_ok() {}
        Self { socket, path }
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
    let a = manager.watches(scene.daemon("a")).spawn();
    scene.wait_leads(&a, 1, SOON);
    let said = a.wait_log(UNHEARD, SOON);
    assert_eq!(said.text("level"), "WARN", "{}", said.text);
    let messages: Vec<_> = a.logs();
    let at = |message: &str| messages.iter().position(|it| it.message() == Some(message));
    assert!(at("elected") < at(UNHEARD), "{messages:?}");
    assert!(at(UNHEARD) < at("job started"), "{messages:?}");
}
