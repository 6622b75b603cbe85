//! The daemons that run several jobs each: what these are, and what is done to one of them through the
//! daemon's own doors: its configuration, and the commands that people type.

use std::path::{Path, PathBuf};

use crate::beside::illness;
use crate::common::daemon::Builder;
use crate::common::{Cluster, Daemon, Random, Sandbox};
use crate::elections::{Election, Job, SEVERAL, root};
use crate::slots::SlotPolicy;

/// How many of them there are.
pub(crate) const DAEMONS: usize = 3;

/// Who has a check: a daemon's illness is one of this job.
pub(crate) const CHECKED: Job = Job::Stubborn;

/// Who has hooks.
pub(crate) const HOOKED: Job = Job::Counts;

const COUNTING: [&[&str]; 3] = [&[], &[], &["--fork-every", "200ms"]];

/// What the children do that outlive their job.
const LEAKING: [&[&str]; 4] = [
    &["--child-own-session"],
    &["--daemonised-child"],
    &["--ignore-term", "--child-own-session"],
    &["--fork-every", "100ms", "--daemonised-child"],
];

const STUBBORN: [&[&str]; 3] = [
    &["--ignore-term"],
    &["--hang-after", "400ms", "--ignore-term"],
    &["--end-after-term", "700ms"],
];

/// How the jobs without a schedule misbehave, drawn for each start of the daemon.
fn ways(job: Job, random: &mut Random) -> &'static [&'static str] {
    match job {
        Job::Counts | Job::Slots => COUNTING[random.below(COUNTING.len())],
        Job::Leaks => LEAKING[random.below(LEAKING.len())],
        Job::Stubborn => STUBBORN[random.below(STUBBORN.len())],
    }
}

/// What a daemon with all the jobs is started with, but for their commands.
pub(crate) struct Settings<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) replica: &'a str,
    /// stop_grace, lost_grace, kill_budget.
    pub(crate) graces: [&'a str; 3],
    pub(crate) policy: &'a SlotPolicy,
}

/// The flags of a job beside those that all have.
pub(crate) fn flags(job: Job, random: &mut Random) -> Vec<&'static str> {
    ways(job, random).to_vec()
}

/// The graces of all jobs, as a configuration's text.
pub(crate) fn graces([stop_grace, lost_grace, kill_budget]: [&str; 3]) -> String {
    let tables = SEVERAL.iter().filter_map(|it| it.job()).map(|job| {
        format!(
            "jobs.{} = {{ stop_grace = '{stop_grace}', lost_grace = '{lost_grace}', \
             kill_budget = '{kill_budget}' }}\n",
            job.name()
        )
    });
    tables.collect()
}

/// The daemon with all the jobs. None of them gives its term up by itself, however often its runs fail, so
/// that an end has a reason from outside.
pub(crate) fn settle(
    builder: Builder,
    settings: &Settings<'_>,
    commands: [Vec<String>; 4],
) -> Builder {
    let builder = builder.prefix(root());
    let jobs = SEVERAL.into_iter().zip(commands);
    let builder = jobs.fold(builder, |builder, (election, command)| {
        let name = election.job().map_or("", Job::name);
        builder.named_job(name, &command).toml(&format!(
            "jobs.{name} = {{ restart_delay = '200ms', restart_delay_max = '2s', \
             yield_after = 1000 }}"
        ))
    });
    let ill = illness(settings.sandbox.path(), settings.replica);
    let script = format!(
        "[ ! -e {0} ] || {{ read word < {0}; case $word in fails) exit 1;; \
         hangs) setsid sleep 60 & wait;; esac; }}",
        ill.display()
    );
    // Long enough for a busy host: one that fails by itself would say nothing of the others.
    let check = format!(
        "jobs.{}.check = {{ command = ['sh', '-c', '{script}'], interval = '500ms', \
         timeout = '2s', rise = 1, fall = 2 }}",
        CHECKED.name()
    );
    builder
        .toml(&graces(settings.graces))
        .toml(&check)
        .toml(&settings.policy.toml("jobs.slots"))
}

/// Has a command typed about one job; says whether it was done. It goes the shortest way to the store: it
/// is the job that suffers, not who types.
pub(crate) fn typed(cluster: &Cluster, file: &Path, command: &str, job: Job) -> bool {
    let words = [command, "-c", file.to_str().unwrap(), "--job", job.name()];
    let words = [&words[..], &["--timeout", "3s"]].concat();
    let endpoints = cluster.endpoints().join(",");
    let typed = cluster.sandbox().incumbent(&words);
    let answer = typed.env("INCUMBENT__ETCD__ENDPOINTS", endpoints).run();
    answer.code == Some(0)
}

/// Takes a job out of the file; returns its table.
pub(crate) fn take_out(daemon: &Daemon, job: Job) -> Option<toml::Value> {
    let mut taken = None;
    daemon.edit(|config| taken = jobs(config).remove(job.name()));
    taken
}

/// Puts it back.
pub(crate) fn put_back(daemon: &Daemon, job: Job, table: toml::Value) {
    daemon.edit(|config| {
        jobs(config).insert(job.name().to_owned(), table);
    });
}

fn jobs(config: &mut toml::Table) -> &mut toml::Table {
    config["jobs"].as_table_mut().unwrap()
}

/// What no other job of any replica is called.
pub(crate) fn owner(replica: &str, of: Election) -> String {
    let job = of.job().map(|job| format!("-{}", job.name()));
    format!("{replica}{}", job.unwrap_or_default())
}

/// Where the program of a replica's job is, which no other has.
pub(crate) fn program(sandbox: &Sandbox, replica: &str, of: Election) -> PathBuf {
    sandbox.join(&format!("recorder-{}", owner(replica, of)))
}
