//! What is made of a configuration: the report, a reload, the job's environment.

use super::*;

#[test]
fn check_reports_what_was_loaded_and_what_it_comes_to() {
    let fixture = Fixture::new("[election]\nttl = \"4s\"\n[etcd]\nendpoints = [\"http://a:1\"]\n[job]\ncommand = [\"x\"]\nstop_signal = \"INT\"\n")
        .env("INCUMBENT__LOG__FORMAT", "json");
    let report = fixture.report(wall::now());
    let report = report.replace(&format!("{}/", fixture.dir.path().display()), "");
    assert_eq!(
        report,
        "configuration ok: built-in defaults, a.toml, 1 variable\n\
         \x20 etcd.endpoints = [\"http://a:1\"]  (a.toml:4:13)\n\
         \x20 election.ttl = \"4s\"  (a.toml:2:7)\n\
         \x20 job.command = …  (a.toml:6:11)\n\
         \x20 job.stop_signal = \"SIGINT\"  (a.toml:7:15)\n\
         \x20 log.format = \"json\"  (INCUMBENT__LOG__FORMAT)\n\
         times of a term, from the sending of its last proven renewal:\n\
         \x20    800ms  is renewed again, each attempt within 571ms\n\
         \x20   2196ms  the job is asked to stop (lost_grace 800ms)\n\
         \x20   2996ms  the job is killed (kill_budget 800ms)\n\
         \x20   3796ms  deadline: the job is dead\n\
         \x20       4s  etcd ends the lease (ttl)\n\
         takeover_delay 1300ms; the smallest ttl for these graces is 4s\n\
         warning: election.ttl: 4s may cost the term when a follower of etcd hangs; from 5s on it doesn't\n\
         warning: election.ttl: 4s may cost the term when the leader of etcd hangs; from 15s on it doesn't\n"
    );
}

#[test]
fn a_reload_changes_all_or_nothing() {
    let old = JobConfigs::single(Fixture::new("").config());
    let new = Fixture::new(
        "[job]\nkill_budget = \"2s\"\n[log]\nformat = \"json\"\n[etcd]\nendpoints = [\"http://b:1\"]\n",
    )
    .config();
    let reloaded = reload(&old, JobConfigs::single(new)).unwrap();
    let reloaded = reloaded.shared();
    assert_eq!(reloaded.etcd.endpoints, ["http://b:1"]);
    assert_eq!(
        reloaded.election.takeover_delay,
        Duration::from_millis(2500)
    );

    let new = Fixture::new(
        "runtime_dir = \"/x\"\n[candidate]\nname = \"b\"\n[election]\nprefix = \"/b\"\nttl = \"20s\"\ntakeover_delay = \"2s\"\n[log]\nformat = \"json\"\n",
    )
    .config();
    assert_eq!(
        reload(&old, JobConfigs::single(new)).expect_err("refused"),
        [
            "candidate.name can't change while the daemon runs: it is \"host-a\", and was to become \"b\"",
            "election.prefix can't change while the daemon runs: it is \"/incumbent/default\", and was to become \"/b\"",
            "runtime_dir can't change while the daemon runs: it is \"/run/incumbent\", and was to become \"/x\"",
            "election.ttl can't change while the daemon runs: it is 15s, and was to become 20s",
            "election.takeover_delay can't change while the daemon runs: it is 1500ms, and was to become 2s",
        ]
    );
}

#[test]
fn the_environment_of_a_job_leads_to_the_same_store_and_election() {
    let fixture = Fixture::new(
        "[candidate]\nname = \"b\"\n[etcd]\nendpoints = [\"https://a:1\", \"https://b:1\"]\nconnect_timeout = \"1500ms\"\nusername = \"u\"\npassword_file = \"a.toml\"\n\
         tls = { ca_file = \"a.toml\", cert_file = \"a.toml\", key_file = \"a.toml\", server_name = \"n\" }\n\
         [election]\nprefix = \"/b\"\nttl = \"2s\"\ntakeover_delay = \"300ms\"\n[job]\nlost_grace = \"0s\"\nkill_budget = \"100ms\"\n[job.env]\nSECRET = \"hunter2\"\n",
    );
    let config = fixture.config();
    let env = config.to_env();
    assert!(!format!("{env:?}").contains("hunter2"));
    let source = Source {
        env,
        ..Source::defaults("other")
    };
    let inner = load(&source)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    assert_eq!(format!("{:?}", inner.etcd), format!("{:?}", config.etcd));
    assert_eq!(
        format!("{:?}", inner.election),
        format!("{:?}", config.election)
    );
    assert_eq!(inner.candidate_name, "b");
    assert_eq!(inner.timing(), config.timing());
}

#[test]
fn places_are_typed() {
    let loaded = load(&with_env("INCUMBENT__LOG__FORMAT", "json")).unwrap();
    let place = Place::Variable("INCUMBENT__LOG__FORMAT".into());
    assert_eq!(loaded.set[0].place, place);
    assert!(KEYS.iter().any(|key| key.kind == Kind::Span(SpanKind::Ttl)));
}
