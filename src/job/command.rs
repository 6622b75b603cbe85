//! The command job: how the guardian is to start it, environment included.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::config::handed::{self, Handed};
use crate::config::keys::variable;
use crate::guardian::protocol::{CommandSpec, Stdin};
use crate::notify::MANAGER_VARIABLES;
use crate::os_text::OsText;
use crate::schedule::Run;
use crate::term::Term;

/// The configured command, as it runs in `term`.
pub(crate) fn spec(config: &Config, term: &Term) -> CommandSpec {
    let (remove, set) = environment(config, term);
    CommandSpec {
        argv: config.job.command.clone(),
        working_dir: config.job.working_dir.clone(),
        remove,
        set,
        stdin: Stdin::Null,
    }
}

/// The configured command, as it runs in `term` for a slot of its schedule, if it has one.
pub(crate) fn spec_of_run(config: &Config, term: &Term, slot: Option<&Run>) -> CommandSpec {
    let mut spec = spec(config, term);
    if let Some(run) = slot {
        let last_success = run.last_success.map(|slot| slot.to_string());
        let ours = [
            ("INCUMBENT_SLOT", run.slot.to_string()),
            ("INCUMBENT_ATTEMPT", run.attempt.to_string()),
            ("INCUMBENT_RUN", run.nonce.clone()),
            ("INCUMBENT_MISSED", run.missed.to_string()),
            ("INCUMBENT_LAST_SUCCESS", last_success.unwrap_or_default()),
        ];
        let ours = ours.map(|(name, value)| (name.to_owned(), value.into()));
        spec.set.extend(ours);
    }
    spec
}

/// Another command, `argv`, as the job would run in `term`.
pub(crate) fn spec_of(config: &Config, term: &Term, argv: &[String]) -> CommandSpec {
    CommandSpec {
        argv: argv.to_vec(),
        ..spec(config, term)
    }
}

/// `argv`, run as the job is, but outside of any term: without its variables.
pub(crate) fn spec_outside(config: &Config, argv: &[String]) -> CommandSpec {
    let (mut remove, mut set) = outside(config);
    // A daemon may have been started by a job of another one.
    let of_term = ["INCUMBENT_TOKEN", "INCUMBENT_LEASE", "INCUMBENT_LEADER_KEY"];
    remove.extend(of_term.map(ToOwned::to_owned));
    set.extend(whose(config).map(|(name, value)| (name.to_owned(), value.into())));
    CommandSpec {
        argv: argv.to_vec(),
        working_dir: config.job.working_dir.clone(),
        remove,
        set,
        stdin: Stdin::Null,
    }
}

/// What tells a command that was run so, and all that came of it, by its environment: `NAME=value`.
pub(crate) fn carried_outside(config: &Config) -> Vec<String> {
    let whose = whose(config).into_iter();
    whose
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn whose(config: &Config) -> [(&'static str, String); 2] {
    [
        ("INCUMBENT_ELECTION", config.election.prefix.to_string()),
        ("INCUMBENT_CANDIDATE", config.candidate_name.clone()),
    ]
}

/// What a process of the job has in its environment that the daemon hasn't, and the other way
/// round. The user's own `job.env` comes first, so that it can't fake a term.
pub(crate) fn environment(
    config: &Config,
    term: &Term,
) -> (BTreeSet<String>, BTreeMap<String, OsText>) {
    let (remove, mut set) = outside(config);
    let ours = [
        ("INCUMBENT_TOKEN", term.token().to_string()),
        ("INCUMBENT_ELECTION", term.election().to_string()),
        ("INCUMBENT_CANDIDATE", term.candidate().to_owned()),
        ("INCUMBENT_LEASE", term.lease().to_string()),
        ("INCUMBENT_LEADER_KEY", term.key().to_owned()),
    ];
    set.extend(ours.map(|(name, value)| (name.to_owned(), value.into())));
    (remove, set)
}

/// The same without a term: how to reach the store.
fn outside(config: &Config) -> (BTreeSet<String>, BTreeMap<String, OsText>) {
    beside(config, |name| std::env::var_os(name).is_some())
}

/// [`outside`], for a daemon that has those variables itself of which `has` says so: the job has
/// them too, unless it is told otherwise.
fn beside(
    config: &Config,
    has: impl Fn(&str) -> bool,
) -> (BTreeSet<String>, BTreeMap<String, OsText>) {
    let remove = MANAGER_VARIABLES
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    let own = config.job.env.clone().into_iter();
    let mut set: BTreeMap<_, _> = own.map(|(name, value)| (name, value.into())).collect();
    let endpoints = config.etcd.endpoints.join(",");
    set.insert("INCUMBENT_ENDPOINTS".to_owned(), endpoints.into());
    set.insert(
        handed::VARIABLE.to_owned(),
        Handed::of(config).to_text().into(),
    );
    let told = config.to_env().into_iter();
    let told = told.map(|(name, value)| (name, OsText::from(value)));
    match &config.file {
        Some(file) => {
            set.insert("INCUMBENT_CONFIG".to_owned(), file.clone().into());
            // Where the file says ${CREDENTIALS_DIRECTORY}, which the job doesn't have.
            let of_files = |(name, _): &(String, OsText)| {
                ["__PASSWORD_FILE", "__CA_FILE", "__CERT_FILE", "__KEY_FILE"]
                    .iter()
                    .any(|end| name.ends_with(end))
            };
            // And where a variable of the daemon's was outranked by a flag.
            set.extend(told.filter(|it| of_files(it) || has(&it.0)));
        }
        None => set.extend(told),
    }
    // Seen from another folder, a relative path would be another one.
    let runtime_dir = variable("runtime_dir");
    if has(&runtime_dir)
        && let Ok(path) = std::path::absolute(&config.runtime_dir)
    {
        set.insert(runtime_dir, path.into());
    }
    (remove, set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flag, Source};

    #[test]
    fn what_outranks_the_daemons_own_variables_outranks_them_in_the_job_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("incumbent.toml");
        std::fs::write(&file, "job.command = ['true']").unwrap();
        let mut source = Source::defaults("here");
        source.file = Some(file);
        source.flags = vec![
            Flag::text("etcd.endpoints", "--endpoints", "http://good:2379"),
            Flag::text("runtime_dir", "--runtime-dir", "run"),
        ];
        let config = config::load(&source).unwrap().config;
        let of_daemon = ["INCUMBENT__ETCD__ENDPOINTS", "INCUMBENT__RUNTIME_DIR"];
        let (_, set) = beside(&config, |name| of_daemon.contains(&name));
        let endpoints = set["INCUMBENT__ETCD__ENDPOINTS"].as_os_str();
        assert_eq!(endpoints, "http://good:2379");
        let dir = set["INCUMBENT__RUNTIME_DIR"].as_path();
        assert!(dir.is_absolute() && dir.ends_with("run"), "{dir:?}");
        // A daemon that a job starts has a configuration of its own.
        assert!(!set.contains_key("INCUMBENT__ELECTION__PREFIX"));
    }
}
