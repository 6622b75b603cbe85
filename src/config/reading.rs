//! From layers to checked values: of the one job, or of each of several.

use super::jobs;
use super::keys;
use super::kinds::Context;
use super::layers::{self, MergedTree};
use super::place::{self, Place, Problem, Problems};
use super::rules::{self, PassedValues};
use super::source::{FoundFile, Source};
use super::{JOB, Loaded, SetByUser, assemble, has_no_value, report, toml_file};
use crate::keys::JobName;

/// A configuration whose values were checked one by one.
pub(super) struct ReadConfig {
    pub(super) found: Option<FoundFile>,
    /// What there is beside the jobs with names.
    pub(super) shared: PassedValues,
    jobs: Vec<ReadJob>,
    problems: Vec<Problem>,
}

/// One job of it.
struct ReadJob {
    /// How it is called, and what its keys are for the user, if there may be several.
    name: Option<JobName>,
    settings: PassedValues,
    warnings: Vec<String>,
    set: Vec<SetByUser>,
}

impl ReadConfig {
    /// Reads what `source` has: all jobs, or only the `one` that it names.
    pub(super) fn new(source: &Source, one: bool) -> Self {
        let mut problems = Vec::new();
        let found = source.read();
        let mut is_whole = found.is_ok();
        let found = found.unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let read = match &found {
            Some(found) => toml_file::read(&found.shown, &found.bytes),
            None => toml_file::ReadFile::default(),
        };
        is_whole &= read.syntax.is_empty();
        problems.extend(read.problems);
        let in_file = read.layer.job_names();
        let variables = layers::environment(&source.env, &in_file, &mut problems);
        let meant = if one {
            meant(source, [in_file, variables.job_names()].concat())
        } else {
            None
        };
        let flags = layers::flags(&source.flags, meant.as_ref(), &mut problems);
        let set = [read.layer, variables, flags];
        let set = set.into_iter().map(|layer| {
            if source.ignores_job {
                layer.without_jobs()
            } else {
                layer
            }
        });
        let defaults = layers::defaults(&source.host_name, source.runtime_dir().as_os_str());
        let layers = std::iter::once(defaults).chain(set);
        let tree = MergedTree::merged(layers).unwrap_or_else(|error| {
            problems.push(Problem::new(Place::Default, "", error.to_string()));
            MergedTree::default()
        });
        let shown = found.as_ref().map(|found| found.shown.clone());
        let tables = jobs::tables(tree.map());
        // Where no name is a good one, nobody says that there is to be a job without.
        let is_bad = tables.is_empty() && problems.iter().any(|it| it.is_in(jobs::JOBS));
        let reading = JobReading {
            source,
            found: found.as_ref(),
            file: shown.map_or(Place::Default, Place::File),
            is_whole: is_whole && !is_bad,
        };
        let chosen = if one {
            chosen(source, &tables).unwrap_or_else(|problem| {
                problems.push(problem);
                Vec::new()
            })
        } else {
            tables.iter().map(|(name, _)| Some(name)).collect()
        };
        let mut problems = reading.minded(problems);
        let mut shared_problems = Vec::new();
        let shared = reading.passed(&tree, &mut shared_problems);
        let mut jobs = Vec::new();
        if tables.is_empty() || chosen.contains(&None) {
            problems.extend(reading.minded(shared_problems));
            jobs.push(reading.of_one(None, &shared, &mut problems));
        } else {
            let names: Vec<&JobName> = tables.iter().map(|(name, _)| name).collect();
            problems.extend(jobs::broken(&shared, &names, &reading.file, one));
            for (name, table) in tables
                .iter()
                .filter(|(name, _)| chosen.contains(&Some(name)))
            {
                let mut found = Vec::new();
                let own = MergedTree::of(jobs::tree_of(tree.map(), name, table));
                let settings = reading.passed(&own, &mut found);
                let renaming = jobs::Renaming::new(name, table);
                let job = reading.of_one(Some(name), &settings, &mut found);
                jobs.push(job.renamed(&renaming));
                for problem in reading.minded(found) {
                    let problem = renaming.problem(problem);
                    // What they have in common is wrong once.
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
        // What else stands on a line with a fault of syntax is a guess.
        problems.retain(|problem| !read.syntax.iter().any(|fault| fault.shares_line(problem)));
        problems.extend(read.syntax);
        Self {
            found,
            shared,
            jobs,
            problems,
        }
    }

    /// The configurations, if nothing is wrong with any.
    pub(super) fn finished(self) -> Result<Vec<Loaded>, Problems> {
        if !self.problems.is_empty() {
            return Err(Problems::of(self.problems));
        }
        let file = self.found.map(|found| found.path);
        let jobs = self.jobs.into_iter().map(|job| {
            let config = assemble(&job.settings, file.clone(), job.name);
            Ok(Loaded {
                config: config.map_err(has_no_value)?,
                warnings: job.warnings,
                set: job.set,
            })
        });
        jobs.collect()
    }
}

/// The job, of those with these names, whose keys the command line sets.
fn meant(source: &Source, mut names: Vec<JobName>) -> Option<JobName> {
    if source.names_election() {
        return None;
    }
    names.sort();
    names.dedup();
    match &source.job {
        Some(job) => names.into_iter().find(|name| name.as_str() == job),
        None if names.len() == 1 => names.pop(),
        None => None,
    }
}

/// The job that is meant where one election is; `None` for what is beside the jobs with names.
fn chosen<'a, T>(
    source: &Source,
    jobs: &'a [(JobName, T)],
) -> Result<Vec<Option<&'a JobName>>, Problem> {
    let names: Vec<&str> = jobs.iter().map(|(name, _)| name.as_str()).collect();
    let place = Place::Flag("--job".to_owned());
    match &source.job {
        Some(job) => {
            let found = jobs.iter().find(|(name, _)| name.as_str() == job);
            let found = found.ok_or_else(|| {
                let expected = if names.is_empty() {
                    "no name, since the configuration has none".to_owned()
                } else {
                    names.join(" or ")
                };
                let found = place::quoted(job);
                Problem::new(place, "", format!("expected {expected}, found {found}"))
            })?;
            Ok(vec![Some(&found.0)])
        }
        None if source.names_election() => Ok(vec![None]),
        None => match jobs {
            [] => Ok(vec![None]),
            [(name, _)] => Ok(vec![Some(name)]),
            _ => {
                let what = format!(
                    "expected one of {}, or an election by --election, found none",
                    names.join(", ")
                );
                Err(Problem::new(place, "", what))
            }
        },
    }
}

/// How the jobs of a configuration are read.
struct JobReading<'a> {
    source: &'a Source,
    found: Option<&'a FoundFile>,
    /// Where a missing key would stand.
    file: Place,
    /// Whether the file, if one is named, could be read to its end.
    is_whole: bool,
}

impl JobReading<'_> {
    fn passed(&self, tree: &MergedTree, problems: &mut Vec<Problem>) -> PassedValues {
        let context = Context {
            source: self.source,
            file: self.found.map(|found| found.path.as_path()),
        };
        PassedValues::read(tree, &context, problems)
    }

    /// Those problems that the command minds.
    fn minded(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let source = self.source;
        let minds = |it: &Problem| {
            let is_of_schedule = it.is_in(keys::SCHEDULE) || it.key.contains(".schedule.");
            let is_of_job = it.is_in(JOB) || it.key.starts_with("jobs.");
            !source.ignores_job || source.needs_schedule && is_of_schedule || !is_of_job
        };
        problems.into_iter().filter(minds).collect()
    }

    /// A job, which is the only one if it has no name.
    fn of_one(
        &self,
        name: Option<&JobName>,
        settings: &PassedValues,
        problems: &mut Vec<Problem>,
    ) -> ReadJob {
        // What is missing may stand in the part that could not be read.
        if self.is_whole {
            let may_be_flags = name.is_none();
            let broken = rules::broken(settings, self.source, &self.file, may_be_flags);
            problems.extend(broken);
        }
        ReadJob {
            name: name.cloned(),
            settings: settings.clone(),
            warnings: rules::warnings(settings),
            set: report::set_by_user(settings),
        }
    }
}

impl ReadJob {
    /// The same, with its keys as the user writes them.
    fn renamed(self, renaming: &jobs::Renaming<'_>) -> Self {
        let set = self.set.into_iter().map(|set| SetByUser {
            key: renaming.key(&set.key),
            ..set
        });
        Self {
            warnings: self.warnings.iter().map(|it| renaming.words(it)).collect(),
            set: set.collect(),
            ..self
        }
    }
}
