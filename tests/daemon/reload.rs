//! `incumbent reload`: a new configuration without losing the term, and an answer.

use crate::common::*;

/// `incumbent reload` for this daemon; it must be waited for.
fn reload(scene: &Scene, daemon: &Daemon) -> Answer {
    let file = daemon.folder().join("incumbent.toml");
    let file = file.to_str().unwrap();
    scene
        .cluster
        .sandbox()
        .incumbent(&["reload", "-c", file])
        .run()
}

#[test]
fn the_answer_comes_when_the_new_configuration_holds() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    a.change("log.filter = 'debug'");
    let answer = reload(&scene, &a);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    // The log is written off the path of the answer (R14).
    a.wait_log("reloaded", SOON);
    assert_eq!(a.lines("reloaded").len(), 1);
    // A leader that nothing happens to has no details to tell.
    process::signal(a.wait_job(SOON), rustix::process::Signal::KILL);
    let details = |line: &Line| line.text.contains("\"DEBUG\"");
    eventually(SOON, "details are logged", || a.logs().iter().any(details));
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_bad_configuration_changes_nothing_and_its_problems_are_printed() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let address = http::free_address();
    a.change(&format!(
        "job.restart = 'sometimes'\nhttp.listen = '{address}'\nlog.filter = 'debug'\nlog.format = 'xml'"
    ));
    let answer = reload(&scene, &a);
    assert_eq!(answer.code, Some(78), "{answer:?}");
    assert_eq!(answer.text(), "");
    let lines: Vec<&str> = answer.errors.lines().collect();
    assert_eq!(lines.len(), 3, "{answer:?}");
    assert!(lines.iter().all(|line| line.starts_with("incumbent: ")));
    assert!(
        answer.errors.contains("job.restart: expected"),
        "{answer:?}"
    );
    assert!(answer.errors.contains("log.format: expected"), "{answer:?}");
    assert_eq!(
        lines[2],
        "incumbent: 2 problems in the configuration; nothing was changed"
    );
    a.wait_nth("reload refused", 2, SOON);
    assert_eq!(a.lines("reload refused").len(), 2);
    assert_eq!(a.lines("reloaded").len(), 0);
    assert!(http::request(address, "GET", "/livez").is_err());
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn what_cannot_change_is_named() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    a.change("candidate.name = 'z'\nelection.ttl = '9s'");
    let answer = reload(&scene, &a);
    assert_eq!(answer.code, Some(78), "{answer:?}");
    for key in ["candidate.name", "election.ttl"] {
        let named = format!("incumbent: {key} can't change while the daemon runs");
        assert!(answer.errors.contains(&named), "{answer:?}");
    }
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn an_address_that_is_taken_is_a_problem_and_changes_nothing() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    a.change(&format!("http.listen = '{address}'\nlog.filter = 'debug'"));
    let answer = reload(&scene, &a);
    assert_eq!(answer.code, Some(78), "{answer:?}");
    let named = format!("incumbent: http.listen: cannot listen on {address}: ");
    assert!(answer.errors.contains(&named), "{answer:?}");
    assert_eq!(a.lines("reloaded").len(), 0);
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn without_a_daemon_it_says_where_it_looked() {
    let sandbox = Sandbox::new();
    let directory = sandbox.join("run");
    let answer = sandbox
        .incumbent(&["reload"])
        .env("INCUMBENT__RUNTIME_DIR", &directory)
        .run();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let socket = directory.join("control.sock");
    let named = format!("no daemon answers on {}", socket.display());
    assert!(answer.errors.contains(&named), "{answer:?}");
}

#[test]
fn kv_in_a_job_goes_by_what_its_daemon_runs_by() {
    let scene = Scene::start(1);
    let links = [(); 2].map(|()| Links::to(&scene.cluster));
    let script = format!(
        "n=0; while :; do n=$((n+1)); {:?} kv put /seen $n --timeout 2s; sleep 0.1; done",
        program()
    );
    let daemon = scene.daemon("a").job(&["sh", "-c", &script]);
    let a = daemon.through(&links[0]).spawn();
    let token = a.wait_elected(SOON);
    let goes_on = |what: &str| {
        let before = scene.cluster.get("/seen");
        eventually(SOON, what, || {
            let now = scene.cluster.get("/seen");
            now.is_some() && now != before
        });
    };
    goes_on("the job writes");
    a.change(&format!("etcd.endpoints = {:?}", links[1].urls()));
    assert_eq!(reload(&scene, &a).code, Some(0));
    links[0].each(Proxy::refuse);
    goes_on("the job writes to the new endpoints");
    a.change("election.ttl = 'never'\nno.such.key = 1");
    assert_eq!(reload(&scene, &a).code, Some(78));
    goes_on("the job writes with a mistake in the file");
    std::fs::write(a.folder().join("incumbent.toml"), "[not TOML").unwrap();
    goes_on("the job writes with a file that can't be read");
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_reload_to_another_cluster_is_refused_and_changes_nothing() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a"));
    let other = Cluster::start(1);
    a.reload(&format!("etcd.endpoints = {:?}", other.endpoints()));
    let refused = a.wait_log("reload refused", SOON);
    let problem = refused.text("problem");
    assert!(problem.starts_with("etcd.endpoints: "), "{problem}");
    assert!(problem.contains("another cluster"), "{problem}");
    throughout(secs(3), "it leads on", || scene.still_leads(&a, token));
    assert!(a.lines("reloaded").is_empty());
    // Nobody who answers is no reason to refuse.
    drop(other);
    let own = scene.cluster.endpoints();
    a.reload(&format!(
        "etcd.endpoints = [{:?}, 'http://127.0.0.1:1']",
        own[0]
    ));
    a.wait_log("reloaded", SOON);
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_job_that_a_reload_takes_away_may_come_back_at_once() {
    let cluster = Cluster::start(1);
    let sleeps = ["sleep", "1000000"];
    let jobs = Daemon::builder(&cluster, "a").named_job("one", &sleeps);
    let a = jobs.named_job("two", &sleeps).spawn();
    a.wait_nth("job started", 2, SOON);
    for round in 0..12 {
        let mut two = None;
        a.edit(|config| two = config["jobs"].as_table_mut().unwrap().remove("two"));
        a.sighup();
        a.wait_nth("reloaded", 2 * round + 1, SOON);
        // More or less of what the end of a job takes is done by then.
        std::thread::sleep(millis(5 * round as u64));
        a.edit(|config| {
            config["jobs"]
                .as_table_mut()
                .unwrap()
                .insert("two".to_owned(), two.unwrap());
        });
        a.sighup();
        a.wait_nth("reloaded", 2 * round + 2, SOON);
        a.wait_nth("job started", round + 3, SOON);
    }
    for unsaid in [
        "candidate not started: trying again",
        "what a job has left is not removed",
    ] {
        assert_eq!(a.lines(unsaid).len(), 0, "{unsaid}");
    }
}
