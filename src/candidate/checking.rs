//! The guardian of checks: which one there is, and how the next one is started.

use std::sync::Arc;
use std::time::Duration;

use super::guarding::{NewGuardian, try_to_start, unheard, until_started};
use super::lines::Lines;
use super::{Candidate, DISMISSAL, Word};
use crate::config::Config;
use crate::guardian::client::{ClientEvent, Guardian, HandedOver};
use crate::guardian::fence::fence_check;
use crate::guardian::protocol::Request;
use crate::job::command;
use crate::runtime_dir::lease_file::Keeper;
use crate::worker::FENCE;

/// How long it is tried to kill what a check has left.
const FENCE_LIMIT: Duration = Duration::from_secs(1);

/// The guardian of checks, unless it is being started.
pub(super) struct Checking(Option<NewGuardian>);

/// Starts a guardian for the checks of `config`.
async fn start(config: &Config, files: &Keeper) -> std::io::Result<NewGuardian> {
    let (election, candidate) = (&config.election.prefix, &config.candidate_name);
    let handed = HandedOver {
        input: None,
        runs: Some(files.runs_of_checks()),
    };
    Guardian::start_checks(&config.log, election, candidate, handed).await
}

/// Lets a guardian of checks go, and reaps it; one that stands still is killed.
async fn dismiss(guardian: &Guardian) {
    if !guardian.dismiss(DISMISSAL).await {
        guardian.kill();
        guardian.dismiss(DISMISSAL).await;
    }
}

/// Waits for the next word of the guardian of checks; for ever without one.
pub(super) async fn said(checking: &mut Option<Checking>) -> ClientEvent {
    let started = checking.as_mut().and_then(|it| it.0.as_mut());
    match started {
        Some((_, events)) => events.recv().await.unwrap_or(ClientEvent::Gone),
        None => std::future::pending().await,
    }
}

impl Checking {
    /// `None` if there are no checks in `config`.
    pub(super) async fn start(
        lines: &Lines,
        config: &Config,
        files: &Keeper,
    ) -> std::io::Result<Option<Self>> {
        if config.check.is_none() {
            return Ok(None);
        }
        let started = try_to_start(lines, || start(config, files));
        Ok(Some(Self(Some(started.await?))))
    }

    pub(super) fn replace(&mut self, started: NewGuardian) {
        self.0 = Some(started);
    }

    pub(super) fn send(&self, request: Request) {
        if let Some((guardian, _)) = &self.0 {
            guardian.send(request);
        }
    }

    /// What was said that was not heard yet.
    pub(super) fn waiting(&mut self) -> Vec<ClientEvent> {
        let events = self.0.as_mut().map(|(_, events)| unheard(events));
        events.unwrap_or_default()
    }

    /// Ends what runs, and the guardian with it.
    pub(super) async fn dismiss(&self) {
        if let Some((guardian, _)) = &self.0 {
            dismiss(guardian).await;
        }
    }
}

impl Candidate {
    pub(super) fn check(&self, run: u64, timeout: Duration) {
        if let (Some(check), Some(checking)) = (&self.config.check, &self.checking) {
            checking.send(Request::Check {
                run,
                command: command::spec_outside(&self.config, &check.command),
                timeout,
            });
        }
    }

    /// Starts another guardian of checks, off the main loop, once nothing is left of the check that
    /// was under way, whose main process is `main`, or can't be killed.
    pub(super) fn restore_checks(&mut self, main: Option<i32>) {
        let gone = self.checking.as_mut().and_then(|it| it.0.take());
        let (config, words) = (Arc::clone(&self.config), self.words.0.clone());
        let carried = command::carried_outside(&config);
        let (lines, files) = (self.lines.clone(), self.files.clone());
        tokio::spawn(async move {
            if let Some((guardian, _)) = gone {
                dismiss(&guardian).await;
            }
            let fence = move || fence_check(main, &carried, FENCE_LIMIT);
            if let Err(error) = FENCE.outcome(fence).await.flatten() {
                tracing::warn!(%error, "the check's processes not fenced");
            }
            let started = until_started(&lines, || start(&config, &files)).await;
            drop(words.send(Word::Checks(started)));
        });
    }
}
