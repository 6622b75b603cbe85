//! The shipped file is the table of keys, and changes nothing.

use super::*;

fn shipped_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/incumbent.toml")
}

/// Writes the file anew with `INCUMBENT_BLESS=1`, as after a change of the table.
#[test]
fn the_shipped_file_is_the_table_of_keys() {
    if std::env::var_os("INCUMBENT_BLESS").is_some() {
        fs::write(shipped_file(), shipped::text()).unwrap();
    }
    assert_eq!(fs::read_to_string(shipped_file()).unwrap(), shipped::text());
}

#[test]
fn the_shipped_file_changes_no_default() {
    let source = Source {
        file: Some(shipped_file()),
        ..defaults()
    };
    let shipped = load(&source).unwrap_or_else(|problems| panic!("{problems}"));
    let mut config = shipped.config;
    config.file = None;
    let defaults = load(&defaults()).unwrap().config;
    assert_eq!(format!("{config:#?}"), format!("{defaults:#?}"));
    assert_eq!(shipped.warnings, [""; 0]);
    let set: Vec<&str> = shipped.set.iter().map(|set| set.key.as_str()).collect();
    let constant =
        |key: &&incumbent::config::keys::Entry| matches!(key.preset, Preset::Constant(_));
    let constants = KEYS.iter().filter(constant);
    // Empty tables set nothing, and so have no place.
    let empty = |key: &&str| !["job.env", "job.settings"].contains(key);
    let constants: Vec<&str> = constants.map(|key| key.name).filter(empty).collect();
    assert_eq!(set, constants);
}

#[test]
fn the_comments_of_the_shipped_file_are_keys() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["ca.pem", "client.pem", "client-key", "etcd-password"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    let dir_text = dir.path().display().to_string();
    let text: Vec<String> = shipped::text()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // One excludes the other.
            Some(key) if key.starts_with("every = ") => format!("#{key}"),
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let text = text
        .join("\n")
        .replace("/etc/incumbent", &dir_text)
        .replace("\"http:", "\"https:")
        .replace("= {}", "= { A = \"b\" }");
    let fixture = Fixture::new(text).env("CREDENTIALS_DIRECTORY", &dir_text);
    let loaded = fixture
        .load()
        .unwrap_or_else(|problems| panic!("{problems}"));
    let set: Vec<&str> = loaded.set.iter().map(|set| set.key.as_str()).collect();
    let all = KEYS.iter().map(|key| key.name);
    let all: Vec<&str> = all.filter(|key| *key != "job.schedule.every").collect();
    assert_eq!(set, all);
}

#[test]
fn defaults_that_depend_are_those_of_the_design() {
    let config = load(&defaults()).unwrap().config;
    assert_eq!(config.candidate_name, "host-a");
    assert_eq!(config.job.lost_grace, Duration::from_secs(2));
    assert_eq!(config.job.kill_budget, Duration::from_secs(1));
    assert_eq!(config.election.takeover_delay, Duration::from_millis(1500));
    let short = load(&with_env("INCUMBENT__ELECTION__TTL", "4s"))
        .unwrap()
        .config;
    assert_eq!(short.job.lost_grace, Duration::from_millis(800));
    assert_eq!(short.job.kill_budget, Duration::from_millis(800));
    assert_eq!(short.election.takeover_delay, Duration::from_millis(1300));
}
