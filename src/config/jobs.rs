//! `[jobs.NAME]`: several jobs in one configuration.
//!
//! Each is read as if it were the one job of a configuration of its own: what stands in its table takes
//! the place of `[job]`, `[hooks]`, `[candidate.check]` and of the election's times, and its election
//! is `election.prefix` with its name below. So there is one table of keys, and one set of rules.

use std::sync::Arc;

use ::config::{Map, Value, ValueKind};

use super::Config;
use super::keys::{self, Entry, KEYS};
use super::place::{Place, Problem, quoted};
use super::rules::PassedValues;
use crate::keys::JobName;

/// The table that the jobs' own tables stand in.
pub(super) const JOBS: &str = "jobs";

/// The sections that stand in a job's table beside its own keys, by what they are called there.
pub(super) const SECTIONS_OF_ONE: [(&str, &str); 2] =
    [("hooks", "hooks"), ("check", "candidate.check")];

/// The keys of `[election]` that a job may have for itself, by their last names.
pub(super) const KEYS_OF_ELECTION: [Entry; 2] = [
    keys::ELECTION_TTL.entry,
    keys::ELECTION_TAKEOVER_DELAY.entry,
];

/// The most jobs of one daemon.
pub(super) const MOST: usize = 100;

/// The configurations of a daemon's jobs, which have all in common that isn't a job's own. There is at
/// least one, and where the job has no name there is only that.
#[derive(Clone, Debug)]
pub struct JobConfigs {
    first: Arc<Config>,
    others: Vec<Arc<Config>>,
}

impl JobConfigs {
    /// The only one.
    pub fn single(config: Config) -> Self {
        Self {
            first: Arc::new(config),
            others: Vec::new(),
        }
    }

    /// These; `None` if there are none.
    pub(super) fn of(configs: impl IntoIterator<Item = Config>) -> Option<Self> {
        let mut configs = configs.into_iter().map(Arc::new);
        Some(Self {
            first: configs.next()?,
            others: configs.collect(),
        })
    }

    /// One of them, for what they have in common.
    pub fn shared(&self) -> &Arc<Config> {
        &self.first
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Config>> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// That of the job of this name.
    pub fn get(&self, name: Option<&JobName>) -> Option<&Arc<Config>> {
        self.iter().find(|config| config.job_name.as_ref() == name)
    }

    /// The election, or what those of jobs with names have in common.
    pub fn election(&self) -> &str {
        self.first.root()
    }

    /// The names, with commas between; `None` for a job without.
    pub fn names(&self) -> Option<String> {
        let names = self.iter().map(|config| config.job_name.as_ref());
        let names: Option<Vec<&str>> = names.map(|name| name.map(JobName::as_str)).collect();
        names.map(|names| names.join(","))
    }
}

/// The key that is called so in a job's table.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    KEYS.iter()
        .find(|key| name_of(key).is_some_and(|known| known == name))
}

/// What the key is called in a job's table, if it may stand there.
pub(super) fn name_of(key: &Entry) -> Option<String> {
    let (section, last) = key.split();
    if KEYS_OF_ELECTION.iter().any(|own| own.name == key.name) {
        return Some(last.to_owned());
    }
    if let Some((name, _)) = SECTIONS_OF_ONE.iter().find(|(_, of)| *of == section) {
        return Some(format!("{name}.{last}"));
    }
    key.name.strip_prefix("job.").map(ToOwned::to_owned)
}

/// Whether a job's table may have a table of this name in it, which has keys in turn.
pub(super) fn is_section(name: &str) -> bool {
    let within = format!("{name}.");
    KEYS.iter()
        .filter_map(name_of)
        .any(|known| known.starts_with(&within))
}

/// All that may stand in the table of the job that is shown as `job`.
pub(super) fn known(job: &str) -> Vec<String> {
    let names = KEYS.iter().filter_map(name_of);
    names.map(|name| format!("{JOBS}.{job}.{name}")).collect()
}

/// What is wrong with a name.
pub(super) fn bad_name(place: Place, name: &str) -> Problem {
    let what = format!(
        "expected a name of 1 to {} of a-z, 0-9, - and _, found {}",
        JobName::LONGEST,
        quoted(name)
    );
    Problem::new(place, JOBS, what)
}

/// How the name stands in a variable.
fn in_variable(name: &JobName) -> String {
    name.as_str().to_uppercase().replace('-', "_")
}

/// The name, and the path below its table, of what an `INCUMBENT__JOBS__…` variable sets. `known`
/// are the names that the file has: a `-` in one is an `_` in a variable.
pub(super) fn of_variable<'a>(variable: &'a str, known: &[JobName]) -> Option<(JobName, &'a str)> {
    let of_jobs = format!("{}__", keys::variable(JOBS));
    let rest = variable.strip_prefix(&of_jobs)?;
    let is_named = |name: &&JobName| {
        let after = rest.strip_prefix(&in_variable(name));
        after.is_some_and(|after| after.starts_with("__"))
    };
    // Of `a` and `a__b` the longer one is meant.
    let named = known
        .iter()
        .filter(is_named)
        .max_by_key(|name| name.as_str().len());
    if let Some(name) = named {
        return Some((name.clone(), rest.get(name.as_str().len() + 2..)?));
    }
    let (name, rest) = rest.split_once("__")?;
    Some((JobName::new(&name.to_lowercase())?, rest))
}

/// The jobs' tables of a merged tree, each by its name.
pub(super) fn tables(tree: &Map<String, Value>) -> Vec<(JobName, &Map<String, Value>)> {
    let Some(ValueKind::Table(jobs)) = tree.get(JOBS).map(|jobs| &jobs.kind) else {
        return Vec::new();
    };
    let tables = jobs.iter().filter_map(|(name, table)| match &table.kind {
        // Others were refused where they were read.
        ValueKind::Table(table) => Some((JobName::new(name)?, table)),
        _ => None,
    });
    let mut tables: Vec<_> = tables.collect();
    tables.sort_by(|(one, _), (other, _)| one.cmp(other));
    tables
}

/// The tree that the job of this name has for itself.
pub(super) fn tree_of(
    tree: &Map<String, Value>,
    name: &JobName,
    table: &Map<String, Value>,
) -> Map<String, Value> {
    let mut own = tree.clone();
    own.remove(JOBS);
    lay_over(&mut own, table);
    let election = own.get_mut("election").map(|election| &mut election.kind);
    if let Some(ValueKind::Table(election)) = election
        && let Some(prefix) = election.get_mut("prefix")
        && let ValueKind::String(text) = &mut prefix.kind
    {
        *text = format!("{text}/{name}");
    }
    own
}

fn lay_over(below: &mut Map<String, Value>, above: &Map<String, Value>) {
    for (name, value) in above {
        match (
            below.get_mut(name).map(|known| &mut known.kind),
            &value.kind,
        ) {
            (Some(ValueKind::Table(known)), ValueKind::Table(table)) => lay_over(known, table),
            _ => drop(below.insert(name.clone(), value.clone())),
        }
    }
}

/// What is wrong where there are jobs with names: one without beside them, or too many. What the command
/// line says is of the `one` job that is meant, where one is.
pub(super) fn broken(
    settings: &PassedValues,
    names: &[&JobName],
    file: &Place,
    one: bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let is_meant = |key: &Entry| one && matches!(settings.place(key), Place::Flag(_));
    let is_set =
        |key: &&Entry| key.name.starts_with("job.") && settings.is_changed(key) && !is_meant(key);
    if let Some(key) = KEYS.iter().find(is_set) {
        let what = format!("expected [job] or [{JOBS}.NAME], found both");
        problems.push(Problem::new(settings.place(key), key.name, what));
    }
    for (at, name) in names.iter().enumerate() {
        let shown = in_variable(name);
        if let Some(other) = names[..at].iter().find(|it| in_variable(it) == shown) {
            let what =
                format!("expected names that variables tell apart, found {other} and {name}");
            problems.push(Problem::new(file.clone(), JOBS, what));
        }
    }
    if names.len() > MOST {
        let what = format!("expected at most {MOST} jobs, found {}", names.len());
        problems.push(Problem::new(file.clone(), JOBS, what));
    }
    problems
}

/// The names that keys have for one who has a job of this name before them.
#[derive(Clone, Debug)]
pub(super) struct Renaming<'a> {
    name: &'a JobName,
    /// Those that stand in the job's table, and not where a configuration with one job has them.
    own: Vec<&'static Entry>,
}

impl<'a> Renaming<'a> {
    /// Of the job of this name, in whose table this stands.
    pub(super) fn new(name: &'a JobName, table: &Map<String, Value>) -> Self {
        let table = super::layers::MergedTree::of(table.clone());
        let is_own = |key: &&Entry| key.name.starts_with("job.") || table.get(key).is_some();
        Self {
            name,
            own: KEYS.iter().filter(is_own).collect(),
        }
    }

    /// The key, or section, as the user writes it.
    pub(super) fn key(&self, key: &str) -> String {
        let known = self.own.iter().find_map(|own| {
            let rest = key.strip_prefix(own.name)?;
            let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
            Some(format!("{}{rest}", name_of(own).filter(|_| is_whole)?))
        });
        let section = || {
            let rest = key.strip_prefix("job.")?;
            is_section(rest).then(|| rest.to_owned())
        };
        match known.or_else(section) {
            Some(known) => format!("{JOBS}.{}.{known}", self.name),
            None if key == "job" => format!("{JOBS}.{}", self.name),
            None => key.to_owned(),
        }
    }

    /// The words, with each key in them as the user writes it.
    pub(super) fn words(&self, words: &str) -> String {
        let is_inside =
            |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
        let mut renamed = String::with_capacity(words.len());
        let mut rest = words;
        while let Some(start) = rest.find(is_inside) {
            let (before, from) = rest.split_at(start);
            let length = from.find(|it| !is_inside(it)).unwrap_or(from.len());
            let (word, after) = from.split_at(length);
            renamed += before;
            renamed += &if keys::find(word).is_some() {
                self.key(word)
            } else {
                word.to_owned()
            };
            rest = after;
        }
        renamed + rest
    }

    /// The problem, as the user is told of it.
    pub(super) fn problem(&self, mut problem: Problem) -> Problem {
        problem.key = self.key(&problem.key);
        problem.what = self.words(&problem.what);
        problem
    }
}
