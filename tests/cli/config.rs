//! The configuration through its loader: the golden text of every fault, the layers, the shipped
//! file, and what is made of it.

mod jobs;
mod layers;
mod rules;
mod schedule;
mod schema;
mod shipped_file;
mod syntax;
mod uses;
mod values;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use incumbent::config::keys::{KEYS, Preset};
use incumbent::config::kinds::{Kind, SpanKind};
use incumbent::config::source::FlagValue;
use incumbent::config::{
    Config, Flag, JobConfigs, Loaded, LoadedJobs, Place, Problems, Restart, Source, check_report,
    load, load_jobs, readable, reload, shipped,
};
use incumbent::keys::JobName;
use incumbent::log::Format;
use incumbent::wall;
use proptest::prelude::*;
use tempfile::TempDir;

/// A folder with a configuration file in it.
struct Fixture {
    dir: TempDir,
    source: Source,
}

impl Fixture {
    /// The file holds `text`; nothing else is set.
    fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, text).unwrap();
        let source = Source {
            file: Some(file),
            ..Source::defaults("host-a")
        };
        Self { dir, source }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.source.env.push((name.to_owned(), value.into()));
        self
    }

    fn flag(mut self, key: &'static str, flag: &str, value: &str) -> Self {
        self.source.flags.push(Flag::text(key, flag, value));
        self
    }

    fn load(&self) -> Result<Loaded, Problems> {
        let loaded = load(&self.source);
        let Source {
            job_kinds,
            env,
            flags,
            ignores_job,
            ..
        } = &self.source;
        if loaded.is_ok()
            && job_kinds.is_empty()
            && env.is_empty()
            && flags.is_empty()
            && !ignores_job
        {
            schema::takes(&self.text());
        }
        loaded
    }

    /// The file, as far as it is text.
    fn text(&self) -> String {
        let file = self.source.file.as_ref().expect("a file");
        String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
    }

    fn load_jobs(&self) -> Result<LoadedJobs, Problems> {
        load_jobs(&self.source)
    }

    /// What `check` says at this time.
    fn report(&self, now: wall::Time) -> String {
        check_report(&self.load_jobs().unwrap(), &self.source, now)
    }

    fn config(&self) -> Config {
        self.load()
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config
    }

    /// The problems as printed, the folder cut off, without `incumbent: ` and the last line.
    fn faults(&self) -> Vec<String> {
        let printed = self.load().expect_err("a fault").to_string();
        let printed = printed.replace(&format!("{}/", self.dir.path().display()), "");
        let mut lines: Vec<String> = printed
            .lines()
            .map(|line| {
                line.strip_prefix("incumbent: ")
                    .expect("the prefix")
                    .to_owned()
            })
            .collect();
        let last = lines.pop().expect("a last line");
        let count = lines.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        assert_eq!(
            last,
            format!("{count} {noun} in the configuration; nothing was started")
        );
        lines
    }
}

/// The one fault of a file.
#[track_caller]
fn assert_fault(text: &str, fault: &str) {
    let faults = Fixture::new(text).faults();
    assert_eq!(faults, [fault], "{text}");
    schema::agrees(text, &faults);
}

fn defaults() -> Source {
    Source::defaults("host-a")
}

fn with_env(name: &str, value: &str) -> Source {
    Source {
        env: vec![(name.to_owned(), value.into())],
        ..defaults()
    }
}

fn with_flag(flag: Flag) -> Source {
    Source {
        flags: vec![flag],
        ..defaults()
    }
}

fn printed(source: &Source) -> String {
    load(source).expect_err("a fault").to_string()
}

#[test]
fn all_problems_are_reported_at_once_with_their_places() {
    let fixture = Fixture::new(
        "[etcd]\n\
         endpoints = [\"http://a:2379\", \"10.0.0.7\"]\n\
         \n\
         [election]\n\
         renew_evry = \"3s\"\n",
    )
    .env("INCUMBENT__ELECTION__TTL", "15")
    .flag("etcd.connect_timeout", "--connect-timeout", "soon");
    let file = fixture.path("a.toml");
    let file = file.display();
    assert_eq!(
        fixture.load().expect_err("four faults").to_string(),
        format!(
            "incumbent: {file}:2:31: etcd.endpoints[1]: expected a URL such as \"http://host:2379\", found \"10.0.0.7\"\n\
             incumbent: {file}:5:1: election.renew_evry: unknown key; did you mean election.prefix?\n\
             incumbent: INCUMBENT__ELECTION__TTL: election.ttl: expected whole seconds from 2s on, such as \"15s\", found \"15\", which has no unit\n\
             incumbent: --connect-timeout: etcd.connect_timeout: expected a duration of at least 1ms, such as \"2s\", found \"soon\"\n\
             incumbent: 4 problems in the configuration; nothing was started"
        )
    );
}

#[test]
fn columns_count_characters() {
    assert_fault(
        "[job]\nenv = { A = \"é\", B = 1 }\n",
        "a.toml:2:22: job.env.B: expected text, found a number",
    );
}

#[test]
fn only_the_value_that_counts_is_checked() {
    let fixture = Fixture::new("[election]\nttl = 5\n").flag("election.ttl", "--ttl", "7s");
    assert_eq!(fixture.config().election.ttl, Duration::from_secs(7));
}
