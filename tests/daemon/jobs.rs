//! Several jobs in one daemon: what befalls one is nothing to another.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::daemon::Builder;
use crate::common::ordinary::{as_root, is_root};
use crate::common::*;

/// A cluster, and what the jobs `a` and `b` of all replicas did.
struct Jobs {
    cluster: Cluster,
    a: Record,
    b: Record,
}

impl Jobs {
    fn start() -> Self {
        let cluster = Cluster::start(1);
        let record = |name| Record::new(cluster.sandbox(), name);
        Self {
            a: record("record-a"),
            b: record("record-b"),
            cluster,
        }
    }

    /// A replica with both jobs.
    fn daemon(&self, name: &str) -> Builder {
        Daemon::builder(&self.cluster, name)
            .named_job("a", &self.a.command(&[]))
            .named_job("b", &self.b.command(&[]))
    }

    /// Whoever is first in a job's queue.
    fn first(&self, job: &str) -> Option<Candidate> {
        self.cluster.first(&election(job))
    }

    fn assert_no_overlap(&self) {
        self.a.history().assert_no_overlap();
        self.b.history().assert_no_overlap();
    }
}

fn election(job: &str) -> String {
    format!("{PREFIX}/{job}")
}

/// The lines with this message about a job's election.
fn lines(daemon: &Daemon, job: &str, message: &str) -> Vec<Line> {
    let mut lines = daemon.lines(message);
    lines.retain(|line| line.text("election") == election(job));
    lines
}

/// Waits for the `n`th line with this message about a job's election.
#[track_caller]
fn wait_line(daemon: &Daemon, job: &str, message: &str, n: usize, budget: Duration) -> Line {
    let what = format!(
        "{} logs {message:?} of {job} for the {n}. time",
        daemon.name()
    );
    eventually(budget, &what, || {
        lines(daemon, job, message).into_iter().nth(n - 1)
    })
}

/// Waits until a job's term has begun and its run, too; returns token and process.
#[track_caller]
fn wait_leads(daemon: &Daemon, job: &str, budget: Duration) -> (i64, i32) {
    let token = wait_line(daemon, job, "elected", 1, budget).token();
    (
        token,
        wait_line(daemon, job, "job started", 1, budget).pid(),
    )
}

#[test]
fn each_has_a_term_of_its_own_and_they_are_given_back_together() {
    let jobs = Jobs::start();
    let one = jobs.daemon("one").spawn();
    for job in ["a", "b"] {
        let (token, pid) = wait_leads(&one, job, SOON);
        let first = jobs.first(job).unwrap();
        assert_eq!((first.name.as_str(), first.create_revision), ("one", token));
        let told = one.get(&format!("/status?job={job}"));
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["role"], &told["job"]["pid"]),
            (&"leading".into(), &pid.into())
        );
    }
    // A guardian each, and one for nobody else.
    let guardians = process::children(one.pid());
    assert_eq!(guardians.len(), 2, "{guardians:?}");

    let two = jobs.daemon("two").spawn();
    for job in ["a", "b"] {
        wait_line(&two, job, "campaigning", 1, SOON);
    }
    one.sigterm();
    for job in ["a", "b"] {
        wait_leads(&two, job, SOON);
    }
    assert!(one.wait_exit(STOPPED).success());
    one.wait_no_processes(SOON);
    jobs.assert_no_overlap();
}

#[test]
fn what_kills_the_guardian_of_one_costs_the_other_nothing() {
    let jobs = Jobs::start();
    let one = jobs.daemon("one").spawn();
    let (_, _) = wait_leads(&one, "a", SOON);
    let (token, pid) = wait_leads(&one, "b", SOON);
    // Its first run says which guardian is whose.
    let of_a = lines(&one, "a", "job started")[0].pid();
    let guardian = process::children(one.pid())
        .into_iter()
        .find(|guardian| process::children(*guardian).contains(&of_a))
        .expect("the guardian of a");
    process::signal(guardian, Signal::KILL);
    wait_line(&one, "a", "elected", 2, secs(20));
    wait_line(&one, "a", "job started", 2, SOON);
    assert_eq!(lines(&one, "b", "elected").len(), 1);
    assert_eq!(jobs.first("b").map(|it| it.create_revision), Some(token));
    assert!(process::is_alive(pid), "the other job");
    jobs.assert_no_overlap();
}

#[test]
fn a_killed_daemon_hands_each_of_them_over() {
    let jobs = Jobs::start();
    let one = jobs.daemon("one").spawn();
    for job in ["a", "b"] {
        wait_leads(&one, job, SOON);
    }
    let two = jobs.daemon("two").spawn();
    for job in ["a", "b"] {
        wait_line(&two, job, "campaigning", 1, SOON);
    }
    one.sigkill();
    for job in ["a", "b"] {
        // Long before the leases end.
        wait_leads(&two, job, millis(3500));
    }
    jobs.assert_no_overlap();
}

#[test]
fn a_reload_adds_removes_and_changes_them() {
    let jobs = Jobs::start();
    let one = jobs.daemon("one").spawn();
    let (_, of_a) = wait_leads(&one, "a", SOON);
    let (token, of_b) = wait_leads(&one, "b", SOON);
    let added = Record::new(jobs.cluster.sandbox(), "record-c");
    one.edit(|config| {
        let all = config["jobs"].as_table_mut().unwrap();
        let mut new = all.remove("a").unwrap();
        new["command"] = added.command(&[]).into();
        all.insert("c".to_owned(), new);
        all["b"]["stop_grace"] = "7s".into();
    });
    one.sighup();
    one.wait_log("reloaded", SOON);
    wait_leads(&one, "c", SOON);
    wait_line(&one, "a", "resigned", 1, STOPPED);
    eventually(SOON, "the removed job is over", || !process::is_alive(of_a));
    assert_eq!(jobs.first("a"), None);
    assert_eq!(jobs.first("b").map(|it| it.create_revision), Some(token));
    assert!(process::is_alive(of_b));
    eventually(SOON, "a is gone from the status", || {
        let told: Value = serde_json::from_str(&one.get("/status")).unwrap();
        let names: Vec<_> = told["jobs"].as_object().unwrap().keys().cloned().collect();
        if names == ["b", "c"] {
            Ok(())
        } else {
            Err(names)
        }
    });
    // What is bad changes nothing.
    one.change("jobs.d.ttl = '1ms'");
    one.sighup();
    one.wait_log("reload refused", SOON);
    // And what was taken away may come back.
    one.edit(|config| {
        let all = config["jobs"].as_table_mut().unwrap();
        all.remove("d");
        let mut again = all["b"].clone();
        again["command"] = jobs.a.command(&[]).into();
        all.insert("a".to_owned(), again);
    });
    one.sighup();
    wait_line(&one, "a", "elected", 2, SOON);
    jobs.assert_no_overlap();
}

#[test]
fn the_endpoints_tell_all_of_them_or_the_one_that_is_named() {
    let jobs = Jobs::start();
    let one = jobs
        .daemon("one")
        .toml("jobs.b.check = { command = ['false'], interval = '100ms' }")
        .spawn();
    let (token, _) = wait_leads(&one, "a", SOON);
    eventually(SOON, "b is unhealthy", || {
        let told = one.get("/status?job=b");
        if told.contains("\"role\":\"unhealthy\"") {
            Ok(())
        } else {
            Err(told)
        }
    });
    let answers = |path: &str| {
        let reply = one.ask("GET", path);
        (reply.status, reply.body)
    };
    let all = "a: leading\nb: unhealthy\n".to_owned();
    assert_eq!(answers("/readyz"), (503, all.clone()));
    assert_eq!(answers("/leader"), (200, all));
    assert_eq!(answers("/readyz?job=a"), (200, "leading\n".to_owned()));
    assert_eq!(answers("/leader?job=b"), (503, "unhealthy\n".to_owned()));
    assert_eq!(answers("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(answers("/status?job=c").0, 404);

    let metrics = one.get("/metrics");
    for (job, leads, token) in [("a", 1, token), ("b", 0, 0)] {
        for (name, value) in [("leader", leads), ("fencing_token", token)] {
            let line = format!(
                "incumbent_{name}{{election=\"{}\"}} {value}\n",
                election(job)
            );
            assert!(metrics.contains(&line), "{line}{metrics}");
        }
    }
    let page = one.get("/");
    for told in [
        "<b>one</b> leads 1 of 2",
        "href=\"/?job=a\"",
        "<b>b</b>: nobody leads",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let page = one.get("/?job=a");
    assert!(
        page.contains(&format!("Election {}", election("a"))),
        "{page}"
    );
}

#[test]
fn commands_are_about_all_or_the_one_that_is_named() {
    let jobs = Jobs::start();
    let one = jobs
        .daemon("one")
        .toml("jobs.b = { schedule = { every = '1h' }, command = ['true'] }")
        .spawn();
    let (token, _) = wait_leads(&one, "a", SOON);
    wait_line(&one, "b", "elected", 1, SOON);
    let file = one.folder().join("incumbent.toml");
    let typed = |arguments: &[&str]| {
        let file = ["-c", file.to_str().unwrap()];
        let words = [&arguments[..1], &file, &arguments[1..]].concat();
        jobs.cluster.sandbox().incumbent(&words).run()
    };
    let status = typed(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    let text = status.text();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["jobs", "below", PREFIX]);
    assert_eq!(lines[3][..3], ["a", "one", &token.to_string()]);
    assert_eq!(lines[4][..2], ["b", "one"]);
    let status: Value = serde_json::from_str(&typed(&["status", "-o", "json"]).text()).unwrap();
    assert_eq!(status["jobs"][0]["job"], "a");
    assert_eq!(status["jobs"][1]["leader"]["name"], "one");
    let status = typed(&["status", "--job", "a"]);
    assert!(
        status
            .text()
            .contains(&format!("election  {}", election("a"))),
        "{status:?}"
    );
    let next = typed(&["next", "--job", "b", "-n", "1"]);
    assert!(next.text().contains("runs every 1h"), "{next:?}");
    let exec = typed(&["exec", "--", "true"]);
    assert_eq!(exec.code, Some(78), "{exec:?}");
    let first = exec.errors.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "incumbent: --job: expected one of a, b, or an election by --election, found none"
    );
    let exec = ["exec", "--job", "a", "--wait", "500ms", "--", "true"];
    let exec = typed(&exec);
    assert_eq!(exec.code, Some(3), "the daemon leads: {exec:?}");
    let exec = ["exec", "--job", "unknown", "--", "true"];
    let exec = typed(&exec);
    assert_eq!(exec.code, Some(78), "{exec:?}");
    let trigger = typed(&["trigger", "--job", "b", "--wait"]);
    assert_eq!(trigger.code, Some(0), "{trigger:?}");
    let runs = typed(&["runs", "--job", "b"]);
    assert!(runs.text().contains("success"), "{runs:?}");
    let neither = typed(&["runs"]);
    assert_eq!(neither.code, Some(78), "{neither:?}");
    assert!(
        neither
            .errors
            .contains("--job: expected one of a, b, or an election"),
        "{neither:?}"
    );
    assert_eq!(
        typed(&["step-down", "--job", "a"]).code,
        Some(3),
        "nobody waits"
    );
    assert_eq!(typed(&["pause", "--job", "a"]).code, Some(0));
    wait_line(&one, "a", "resigned", 1, SOON);
    assert!(jobs.first("b").is_some());
}

#[test]
fn a_job_knows_its_own_election_and_not_the_others() {
    let jobs = Jobs::start();
    let asks = "incumbent status -o json > $OUT.new && mv $OUT.new $OUT; sleep 1000000";
    let out = jobs.cluster.sandbox().join("out");
    let bin = program();
    let path = format!("{}:/usr/bin:/bin", bin.parent().unwrap().display());
    let one = jobs
        .daemon("one")
        .named_job("c", &["sh", "-c", asks])
        .toml(&format!(
            "jobs.c.env = {{ OUT = '{}', PATH = '{path}' }}",
            out.display()
        ))
        .spawn();
    let (token, _) = wait_leads(&one, "c", SOON);
    let told = eventually(SOON, "it has asked", || std::fs::read_to_string(&out).ok());
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["election"], election("c"));
    assert_eq!(told["leader"]["token"], token);
}

#[test]
fn what_a_job_has_left_is_killed_though_it_is_configured_no_more() {
    let jobs = Jobs::start();
    let one = jobs.daemon("one").spawn();
    wait_leads(&one, "b", SOON);
    // In a session of its own, it outlives daemon and guardians.
    let stray = [
        "sh",
        "-c",
        "setsid sleep 1000000 & echo $! > $OUT.new; mv $OUT.new $OUT; wait",
    ];
    let out = jobs.cluster.sandbox().join("out");
    one.change(&format!(
        "[jobs.c]\ncommand = {stray:?}\nkill_budget = '500ms'\nlost_grace = '300ms'\nenv = {{ OUT = '{}' }}",
        out.display()
    ));
    one.sighup();
    wait_leads(&one, "c", SOON);
    let stray: i32 = eventually(SOON, "the stray runs", || {
        let text = std::fs::read_to_string(&out).ok()?;
        text.trim().parse().ok()
    });
    let guardians = process::children(one.pid());
    for guardian in &guardians {
        process::freeze(*guardian);
    }
    one.sigkill();
    for guardian in guardians {
        process::signal(guardian, Signal::KILL);
    }
    assert!(process::is_alive(stray));
    // Its directory is held as long as anything of it is there.
    one.wait_exit(SOON);
    let again = jobs.daemon("one").spawn();
    eventually(SOON, "the stray is dead", || !process::is_alive(stray));
    eventually(SOON, "its directory is removed", || {
        !again.folder().join("run/jobs/c").exists()
    });
    for job in ["a", "b"] {
        wait_line(&again, job, "elected", 1, secs(20));
    }
    jobs.assert_no_overlap();
}

/// A Rust job in the binary of the tests that keeps this record.
fn rust_job(builder: Builder, name: &str, record: &Record, settings: &str) -> Builder {
    let none: [&str; 0] = [];
    let file = record.file();
    builder
        .binary(example("recording"))
        .named_job(name, &none)
        .edit(|config| {
            let job = config["jobs"][name].as_table_mut().unwrap();
            job.remove("command");
            job.insert("kind".to_owned(), "recording".into());
        })
        .toml(&format!(
            "jobs.{name}.settings = {{ file = '{}', {settings} }}",
            file.display()
        ))
}

#[test]
fn the_end_of_one_rust_job_is_not_waited_for_by_another_and_kills_nothing_of_its() {
    let jobs = Jobs::start();
    let out = jobs.cluster.sandbox().join("out");
    let child = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000000",
        out.display()
    );
    let builder = Daemon::builder(&jobs.cluster, "one");
    // It begins first, and its runs end while the other one goes on.
    let builder = rust_job(builder, "a", &jobs.a, "ends_after = 1500");
    let builder = builder.toml("jobs.a = { restart_delay = '100ms', yield_after = 1000 }");
    let starts = format!("starts = [['sh', '-c', {child:?}]]");
    let one = rust_job(builder, "b", &jobs.b, &starts).spawn();
    let child: i32 = eventually(SOON, "the child of b runs", || {
        std::fs::read_to_string(&out).ok()?.trim().parse().ok()
    });
    let of_a = || lines(&one, "a", "job ended").len();
    let ended = of_a();
    eventually(secs(30), "runs of a begin and end", || of_a() > ended + 2);
    assert!(process::is_alive(child), "the child of b");
    assert_eq!(lines(&one, "b", "job ended").len(), 0);
    assert_eq!(lines(&one, "b", "elected").len(), 1);
    // What is b's ends with b.
    one.edit(|config| drop(config["jobs"].as_table_mut().unwrap().remove("b")));
    one.sighup();
    wait_line(&one, "b", "resigned", 1, STOPPED);
    assert!(!process::is_alive(child), "the child of b");
    let ended = of_a();
    eventually(secs(30), "runs of a go on", || of_a() > ended);
}

#[test]
fn none_is_handed_over_later_for_another_that_is_slow_to_stop() {
    let jobs = Jobs::start();
    let slow = [
        "sh",
        "-c",
        "trap 'sleep 4; exit' TERM; while :; do sleep 0.1; done",
    ];
    let builder = |name| jobs.daemon(name).named_job("slow", &slow);
    let one = builder("one").spawn();
    for job in ["a", "b", "slow"] {
        wait_leads(&one, job, SOON);
    }
    let two = builder("two").spawn();
    for job in ["a", "b", "slow"] {
        wait_line(&two, job, "campaigning", 1, SOON);
    }
    let asked = process::monotonic_ns();
    one.sigterm();
    for job in ["a", "b"] {
        wait_leads(&two, job, secs(3));
    }
    wait_leads(&two, "slow", SOON);
    let took = Duration::from_nanos(process::monotonic_ns() - asked);
    assert!(took > millis(3900), "{took:?}");
    jobs.assert_no_overlap();
}

#[test]
fn a_job_that_can_not_be_killed_costs_the_others_nothing() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let jobs = Jobs::start();
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let deaf = ["sh", "-c", script].map(str::to_owned);
    let of_root = as_root(jobs.cluster.sandbox(), &deaf);
    // Not that of other tests: root's daemons that start there would kill what has lost its guardian.
    let prefix = format!("/unkillable/{}", jobs.cluster.address(0).port());
    let builder = |name| jobs.daemon(name).named_job("c", &of_root).prefix(&prefix);
    let one = builder("one").ordinary().spawn();
    let of = |job: &str, message: &str| {
        let mut lines = one.lines(message);
        lines.retain(|line| line.text("election") == format!("{prefix}/{job}"));
        lines
    };
    for job in ["a", "b", "c"] {
        eventually(SOON, "its job runs", || !of(job, "job started").is_empty());
    }
    let stuck = of("c", "job started")[0].pid();
    let two = builder("two").spawn();
    eventually(SOON, "the other waits", || {
        two.lines("campaigning").len() == 3
    });
    let sandbox = jobs.cluster.sandbox();
    let step_down = |job: &str| {
        let election = format!("{prefix}/{job}");
        let endpoints = jobs.cluster.endpoints().join(",");
        let words = [
            "step-down",
            "--endpoints",
            &endpoints,
            "--election",
            &election,
        ];
        sandbox.incumbent(&words).run()
    };
    assert_eq!(step_down("c").code, Some(0));
    eventually(SOON, "it is said", || {
        of("c", "job can't be killed").len() == 1
    });
    // It is held, and the others go over and come to lead there all the same.
    assert_eq!(step_down("a").code, Some(0));
    eventually(SOON, "a goes over", || two.lines("elected").len() == 1);
    throughout(secs(5), "c is held, and b led as ever", || {
        let others = two.lines("elected").len();
        let resigned = of("c", "resigned").len() + of("b", "resigned").len();
        if (others, resigned) == (1, 0) {
            Ok(())
        } else {
            Err((others, resigned))
        }
    });
    // Taken out of the configuration it is told of all the same, where it lives.
    one.edit(|config| drop(config["jobs"].as_table_mut().unwrap().remove("c")));
    one.sighup();
    one.wait_log("reloaded", SOON);
    let file = one.folder().join("incumbent.toml");
    let status = sandbox.incumbent(&["status", "-c", file.to_str().unwrap(), "-o", "json"]);
    let told: Value = serde_json::from_str(&status.run().text()).unwrap();
    let names: Vec<_> = told["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["job"])
        .collect();
    assert_eq!(names, ["a", "b", "c"], "{told}");
    assert_eq!(told["jobs"][2]["configured"], false, "{told}");
    let living = told["jobs"][2]["leader"]["unkillable"].to_string();
    assert!(living.contains(&stuck.to_string()), "{told}");
    assert_eq!(told["jobs"][0].get("configured"), None, "{told}");
    process::signal(stuck, Signal::KILL);
    eventually(SOON, "c goes over", || two.lines("elected").len() == 2);
    jobs.assert_no_overlap();
}

#[test]
fn one_that_is_taken_away_and_back_again_while_it_stops_goes_on_after_that() {
    let jobs = Jobs::start();
    let slow = [
        "sh",
        "-c",
        "trap 'sleep 3; exit' TERM; while :; do sleep 0.1; done",
    ];
    let one = jobs.daemon("one").named_job("slow", &slow).spawn();
    wait_leads(&one, "slow", SOON);
    let mut taken = None;
    one.edit(|config| taken = config["jobs"].as_table_mut().unwrap().remove("slow"));
    one.sighup();
    one.wait_nth("reloaded", 1, SOON);
    one.edit(|config| {
        let all = config["jobs"].as_table_mut().unwrap();
        all.insert("slow".to_owned(), taken.unwrap());
    });
    one.sighup();
    one.wait_nth("reloaded", 2, SOON);
    assert!(lines(&one, "slow", "resigned").is_empty(), "it stops yet");
    wait_line(&one, "slow", "elected", 2, SOON);
    // At the end nothing comes back.
    one.sigterm();
    one.sighup();
    one.wait_log("reload refused", SOON);
    assert!(one.wait_exit(STOPPED).success());
    one.wait_no_processes(SOON);
}
