//! Faults of syntax, unknown keys, and secrets that stay secret.

use super::*;

#[test]
fn unknown_keys_and_sections_name_the_nearest() {
    for (text, fault) in [
        (
            "[election]\ntll = 5\n",
            "a.toml:2:1: election.tll: unknown key; did you mean election.ttl?",
        ),
        (
            "ttl = 5\n",
            "a.toml:1:1: ttl: unknown key; did you mean election.ttl?",
        ),
        (
            "[electoin]\nttl = 5\n",
            "a.toml:1:2: electoin: unknown section; did you mean election?",
        ),
        (
            "[job]\nruntime_dir = \"/x\"\n",
            "a.toml:2:1: job.runtime_dir: unknown key; did you mean runtime_dir?",
        ),
        (
            "[etcd]\npassword = \"hunter2\"\n",
            "a.toml:2:1: etcd.password: unknown key; did you mean etcd.password_file?",
        ),
        (
            "[etcd.tsl]\nca_file = \"x\"\n",
            "a.toml:1:7: etcd.tsl: unknown section; did you mean etcd.tls?",
        ),
        (
            "\"election.ttl\" = \"5s\"\n",
            "a.toml:1:1: \"election.ttl\": unknown key; did you mean election.ttl?",
        ),
        (
            "[log]\n\"a\\nb\" = 1\n",
            "a.toml:2:1: log.\"a\\nb\": unknown key; did you mean log.filter?",
        ),
        (
            "etcd = 5\n",
            "a.toml:1:8: etcd: expected a section [etcd] with keys of its own, found a value",
        ),
        (
            "[[http]]\nlisten = \"off\"\n",
            "a.toml:1:1: http: expected a section [http] with keys of its own, found a list",
        ),
    ] {
        assert_fault(text, fault);
    }
}

#[test]
fn faults_of_syntax() {
    for (text, fault) in [
        (
            "[election]\nttl = 15s\n",
            "a.toml:2:7: election.ttl: expected text in quotes, a number or a list, found text without quotes",
        ),
        (
            "[election]\nttl = \n",
            "a.toml:2:7: election.ttl: expected a value, found none",
        ),
        (
            "[election]\nttl = \"5s\"\nttl = \"6s\"\n",
            "a.toml:3:1: election.ttl: expected each key once, found it again",
        ),
        (
            "[log]\n[log]\n",
            "a.toml:2:2: log: expected each key once, found it again",
        ),
        (
            "[log\n",
            "a.toml:1:5: not valid TOML: unclosed table, expected `]`",
        ),
        (
            "[log]\nfilter\n",
            "a.toml:2:7: not valid TOML: key with no value, expected `=`",
        ),
        (
            "[log]\nfilter = \"info\n",
            "a.toml:2:15: log.filter: not valid TOML: invalid basic string, expected `\"`",
        ),
    ] {
        assert_fault(text, fault);
    }
}

#[test]
fn several_faults_of_syntax_and_others_beside_them() {
    assert_eq!(
        Fixture::new("[log]\nformat = text\nlevel = 5\n[job]\ncommand = [\"a\"\n").faults(),
        [
            "a.toml:2:10: log.format: expected text in quotes, a number or a list, found text without quotes",
            "a.toml:3:1: log.level: unknown key; did you mean log.filter?",
            "a.toml:5:15: job.command: not valid TOML: unclosed array, expected `]`",
        ]
    );
}

#[test]
fn a_file_that_is_no_text() {
    assert_eq!(
        Fixture::new(b"# caf\xe9\n").faults(),
        ["a.toml:1:6: expected UTF-8 text, found the byte 0xe9"]
    );
    assert!(
        Fixture::new("\u{feff}[log]\r\nformat = \"json\"\r\n")
            .load()
            .is_ok()
    );
    assert!(Fixture::new("").load().is_ok());
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "[etcd]\nendpoints = [\"http://root:hunter2@a:2379\"]\n",
        "[etcd]\nendpoints = \"http://root:hunter2@a:2379\"\n",
        "[etcd]\nendpoints = [\"http://root:hunter2\"]\n",
        "[etcd]\npassword = \"hunter2\"\n",
        "[etcd]\npassword = hunter2\n",
        "[etcd]\npassword = \"hunter2\npassword = 'hunter2\n",
        "[job]\ncommand = \"backup --password hunter2\"\n",
        "[job.env]\nPASSWORD = [\"hunter2\"]\n",
        "[job.env]\nPASSWORD = hunter2\n",
        "[job.env]\nPASSWORD = \"hunter2\\u0000\"\n",
        "[job]\nenv = \"PASSWORD=hunter2\"\n",
        "[job]\nsettings = \"hunter2\"\n",
    ] {
        let faults = Fixture::new(text).faults().join("\n");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    for (name, value) in [
        ("INCUMBENT__ETCD__ENDPOINTS", "http://root:hunter2@a:2379"),
        ("INCUMBENT__ETCD__ENDPOINTS", "http://root:x,hunter2@a:2379"),
        ("INCUMBENT__ETCD__PASSWORD", "hunter2"),
        ("INCUMBENT__JOB__COMMAND", "backup hunter2"),
        ("INCUMBENT__JOB__SETTINGS", "hunter2"),
        ("INCUMBENT__JOB__ENV", "hunter2"),
    ] {
        let faults = printed(&with_env(name, value));
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn a_url_with_a_password_says_where_it_belongs() {
    assert_fault(
        "[etcd]\nendpoints = [\"http://root:hunter2@a:2379\"]\n",
        "a.toml:2:14: etcd.endpoints[0]: expected a URL without a user name and password, which \
         belong into etcd.username and etcd.password_file, found \"http://…@a:2379\"",
    );
}

#[test]
fn no_report_shows_a_secret() {
    let fixture = Fixture::new(
        "[job]\ncommand = [\"backup\", \"hunter2\"]\nenv = { A = \"hunter2\" }\nsettings = { a = \"hunter2\" }\n",
    );
    let report = fixture.report(wall::now());
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("job.command = …"), "{report}");
}

/// Values, whole and broken.
const VALUES: &[&str] = &[
    "5",
    "\"5s\"",
    "'x",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    "{}",
    "true",
    "2020-01-01",
    "1.5",
    "=",
    "\n",
    ".",
    ",",
    "#",
    "\u{0}",
    "é",
    "\"hunter2\"",
    "[[",
    "]]",
    "nan",
    "0x",
    "\\",
];

/// Pieces of TOML, whole and broken, as a fuzzer for the loader.
fn piece() -> impl Strategy<Value = String> {
    let names = KEYS
        .iter()
        .flat_map(|key| key.name.split('.'))
        .collect::<Vec<_>>();
    prop_oneof![
        proptest::sample::select(names).prop_map(str::to_owned),
        proptest::sample::select(VALUES).prop_map(str::to_owned),
        proptest::sample::select(&["[job]\n", "[etcd]\n", "[election]\n", " = ", "\n"][..])
            .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_is_written_is_loaded_or_refused(pieces in prop::collection::vec(piece(), 0..30)) {
        let fixture = Fixture::new(pieces.concat());
        if let Err(problems) = fixture.load() {
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(!problems.to_string().chars().any(|c| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn any_bytes_are_loaded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Err(problems) = Fixture::new(bytes).load() {
            prop_assert!(problems.iter().count() > 0);
        }
    }
}

#[test]
fn a_repeated_key_is_named_as_it_is_written() {
    let again = "expected each key once, found it again";
    for (text, key) in [
        (
            "election.ttl = \"5s\"\njob.command = [\"x\"]\nelection.ttl = \"6s\"\n",
            "a.toml:3:10: election.ttl",
        ),
        (
            "[etcd]\ntls.ca_file = \"a\"\ntls.ca_file = \"b\"\n",
            "a.toml:3:5: etcd.tls.ca_file",
        ),
        (
            "[etcd.tls]\nca_file = \"a\"\nca_file = \"b\"\n",
            "a.toml:3:1: etcd.tls.ca_file",
        ),
        (
            "election . ttl = \"5s\"\nelection . ttl = \"6s\"\n",
            "a.toml:2:12: election.ttl",
        ),
        (
            "runtime_dir = \"/a\"\njob.kind = \"command\"\nruntime_dir = \"/b\"\n",
            "a.toml:3:1: runtime_dir",
        ),
        (
            "[job.env]\nA = \"1\"\n[log]\nfilter = \"info\"\nfilter = \"warn\"\n",
            "a.toml:5:1: log.filter",
        ),
        ("[etcd.tls]\n[etcd.tls]\n", "a.toml:2:7: etcd.tls"),
        (
            "[etcd]\ntls = { ca_file = \"a\", ca_file = \"b\" }\n",
            "a.toml:2:24: etcd.tls.ca_file",
        ),
        (
            "job.\"e v\".x = 1\njob.\"e v\".x = 2\n",
            "a.toml:2:11: job.\"e v\".x",
        ),
    ] {
        let faults = Fixture::new(text).faults();
        assert!(faults.contains(&format!("{key}: {again}")), "{faults:?}");
    }
}
