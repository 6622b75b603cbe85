//! The check: when it runs, and what its results mean for the candidacy.
//!
//! Checks run in a guardian of their own, so that one that can't be killed keeps no job's tree from
//! being proven empty. It is told of by its answers alone: a guardian that is silent, or dead, is a
//! check that has failed.

use std::sync::Arc;
use std::time::Duration;

use super::guarding::{Started, unheard, until_started};
use super::health::Health;
use super::view::HealthView;
use super::{Candidate, DISMISSAL, Word};
use crate::clock::{self, Instant};
use crate::config::{self, Config};
use crate::guardian::client::{Event as GuardianEvent, Guardian, Handed};
use crate::guardian::fence::fence_check;
use crate::guardian::protocol::{Exit, Report, Request};
use crate::job::command;
use crate::role::{Event, Role};
use crate::runtime_dir::lease_file::Keeper;
use crate::worker::FENCE;

/// How much later than its timeout a check may be heard of.
const LATE: Duration = Duration::from_secs(1);

/// How long a guardian that was lost may take to be replaced, at most; the time that a check may take
/// is as good where it is shorter. Only then has a check failed that there is nobody to run.
const REPLACED: Duration = Duration::from_secs(5);

/// The checks of a candidate.
pub(super) struct Checking {
    /// Their guardian, unless it is being started.
    guardian: Option<Started>,
    /// The check that runs, or is being killed.
    present: Option<Present>,
    /// The number of the last one.
    run: u64,
    /// When the next one is due; while there is one, when it should have been heard of.
    next: Instant,
    health: Health,
    /// What the last one came to.
    last: Option<Arc<str>>,
}

/// A check of which something may live.
struct Present {
    run: u64,
    began: Instant,
    /// Its main process, once that is known.
    main: Option<i32>,
    judged: bool,
}

/// Starts a guardian for the checks of `config`.
async fn start(config: &Config, files: &Keeper) -> std::io::Result<Started> {
    let (election, candidate) = (&config.election.prefix, &config.candidate_name);
    let handed = Handed {
        input: None,
        runs: files.runs_of_checks(),
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
pub(super) async fn said(checking: &mut Option<Checking>) -> GuardianEvent {
    let started = checking.as_mut().and_then(|it| it.guardian.as_mut());
    match started {
        Some((_, events)) => events.recv().await.unwrap_or(GuardianEvent::Gone),
        None => std::future::pending().await,
    }
}

impl Checking {
    /// The first check is due at once. `None` if there is none in `config`.
    pub(super) async fn start(config: &Config, files: &Keeper) -> std::io::Result<Option<Self>> {
        if config.check.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            guardian: Some(start(config, files).await?),
            present: None,
            run: 0,
            next: clock::now(),
            health: Health::default(),
            last: None,
        }))
    }

    /// When there is something to do.
    pub(super) const fn due(&self) -> Instant {
        self.next
    }

    pub(super) fn view(&self) -> HealthView {
        HealthView {
            healthy: self.health.healthy(),
            last: self.last.clone(),
        }
    }

    /// Takes on the configuration's new settings: its guardian logs by them, and the next check, of
    /// which everything may have changed, is due at once unless one runs.
    pub(super) fn reload(&mut self, config: &Config) {
        let Some((guardian, _)) = &self.guardian else {
            return;
        };
        guardian.send(Request::Log(config.log.clone()));
        if self.present.is_none() {
            self.next = clock::now();
        }
    }

    /// What was said that was not heard yet.
    pub(super) fn waiting(&mut self) -> Vec<GuardianEvent> {
        let events = self.guardian.as_mut().map(|(_, events)| unheard(events));
        events.unwrap_or_default()
    }

    /// Ends what runs, and the guardian with it.
    pub(super) async fn dismiss(&self) {
        if let Some((guardian, _)) = &self.guardian {
            dismiss(guardian).await;
        }
    }

    /// The check with this number, unless it was judged before.
    fn unjudged(&mut self, run: u64) -> Option<&mut Present> {
        let present = self.present.as_mut();
        present.filter(|present| present.run == run && !present.judged)
    }
}

impl Candidate {
    /// Starts a check, or gives up on one that was not heard of.
    pub(super) fn check_due(&mut self) {
        let (Some(check), Some(checking)) = (&self.config.check, &mut self.checking) else {
            return;
        };
        let now = clock::now();
        let missing = match (&checking.present, &checking.guardian) {
            (Some(present), _) if present.judged => "an earlier check can't be killed",
            (Some(_), _) => "no answer",
            (None, None) => "no guardian",
            (None, Some((guardian, _))) => {
                checking.run += 1;
                checking.next = now + check.timeout + LATE;
                checking.present = Some(Present {
                    run: checking.run,
                    began: now,
                    main: None,
                    judged: false,
                });
                return guardian.send(Request::Check {
                    run: checking.run,
                    command: command::spec_outside(&self.config, &check.command),
                    timeout: check.timeout,
                });
            }
        };
        checking.next = now + check.interval;
        self.judge(false, missing);
    }

    /// What the guardian of checks has to say.
    pub(super) fn check_said(&mut self, event: GuardianEvent) {
        let (Some(check), Some(checking)) = (&self.config.check, &mut self.checking) else {
            return;
        };
        let (interval, timeout) = (check.interval, check.timeout);
        let now = clock::now();
        let report = match event {
            GuardianEvent::Gone => {
                let gone = checking.guardian.take();
                let main = checking.present.take().and_then(|present| present.main);
                checking.next = now + interval.max(timeout.min(REPLACED) + LATE);
                return self.start_checks_anew(gone, main);
            }
            GuardianEvent::Report(report) => report,
        };
        match report {
            Report::Started { run, pid } => {
                if let Some(present) = checking.unjudged(run) {
                    present.main = i32::try_from(pid).ok();
                }
            }
            Report::MainEnded { run, exit, .. } => {
                if let Some(present) = checking.unjudged(run) {
                    present.judged = true;
                    checking.next = now + interval;
                    let good = matches!(exit, Exit::Code(0));
                    self.judge(good, &in_words(&exit));
                }
            }
            Report::TimedOut { run } => {
                if let Some(present) = checking.unjudged(run) {
                    present.judged = true;
                    checking.next = now + interval;
                    self.judge(false, &format!("killed after {} ms", timeout.as_millis()));
                }
            }
            // Nothing is left of it: the next one may start.
            Report::Empty { run, .. } => {
                let over = |present: &mut Present| present.run == run;
                if let Some(present) = checking.present.take_if(over) {
                    checking.next = (present.began + interval).max(now);
                }
            }
            _ => {}
        }
    }

    /// One result.
    fn judge(&mut self, good: bool, result: &str) {
        let (Some(config::Check { rise, fall, .. }), Some(checking)) =
            (&self.config.check, &mut self.checking)
        else {
            return;
        };
        if checking.last.as_deref() != Some(result) {
            checking.last = Some(result.into());
        }
        if !good && checking.health.healthy() != Some(false) {
            self.lines.check_failed(result);
        }
        match checking.health.judge(good, *rise, *fall) {
            Some(true) => {
                self.lines.healthy();
                self.on(Event::Healthy);
            }
            Some(false) => {
                self.lines.unhealthy(result);
                if let (Some(held), Role::Leading) = (&mut self.held, self.machine.role()) {
                    held.reason = "unhealthy";
                }
                self.on(Event::Unhealthy);
            }
            None => {}
        }
    }

    /// Starts another guardian of checks, off the main loop, once nothing is left of the check that
    /// was under way, or can't be killed.
    fn start_checks_anew(&self, gone: Option<Started>, main: Option<i32>) {
        let (config, words) = (Arc::clone(&self.config), self.words.0.clone());
        let carried = command::carried_outside(&config);
        let (lines, files) = (self.lines.clone(), self.files.clone());
        lines.checks_lost();
        tokio::spawn(async move {
            if let Some((guardian, _)) = gone {
                dismiss(&guardian).await;
            }
            let fence = move || fence_check(main, &carried, LATE);
            if let Err(error) = FENCE.outcome(fence).await.flatten() {
                tracing::warn!(%error, "the check's processes not fenced");
            }
            let started = until_started(&lines, || start(&config, &files)).await;
            drop(words.send(Word::Checks(started)));
        });
    }

    /// There is a new guardian of checks.
    pub(super) fn checks_started(&mut self, started: Started) {
        if let Some(checking) = &mut self.checking {
            checking.guardian = Some(started);
            // The configuration may have changed while it was being started.
            checking.reload(&self.config);
        }
    }
}

fn in_words(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::NotExecuted { error, .. } => error.clone(),
    }
}
