//! The mistakes that are made on purpose, so that it is known what the judge would catch.

use std::time::Duration;

use super::faults::Mood;
use crate::config::timing::{SLACK, Timing};

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
}

impl Mistake {
    pub(super) const ALL: [Self; 37] = [
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
            Self::UnkillableIsNotRenewed | Self::KillsInSilence => Some(Mood::Stubborn),
            Self::NoSecondLine
            | Self::ClockIsSteered
            | Self::LeftoversLive
            | Self::ClaimWithoutOwnKey
            | Self::ChildLooksAtNoClock => Some(Mood::Rough),
            _ => None,
        }
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
}
