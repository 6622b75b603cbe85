//! What a guardian of checks decides: a state machine without I/O, clock or thread.
//!
//! Checks have a guardian of their own, which guards no term. In the tree of a job, a check that
//! can't be killed, since it waits for a disk that hangs, would keep the tree from ever being proven
//! empty: on just the host that is to hand over. The invariant: one check at a time, and none that
//! outlives its time or the daemon.

use std::time::Duration;

use super::super::protocol::{Exit, Refusal, Report, Request};
use super::{GuardAction, GuardEvent};
use crate::clock::Instant;

/// Between the first two rounds of SIGKILL; doubled with each.
const FIRST_ROUND: Duration = Duration::from_millis(10);

/// The longest pause between two rounds.
const LONGEST_ROUND: Duration = Duration::from_secs(1);

/// The state that decisions follow from.
#[derive(Debug, Default)]
pub(crate) struct CheckGuard {
    present: Option<RunningCheck>,
    /// The daemon is gone, or doesn't want any more checks.
    over: bool,
    actions: Vec<GuardAction>,
}

/// A check of which something lives, or may.
#[derive(Debug)]
struct RunningCheck {
    run: u64,
    until: Instant,
    /// Whether its outcome was told.
    told: bool,
    killing: Option<CheckKilling>,
}

/// SIGKILL was sent to it.
#[derive(Debug)]
struct CheckKilling {
    next_round: Instant,
    pause: Duration,
}

impl CheckGuard {
    /// Takes in one event and returns what is to be done, in order.
    pub(crate) fn handle(&mut self, event: GuardEvent, now: Instant) -> Vec<GuardAction> {
        match event {
            GuardEvent::Request(Request::Check {
                run,
                command,
                timeout,
            }) => {
                if self.over || self.present.is_some() {
                    let reason = Refusal::NotEmpty;
                    self.report(Report::Refused { run, reason });
                } else {
                    let until = now + timeout;
                    self.present = Some(RunningCheck {
                        run,
                        until,
                        told: false,
                        killing: None,
                    });
                    self.actions.push(GuardAction::Spawn {
                        run,
                        command,
                        before: until,
                    });
                }
            }
            GuardEvent::Request(Request::Start { run, .. }) => {
                let reason = Refusal::NoTerm;
                self.report(Report::Refused { run, reason });
            }
            GuardEvent::NotExecuted { code, error, .. } => {
                self.ended(None, Exit::NotExecuted { code, error });
            }
            GuardEvent::KilledEarly { signal, .. } => self.ended(None, Exit::Signal(signal)),
            GuardEvent::TooLate { .. } => self.timed_out(),
            GuardEvent::Executed { run, pid } => self.report(Report::Started { run, pid }),
            GuardEvent::MainEnded { pid, exit, .. } => self.ended(Some(pid), exit),
            // Once its outcome is told nobody waits for the rest. An orphan may end long before that.
            GuardEvent::Reaped => {
                if self.present.as_ref().is_some_and(|check| check.told) {
                    self.kill(now);
                }
            }
            GuardEvent::TreeEmpty => self.empty(),
            GuardEvent::DaemonClosed | GuardEvent::DaemonDead => {
                self.over = true;
                if self.present.is_some() {
                    self.kill(now);
                } else {
                    self.actions.push(GuardAction::Exit);
                }
            }
            GuardEvent::Tick => self.tick(now),
            // Guards no term and knows no lease.
            GuardEvent::Request(_) | GuardEvent::GivenBack { .. } | GuardEvent::KeyGone { .. } => {}
        }
        std::mem::take(&mut self.actions)
    }

    /// When the next [`GuardEvent::Tick`] is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let check = self.present.as_ref()?;
        Some(match &check.killing {
            Some(killing) => killing.next_round,
            None => check.until,
        })
    }

    fn tick(&mut self, now: Instant) {
        if self.next_timer().is_some_and(|at| now >= at) {
            self.timed_out();
            self.kill(now);
        }
    }

    fn report(&mut self, report: Report) {
        self.actions.push(GuardAction::Report(report));
    }

    /// The run whose outcome is to be told now, if it wasn't told before.
    fn tell(&mut self) -> Option<u64> {
        let check = self.present.as_mut()?;
        (!std::mem::replace(&mut check.told, true)).then_some(check.run)
    }

    fn ended(&mut self, pid: Option<u32>, exit: Exit) {
        if let Some(run) = self.tell() {
            self.report(Report::MainEnded { run, pid, exit });
        }
    }

    fn timed_out(&mut self) {
        if let Some(run) = self.tell() {
            self.report(Report::TimedOut { run });
        }
    }

    /// One round of SIGKILL.
    fn kill(&mut self, now: Instant) {
        let Some(check) = &mut self.present else {
            return;
        };
        let last = check.killing.as_ref().map(|killing| killing.pause);
        let pause = last.map_or(FIRST_ROUND, |pause| (pause * 2).min(LONGEST_ROUND));
        check.killing = Some(CheckKilling {
            next_round: now + pause,
            pause,
        });
        self.actions.push(GuardAction::KillTree);
    }

    fn empty(&mut self) {
        if let Some(check) = self.present.take() {
            self.report(Report::Empty {
                token: None,
                killed: check.killing.is_some(),
                run: check.run,
                unfinished: false,
            });
        }
        if self.over {
            self.actions.push(GuardAction::Exit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::protocol::CommandSpec;
    use super::*;
    use crate::revision::{Revision, Token};

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn check(run: u64) -> GuardEvent {
        GuardEvent::Request(Request::Check {
            run,
            command: CommandSpec::default(),
            timeout: TIMEOUT,
        })
    }

    fn ended(run: u64) -> GuardEvent {
        let (pid, exit) = (100, Exit::Code(0));
        GuardEvent::MainEnded { run, pid, exit }
    }

    /// What was told, and done, as short text.
    fn did(actions: &[GuardAction]) -> Vec<String> {
        let text = |action: &GuardAction| match action {
            GuardAction::Report(Report::Started { run, .. }) => format!("{run} started"),
            GuardAction::Report(Report::MainEnded { run, .. }) => format!("{run} ended"),
            GuardAction::Report(Report::TimedOut { run }) => format!("{run} timed out"),
            GuardAction::Report(Report::Empty { run, killed, .. }) => {
                format!("{run} over{}", if *killed { ", killed" } else { "" })
            }
            GuardAction::Report(Report::Refused { run, .. }) => format!("{run} refused"),
            GuardAction::Spawn { run, .. } => format!("spawn {run}"),
            GuardAction::KillTree => "kill".to_owned(),
            GuardAction::Exit => "exit".to_owned(),
            other => format!("{other:?}"),
        };
        actions.iter().map(text).collect()
    }

    /// Plays events, each with its time and with what is to follow.
    #[track_caller]
    fn play(events: Vec<(u64, GuardEvent, &[&str])>) -> CheckGuard {
        let mut checks = CheckGuard::default();
        for (ms, event, expected) in events {
            let what = format!("at {ms} ms: {event:?}");
            assert_eq!(did(&checks.handle(event, at(ms))), expected, "{what}");
        }
        checks
    }

    #[test]
    fn a_check_is_told_of_when_it_ends_and_when_nothing_of_it_is_left() {
        let checks = play(vec![
            (0, check(1), &["spawn 1"]),
            (0, GuardEvent::Executed { run: 1, pid: 100 }, &["1 started"]),
            (5, ended(1), &["1 ended"]),
            (5, GuardEvent::TreeEmpty, &["1 over"]),
            (9, check(2), &["spawn 2"]),
        ]);
        assert_eq!(checks.next_timer(), Some(at(2009)));
    }

    #[test]
    fn a_check_that_hangs_is_told_of_and_killed_at_its_time() {
        play(vec![
            (0, check(1), &["spawn 1"]),
            (1999, GuardEvent::Tick, &[]),
            (2000, GuardEvent::Tick, &["1 timed out", "kill"]),
            (2005, GuardEvent::Tick, &[]),
            (2010, GuardEvent::Tick, &["kill"]),
            // In the kernel's hands: told of already, and tried ever slower.
            (2029, GuardEvent::Tick, &[]),
            (2030, GuardEvent::Tick, &["kill"]),
            (2031, check(2), &["2 refused"]),
            (9000, ended(1), &[]),
            (9000, GuardEvent::TreeEmpty, &["1 over, killed"]),
            (9000, check(3), &["spawn 3"]),
        ]);
    }

    #[test]
    fn what_a_check_leaves_behind_is_killed() {
        play(vec![
            (0, check(1), &["spawn 1"]),
            (5, ended(1), &["1 ended"]),
            (5, GuardEvent::Reaped, &["kill"]),
            (6, GuardEvent::TreeEmpty, &["1 over, killed"]),
        ]);
    }

    #[test]
    fn an_orphan_that_ends_costs_the_check_nothing() {
        play(vec![
            (0, check(1), &["spawn 1"]),
            (5, GuardEvent::Reaped, &[]),
            (9, ended(1), &["1 ended"]),
            (9, GuardEvent::TreeEmpty, &["1 over"]),
        ]);
    }

    #[test]
    fn no_check_outlives_the_daemon() {
        play(vec![
            (0, check(1), &["spawn 1"]),
            (1, GuardEvent::DaemonClosed, &["kill"]),
            (2, check(2), &["2 refused"]),
            (3, GuardEvent::TreeEmpty, &["1 over, killed", "exit"]),
        ]);
        play(vec![(0, GuardEvent::DaemonDead, &["exit"])]);
    }

    #[test]
    fn a_check_that_can_not_be_executed_has_failed() {
        let (code, error) = (127, "x".to_owned());
        play(vec![
            (0, check(1), &["spawn 1"]),
            (
                0,
                GuardEvent::NotExecuted {
                    run: 1,
                    code,
                    error,
                },
                &["1 ended"],
            ),
            (0, GuardEvent::TreeEmpty, &["1 over"]),
        ]);
    }

    #[test]
    fn no_job_is_started_among_checks() {
        let start = GuardEvent::Request(Request::Start {
            token: Token::at(Revision::new(7)),
            run: 1,
            command: CommandSpec::default(),
            sole: true,
        });
        play(vec![(0, start, &["1 refused"])]);
    }
}
