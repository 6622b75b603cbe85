//! What must hold between keys, and what is only warned of.

use super::*;

#[test]
fn a_ttl_too_short_for_its_graces_is_told_what_passes() {
    assert_fault(
        "[job]\nlost_grace = \"2s\"\n[election]\nttl = \"3s\"\n",
        "a.toml:4:7: election.ttl: expected room for lost_grace 2s + kill_budget 600ms + 1761ms in \
         which to renew, found a ttl of 3s; raise election.ttl to 7s, or lower job.lost_grace to \
         600ms",
    );
    assert_fault(
        "[job]\nlost_grace = \"20s\"\n",
        "a.toml:2:14: job.lost_grace: expected room for lost_grace 20s + kill_budget 1s + 6315ms in \
         which to renew, found a ttl of 15s; raise election.ttl to 31s, or lower job.lost_grace to \
         7600ms",
    );
    assert_eq!(
        printed(&with_env("INCUMBENT__ELECTION__TTL", "2s")),
        "incumbent: INCUMBENT__ELECTION__TTL: election.ttl: expected room for lost_grace 400ms + \
         kill_budget 400ms + 1274ms in which to renew, found a ttl of 2s; raise election.ttl to \
         3s, or lower job.lost_grace to 320ms, or lower job.kill_budget to 320ms\n\
         incumbent: 1 problem in the configuration; nothing was started"
    );
    let smallest = Fixture::new("[election]\nttl = \"2s\"\n[job]\nlost_grace = \"0s\"\n");
    assert!(smallest.load().is_ok());
}

#[test]
fn a_takeover_delay_covers_the_kill_budget() {
    assert_fault(
        "[election]\ntakeover_delay = \"1199ms\"\n",
        "a.toml:2:18: election.takeover_delay: expected at least 1200ms, which is kill_budget 1s + \
         200ms, found 1199ms",
    );
    let least = Fixture::new("[election]\ntakeover_delay = \"1200ms\"\n").config();
    assert_eq!(least.election.takeover_delay, Duration::from_millis(1200));
    let default = Fixture::new("[job]\nkill_budget = \"3s\"\n").config();
    assert_eq!(default.election.takeover_delay, Duration::from_millis(3500));
}

#[test]
fn what_belongs_together_stands_together() {
    for (text, fault) in [
        (
            "[etcd]\nusername = \"u\"\n",
            "a.toml:2:12: etcd.username: expected etcd.password_file beside it, found none",
        ),
        (
            "[etcd]\npassword_file = \"a.toml\"\n",
            "a.toml:2:17: etcd.password_file: expected etcd.username beside it, found none",
        ),
        (
            "[etcd]\nendpoints = [\"https://a:1\"]\ntls = { ca_file = \"a.toml\", cert_file = \"a.toml\" }\n",
            "a.toml:3:41: etcd.tls.cert_file: expected etcd.tls.key_file beside it, found none",
        ),
        (
            "[etcd]\nendpoints = [\"https://a:1\"]\ntls = { ca_file = \"a.toml\", key_file = \"a.toml\" }\n",
            "a.toml:3:40: etcd.tls.key_file: expected etcd.tls.cert_file beside it, found none",
        ),
        (
            "[etcd]\nendpoints = [\"https://a:1\"]\n",
            "a.toml:2:13: etcd.endpoints: expected etcd.tls.ca_file beside https, found none",
        ),
        (
            "[etcd]\ntls.ca_file = \"a.toml\"\n",
            "a.toml:2:15: etcd.tls.ca_file: expected etcd.endpoints with https, found none but http",
        ),
        (
            "[job]\nrestart_delay = \"2m\"\n",
            "a.toml:2:17: job.restart_delay: expected at most job.restart_delay_max 1m, found 2m",
        ),
        (
            "[job]\nrestart_delay_max = \"10ms\"\n",
            "a.toml:2:21: job.restart_delay_max: expected at least job.restart_delay 1s, found 10ms",
        ),
    ] {
        assert_fault(text, fault);
    }
}

#[test]
fn only_a_daemon_needs_a_job() {
    let mut fixture = Fixture::new("");
    assert!(fixture.load().is_ok());
    fixture.source.needs_job = true;
    let what = "job.command: expected a command to run, such as [\"/usr/bin/backup\", \"--full\"] here \
                or \"incumbent run -- /usr/bin/backup --full\", found none";
    assert_eq!(fixture.faults(), [format!("a.toml: {what}")]);
    let mut source = Source {
        needs_job: true,
        ..defaults()
    };
    assert!(printed(&source).starts_with(&format!("incumbent: {what}\n")));
    source.flags = vec![Flag::list(
        "job.command",
        "COMMAND",
        vec!["sleep".into(), "1".into()],
    )];
    assert_eq!(load(&source).unwrap().config.job.command, ["sleep", "1"]);
    source.flags.clear();
    source.job_kinds = vec!["reindex".into()];
    source.env = vec![("INCUMBENT__JOB__KIND".into(), "reindex".into())];
    assert_eq!(load(&source).unwrap().config.job.kind, "reindex");
}

#[test]
fn kinds_of_jobs_are_those_registered() {
    let mut fixture = Fixture::new("[job]\nkind = \"reindx\"\n");
    fixture.source.job_kinds = vec!["reindex".into(), "vacuum".into()];
    assert_eq!(
        fixture.faults(),
        ["a.toml:2:8: job.kind: expected \"command\", \"reindex\" or \"vacuum\", found \"reindx\""]
    );
}

#[test]
fn warnings_say_what_has_no_effect() {
    let fixture = Fixture::new(
        "[http]\nlisten = \"127.0.0.1:9180\"\n[job.settings]\na = 1\n[etcd]\nendpoints = [\"http://a:1\", \"https://b:1\"]\ntls.ca_file = \"a.toml\"\n",
    );
    let loaded = fixture.load().unwrap();
    let file = fixture.path("a.toml");
    let file = file.display();
    assert_eq!(
        loaded.warnings,
        [
            format!(
                "{file}:4:5: job.settings: has no effect: a command gets job.env and its arguments"
            ),
            format!("{file}:6:13: etcd.endpoints: some members are reached without TLS"),
        ]
    );
    assert_eq!(
        loaded.config.http_listen,
        Some("127.0.0.1:9180".parse().unwrap())
    );
    assert!(
        Fixture::new("[http]\nlisten = \"off\"\n")
            .load()
            .unwrap()
            .warnings
            .is_empty()
    );
    let mut rust =
        Fixture::new("[job]\nkind = \"reindex\"\ncommand = [\"x\"]\n[job.settings]\na = 1\n");
    rust.source.job_kinds = vec!["reindex".into()];
    let warnings = rust.load().unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].ends_with("job.command: has no effect: job.kind names a job written in Rust")
    );
}

#[test]
fn a_check_has_its_defaults_and_its_layers() {
    let fixture = Fixture::new("[candidate]\ncheck = { command = [\"x\", \"y\"], fall = 1 }\n");
    let check = fixture.config().check.unwrap();
    assert_eq!(check.command, ["x", "y"]);
    assert_eq!(check.interval, Duration::from_secs(5));
    assert_eq!(check.timeout, Duration::from_secs(2));
    assert_eq!((check.rise, check.fall), (2, 1));
    let layered = fixture
        .env("INCUMBENT__CANDIDATE__CHECK__COMMAND", "[\"z\"]")
        .env("INCUMBENT__CANDIDATE__CHECK__RISE", "4");
    let check = layered.config().check.unwrap();
    assert_eq!((check.command, check.rise), (vec!["z".to_owned()], 4));
    assert_eq!(Fixture::new("").config().check, None);
}

#[test]
fn faults_of_a_check_are_named() {
    for (text, fault) in [
        (
            "[candidate.check]\ncommand = \"x\"\n",
            "a.toml:2:11: candidate.check.command: expected a list of text such as [\"/usr/bin/pg_isready\", \"--quiet\"], found text",
        ),
        (
            "[candidate.check]\nrise = 0\n",
            "a.toml:2:8: candidate.check.rise: expected a whole number from 1 on, such as 2, found 0",
        ),
        (
            "[candidate.check]\ntimout = \"1s\"\n",
            "a.toml:2:1: candidate.check.timout: unknown key; did you mean candidate.check.timeout?",
        ),
    ] {
        assert_fault(text, fault);
    }
}

#[test]
fn settings_of_a_check_without_a_command_draw_a_warning() {
    let fixture = Fixture::new("[candidate.check]\nfall = 5\nrise = 2\n");
    let file = fixture.path("a.toml");
    let warning = "candidate.check.fall: has no effect without candidate.check.command";
    assert_eq!(
        fixture.load().unwrap().warnings,
        [format!("{}:2:8: {warning}", file.display())]
    );
}

#[test]
fn hooks_have_their_limits_and_their_layers() {
    let fixture = Fixture::new("[hooks]\non_lost = [\"z\"]\n");
    let hooks = fixture.config().hooks;
    assert_eq!(hooks.on_elected, None);
    let hook = hooks.on_lost.unwrap();
    assert_eq!(hook.command, ["z"]);
    assert_eq!(hook.limit, Duration::from_secs(10));
    let layered = fixture.env("INCUMBENT__HOOKS__ON_LOST_TIMEOUT", "3s");
    let limit = layered.config().hooks.on_lost.unwrap().limit;
    assert_eq!(limit, Duration::from_secs(3));
    assert_fault(
        "[hooks]\non_elect = [\"x\"]\n",
        "a.toml:2:1: hooks.on_elect: unknown key; did you mean hooks.on_elected?",
    );
}

#[test]
fn a_limit_of_no_hook_draws_a_warning() {
    let fixture = Fixture::new("[hooks]\non_lost_timeout = \"1s\"\n");
    let file = fixture.path("a.toml");
    let warning = "hooks.on_lost_timeout: has no effect without hooks.on_lost";
    assert_eq!(
        fixture.load().unwrap().warnings,
        [format!("{}:2:19: {warning}", file.display())]
    );
}
