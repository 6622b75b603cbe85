//! The guardian of a history: the product's decisions, and a process that carries them out.

use std::collections::VecDeque;

use super::Mistake;
use super::daemon::Word;
use super::store::Heard;
use super::world::{Process, World};
use crate::clock::Instant;
use crate::config::timing::SLACK;
use crate::guardian::decide::{Action, Event, Guard, HOOK};
use crate::guardian::protocol::{Exit, Report, Request};

/// The process, and what it decides with.
#[derive(Debug, Default)]
pub(super) struct Guardian {
    pub(super) process: Process,
    guard: Guard,
    inbox: VecDeque<Event>,
    /// The run that is being forked, and until when it may be executed.
    forking: Option<(u64, Instant)>,
    /// The run that was started last.
    run: u64,
}

impl World {
    pub(super) fn ask_guardian(&mut self, request: Request) {
        self.tell_guardian(Event::Request(request));
    }

    pub(super) fn guardian_reaps(&mut self) {
        let run = self.guardian.run;
        let (pid, exit) = (1, Exit::Code(0));
        self.tell_guardian(Event::MainEnded { run, pid, exit });
        self.tell_guardian(Event::TreeEmpty);
    }

    pub(super) fn guardian_sees_daemon_dead(&mut self) {
        self.tell_guardian(Event::DaemonClosed);
        self.tell_guardian(Event::DaemonDead);
    }

    /// Daemon or kernel end the guardian.
    pub(super) fn guardian_killed(&mut self) {
        self.guardian.process.dead = true;
    }

    fn tell_guardian(&mut self, event: Event) {
        if !self.guardian.process.dead {
            self.guardian.inbox.push_back(event);
            let at = self.now + self.chance.delay(SLACK);
            self.guardian_runs_at(at);
        }
    }

    pub(super) fn guardian_timer(&self) -> Option<Instant> {
        let keeps_time = self.mistake != Some(Mistake::GuardianHasNoTimer);
        let guardian = Some(&self.guardian).filter(|it| !it.process.dead && keeps_time)?;
        guardian.guard.next_timer()
    }

    /// One round of its loop, in the order of the real one.
    pub(super) fn guardian_runs(&mut self) {
        let now = self.clock();
        if let Some((run, before)) = self.guardian.forking.take() {
            self.fork(run, before, now);
        }
        let inbox = self.guardian.inbox.make_contiguous();
        inbox.sort_by_key(|event| match event {
            Event::Request(_) => 0,
            Event::DaemonClosed => 1,
            Event::DaemonDead => 3,
            Event::GivenBack { .. } => 4,
            _ => 2,
        });
        while let Some(event) = self.guardian.inbox.pop_front() {
            self.feed(event, now);
            if self.guardian.forking.is_some() {
                // It goes on where it stopped.
                let at = self.guardian.process.stalled_until;
                return self.guardian_runs_at(at);
            }
        }
        if self.mistake != Some(Mistake::GuardianHasNoTimer) {
            self.feed(Event::Tick, now);
        }
    }

    fn feed(&mut self, event: Event, now: Instant) {
        for action in self.guardian.guard.handle(event, now) {
            self.carry_out(action, now);
        }
    }

    fn carry_out(&mut self, action: Action, now: Instant) {
        match action {
            Action::Report(report) => {
                if matches!(report, Report::Stopping { .. }) {
                    self.stop_begun();
                }
                self.tell_daemon(Word::Guardian(report));
            }
            Action::Spawn { run, before, .. } => {
                if self.may_stall() && self.chance.one_in(10) {
                    self.guardian.process.stalled_until = self.stall();
                    self.guardian.forking = Some((run, before));
                } else {
                    self.fork(run, before, now);
                }
            }
            Action::StopTree { .. } | Action::SignalTree { .. } => self.job_asked(),
            Action::KillTree => {
                self.tell_daemon(Word::Guardian(Report::Killing));
                self.job_killed();
            }
            Action::KillDaemon => self.daemon_killed(),
            Action::GiveBack { resignation, .. } => {
                self.ask_store(Heard::Revocation);
                let lease = resignation.lease;
                let confirmed = true;
                self.tell_guardian(Event::GivenBack { lease, confirmed });
            }
            Action::Exit => self.guardian_killed(),
            // A renewal more does no harm, and none is counted on.
            Action::Renew(_) | Action::Connect(_) | Action::SayStuck { .. } | Action::Say(_) => {}
        }
    }

    /// The child looks at the clock before its exec, which may hang.
    fn fork(&mut self, run: u64, before: Instant, now: Instant) {
        let is_hook = run == HOOK;
        if self.clock() >= before {
            self.feed(Event::TooLate { run }, now);
            return self.feed(Event::TreeEmpty, now);
        }
        if self.chance.one_in(8) {
            return self.job_hangs(run, is_hook);
        }
        self.job_starts(is_hook);
        self.begins(run);
        self.feed(Event::Executed { run, pid: 1 }, now);
    }

    /// What runs now.
    fn begins(&mut self, run: u64) {
        self.guardian.run = run;
        if run == HOOK {
            self.outcome.hooks += 1;
            // Some hang.
            if self.chance.one_in(2) {
                let span = self.chance.span(self.truth.lost_grace());
                self.job_ends_by(self.now + span);
            }
        }
    }

    pub(super) fn guardian_sees_executed(&mut self, run: u64) {
        self.begins(run);
        self.tell_guardian(Event::Executed { run, pid: 1 });
    }

    pub(super) fn guardian_sees_killed_early(&mut self, run: u64) {
        self.tell_guardian(Event::KilledEarly { run, signal: 9 });
        self.tell_guardian(Event::TreeEmpty);
    }
}
