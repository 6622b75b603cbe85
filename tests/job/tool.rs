//! A binary with jobs in Rust is the whole tool, whatever its jobs are called and take.

use std::fs;
use std::path::PathBuf;

use crate::common::*;

/// The file that the daemon of this name reads.
fn file(scene: &Scene, name: &str) -> PathBuf {
    let folder = scene.cluster.sandbox().join(name);
    folder.join("incumbent.toml")
}

#[test]
fn every_command_takes_the_configuration_of_a_rust_job() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", ""));
    let file = file(&scene, "a");
    let file = file.to_str().unwrap();
    let sandbox = scene.cluster.sandbox();
    let asks_with = |tool: &str, typed: &[&str]| {
        let arguments = [typed, &["-c", file]].concat();
        let answer = match tool {
            "incumbent" => sandbox.incumbent(&arguments).run(),
            _ => sandbox.example(tool, &arguments).run(),
        };
        let whole = format!("{tool} {typed:?}: {}", answer.errors);
        assert_eq!(answer.code, Some(0), "{whole}");
    };
    let asks = |typed: &[&str]| {
        asks_with("recording", typed);
        asks_with("incumbent", typed);
    };
    asks(&["status"]);
    for observing in [
        sandbox.example("recording", &["observe", "-c", file]),
        sandbox.incumbent(&["observe", "-c", file]),
    ] {
        let line = &observing.follow().wait_json(1)[0];
        assert_eq!(line["leader"]["name"], "a");
    }
    asks(&["kv", "put", "/written/by-hand", "x"]);
    asks(&["kv", "get", "/written/by-hand"]);
    asks(&["pause", "--keep-leader"]);
    asks(&["resume"]);
    // Each leads to another term.
    for (n, tool) in [(2, "recording"), (3, "incumbent")] {
        asks_with(tool, &["step-down", "--force"]);
        assert!(scene.wait_leads(&a, n, SOON) > token);
    }
    // Those that judge whether the job can run do judge it.
    let answer = sandbox.incumbent(&["check", "-c", file]).run();
    assert_eq!(answer.code, Some(78));
    assert!(answer.errors.contains("job.kind"), "{}", answer.errors);
    let answer = sandbox.example("recording", &["check", "-c", file]).run();
    assert_eq!(answer.code, Some(0), "{}", answer.errors);
}

#[test]
fn a_binary_goes_by_a_name_and_a_version_of_its_own() {
    let sandbox = Sandbox::new();
    let told = |typed: &[&str]| sandbox.example("recording", typed).text();
    assert_eq!(told(&["--version"]), "recording 7.8.9\n");
    assert_eq!(
        told(&["kv", "put", "--version"]),
        "recording-kv-put 7.8.9\n"
    );
    let help = told(&["kv", "put", "--help"]);
    assert!(help.contains("  recording kv put /backup"), "{help}");
    assert!(!help.contains("incumbent kv"), "{help}");
    let scene = Scene::start(1);
    let (a, _) = scene.leader(scene.rust("a", ""));
    let starts = a.wait_log("incumbent starts", SOON);
    assert_eq!(starts.text("app"), "recording");
    assert_eq!(starts.text("app_version"), "7.8.9");
    assert_eq!(starts.text("version"), env!("CARGO_PKG_VERSION"));
    let b = scene.waiter(scene.daemon("b"));
    let starts = b.wait_log("incumbent starts", SOON);
    assert!(starts.get("app").is_none(), "{}", starts.text);
}

#[test]
fn a_command_that_runs_no_job_takes_no_offence_at_one() {
    let scene = Scene::start(1);
    let config = scene.cluster.sandbox().join("odd.toml");
    let endpoints = scene.cluster.endpoints();
    let odd = format!(
        "etcd.endpoints = {endpoints:?}\nelection = {{ prefix = '{PREFIX}', ttl = '2s' }}\n\
         [job]\nkind = 'queue'\nlost_grace = 'long'\nno_such_key = 1\n"
    );
    fs::write(&config, odd).unwrap();
    let config = config.to_str().unwrap();
    let sandbox = scene.cluster.sandbox();
    let answer = sandbox.incumbent(&["kv", "get", "/x", "-c", config]).run();
    assert_eq!((answer.code, answer.errors.as_str()), (Some(0), ""));
    let answer = sandbox.incumbent(&["check", "-c", config]).run();
    for key in ["job.kind", "job.lost_grace", "job.no_such_key"] {
        assert!(answer.errors.contains(key), "{key}: {}", answer.errors);
    }
}

/// A configuration with these settings is refused before anything starts, for this reason.
#[track_caller]
fn is_refused(settings: &str, why: &str) {
    let sandbox = Sandbox::new();
    let config = sandbox.join("refused.toml");
    let text = format!(
        "runtime_dir = '{}'\netcd.endpoints = ['http://127.0.0.1:1']\n\
         [job]\nkind = 'recording'\nsettings = {{ {settings} }}\n",
        sandbox.join("run").display()
    );
    fs::write(&config, text).unwrap();
    for command in ["check", "run"] {
        let arguments = [command, "-c", config.to_str().unwrap()];
        let answer = sandbox.example("recording", &arguments).run();
        assert_eq!(answer.code, Some(78), "{command}: {}", answer.errors);
        for place in ["refused.toml:5:", ": job.settings: "] {
            assert!(answer.errors.contains(place), "{}", answer.errors);
        }
        assert!(answer.errors.contains(why), "{}", answer.errors);
    }
}

#[test]
fn settings_that_the_job_refuses_are_a_problem_of_the_configuration() {
    is_refused("fil = 'x'", "unknown field `fil`");
    is_refused("not_made = 'error'", "it can't be made");
    is_refused("not_made = 'panic'", "panicked: it can't be made");
}

#[test]
fn a_reload_with_settings_that_the_job_refuses_changes_nothing() {
    let scene = Scene::start(1);
    let (a, token) = scene.leader(scene.rust("a", ""));
    a.reload("job.settings = { fil = 'x' }");
    let refused = a.wait_log("reload refused", SOON);
    assert!(refused.text("problem").contains("unknown field `fil`"));
    scene.still_leads(&a, token).unwrap();
}

#[test]
fn what_a_job_needs_once_is_prepared_by_run_alone() {
    let scene = Scene::start(1);
    let prepared = scene.cluster.sandbox().join("prepared");
    let settings = format!("{}, ends_after = 300", "leaves = 'nothing'");
    let builder = scene.rust("a", &settings);
    let builder = builder.toml("job = { restart_delay = '50ms', restart_delay_max = '500ms' }");
    let builder = builder.env("RECORDING_PREPARES", prepared.to_str().unwrap());
    let (a, token) = scene.leader(builder);
    eventually(SOON, "it ran three times", || {
        scene.record.history().runs_of(token).count() >= 3
    });
    let file = file(&scene, "a");
    let arguments = ["status", "-c", file.to_str().unwrap()];
    let status = scene.cluster.sandbox().example("recording", &arguments);
    let status = status.env("RECORDING_PREPARES", prepared.to_str().unwrap());
    assert_eq!(status.run().code, Some(0));
    let sleeper = fs::read_to_string(&prepared).unwrap();
    let lines: Vec<_> = sleeper.lines().collect();
    assert_eq!(lines.len(), 1, "prepared once: {sleeper}");
    // It came of no run, so it ends with none.
    let sleeper = lines[0].parse().unwrap();
    assert!(process::is_alive(sleeper));
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    process::signal(sleeper, rustix::process::Signal::KILL);
}

#[test]
fn a_failed_preparation_starts_nothing() {
    let scene = Scene::start(1);
    let nowhere = scene.cluster.sandbox().join("no/such/folder");
    let builder = scene.rust("a", "");
    let a = builder
        .env("RECORDING_PREPARES", nowhere.to_str().unwrap())
        .spawn();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(1));
    assert!(a.lines("incumbent starts").is_empty());
}

#[test]
fn a_layer_of_the_binary_hears_what_the_job_logs_and_nothing_of_the_daemon() {
    let scene = Scene::start(1);
    let heard = scene.cluster.sandbox().join("heard");
    let builder = scene.rust("a", "says = 'recording'");
    let builder = builder.env("RECORDING_HEARS", heard.to_str().unwrap());
    let (a, _) = scene.leader(builder);
    eventually(SOON, "the layer hears the job", || {
        let heard = fs::read_to_string(&heard).unwrap_or_default();
        let is_heard = heard.lines().any(|line| line == "recording");
        is_heard.then_some(()).ok_or(heard)
    });
    // So does the log, as ever.
    a.wait_log("recording", SOON);
    a.sigterm();
    assert_eq!(a.wait_exit(STOPPED).code(), Some(0));
    let heard = fs::read_to_string(&heard).unwrap();
    for line in ["elected", "job started", "resigned"] {
        assert!(!a.lines(line).is_empty(), "{line}");
        assert!(!heard.lines().any(|heard| heard == line), "{heard}");
    }
}
