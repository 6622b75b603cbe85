//! The words of the candidate's mind: what it is told, what it asks for, and the role it publishes.

use std::sync::Arc;
use std::time::Duration;

use super::end::End;
use crate::config::Config;
use crate::config::timing::Timing;
use crate::election::Progress;
use crate::election::control::Notice;
use crate::etcd::{self, Settings};
use crate::guardian::protocol::{Report, Request, Stdin};
use crate::keys::LeaseId;
use crate::metrics::RunResult;
use crate::proc::survivor::Survivor;
use crate::reason::EndReason;
use crate::revision::{Revision, Token};
use crate::schedule::planner;
use crate::schedule::record::Outcome;
use crate::schedule::{Run as SlotRun, Schedule, Slot, Stored, Write, Written};
use crate::session::{Loss, Status};
use crate::term::record::{TriggerAnswer, Turn, Unkillable};
use crate::term::resignation::Resignation;
use crate::wall::Time;

/// The role, as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not in the queue: the store is away, or a candidacy was just lost.
    Waiting,
    /// In the queue.
    Campaigning,
    /// The claim is complete.
    Leading,
    /// The term ends, or the place is given back.
    Stopping,
    /// Out of the queue on purpose, after a job that failed or is done.
    Cooldown,
    /// Out of the queue until its check succeeds.
    Unhealthy,
}

impl Role {
    /// Whether a candidate in it stands in the queue, or leads.
    pub(crate) const fn stands(self) -> bool {
        matches!(self, Self::Campaigning | Self::Leading)
    }

    /// The word for status and metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Campaigning => "campaigning",
            Self::Leading => "leading",
            Self::Stopping => "stopping",
            Self::Cooldown => "cooldown",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the daemon asks of its candidate.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Stop in an orderly way, and exit.
    Shutdown,
    /// Kill the job, and exit.
    ShutdownNow,
    /// Let somebody else lead.
    StepDown,
    /// Pass this signal on to the job; where none runs, end the candidacy if it `ends` processes.
    PassOn {
        /// Its number.
        signal: i32,
        /// Whether a process that doesn't handle it ends.
        ends: bool,
    },
    /// Stop and exit, unless it leads or its one run has begun.
    GiveUp,
    /// Go on with this configuration; only what may change at run time differs.
    Reload(Arc<Config>),
}

impl Order {
    /// Whether the candidate is to end by it, whatever it does.
    pub(crate) const fn is_shutdown(&self) -> bool {
        matches!(self, Self::Shutdown | Self::ShutdownNow)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(in crate::candidate) enum Event {
    /// Everything that was said before this time was heard, so timers may be acted on.
    Tick,
    /// The daemon asks for something.
    Order(Order),

    // From the guardian.
    /// It says something.
    Guardian(Report),
    /// It is dead, or has hung up.
    GuardianGone,
    /// It has acknowledged the lease, and the stop hook's file holds it.
    Prepared(LeaseId),
    /// It has not acknowledged the lease.
    Silent(LeaseId),
    /// Guardian and tree are dead, proven.
    Fenced,
    /// What is being fenced can't be killed.
    InVain(Vec<Survivor>),
    /// There is a new guardian.
    Guarded,

    // From the contest.
    /// The lease is granted, by these times.
    Granted(Timing, Status),
    /// News of the lease.
    Lease(Status),
    /// The candidate key is in the queue.
    Joined(Joined),
    /// What the campaign waits for now.
    Progress(Progress),
    /// The claim is complete.
    Elected(Elected),
    /// The candidacy or the term is over.
    Lost(Loss),
    /// This candidacy can never lead.
    Refused(String),
    /// The store was not reached.
    Unreachable(etcd::Error),
    /// The login has another token.
    LoggedIn,
    /// The term is asked something.
    Notice(Notice),
    /// What was found of those who can follow, as the wish with this number asked.
    Successor(u64, Found),
    /// Others in front of the one that is to lead: the candidacy is to begin anew behind it.
    MakeWay,
    /// The lease is given back, or the attempts to are over.
    Left(Left),
    /// The schedule's state, as the request with this number asked, of the candidacy with this lease.
    SlotsRead(LeaseId, u64, Stored),
    /// What came of the write to the schedule's state with this number, of the candidacy with this lease.
    SlotsWrote(LeaseId, u64, Written),

    // From the Rust job.
    /// The run with this number has started.
    NativeStarted(u64),
    /// Its `run()` has returned; threads of it may be left.
    NativeReturned(u64),
    /// Nothing of it is left.
    NativeEnded(u64, Result<(), String>),
    /// It wants a process.
    ProcessWanted,

    // Of the schedule.
    /// The same schedule, by the rules that its zone has now.
    Refreshed(Arc<Schedule>),

    // From the guardian of checks.
    /// It says something.
    Checks(Report),
    /// It is dead, or has hung up.
    ChecksGone,
    /// There is a new one.
    ChecksGuarded,
}

/// A place in the queue.
#[derive(Clone, Debug)]
pub(in crate::candidate) struct Joined {
    /// How many stood in front.
    pub(in crate::candidate) position: i64,
    /// `create_revision` of the candidate key: the token of its term, should it lead.
    pub(in crate::candidate) revision: Token,
    /// When, RFC 3339 in UTC.
    pub(in crate::candidate) at: Arc<str>,
}

/// A complete claim.
#[derive(Clone, Debug)]
pub(in crate::candidate) struct Elected {
    /// The fencing token.
    pub(in crate::candidate) token: Token,
    /// The cluster that it was claimed in.
    pub(in crate::candidate) cluster: u64,
    /// What is known of the lease.
    pub(in crate::candidate) status: Status,
    /// When, RFC 3339 in UTC.
    pub(in crate::candidate) at: Arc<str>,
}

/// Whether the term is to step down, or why not, if the store told.
pub(in crate::candidate) type Found = Result<Result<(), String>, etcd::Error>;

/// How giving a lease back came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::candidate) enum Left {
    /// The store has revoked the lease.
    Revoked,
    /// The lease was gone before.
    Gone,
    /// The store did not say.
    Unconfirmed,
}

impl Left {
    /// Why the term ended: a key that was gone was deleted, or its lease revoked, which only the
    /// giving back tells.
    pub(in crate::candidate) fn explain(self, reason: EndReason) -> EndReason {
        if self == Self::Gone && reason == EndReason::Deleted {
            EndReason::Revoked
        } else {
            reason
        }
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug)]
pub(in crate::candidate) enum Action {
    /// Write a line to the log.
    Say(Line),
    /// Tell the guardian.
    Tell(Request),
    /// Have guardian and stop hook know the lease; answered by [`Event::Prepared`] or
    /// [`Event::Silent`].
    Prepare(Resignation),
    /// Write the stop hook's file, or a moment later, where a job is being started.
    WriteLeaseFile {
        resignation: Resignation,
        soon: bool,
    },
    /// Remove the stop hook's file.
    RemoveLeaseFile(LeaseId),
    /// Ask something of the contest.
    Contest(Command),
    /// Have the guardian start a run, alone in its tree or beside others.
    Start { token: Token, run: u64, what: Work },
    /// Tell the guardian what to run at the end of the term.
    GuardEnd { token: Token },
    /// Start the Rust job; answered by [`Event::NativeStarted`] or [`Event::NativeEnded`].
    StartNative {
        run: u64,
        /// What it is for, where the job has a schedule.
        slot: Option<Arc<SlotRun>>,
    },
    /// Tell the Rust job to stop.
    StopNative,
    /// Refuse the process that the Rust job wants.
    RefuseProcess,
    /// Kill guardian and tree, prove it empty, then start a new guardian: [`Event::Fenced`], then
    /// [`Event::Guarded`].
    Fence { kill_budget: Duration },
    /// Count a scheduled run that is over.
    SlotRunOver {
        result: Outcome,
        took: Option<Duration>,
    },
    /// Read the rules of the schedule's zone anew; answered by [`Event::Refreshed`].
    RefreshSchedule(Arc<Schedule>),
    /// Kill this process: a Rust job doesn't end in time.
    KillDaemon,
    /// Start a check.
    Check { run: u64, timeout: Duration },
    /// Have the guardian of checks know the new settings.
    ReloadChecks,
    /// Start another guardian of checks, once nothing is left of the check whose main process that
    /// is: [`Event::ChecksGuarded`].
    RestoreChecks { main: Option<i32> },
    /// A run of the job has begun.
    RunBegins,
    /// A run that had begun is over.
    RunOver(Over),
    /// A term is over, for this reason.
    TermOver(EndReason),
    /// The daemon is done.
    Exit,
}

/// What the guardian is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candidate) enum Work {
    /// The command of the job; and what for, where it has a schedule.
    Job(Stdin, Option<Arc<SlotRun>>),
    /// The hook before it.
    Hook,
    /// A process of the Rust job, as that has asked for it.
    Process(Option<Arc<SlotRun>>),
}

/// A run that is over.
#[derive(Clone, Debug)]
pub(in crate::candidate) struct Over {
    pub(in crate::candidate) token: Token,
    pub(in crate::candidate) ran: Duration,
    pub(in crate::candidate) result: RunResult,
    /// How it ended, if by itself.
    pub(in crate::candidate) end: End,
}

/// What is asked of the contest.
#[derive(Clone, Debug)]
pub(in crate::candidate) enum Command {
    /// Stand for election with this lease, by these times. The guardian knows it already (R6).
    Contend {
        lease: LeaseId,
        timing: Timing,
        /// Whether the job has a schedule, whose records the leader is to watch.
        scheduled: bool,
        /// Its turn, where it is to join at a cold start.
        turn: Option<Turn>,
    },
    /// Give back what there is, trying until the store answers; and why, for the history.
    GiveBack(Resignation, EndReason),
    /// Stop trying to give back at this instant.
    Hurry(crate::clock::Instant),
    /// Tell whether somebody can follow, as asked now; no matter what was asked before.
    LookForSuccessor(Asked),
    /// Take the wish to step down with this mod_revision back, in one attempt of at most this long.
    TakeBack(Revision, Duration),
    /// Reach the store by other endpoints or credentials, wait at least so long after an unclean
    /// end, and say that the settings have this digest now.
    Reload(Settings, Duration, String),
    /// Show whoever looks that this can't be killed, of the candidacy with this lease; or no more.
    ShowUnkillable(LeaseId, Vec<Unkillable>),
    /// Ask this of the schedule's records, in one attempt of at most `limit`.
    Slots {
        /// Of the term.
        lease: LeaseId,
        limit: Duration,
        request: SlotRequest,
    },
}

/// What is asked of a schedule's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candidate) enum SlotRequest {
    /// Read the state; answered by [`Event::SlotsRead`].
    Read { number: u64 },
    /// Write it; answered by [`Event::SlotsWrote`].
    Write(Box<Write>),
    /// Tell whoever wished for a run, by the record with this mod_revision, what becomes of it.
    Answer {
        token: Token,
        wish: Revision,
        answer: TriggerAnswer,
    },
}

/// What a leader was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candidate) struct Asked {
    /// The number of the wish.
    pub(in crate::candidate) wish: u64,
    /// The term.
    pub(in crate::candidate) token: Token,
    /// Who is to follow.
    pub(in crate::candidate) to: Option<String>,
    /// Whether to step down even with nobody there.
    pub(in crate::candidate) force: bool,
    /// The limit of one attempt.
    pub(in crate::candidate) limit: Duration,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candidate) enum Line {
    Campaigning {
        lease: LeaseId,
        position: i64,
    },
    Blocked {
        lease: LeaseId,
        key: String,
    },
    OffLease {
        lease: LeaseId,
        key: String,
    },
    Unreadable {
        lease: LeaseId,
        key: String,
    },
    Differs {
        lease: LeaseId,
        from: String,
    },
    Paused {
        lease: LeaseId,
    },
    Delayed {
        lease: LeaseId,
        delay: Duration,
    },
    Elected {
        lease: LeaseId,
        token: Token,
        waited: Duration,
    },
    Refused {
        lease: LeaseId,
        reason: String,
    },
    JobStarted {
        lease: LeaseId,
        token: Token,
        pid: Option<u32>,
    },
    JobNotStarted {
        lease: LeaseId,
        token: Token,
        reason: String,
    },
    JobEnded {
        lease: LeaseId,
        token: Token,
        end: End,
        ran: Duration,
        /// Whether whoever typed the command gets its exit code.
        once: bool,
    },
    JobStopped {
        lease: LeaseId,
        token: Token,
        pid: Option<u32>,
        killed: bool,
        took: Duration,
    },
    JobCanNotBeKilled {
        lease: Option<LeaseId>,
        token: Option<Token>,
        survivors: Vec<Survivor>,
    },
    LastHookKilled {
        lease: LeaseId,
        token: Token,
        ran: Duration,
    },
    HookEnded {
        lease: LeaseId,
        token: Token,
        end: End,
        killed: bool,
        ran: Duration,
    },
    Healthy,
    Unhealthy {
        reason: String,
    },
    CheckFailed {
        reason: String,
    },
    ChecksLost,
    Resigned {
        lease: LeaseId,
        token: Option<Token>,
        confirmed: bool,
    },
    TermLost {
        lease: LeaseId,
        token: Token,
        reason: EndReason,
    },
    StoreUnreachable {
        since: Duration,
        error: String,
    },
    StoreReachable {
        away: Duration,
    },
    Rejoining {
        after: Duration,
        reason: EndReason,
    },
    CoolingDown {
        after: Duration,
    },
    NotSteppingDown {
        /// The term that goes on; none where there was no term to end.
        term: Option<(LeaseId, Token)>,
        reason: String,
    },
    AskedToStepDown {
        lease: LeaseId,
        token: Token,
        by: String,
    },
    SteppingDown {
        lease: LeaseId,
        token: Token,
        by: String,
    },
    MakingWay {
        lease: LeaseId,
    },
    DaemonKilled {
        lease: LeaseId,
        token: Token,
    },
    GuardianGone,
    /// Of the planner.
    Slots {
        term: Option<(LeaseId, Token)>,
        line: planner::Line,
    },
    NextSlot {
        term: Option<(LeaseId, Token)>,
        slot: Slot,
        /// When its run begins.
        at: Time,
    },
    RunTimedOut {
        term: Option<(LeaseId, Token)>,
    },
}
