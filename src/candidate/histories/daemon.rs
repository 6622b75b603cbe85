//! The daemon of a machine: the product's mind, and a process that carries out what it decides.

use std::collections::BTreeSet;
use std::time::Duration;

mod life;

use super::Mistake;
use super::chance::nanos;
use super::contest::Contest;
use super::machine::Process;
use super::several::Told;
use super::store::{Answer, Control};
use super::world::{Asker, What, World};
use crate::candidate::actions::REMEMBER_LIMIT;
use crate::candidate::decide::Mind;
use crate::candidate::decide::words::{Action, Command, Event, Line, Order, Work};
use crate::clock::Instant;
use crate::guardian::decide::HOOK;
use crate::guardian::protocol::{CommandSpec, Exit, Report, Request};
use crate::keys::LeaseId;
use crate::placement::preference::BY;
use crate::reason::EndReason;
use crate::revision::{Revision, Token};
use crate::schedule::planner::Now;

/// For so many turns in a row a timer may lie in the past; some are there until an answer comes.
const SPUN: u32 = 50;

/// What the daemon hears.
#[derive(Debug)]
pub(super) enum Word {
    /// What is decided on as it is.
    Event(Event),
    /// The store has answered the request with this number.
    Answer(u64, Answer, u64),
    /// A key is gone.
    SawGone(Token),
    /// What operators want.
    SawControl(Control),
    /// The state of the schedule was written, in this revision.
    SawSlots(Revision),
    /// What the guardian with this number says.
    Guardian(u64, Report),
}

/// The process, and what it decides with.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    pub(super) process: Process,
    /// Which daemon of the machine it is: what an earlier one asked for is not answered to it.
    pub(super) number: u64,
    /// None while the process is being started.
    pub(super) mind: Option<Mind>,
    pub(super) inbox: Vec<Word>,
    pub(super) contest: Contest,
    /// The lease that the guardian is yet to acknowledge, and until when.
    preparing: Option<(LeaseId, Instant)>,
    /// The run that was asked for last as the job itself, and how many such have begun.
    pub(super) job: (u64, u32),
    /// The processes that a Rust job has asked for, by the numbers of their runs.
    processes: BTreeSet<u64>,
    /// When the job's last run ended by itself, if nothing was asked for since.
    ended_at: Option<u64>,
    /// When a start was asked for last.
    pub(super) asked_at: u64,
    /// Guardian and tree are being killed.
    pub(super) fencing: bool,
    /// When its alarm on the wall clock rings.
    pub(super) rings_at: Option<u64>,
    /// For how many turns its timer has lain in the past.
    spun: u32,
}

/// That nothing of the term is left, whatever it has come to.
const fn empty(token: Option<Token>) -> Report {
    Report::Empty {
        token,
        killed: false,
        run: u64::MAX,
        unfinished: false,
    }
}

impl Daemon {
    /// How it stands.
    pub(super) fn role(&self) -> &'static str {
        match &self.mind {
            _ if self.process.dead => "dead",
            Some(mind) => mind.role().word(),
            None => "down",
        }
    }
}

impl World {
    pub(super) fn daemon_timer(&self, at: usize) -> Option<Instant> {
        let daemon = &self.machines[at].daemon;
        let mind = daemon.mind.as_ref().filter(|_| !daemon.process.dead)?;
        let preparing = daemon.preparing.map(|(_, until)| until);
        mind.next_timer()
            .into_iter()
            .chain(daemon.contest.timer())
            .chain(preparing)
            .reduce(Instant::min)
    }

    /// One round of its loops: the words that have come, the guardian's first, and the clock. Returns
    /// when it is to run next.
    pub(super) fn daemon_runs(&mut self, at: usize) -> Option<Instant> {
        let mut words = std::mem::take(&mut self.machines[at].daemon.inbox);
        words.sort_by_key(|word| match word {
            Word::Guardian(_, Report::Resigned { .. }) => 0,
            Word::Guardian(..) => 1,
            _ => 2,
        });
        for word in words {
            self.hear(at, word);
            if self.is_down(at) {
                return None;
            }
        }
        let now = self.machines[at].shows();
        let daemon = &mut self.machines[at].daemon;
        daemon.contest.run(now, &mut self.chance);
        if let Some((lease, _)) = daemon.preparing.take_if(|(_, until)| now >= *until) {
            self.on(at, Event::Silent(lease));
        }
        self.contest_speaks(at);
        if self.mistake != Some(Mistake::NoSecondLine) || !self.leads(at) {
            self.on(at, Event::Tick);
        }
        self.contest_speaks(at);
        let timer = self.daemon_timer(at);
        self.machines[at].daemon.rings_at = self.wall_wake(at);
        if !self.is_down(at) {
            self.look_for_a_spin(at, timer);
        }
        timer
    }

    fn is_down(&self, at: usize) -> bool {
        let daemon = &self.machines[at].daemon;
        daemon.process.dead || daemon.mind.is_none()
    }

    /// Whether it leads, or is ending its term.
    pub(super) fn leads(&self, at: usize) -> bool {
        let mind = self.machines[at].daemon.mind.as_ref();
        mind.is_some_and(|mind| mind.public(&super::no_runs()).token.is_some())
    }

    /// A timer that stays in the past would keep a real loop from everything else.
    fn look_for_a_spin(&mut self, at: usize, timer: Option<Instant>) {
        let now = self.machines[at].shows();
        let is_past = timer.is_some_and(|timer| timer <= now);
        let rings_at = self.machines[at].daemon.rings_at;
        let is_past = is_past || rings_at.is_some_and(|when| when <= self.now);
        let turns = &mut self.machines[at].daemon.spun;
        *turns = if is_past { *turns + 1 } else { 0 };
        if *turns > SPUN && self.mistake != Some(Mistake::NoSecondLine) {
            self.judge.found(format!("the daemon of {at} spins"));
        }
    }

    fn hear(&mut self, at: usize, word: Word) {
        let now = self.machines[at].shows();
        match word {
            Word::Event(event) => self.on(at, event),
            Word::Answer(number, answer, raft_term) => {
                let daemon = &mut self.machines[at].daemon;
                daemon.contest.answered(number, answer, raft_term, now);
            }
            Word::SawGone(key) => self.machines[at].daemon.contest.saw_gone(key, now),
            Word::SawControl(control) => {
                let contest = &mut self.machines[at].daemon.contest;
                contest.saw_control(control, now);
            }
            Word::SawSlots(seen) => self.machines[at].daemon.contest.saw_slots(seen),
            Word::Guardian(number, report) => {
                if number == self.machines[at].guardian.number {
                    self.guardian_said(at, report);
                }
            }
        }
        self.contest_speaks(at);
    }

    fn guardian_said(&mut self, at: usize, report: Report) {
        // Those of a Rust job's processes are that job's to know.
        if let Report::Refused { run, .. } = report
            && self.machines[at].daemon.processes.remove(&run)
        {
            return;
        }
        let is_deaf = self.mistake == Some(Mistake::MainEndIsNotHeard);
        if is_deaf && matches!(report, Report::MainEnded { .. }) {
            return;
        }
        if self.mistake == Some(Mistake::RunOverIsNotHeard)
            && self.machines[at].daemon.role() == "leading"
            && matches!(report, Report::Empty { .. })
        {
            return;
        }
        if let Report::Remembered { lease } = report {
            let daemon = &mut self.machines[at].daemon;
            if daemon.preparing.take_if(|it| it.0 == lease).is_some() {
                self.on(at, Event::Prepared(lease));
            }
        }
        self.on(at, Event::Guardian(report));
    }

    /// Its thread speaks to the store, and tells the mind.
    fn contest_speaks(&mut self, at: usize) {
        let number = self.machines[at].daemon.number;
        let contest = &mut self.machines[at].daemon.contest;
        if contest.is_silent() {
            return;
        }
        let (requests, events) = (
            std::mem::take(&mut contest.requests),
            std::mem::take(&mut contest.events),
        );
        for (asked, request) in requests {
            self.ask_store(at, Asker::Daemon(number), asked, request);
        }
        for event in events {
            self.tell_daemon(at, Word::Event(event));
        }
        if std::mem::take(&mut self.machines[at].daemon.contest.began_to_wait) {
            self.wait_begun(at);
        }
    }

    /// Decides on an event, by the newest that is known of the lease, and does what is to be done.
    pub(super) fn on(&mut self, at: usize, event: Event) {
        if let Some(status) = self.machines[at].daemon.contest.news.take() {
            self.decide(at, Event::Lease(status));
        }
        self.decide(at, event);
    }

    fn decide(&mut self, at: usize, event: Event) {
        let (now, random) = (self.machines[at].shows(), self.chance.next());
        let wall = self.machines[at].clock.wall(self.now);
        if self.is_down(at) {
            return;
        }
        if self.traced {
            println!("{:>16} {at} event  {event:?}", self.now);
        }
        let Some(mind) = &mut self.machines[at].daemon.mind else {
            return;
        };
        let present = Now { wall, clock: now };
        for action in mind.handle(event, present, random) {
            if self.traced {
                println!("{:>16} {at} action {action:?}", self.now);
            }
            self.carry_out(at, action, now);
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: an arm an action")]
    fn carry_out(&mut self, at: usize, action: Action, now: Instant) {
        match action {
            Action::Tell(request) => self.tell(at, request),
            Action::Prepare(resignation) => {
                let lease = resignation.lease;
                self.machines[at].daemon.preparing = Some((lease, now + REMEMBER_LIMIT));
                self.write_lease_file(at, resignation.clone(), false);
                if self.mistake == Some(Mistake::GrantedBeforeGuarded) {
                    self.tell_daemon(at, Word::Event(Event::Prepared(lease)));
                } else {
                    self.ask_guardian(at, Request::Lease(Box::new(resignation)));
                }
            }
            Action::Contest(command) => {
                let machine = &mut self.machines[at];
                if let Command::GiveBack(resignation, _) = &command {
                    self.judge.gives_back(at, resignation, machine, self.now);
                }
                machine.daemon.contest.obey(command, now);
                machine.daemon.contest.run(now, &mut self.chance);
                self.contest_speaks(at);
            }
            Action::Start { token, run, what } => {
                let (command, sole) = (CommandSpec::default(), !matches!(what, Work::Process(_)));
                self.machines[at].daemon.asked_at = self.now;
                if !sole {
                    self.machines[at].daemon.processes.insert(run);
                }
                if let Work::Job(_, slot) = what {
                    self.machines[at].daemon.job.0 = run;
                    self.restarts(at);
                    self.slot_asked(at, run, slot);
                }
                self.ask_guardian(
                    at,
                    Request::Start {
                        token,
                        run,
                        command,
                        sole,
                    },
                );
                self.start_asked(at);
            }
            Action::GuardEnd { token } => {
                let hook = self.machines[at].config.hooks.on_lost.as_ref();
                let limit = hook.map_or(Duration::ZERO, |hook| hook.limit);
                let command = CommandSpec::default();
                self.ask_guardian(
                    at,
                    Request::AtEnd {
                        token,
                        command,
                        limit,
                    },
                );
            }
            Action::StartNative { run, slot } => {
                self.restarts(at);
                self.slot_asked(at, run, slot);
                let guardian = &self.machines[at].guardian;
                let acknowledged = guardian.acknowledged;
                let Some(token) = guardian.token.filter(|token| acknowledged == Some(*token))
                else {
                    return self.judge.found(format!("{at} starts unguarded"));
                };
                self.judge.begins(at, token, &self.store, self.mood);
                self.native_starts(at, run, token);
                self.decide(at, Event::NativeStarted(run));
            }
            Action::StopNative => self.native_asked(at),
            Action::RefuseProcess => self.want_is_answered(at),
            Action::Fence { .. } => {
                self.guardian_killed(at);
                self.machines[at].daemon.fencing = true;
                self.machines[at].tree.starting = None;
                self.tree_killed(at);
                self.fence_looks(at);
            }
            Action::KillDaemon => self.daemon_killed(at),
            Action::Check { run, .. } => self.check(at, run),
            Action::Exit => self.daemon_exits(at),
            Action::Say(Line::Elected { token, .. }) => {
                self.outcome.terms += 1;
                self.judge.elected(at, token, &self.store);
            }
            Action::Say(Line::SteppingDown { token, by, .. })
                if by == BY && self.machines[at].runs_job() =>
            {
                self.judge
                    .found(format!("{at} hands {token} over in the middle of a run"));
            }
            // A Rust job that a planned stop doesn't end takes its daemon with it.
            Action::Say(Line::TermLost { token, reason, .. })
                if self.looking && reason != EndReason::JobStuck =>
            {
                self.tell_beside(Told::Lost(at));
                self.judge
                    .found(format!("{at} loses {token} though all is well: {reason}"));
            }
            Action::RunOver(_) if self.plan.is_none() => {
                self.machines[at].daemon.ended_at = Some(self.now);
            }
            Action::Say(Line::TermLost { .. }) => self.tell_beside(Told::Lost(at)),
            Action::TermOver(_) => self.machines[at].daemon.ended_at = None,
            Action::WriteLeaseFile { resignation, soon } => {
                self.write_lease_file(at, resignation, soon);
            }
            Action::RemoveLeaseFile(lease) => self.remove_lease_file(at, lease),
            Action::RefreshSchedule(schedule) => self.refreshed(at, schedule),
            Action::Say(_)
            | Action::RunOver(_)
            | Action::SlotRunOver { .. }
            | Action::ReloadChecks
            | Action::RestoreChecks { .. }
            | Action::RunBegins => {}
        }
    }

    fn tell(&mut self, at: usize, request: Request) {
        match (self.mistake, &request) {
            (Some(Mistake::StopIsForgotten), Request::Stop { .. })
            | (Some(Mistake::KillIsForgotten), Request::Kill { .. })
            | (Some(Mistake::LaterDeadlinesForgotten), Request::Deadline { .. })
            | (Some(Mistake::RestIsLeft), Request::StopRun { .. }) => return,
            (Some(Mistake::StartedUnguarded), Request::Term(term)) => {
                let (token, deadline) = (term.token, term.deadline);
                let report = Report::Guarded { token, deadline };
                self.tell_daemon(at, Word::Event(Event::Guardian(report)));
            }
            (
                Some(Mistake::EmptyOnceAsked),
                Request::Stop { token, .. } | Request::Kill { token },
            ) => {
                self.tell_daemon(at, Word::Event(Event::Guardian(empty(Some(*token)))));
            }
            _ => {}
        }
        self.ask_guardian(at, request);
    }

    /// The check ends a moment later.
    fn check(&mut self, at: usize, run: u64) {
        let ill = self.machines[at].ill && self.mistake != Some(Mistake::IllnessIsIgnored);
        let exit = Exit::Code(i32::from(ill));
        let main = Report::MainEnded {
            run,
            pid: None,
            exit,
        };
        let empty = Report::Empty {
            token: None,
            killed: false,
            run,
            unfinished: false,
        };
        for report in [main, empty] {
            self.tell_daemon(at, Word::Event(Event::Checks(report)));
        }
    }

    /// The fence is through once nothing lives.
    pub(super) fn fence_looks(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let left = machine.tree.alive.is_some();
        let spares = self.mistake == Some(Mistake::FenceSparesTheTree);
        if (left && !spares) || !std::mem::take(&mut machine.daemon.fencing) {
            return;
        }
        self.tell_daemon(at, Word::Event(Event::Fenced));
        let after = self.chance.delay(Duration::from_secs(2));
        let number = self.machines[at].daemon.number;
        self.after(after, What::GuardianStarts(at, number));
    }

    /// The new guardian is there.
    pub(super) fn guardian_is_there(&mut self, at: usize, number: u64) {
        if !self.is_down(at) && self.machines[at].daemon.number == number {
            self.guardian_starts(at);
            self.tell_daemon(at, Word::Event(Event::Guarded));
        }
    }

    pub(super) fn native_ended(&mut self, at: usize, run: u64) {
        let result = if self.chance.one_in(3) {
            Err(String::new())
        } else {
            Ok(())
        };
        self.slot_ended(at, run, result.is_ok());
        self.tell_daemon(at, Word::Event(Event::NativeEnded(run, result)));
        if self.mistake == Some(Mistake::ProcessesForgotten) {
            let token = self.machines[at].guardian.token;
            self.tell_daemon(at, Word::Event(Event::Guardian(empty(token))));
        }
    }

    /// The job is started, or started again: not at once where there is a pause, of which jitter takes
    /// half at most, and a clock that runs fast a little.
    fn restarts(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let Some(ended_at) = machine.daemon.ended_at.take() else {
            return;
        };
        let least = nanos(machine.config.job.restart_delay) * 9 / 20;
        if self.now < ended_at + least && self.now >= machine.clock.suspended_until {
            self.judge.found(format!("{at} starts again at once"));
        }
    }

    /// The run begins: of one that is to run once there is no second one.
    pub(super) fn runs_once(&mut self, at: usize, run: u64) {
        let machine = &mut self.machines[at];
        let (job, begun) = &mut machine.daemon.job;
        if machine.once && run != HOOK && *job == run {
            *begun += 1;
            if *begun > 1 {
                self.judge.found(format!("{at} runs its command again"));
            }
        }
    }

    pub(super) fn order(&mut self, at: usize, order: Order) {
        let ignores = self.mistake == Some(Mistake::SecondSigtermIgnored);
        if ignores && matches!(order, Order::ShutdownNow) {
            return;
        }
        self.tell_daemon(at, Word::Event(Event::Order(order)));
    }

    pub(super) fn tell_daemon(&mut self, at: usize, word: Word) {
        if !self.is_down(at) {
            self.machines[at].daemon.inbox.push(word);
            let when = self.now + self.soon();
            self.daemon_runs_at(at, when);
        }
    }
}
