//! The command line without a store: help, usage, and the exit codes of a bad configuration.

use crate::common::*;

#[test]
fn every_command_shows_an_example() {
    let sandbox = Sandbox::new();
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["exec", "--help"],
        &["status", "--help"],
        &["observe", "--help"],
        &["step-down", "--help"],
        &["pause", "--help"],
        &["resume", "--help"],
        &["check", "--help"],
        &["release", "--help"],
        &["kv", "--help"],
        &["kv", "get", "--help"],
        &["kv", "put", "--help"],
        &["kv", "del", "--help"],
        &["kv", "watch", "--help"],
    ] {
        let help = sandbox.incumbent(words).text();
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains("incumbent "), "{help}");
        let takes_a_config = !["--help", "kv"].contains(&words[0]) || words.len() > 2;
        for flag in ["--config <FILE>", "--endpoints <URL", "--election <PREFIX>"] {
            assert_eq!(help.contains(flag), takes_a_config, "{words:?}: {help}");
        }
    }
    let version = sandbox.incumbent(&["--version"]).text();
    assert_eq!(
        version,
        format!("incumbent {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn config_schema_prints_the_shipped_file_whatever_is_configured() {
    let sandbox = Sandbox::new();
    let asked = sandbox.incumbent(&["config-schema"]);
    let printed = asked.env("INCUMBENT_CONFIG", "/nowhere").text();
    assert_eq!(printed, include_str!("../../config/incumbent.schema.json"));
}

#[test]
fn wrong_usage_is_2() {
    let sandbox = Sandbox::new();
    for words in [
        &[][..],
        &["bogus"],
        &["run", "sleep"],
        &["status", "-o", "yaml"],
        &["status", "--timeout", "0s"],
        &["observe", "--prefix", "/e"],
    ] {
        let answer = sandbox.incumbent(words).run();
        assert_eq!(answer.code, Some(2), "{words:?}: {}", answer.errors);
        assert!(answer.errors.contains("--help"), "{}", answer.errors);
    }
}

#[test]
fn a_named_file_that_is_missing_is_78() {
    let sandbox = Sandbox::new();
    for command in ["run", "exec", "status", "observe", "check"] {
        let job: &[&str] = if command == "exec" {
            &["--", "true"]
        } else {
            &[]
        };
        let named = [&[command, "-c", "/no/such.toml"], job].concat();
        let flag = sandbox.incumbent(&named).run();
        let variable = sandbox
            .incumbent(&[&[command], job].concat())
            .env("INCUMBENT_CONFIG", "/no/such.toml");
        for answer in [flag, variable.run()] {
            assert_eq!(answer.code, Some(78), "{command}: {}", answer.errors);
            assert!(
                answer.errors.starts_with("incumbent: /no/such.toml: "),
                "{}",
                answer.errors
            );
            assert_eq!(answer.output, b"");
        }
    }
}

#[test]
fn run_names_the_flags_whose_values_are_wrong() {
    let sandbox = Sandbox::new();
    let flags = [
        "--name",
        "",
        "--election",
        "/a.meta",
        "--endpoints",
        "10.0.0.7",
    ];
    let typed = [&["run"], &flags[..], &["--", "sleep", "1"]].concat();
    let answer = sandbox.incumbent(&typed).run();
    assert_eq!(answer.code, Some(78), "{}", answer.errors);
    for said in [
        "incumbent: --name: candidate.name: ",
        "incumbent: --election: election.prefix: ",
        "incumbent: --endpoints: etcd.endpoints[0]: expected a URL",
        "incumbent: 3 problems in the configuration; nothing was started",
    ] {
        assert!(answer.errors.contains(said), "{said}: {}", answer.errors);
    }
    let without_a_job = sandbox.incumbent(&["run"]).run();
    assert_eq!(without_a_job.code, Some(78), "{}", without_a_job.errors);
    assert!(
        without_a_job.errors.contains("job.command"),
        "{}",
        without_a_job.errors
    );
}

#[test]
fn check_starts_nothing_and_says_what_follows() {
    let sandbox = Sandbox::new();
    let file = sandbox.join("incumbent.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let named = ["check", "-c", file.to_str().unwrap()];
        sandbox.incumbent(&named).run()
    };
    let good = check("[job]\ncommand = ['sleep', '1']\n");
    assert_eq!(good.code, Some(0), "{}", good.errors);
    assert!(
        good.text().starts_with("configuration ok: "),
        "{}",
        good.text()
    );
    assert!(!good.text().contains("warning"), "{}", good.text());
    let without_a_job = check("");
    assert_eq!(without_a_job.code, Some(0), "{}", without_a_job.errors);
    assert!(without_a_job.text().contains("warning: job.command: "));
    let bad = check("[job]\ncomand = ['sleep', '1']\n");
    assert_eq!(bad.code, Some(78));
    assert!(bad.errors.contains(":2:1: job.comand: "), "{}", bad.errors);
}

#[test]
fn release_typed_by_hand_touches_nothing() {
    let sandbox = Sandbox::new();
    let answer = sandbox.incumbent(&["release"]).run();
    assert_eq!(answer.code, Some(3), "{}", answer.errors);
}
