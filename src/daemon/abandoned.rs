//! What jobs have left that the configuration has no more.

use std::sync::Arc;

use super::fence;
use crate::config::{Config, JobConfigs};
use crate::keys::JobName;
use crate::runtime_dir::RuntimeDir;
use crate::worker::FENCE;

/// Kills, beside all else, what an earlier daemon with this directory left of jobs that aren't in
/// `configs`, and forgets them: another replica may lead them. None waits for another.
pub(super) fn sweep(directory: &Arc<RuntimeDir>, configs: &JobConfigs) {
    let shared = Arc::clone(configs.shared());
    if shared.job_name.is_some() {
        let (directory, shared) = (Arc::clone(directory), Arc::clone(&shared));
        tokio::spawn(async move {
            // A job that had no name.
            let outcome = fence(&shared.without_name(), directory.left()).await;
            report(&shared, outcome);
        });
    }
    let (directory, configs) = (Arc::clone(directory), configs.clone());
    tokio::spawn(async move {
        let listing = Arc::clone(&directory);
        let names = FENCE.outcome(move || listing.job_names()).await;
        for name in names.and_then(|names| names).unwrap_or_default() {
            if configs.get(Some(&name)).is_none() {
                forget_aside(&directory, &shared, name);
            }
        }
    });
}

/// Kills what is left of a job, beside all else, and removes its directory.
pub(super) fn forget_aside(directory: &Arc<RuntimeDir>, shared: &Arc<Config>, name: JobName) {
    let (directory, shared) = (Arc::clone(directory), Arc::clone(shared));
    tokio::spawn(async move {
        let outcome = forget(&directory, &shared, &name).await;
        report(&shared, outcome);
    });
}

async fn forget(
    directory: &Arc<RuntimeDir>,
    shared: &Config,
    name: &JobName,
) -> anyhow::Result<()> {
    let config = shared.with_name(name);
    let (parent, held) = (Arc::clone(directory), name.clone());
    let held = match FENCE.outcome(move || parent.hold_job(&held)).await? {
        // A reload has brought it back: its candidate sees to what is left.
        Err(error) if error.is_ours() => return Ok(()),
        held => held?,
    };
    fence(&config, held.left()).await?;
    if held.left().are_held() {
        // A guardian lives and guards it; should that die, somebody has to know what it has left.
        return Ok(());
    }
    let (parent, name) = (Arc::clone(directory), name.clone());
    Ok(FENCE
        .outcome(move || parent.remove_job(&held, &name))
        .await??)
}

fn report(shared: &Config, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        let (election, candidate) = (shared.root(), &shared.candidate_name);
        let error = format!("{error:#}");
        tracing::warn!(
            election,
            candidate,
            error,
            "what a job has left is not removed"
        );
    }
}
