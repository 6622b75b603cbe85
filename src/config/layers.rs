//! The layers of the configuration, each a tree of known keys, and their merging.
//!
//! The `config` crate merges: a later layer wins, tables are merged key by key, and each value
//! keeps its origin, which is its [`Place`].

use std::ffi::{OsStr, OsString};

use ::config::{ConfigError, Map, Source, Value, ValueKind};
use toml::de::DeValue;

use super::JOB;
use super::jobs::{self, JOBS};
use super::keys::{self, Entry, KEYS, PREFIX, Preset};
use super::kinds::{Kind, ListKind};
use super::place::{Place, Problem};
use super::source::{Flag, FlagValue};
use super::{file_path, toml_file};
use crate::keys::JobName;

/// One layer; holds known keys only.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Layer {
    /// Sets the value at `path`, making the tables on the way.
    pub(super) fn set(&mut self, path: &[&str], value: Value) {
        if let Some((last, tables)) = path.split_last()
            && let Some(table) = self.table(tables)
        {
            table.insert((*last).to_owned(), value);
        }
    }

    /// The table at `path`, made if it isn't there.
    pub(super) fn table(&mut self, path: &[&str]) -> Option<&mut Map<String, Value>> {
        let mut map = &mut self.0;
        for name in path {
            let table = map
                .entry((*name).to_owned())
                .or_insert_with(|| Value::new(None, ValueKind::Nil));
            if !matches!(table.kind, ValueKind::Table(_)) {
                table.kind = ValueKind::Table(Map::new());
            }
            match &mut table.kind {
                ValueKind::Table(deeper) => map = deeper,
                _ => return None,
            }
        }
        Some(map)
    }

    /// The same without what jobs are made of, but for what is told of them to who asks.
    pub(super) fn without_jobs(mut self) -> Self {
        without_job(&mut self.0);
        if let Some(ValueKind::Table(jobs)) = self.0.get_mut(JOBS).map(|jobs| &mut jobs.kind) {
            for job in jobs.values_mut() {
                if let ValueKind::Table(table) = &mut job.kind {
                    without_job(table);
                }
            }
        }
        self
    }

    /// The names of the jobs that have some.
    pub(super) fn job_names(&self) -> Vec<JobName> {
        let tables = jobs::tables(&self.0).into_iter();
        tables.map(|(name, _)| name).collect()
    }

    fn set_key(&mut self, key: &Entry, value: Value) {
        self.set(&key.name.split('.').collect::<Vec<_>>(), value);
    }
}

/// What of a job's table is told to who asks how things stand: when it runs, and who should lead.
const OF_STATUS: [&str; 2] = ["schedule", "prefer"];

/// Takes out of the table what is the job's, but for what is told of it.
fn without_job(table: &mut Map<String, Value>) {
    match table.get_mut(JOB).map(|value| &mut value.kind) {
        Some(ValueKind::Table(keys)) => keys.retain(|name, _| OF_STATUS.contains(&&**name)),
        _ => drop(table.remove(JOB)),
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The merged layers.
#[derive(Clone, Debug, Default)]
pub(super) struct MergedTree(Map<String, Value>);

impl MergedTree {
    /// Merges the layers, the weakest first.
    pub(super) fn merged(layers: impl IntoIterator<Item = Layer>) -> Result<Self, ConfigError> {
        layers
            .into_iter()
            .fold(::config::Config::builder(), |builder, layer| {
                builder.add_source(layer)
            })
            .build()?
            .collect()
            .map(Self)
    }

    /// One with this in it.
    pub(super) const fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// What is in it.
    pub(super) const fn map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &Entry) -> Option<&Value> {
        let mut parts = key.name.split('.');
        let mut value = self.0.get(parts.next()?)?;
        for part in parts {
            match &value.kind {
                ValueKind::Table(table) => value = table.get(part)?,
                _ => return None,
            }
        }
        Some(value)
    }
}

/// The built-in defaults, with what the machine says where the table has no constant.
pub(super) fn defaults(host_name: &str, runtime_dir: &OsStr) -> Layer {
    let mut layer = Layer::default();
    for key in KEYS {
        if let Preset::Constant(text) | Preset::Within(text) = key.preset
            && let Some(value) = from_toml(text, &Place::Default)
        {
            layer.set_key(key, value);
        }
    }
    let name = text_at(host_name, &Place::Default);
    layer.set_key(&keys::CANDIDATE_NAME, name);
    let runtime_dir = match runtime_dir.to_str() {
        Some(text) => text_at(text, &Place::Default),
        None => file_path::of_bytes(runtime_dir, &Place::Default),
    };
    layer.set_key(&keys::RUNTIME_DIR, runtime_dir);
    layer
}

/// The layer of the variables that begin with `INCUMBENT__`; the file names `jobs`.
pub(super) fn environment(
    env: &[(String, OsString)],
    jobs: &[JobName],
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let known = key_of_variable(name, jobs);
        let is_deeper = known.as_ref().is_some_and(|it| it.is_deeper);
        if value.is_empty() && !is_deeper {
            // As everywhere else, set to nothing is not set; but a job's variable may be empty.
            continue;
        }
        let place = Place::Variable(name.clone());
        let dotted = rest.replace("__", ".").to_lowercase();
        let Some(VariablePath { key, path, .. }) = known else {
            problems.push(unknown_variable(place, dotted));
            continue;
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(value) = from_os(key, value, &place, problems) {
            layer.set(&path, value);
        }
    }
    layer
}

/// What a variable sets.
struct VariablePath {
    key: &'static Entry,
    /// Its path in the tree.
    path: Vec<String>,
    /// Whether that goes deeper than the key, into a table.
    is_deeper: bool,
}

/// What a variable sets, where there are `jobs` of these names.
fn key_of_variable(variable: &str, jobs: &[JobName]) -> Option<VariablePath> {
    if let Some((job, rest)) = jobs::of_variable(variable, jobs) {
        let shown = |key: &Entry| {
            let name = jobs::name_of(key)?;
            Some(name.replace('.', "__").to_uppercase())
        };
        let mut found = key_below(rest, shown)?;
        let job = [JOBS, job.as_str()].map(str::to_owned);
        found.path.splice(0..0, job);
        return Some(found);
    }
    key_below(variable, |key| Some(key.variable()))
}

/// The key that is `shown` so in `text`, or the table that goes deeper there.
fn key_below(text: &str, shown: impl Fn(&Entry) -> Option<String>) -> Option<VariablePath> {
    KEYS.iter().find_map(|key| {
        let mut path: Vec<String> = key.name.split('.').map(str::to_owned).collect();
        let rest = text.strip_prefix(&shown(key)?)?;
        if rest.is_empty() {
            let is_deeper = false;
            return Some(VariablePath {
                key,
                path,
                is_deeper,
            });
        }
        let deeper = rest
            .strip_prefix("__")
            .filter(|deeper| !deeper.is_empty())?;
        match key.kind {
            // Names of variables are the user's own, in capitals as a rule.
            Kind::Variables(_) => path.push(deeper.to_owned()),
            Kind::Table(_) => path.extend(deeper.to_lowercase().split("__").map(str::to_owned)),
            _ => return None,
        }
        let is_deeper = true;
        Some(VariablePath {
            key,
            path,
            is_deeper,
        })
    })
}

fn unknown_variable(place: Place, dotted: String) -> Problem {
    let what = if keys::sections().contains(&dotted.as_str()) {
        let first = KEYS.iter().find(|key| key.split().0 == dotted);
        let example = first.map(Entry::variable).unwrap_or_default();
        format!("expected a key after the section, such as {example}")
    } else {
        let nearest = keys::nearest(&dotted, KEYS.iter().map(|key| key.name));
        let nearest = nearest.map(|key| format!("{key}, which is {}", keys::variable(key)));
        format!("unknown key{}", keys::did_you_mean(nearest.as_deref()))
    };
    Problem::new(place, dotted, what)
}

/// The layer of the command line.
pub(super) fn flags(flags: &[Flag], job: Option<&JobName>, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::default();
    for Flag { key, flag, value } in flags {
        let place = Place::Flag(flag.clone());
        let Some(known) = keys::find(key) else {
            problems.push(Problem::new(place, *key, "unknown key"));
            continue;
        };
        let value = match value {
            FlagValue::Text(text) => from_os(known, text, &place, problems),
            FlagValue::List(texts) => Some(list_at(texts.iter().map(String::as_str), &place)),
        };
        if let Some(value) = value {
            match job.filter(|_| key.starts_with("job.")) {
                Some(job) => {
                    let path = [JOBS, job.as_str()].into_iter().chain(key.split('.'));
                    layer.set(&path.collect::<Vec<_>>(), value);
                }
                None => layer.set_key(known, value),
            }
        }
    }
    layer
}

/// As [`from_text`] for what may be no UTF-8: a path may be any bytes, and nothing else may.
fn from_os(key: &Entry, text: &OsStr, place: &Place, problems: &mut Vec<Problem>) -> Option<Value> {
    match (key.kind, text.to_str()) {
        (kind, Some(text)) => Some(from_text(kind, text, place)),
        (Kind::Path(_), None) => Some(file_path::of_bytes(text, place)),
        (_, None) => {
            let what = "expected UTF-8 text, found other bytes";
            problems.push(Problem::new(place.clone(), key.name, what));
            None
        }
    }
}

/// The value that text from the environment or a flag stands for. What doesn't fit the kind stays
/// text, and is found wrong later, where the file's values are.
fn from_text(kind: Kind, text: &str, place: &Place) -> Value {
    let value = match kind {
        Kind::Count(_) => text
            .trim()
            .parse()
            .ok()
            .map(|count: i64| Value::new(Some(&place.origin()), ValueKind::I64(count))),
        // A comma in a password would cut a URL in two, and the halves would look harmless.
        Kind::List(ListKind::Urls) if text.contains('@') => Some(list_at([text], place)),
        Kind::List(ListKind::Urls) => {
            let urls = text.split(',').map(str::trim);
            Some(list_at(urls.filter(|url| !url.is_empty()), place))
        }
        Kind::List(ListKind::Hosts | ListKind::Names) => {
            let hosts = text.split(',').map(str::trim);
            Some(list_at(hosts.filter(|host| !host.is_empty()), place))
        }
        // One pattern may well have commas.
        Kind::List(ListKind::Argv | ListKind::Patterns) => {
            from_toml(text, place).filter(|value| matches!(value.kind, ValueKind::Array(_)))
        }
        Kind::Table(_) => from_toml(text, place),
        _ => None,
    };
    value.unwrap_or_else(|| text_at(text, place))
}

/// The value that TOML text stands for, if it is one.
fn from_toml(text: &str, place: &Place) -> Option<Value> {
    let value = DeValue::parse(text.trim()).ok()?;
    Some(toml_file::value(value.get_ref(), value.span(), &|_| {
        place.clone()
    }))
}

fn text_at(text: &str, place: &Place) -> Value {
    Value::new(Some(&place.origin()), ValueKind::String(text.to_owned()))
}

fn list_at<'a>(texts: impl IntoIterator<Item = &'a str>, place: &Place) -> Value {
    let list = texts.into_iter().map(|text| text_at(text, place)).collect();
    Value::new(Some(&place.origin()), ValueKind::Array(list))
}
