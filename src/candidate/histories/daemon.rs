//! The daemon of a history: the product's bookkeeping and decisions, and a process around them.

use std::time::Duration;

use super::Mistake;
use super::acting::resignation;
use super::chance::{Chance, nanos};
use super::store::Answer;
use super::world::{Process, TOKEN, World};
use crate::candidate::second_line::SecondLine;
use crate::candidate::told::Told;
use crate::clock::Instant;
use crate::config::timing::Timing;
use crate::etcd::keep_alive::Ack;
use crate::guardian::protocol::{self, CommandSpec, Report, Request};
use crate::job::restart::Verdict;
use crate::role::{Event, Machine, Reason, Role};
use crate::session::{Loss, Status};

/// What the daemon hears.
#[derive(Debug)]
pub(super) enum Word {
    /// A renewal was acknowledged, or refused.
    Renewed {
        attempt: u64,
        sent: Instant,
        answer: Answer,
    },
    /// The own key was read.
    Read { attempt: u64, answer: Answer },
    /// The claim was answered.
    Claimed(Answer),
    /// A word of the guardian.
    Guardian(Report),
    /// The guardian is dead.
    GuardianGone,
    /// The tree is proven empty without the guardian.
    Fenced,
    /// The Rust job has ended.
    NativeEnded,
    /// SIGTERM.
    Shutdown,
}

/// How far the present attempt to renew has come.
#[derive(Debug)]
pub(super) enum Stage {
    Idle { due: Instant },
    Renewing,
    Reading(Ack),
}

/// The process, and what it knows.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Daemon {
    pub(super) process: Process,
    pub(super) inbox: Vec<Word>,
    pub(super) timing: Timing,
    // The session.
    pub(super) status: Status,
    pub(super) newest: u64,
    pub(super) attempt: u64,
    pub(super) stage: Stage,
    pub(super) gives_up_at: Instant,
    // The election.
    pub(super) claims_at: Option<Instant>,
    /// The renewal that the claim is to prove.
    pub(super) acked: Ack,
    /// Whether the claim was answered: the lease carries a term.
    pub(super) claimed: bool,
    // The candidate.
    pub(super) machine: Machine,
    pub(super) leads: bool,
    pub(super) leaving: bool,
    pub(super) second_line: SecondLine,
    pub(super) told: Told,
    pub(super) acknowledged: Option<(i64, Instant)>,
    pub(super) guardian_gone: bool,
    pub(super) fencing: bool,
    pub(super) loss_heard: bool,
    pub(super) run: u64,
    pub(super) restart_at: Option<Instant>,
    /// A Rust job waits for the guardian to know of the term.
    pub(super) native_waits: bool,
    /// The guardian's proof waits for a Rust job to end.
    pub(super) tree_empty: bool,
    /// The guardian was told that a Rust job is over.
    pub(super) native_over: bool,
}

impl Daemon {
    /// A daemon whose lease was granted just now.
    pub(super) fn new(chance: &mut Chance, timing: Timing, now: Instant) -> Self {
        let ack = Ack {
            sent: now,
            ttl: 1,
            raft_term: 1,
        };
        let mut machine = Machine::new();
        machine.on(Event::RejoinDue);
        let interval = timing.renewal_interval();
        Self {
            process: Process::default(),
            inbox: Vec::new(),
            timing,
            status: Status::granted(ack, timing),
            newest: 1,
            attempt: 0,
            stage: Stage::Idle {
                due: now + interval,
            },
            gives_up_at: now,
            claims_at: Some(now + Duration::from_nanos(chance.up_to(nanos(interval)))),
            acked: ack,
            claimed: false,
            machine,
            leads: false,
            leaving: false,
            second_line: SecondLine::default(),
            told: Told::default(),
            acknowledged: None,
            guardian_gone: false,
            fencing: false,
            loss_heard: false,
            run: 0,
            restart_at: None,
            native_waits: false,
            tree_empty: false,
            native_over: false,
        }
    }

    /// When it runs next, unless a word comes before.
    fn timer(&self) -> Option<Instant> {
        if self.process.dead || self.leaving {
            return None;
        }
        let session = self.status.loss.is_none().then(|| {
            let renewal = match self.stage {
                Stage::Idle { due } => due,
                Stage::Renewing | Stage::Reading(_) => self.gives_up_at,
            };
            renewal.min(self.status.deadline)
        });
        let second_line = self
            .leads
            .then(|| {
                self.second_line
                    .next_due(&self.timing, self.status.deadline)
            })
            .flatten();
        [
            session,
            self.claims_at,
            self.restart_at,
            second_line,
            self.silent_at(),
        ]
        .into_iter()
        .flatten()
        .reduce(Instant::min)
    }

    fn silent_at(&self) -> Option<Instant> {
        if self.guardian_gone {
            return None;
        }
        self.told.silent_at(&self.timing, self.acknowledged)
    }
}

impl World {
    pub(super) fn daemon_timer(&self) -> Option<Instant> {
        self.daemon.timer()
    }

    /// One round of its loops: the words that have come, the guardian's first, and the clock.
    pub(super) fn daemon_runs(&mut self) {
        let mut words = std::mem::take(&mut self.daemon.inbox);
        words.sort_by_key(|word| !matches!(word, Word::Guardian(_)));
        for word in words {
            self.hear(word);
        }
        let now = self.clock();
        let status = &mut self.daemon.status;
        if now >= status.deadline {
            status.loss.get_or_insert(Loss::Expired);
        }
        if let Some(loss) = &status.loss
            && !std::mem::replace(&mut self.daemon.loss_heard, true)
        {
            let reason = loss.reason();
            self.on(Event::Lost(Reason(reason)));
        }
        let deadline = self.daemon.status.deadline;
        if self.daemon.leads && self.daemon.told.deadline(TOKEN, deadline) {
            let token = TOKEN;
            self.ask_guardian(Request::Deadline { token, deadline });
        }
        self.time_came(now);
        self.renew(now);
    }

    fn time_came(&mut self, now: Instant) {
        let daemon = &mut self.daemon;
        if daemon.restart_at.take_if(|at| now >= *at).is_some() {
            self.on(Event::RestartDue);
        }
        let daemon = &mut self.daemon;
        if !daemon.leads || daemon.leaving || self.mistake == Some(Mistake::NoSecondLine) {
            return;
        }
        let (timing, deadline) = (daemon.timing, daemon.status.deadline);
        let due = daemon.second_line.take_due(&timing, deadline, now);
        if daemon.silent_at().is_some_and(|at| now >= at) {
            self.guardian_gone();
        }
        for event in due {
            self.on(event);
        }
    }

    fn hear(&mut self, word: Word) {
        let present = self.daemon.attempt;
        let over = self.daemon.status.loss.is_some() || self.daemon.leaving;
        match word {
            Word::Renewed { answer: Err(_), .. }
            | Word::Read { answer: Err(_), .. }
            | Word::Claimed(Err(_)) => {
                self.daemon.status.loss.get_or_insert(Loss::Revoked);
            }
            Word::Renewed { attempt, .. } | Word::Read { attempt, .. } if attempt != present => {}
            Word::Renewed { .. } | Word::Read { .. } | Word::Claimed(_) if over => {}
            Word::Renewed {
                sent,
                answer: Ok(raft_term),
                ..
            } => {
                self.daemon.newest = self.daemon.newest.max(raft_term);
                let ttl = 1;
                self.acknowledged(Ack {
                    sent,
                    ttl,
                    raft_term,
                });
            }
            Word::Read {
                answer: Ok(raft_term),
                ..
            } => {
                if let Stage::Reading(ack) = self.daemon.stage {
                    self.read(ack, raft_term);
                }
            }
            Word::Claimed(Ok(raft_term)) => self.claimed(raft_term),
            Word::Guardian(_) if self.daemon.guardian_gone => {}
            Word::Guardian(report) => self.guardian_said(&report),
            Word::GuardianGone => self.guardian_gone(),
            Word::Fenced => self.on(Event::Fenced),
            Word::NativeEnded => {
                if self.daemon.tree_empty && self.hook.is_some() {
                    self.native_over();
                } else if self.daemon.tree_empty {
                    self.on(Event::Empty);
                } else {
                    self.main_ended();
                }
            }
            Word::Shutdown => self.on(Event::Shutdown),
        }
    }

    fn guardian_said(&mut self, report: &Report) {
        let now = self.clock();
        self.daemon.told.note(report, now);
        match *report {
            Report::Guarded { token, deadline } => {
                self.daemon.acknowledged = Some((token, deadline));
                if std::mem::take(&mut self.daemon.native_waits) {
                    self.start_native();
                }
            }
            Report::Refused { .. } => self.on(Event::NotStarted),
            Report::MainEnded { .. } => self.main_ended(),
            // The hook is yet to run, and its end is waited for.
            Report::Empty {
                unfinished: true, ..
            } if self.daemon.machine.role() == Role::Stopping => {
                if self.in_daemon && self.job.alive {
                    self.daemon.tree_empty = true;
                } else {
                    self.native_over();
                }
            }
            Report::Empty { run, .. } if !self.in_daemon && run >= self.daemon.run => {
                self.on(Event::Empty);
            }
            Report::Empty { .. } if self.in_daemon && self.job.alive => {
                self.daemon.tree_empty = true;
            }
            Report::Empty { .. } if self.in_daemon => self.on(Event::Empty),
            Report::Stopping { .. } => self.on(Event::StopDue),
            _ => {}
        }
    }

    /// The guardian can't know that a Rust job is over.
    fn native_over(&mut self) {
        if self.in_daemon && !std::mem::replace(&mut self.daemon.native_over, true) {
            let token = TOKEN;
            self.ask_guardian(Request::JobOver { token });
        }
    }

    fn main_ended(&mut self) {
        let pause = Duration::from_nanos(self.chance.delay(Duration::from_secs(1)));
        let verdict = if self.chance.one_in(3) {
            Verdict::GiveBack(pause)
        } else {
            Verdict::Again(pause)
        };
        self.on(Event::MainEnded(verdict));
    }

    fn guardian_gone(&mut self) {
        if !std::mem::replace(&mut self.daemon.guardian_gone, true) {
            self.on(Event::GuardianGone);
        }
    }

    pub(super) fn elected(&mut self) {
        if std::mem::replace(&mut self.daemon.leads, true) {
            return;
        }
        let term = protocol::Term {
            token: TOKEN,
            deadline: self.daemon.status.deadline,
            lost_grace: self.daemon.timing.lost_grace(),
            kill_budget: self.daemon.timing.kill_budget(),
            stop_signal: 15,
            in_daemon: self.in_daemon,
        };
        self.daemon.told.term(&term);
        self.ask_guardian(Request::Lease(Box::new(resignation())));
        self.ask_guardian(Request::Term(term));
        if let Some(limit) = self.hook {
            self.ask_guardian(Request::AtEnd {
                token: TOKEN,
                command: CommandSpec::default(),
                limit,
            });
        }
        self.on(Event::Elected);
    }

    pub(super) fn start_native(&mut self) {
        let daemon = &self.daemon;
        if self.clock() < daemon.timing.polite_stop(daemon.status.deadline) {
            self.job_starts(false);
        } else {
            self.on(Event::NotStarted);
        }
    }

    pub(super) fn on(&mut self, event: Event) {
        for action in self.daemon.machine.on(event) {
            self.act(action);
        }
    }
}
