//! Which file is read, which layer wins, and what paths mean.

use super::*;

#[test]
fn a_named_file_that_cannot_be_read_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    let shown = missing.display();
    let mut source = Source {
        file: Some(missing.clone()),
        ..defaults()
    };
    assert_eq!(
        printed(&source),
        format!(
            "incumbent: {shown}: expected a configuration file (named by -c), found no such file\n\
             incumbent: 1 problem in the configuration; nothing was started"
        )
    );
    source.file = None;
    source.env = vec![("INCUMBENT_CONFIG".into(), missing.clone().into())];
    assert!(printed(&source).contains("(named by INCUMBENT_CONFIG), found no such file"));
    source.env[0].1 = dir.path().into();
    assert!(printed(&source).contains("found a directory"));
    source.env[0].1 = OsString::new();
    assert!(load(&source).is_ok(), "an empty variable names no file");
    fs::write(&missing, "").unwrap();
    fs::set_permissions(&missing, fs::Permissions::from_mode(0o0)).unwrap();
    source.env[0].1 = missing.clone().into();
    // Root reads it all the same.
    if fs::read(&missing).is_err() {
        assert!(printed(&source).contains("found one that may not be read: permission denied"));
    }
}

#[test]
fn other_problems_are_told_beside_a_missing_file() {
    let mut source = with_env("INCUMBENT__LOG__FORMAT", "xml");
    source.needs_job = true;
    source.file = Some("/none/a.toml".into());
    assert_eq!(
        printed(&source),
        "incumbent: /none/a.toml: expected a configuration file (named by -c), found no such file\n\
         incumbent: INCUMBENT__LOG__FORMAT: log.format: expected \"text\", \"json\" or \"journald\", found \"xml\"\n\
         incumbent: 2 problems in the configuration; nothing was started"
    );
}

#[test]
fn the_named_file_is_read_before_the_variable_and_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, format!("[candidate]\nname = \"{name}\"\n")).unwrap();
        path
    };
    let mut source = Source {
        file: Some(file("named")),
        default_file: file("default"),
        env: vec![("INCUMBENT_CONFIG".into(), file("variable").into())],
        ..defaults()
    };
    let name = |source: &Source| load(source).unwrap().config.candidate_name;
    assert_eq!(name(&source), "named");
    source.file = None;
    assert_eq!(name(&source), "variable");
    source.env.clear();
    assert_eq!(name(&source), "default");
    assert_eq!(
        load(&source).unwrap().config.file,
        Some(dir.path().join("default"))
    );
    fs::remove_file(dir.path().join("default")).unwrap();
    assert_eq!(name(&source), "host-a");
    assert_eq!(load(&source).unwrap().config.file, None);
}

#[test]
fn a_relative_file_is_shown_as_typed_and_kept_absolute() {
    let mut fixture = Fixture::new("runtime_dir = \"run\"\n[log]\nlevel = 1\n");
    fixture.source.current_dir = fixture.dir.path().to_owned();
    fixture.source.file = Some("a.toml".into());
    assert_eq!(
        fixture.faults(),
        ["a.toml:3:1: log.level: unknown key; did you mean log.filter?"]
    );
    fs::write(fixture.path("a.toml"), "runtime_dir = \"run\"\n").unwrap();
    let config = fixture.config();
    assert_eq!(config.file, Some(fixture.path("a.toml")));
    assert_eq!(config.runtime_dir, fixture.path("run"));
}

#[test]
fn a_stronger_layer_wins_and_tables_are_merged() {
    let fixture = Fixture::new(
        "[election]\nprefix = \"/file\"\nttl = \"20s\"\n[log]\nfilter = \"warn\"\n[job.env]\nA = \"file\"\nB = \"file\"\n",
    )
    .env("INCUMBENT__ELECTION__PREFIX", "/variable")
    .env("INCUMBENT__ELECTION__TTL", "30s")
    .env("INCUMBENT__JOB__ENV__B", "variable")
    .env("INCUMBENT__JOB__ENV__c__D", "variable")
    .flag("election.prefix", "--election", "/flag");
    let config = fixture.config();
    assert_eq!(config.election.prefix.as_str(), "/flag");
    assert_eq!(config.election.ttl, Duration::from_secs(30));
    assert_eq!(config.log.filter, "warn");
    let env: Vec<(&str, &str)> = config.job.env.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(
        env,
        [("A", "file"), ("B", "variable"), ("c__D", "variable")]
    );
}

#[test]
fn variables_are_text_read_by_kind() {
    let source = Source {
        env: [
            ("INCUMBENT__ETCD__ENDPOINTS", "http://a:1, https://b:2/,"),
            ("INCUMBENT__ETCD__TLS__CA_FILE", "Cargo.toml"),
            ("INCUMBENT__JOB__COMMAND", "[\"a b\", 'c']"),
            ("INCUMBENT__JOB__YIELD_AFTER", "9"),
            ("INCUMBENT__JOB__STOP_SIGNAL", "INT"),
            ("INCUMBENT__JOB__RESTART", "on-failure"),
            ("INCUMBENT__JOB__SETTINGS__BATCH__SIZE", "100"),
            ("INCUMBENT__JOB__SETTINGS__NAME", "plain text"),
            ("INCUMBENT__JOB__SETTINGS__SINCE", "2020-01-01"),
            ("INCUMBENT__RUNTIME_DIR", "run"),
            ("UNRELATED__X", "y"),
            ("INCUMBENT_TOKEN", "7"),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into(),
        current_dir: env!("CARGO_MANIFEST_DIR").into(),
        ..defaults()
    };
    let config = load(&source)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(config.etcd.endpoints, ["http://a:1", "https://b:2"]);
    assert_eq!(config.etcd.tls.ca_file, Some(here.join("Cargo.toml")));
    assert_eq!(config.job.command, ["a b", "c"]);
    assert_eq!(config.job.yield_after, 9);
    assert_eq!(config.job.stop_signal, 2);
    assert_eq!(config.job.restart, Restart::OnFailure);
    assert_eq!(config.runtime_dir, here.join("run"));
    let expected = "name = \"plain text\"\nsince = 2020-01-01\n\n[batch]\nsize = 100\n";
    assert_eq!(config.job.settings.to_string(), expected);
}

#[test]
fn faults_of_variables() {
    for (name, value, fault) in [
        (
            "INCUMBENT__ELECTION__TLL",
            "5s",
            "election.tll: unknown key; did you mean election.ttl, which is INCUMBENT__ELECTION__TTL?",
        ),
        (
            "INCUMBENT__election__ttl",
            "5s",
            "election.ttl: unknown key; did you mean election.ttl, which is INCUMBENT__ELECTION__TTL?",
        ),
        (
            "INCUMBENT__JOB",
            "x",
            "job: expected a key after the section, such as INCUMBENT__JOB__KIND",
        ),
        (
            "INCUMBENT__ELECTION__TTL__X",
            "5s",
            "election.ttl.x: unknown key; did you mean election.ttl, which is INCUMBENT__ELECTION__TTL?",
        ),
        (
            "INCUMBENT__JOB__YIELD_AFTER",
            "many",
            "job.yield_after: expected a whole number from 1 on, such as 5, found \"many\"",
        ),
        (
            "INCUMBENT__ETCD__ENDPOINTS",
            ",",
            "etcd.endpoints: expected a list of URLs such as [\"http://127.0.0.1:2379\"], found an empty one",
        ),
        (
            "INCUMBENT__ETCD__ENDPOINTS",
            "http://a:1,b",
            "etcd.endpoints[1]: expected a URL such as \"http://host:2379\", found \"b\"",
        ),
        (
            "INCUMBENT__JOB__COMMAND",
            "a b",
            "job.command: expected a list of text such as [\"/usr/bin/backup\", \"--full\"], found text",
        ),
        (
            "INCUMBENT__JOB__ENV",
            "A=b",
            "job.env: expected a table of text such as { LANG = \"C\" }, found text",
        ),
        (
            "INCUMBENT__JOB__ENV__",
            "x",
            "job.env.: unknown key; did you mean job.env, which is INCUMBENT__JOB__ENV?",
        ),
    ] {
        assert_eq!(
            printed(&with_env(name, value)).lines().next(),
            Some(format!("incumbent: {name}: {fault}").as_str())
        );
    }
    let mut source = defaults();
    let bytes = OsString::from_vec(vec![0xff]);
    source.env = vec![("INCUMBENT__CANDIDATE__NAME".into(), bytes)];
    assert!(printed(&source).starts_with(
        "incumbent: INCUMBENT__CANDIDATE__NAME: candidate.name: expected UTF-8 text, found other bytes\n"
    ));
}

#[test]
fn a_path_of_the_environment_may_be_no_text_and_is_taken_as_it_is() {
    let bytes = |start: &str| {
        let bytes = [start.as_bytes(), b"no-\xff-text"].concat();
        OsString::from_vec(bytes)
    };
    let mut fixture = Fixture::new("job.working_dir = 'of-file'\nruntime_dir = '/of-file'");
    let own = |name: &str, value: OsString| (name.to_owned(), value);
    fixture.source.env = vec![
        own("INCUMBENT__JOB__WORKING_DIR", bytes("/a/")),
        own("RUNTIME_DIRECTORY", bytes("/run/")),
    ];
    let config = fixture.config();
    assert_eq!(config.job.working_dir, Some(bytes("/a/").into()));
    assert_eq!(config.runtime_dir, Path::new("/of-file"));
    // The last layer wins, here too.
    let flag = Flag::text("job.working_dir", "--working-dir", "/of-flag");
    fixture.source.flags = vec![flag];
    let of_flag = Some(PathBuf::from("/of-flag"));
    assert_eq!(fixture.config().job.working_dir, of_flag);

    let mut source = defaults();
    source.env = vec![
        own("RUNTIME_DIRECTORY", bytes("/run/")),
        own("CREDENTIALS_DIRECTORY", bytes("/c/")),
        own(
            "INCUMBENT__JOB__WORKING_DIR",
            bytes("${CREDENTIALS_DIRECTORY}/"),
        ),
    ];
    let loaded = load(&source).unwrap();
    assert_eq!(loaded.config.runtime_dir, Path::new(&bytes("/run/")));
    let both = Path::new(&bytes("/c/")).join(bytes(""));
    assert_eq!(loaded.config.job.working_dir, Some(both));
    let report = check_report(&load_jobs(&source).unwrap(), &source, wall::now());
    assert!(
        report.contains("/c/no-\\xff-text/no-\\xff-text"),
        "{report}"
    );
    source.env[2].1 = bytes("a\n");
    assert!(printed(&source).contains("expected a path without control characters"));
}

#[test]
fn flags_stand_where_the_user_typed_them() {
    let source = with_flag(Flag::text("election.ttl", "--ttl", "1s"));
    assert!(printed(&source).starts_with(
        "incumbent: --ttl: election.ttl: expected whole seconds from 2s on, such as \"15s\", found \"1s\"\n"
    ));
    let endpoints = vec!["http://a:1".to_owned(), "http://b:1".to_owned()];
    let source = with_flag(Flag::list(
        "etcd.endpoints",
        "--endpoints",
        endpoints.clone(),
    ));
    assert_eq!(load(&source).unwrap().config.etcd.endpoints, endpoints);
    let joined = FlagValue::Text(endpoints.join(",").into());
    let source = with_flag(Flag {
        key: "etcd.endpoints",
        flag: "--endpoints".into(),
        value: joined,
    });
    assert_eq!(load(&source).unwrap().config.etcd.endpoints, endpoints);
}

#[test]
fn the_runtime_directory_follows_systemd_then_the_user_then_the_system() {
    let dir = |env: &[(&str, &str)]| {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()));
        let source = Source {
            env: env.collect(),
            ..defaults()
        };
        load(&source).unwrap().config.runtime_dir
    };
    assert_eq!(dir(&[]), Path::new("/run/incumbent"));
    let user = ("XDG_RUNTIME_DIR", "/run/user/1");
    assert_eq!(dir(&[user]), Path::new("/run/user/1/incumbent"));
    assert_eq!(
        dir(&[user, ("RUNTIME_DIRECTORY", "/run/a:/run/b")]),
        Path::new("/run/a")
    );
    assert_eq!(
        dir(&[user, ("RUNTIME_DIRECTORY", "")]),
        Path::new("/run/user/1/incumbent")
    );
    assert_eq!(
        dir(&[("XDG_RUNTIME_DIR", "relative")]),
        Path::new("/run/incumbent")
    );
    assert_eq!(
        dir(&[user, ("INCUMBENT__RUNTIME_DIR", "/x")]),
        Path::new("/x")
    );
}

#[test]
fn credentials_of_systemd_are_found() {
    let mut fixture = Fixture::new(
        "[etcd]\nusername = \"u\"\npassword_file = \"${CREDENTIALS_DIRECTORY}/password\"\n",
    );
    assert_eq!(
        fixture.faults(),
        [
            "a.toml:3:17: etcd.password_file: expected CREDENTIALS_DIRECTORY in the environment, as \
          systemd sets it for a unit with LoadCredential=, found it missing for \
          \"${CREDENTIALS_DIRECTORY}/password\""
        ]
    );
    let credentials = fixture.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("password"), "secret").unwrap();
    fixture.source.env = vec![("CREDENTIALS_DIRECTORY".into(), credentials.clone().into())];
    assert_eq!(
        fixture.config().etcd.password_file,
        Some(credentials.join("password"))
    );
}

#[test]
fn the_hook_finds_its_directory_and_how_to_log_whatever_else_is_wrong() {
    let text = "runtime_dir = \"run\"\n[etcd]\nusername = \"u\"\n\
                password_file = \"${CREDENTIALS_DIRECTORY}/password\"\n\
                [log]\nformat = \"journald\"\nlevel = x\n";
    let fixture = Fixture::new(text);
    assert!(fixture.load().is_err());
    let found = readable(&fixture.source);
    assert_eq!(found.runtime_dir, fixture.path("run"));
    assert_eq!(found.log.format, Format::Journald);
    let broken = Fixture::new("runtime_dir = 5\nlog.format = 6\nlog.filter = \"debug\"\n")
        .env("RUNTIME_DIRECTORY", "/run/a");
    let found = readable(&broken.source);
    assert_eq!(found.runtime_dir, Path::new("/run/a"));
    assert_eq!(found.log.format, Format::Text);
    assert_eq!(found.log.filter, "debug");
}

#[test]
fn an_empty_variable_sets_nothing_but_one_of_the_jobs_own() {
    let fixture = Fixture::new("job.command = ['true']")
        .env("INCUMBENT__ETCD__USERNAME", "")
        .env("INCUMBENT__ELECTION__TTL", "")
        .env("INCUMBENT__NO_SUCH", "")
        .env("INCUMBENT__JOB__ENV__EMPTY", "");
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.config.etcd.username, None);
    assert_eq!(loaded.config.election.ttl, Duration::from_secs(15));
    assert_eq!(loaded.config.job.env["EMPTY"], "");
}

#[test]
fn outside_of_the_unit_its_credentials_and_its_runtime_directory_go_by_the_files_name() {
    let text = "[etcd]\nusername = \"u\"\npassword_file = \"${CREDENTIALS_DIRECTORY}/password\"\n";
    let mut fixture = Fixture::new(text);
    let run = fixture.path("run");
    fixture.source.units = run.clone();
    let faults = fixture.faults();
    let says_how = "root's commands find those of incumbent@a.service while it runs";
    assert!(faults[0].contains(says_how), "{faults:?}");
    let credentials = run.join("credentials/incumbent@a.service");
    fs::create_dir_all(&credentials).unwrap();
    fs::write(credentials.join("password"), "secret").unwrap();
    assert_eq!(
        fixture.config().etcd.password_file,
        Some(credentials.join("password"))
    );
    let of_unit = |fixture: &Fixture| readable(&fixture.source).of_unit;
    assert_eq!(of_unit(&fixture), Some(run.join("incumbent-a")));
    let set = fixture.env("RUNTIME_DIRECTORY", "/run/x");
    assert_eq!(of_unit(&set), None, "it is the unit's own");
    let mut set = Fixture::new(format!("runtime_dir = \"own\"\n{text}"));
    set.source.units = run;
    assert_eq!(of_unit(&set), None, "somebody has chosen it");
}
