//! What the commands of a job know of the settings that their daemon runs by.
//!
//! The file may have changed since, or have a mistake in it that a reload has refused; and a reload
//! that was not refused may have come after the job's start. So a run is told the settings that it
//! starts with, and where its daemon says those that hold now.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, Source};
use crate::os_text::OsText;

/// The variable in which a run is told.
pub const VARIABLE: &str = "INCUMBENT_SETTINGS";

/// The variable in which it is told the file.
const FILE: &str = "INCUMBENT_CONFIG";

/// `INCUMBENT__…` variables that say how to reach the store and what the election is, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedSettings(BTreeMap<String, OsText>);

/// What a run is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    set: HandedSettings,
    /// What `INCUMBENT_CONFIG` was set to.
    file: Option<OsText>,
    /// The runtime directory of the daemon, which tells what holds now.
    runtime_dir: OsText,
    /// The job's name, where the daemon may have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<String>,
}

impl HandedSettings {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        let set = config.to_env().into_iter();
        Self(set.map(|(name, value)| (name, value.into())).collect())
    }

    /// Whether one of the variables is set to this.
    pub fn has(&self, name: &str, value: &OsStr) -> bool {
        self.0
            .get(name)
            .is_some_and(|told| told.as_os_str() == value)
    }
}

impl Handed {
    /// What a run that starts under `config` is told.
    pub fn of(config: &Config) -> Self {
        let runtime_dir = std::path::absolute(&config.runtime_dir);
        let runtime_dir = runtime_dir.unwrap_or_else(|_| config.runtime_dir.clone());
        Self {
            set: HandedSettings::of(config),
            file: config.file.as_deref().map(|file| file.as_os_str().into()),
            runtime_dir: runtime_dir.into(),
            job: config.job_name.as_ref().map(ToString::to_string),
        }
    }

    /// As the value of [`VARIABLE`].
    pub fn to_text(&self) -> String {
        // Maps with keys of text: nothing in them can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What this process was told as a part of a run; `None` if it is none, or if another file was
    /// named for it since.
    pub fn of_source(source: &Source) -> Option<Self> {
        let told = source.variable(VARIABLE)?.to_str()?;
        let handed: Self = serde_json::from_str(told).ok()?;
        let file = source.variable(FILE).map(|file| file.as_os_str().into());
        (source.file.is_none() && file == handed.file).then_some(handed)
    }

    /// The runtime directory of the daemon.
    pub fn runtime_dir(&self) -> PathBuf {
        self.runtime_dir.as_path().to_owned()
    }

    /// Where the daemon says on its control socket what holds now for the job.
    pub fn path(&self) -> String {
        match &self.job {
            Some(job) => format!("{PATH}?job={job}"),
            None => PATH.to_owned(),
        }
    }

    /// Whether the run was told so.
    pub fn has(&self, name: &str, value: &OsStr) -> bool {
        self.set.has(name, value)
    }

    /// Has `source` say what holds `now`, else what the run was told. A variable that somebody has
    /// set to something else since is stronger.
    pub fn apply(&self, source: &mut Source, now: Option<HandedSettings>) {
        source.default_file = PathBuf::new();
        source
            .env
            .retain(|(name, value)| name != FILE && !self.has(name, value));
        for (name, value) in now.unwrap_or_else(|| self.set.clone()).0 {
            if source.variable(&name).is_none() {
                source.env.push((name, value.as_os_str().to_owned()));
            }
        }
    }
}

/// Where the daemon says what holds now, on its control socket.
pub const PATH: &str = "/settings";

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use super::*;
    use crate::config::{self, Flag};

    fn source(file: Option<&Path>) -> Source {
        let mut source = Source::defaults("here");
        source.file = file.map(Path::to_owned);
        source
    }

    fn config(endpoint: &str, file: Option<&Path>) -> Config {
        let mut source = source(file);
        let flag = Flag::text("etcd.endpoints", "--endpoints", endpoint);
        source.flags = vec![flag];
        config::load(&source).unwrap().config
    }

    #[test]
    fn a_run_goes_by_what_it_was_told_and_not_by_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(OsStr::from_bytes(b"not-\xff-utf8"));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("a.toml");
        std::fs::write(&file, "election.prefix = '/a'\nelection.ttl = '9s'\n").unwrap();
        let told = config("http://a:1", Some(&file));
        let text = Handed::of(&told).to_text();
        std::fs::write(&file, "election.prefix = ").unwrap();

        let in_job = |more: &[(&str, &OsStr)]| {
            let mut source = source(None);
            source.default_file = file.clone();
            source.env = vec![
                (VARIABLE.to_owned(), text.clone().into()),
                (FILE.to_owned(), file.clone().into()),
            ];
            for (name, value) in more {
                source.env.retain(|(known, _)| known != name);
                source.env.push(((*name).to_owned(), (*value).to_owned()));
            }
            source
        };
        let applied = |mut source: Source, now: Option<HandedSettings>| {
            Handed::of_source(&source).unwrap().apply(&mut source, now);
            let config = config::load(&source).unwrap().config;
            (config.etcd.endpoints.join(","), config.election)
        };
        let (endpoints, election) = applied(in_job(&[]), None);
        assert_eq!(endpoints, "http://a:1");
        assert_eq!(election.prefix.as_str(), "/a");
        assert_eq!(election.ttl.as_secs(), 9);
        // What the daemon has told otherwise too, where it has the variable itself.
        let variable = "INCUMBENT__ETCD__ENDPOINTS";
        let had = in_job(&[(variable, OsStr::new("http://a:1"))]);
        let now = HandedSettings::of(&config("http://b:1", None));
        assert_eq!(applied(had, Some(now.clone())).0, "http://b:1");
        let own = in_job(&[(variable, OsStr::new("http://c:1"))]);
        assert_eq!(applied(own, Some(now)).0, "http://c:1");
        // Whoever names another file means that one.
        let other = in_job(&[(FILE, OsStr::new("/other.toml"))]);
        assert_eq!(Handed::of_source(&other), None);
    }
}
