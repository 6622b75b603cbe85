//! Several jobs in one configuration.

use super::*;

pub(super) const TWO: &str = r#"
[election]
prefix = "/jobs"
[hooks]
on_lost = ["all"]
[jobs.backup]
command = ["backup"]
ttl = "9s"
schedule = { cron = "30 3 * * *", timezone = "Europe/Berlin" }
[jobs.backup.check]
command = ["may-backup"]
[jobs.index-all]
command = ["index"]
takeover_delay = "3s"
[jobs.index-all.hooks]
on_elected = ["own"]
"#;

fn jobs(fixture: &Fixture) -> JobConfigs {
    let loaded = fixture.load_jobs();
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .configs
}

fn job<'a>(configs: &'a JobConfigs, name: &str) -> &'a Config {
    configs.get(JobName::new(name).as_ref()).expect(name)
}

#[test]
fn each_is_a_configuration_of_its_own() {
    let configs = jobs(&Fixture::new(TWO));
    assert_eq!(configs.names().as_deref(), Some("backup,index-all"));
    assert_eq!(configs.election(), "/jobs");
    let (backup, index) = (job(&configs, "backup"), job(&configs, "index-all"));
    assert_eq!(backup.election.prefix.as_str(), "/jobs/backup");
    assert_eq!(index.election.prefix.as_str(), "/jobs/index-all");
    assert_eq!(backup.root(), "/jobs");
    assert_eq!(backup.job.command, ["backup"]);
    assert_eq!(backup.election.ttl, Duration::from_secs(9));
    assert_eq!(index.election.ttl, Duration::from_secs(15));
    assert_eq!(index.election.takeover_delay, Duration::from_secs(3));
    let schedule = &backup.scheduling.as_ref().unwrap().schedule;
    assert_eq!(schedule.timezone(), "Europe/Berlin");
    assert!(index.scheduling.is_none());
    assert_eq!(backup.check.as_ref().unwrap().command, ["may-backup"]);
    assert!(index.check.is_none());
    // What stands outside of the jobs is every one's that has no other.
    assert_eq!(backup.hooks.on_elected, None);
    assert_eq!(index.hooks.on_elected.as_ref().unwrap().command, ["own"]);
    for one in [backup, index] {
        assert_eq!(one.hooks.on_lost.as_ref().unwrap().command, ["all"]);
    }
}

#[test]
fn a_command_is_about_the_one_that_is_named() {
    let mut fixture = Fixture::new(TWO);
    assert_eq!(
        fixture.faults(),
        ["--job: expected one of backup, index-all, or an election by --election, found none"]
    );
    fixture.source.job = Some("index-all".to_owned());
    assert_eq!(fixture.config().election.prefix.as_str(), "/jobs/index-all");
    fixture.source.job = Some("index".to_owned());
    assert_eq!(
        fixture.faults(),
        ["--job: expected backup or index-all, found \"index\""]
    );
    // An election may be any.
    fixture.source.job = None;
    let fixture = fixture.flag("election.prefix", "--election", "/other");
    assert_eq!(fixture.config().election.prefix.as_str(), "/other");

    let mut one = Fixture::new("[jobs.a]\ncommand = [\"x\"]\n");
    assert_eq!(
        one.config().election.prefix.as_str(),
        "/incumbent/default/a"
    );
    one = Fixture::new("[job]\ncommand = [\"x\"]\n");
    one.source.job = Some("a".to_owned());
    assert_eq!(
        one.faults(),
        ["--job: expected no name, since the configuration has none, found \"a\""]
    );
}

#[test]
fn one_that_is_wrong_is_no_fault_of_another() {
    let mut fixture = Fixture::new("[jobs.a]\nttl = \"1ms\"\n[jobs.b]\ncommand = [\"x\"]\n");
    fixture.source.job = Some("b".to_owned());
    assert_eq!(fixture.config().job.command, ["x"]);
    assert!(fixture.load_jobs().is_err());
}

#[test]
fn layers_merge_by_the_names() {
    let fixture = Fixture::new(TWO)
        .env("INCUMBENT__JOBS__BACKUP__TIMEOUT", "1h")
        .env("INCUMBENT__JOBS__INDEX_ALL__ENV__LANG", "C")
        .env("INCUMBENT__JOBS__BACKUP__CHECK__INTERVAL", "7s")
        .env("INCUMBENT__JOBS__BACKUP__SCHEDULE__JITTER", "2s")
        .env("INCUMBENT__JOBS__THIRD__COMMAND", "[\"third\"]");
    let configs = jobs(&fixture);
    assert_eq!(configs.names().as_deref(), Some("backup,index-all,third"));
    let backup = job(&configs, "backup");
    assert_eq!(backup.run_timeout, Some(Duration::from_hours(1)));
    assert_eq!(
        backup.check.as_ref().unwrap().interval,
        Duration::from_secs(7)
    );
    let policy = &backup.scheduling.as_ref().unwrap().policy;
    assert_eq!(policy.jitter, Duration::from_secs(2));
    assert_eq!(job(&configs, "index-all").job.env["LANG"], "C");
    assert_eq!(job(&configs, "third").job.command, ["third"]);
}

/// What is wrong with all jobs of the file.
fn faults(text: &str) -> Vec<String> {
    let fixture = Fixture::new(text);
    let source = Source {
        needs_job: true,
        ..fixture.source.clone()
    };
    let printed = load_jobs(&source).expect_err("a fault").to_string();
    let printed = printed.replace(&format!("{}/", fixture.dir.path().display()), "");
    let lines = printed
        .lines()
        .filter_map(|line| line.strip_prefix("incumbent: "));
    let mut lines: Vec<_> = lines.map(ToOwned::to_owned).collect();
    lines.pop();
    lines
}

#[test]
fn faults_name_the_keys_as_they_are_written() {
    assert_eq!(
        faults("[jobs.a]\ncomand = [\"x\"]\n"),
        [
            "a.toml: jobs.a.command: expected a command to run, such as [\"/usr/bin/backup\", \"--full\"], found none",
            "a.toml:2:1: jobs.a.comand: unknown key; did you mean jobs.a.command?",
        ]
    );
    assert_eq!(
        faults(
            "[jobs.a]\ncommand = [\"x\"]\nttl = 5\nstop_grace = \"x\"\n[jobs.a.check]\ncommand = []\n"
        ),
        [
            "a.toml:3:7: jobs.a.ttl: expected whole seconds from 2s on, such as \"15s\", found 5, which has no unit",
            "a.toml:4:14: jobs.a.stop_grace: expected a duration such as \"30s\", found \"x\"",
            "a.toml:6:11: jobs.a.check.command: expected a list of text such as [\"/usr/bin/pg_isready\", \"--quiet\"], found an empty one",
        ]
    );
    assert_eq!(
        faults(
            "[jobs.a]\ncommand = [\"x\"]\n[jobs.a.schedule]\ncron = \"@daily\"\nevery = \"5m\"\n"
        ),
        [
            "a.toml:5:9: jobs.a.schedule.every: expected jobs.a.schedule.cron or jobs.a.schedule.every, found both"
        ]
    );
    // What they have in common is wrong once.
    assert_eq!(
        faults(
            "[etcd]\nendpoints = [\"https://a:1\"]\n[jobs.a]\ncommand = [\"x\"]\n[jobs.b]\ncommand = [\"x\"]\n"
        ),
        ["a.toml:2:13: etcd.endpoints: expected etcd.tls.ca_file beside https, found none"]
    );
}

#[test]
fn names_are_short_and_plain() {
    let long = "a".repeat(64);
    for good in ["a", "0-_", long.as_str()] {
        jobs(&Fixture::new(format!("[jobs.{good}]\ncommand = [\"x\"]\n")));
    }
    for bad in ["A", "a.b", "", "a/b", "é", &"a".repeat(65)] {
        let found = faults(&format!("[jobs.\"{bad}\"]\ncommand = [\"x\"]\n"));
        let expected = "jobs: expected a name of 1 to 64 of a-z, 0-9, - and _, found";
        assert!(
            found.iter().any(|fault| fault.contains(expected)),
            "{bad}: {found:?}"
        );
    }
    assert_eq!(
        faults("[jobs]\na = 5\n"),
        ["a.toml:2:5: jobs.a: expected a section [jobs.a] with keys of its own, found a value"]
    );
}

#[test]
fn a_job_without_a_name_has_no_place_beside_them() {
    assert_eq!(
        faults("[job]\ncommand = [\"x\"]\n[jobs.a]\ncommand = [\"x\"]\n"),
        ["a.toml:2:11: job.command: expected [job] or [jobs.NAME], found both"]
    );
    // The shipped file says of some what holds anyway.
    jobs(&Fixture::new(
        "[job]\nstop_grace = \"30s\"\n[jobs.a]\ncommand = [\"x\"]\n",
    ));
    let many = (0..101).map(|it| format!("[jobs.a{it}]\ncommand = [\"x\"]\n"));
    let many = many.collect::<Vec<_>>().concat();
    assert_eq!(
        faults(&many),
        ["a.toml: jobs: expected at most 100 jobs, found 101"]
    );
}

#[test]
fn jobs_come_and_go_with_a_reload_and_keep_what_a_term_stands_on() {
    let old = jobs(&Fixture::new(TWO));
    let new = "[election]\nprefix = \"/jobs\"\n[jobs.index-all]\ncommand = [\"other\"]\ntakeover_delay = \"3s\"\n[jobs.new]\ncommand = [\"x\"]\nttl = \"30s\"\n";
    let reloaded = reload(&old, jobs(&Fixture::new(new))).unwrap();
    assert_eq!(reloaded.names().as_deref(), Some("index-all,new"));
    let changed = TWO.replace("9s", "10s").replace("\"/jobs\"", "\"/other\"");
    assert_eq!(
        reload(&old, jobs(&Fixture::new(changed))).expect_err("refused"),
        [
            "election.prefix can't change while the daemon runs: it is \"/jobs\", and was to become \"/other\"",
            "jobs.backup: election.ttl can't change while the daemon runs: it is 9s, and was to become 10s",
        ]
    );
    // What all of them would have to keep is said once.
    let alike = "[election]\nprefix = \"/jobs\"\nttl = \"9s\"\n[jobs.a]\ncommand = [\"x\"]\n[jobs.b]\ncommand = [\"x\"]\n";
    let changed = alike.replace("9s", "10s");
    let alike = jobs(&Fixture::new(alike));
    assert_eq!(
        reload(&alike, jobs(&Fixture::new(changed))).expect_err("refused"),
        ["election.ttl can't change while the daemon runs: it is 9s, and was to become 10s"]
    );
    let single = JobConfigs::single(Fixture::new("[job]\ncommand = [\"x\"]\n").config());
    assert_eq!(
        reload(&old, single).expect_err("refused"),
        [
            "[job] and [jobs.NAME] can't take each other's place while the daemon runs: it runs the jobs backup,index-all"
        ]
    );
}

#[test]
fn the_report_says_once_what_is_of_all_and_whose_the_rest_is() {
    let report = Fixture::new(TWO).report("2027-03-27T12:00:00Z".parse().unwrap());
    assert!(
        report.contains("jobs.backup.command = [\"…\"]")
            || report.contains("jobs.backup.command = …"),
        "{report}"
    );
    assert!(report.contains("\nbackup: times of a term"), "{report}");
    assert!(report.contains("\nindex-all: times of a term"), "{report}");
    assert!(
        report.contains("\nbackup runs at 03:30 every day, Europe/Berlin; the next:\n"),
        "{report}"
    );
    let alike = TWO
        .replace("ttl = \"9s\"\n", "")
        .replace("takeover_delay = \"3s\"\n", "");
    let report = Fixture::new(alike).report(wall::now());
    assert_eq!(report.matches("times of a term").count(), 1, "{report}");
}
