//! A scheduled job: its leader leads between runs, and the planner says when there is one.
//!
//! The planner knows of terms, slots and the store's answers; this side of it knows of the guardian,
//! the tree and the end of a term. A run starts only here, by a claim of this very term (R4), and it is
//! over for the planner only when its tree is proven empty.

use std::sync::Arc;
use std::time::Duration;

use super::Mind;
use super::end::End;
use super::once::Once;
use super::place::{After, Job, Limit, Pause, Place};
use super::run::{Cut, What};
use super::tenure::Stop;
use super::words::{Action, Command, Line, SlotRequest};
use crate::candidate::view::SlotsView;
use crate::clock::Instant;
use crate::guardian::protocol::Request;
use crate::keys::LeaseId;
use crate::revision::Revision;
use crate::schedule::planner::{
    self, Action as Asked, Event as Told, Now, Planner, Setup, StopReason, Wake,
};
use crate::schedule::record::{Exit, Outcome, Verdict};
use crate::schedule::{Occasion, Run, Schedule, Slot, Stored, Write, Written};
use crate::term::record::{Trigger, TriggerAnswer};
use crate::term::slots::Close;
use crate::wall::Time;

/// The planner of one candidacy, and what is between it and the rest.
#[derive(Debug)]
pub(super) struct Planning {
    planner: Planner,
    setup: Setup,
    /// The run that goes on, as it was claimed.
    run: Option<Arc<Run>>,
    /// When it was asked for.
    began: Option<Instant>,
    /// How its main process ended, while its tree may not be empty yet.
    ended: Option<Ended>,
    /// Slots that failed in a row, in this term.
    failures: u32,
    /// Nothing is open, or what closes it goes with the term: it may be given back.
    settled: bool,
    /// The next slot, as it was said last.
    next: Option<Slot>,
    /// The wish for a run that was heard last.
    wish: Option<u64>,
}

/// How the main process of a run ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    exit: Option<Exit>,
    took: Duration,
    /// By itself: nobody had begun to stop the run for good.
    by_itself: bool,
}

impl Planning {
    /// A planner that is in no term.
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            planner: Planner::new(setup.clone()),
            setup,
            run: None,
            began: None,
            ended: None,
            failures: 0,
            settled: false,
            next: None,
            wish: None,
        }
    }

    /// When the next tick is due.
    pub(super) fn wake(&self) -> Wake {
        self.planner.next_timer()
    }

    /// How the run that goes on is closed by who stands in for a dead daemon.
    fn standing_close(&self) -> Option<Close> {
        let write = self.planner.standing_close()?;
        Some(Close::standing(write, self.began?))
    }

    /// What the store holds, and the next slot, as far as this term knows.
    pub(super) fn view(&self) -> Option<SlotsView> {
        let state = self
            .planner
            .state()
            .filter(|state| !state.spec.is_empty())?;
        Some(SlotsView {
            next: self.planner.next_slot(),
            state: state.clone(),
        })
    }
}

impl Mind {
    /// Tells the planner, if there is one, and does what it asks for.
    pub(super) fn plan(&mut self, told: Told) {
        let now = Now {
            wall: self.wall,
            clock: self.now,
        };
        let Some(planning) = &mut self.planning else {
            return;
        };
        let known = planning
            .planner
            .revision()
            .filter(|_| planning.run.is_some());
        for asked in planning.planner.handle(told, now) {
            self.planner_asks(asked);
        }
        self.renew_standing_close(known);
        self.say_next_slot();
        self.leave_if_nothing_is_due();
        self.give_back_if_done();
    }

    fn planner_asks(&mut self, asked: Asked) {
        match asked {
            Asked::Read { number } => self.ask_store(SlotRequest::Read { number }),
            Asked::Write(write) => {
                if write.last {
                    self.close_with_term(&write);
                }
                self.ask_store(SlotRequest::Write(write));
            }
            Asked::Start(run) => self.start_slot(run),
            Asked::Stop(reason) => self.stop_slot(reason),
            Asked::Closed { slot, result, .. } => self.slot_closed(slot, result),
            Asked::Answer { id, verdict } => {
                self.answer_wish(id, verdict);
            }
            Asked::Drained => {
                if let Some(planning) = &mut self.planning {
                    planning.settled = true;
                }
            }
            Asked::Refresh => {
                if let Some(planning) = &self.planning {
                    let schedule = Arc::clone(&planning.setup.schedule);
                    self.act(Action::RefreshSchedule(schedule));
                }
            }
            Asked::Say(line) => self.say_of_slots(line),
        }
    }

    fn answer_wish(&mut self, id: u64, verdict: Verdict) {
        let planner = self.planning.as_ref().map(|planning| &planning.planner);
        let state = planner.and_then(Planner::state);
        let seq = state.map_or(0, |state| state.seq);
        if let (Some((_, token)), Ok(wish)) = (self.term(), i64::try_from(id)) {
            let wish = Revision::new(wish);
            let answer = TriggerAnswer { verdict, seq };
            self.ask_store(SlotRequest::Answer {
                token,
                wish,
                answer,
            });
        }
    }

    fn say_of_slots(&mut self, line: planner::Line) {
        let term = self.term();
        self.say(Line::Slots { term, line });
    }

    fn ask_store(&mut self, request: SlotRequest) {
        if let Some(candidacy) = self.place.candidacy() {
            let (lease, limit) = (candidacy.lease, candidacy.timing.attempt_limit());
            self.ask(Command::Slots {
                lease,
                limit,
                request,
            });
        }
    }

    // === from the rest to the planner ===

    /// The term is this candidate's, and its first hook is over: it leads between runs.
    pub(super) fn lead_between_runs(&mut self) {
        let Place::Leading(tenure, job) = &mut self.place else {
            return;
        };
        *job = Job::Idle;
        let (token, seed) = (tenure.token, self.random);
        self.plan(Told::Elected { token, seed });
    }

    /// The store has answered [`SlotRequest::Read`].
    pub(super) fn slots_read(&mut self, lease: LeaseId, number: u64, stored: Stored) {
        if self.asked_with(lease) {
            self.plan(Told::Read { number, stored });
        }
    }

    /// The store has answered [`SlotRequest::Write`].
    pub(super) fn slots_wrote(&mut self, lease: LeaseId, number: u64, written: Written) {
        if self.asked_with(lease) {
            self.plan(Told::Wrote { number, written });
        }
    }

    /// Whether it was the present candidacy that asked. Each has a planner of its own, which counts from
    /// one: of what an earlier one asked, an answer may come as late as its limit allows, and would pass
    /// for another claim's (R4).
    fn asked_with(&self, lease: LeaseId) -> bool {
        self.place.candidacy().is_some_and(|it| it.lease == lease)
    }

    /// Somebody wrote the schedule's state in this revision, or may have.
    pub(super) fn slots_changed(&mut self, at: Option<Revision>) {
        let planner = self.planning.as_ref().map(|planning| &planning.planner);
        // The present leader's own writes come back as well.
        if planner.is_some_and(|planner| at.is_none() || at > planner.revision()) {
            self.plan(Told::StateChanged);
        }
    }

    /// Somebody asks for a run now, by the record with this mod_revision.
    pub(super) fn trigger(&mut self, request: &Trigger, asked_at: Revision) {
        let Ok(id) = u64::try_from(asked_at.get()) else {
            return;
        };
        // Whoever asked the leader before has long been told that nothing is run.
        let mine = self.place.tenure().map(|tenure| tenure.token);
        if request.token.is_some() && request.token != mine {
            return;
        }
        // The lookout has watched anew, and found what it had told before.
        if let Some(planning) = &mut self.planning
            && planning.wish.replace(id) != Some(id)
        {
            let queue = request.queue;
            self.plan(Told::Trigger { id, queue });
        }
    }

    /// The rules of the schedule's zone were read anew.
    pub(super) fn schedule_refreshed(&mut self, schedule: Arc<Schedule>) {
        if let Some(planning) = &mut self.planning
            && planning.setup.schedule.spec() == schedule.spec()
        {
            planning.setup.schedule = schedule;
            let setup = planning.setup.clone();
            self.plan(Told::Setup(setup));
        }
    }

    /// The configuration has changed. A job that comes to have a schedule, or has none any more, begins
    /// with a term of its own, and with a place in the queue: what is watched for a term goes by that.
    pub(super) fn plan_anew(&mut self, setup: Option<Setup>) {
        match (&mut self.planning, setup) {
            (Some(planning), Some(setup)) => {
                planning.setup = setup.clone();
                self.plan(Told::Setup(setup));
            }
            (None, None) => {}
            (_, _) => self.leave_to_others(),
        }
    }

    /// The main process of a scheduled run, or its `run()`, ended.
    pub(super) fn slot_ended(&mut self, end: &End) {
        let run = self.place.run();
        let Some(run) = run.filter(|run| !matches!(run.what, What::Hook { .. })) else {
            return;
        };
        let (took, by_itself) = (run.ran(self.now), run.stopping_since.is_none());
        let exit = end.code.map(Exit::Code);
        let exit = exit.or(end.signal.map(Exit::Signal));
        if let Some(planning) = &mut self.planning {
            planning.ended.get_or_insert(Ended {
                exit,
                took,
                by_itself,
            });
        }
    }

    /// Nothing of a scheduled run is left; `lost` if it was killed for a term that was being lost.
    pub(super) fn slot_over(&mut self, lost: bool) {
        let now = self.now;
        let Some(planning) = &mut self.planning else {
            return;
        };
        let Some(began) = planning.began.take() else {
            return;
        };
        planning.run = None;
        let ended = planning.ended.take();
        let exit = ended.and_then(|ended| ended.exit);
        let took = ended.map_or(now.since(began), |ended| ended.took);
        let killed = lost && !ended.is_some_and(|ended| ended.by_itself);
        self.plan(Told::Ended { exit, killed, took });
        // Who leads for one slot is done with it, whatever else is due by now.
        let is_done = self.once.as_ref().is_some_and(Once::is_done);
        if is_done && matches!(self.place, Place::Leading(..)) {
            self.end(After::Exit(Limit::Deadline), Stop::Planned);
        }
    }

    /// The run that was claimed was refused: it was certainly not started.
    pub(super) fn slot_refused(&mut self) {
        if let Some(planning) = &mut self.planning {
            (planning.run, planning.began, planning.ended) = (None, None, None);
            self.plan(Told::NotStarted);
        }
    }

    /// Whether a scheduled run goes on that may go on for a while, though its term ends on purpose.
    pub(super) fn may_drain(&self) -> bool {
        let is_up = matches!(&self.place, Place::Leading(_, Job::Up(run)) if !matches!(run.what, What::Hook { .. }));
        let planning = self.planning.as_ref();
        is_up && planning.is_some_and(|planning| planning.planner.is_running())
    }

    /// The term ends.
    pub(super) fn plan_end(&mut self) {
        self.plan(Told::Stop);
    }

    /// The term is being given back: what isn't recorded of it goes with that.
    pub(super) fn plan_over(&mut self) {
        if let Place::Ending(_, ending) = &mut self.place {
            // Nothing is waited for any more.
            ending.empty = false;
        }
        let Some(planning) = &mut self.planning else {
            return;
        };
        let pending = planning.planner.pending_close().cloned();
        let was_settled = std::mem::take(&mut planning.settled);
        (planning.run, planning.began, planning.ended) = (None, None, None);
        planning.failures = 0;
        if let Some(close) = pending.map(Close::of) {
            if let Some((result, took)) = close.result().filter(|_| was_settled) {
                let took = Some(took);
                self.act(Action::SlotRunOver { result, took });
            }
            self.put_into_resignation(Some(close));
        }
        self.plan(Told::TermOver);
    }

    /// Who leads for one slot leaves where that is found to be another's.
    fn leave_if_nothing_is_due(&mut self) {
        let now = self.now;
        let rests = matches!(self.place, Place::Leading(_, Job::Idle))
            && self
                .planning
                .as_ref()
                .is_some_and(|it| it.planner.rests(now));
        if rests && self.once.is_some() {
            self.end(After::Exit(Limit::Deadline), Stop::Planned);
        }
    }

    /// Whether a run goes on in this term, or one may be claimed by now.
    pub(super) fn is_in_run(&self) -> bool {
        let has_none = matches!(self.place, Place::Leading(_, Job::Idle | Job::Due(_)));
        let planning = self.planning.as_ref();
        !has_none || planning.is_some_and(|it| !it.planner.is_idle())
    }

    /// Whether the planner holds nothing back.
    pub(super) fn is_settled(&self) -> bool {
        let planning = self.planning.as_ref();
        planning.is_none_or(|planning| planning.settled || planning.planner.state().is_none())
    }

    // === from the planner to the rest ===

    /// What the run that goes on is for.
    pub(super) fn slot_run(&self) -> Option<Arc<Run>> {
        self.planning.as_ref()?.run.clone()
    }

    fn start_slot(&mut self, run: Run) {
        let now = self.now;
        let Some(planning) = &mut self.planning else {
            return;
        };
        let current = match &self.place {
            Place::Leading(tenure, Job::Idle) => tenure.token == run.token,
            _ => false,
        };
        if !current {
            return self.plan(Told::NotStarted);
        }
        planning.run = Some(Arc::new(run));
        planning.began = Some(now);
        planning.ended = None;
        let close = planning.standing_close();
        // Guardian and hook know how to close the run before they can have to.
        self.put_into_resignation(close);
        self.tell_of_term();
        self.runs += 1;
        self.launch();
    }

    /// Who stands in for a dead daemon closes the run that goes on by the state's newest revision, where
    /// that was another.
    fn renew_standing_close(&mut self, known: Option<Revision>) {
        let Some(planning) = &self.planning else {
            return;
        };
        let planner = &planning.planner;
        if known.is_none() || planner.revision() == known || !planner.is_running() {
            return;
        }
        // A run that has closed itself needs none.
        if let Some(close) = planning.standing_close() {
            self.put_into_resignation(Some(close));
            self.tell_of_resignation();
        }
    }

    /// Guardian and stop hook are to know the term as it is now.
    fn tell_of_term(&mut self) {
        if let Place::Leading(tenure, _) = &self.place
            && tenure.guard != super::place::Guard::Current
        {
            return self.have_term_guarded();
        }
        self.tell_of_resignation();
    }

    /// Guardian and stop hook are to know how the term is given back by now.
    fn tell_of_resignation(&mut self) {
        if let Some(candidacy) = self.place.candidacy() {
            let resignation = candidacy.resignation.clone();
            self.tell_of_lease(resignation);
            self.write_lease_file(true);
        }
    }

    fn put_into_resignation(&mut self, close: Option<Close>) {
        if let Some(candidacy) = self.place.candidacy_mut() {
            candidacy.resignation.close = close.map(Box::new);
        }
    }

    /// The run is closed by the transaction that gives the term back, too: whoever does that, and whatever
    /// becomes of the write itself. That one comes first, since it can follow what others write.
    fn close_with_term(&mut self, write: &Write) {
        self.put_into_resignation(Some(Close::of(write.clone())));
        self.tell_of_resignation();
    }

    fn stop_slot(&mut self, reason: StopReason) {
        let cut = match reason {
            StopReason::Timeout => Cut::TimedOut,
            StopReason::Planned | StopReason::Replaced => Cut::Replaced,
        };
        if matches!(self.place, Place::Leading(..)) {
            return self.cut_run(cut);
        }
        self.stop_draining();
    }

    fn slot_closed(&mut self, slot: Occasion, result: Outcome) {
        let cooldown = self.config.job.yield_cooldown;
        let yield_after = self.config.job.yield_after;
        let Some(planning) = &mut self.planning else {
            return;
        };
        let retries = planning.setup.policy.retries;
        let last = planning.planner.state().and_then(|it| it.last.as_ref());
        let took = last.map(|last| Duration::from_millis(last.took_ms));
        let is_last_try = last.is_none_or(|last| last.attempt > retries);
        match result {
            _ if slot == Occasion::Manual => {}
            Outcome::Success => planning.failures = 0,
            Outcome::Failure | Outcome::Timeout if is_last_try => planning.failures += 1,
            _ => {}
        }
        let yields = yield_after > 0 && planning.failures >= yield_after;
        let yields = yields && matches!(self.place, Place::Leading(..));
        if yields {
            planning.failures = 0;
        }
        self.act(Action::SlotRunOver { result, took });
        if yields {
            self.end(After::Rejoin(Pause::Cooldown(cooldown)), Stop::Planned);
        }
    }

    /// Says which slot is waited for, once it is another.
    fn say_next_slot(&mut self) {
        let Place::Leading(_, Job::Idle) = self.place else {
            return;
        };
        let Some(planning) = &mut self.planning else {
            return;
        };
        if !planning.planner.is_idle() {
            return;
        }
        let next = planning.planner.next_slot();
        if let Some(slot) = next
            && planning.next.replace(slot) != next
        {
            let at = planning.setup.due_at(slot);
            let term = self.term();
            self.say(Line::NextSlot { term, slot, at });
        }
    }

    // === a run that takes too long ===

    /// Stops a run; the term goes on.
    pub(super) fn cut_run(&mut self, cut: Cut) {
        let (stop_signal, grace) = (self.config.job.stop_signal, self.config.job.stop_grace);
        let until = self.now + grace;
        let Place::Leading(tenure, Job::Up(run)) = &mut self.place else {
            return;
        };
        let token = tenure.token;
        if run.cut.replace(cut).is_some() {
            return;
        }
        run.end_by(until);
        if run.native().is_some() {
            self.act(Action::StopNative);
        }
        self.tell(Request::StopRun {
            token,
            stop_signal,
            grace,
        });
    }

    /// An unscheduled run has taken longer than it may.
    pub(super) fn run_timed_out(&mut self) {
        let term = self.term();
        self.say(Line::RunTimedOut { term });
        self.cut_run(Cut::TimedOut);
    }

    /// When a run without a slot is to be stopped for its time.
    pub(super) fn timeout_at(&self) -> Option<Instant> {
        let Place::Leading(_, Job::Up(run)) = &self.place else {
            return None;
        };
        let counts = self.planning.is_none() && self.once.is_none() && run.cut.is_none();
        let timeout = self.config.run_timeout.filter(|_| counts)?;
        (!matches!(run.what, What::Hook { .. })).then(|| run.began + timeout)
    }

    /// The next time of day at which something is due.
    pub(in crate::candidate) fn next_wall(&self) -> Option<Time> {
        self.planning.as_ref()?.wake().wall
    }
}
