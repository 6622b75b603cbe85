//! What jobs have left that the configuration has no more.

use std::sync::Arc;

use super::fence;
use crate::config::{Config, JobConfigs};
use crate::keys::JobName;
use crate::runtime_dir::RuntimeDir;
use crate::worker::FENCE;

/// Kills, beside all else, what an earlier daemon with this directory left of jobs that aren't in
/// `configs`, and forgets them: another replica may lead them.
pub(super) fn sweep(directory: &Arc<RuntimeDir>, configs: &JobConfigs) {
    let (directory, configs) = (Arc::clone(directory), configs.clone());
    tokio::spawn(async move {
        let shared = Arc::clone(configs.shared());
        if shared.job_name.is_some() {
            // A job that had no name.
            report(
                &shared,
                fence(&shared.without_name(), directory.left()).await,
            );
        }
        let listing = Arc::clone(&directory);
        let names = FENCE.outcome(move || listing.job_names()).await;
        for name in names.and_then(|names| names).unwrap_or_default() {
            if configs.get(Some(&name)).is_none() {
                let outcome = forget(&directory, &shared, &name).await;
                report(&shared, outcome);
            }
        }
    });
}

/// Kills what is left of a job, and removes its directory.
pub(super) async fn forget(
    directory: &Arc<RuntimeDir>,
    shared: &Config,
    name: &JobName,
) -> anyhow::Result<()> {
    let config = shared.with_name(name);
    let (parent, held) = (Arc::clone(directory), name.clone());
    let held = FENCE.outcome(move || parent.hold_job(&held)).await??;
    fence(&config, held.left()).await?;
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
