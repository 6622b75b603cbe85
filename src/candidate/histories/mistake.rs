//! The mistakes that are made on purpose, so that it is known what the judge would catch.

use std::time::Duration;

use super::faults::Mood;
use crate::config::timing::{SLACK, Timing};
use crate::schedule::planner::{Guarantee, Policy};

/// A mistake that programs which elect a leader make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// The deadline is counted from the reply to a renewal.
    DeadlineFromReply,
    /// The clock stands still while the machine is suspended.
    ClockIgnoresSuspend,
    /// The clock is one that something steers.
    ClockIsSteered,
    /// A job is taken to be dead as soon as it is killed.
    NoKillBudget,
    /// Acknowledgements are believed without the read that proves them.
    BelievesEveryAck,
    /// The read that proves an acknowledgement may come from any leader of the store.
    AnyReadProves,
    /// Our clock is taken to run at the store's rate.
    NoDrift,
    /// Threads are taken to run as soon as they should.
    NoSlack,
    /// The guardian leaves the deadline to the daemon, which may be stopped.
    GuardianHasNoTimer,
    /// The daemon leaves the deadline to the guardian, which may be stopped.
    NoSecondLine,
    /// A lease is granted before the guardian knows it.
    GrantedBeforeGuarded,
    /// A tree is taken to be empty as soon as it was asked to end.
    EmptyOnceAsked,
    /// Nobody waits out the term before, whose end was not proven.
    NoTakeoverDelay,
    /// Who waits it out goes by its own kill budget, not by that on record.
    DelayByOwnBudget,
    /// A term leaves no record.
    RecordIsForgotten,
    /// The fence takes the guardian for the whole tree.
    FenceSparesTheTree,
    /// The guardian is not told to stop the job.
    StopIsForgotten,
    /// The guardian is not told to kill the job.
    KillIsForgotten,
    /// Nobody renews for what can't be killed once the daemon is dead.
    UnkillableIsNotRenewed,
    /// A daemon doesn't kill what an earlier one has left behind.
    LeftoversLive,
    /// The guardian hears of no deadline but a term's first.
    LaterDeadlinesForgotten,
    /// What a run's main process leaves behind is not stopped.
    RestIsLeft,
    /// A child that was long on its way doesn't look at the clock before its exec.
    ChildLooksAtNoClock,
    /// A Rust job is started before the guardian has acknowledged its term.
    StartedUnguarded,
    /// The guardian doesn't say that it is killing, and is given up on meanwhile.
    KillsInSilence,
    /// A claim is complete without the own key.
    ClaimWithoutOwnKey,
    /// Who is still waiting a term out marks it.
    MarkedInTheDelay,
    /// The key is given back, and the lease is not.
    LeaseIsKept,
    /// The end of a main process is not heard of.
    MainEndIsNotHeard,
    /// A claim is complete though the election is paused.
    PauseIsPassedOver,
    /// Nobody looks who could follow a leader that is to step down.
    WishIsForgotten,
    /// The second SIGTERM changes nothing.
    SecondSigtermIgnored,
    /// A check that fails changes nothing.
    IllnessIsIgnored,
    /// The own key is not watched.
    OwnKeyIsNotWatched,
    /// A command that is to run once is started again.
    RunsTwice,
    /// Rust code is over, and its processes are taken to be.
    ProcessesForgotten,
    /// Nobody looks for the key of a daemon that is dead, or stands still, while its job is stopped politely.
    DeadDaemonsKeyIsNotWatched,
    /// A run is started as soon as its claim is sent.
    StartsUnacknowledged,
    /// A claim that was not answered is taken for done.
    UnknownClaimIsDone,
    /// A claim that was refused is taken for done.
    RefusedClaimIsDone,
    /// A new leader takes the open run of an earlier term for a claim of its own.
    OpenRunIsTakenForOwn,
    /// A new leader doesn't see the open run of an earlier term.
    OpenRunIsForgotten,
    /// The records of slots are written by whoever led once.
    SlotsUnguardedByTerm,
    /// The records of slots are written whatever was written meanwhile.
    SlotsUnguardedByState,
    /// The guardian gives a term back, and leaves its run open.
    NestedCloseIsForgotten,
    /// Who gives a term back closes its run whatever was written meanwhile.
    NestedCloseIsUnguarded,
    /// The daemon gives a term back, and leaves its run open.
    CloseGoesNotWithTerm,
    /// The stop hook doesn't come to know of a run.
    LeaseFileIsNotRenewed,
    /// The end of a run is not written, and said to be.
    CloseIsForgotten,
    /// Whoever asks for a run is not answered.
    WantedRunIsUnanswered,
    /// A leader that is to keep its place isn't told of a pause.
    PauseIsUntold,
    /// What nobody recorded the end of is run again, whatever the guarantee.
    LostRunsAgain,
    /// Or never is.
    LostStaysLost,
    /// A slot is never too late.
    LateIsInTime,
    /// A run may take as long as it likes.
    TimeoutIsForgotten,
    /// That nothing is left of a run is not heard of.
    RunOverIsNotHeard,
    /// Nobody is woken at a time of day.
    AlarmIsNotHeard,
    /// The death of one job's guardian is taken for that of all.
    GuardiansDieTogether,
    /// Where one job's term is lost, all jobs of the daemon are stepped down.
    LossIsEverybodys,
    /// A wish is taken to be meant for whoever sees it.
    WishIsForEveryJob,
    /// A term goes over to a preferred host in the middle of a run.
    HandsOverInRun,
    /// One term after the other goes over, without a pause.
    HandsOverAtOnce,
    /// A term goes over to who has just come.
    HandsOverToNewcomers,
    /// What an earlier daemon left of one job holds up the others.
    LeftoversHoldUpAll,
    /// A reload that takes one job away has all of them end.
    RemovalEndsAll,
    /// A job that a reload has brought back is started though all are to end.
    SuccessorOutlivesStop,
    /// The end of one candidate is taken for that of the daemon.
    ExitIsEverybodys,
    /// A job that was taken away and is there again before it has ended has no candidate any more.
    SuccessorIsForgotten,
}

impl Mistake {
    pub(super) const ALL: [Self; 68] = [
        Self::DeadlineFromReply,
        Self::ClockIgnoresSuspend,
        Self::ClockIsSteered,
        Self::NoKillBudget,
        Self::BelievesEveryAck,
        Self::AnyReadProves,
        Self::NoDrift,
        Self::NoSlack,
        Self::GuardianHasNoTimer,
        Self::NoSecondLine,
        Self::GrantedBeforeGuarded,
        Self::EmptyOnceAsked,
        Self::NoTakeoverDelay,
        Self::DelayByOwnBudget,
        Self::RecordIsForgotten,
        Self::FenceSparesTheTree,
        Self::StopIsForgotten,
        Self::KillIsForgotten,
        Self::UnkillableIsNotRenewed,
        Self::LeftoversLive,
        Self::LaterDeadlinesForgotten,
        Self::RestIsLeft,
        Self::ChildLooksAtNoClock,
        Self::StartedUnguarded,
        Self::KillsInSilence,
        Self::ClaimWithoutOwnKey,
        Self::MarkedInTheDelay,
        Self::LeaseIsKept,
        Self::MainEndIsNotHeard,
        Self::PauseIsPassedOver,
        Self::WishIsForgotten,
        Self::SecondSigtermIgnored,
        Self::IllnessIsIgnored,
        Self::OwnKeyIsNotWatched,
        Self::RunsTwice,
        Self::ProcessesForgotten,
        Self::DeadDaemonsKeyIsNotWatched,
        Self::StartsUnacknowledged,
        Self::UnknownClaimIsDone,
        Self::RefusedClaimIsDone,
        Self::OpenRunIsTakenForOwn,
        Self::OpenRunIsForgotten,
        Self::SlotsUnguardedByTerm,
        Self::SlotsUnguardedByState,
        Self::NestedCloseIsForgotten,
        Self::NestedCloseIsUnguarded,
        Self::CloseGoesNotWithTerm,
        Self::LeaseFileIsNotRenewed,
        Self::CloseIsForgotten,
        Self::WantedRunIsUnanswered,
        Self::PauseIsUntold,
        Self::LostRunsAgain,
        Self::LostStaysLost,
        Self::LateIsInTime,
        Self::TimeoutIsForgotten,
        Self::RunOverIsNotHeard,
        Self::AlarmIsNotHeard,
        Self::GuardiansDieTogether,
        Self::LossIsEverybodys,
        Self::WishIsForEveryJob,
        Self::HandsOverInRun,
        Self::HandsOverAtOnce,
        Self::HandsOverToNewcomers,
        Self::LeftoversHoldUpAll,
        Self::RemovalEndsAll,
        Self::SuccessorOutlivesStop,
        Self::ExitIsEverybodys,
        Self::SuccessorIsForgotten,
    ];

    /// In what kind of history it shows soonest, if that is known.
    pub(super) const fn mood(self) -> Option<Mood> {
        match self {
            Self::DeadlineFromReply | Self::NoKillBudget | Self::NoDrift | Self::NoSlack => {
                Some(Mood::Sharp)
            }
            Self::NoTakeoverDelay
            | Self::DelayByOwnBudget
            | Self::RecordIsForgotten
            | Self::KillIsForgotten
            | Self::MarkedInTheDelay
            | Self::OwnKeyIsNotWatched
            | Self::DeadDaemonsKeyIsNotWatched => Some(Mood::Strange),
            Self::UnkillableIsNotRenewed | Self::KillsInSilence | Self::LeftoversHoldUpAll => {
                Some(Mood::Stubborn)
            }
            Self::NoSecondLine
            | Self::ClockIsSteered
            | Self::LeftoversLive
            | Self::ClaimWithoutOwnKey
            | Self::ChildLooksAtNoClock => Some(Mood::Rough),
            _ => None,
        }
    }

    /// Whether it shows only where the job has a schedule.
    pub(super) const fn is_about_slots(self) -> bool {
        matches!(
            self,
            Self::StartsUnacknowledged
                | Self::UnknownClaimIsDone
                | Self::RefusedClaimIsDone
                | Self::OpenRunIsTakenForOwn
                | Self::OpenRunIsForgotten
                | Self::SlotsUnguardedByTerm
                | Self::SlotsUnguardedByState
                | Self::NestedCloseIsForgotten
                | Self::NestedCloseIsUnguarded
                | Self::CloseGoesNotWithTerm
                | Self::LeaseFileIsNotRenewed
                | Self::CloseIsForgotten
                | Self::WantedRunIsUnanswered
                | Self::PauseIsUntold
                | Self::LostRunsAgain
                | Self::LostStaysLost
                | Self::LateIsInTime
                | Self::TimeoutIsForgotten
                | Self::RunOverIsNotHeard
                | Self::AlarmIsNotHeard
        )
    }

    /// Whether it shows only where daemons have several jobs.
    pub(super) const fn is_about_jobs(self) -> bool {
        matches!(
            self,
            Self::GuardiansDieTogether
                | Self::LossIsEverybodys
                | Self::WishIsForEveryJob
                | Self::HandsOverInRun
                | Self::HandsOverAtOnce
                | Self::HandsOverToNewcomers
                | Self::LeftoversHoldUpAll
                | Self::RemovalEndsAll
                | Self::SuccessorOutlivesStop
                | Self::ExitIsEverybodys
                | Self::SuccessorIsForgotten
        )
    }

    /// The times that the product is given in place of the true ones.
    pub(super) fn timing(self, truth: Timing) -> Timing {
        match self {
            Self::NoKillBudget => Timing::new(truth.ttl(), truth.lost_grace(), Duration::ZERO),
            Self::NoDrift => truth.with_ttl(truth.ttl() * 1000 / 999),
            Self::NoSlack => truth.with_ttl(truth.ttl() + SLACK),
            _ => truth,
        }
    }

    /// How the product is told to run slots, in place of how it is to.
    pub(super) fn policy(self, policy: &mut Policy) {
        match self {
            Self::LostRunsAgain => policy.guarantee = Guarantee::AtLeastOnce,
            Self::LostStaysLost => policy.guarantee = Guarantee::AtMostOnce,
            Self::LateIsInTime => policy.start_within = None,
            Self::TimeoutIsForgotten => policy.timeout = None,
            _ => {}
        }
    }
}
