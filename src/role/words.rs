//! The words of the role machine: what it is told, what it asks for, and the role it publishes.

use std::time::Duration;

use crate::job::restart::Verdict;

/// The role, as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
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
    /// The word for status and metrics.
    pub const fn word(self) -> &'static str {
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

/// Why a term, or a candidacy, was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub &'static str);

impl Reason {
    /// The time of the polite stop came before another renewal was proven.
    pub const DEADLINE: Self = Self("deadline");
    /// The guardian died, or was silent for too long.
    pub const GUARDIAN: Self = Self("guardian");
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time to stand for election has come.
    RejoinDue,
    /// The claim is complete.
    Elected,
    /// The candidacy or the term is gone in the store's eyes, or can never lead.
    Lost(Reason),
    /// The lease is revoked, or the attempts to do so are over.
    Left,
    /// The guardian would not start the run.
    NotStarted,
    /// The run's main process or its `run()` ended; what is to follow by the restart policy.
    MainEnded(Verdict),
    /// The tree is proven empty, and no Rust job runs.
    Empty,
    /// The pause before the next run is over.
    RestartDue,
    /// D−G−K has come.
    StopDue,
    /// D−K has come.
    KillDue,
    /// The guardian is dead or silent.
    GuardianGone,
    /// The tree is proven empty without the guardian.
    Fenced,
    /// There is a new guardian.
    Guarded,
    /// A planned stop of the daemon.
    Shutdown,
    /// A second one: no more patience.
    ShutdownNow,
    /// Somebody else is to lead.
    StepDown,
    /// The check succeeds: this candidate may stand.
    Healthy,
    /// The check fails: it may not.
    Unhealthy,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stand for election with a new session.
    Contend,
    /// Start the job.
    StartRun,
    /// Stop what the run has left behind; the term goes on.
    StopRun,
    /// Stop the job for good, with this much patience.
    StopJob(Patience),
    /// Kill the job's whole tree.
    KillJob,
    /// Kill the guardian and the tree, prove it empty, then start a new guardian.
    Fence,
    /// Say that the term is lost.
    SayLost(Reason),
    /// Give back term, place and lease.
    GiveBack,
    /// Give back no longer than this.
    Hurry(Limit),
    /// Start the next run after this pause.
    RestartAfter(Duration),
    /// Stand for election again after a pause: growing ones after failures.
    RejoinAfter(Pause),
    /// The daemon is done.
    Exit,
}

/// How long a job may take to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// stop_grace.
    Planned,
    /// lost_grace.
    Lost,
}

/// How long to try to give back, when the daemon is to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Until the deadline: after it the lease is gone by itself.
    Deadline,
    /// One more attempt.
    OneAttempt,
}

/// What to wait for before the next candidacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing.
    None,
    /// The growing pause after a loss.
    Backoff(Reason),
    /// A fixed time out of the queue.
    Cooldown(Duration),
}
