//! The checks: when one runs, and what its results mean for the candidacy.
//!
//! Checks run in a guardian of their own, so that one that can't be killed keeps no job's tree from
//! being proven empty. It is told of by its answers alone: a guardian that is silent, or dead, is a
//! check that has failed.

use std::sync::Arc;
use std::time::Duration;

use super::Mind;
use super::health::Health;
use super::place::{After, Pause, Place};
use super::tenure::Stop;
use super::words::{Action, Line};
use crate::candidate::view::HealthView;
use crate::clock::Instant;
use crate::config::Check;
use crate::guardian::protocol::{Exit, Report};
use crate::reason::EndReason;

/// How much later than its timeout a check may be heard of.
const LATE: Duration = Duration::from_secs(1);

/// How long a guardian that was lost may take to be replaced, at most; the time that a check may take
/// is as good where it is shorter. Only then has a check failed that there is nobody to run.
const REPLACED: Duration = Duration::from_secs(5);

/// The checks of a candidate.
#[derive(Debug)]
pub(super) struct Checks {
    /// Whether their guardian is there; else it is being started.
    guarded: bool,
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
#[derive(Debug)]
struct Present {
    run: u64,
    began: Instant,
    /// Its main process, once that is known.
    main: Option<i32>,
    judged: bool,
}

impl Checks {
    /// With a guardian. The first check is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            guarded: true,
            present: None,
            run: 0,
            next: now,
            health: Health::default(),
            last: None,
        }
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

    /// The check with this number, unless it was judged before.
    fn unjudged(&mut self, run: u64) -> Option<&mut Present> {
        let present = self.present.as_mut();
        present.filter(|present| present.run == run && !present.judged)
    }
}

impl Mind {
    /// Whether this candidate may stand, by its checks.
    pub(super) fn is_well(&self) -> bool {
        let checks = self.checks.as_ref();
        checks.is_none_or(|checks| checks.health.healthy() == Some(true))
    }

    /// Whether its checks say that it may not.
    pub(super) fn is_ill(&self) -> bool {
        let checks = self.checks.as_ref();
        checks.is_some_and(|checks| checks.health.healthy() == Some(false))
    }

    /// Starts a check, or gives up on one that was not heard of.
    pub(super) fn check_due(&mut self) {
        let (Some(check), Some(checks)) = (&self.config.check, &mut self.checks) else {
            return;
        };
        let now = self.now;
        let missing = match &checks.present {
            Some(present) if present.judged => "an earlier check can't be killed",
            Some(_) => "no answer",
            None if !checks.guarded => "no guardian",
            None => {
                let timeout = check.timeout;
                checks.run += 1;
                checks.next = now + timeout + LATE;
                let run = checks.run;
                checks.present = Some(Present {
                    run,
                    began: now,
                    main: None,
                    judged: false,
                });
                return self.act(Action::Check { run, timeout });
            }
        };
        checks.next = now + check.interval;
        self.judge(false, missing);
    }

    /// What the guardian of checks has to say.
    pub(super) fn check_said(&mut self, report: Report) {
        let now = self.now;
        let (
            Some(Check {
                interval, timeout, ..
            }),
            Some(checks),
        ) = (&self.config.check, &mut self.checks)
        else {
            return;
        };
        let interval = *interval;
        let judged = match report {
            Report::Started { run, pid } => {
                if let Some(present) = checks.unjudged(run) {
                    present.main = i32::try_from(pid).ok();
                }
                return;
            }
            // Nothing is left of it: the next one may start.
            Report::Empty { run, .. } => {
                let over = |present: &mut Present| present.run == run;
                if let Some(present) = checks.present.take_if(over) {
                    checks.next = (present.began + interval).max(now);
                }
                return;
            }
            Report::MainEnded { run, exit, .. } => {
                (run, matches!(exit, Exit::Code(0)), in_words(&exit))
            }
            Report::TimedOut { run } => {
                let result = format!("killed after {} ms", timeout.as_millis());
                (run, false, result)
            }
            _ => return,
        };
        let (run, good, result) = judged;
        if let Some(present) = checks.unjudged(run) {
            present.judged = true;
            checks.next = now + interval;
            self.judge(good, &result);
        }
    }

    /// One result.
    fn judge(&mut self, good: bool, result: &str) {
        let (Some(Check { rise, fall, .. }), Some(checks)) = (&self.config.check, &mut self.checks)
        else {
            return;
        };
        if checks.last.as_deref() != Some(result) {
            checks.last = Some(result.into());
        }
        let failed = !good && checks.health.healthy() != Some(false);
        let change = checks.health.judge(good, *rise, *fall);
        let reason = result.to_owned();
        if failed {
            let reason = reason.clone();
            self.say(Line::CheckFailed { reason });
        }
        match change {
            Some(true) => {
                self.say(Line::Healthy);
                self.make_up();
            }
            Some(false) => {
                self.say(Line::Unhealthy { reason });
                self.become_ill();
            }
            None => {}
        }
    }

    /// Leaves the queue, or ends the term in an orderly way.
    fn become_ill(&mut self) {
        let after = After::Rejoin(Pause::None);
        match &mut self.place {
            Place::Standing(_) => self.give_back(after),
            Place::Leading(tenure, _) => {
                tenure.reason = EndReason::Unhealthy;
                self.end(after, Stop::Planned);
            }
            // What goes on ends in any case, and it stands again only once it is healthy.
            Place::Out(_) | Place::Ending(..) | Place::GivingBack(..) | Place::Over => {}
        }
    }

    /// Their guardian is gone, and the check that was under way with it.
    pub(super) fn checks_gone(&mut self) {
        let (Some(check), Some(checks)) = (&self.config.check, &mut self.checks) else {
            return;
        };
        checks.guarded = false;
        let main = checks.present.take().and_then(|present| present.main);
        let replaced = check.timeout.min(REPLACED) + LATE;
        checks.next = self.now + check.interval.max(replaced);
        self.say(Line::ChecksLost);
        self.act(Action::RestoreChecks { main });
    }

    pub(super) fn checks_guarded(&mut self) {
        if let Some(checks) = &mut self.checks {
            checks.guarded = true;
            // The configuration may have changed while it was being started.
            self.reload_checks();
        }
    }

    /// Takes on the configuration's new settings: their guardian logs by them, and the next check,
    /// of which everything may have changed, is due at once unless one runs.
    pub(super) fn reload_checks(&mut self) {
        let Some(checks) = self.checks.as_mut().filter(|checks| checks.guarded) else {
            return;
        };
        if checks.present.is_none() {
            checks.next = self.now;
        }
        self.act(Action::ReloadChecks);
    }
}

fn in_words(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::NotExecuted { error, .. } => error.clone(),
    }
}
