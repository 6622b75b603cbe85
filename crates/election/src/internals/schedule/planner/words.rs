//! The words of the planner: what it is told, and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::revision::Token;
use crate::schedule::record::{Exit, Outcome, Verdict};
use crate::schedule::{Occasion, Run, Schedule, Slot, Stored, Write, Written};
use crate::wall::Time;

/// The present, by both clocks: slots are due by the wall clock, and all spans are counted on the
/// other.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day.
    pub wall: Time,
    /// The instant.
    pub clock: Instant,
}

/// When the next [`Event::Tick`] is due: whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// By the wall clock, for a timer that is set absolutely.
    pub wall: Option<Time>,
    /// By the clock of deadlines.
    pub clock: Option<Instant>,
}

/// What an end that nobody recorded means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// The run is lost, and stays so.
    AtMostOnce,
    /// The slot is run again.
    AtLeastOnce,
}

/// What becomes of slots that came while nobody could run them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// The last of them is run, and stands for all.
    Last,
    /// All are run, the oldest first.
    All,
}

/// What becomes of a slot that comes while a run is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It is passed over.
    Skip,
    /// It waits; of several, the last.
    Queue,
    /// The run is stopped for it.
    Replace,
}

/// How slots are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What an end that nobody recorded means.
    pub guarantee: Guarantee,
    /// What becomes of missed slots.
    pub missed: Missed,
    /// How many are run of those, for [`Missed::All`]; the older ones are missed for good.
    pub missed_max: usize,
    /// A slot later than this is missed for good.
    pub start_within: Option<Duration>,
    /// What becomes of a slot that comes while a run is going.
    pub overlap: Overlap,
    /// How often a slot that failed is tried again.
    pub retries: u32,
    /// The first pause before that; it doubles, and is jittered.
    pub retry_delay: Duration,
    /// A run begins up to so long after its slot.
    pub jitter: Duration,
    /// How long a run may go on after a planned stop has begun.
    pub drain: Duration,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// How many records of runs are kept.
    pub history: u64,
}

/// What a planner plans.
#[derive(Clone, Debug)]
pub struct Setup {
    /// When.
    pub schedule: Arc<Schedule>,
    /// How.
    pub policy: Policy,
    /// The election's prefix, for the jitter.
    pub election: String,
    /// The candidate's name, for the records.
    pub host: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// All that was said before this time was heard, so timers may be acted on. Also after the wall
    /// clock was set.
    Tick,
    /// A term began: its claim is complete, and what ran before is proven dead or waited out.
    Elected {
        /// The fencing token.
        token: Token,
        /// A number at random, from which nonces are made.
        seed: u64,
    },
    /// The term is over, or is being lost: nothing more may be started or written. A run of it is
    /// others' to kill.
    TermOver,
    /// The term ends on purpose, as soon as nothing is open; nothing new may start.
    Stop,
    /// The answer to [`Action::Read`].
    Read {
        /// Of the action.
        number: u64,
        /// What is in the store.
        stored: Stored,
    },
    /// The answer to [`Action::Write`].
    Wrote {
        /// Of the action.
        number: u64,
        /// What came of it.
        written: Written,
    },
    /// Somebody else may have written the state.
    StateChanged,
    /// The run that [`Action::Start`] asked for was refused, or ended before its own code began.
    NotStarted,
    /// The run is over: nothing of it is left.
    Ended {
        /// How its job ended, if that is known.
        exit: Option<Exit>,
        /// Whether it was killed since the term is being lost.
        killed: bool,
        /// How long it took.
        took: Duration,
    },
    /// Whether the election is paused.
    Paused(bool),
    /// Somebody asks for a run now.
    Trigger {
        /// Of the wish.
        id: u64,
        /// Whether it waits for a run that is open.
        queue: bool,
    },
    /// Another schedule or policy, or the same by newer rules of its zone.
    Setup(Setup),
}

/// Why a run is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It has taken too long.
    Timeout,
    /// The term ends, and the time to drain is over.
    Planned,
    /// The next slot has come.
    Replaced,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the state, linearizably.
    Read {
        /// Comes back with the answer.
        number: u64,
    },
    /// Write the state.
    Write(Box<Write>),
    /// Start a run, behind the start gate (R4).
    Start(Run),
    /// Ask the run to stop, in the way of a planned stop; [`Event::Ended`] follows.
    Stop(StopReason),
    /// The end of a run is recorded.
    Closed {
        /// What it was for.
        slot: Occasion,
        /// How it ended.
        result: Outcome,
        /// How many slots in a row failed.
        failures: u64,
    },
    /// What becomes of a wish for a run.
    Answer {
        /// Of the wish.
        id: u64,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// The term was asked to end, and nothing is open or on its way: it may be given back.
    Drained,
    /// Have the schedule's zone read anew; [`Event::Setup`] follows.
    Refresh,
    /// Write a line to the log.
    Say(Line),
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `slot claimed`.
    Claimed {
        /// What is to be run.
        slot: Occasion,
        /// From one.
        attempt: u32,
        /// How many it stands for beyond its own.
        missed: u64,
    },
    /// `slot missed`: so many, the last of them this.
    Missed {
        /// The last.
        slot: Slot,
        /// How many.
        count: u64,
    },
    /// `slot skipped`: so many, the last of them this.
    Skipped {
        /// The last.
        slot: Slot,
        /// How many.
        count: u64,
        /// Whether since the election is paused; else since a run was going.
        paused: bool,
    },
    /// `run lost`.
    Lost {
        /// What was run.
        slot: Occasion,
        /// Where.
        host: String,
        /// In which term, if that is known.
        token: Option<Token>,
        /// Whether it is run again.
        again: bool,
    },
    /// `run timed out`.
    TimedOut {
        /// What was run.
        slot: Occasion,
    },
    /// `clock stepped`.
    ClockStepped {
        /// By so much.
        by: Duration,
        /// Whether it was put forward.
        forward: bool,
    },
    /// `clock behind the last claim`.
    ClockBehind {
        /// What the clock shows.
        wall: Time,
        /// What it must come to.
        until: Time,
    },
    /// `schedule changed`.
    Changed {
        /// No slot up to this time is run.
        since: Time,
    },
    /// The state that is there can't be read; nothing starts.
    Unreadable {
        /// Why.
        why: String,
    },
}
