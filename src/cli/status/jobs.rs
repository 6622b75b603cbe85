//! The status of several jobs, a line for each.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::{CLEAR, StatusFormat};
use crate::cli::away::Away;
use crate::cli::exit::Failure;
use crate::cli::look::{Look, LookMark};
use crate::cli::output;
use crate::cli::table::{Table, short};
use crate::clock;
use crate::config::{Config, JobConfigs};
use crate::etcd::{Error, Patience, Store, patience};
use crate::http::client;
use crate::log;
use crate::status::{ElectionStatus, side_by_side};
use crate::wall;

/// How often all are read anew where changes are waited for.
const ROUND: Duration = Duration::from_secs(2);

/// How long the daemon on this host may take to tell which jobs it has.
const HERE_LIMIT: Duration = Duration::from_millis(500);

/// What is printed with `-o json`.
#[derive(Debug, Serialize)]
struct JobList<'a> {
    jobs: Vec<JobEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct JobEntry<'a> {
    job: &'a str,
    /// Only where a daemon has it that the configuration hasn't.
    #[serde(skip_serializing_if = "is_configured")]
    configured: bool,
    #[serde(flatten)]
    status: &'a ElectionStatus,
}

/// serde wants a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
const fn is_configured(configured: &bool) -> bool {
    *configured
}

/// A job and how its election stands.
struct JobStatus {
    config: Arc<Config>,
    /// Whether it is in the configuration still.
    configured: bool,
    status: ElectionStatus,
}

/// Reads the status of each, as often as it changes if `watch` says so, and shows them.
pub(super) async fn run(
    configs: &JobConfigs,
    patience: impl Fn(&Store) -> Patience,
    format: StatusFormat,
    watch: bool,
) -> Result<ExitCode, Failure> {
    let store = Store::unanimous(&configs.shared().etcd);
    if !watch {
        let all = match read(&store, configs, &patience(&store)).await {
            Ok(all) => all,
            Err(failure) => {
                if matches!(failure, patience::Failure::Store(Error::Disputed(_))) {
                    // What most of the endpoints say is shown all the same.
                    let store = Store::new(&configs.shared().etcd);
                    if let Ok(all) = read(&store, configs, &patience(&store)).await {
                        output::write(render(&all, format)?)?;
                    }
                }
                return Err(failure.into());
            }
        };
        output::write(render(&all, format)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let redraws = format == StatusFormat::Table && output::width().is_some();
    let mut away = Away::new();
    let mut shown: Option<Vec<ElectionStatus>> = None;
    loop {
        let all = match read(&store, configs, &patience(&store)).await {
            Ok(all) => all,
            Err(patience::Failure::Store(error)) => {
                away.wait(error).await?;
                continue;
            }
            Err(failure) => return Err(failure.into()),
        };
        let bare: Vec<_> = all.iter().map(|job| job.status.without_time()).collect();
        if shown.as_ref() != Some(&bare) {
            let text = render(&all, format)?;
            let clear = if redraws { CLEAR } else { "" };
            let is_next = !redraws && format == StatusFormat::Table && shown.is_some();
            let gap = if is_next { "\n" } else { "" };
            output::write(format!("{clear}{gap}{text}"))?;
            shown = Some(bare);
        }
        clock::sleep(ROUND).await;
    }
}

async fn read(
    store: &Store,
    configs: &JobConfigs,
    patience: &Patience,
) -> Result<Vec<JobStatus>, patience::Failure> {
    let left = left(configs)
        .await
        .into_iter()
        .map(|config| (config, false));
    let jobs = configs
        .iter()
        .map(|config| (Arc::clone(config), true))
        .chain(left);
    let questions = jobs.map(|(config, configured)| {
        let (store, patience) = (store.clone(), *patience);
        async move {
            let status = ElectionStatus::read(&store, &config.election.prefix, &patience).await?;
            let status = status.with_preference(&config.prefer);
            let status = status.with_schedule(config.schedule(), wall::now());
            Ok(JobStatus {
                config,
                configured,
                status,
            })
        }
    });
    side_by_side(questions).await.into_iter().collect()
}

/// Jobs that the daemon on this host has and the configuration hasn't: it ends them yet, or can't.
async fn left(configs: &JobConfigs) -> Vec<Arc<Config>> {
    let shared = configs.shared();
    let names = client::job_names(&shared.runtime_dir, HERE_LIMIT).await;
    let left = names
        .iter()
        .filter(|name| configs.get(Some(name)).is_none());
    left.map(|name| Arc::new(shared.with_name(name))).collect()
}

fn render(all: &[JobStatus], format: StatusFormat) -> Result<String, Failure> {
    if format == StatusFormat::Table {
        return Ok(table(all, Look::of_stdout()));
    }
    let jobs = all.iter().filter_map(|job| {
        let name = job.config.job_name.as_ref()?.as_str();
        Some(JobEntry {
            job: name,
            configured: job.configured,
            status: &job.status,
        })
    });
    let body = JobList {
        jobs: jobs.collect(),
    };
    Ok(log::json(&body).context("no JSON")? + "\n")
}

fn table(all: &[JobStatus], look: Look) -> String {
    let mut text = String::new();
    if let Some(job) = all.first() {
        let root = short(job.config.root());
        look.line(&mut text, &format!("jobs below {root}"), None);
        text.push('\n');
    }
    let headings = [
        "JOB", "LEADER", "TOKEN", "QUEUE", "NEXT RUN", "LAST RUN", "",
    ];
    let mut table = Table::new(
        headings,
        &["JOB", "LEADER", ""],
        &["TOKEN", "QUEUE", "LAST RUN"],
    );
    for job in all {
        let Some(name) = &job.config.job_name else {
            continue;
        };
        let status = &job.status;
        let trouble = status.trouble();
        let mark = match (&status.leader, &trouble) {
            (_, Some(_)) => Some(LookMark::Trouble),
            (None, None) => Some(LookMark::Paused),
            (Some(_), None) => None,
        };
        let leader = status.leader.as_ref();
        let schedule = status.schedule.as_ref();
        let next = schedule.and_then(|schedule| schedule.next);
        let last = schedule.and_then(|schedule| schedule.last.as_ref());
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.push(
            mark,
            [
                name.to_string(),
                leader.map_or("nobody".to_owned(), |leader| leader.name.clone()),
                known(leader.map(|leader| leader.token.to_string())),
                status.queue.len().to_string(),
                known(next.map(|slot| slot.to_string())),
                known(last.map(|last| last.result.word().to_owned())),
                trouble.unwrap_or_else(|| note(job).to_owned()),
            ],
        );
    }
    text + &table.render(look)
}

/// What is to be said of a job with which nothing is wrong.
const fn note(job: &JobStatus) -> &'static str {
    if !job.configured {
        "no longer in this configuration"
    } else if job.status.paused {
        "paused"
    } else {
        ""
    }
}
