//! The guardian of a machine: the product's decisions, and a process that carries them out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Mistake;
use super::daemon::Word;
use super::machine::Process;
use super::store::{Answer, Request as Asked};
use super::world::{Asker, World};
use crate::clock::Instant;
use crate::guardian::decide::{GuardAction, GuardEvent, HOOK, TermGuard};
use crate::guardian::protocol::{Exit, Report, Request};
use crate::keys::LeaseId;
use crate::revision::Token;
use crate::term::resignation::Resignation;

/// The process, and what it decides with.
#[derive(Debug, Default)]
pub(super) struct Guardian {
    pub(super) process: Process,
    /// Which guardian of the machine it is: what an earlier one says is heard no more.
    pub(super) number: u64,
    guard: TermGuard,
    inbox: VecDeque<GuardEvent>,
    /// The run that is being forked, and until when it may be executed.
    forking: Option<(u64, Instant)>,
    /// The term that it guards.
    pub(super) token: Option<Token>,
    /// The term that it has acknowledged.
    pub(super) acknowledged: Option<Token>,
    giving: Vec<Giving>,
    /// The looks for a key that are not answered yet, by number.
    looks: BTreeMap<u64, LeaseId>,
}

/// A lease that is being given back.
#[derive(Debug)]
struct Giving {
    resignation: Resignation,
    until: Instant,
    /// The number of the request, and when it is given up on.
    asked: Option<(u64, Instant)>,
}

impl World {
    pub(super) fn ask_guardian(&mut self, at: usize, request: Request) {
        if let Request::Term(term) = &request {
            self.machines[at].guardian.token = Some(term.token);
        }
        self.tell_guardian(at, GuardEvent::Request(request));
    }

    pub(super) fn guardian_reaps_main(&mut self, at: usize, run: u64, exit: Exit) {
        let pid = 1;
        self.tell_guardian(at, GuardEvent::MainEnded { run, pid, exit });
        self.tell_guardian(at, GuardEvent::Reaped);
    }

    pub(super) fn guardian_reaps_all(&mut self, at: usize) {
        self.tell_guardian(at, GuardEvent::TreeEmpty);
    }

    pub(super) fn guardian_sees_daemon_dead(&mut self, at: usize) {
        self.tell_guardian(at, GuardEvent::DaemonClosed);
        self.tell_guardian(at, GuardEvent::DaemonDead);
    }

    /// Daemon or kernel end the guardian.
    pub(super) fn guardian_killed(&mut self, at: usize) {
        self.machines[at].guardian.process.dead = true;
    }

    /// There is a new one.
    pub(super) fn guardian_starts(&mut self, at: usize) {
        let number = self.machines[at].guardian.number + 1;
        self.machines[at].guardian = Guardian {
            number,
            ..Guardian::default()
        };
    }

    fn tell_guardian(&mut self, at: usize, event: GuardEvent) {
        if !self.machines[at].guardian.process.dead {
            self.machines[at].guardian.inbox.push_back(event);
            let when = self.now + self.soon();
            self.guardian_runs_at(at, when);
        }
    }

    pub(super) fn guardian_timer(&self, at: usize) -> Option<Instant> {
        let keeps_time = self.mistake != Some(Mistake::GuardianHasNoTimer);
        let guardian = &self.machines[at].guardian;
        let alive = Some(guardian).filter(|it| !it.process.dead && keeps_time)?;
        let giving = alive.giving.iter().map(|giving| {
            let retry = giving.asked.map_or(giving.until, |(_, until)| until);
            retry.min(giving.until)
        });
        let timer = alive.guard.next_timer();
        timer.into_iter().chain(giving).reduce(Instant::min)
    }

    /// One round of its loop, in the order of the real one.
    pub(super) fn guardian_runs(&mut self, at: usize) {
        let now = self.machines[at].shows();
        let guardian = &mut self.machines[at].guardian;
        if let Some((run, before)) = guardian.forking.take() {
            self.fork(at, run, before, now);
        }
        let guardian = &mut self.machines[at].guardian;
        let inbox = guardian.inbox.make_contiguous();
        inbox.sort_by_key(|event| match event {
            GuardEvent::Request(_) => 0,
            GuardEvent::DaemonClosed => 1,
            GuardEvent::DaemonDead => 3,
            GuardEvent::GivenBack { .. } | GuardEvent::KeyGone { .. } => 4,
            _ => 2,
        });
        while let Some(event) = self.machines[at].guardian.inbox.pop_front() {
            self.feed(at, event, now);
            if self.machines[at].guardian.process.dead {
                return;
            }
            if self.machines[at].guardian.forking.is_some() {
                // It goes on where it stopped.
                let until = self.machines[at].guardian.process.stalled_until;
                return self.guardian_runs_at(at, until.max(self.now));
            }
        }
        self.go_on_giving(at, now);
        if self.mistake != Some(Mistake::GuardianHasNoTimer) {
            self.feed(at, GuardEvent::Tick, now);
        }
    }

    fn feed(&mut self, at: usize, event: GuardEvent, now: Instant) {
        // It looks whether the tree is empty when all that was asked for is done.
        let tree = &self.machines[at].tree;
        if matches!(event, GuardEvent::TreeEmpty)
            && (tree.alive.is_some() || tree.starting.is_some())
        {
            return;
        }
        if self.traced {
            println!("{:>16} {at} guard  {event:?}", self.now);
        }
        for action in self.machines[at].guardian.guard.handle(event, now) {
            self.guardian_acts(at, action, now);
        }
    }

    fn guardian_acts(&mut self, at: usize, action: GuardAction, now: Instant) {
        match action {
            GuardAction::Report(report) => self.reports(at, report),
            GuardAction::Spawn { run, before, .. } => {
                let draw = if self.may_stall_guardian(at) {
                    self.chance.up_to(10)
                } else {
                    10
                };
                match draw {
                    0 => {
                        let until = self.stall(at);
                        self.machines[at].guardian.process.stalled_until = until;
                    }
                    1 => self.suspend(at, self.machines[at].truth.ttl() * 2),
                    _ => return self.fork(at, run, before, now),
                }
                self.machines[at].guardian.forking = Some((run, before));
            }
            GuardAction::StopTree { .. } | GuardAction::SignalTree { .. } => {
                self.tree_asked(at);
            }
            GuardAction::KillTree => {
                self.reports(at, Report::Killing);
                self.tree_killed(at);
            }
            GuardAction::KillDaemon => self.daemon_killed(at),
            GuardAction::GiveBack { resignation, until } => {
                self.judge
                    .gives_back(at, &resignation, &self.machines[at], self.now);
                self.machines[at].guardian.giving.push(Giving {
                    resignation,
                    until,
                    asked: None,
                });
                self.go_on_giving(at, now);
            }
            GuardAction::Renew(resignation) => {
                if self.mistake != Some(Mistake::UnkillableIsNotRenewed) {
                    let lease = resignation.lease;
                    self.ask_store(at, Asker::Nobody, 0, Asked::Renew { lease });
                }
            }
            GuardAction::LookForKey(resignation) => {
                let token = resignation
                    .token
                    .filter(|_| self.mistake != Some(Mistake::DeadDaemonsKeyIsNotWatched));
                if let Some(token) = token {
                    let number = self.next_number();
                    let guardian = &mut self.machines[at].guardian;
                    guardian.looks.insert(number, resignation.lease);
                    let asker = Asker::Guardian(guardian.number);
                    self.ask_store(at, asker, number, Asked::Read { token });
                }
            }
            GuardAction::SayStuck { token, .. } => {
                let survivors = Vec::new();
                self.reports(at, Report::Stuck { token, survivors });
            }
            GuardAction::Exit => self.guardian_killed(at),
            GuardAction::Connect(_) | GuardAction::Say(_) => {}
        }
    }

    fn reports(&mut self, at: usize, report: Report) {
        if matches!(report, Report::Stopping { .. }) {
            self.stop_begun(at);
        }
        match &report {
            Report::Guarded { token, .. } => self.machines[at].guardian.acknowledged = Some(*token),
            Report::Started { .. }
            | Report::Refused { .. }
            | Report::MainEnded { pid: None, .. } => {
                self.want_is_answered(at);
            }
            Report::Killing | Report::Stuck { .. }
                if self.mistake == Some(Mistake::KillsInSilence) =>
            {
                return;
            }
            _ => {}
        }
        let number = self.machines[at].guardian.number;
        self.tell_daemon(at, Word::Guardian(number, report));
    }

    /// The child looks at the clock before its exec, which may hang.
    fn fork(&mut self, at: usize, run: u64, before: Instant, now: Instant) {
        let looks = self.mistake != Some(Mistake::ChildLooksAtNoClock);
        if looks && self.machines[at].shows() >= before {
            self.feed(at, GuardEvent::TooLate { run }, now);
            return self.feed(at, GuardEvent::TreeEmpty, now);
        }
        let token = self.machines[at].guardian.token;
        let token = token.expect("a guardian forks within a term");
        match self.chance.up_to(15) {
            0 | 1 => self.tree_hangs(at, run, token),
            2 => {
                let (code, error) = (127, String::new());
                self.slot_ended(at, run, false);
                self.feed(at, GuardEvent::NotExecuted { run, code, error }, now);
                self.feed(at, GuardEvent::TreeEmpty, now);
            }
            _ => {
                self.judge.begins(at, token, &self.store, self.mood);
                self.tree_starts(at, run, token);
                self.begins(at, run);
                self.feed(at, GuardEvent::Executed { run, pid: 1 }, now);
            }
        }
    }

    /// Some hooks hang, others end soon.
    fn begins(&mut self, at: usize, run: u64) {
        if run == HOOK || self.chance.one_in(4) {
            self.outcome.hooks += u64::from(run == HOOK);
            if self.chance.one_in(2) {
                let span = 1 + self.chance.span(self.machines[at].truth.lost_grace());
                self.tree_ends_by(at, self.now + span);
            }
        }
    }

    pub(super) fn guardian_sees_executed(&mut self, at: usize, run: u64) {
        self.begins(at, run);
        self.tell_guardian(at, GuardEvent::Executed { run, pid: 1 });
    }

    pub(super) fn guardian_sees_killed_early(&mut self, at: usize, run: u64) {
        self.tell_guardian(at, GuardEvent::KilledEarly { run, signal: 9 });
        self.tell_guardian(at, GuardEvent::TreeEmpty);
        if self.machines[at].guardian.process.dead {
            self.fence_looks(at);
        }
    }

    // === giving back ===

    fn go_on_giving(&mut self, at: usize, now: Instant) {
        let giving = std::mem::take(&mut self.machines[at].guardian.giving);
        for mut giving in giving {
            let waits = giving.asked.is_some_and(|(_, until)| now < until);
            if now >= giving.until {
                let lease = giving.resignation.lease;
                let confirmed = false;
                self.tell_guardian(at, GuardEvent::GivenBack { lease, confirmed });
                continue;
            }
            if !waits {
                let number = self.next_number();
                let limit = giving
                    .resignation
                    .attempt_limit
                    .max(Duration::from_millis(50));
                giving.asked = Some((number, now + limit));
                let mut resignation = giving.resignation.clone();
                if self.mistake == Some(Mistake::NestedCloseIsForgotten) {
                    resignation.close = None;
                }
                let request = Asked::give_back(resignation, now);
                let guardian = self.machines[at].guardian.number;
                self.ask_store(at, Asker::Guardian(guardian), number, request);
            }
            self.machines[at].guardian.giving.push(giving);
        }
    }

    pub(super) fn guardian_is_answered(
        &mut self,
        at: usize,
        guardian: u64,
        number: u64,
        answer: &Answer,
    ) {
        let present = &mut self.machines[at].guardian;
        if present.number != guardian {
            return;
        }
        if let Some(lease) = present.looks.remove(&number) {
            if matches!(answer, Answer::Gone) {
                self.tell_guardian(at, GuardEvent::KeyGone { lease });
            }
            return;
        }
        let asked = |giving: &Giving| giving.asked.is_some_and(|(asked, _)| asked == number);
        let Some(found) = present.giving.iter().position(asked) else {
            return;
        };
        let lease: LeaseId = present.giving.remove(found).resignation.lease;
        let confirmed = true;
        self.tell_guardian(at, GuardEvent::GivenBack { lease, confirmed });
    }
}
