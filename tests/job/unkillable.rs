//! Jobs that nobody here may kill, or see, or reap: who says so, and who renews meanwhile.
//!
//! All of this takes root, to make what an ordinary user's daemon can't get rid of.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::ordinary::{as_root, is_root};
use crate::common::*;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A recording job that becomes root by the set-user-id bit and ignores SIGTERM: an ordinary user's
/// daemon may not signal it.
fn roots_job(scene: &Scene) -> Vec<String> {
    let job = scene.record.command(&["--ignore-term"]);
    as_root(scene.cluster.sandbox(), &job)
}

/// A replica of an ordinary user with such a job, which leads, the job's process, and a replica that
/// waits behind it.
fn stand(scene: &Scene, links: &Links) -> (Daemon, i64, i32, Daemon) {
    // Not that of other tests: root's daemons that start there would kill what has lost its guardian.
    let election = format!("/unkillable/{}", scene.cluster.address(0).port());
    let builder = scene
        .daemon("a")
        .ordinary()
        .job(&roots_job(scene))
        .through(links);
    let times = "job = { lost_grace = '300ms', kill_budget = '1s' }";
    let a = builder.ttl("6s").toml(times).prefix(&election).spawn();
    let token = a.wait_elected(SOON);
    let job = job_of(scene, token);
    let b = scene.daemon("b").ttl("6s").prefix(&election).spawn();
    b.wait_log("campaigning", SOON);
    (a, token, job, b)
}

/// The job's process, once it acts as root.
fn job_of(scene: &Scene, token: i64) -> i32 {
    let job = scene.record.wait_run(token, SOON).pid;
    eventually(SOON, "the job is root's", || owner(job) == Some(0));
    job
}

fn owner(pid: i32) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// Nobody else leads for longer than the lease of a dead leader would last.
fn nobody_else_leads(waiter: &Daemon) {
    throughout(secs(9), "the lease is renewed", || {
        match waiter.lines("elected").first() {
            Some(line) => Err(line.text.clone()),
            None => Ok(()),
        }
    });
}

/// The lines that name this process.
fn named(daemon: &Daemon, pid: i32) -> Vec<Line> {
    let mut lines = daemon.lines("job can't be killed");
    lines.retain(|line| {
        line.text("pids")
            .contains(&format!("{pid} (root, recorder)"))
    });
    lines
}

#[test]
fn a_guardian_that_kills_in_vain_is_not_given_up_on_and_renews_once_its_daemon_is_dead() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let scene = Scene::start(1);
    let links = Links::to(&scene.cluster);
    let (a, token, job, b) = stand(&scene, &links);
    let guardian = a.guardian();
    links.each(Proxy::refuse);
    assert_eq!(a.wait_log("term lost", SOON).token(), token);
    // Until it has killed in vain for a while.
    throughout(millis(700), "its daemon trusts it", || {
        a.lines("guardian lost").is_empty()
    });
    links.each(Proxy::heal);
    throughout(secs(6), "its daemon trusts it", || {
        a.lines("guardian lost").is_empty()
    });
    assert_eq!(a.guardian(), guardian);
    eventually(SOON, "the job is named again and again", || {
        named(&a, job).len() >= 2
    });
    let shown = a.status()["job"]["unkillable"].clone();
    assert_eq!(shown[0]["pid"], job, "{shown}");
    assert_eq!(
        (shown[0]["user"].as_str(), shown[0]["command"].as_str()),
        (Some("root"), Some("recorder"))
    );

    a.sigkill();
    nobody_else_leads(&b);
    assert!(process::is_alive(job));
    process::signal(job, Signal::KILL);
    b.wait_job(SOON);
    scene.assert_no_overlap();
}

#[test]
fn a_daemon_that_fences_in_vain_names_who_lives_and_goes_on_renewing() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let scene = Scene::start(1);
    let links = Links::to(&scene.cluster);
    let (a, _, job, b) = stand(&scene, &links);
    a.guardian_sigkill();
    a.wait_log("guardian lost", SOON);
    nobody_else_leads(&b);
    assert!(
        named(&a, job).len() >= 2,
        "{:?}",
        a.lines("job can't be killed")
    );
    assert_eq!(a.status()["job"]["unkillable"][0]["pid"], job);
    process::signal(job, Signal::KILL);
    b.wait_job(SOON);
    scene.assert_no_overlap();
}

/// What whoever looks from elsewhere is told of the first in the queue.
fn shown(scene: &Scene, election: &str) -> Value {
    let asked = ["status", "-o", "json", "--election", election];
    let told = scene.cluster.incumbent(&asked).text();
    let told: Value = serde_json::from_str(&told).unwrap();
    told["queue"][0].clone()
}

/// What it is told of this process.
fn roots(pid: i32) -> Value {
    json!([{ "pid": pid, "user": "root", "command": "recorder" }])
}

#[test]
fn whoever_looks_from_elsewhere_is_shown_who_can_not_be_killed_as_long_as_it_lives() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let scene = Scene::start(1);
    let election = format!("/shown/{}", scene.cluster.address(0).port());
    // The first run leaves a process behind; the next is an ordinary one.
    let record = scene.record.file().to_str().unwrap();
    let left = format!(
        "test -s '{record}' && exec sleep 1000000
        \"$@\" & until test -s '{record}'; do sleep 0.05; done"
    );
    let mut words = ["/bin/sh", "-c", &left, "sh"].map(str::to_owned).to_vec();
    words.extend(roots_job(&scene));
    let times = "job = { stop_grace = '100ms', kill_budget = '1s', restart_delay = '100ms' }";
    let a = scene.daemon("a").ordinary().job(&words);
    let a = a.ttl("6s").toml(times).prefix(&election).spawn();
    let token = a.wait_elected(SOON);
    let job = job_of(&scene, token);
    let b = scene.daemon("b").ttl("6s").prefix(&election).spawn();
    b.wait_log("campaigning", SOON);
    let asked = ["status", "--watch", "-o", "json", "--election", &election];
    let watched = scene.cluster.incumbent(&asked).follow();

    let told = eventually(SOON, "it is shown", || {
        let told = shown(&scene, &election);
        if told["unkillable"].is_array() {
            Ok(told)
        } else {
            Err(told)
        }
    });
    assert_eq!(told["unkillable"], roots(job));
    assert_eq!(told["token"], token);
    let table = scene
        .cluster
        .incumbent(&["status", "--election", &election]);
    let table = table.text();
    let line = format!("\nSTUCK     a on {}: ", told["host"].as_str().unwrap());
    assert!(
        table.contains(&line) && table.contains(&format!(": {job} (root, recorder)")),
        "{table}"
    );
    let page = b.get("/");
    assert!(page.contains(&format!("{job} (root, recorder)")), "{page}");
    // What it heeds and which settings it has is told in the same record: one keeps the other.
    let lease = told["lease"].as_str().unwrap();
    let record = || {
        let member = scene
            .cluster
            .get(&format!("{election}.meta/members/{lease}"));
        serde_json::from_str::<Value>(&member.unwrap()).unwrap()
    };
    let before = record();
    let pause = ["pause", "--keep-leader", "--election", &election];
    scene.cluster.incumbent(&pause).text();
    a.change("job.stop_grace = '200ms'");
    let file = a.folder().join("incumbent.toml");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    a.sighup();
    let all = eventually(SOON, "other settings are told", || {
        let now = record();
        if now["digest"] == before["digest"] {
            Err(now)
        } else {
            Ok(now)
        }
    });
    assert!(all["paused"].is_i64(), "{all}");
    assert_eq!(all["unkillable"], roots(job));

    process::signal(job, Signal::KILL);
    let told = eventually(SOON, "it is shown no more", || {
        let told = shown(&scene, &election);
        if told.get("unkillable").is_none() {
            Ok(told)
        } else {
            Err(told)
        }
    });
    assert_eq!(told["token"], token, "the term goes on");
    eventually(SOON, "who watches is told both", || {
        let lines = watched.wait_json(1);
        let of = |line: &Value| line["queue"][0]["unkillable"].is_array();
        let begun = lines.iter().position(of);
        begun.is_some_and(|begun| lines[begun..].iter().any(|line| !of(line)))
    });
}

#[test]
fn a_guardian_whose_daemon_is_dead_shows_whom_it_kills_in_vain() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let scene = Scene::start(1);
    let links = Links::to(&scene.cluster);
    let (a, _, job, b) = stand(&scene, &links);
    let election = format!("/unkillable/{}", scene.cluster.address(0).port());
    assert_eq!(shown(&scene, &election).get("unkillable"), None);
    a.sigkill();
    eventually(SOON, "it is shown", || {
        let told = shown(&scene, &election);
        if told["unkillable"] == roots(job) {
            Ok(())
        } else {
            Err(told)
        }
    });
    assert_eq!(shown(&scene, &election)["name"], "a");
    process::signal(job, Signal::KILL);
    b.wait_job(SOON);
    assert_eq!(shown(&scene, &election).get("unkillable"), None);
}

#[test]
fn a_daemon_that_starts_names_who_lives_of_an_earlier_one_and_starts_nothing() {
    if !is_root("a job that can't be killed") {
        return;
    }
    let scene = Scene::start(1);
    let election = format!("/left/{}", scene.cluster.address(0).port());
    let builder = || {
        let times = "job = { lost_grace = '300ms', kill_budget = '1s' }";
        let builder = scene.daemon("a").ordinary().job(&roots_job(&scene));
        builder.ttl("6s").toml(times).prefix(&election)
    };
    let a = builder().spawn();
    let token = a.wait_elected(SOON);
    let job = job_of(&scene, token);
    a.sigkill_both();
    assert!(process::is_alive(job), "it dies by itself");

    let again = builder().spawn();
    again.wait_log("fencing a process left behind", SOON);
    eventually(secs(3), "it is named", || !named(&again, job).is_empty());
    throughout(secs(2), "it is named once", || {
        named(&again, job).len() == 1
    });
    eventually(secs(5), "it is named again", || {
        named(&again, job).len() == 2
    });
    assert!(again.lines("elected").is_empty());
    process::signal(job, Signal::KILL);
    again.wait_job(SOON);
    scene.assert_no_overlap();
}

/// A guardian that has read a password hides, too.
#[test]
fn a_stopped_guardian_that_hides_from_its_daemon_is_killed_and_its_job_with_it() {
    if !is_root("a /proc that hides processes") {
        return;
    }
    let scene = Scene::start(1);
    let record = Record::new(scene.cluster.sandbox(), "record");
    fs::write(record.file(), "").unwrap();
    fs::set_permissions(record.file(), fs::Permissions::from_mode(0o666)).unwrap();
    let password = scene.cluster.sandbox().join("password");
    fs::write(&password, "secret").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let flags = ["--ignore-term", "--child-own-session"];
    let hidden = scene.daemon_with("a", &flags).ordinary().hidepid();
    let password = password.display();
    let login = format!("etcd = {{ username = 'a', password_file = '{password}' }}");
    let (a, token) = scene.leader(hidden.toml(&login));
    let environment = format!("/proc/{}/environ", a.guardian());
    eventually(SOON, "the guardian hides", || {
        fs::metadata(&environment).is_ok_and(|it| it.uid() == 0)
    });
    scene.record.wait_lives(token, 2, SOON);
    let b = scene.waiter(scene.daemon("b"));
    let key = scene.candidate(&a).key;
    let vigil = scene.cluster.watch_deletion(&key, 0);
    a.guardian_sigstop();
    let gone = vigil.wait(secs(20));
    scene.assert_over_before(token, gone);
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
}

/// Has left its session, and can't be traced, so that `/proc` hides it.
const HIDES: &str = "import ctypes, os, time
if os.fork() == 0:
    os.setsid()
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    if os.fork() == 0:
        os.setsid()
        open(os.environ['HIDDEN'] + '.new', 'w').write(str(os.getpid()))
        os.rename(os.environ['HIDDEN'] + '.new', os.environ['HIDDEN'])
    time.sleep(1000000)
time.sleep(1000000)
";

#[test]
fn a_process_that_hides_in_a_session_of_its_own_is_killed_all_the_same() {
    if !is_root("a /proc that hides processes") || !is_there("python3", "a job that hides") {
        return;
    }
    let scene = Scene::start(1);
    let file = scene.cluster.sandbox().join("hidden");
    let builder = scene.daemon("a").ordinary().hidepid();
    let builder = builder.job(&["/usr/bin/env", "python3", "-c", HIDES]);
    let a = builder.env("HIDDEN", file.to_str().unwrap()).spawn();
    a.wait_job(SOON);
    let hidden: i32 = eventually(SOON, "the job hides", || {
        fs::read_to_string(&file).ok()?.parse().ok()
    });
    let b = scene.waiter(scene.daemon("b"));
    a.sigkill();
    scene.wait_leads(&b, 1, SOON);
    assert!(!process::is_alive(hidden));
    assert!(a.lines("job can't be killed").is_empty());
}

/// Traces the process whose number it is given until it is killed, and reaps nothing.
const TRACES: &str = "import ctypes, os, signal, sys
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
assert libc.ptrace(16, pid, 0, 0) == 0
os.waitpid(pid, 0x40000000)
libc.ptrace(7, pid, 0, 0)
print('traced', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
";

#[test]
fn a_job_that_a_stopped_debugger_keeps_is_over_once_it_is_dead() {
    if !is_root("a debugger") || !is_there("python3", "a debugger") {
        return;
    }
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.daemon("a").toml("job.stop_grace = '500ms'"));
    let job = a.wait_job(SOON);
    let b = scene.waiter(scene.daemon("b"));
    let mut debugger = std::process::Command::new("python3")
        .args(["-c", TRACES, &job.to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let tracer = i32::try_from(debugger.id()).unwrap();
    eventually(SOON, "the debugger is stopped", || {
        process::state(tracer) == Some('T')
    });
    a.sigterm();
    scene.wait_leads(&b, 1, SOON);
    assert_eq!(
        process::state(job),
        Some('Z'),
        "only its tracer can reap it"
    );
    assert!(a.wait_of_term("resigned", token, SOON).bool("confirmed"));
    let kept = a.wait_log("a process that has ended is kept by its tracer", SOON);
    assert!(
        kept.text("tracer").starts_with(&format!("{tracer} (")),
        "{}",
        kept.text
    );
    debugger.kill().unwrap();
    debugger.wait().unwrap();
    scene.assert_no_overlap();
}

#[test]
fn a_daemon_that_can_not_see_its_own_children_does_not_start_and_check_says_so() {
    if !is_root("a host without /proc") {
        return;
    }
    let cluster = Cluster::start(1);
    let blind = "mount -t tmpfs none /proc";
    let a = Daemon::builder(&cluster, "a").mounting(blind).spawn();
    assert_eq!(a.wait_exit(SOON).code(), Some(1));
    let failed = a.wait_log("daemon failed", SOON);
    assert!(
        failed.text("error").contains("/proc is not mounted"),
        "{}",
        failed.text
    );

    let script = format!("{blind} && exec \"$@\"");
    let without = ["--mount", "sh", "-c", &script, "sh"];
    let foreign = ["--pid", "--fork"];
    let places = [
        (&without[..], "/proc is not mounted"),
        (&foreign[..], "it is that of another namespace"),
    ];
    for (place, why) in places {
        let checked = std::process::Command::new("unshare")
            .args(place)
            .args([env!("CARGO_BIN_EXE_incumbent"), "check"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            text.contains("would not start here") && text.contains(why),
            "{text}"
        );
    }
}

/// A process of an earlier term, of which the daemon can read nothing.
#[test]
fn a_daemon_that_can_not_look_through_all_processes_starts_nothing() {
    if !is_root("a /proc with what can't be read") {
        return;
    }
    let scene = Scene::start(1);
    let election = format!("/unread/{}", scene.cluster.address(0).port());
    let mut left = std::process::Command::new("sleep");
    left.arg("1000000")
        .env("INCUMBENT_ELECTION", &election)
        .env("INCUMBENT_TOKEN", "1");
    scene.cluster.sandbox().mark(&mut left, "left");
    let mut left = left.spawn().unwrap();
    let pid = i32::try_from(left.id()).unwrap();
    let blind = format!("mount --bind /dev/null /proc/{pid}/stat");
    let a = scene.daemon("a").prefix(&election).mounting(&blind).spawn();
    let said = a.wait_log("processes can't be looked through", SOON);
    assert!(said.get("error").is_some(), "{}", said.text);
    throughout(secs(2), "nobody starts a job beside it", || {
        let elected = a.lines("elected");
        elected
            .first()
            .map_or(Ok(()), |line| Err(line.text.clone()))
    });
    assert!(process::is_alive(pid));
    left.kill().unwrap();
    left.wait().unwrap();
    a.wait_job(SOON);
}
