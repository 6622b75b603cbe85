//! The golden text of every fault of a single value.

use super::*;

#[test]
fn durations() {
    for (value, found) in [
        ("5", "5, which has no unit"),
        ("5.5", "5.5, which has no unit"),
        ("\"5\"", "\"5\", which has no unit"),
        ("\"0\"", "\"0\", which has no unit"),
        ("\"\"", "\"\""),
        ("\"soon\"", "\"soon\""),
        ("\"-5s\"", "\"-5s\""),
        ("true", "true"),
        ("2020-01-01", "a date"),
        ("[\"5s\"]", "a list"),
        ("{ s = 5 }", "a table"),
    ] {
        assert_fault(
            &format!("[job]\nstop_grace = {value}\n"),
            &format!(
                "a.toml:2:14: job.stop_grace: expected a duration such as \"30s\", found {found}"
            ),
        );
    }
}

#[test]
fn durations_that_must_not_be_zero() {
    for (section, key, least, example) in [
        ("etcd", "connect_timeout", "1ms", "2s"),
        ("job", "kill_budget", "10ms", "1s"),
        ("job", "restart_delay", "1ms", "1s"),
    ] {
        let column = key.len() + 4;
        assert_fault(
            &format!("[{section}]\n{key} = \"0s\"\n"),
            &format!(
                "a.toml:2:{column}: {section}.{key}: expected a duration of at least {least}, \
                 such as \"{example}\", found \"0s\""
            ),
        );
    }
    let none = "[job]\nstop_grace = \"0s\"\nlost_grace = \"0s\"\nyield_cooldown = \"0s\"\n";
    assert_eq!(Fixture::new(none).config().job.stop_grace, Duration::ZERO);
}

#[test]
fn ttls_are_whole_seconds_that_etcd_grants() {
    for value in ["1500ms", "1s", "0s", "9000000001s"] {
        assert_fault(
            &format!("[election]\nttl = \"{value}\"\n"),
            &format!(
                "a.toml:2:7: election.ttl: expected whole seconds from 2s on, such as \"15s\", \
                 found \"{value}\""
            ),
        );
    }
    let minutes = Fixture::new("[election]\nttl = \"1m 5s\"\n").config();
    assert_eq!(minutes.election.ttl, Duration::from_secs(65));
}

#[test]
fn counts() {
    for value in ["0", "-1", "5000000000", "1.5"] {
        assert_fault(
            &format!("[job]\nyield_after = {value}\n"),
            &format!(
                "a.toml:2:15: job.yield_after: expected a whole number from 1 on, such as 5, \
                 found {value}"
            ),
        );
    }
    assert_fault(
        "[job]\nyield_after = \"5\"\n",
        "a.toml:2:15: job.yield_after: expected a whole number from 1 on, such as 5, found \"5\"",
    );
    assert_fault(
        "[job]\nyield_after = 99999999999999999999\n",
        "a.toml:2:15: job.yield_after: expected a whole number from 1 on, such as 5, found a \
         number too large",
    );
}

#[test]
fn endpoints() {
    let expected = "expected a list of URLs such as [\"http://127.0.0.1:2379\"]";
    assert_fault(
        "[etcd]\nendpoints = \"http://a:2379\"\n",
        &format!("a.toml:2:13: etcd.endpoints: {expected}, found \"http://a:2379\""),
    );
    assert_fault(
        "[etcd]\nendpoints = []\n",
        &format!("a.toml:2:13: etcd.endpoints: {expected}, found an empty one"),
    );
    assert_eq!(
        Fixture::new("[etcd]\nendpoints = [\"a:2379\", 5, \"http://b:2379\", \"http://c\"]\n")
            .faults(),
        [
            "a.toml:2:14: etcd.endpoints[0]: expected a URL such as \"http://host:2379\", found \"a:2379\"",
            "a.toml:2:24: etcd.endpoints[1]: expected a URL such as \"http://host:2379\", found 5",
            "a.toml:2:44: etcd.endpoints[3]: expected a URL such as \"http://host:2379\", found \"http://c\"",
        ]
    );
}

#[test]
fn names_of_candidates() {
    let expected =
        "expected a name of 1 to 255 bytes without control characters, such as \"host-a\"";
    assert_fault(
        "[candidate]\nname = \"a\\u001b[2J\\n\"\n",
        &format!("a.toml:2:8: candidate.name: {expected}, found \"a\\u{{1b}}[2J\\n\""),
    );
    assert_fault(
        "[candidate]\nname = \"\"\n",
        &format!("a.toml:2:8: candidate.name: {expected}, found \"\""),
    );
    // 128 letters of two bytes each.
    assert_fault(
        &format!("[candidate]\nname = \"{}\"\n", "é".repeat(128)),
        &format!(
            "a.toml:2:8: candidate.name: {expected}, found \"{}…\"",
            "é".repeat(80)
        ),
    );
    let longest = format!("[candidate]\nname = \"{}\"\n", "x".repeat(255));
    assert_eq!(Fixture::new(longest).config().candidate_name.len(), 255);
    assert_eq!(
        printed(&Source::defaults("a\tb")),
        format!(
            "incumbent: candidate.name: {expected}, found \"a\\tb\"\n\
             incumbent: 1 problem in the configuration; nothing was started"
        )
    );
}

#[test]
fn prefixes() {
    for prefix in ["/a.meta", ".meta", "/a.meta/b", ".meta/"] {
        assert_fault(
            &format!("[election]\nprefix = \"{prefix}\"\n"),
            &format!(
                "a.toml:2:10: election.prefix: expected a prefix that doesn't end in .meta or \
                 contain .meta/, where incumbent keeps its records, found \"{prefix}\""
            ),
        );
    }
    for (prefix, found) in [("", ""), ("a\\u0000", "a\\0")] {
        assert_fault(
            &format!("[election]\nprefix = \"{prefix}\"\n"),
            &format!(
                "a.toml:2:10: election.prefix: expected a prefix that isn't empty and holds no \
                 control characters, such as \"/incumbent/default\", found \"{found}\""
            ),
        );
    }
    for prefix in ["/a.metal", "a", "/", "/a//", "/.metadata/x"] {
        let config = Fixture::new(format!("[election]\nprefix = \"{prefix}\"\n")).config();
        assert_eq!(config.election.prefix.as_str(), prefix);
    }
}

#[test]
fn words() {
    for (text, fault) in [
        (
            "[job]\nrestart = \"sometimes\"\n",
            "a.toml:2:11: job.restart: expected \"always\", \"on-failure\" or \"never\", found \"sometimes\"",
        ),
        (
            "[log]\nformat = \"xml\"\n",
            "a.toml:2:10: log.format: expected \"text\", \"json\" or \"journald\", found \"xml\"",
        ),
        (
            "[job]\nkind = \"reindex\"\n",
            "a.toml:2:8: job.kind: expected \"command\", found \"reindex\"",
        ),
        (
            "[job]\nstop_signal = 15\n",
            "a.toml:2:15: job.stop_signal: expected the name of a signal: SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGABRT, SIGKILL, found 15",
        ),
        (
            "[job]\nstop_signal = \"SIGSTOP\"\n",
            "a.toml:2:15: job.stop_signal: expected the name of a signal: SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGABRT, SIGKILL, found \"SIGSTOP\"",
        ),
        (
            "[http]\nlisten = \":9180\"\n",
            "a.toml:2:10: http.listen: expected an address such as \"127.0.0.1:9180\", or \"off\", found \":9180\"",
        ),
        (
            "[etcd.tls]\nserver_name = \"\"\n",
            "a.toml:2:15: etcd.tls.server_name: expected text without control characters, such as \"etcd.example.com\", found \"\"",
        ),
        (
            "runtime_dir = \"a\\nb\"\n",
            "a.toml:1:15: runtime_dir: expected a path without control characters, found \"a\\nb\"",
        ),
        (
            "runtime_dir = \"${HOME}/x\"\n",
            "a.toml:1:15: runtime_dir: expected a path in which only ${CREDENTIALS_DIRECTORY} at the start stands for something, found \"${HOME}/x\"",
        ),
        (
            "runtime_dir = 5\n",
            "a.toml:1:15: runtime_dir: expected a path such as \"/run/incumbent\", found 5",
        ),
    ] {
        assert_fault(text, fault);
    }
}

#[test]
fn filters() {
    let expected = "expected a level (off, error, warn, info, debug, trace) or a list such as \
                    \"info,incumbent::session=debug\"";
    for filter in [
        "inof",
        "",
        "info,",
        "a=loud",
        "=info",
        "a=b=info",
        "a[{=info",
        "info;debug",
    ] {
        assert_fault(
            &format!("[log]\nfilter = \"{filter}\"\n"),
            &format!("a.toml:2:10: log.filter: {expected}, found \"{filter}\""),
        );
    }
    let spaced = Fixture::new("[log]\nfilter = \"WARN, incumbent::session=debug\"\n").config();
    assert_eq!(spaced.log.filter, "WARN, incumbent::session=debug");
}

#[test]
fn commands() {
    let expected = "expected a list of text such as [\"/usr/bin/backup\", \"--full\"]";
    for (value, fault) in [
        (
            "\"backup --password x\"",
            format!("job.command: {expected}, found text"),
        ),
        ("[]", format!("job.command: {expected}, found an empty one")),
    ] {
        assert_fault(
            &format!("[job]\ncommand = {value}\n"),
            &format!("a.toml:2:11: {fault}"),
        );
    }
    assert_eq!(
        Fixture::new("[job]\ncommand = [\"\", 5, \"\", \"a\\u0000\"]\n").faults(),
        [
            "a.toml:2:12: job.command[0]: expected a command, found empty text",
            "a.toml:2:16: job.command[1]: expected text, found a number",
            "a.toml:2:23: job.command[3]: expected text without NUL, found one",
        ]
    );
}

#[test]
fn environments() {
    assert_eq!(
        Fixture::new(
            "[job.env]\n\"A=B\" = \"x\"\nC = 5\nD = \"a\\u0000\"\nINCUMBENT_TOKEN = \"7\"\n"
        )
        .faults(),
        [
            "a.toml:2:9: job.env.\"A=B\": expected a name without = and NUL",
            "a.toml:3:5: job.env.C: expected text, found a number",
            "a.toml:4:5: job.env.D: expected text without NUL, found one",
            "a.toml:5:19: job.env.INCUMBENT_TOKEN: expected a name that doesn't begin with INCUMBENT_, which the job gets from incumbent",
        ]
    );
    assert_fault(
        "[job]\nenv = \"LANG=C\"\n",
        "a.toml:2:7: job.env: expected a table of text such as { LANG = \"C\" }, found text",
    );
    assert_fault(
        "[job]\nsettings = 2020-01-01\n",
        "a.toml:2:12: job.settings: expected a table, found a date",
    );
    assert_fault(
        "[job.settings]\na = [1, { b = 99999999999999999999 }]\n",
        "a.toml:2:15: job.settings.a[1].b: expected a number of 64 bits, found a larger one",
    );
}

#[test]
fn files_of_credentials_must_be_there() {
    let fixture = Fixture::new(
        "[etcd]\nendpoints = [\"https://a:2379\"]\nusername = \"u\"\npassword_file = \"none\"\ntls.ca_file = \".\"\n",
    );
    let faults = fixture.faults();
    assert_eq!(
        faults,
        [
            "a.toml:4:17: etcd.password_file: expected a readable file, found no such file at \"none\"",
            "a.toml:5:15: etcd.tls.ca_file: expected a readable file, found a directory at \".\"",
        ]
    );
}
