//! Candidates in Go in the same election: one as tutorials write it, and one that gives back and heeds
//! the end of its session. See `tests/go/candidate`.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is for who asks with --nocapture"
)]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::*;
use rustix::process::Signal;

/// TTL of the Go candidates, in seconds.
const TTL: u64 = 5;

/// The program, where it was built.
fn program(what: &str) -> Option<PathBuf> {
    programs::built("candidate", what)
}

/// One Go program; killed on drop.
struct Go {
    name: String,
    child: Child,
    printed: PathBuf,
}

impl Go {
    fn start(
        scene: &Scene,
        program: &PathBuf,
        name: &str,
        urls: &[String],
        flags: &[&str],
    ) -> Self {
        let sandbox = scene.cluster.sandbox();
        let printed = sandbox.join(&format!("{name}.printed"));
        // Who runs the tests in the background has ctrl-c ignored, and Go lets that be.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(program)
            .args(["-endpoints", &urls.join(",")])
            .args(["-election", PREFIX, "-name", name])
            .args(["-ttl", &TTL.to_string()])
            .arg("-record")
            .arg(scene.record.file())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(File::create(&printed).unwrap())
            .stderr(File::create(sandbox.join(&format!("{name}.log"))).unwrap());
        sandbox.mark(&mut command, name);
        Self {
            name: name.to_owned(),
            child: command.spawn().unwrap(),
            printed,
        }
    }

    /// Waits until it leads by the store and by its own record; returns its token.
    #[track_caller]
    fn wait_leads(&self, scene: &Scene) -> i64 {
        let first = eventually(SOON, &format!("{} is first", self.name), || {
            let first = scene.cluster.first(PREFIX);
            first.filter(|first| first.name == self.name)
        });
        let run = scene.record.wait_run(first.create_revision, SOON);
        assert_eq!(
            run.pid,
            self.pid(),
            "another works in the name of {}",
            self.name
        );
        first.create_revision
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Presses ctrl-c, and waits for its end.
    fn interrupt(mut self) {
        process::signal(self.pid(), Signal::INT);
        self.child.wait().unwrap();
    }

    /// The tokens of the leaders that it has observed.
    fn observed(&self) -> Vec<i64> {
        let text = std::fs::read_to_string(&self.printed).unwrap();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let token = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        whole.lines().map(token).collect()
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A replica whose takeover delay is as short as it may be.
fn hasty(scene: &Scene, name: &str) -> daemon::Builder {
    let daemon = scene.daemon(name).ttl("15s");
    daemon.toml("job.kill_budget = '100ms'\nelection.takeover_delay = '300ms'")
}

/// The tokens of the leaders that `incumbent observe` has told of.
fn told(observer: &Followed) -> Vec<i64> {
    let token = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["leader"]["token"].as_i64()
    };
    observer.lines().iter().filter_map(token).collect()
}

#[test]
fn the_order_of_joining_decides_between_go_and_us_a_hundred_times() {
    let Some(program) = program("hand-overs between Go and us") else {
        return;
    };
    let scene = Scene::start(3);
    let urls = scene.cluster.endpoints();
    let go = |name: &str| Go::start(&scene, &program, name, &urls, &["-hardened"]);
    let watcher = Go::start(&scene, &program, "watcher", &urls, &["-observe"]);
    let observer = scene.cluster.incumbent(&["observe"]).follow();
    let both_see = |token: i64| {
        eventually(SOON, "both observers see the leader", || {
            let seen = [watcher.observed(), told(&observer)];
            if seen.iter().all(|seen| seen.last() == Some(&token)) {
                Ok(())
            } else {
                Err(seen)
            }
        });
    };

    // Two of each kind, in turn; who has led joins again, at the end.
    let mut queue = vec!["a", "g", "b", "h"];
    let (a, _) = scene.leader(hasty(&scene, "a"));
    let mut g = go("g");
    scene.cluster.wait_names(PREFIX, &queue[..2]);
    let b = scene.waiter(hasty(&scene, "b"));
    let mut h = go("h");
    let mut tokens = Vec::new();
    for turn in 0..=100 {
        scene.cluster.wait_names(PREFIX, &queue);
        let token = match queue[0] {
            "a" => scene.wait_leads(&a, turn / 4 + 1, SOON),
            "b" => scene.wait_leads(&b, turn / 4 + 1, SOON),
            "g" => g.wait_leads(&scene),
            _ => h.wait_leads(&scene),
        };
        both_see(token);
        tokens.push(token);
        match queue[0] {
            _ if turn == 100 => break,
            "a" => a.sigusr1(),
            "b" => b.sigusr1(),
            name => {
                let past = if name == "g" { &mut g } else { &mut h };
                // It must have left before it joins again.
                process::signal(past.pid(), Signal::INT);
                past.child.wait().unwrap();
                *past = go(name);
            }
        }
        queue.rotate_left(1);
    }
    assert_eq!(watcher.observed(), tokens);
    assert_eq!(told(&observer), tokens);
    assert_eq!(scene.record.history().tokens(), tokens);
    scene.assert_no_overlap();
}

/// A Go leader, the links it goes through, and a replica of ours behind it.
fn behind_go(program: &PathBuf, flags: &[&str]) -> (Scene, Links, Go, i64, Daemon) {
    let scene = Scene::start(3);
    let links = Links::to(&scene.cluster);
    let go = Go::start(&scene, program, "go", &links.urls(), flags);
    let token = go.wait_leads(&scene);
    // With the delays that users get who set none.
    let b =
        scene.waiter(scene.daemon("b").ttl("15s").toml(
            "job.kill_budget = '1s'\njob.lost_grace = '2s'\nelection.takeover_delay = '1500ms'",
        ));
    (scene, links, go, token, b)
}

/// How much later than the end of its lease a Go leader's work was last seen.
fn overrun(scene: &Scene, token: i64, gone: u64) -> Duration {
    let last = scene.record.history().last_beat_of(token).unwrap();
    Duration::from_nanos(last.saturating_sub(gone))
}

#[test]
fn the_takeover_delay_covers_a_go_leader_that_is_cut_off_and_heeds_its_session() {
    let Some(program) = program("a Go leader that is cut off") else {
        return;
    };
    let (scene, links, go, token, b) = behind_go(&program, &["-hardened"]);
    let vigil = scene.cluster.watch_deletion(&scene.first().key, 0);
    links.black_hole();
    let gone = vigil.wait(secs(30));
    let next = scene.wait_leads(&b, 1, SOON);
    let last = scene.wait_job_over(token, secs(10));
    let started = scene.last_run(next).unwrap().start;
    println!(
        "cut off: worked {:?} past its lease, and the next began {:?} past it",
        overrun(&scene, token, gone),
        Duration::from_nanos(started.saturating_sub(gone))
    );
    assert!(last < started, "it worked beside our job");
    scene.assert_no_overlap();
    drop(go);
}

#[test]
fn a_tutorials_go_leader_that_is_cut_off_works_on_beside_ours() {
    let Some(program) = program("a tutorial's Go leader that is cut off") else {
        return;
    };
    let (scene, links, _go, token, b) = behind_go(&program, &[]);
    links.black_hole();
    let next = scene.wait_leads(&b, 1, secs(30));
    // No delay covers who never looks at its session: the token must.
    eventually(SOON, "both work", || {
        let history = scene.record.history();
        let started = history.runs_of(next).next()?.start;
        (history.last_beat_of(token)? > started + 1_000_000_000).then_some(())
    });
    assert!(next > token);
}

#[test]
fn a_go_leader_that_was_stopped_works_for_a_moment_when_it_goes_on() {
    let Some(program) = program("a Go leader that is stopped") else {
        return;
    };
    let (scene, _links, go, token, b) = behind_go(&program, &["-hardened"]);
    process::freeze(go.pid());
    let next = scene.wait_leads(&b, 1, secs(30));
    let woken = process::monotonic_ns();
    process::thaw(go.pid());
    let last = scene.wait_job_over(token, secs(10));
    let after = Duration::from_nanos(last.saturating_sub(woken));
    println!("stopped: worked {after:?} after it went on");
    assert!(after < patience(secs(2)), "it went on for {after:?}");
    scene.still_leads(&b, next).unwrap();
}

#[test]
fn ctrl_c_of_a_tutorials_go_leader_costs_the_ttl_and_the_delay() {
    let Some(program) = program("ctrl-c of a tutorial's Go leader") else {
        return;
    };
    let (scene, _links, go, token, b) = behind_go(&program, &[]);
    go.interrupt();
    let ended = scene.record.history().last_beat_of(token).unwrap();
    let next = scene.wait_leads(&b, 1, secs(30));
    let started = scene.last_run(next).unwrap().start;
    let took = Duration::from_nanos(started - ended);
    println!("ctrl-c: nobody worked for {took:?}");
    // Renewed by then, and the delay.
    assert!(
        took > secs(TTL) * 2 / 3 && took < patience(secs(TTL + 4)),
        "{took:?}"
    );
    scene.assert_no_overlap();
}
