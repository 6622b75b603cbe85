//! Where a configuration comes from: which file, and what process and command line add to it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keys;
use super::place::{Place, Problem, path_shown};
use crate::log::printable;

/// The file that is read if it is there and no other is named.
pub const DEFAULT_FILE: &str = "/etc/incumbent/incumbent.toml";

/// All that a configuration is loaded from. Plain data: loading looks at nothing else but the
/// files that it names.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file named by `-c`.
    pub file: Option<PathBuf>,
    /// The file that is read if it is there and none is named.
    pub default_file: PathBuf,
    /// The environment; looked at are `INCUMBENT__…`, `INCUMBENT_CONFIG`, `RUNTIME_DIRECTORY`,
    /// `XDG_RUNTIME_DIR` and `CREDENTIALS_DIRECTORY`.
    pub env: Vec<(String, OsString)>,
    /// The flags that set keys, weakest first.
    pub flags: Vec<Flag>,
    /// The job that a command is about, of several.
    pub job: Option<String>,
    /// Names of the registered Rust jobs.
    pub job_kinds: Vec<String>,
    /// Whether there must be a job to run, as for `run`.
    pub needs_job: bool,
    /// Says whether a Rust job takes its settings.
    pub judge: Judge,
    /// Whether `[job]` is none of the command's business: nothing but its schedule is read, and that
    /// only if nothing is wrong with it.
    pub ignores_job: bool,
    /// Whether there must be a schedule, and a good one.
    pub needs_schedule: bool,
    /// The default of `candidate.name`.
    pub host_name: String,
    /// What relative paths outside a file are relative to.
    pub current_dir: PathBuf,
    /// Where systemd keeps the credentials and runtime directories of units, for commands that are
    /// typed outside of them; empty for nowhere.
    pub units: PathBuf,
}

/// Says whether a job of a kind in Rust takes its settings, and if not, why. By itself it takes all.
#[derive(Clone, Default)]
pub struct Judge(Option<Arc<JobVerdict>>);

type JobVerdict = dyn Fn(&str, toml::Table) -> Result<(), String> + Send + Sync;

impl Judge {
    /// One that is asked with the kind and the settings.
    pub fn new(
        verdict: impl Fn(&str, toml::Table) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(verdict)))
    }

    pub(super) fn ask(&self, kind: &str, settings: toml::Table) -> Result<(), String> {
        let verdict = self.0.as_deref();
        verdict.map_or(Ok(()), |verdict| verdict(kind, settings))
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Judge").finish_non_exhaustive()
    }
}

/// A flag that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key, such as `etcd.endpoints`.
    pub key: &'static str,
    /// The flag as the user typed it, such as `--endpoints`.
    pub flag: String,
    /// What it was given.
    pub value: FlagValue,
}

/// What a flag was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagValue {
    /// Text, read as the key's kind has it: URLs with commas between.
    Text(OsString),
    /// Several words, such as a command and its arguments.
    List(Vec<String>),
}

impl Flag {
    /// A flag with a value.
    pub fn text(key: &'static str, flag: impl Into<String>, value: impl Into<OsString>) -> Self {
        Self {
            key,
            flag: flag.into(),
            value: FlagValue::Text(value.into()),
        }
    }

    /// A flag with several values, or the words after `--`.
    pub fn list(key: &'static str, flag: impl Into<String>, value: Vec<String>) -> Self {
        Self {
            key,
            flag: flag.into(),
            value: FlagValue::List(value),
        }
    }
}

impl Source {
    /// Nothing but the built-in defaults, for a host of that name; reads no file.
    pub fn defaults(host_name: impl Into<String>) -> Self {
        Self {
            file: None,
            default_file: PathBuf::new(),
            env: Vec::new(),
            flags: Vec::new(),
            job: None,
            job_kinds: Vec::new(),
            needs_job: false,
            judge: Judge::default(),
            ignores_job: false,
            needs_schedule: false,
            host_name: host_name.into(),
            current_dir: PathBuf::from("/"),
            units: PathBuf::new(),
        }
    }

    /// What this process was started with, without its command line.
    pub fn of_process() -> Self {
        let host_name = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self {
            default_file: PathBuf::from(DEFAULT_FILE),
            units: PathBuf::from("/run"),
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            // Without a current directory only relative paths fail, and they say so on use.
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            ..Self::defaults(host_name)
        }
    }

    /// Whether a flag names an election, which then isn't that of one of the file's jobs. A variable says
    /// what all of these have in common.
    pub fn names_election(&self) -> bool {
        self.flags
            .iter()
            .any(|flag| flag.key == keys::ELECTION_PREFIX.name)
    }

    /// The variable of that name, if it is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<&OsString> {
        let named = self.env.iter().find(|(known, _)| known == name);
        named
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    /// The directory of systemd's credentials: that of this process, else that of the unit which
    /// reads the file, if it runs and this user may look into it.
    pub(super) fn credentials_dir(&self, file: Option<&Path>) -> Option<PathBuf> {
        let own = self.variable("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        own.or_else(|| {
            let unit = unit(self.instance(file)?);
            let dir = self.units.join("credentials").join(unit);
            let may = rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK;
            rustix::fs::access(&dir, may).is_ok().then_some(dir)
        })
    }

    /// What a command says that lacks them, after that they are missing.
    pub(super) fn who_has_credentials(&self, file: Option<&Path>) -> String {
        self.instance(file).map_or(String::new(), |instance| {
            format!(
                "; root's commands find those of {} while it runs",
                unit(instance)
            )
        })
    }

    /// The runtime directory of the unit that reads the file, for a command outside of it.
    pub(super) fn runtime_dir_of_unit(&self, file: Option<&Path>) -> Option<PathBuf> {
        let instance = self.instance(file)?;
        let own = self.variable("RUNTIME_DIRECTORY").is_some();
        (!own).then(|| self.units.join(format!("incumbent-{instance}")))
    }

    /// The instance of the shipped unit whose configuration the file is, by the file's name.
    fn instance<'a>(&self, file: Option<&'a Path>) -> Option<&'a str> {
        let name = file
            .filter(|_| !self.units.as_os_str().is_empty())?
            .file_name()?;
        name.to_str()?.strip_suffix(".toml")
    }

    /// The default of `runtime_dir`.
    pub(super) fn runtime_dir(&self) -> PathBuf {
        // systemd lists all of a unit's directories, with colons between; ours is the first.
        let of_unit = self.variable("RUNTIME_DIRECTORY").and_then(|listed| {
            let first = listed.as_bytes().split(|byte| *byte == b':').next()?;
            Some(PathBuf::from(OsStr::from_bytes(first)))
        });
        let of_user = || {
            let dir = PathBuf::from(self.variable("XDG_RUNTIME_DIR")?);
            dir.is_absolute().then(|| dir.join("incumbent"))
        };
        of_unit
            .or_else(of_user)
            .unwrap_or_else(|| PathBuf::from("/run/incumbent"))
    }

    /// The file to read, and what it says; `None` for the built-in defaults.
    pub(super) fn read(&self) -> Result<Option<FoundFile>, Problem> {
        let (path, named_by) = if let Some(file) = &self.file {
            (file.clone(), Some("-c"))
        } else if let Some(file) = self.variable("INCUMBENT_CONFIG") {
            (PathBuf::from(file), Some("INCUMBENT_CONFIG"))
        } else if self.default_file.as_os_str().is_empty() {
            return Ok(None);
        } else {
            (self.default_file.clone(), None)
        };
        let absolute = self.current_dir.join(&path);
        match std::fs::read(&absolute) {
            Ok(bytes) => Ok(Some(FoundFile {
                shown: path_shown(&path),
                path: absolute,
                bytes,
            })),
            Err(error) if named_by.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&path, named_by, &error)),
        }
    }

    /// The number of variables that set keys.
    pub(super) fn variables_set(&self) -> usize {
        let sets = |(name, value): &&(String, OsString)| {
            name.starts_with(keys::PREFIX) && !value.is_empty()
        };
        self.env.iter().filter(sets).count()
    }
}

/// The shipped unit's instance of that name.
fn unit(instance: &str) -> String {
    format!("incumbent@{instance}.service")
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct FoundFile {
    /// Its name as the user gave it.
    pub(super) shown: String,
    /// Its path, absolute.
    pub(super) path: PathBuf,
    /// What it says.
    pub(super) bytes: Vec<u8>,
}

fn unreadable(path: &Path, named_by: Option<&str>, error: &io::Error) -> Problem {
    let found = why_unreadable(error);
    let named = named_by
        .map(|by| format!(" (named by {by})"))
        .unwrap_or_default();
    let what = format!("expected a configuration file{named}, found {found}");
    Problem::new(Place::File(path_shown(path)), "", what).of(error)
}

/// What stands in the place of a readable file, in words.
pub(super) fn why_unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::IsADirectory => "a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "one that may not be read: permission denied".to_owned(),
        _ => format!("one that can't be read: {}", printable(&error.to_string())),
    }
}
