//! Which slot is run, and what the store is told of it: a state machine without I/O or clock.
//!
//! The daemon tells it what happened and carries out what it answers. A slot's job is started only
//! once its claim was acknowledged in this very term; a slot that was claimed or passed over is never
//! due again; and a run that ended is closed in the store until that is acknowledged, or the term is
//! over.
//!
//! ```text
//! out ──Elected──▶ reading ──▶ idle ──a slot is due──▶ writing (claim) ──done──▶ running
//!                     ▲         ▲                        │ refused, unknown        │ ended
//!                     └─────────┼────────────────────────┘◀── writing (close) ◀────┘
//!                               └───────────────────────────────────┘ done
//! ```
//! A write that was not answered, or was refused, is read back: the state that it would have put is
//! there, and it is done; the state that it was guarded by is there, and it is sent again; or somebody
//! else wrote, and what is to be done is decided anew.
//!
//! A run may be closed before it ends, by itself: in a transaction of its own, with what it has to
//! write. That stands, however its processes end, and nothing is written of it then.

use std::time::Duration;

use super::record::{Exit, HistoryEntry, Open, Outcome, State, Verdict, cut};
use super::timetable::mix;
use super::{Occasion, Run, RunId, Slot, Stored, Write, Written};
use crate::clock::Instant;
use crate::revision::{Revision, Token};
use crate::wall::Time;

mod answers;
mod due;
mod idle;
#[cfg(test)]
mod tests;
mod words;

pub use words::{
    Action, Event, Guarantee, Line, Missed, Now, Overlap, Policy, Setup, StopReason, Wake,
};

/// A clock that is behind the last claim by no more than this is not behind: hosts differ.
const BEHIND: Duration = Duration::from_secs(2);

/// A clock that moved by more than this against the other was set.
const STEP: Duration = Duration::from_secs(1);

/// The next slot is computed anew at least so often, since the rules of zones change.
const REFRESH: Duration = Duration::from_hours(1);

/// Before the store is asked again, and before a start that was refused is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The longest pause before a slot is tried again.
const LONGEST_RETRY: Duration = Duration::from_hours(1);

/// Decides which slot is run.
#[derive(Debug)]
pub struct Planner {
    setup: Setup,
    paused: bool,
    term: Option<Term>,
    /// Both clocks when they were last looked at.
    seen: Option<Now>,
    refresh_at: Option<Instant>,
    number: u64,
    actions: Vec<Action>,
}

/// What is known within a term.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Term {
    token: Token,
    seed: u64,
    stopping: bool,
    drained: bool,
    /// What the store holds, and the revision that guards it.
    state: State,
    revision: Revision,
    /// The number of a record that another wrote, who doesn't trim: the next write does.
    untrimmed: Option<u64>,
    phase: Phase,
    /// Slots that were passed over, and that the store isn't told of yet.
    passed: Option<(Slot, u64)>,
    /// The slot that waits for the end of a run.
    queued: Option<Slot>,
    /// The wish that waits.
    wish: Option<u64>,
    /// When the slot is tried again, and which attempt that is.
    retry: Option<(Slot, u32, Instant)>,
    /// Nothing is claimed before.
    hold: Option<Instant>,
    /// Whether it was said that the clock is behind.
    behind: bool,
    /// Whether slots wait that aren't looked at for now.
    blocked: bool,
}

#[derive(Debug)]
enum Phase {
    /// A read is on its way, or to be sent `again`; with the write whose fate it tells.
    Reading {
        number: u64,
        again: Option<Instant>,
        fate: Option<InFlight>,
        /// Whether the store has refused that write, so that another wrote.
        refused: bool,
    },
    /// The state can't be read; with the write whose fate it will tell once it can be.
    Unreadable {
        fate: Option<InFlight>,
    },
    Idle,
    Writing(InFlight),
    Running(Running),
}

impl Phase {
    /// Whether a run goes on, or is about to.
    const fn may_run(&self) -> bool {
        let sent = match self {
            Self::Running(_) => return true,
            Self::Writing(sent) => Some(sent),
            Self::Reading { fate, .. } | Self::Unreadable { fate } => fate.as_ref(),
            Self::Idle => None,
        };
        matches!(sent, Some(sent) if matches!(sent.then, Then::Start { .. }))
    }

    /// Whether the store doesn't say how things stand, and there is nothing to be said to it but a close
    /// that it may have heard. One that it has refused is made anew, by what another wrote.
    const fn is_unheard(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Reading { fate: None, .. } => true,
            Self::Reading {
                fate: Some(sent),
                refused,
                ..
            } => matches!(sent.then, Then::Close(_)) && !*refused,
            Self::Idle | Self::Writing(_) | Self::Running(_) => false,
        }
    }
}

/// A write on its way.
#[derive(Clone, Debug)]
struct InFlight {
    write: Write,
    then: Then,
}

/// What follows once a write is acknowledged.
#[derive(Clone, Debug)]
enum Then {
    /// The run is started that it claims; with the wish that asked for it, and whether more slots
    /// wait for their turn behind it.
    Start {
        run: Run,
        wish: Option<u64>,
        more: bool,
    },
    /// The end of a run is recorded.
    Close(Ending),
    /// Nothing.
    Nothing,
}

/// How a run ended; `None` if it was certainly not started.
type Ending = Option<(Outcome, Option<Exit>, Duration)>;

#[derive(Debug)]
struct Running {
    run: Run,
    began: Instant,
    drain_until: Option<Instant>,
    stop: Option<StopReason>,
    /// Whether slots wait that were missed before it began: those that come meanwhile join them.
    more: bool,
    /// The read on its way, since it may have closed itself.
    look: Option<u64>,
}

impl Planner {
    /// A planner that is in no term.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            paused: false,
            term: None,
            seen: None,
            refresh_at: None,
            number: 0,
            actions: Vec::new(),
        }
    }

    /// Takes in one event and returns what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        self.look_at_clocks(now);
        // A slot that came before the event came before it.
        self.overlap(now);
        match event {
            Event::Tick => {}
            Event::Elected { token, seed } => self.elected(token, seed),
            Event::TermOver => self.term_over(),
            Event::Stop => self.stop(now),
            Event::Read { number, stored } => self.read(number, stored, now),
            Event::Wrote { number, written } => self.wrote(number, written, now),
            Event::StateChanged => self.read_anew(),
            Event::NotStarted => self.not_started(now),
            Event::Ended { exit, killed, took } => self.ended(exit, killed, took),
            Event::Paused(paused) => self.paused = paused,
            Event::Trigger { id, queue } => self.trigger(id, queue),
            Event::Setup(setup) => self.setup = setup,
        }
        self.tick(now);
        std::mem::take(&mut self.actions)
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_timer(&self) -> Wake {
        let Some(term) = &self.term else {
            return Wake::default();
        };
        let mut clocks = vec![self.refresh_at];
        let mut wall = self.next_slot().map(|slot| self.setup.due_at(slot));
        match &term.phase {
            Phase::Reading { again, .. } => {
                clocks.push(*again);
                wall = None;
            }
            Phase::Writing(_) | Phase::Unreadable { .. } => wall = None,
            // What would be due is others' to run: a time that nobody acts on would come again at once.
            Phase::Idle if term.stopping => wall = None,
            Phase::Idle if term.behind => wall = Some(term.state.latest() - BEHIND),
            // Each slot is passed over as it comes.
            Phase::Idle if self.paused => {}
            Phase::Idle => {
                clocks.push(term.hold);
                clocks.push(term.retry.map(|(_, _, at)| at));
                if term.blocked {
                    wall = None;
                }
            }
            Phase::Running(running) => {
                let timeout = self.setup.policy.timeout;
                if running.stop.is_none() {
                    clocks.push(timeout.map(|timeout| running.began + timeout));
                    clocks.push(running.drain_until);
                }
                if running.more {
                    wall = None;
                }
            }
        }
        let clock = clocks.into_iter().flatten().reduce(Instant::min);
        Wake { wall, clock }
    }

    /// The next slot that isn't settled; `None` outside a term.
    pub fn next_slot(&self) -> Option<Slot> {
        let term = self.term.as_ref()?;
        self.setup.schedule.next(term.mark())
    }

    /// What the store holds, as far as this term knows.
    pub fn state(&self) -> Option<&State> {
        self.term.as_ref().map(|term| &term.state)
    }

    /// Whether a run was started whose end isn't known yet.
    pub fn is_running(&self) -> bool {
        let term = self.term.as_ref();
        term.is_some_and(|term| matches!(term.phase, Phase::Running(_)))
    }

    /// Whether nothing goes on, so that [`next_slot`](Self::next_slot) is what is waited for.
    pub fn is_idle(&self) -> bool {
        let term = self.term.as_ref();
        term.is_some_and(|term| matches!(term.phase, Phase::Idle))
    }

    /// Whether nothing goes on, and nothing but a slot to come will change that.
    pub fn rests(&self, now: Instant) -> bool {
        let term = self.term.as_ref().filter(|_| self.is_idle());
        term.is_some_and(|term| {
            let held = term.hold.is_some_and(|until| now < until);
            !held && term.retry.is_none() && term.wish.is_none()
        })
    }

    /// The state's `mod_revision`, as far as this term knows.
    pub fn revision(&self) -> Option<Revision> {
        self.term.as_ref().map(|term| term.revision)
    }

    /// The close of a run that ended, while the store has not acknowledged it.
    pub fn pending_close(&self) -> Option<&Write> {
        let sent = match &self.term.as_ref()?.phase {
            Phase::Writing(sent) => sent,
            Phase::Reading { fate, .. } | Phase::Unreadable { fate } => fate.as_ref()?,
            _ => return None,
        };
        matches!(sent.then, Then::Close(_)).then_some(&sent.write)
    }

    /// How the run that is open is closed by who stands in for a daemon that is dead: once the tree
    /// is proven empty, and with the resignation. A close of the daemon's own that landed wins.
    pub fn standing_close(&self) -> Option<Write> {
        let term = self.term.as_ref()?;
        let (state, record) = term.state.closed(Outcome::Stopped, None, Duration::ZERO)?;
        Some(Write {
            number: 0,
            token: term.token,
            seen: term.revision,
            runs: vec![(state.seq, record)],
            trimmed: self.trimmed(state.seq),
            state,
            last: true,
        })
    }

    fn trimmed(&self, seq: u64) -> Vec<u64> {
        let old = seq.checked_sub(self.setup.policy.history.max(1));
        old.filter(|old| *old > 0).into_iter().collect()
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn say(&mut self, line: Line) {
        self.act(Action::Say(line));
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Says so if the wall clock moved against the other by more than any slewing does.
    fn look_at_clocks(&mut self, now: Now) {
        if let Some(seen) = self.seen.replace(now) {
            let ran = now.clock.since(seen.clock);
            let (expected, leeway) = (seen.wall + ran, STEP + ran / 10);
            let forward = now.wall > expected;
            let by = if forward {
                now.wall.since(expected)
            } else {
                expected.since(now.wall)
            };
            if by > leeway {
                self.say(Line::ClockStepped { by, forward });
            }
        }
    }

    fn elected(&mut self, token: Token, seed: u64) {
        self.term = Some(Term {
            token,
            seed,
            stopping: false,
            drained: false,
            state: State::new(String::new(), Time::EPOCH),
            revision: Revision::default(),
            untrimmed: None,
            phase: Phase::Idle,
            passed: None,
            queued: None,
            wish: None,
            retry: None,
            hold: None,
            behind: false,
            blocked: false,
        });
        self.send_read(None, false);
    }

    fn term_over(&mut self) {
        let wish = self.term.take().and_then(|term| term.wish);
        self.refuse_wish(wish, Verdict::Ending);
        self.refresh_at = None;
    }

    fn refuse_wish(&mut self, wish: Option<u64>, verdict: Verdict) {
        if let Some(id) = wish {
            self.act(Action::Answer { id, verdict });
        }
    }

    fn stop(&mut self, now: Now) {
        let drain = self.setup.policy.drain;
        let Some(term) = &mut self.term else {
            return;
        };
        term.stopping = true;
        if let Phase::Running(running) = &mut term.phase {
            running.drain_until.get_or_insert(now.clock + drain);
        }
        let wish = term.wish.take();
        self.refuse_wish(wish, Verdict::Ending);
    }

    fn trigger(&mut self, id: u64, queue: bool) {
        let paused = self.paused;
        let verdict = match &mut self.term {
            None => Some(Verdict::Ending),
            Some(term) if term.stopping => Some(Verdict::Ending),
            Some(_) if paused => Some(Verdict::Paused),
            Some(term) => match &term.phase {
                Phase::Unreadable { .. } => Some(Verdict::Held),
                Phase::Idle if term.behind => Some(Verdict::Held),
                _ if term.wish.is_some() => Some(Verdict::Open),
                // What is on its way is no run that goes on.
                phase if !phase.may_run() => {
                    term.wish = Some(id);
                    None
                }
                _ if queue => {
                    term.wish = Some(id);
                    Some(Verdict::Queued)
                }
                _ => Some(Verdict::Open),
            },
        };
        if let Some(verdict) = verdict {
            self.act(Action::Answer { id, verdict });
        }
    }

    fn tick(&mut self, now: Now) {
        if self.term.is_none() {
            return;
        }
        let refresh = *self.refresh_at.get_or_insert(now.clock + REFRESH);
        if now.clock >= refresh {
            self.refresh_at = Some(now.clock + REFRESH);
            self.act(Action::Refresh);
        }
        self.overlap(now);
        self.watch_run(now);
        self.ask_again(now);
        self.end_unheard();
        self.decide(now);
    }

    /// A term that ends waits for no store that is silent. Where nothing is known of the state, nothing of
    /// this term is open either; and a close of which nothing was heard goes with the resignation.
    fn end_unheard(&mut self) {
        if let Some(term) = &mut self.term
            && term.stopping
            && !term.drained
            && term.phase.is_unheard()
        {
            term.drained = true;
            self.act(Action::Drained);
        }
    }

    /// Stops a run that has taken too long, or has had its time to drain.
    fn watch_run(&mut self, now: Now) {
        let timeout = self.setup.policy.timeout;
        let Some(term) = &mut self.term else {
            return;
        };
        let queued = term.queued.is_some();
        let Phase::Running(running) = &mut term.phase else {
            return;
        };
        if running.stop.is_some() {
            return;
        }
        let replace = queued && self.setup.policy.overlap == Overlap::Replace;
        let is_over = |at: Instant| now.clock >= at;
        let reason = if timeout.is_some_and(|span| is_over(running.began + span)) {
            StopReason::Timeout
        } else if running.drain_until.is_some_and(is_over) {
            StopReason::Planned
        } else if replace {
            StopReason::Replaced
        } else {
            return;
        };
        running.stop = Some(reason);
        let slot = running.run.slot;
        if reason == StopReason::Timeout {
            self.say(Line::TimedOut { slot });
        }
        self.act(Action::Stop(reason));
    }

    /// What becomes of slots that come while a run is going.
    fn overlap(&mut self, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Phase::Running(running) = &term.phase else {
            return;
        };
        if running.more {
            return;
        }
        let (slots, _) = self.setup.due(term.mark(), now.wall);
        let Some((last, before)) = slots.split_last() else {
            return;
        };
        let mut skipped = before.to_vec();
        if self.paused || self.setup.policy.overlap == Overlap::Skip {
            skipped.push(*last);
            skipped.splice(0..0, term.queued.take());
        } else if let Some(earlier) = term.queued.replace(*last) {
            skipped.insert(0, earlier);
        }
        let count = u64::try_from(skipped.len()).unwrap_or(u64::MAX);
        if let Some(slot) = skipped.last().copied() {
            self.pass_over(slot, count, self.paused);
        }
    }

    /// Passes slots over, up to this one, which was `paused` or not; the store is told with the next write.
    fn pass_over(&mut self, slot: Slot, count: u64, paused: bool) {
        if let Some(term) = &mut self.term {
            let before = term.passed.map_or(0, |(_, count)| count);
            term.passed = Some((slot, before + count));
        }
        self.say(Line::Skipped {
            slot,
            count,
            paused,
        });
    }

    fn not_started(&mut self, now: Now) {
        if let Some(term) = &mut self.term
            && matches!(term.phase, Phase::Running(_))
        {
            term.hold = Some(now.clock + AGAIN);
            self.close(None);
        }
    }

    fn ended(&mut self, exit: Option<Exit>, killed: bool, took: Duration) {
        let Some(Term {
            phase: Phase::Running(running),
            ..
        }) = &self.term
        else {
            return;
        };
        let result = match (running.stop, exit) {
            _ if killed => Outcome::Killed,
            (Some(StopReason::Timeout), _) => Outcome::Timeout,
            (Some(StopReason::Planned | StopReason::Replaced), _) => Outcome::Stopped,
            (None, Some(Exit::Code(0))) => Outcome::Success,
            (None, _) => Outcome::Failure,
        };
        if self
            .term
            .as_ref()
            .is_some_and(|term| term.state.open.is_none())
        {
            return self.closed_by_itself();
        }
        self.close(Some((result, exit, took)));
    }

    /// A run that had closed itself is over.
    fn closed_by_itself(&mut self) {
        if let Some(term) = &mut self.term {
            term.phase = Phase::Idle;
            let closed = term.closed();
            self.actions.extend(closed);
        }
    }
}

impl Term {
    /// What the state says of the last run that is over.
    fn closed(&self) -> Option<Action> {
        let last = self.state.last.as_ref()?;
        Some(Action::Closed {
            slot: last.slot,
            result: last.result,
            failures: self.state.failures,
        })
    }

    /// The last slot that is settled, as far as this leader knows.
    fn mark(&self) -> Slot {
        let passed = self.passed.map(|(slot, _)| slot);
        let marks = [passed, self.queued].into_iter().flatten();
        marks.fold(self.state.mark(), Slot::max)
    }

    fn nonce(&self, number: u64) -> String {
        format!("{:016x}", mix(self.seed ^ mix(number)))
    }
}
