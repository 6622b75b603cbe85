//! `incumbent exec`: a command that runs once, under leadership, and whose exit code is passed on.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::*;
use rustix::process::Signal;

/// `incumbent exec …` in the test's [election], with a runtime directory of the test's and a TTL of 4 s.
fn exec(cluster: &Cluster, words: &[&str]) -> command::Typed {
    let all = [&["exec"], words].concat();
    cluster
        .incumbent(&all)
        .env("INCUMBENT__RUNTIME_DIR", cluster.sandbox().join("run"))
        .env("INCUMBENT__ELECTION__PREFIX", election(cluster))
        .env("INCUMBENT__ELECTION__TTL", "4s")
        .env("INCUMBENT__JOB__LOST_GRACE", "300ms")
        .env("INCUMBENT__JOB__KILL_BUDGET", "500ms")
}

/// `incumbent exec` of the recording job, after these words; it runs already.
fn exec_recorder(scene: &Scene, words: &[&str]) -> command::Followed {
    let record = scene.record.command(&[]);
    let record: Vec<&str> = record.iter().map(String::as_str).collect();
    let running = exec(&scene.cluster, &[words, &record].concat()).follow();
    eventually(SOON, "the command runs", || {
        !scene.record.history().lives.is_empty()
    });
    running
}

/// An election that no other test on this host knows: who starts in one kills what is left of it, and
/// says so on the standard error that the command has, too.
fn election(cluster: &Cluster) -> String {
    format!("/exec/{}", cluster.address(0).port())
}

/// A cluster of one member, and an empty record.
fn scene() -> Scene {
    let cluster = Cluster::start(1);
    let election = election(&cluster);
    Scene::on(cluster).in_election(&election)
}

/// What is in the runtime directory.
fn left_in_run(cluster: &Cluster) -> Vec<String> {
    let entries = fs::read_dir(cluster.sandbox().join("run")).into_iter();
    let names = entries.flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Nothing is in the queue, no lease is left, and nothing in the runtime directory.
fn assert_all_given_back(cluster: &Cluster) {
    assert_eq!(cluster.names(&election(cluster)), Vec::<String>::new());
    assert_eq!(cluster.leases(), Vec::<i64>::new());
    assert_eq!(left_in_run(cluster), Vec::<String>::new());
}

#[test]
fn exit_codes_and_output_are_the_commands_own_and_all_is_given_back() {
    let cluster = Cluster::start(1);
    for (script, code) in [
        ("echo out; echo err >&2", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let answer = exec(&cluster, &["--", "sh", "-c", script]).run();
        assert_eq!(answer.code, Some(code), "{script}: {}", answer.errors);
        let said = script.starts_with("echo");
        assert_eq!(answer.text(), if said { "out\n" } else { "" }, "{script}");
        assert_eq!(answer.errors, if said { "err\n" } else { "" }, "{script}");
        assert_all_given_back(&cluster);
    }
    let election = election(&cluster);
    let term: serde_json::Value =
        serde_json::from_str(&cluster.get(&format!("{election}.meta/term")).unwrap()).unwrap();
    assert_eq!(cluster.marker(&election), term["token"].as_i64());
}

#[test]
fn what_cannot_be_executed_is_127_or_126_and_says_why() {
    let cluster = Cluster::start(1);
    for (program, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let answer = exec(&cluster, &["--", program]).run();
        assert_eq!(answer.code, Some(code), "{}", answer.errors);
        assert!(answer.errors.contains(program), "{}", answer.errors);
        assert_eq!(answer.errors.lines().count(), 1, "{}", answer.errors);
        assert_all_given_back(&cluster);
    }
}

#[test]
fn standard_input_is_passed_on_from_where_it_stands() {
    let cluster = Cluster::start(1);
    let piped = exec(&cluster, &["--", "cat"]).input(b"one\ntwo\n");
    assert_eq!(piped.text(), "one\ntwo\n");

    // A file's offset is shared, so a reader before us has had its part.
    let file = cluster.sandbox().join("input");
    fs::write(&file, "first\nrest\n").unwrap();
    let exec = exec(&cluster, &["--", "cat"]).into_command();
    let mut shell = Command::new("sh");
    let script = "{ read -r line; \"$0\" \"$@\"; } <\"$FILE\"";
    shell.args(["-c", script]).arg(exec.get_program());
    shell.args(exec.get_args()).env("FILE", &file);
    for (name, value) in exec.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let output = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "rest\n");
}

#[test]
fn several_at_once_run_one_after_the_other_each_in_a_term_of_its_own() {
    let scene = scene();
    let record = scene.record.command(&["--exit-after", "300ms"]);
    let words: Vec<&str> = ["--"]
        .into_iter()
        .chain(record.iter().map(String::as_str))
        .collect();
    let running: Vec<_> = (0..4)
        .map(|_| exec(&scene.cluster, &words).start())
        .collect();
    for one in running {
        let answer = one.wait();
        assert_eq!(answer.code, Some(0), "{}", answer.errors);
    }
    let history = scene.record.history();
    assert_eq!(history.tokens().len(), 4, "{history:?}");
    assert_eq!(history.lives.len(), 4, "each ran once: {history:?}");
    scene.assert_no_overlap();
    assert_all_given_back(&scene.cluster);
}

#[test]
fn who_is_not_elected_within_wait_exits_3_and_leaves_no_key() {
    let scene = scene();
    let (a, token) = scene.leader(scene.daemon("a"));
    let started = scene.cluster.sandbox().join("started");
    let touch = ["--wait", "1s", "--", "touch", started.to_str().unwrap()];
    let answer = exec(&scene.cluster, &touch).run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
    let election = election(&scene.cluster);
    let said = format!(
        "incumbent: refused: not elected in {election} within 1s; the command was not started\n"
    );
    assert_eq!(answer.errors, said);
    assert!(!started.exists());
    assert_eq!(scene.cluster.names(&election), ["a"]);
    assert_eq!(scene.cluster.leases().len(), 1);
    assert_eq!(left_in_run(&scene.cluster), Vec::<String>::new());
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn wait_ends_with_69_and_in_time_while_the_store_is_away() {
    let cluster = Cluster::prepare(1);
    let begun = process::monotonic_ns();
    let answer = exec(&cluster, &["--wait", "2s", "--", "true"]).run();
    let took = Duration::from_nanos(process::monotonic_ns() - begun);
    assert_eq!(answer.code, Some(69), "{}", answer.errors);
    assert!(answer.errors.contains("unreachable"), "{}", answer.errors);
    assert!(took < patience(millis(2500)), "it took {took:?}");
    assert_eq!(left_in_run(&cluster), Vec::<String>::new());
}

#[test]
fn a_long_command_is_not_ended_by_wait() {
    let cluster = Cluster::start(1);
    let answer = exec(
        &cluster,
        &["--wait", "2s", "--", "sh", "-c", "sleep 4; exit 5"],
    )
    .run();
    assert_eq!(answer.code, Some(5), "{}", answer.errors);
}

#[test]
fn signals_are_passed_on_and_the_command_decides_what_they_mean() {
    let cluster = Cluster::start(1);
    let script = "trap 'echo usr1' USR1; trap 'echo usr2' USR2; trap 'echo hup' HUP
        trap 'echo int' INT; trap 'echo term; exit 9' TERM
        echo ready; while :; do sleep 0.02; done";
    let mut running = exec(&cluster, &["--", "sh", "-c", script]).follow();
    running.wait_lines(1);
    for (n, signal) in [Signal::USR1, Signal::USR2, Signal::HUP, Signal::INT]
        .into_iter()
        .enumerate()
    {
        process::signal(running.pid(), signal);
        running.wait_lines(n + 2);
    }
    assert_eq!(running.lines(), ["ready", "usr1", "usr2", "hup", "int"]);
    assert_eq!(cluster.names(&election(&cluster)).len(), 1, "it leads on");
    // After a SIGINT it is the second word: by now this one is patient no more.
    throughout(millis(1100), "it leads on", || running.lines().len() == 5);
    process::signal(running.pid(), Signal::TERM);
    assert_eq!(running.wait_exit(), Some(137));
    assert_all_given_back(&cluster);

    let mut running = exec(&cluster, &["--", "sh", "-c", script]).follow();
    running.wait_lines(1);
    process::signal(running.pid(), Signal::TERM);
    assert_eq!(running.wait_exit(), Some(9));
    assert_all_given_back(&cluster);
}

#[test]
fn a_second_sigterm_kills_a_command_that_ignores_the_first() {
    let cluster = Cluster::start(1);
    let script = "trap 'echo heard' TERM; echo ready; while :; do sleep 0.02; done";
    let mut running = exec(&cluster, &["--", "sh", "-c", script]).follow();
    running.wait_lines(1);
    process::signal(running.pid(), Signal::TERM);
    running.wait_lines(2);
    throughout(millis(1100), "it runs on", || running.lines().len() == 2);
    process::signal(running.pid(), Signal::TERM);
    assert_eq!(running.wait_exit(), Some(137), "{:?}", running.errors());
    assert_all_given_back(&cluster);
}

#[test]
fn a_stop_that_arrives_twice_within_a_second_is_heard_once() {
    let cluster = Cluster::start(1);
    let script = "trap 'echo heard; sleep 1; exit 9' TERM; echo ready
        while :; do sleep 0.02; done";
    let mut running = exec(&cluster, &["--", "sh", "-c", script]).follow();
    running.wait_lines(1);
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        process::signal(running.pid(), signal);
        running.wait_lines(2);
    }
    assert_eq!(running.wait_exit(), Some(9), "{:?}", running.errors());
    assert_eq!(running.lines(), ["ready", "heard"]);
    assert_all_given_back(&cluster);
}

#[test]
fn sigquit_is_the_commands_own_until_a_stop_has_begun_and_then_kills_it() {
    let cluster = Cluster::start(1);
    let script = "trap 'echo term' TERM; trap 'echo quit' QUIT; echo ready
        while :; do sleep 0.02; done";
    let mut running = exec(&cluster, &["--", "sh", "-c", script]).follow();
    running.wait_lines(1);
    process::signal(running.pid(), Signal::QUIT);
    running.wait_lines(2);
    process::signal(running.pid(), Signal::TERM);
    running.wait_lines(3);
    process::signal(running.pid(), Signal::QUIT);
    assert_eq!(running.wait_exit(), Some(137), "{:?}", running.errors());
    assert_eq!(running.lines(), ["ready", "quit", "term"]);
    assert_all_given_back(&cluster);
}

#[test]
fn a_signal_while_it_waits_ends_the_candidacy_and_runs_nothing() {
    let scene = scene();
    let (a, token) = scene.leader(scene.daemon("a"));
    let election = election(&scene.cluster);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut waiting = exec(&scene.cluster, &["--name", "once", "--", "echo", "ran"]).follow();
        scene.cluster.wait_names(&election, &["a", "once"]);
        process::signal(waiting.pid(), Signal::USR1);
        process::signal(waiting.pid(), signal);
        assert_eq!(waiting.wait_exit(), Some(code), "{:?}", waiting.errors());
        assert_eq!(waiting.lines(), Vec::<String>::new());
        assert_eq!(scene.cluster.names(&election), ["a"]);
    }
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn a_command_that_leaves_children_behind_is_over_when_they_are() {
    let scene = scene();
    let record = scene.record.command(&[]).join(" ");
    // A descendant in a session of its own, which a shell would leave alone.
    let script = format!("setsid {record} & sleep 1; exit 4");
    let answer = exec(&scene.cluster, &["--", "sh", "-c", &script]).run();
    assert_eq!(answer.code, Some(4), "{}", answer.errors);
    let history = scene.record.history();
    assert!(!history.lives.is_empty());
    for life in &history.lives {
        assert!(!process::is_alive(life.pid), "{life}");
    }
    assert_all_given_back(&scene.cluster);
}

#[test]
fn kill_9_of_exec_ends_its_command_before_the_next_starts() {
    let scene = scene();
    let mut running = exec_recorder(&scene, &["--name", "once", "--"]);
    let b = scene.waiter(scene.daemon("b"));
    process::signal(running.pid(), Signal::KILL);
    assert_eq!(running.wait_exit(), None);
    scene.wait_leads(&b, 1, SOON);
    scene.assert_no_overlap();
    scene.assert_gaps_below(millis(1000));
    // What it left is swept by the next.
    assert_eq!(left_in_run(&scene.cluster).len(), 1);
    let next = exec(&scene.cluster, &["--wait", "100ms", "--", "true"]).run();
    assert_eq!(next.code, Some(3), "{}", next.errors);
    assert_eq!(left_in_run(&scene.cluster), Vec::<String>::new());
}

#[test]
fn a_term_that_is_lost_stops_the_command_and_it_is_not_run_again() {
    let scene = scene();
    let mut running = exec_recorder(&scene, &["--"]);
    scene.cluster.revoke(scene.first().lease);
    assert_eq!(running.wait_exit(), Some(137));
    let errors = running.errors();
    assert!(
        errors
            .iter()
            .any(|line| line.starts_with("incumbent: the term was lost (")),
        "{errors:?}"
    );
    let history = scene.record.history();
    assert_eq!(history.lives.len(), 1, "{history:?}");
    assert_all_given_back(&scene.cluster);
}

/// Starts a command with this terminal as its own, as a shell's foreground would.
fn on_terminal(command: &Command, terminal: &fs::File) -> std::process::Child {
    let mut typed = Command::new("setsid");
    typed
        .args(["--ctty", "--wait"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => typed.env(name, value),
            None => typed.env_remove(name),
        };
    }
    typed
        .stdin(Stdio::from(terminal.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .stderr(Stdio::from(terminal.try_clone().unwrap()))
        .spawn()
        .unwrap()
}

#[test]
fn on_a_terminal_the_command_reads_what_is_typed_and_ctrl_c_reaches_it() {
    let cluster = Cluster::start(1);
    let (mut keys, theirs) = terminal();
    let seen = cluster.sandbox().join("seen");
    let script = format!(
        "trap 'echo interrupted >>{0}; exit 7' INT; read -r line; echo \"$line\" >>{0}
         while :; do sleep 0.02; done",
        seen.display()
    );
    let typed = exec(&cluster, &["--", "sh", "-c", &script]).into_command();
    let mut running = on_terminal(&typed, &theirs);
    let read = || fs::read_to_string(&seen).unwrap_or_default();
    keys.write_all(b"hello\n").unwrap();
    eventually(SOON, "the line is read", || {
        (read() == "hello\n").then_some(()).ok_or_else(read)
    });
    // Ctrl-Z stops nothing: the lease would not be renewed.
    keys.write_all(&[0x1a]).unwrap();
    throughout(secs(1), "it leads on", || {
        cluster.first(&election(&cluster)).is_some()
    });
    keys.write_all(&[0x03]).unwrap();
    let status = eventually(SOON, "it ends", || running.try_wait().unwrap());
    assert_eq!(status.code(), Some(7));
    assert_eq!(read(), "hello\ninterrupted\n");
    assert_all_given_back(&cluster);
}

/// All of them wait before the slot is claimed, as those that a crontab starts at the same time.
#[test]
fn who_waits_goes_home_at_once_when_the_slot_is_claimed() {
    let cluster = Cluster::start(1);
    let election = election(&cluster);
    let first = exec(&cluster, &["--name", "first", "--", "sleep", "1000"]).follow();
    cluster.wait_names(&election, &["first"]);
    let once_per = |name: &str, command: &[&str]| {
        let words = ["--name", name, "--once-per", "@yearly", "--"];
        exec(&cluster, &[&words, command].concat()).follow()
    };
    let runs = once_per("runs", &["sh", "-c", "echo runs; exec sleep 1000"]);
    cluster.wait_names(&election, &["first", "runs"]);
    let mut waits = once_per("waits", &["echo", "runs"]);
    cluster.wait_names(&election, &["first", "runs", "waits"]);
    process::signal(first.pid(), Signal::TERM);
    runs.wait_lines(1);
    eventually(secs(1), "who waits goes home", || waits.has_ended());
    assert_eq!(waits.wait_exit(), Some(0), "{:?}", waits.errors());
    assert_eq!(waits.lines(), Vec::<String>::new());
    let said = waits.errors().concat();
    assert!(said.contains("has been claimed by runs"), "{said}");
    // Who comes while it goes on does so, too.
    let mut late = once_per("late", &["echo", "runs"]);
    assert_eq!(late.wait_exit(), Some(0), "{:?}", late.errors());
    assert_eq!(late.lines(), Vec::<String>::new());
    assert_eq!(cluster.names(&election), ["runs"]);
    process::signal(runs.pid(), Signal::TERM);
}
