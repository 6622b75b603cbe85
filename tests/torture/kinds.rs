//! What can be thrown, and what is known of each kind beforehand.

use std::time::Duration;

use crate::beside::Ill;
use crate::checker::{After, Reach};
use crate::common::Direction;
use crate::elections::{Election, Job};
use crate::holds::{Hold, Want};
use crate::worlds::World;

/// The process, or processes, of a replica that a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Daemon,
    Guardian,
    GuardianOfChecks,
    Job,
    /// The job, and all that came of it.
    JobTree,
    /// Daemon and guardian, so that neither sees the other end.
    Both,
    /// Both, the job, and all that came of it.
    Tree,
}

impl Whom {
    /// Of several jobs in a daemon, each has its own.
    fn is_of_one_job(self) -> bool {
        matches!(
            self,
            Self::Guardian | Self::GuardianOfChecks | Self::Job | Self::JobTree
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Guardian => "guardian",
            Self::GuardianOfChecks => "guardian of checks",
            Self::Job => "job",
            Self::JobTree => "job's whole tree",
            Self::Both => "daemon and guardian",
            Self::Tree => "whole tree",
        }
    }
}

/// What a replica's ways to the store suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Drop,
    /// Each connection is closed as soon as it is made.
    Refuse,
    Pause,
    BlackHole,
    OneWay(Direction),
    /// A black hole before one member only.
    OneMember(usize),
    /// Every byte comes so much later.
    Slow(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill(Whom),
    /// SIGSTOP, and SIGCONT when the fault ends.
    Stop(Whom),
    Term(Whom),
    StepDown,
    /// `step-down --job` of one of several.
    StepDownOne,
    /// `pause --job` of one of several, and `resume` when the fault ends.
    PauseOne,
    /// A reload without one of several jobs, and another with it when the fault ends.
    TakeOut,
    /// A planned stop, and a start with another TTL and other graces.
    Reconfigure,
    /// A planned stop, and starts in this world from then on.
    Move(World),
    /// SIGHUP with other graces in the config.
    Reload,
    /// SIGTERM, and SIGKILL of the daemon while it stops.
    TermThenKill,
    TermTwice,
    /// SIGTERM, and SIGQUIT while it stops.
    TermThenQuit,
    /// SIGHUP again and again until the fault ends, each with other graces in the config.
    HupStorm,
    /// The daemon stands still, and is killed when the fault ends.
    StopThenKill,
    /// This one of daemon and guardian is killed while the other stands still.
    KillBesideStopped(Whom),
    /// Its check fails or hangs until the fault ends.
    Ill(Ill),
    Link(Cut),
    /// Killed, and started again when the fault ends.
    MemberKill(usize),
    MemberStop(usize),
    /// Whichever member leads the cluster is stopped.
    EtcdLeaderStop,
    /// Stopped and let go on, many times a second.
    MemberSlow(usize),
    /// Every write to the disk takes so much longer.
    DiskSlow(usize, Duration),
    /// The disk has no space left until the fault ends.
    MemberFull(usize),
    /// All members but this one are killed.
    QuorumKilled(usize),
    /// All members but this one are stopped.
    QuorumStopped(usize),
    AllKilled,
    Revoke,
    DeleteKey,
    /// The leader's lease is revoked, and the next one's daemon killed in its take-over delay.
    RevokeThenKillNext,
    /// The lease is revoked while its holder cannot hear of it.
    RevokeDeaf,
    Compact,
    Defragment(usize),
    /// The job can't be killed until the fault ends, and its replica suffers this meanwhile.
    Unkillable(Hold, Blow),
    /// The job's exec hangs until the fault ends, and its replica suffers this meanwhile.
    ExecHangs(Blow),
    /// The job is killed, and can't be executed until the fault ends.
    ExecFails,
    /// Daemon and guardians get no more of it until the fault ends.
    Starve(Want),
    /// At this member's address another answers, of a cluster of its own, until the fault ends.
    Stray(usize),
    /// Somebody writes to the key, which takes it off its lease.
    PutKey,
    /// Somebody writes a key into the queue that is no candidate's, and deletes it when the fault ends.
    StrangeKey,
    /// Somebody writes this record, and deletes it when the fault ends.
    BadRecord(Record),
    /// A Go candidate that leads stands still and loses its lease: with all replicas waiting, or just
    /// after all of them were killed, so that newcomers join.
    GoLapses(bool),
    /// The store takes no writes until the fault ends.
    NoSpace,
    /// Every core is busy until the fault ends.
    Load,
}

/// What befalls a replica whose job is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    StepDown,
    Term,
    KillDaemon,
    KillGuardian,
    /// A reload without it, of several; another with it when the fault ends.
    TakeOut,
}

/// A record of the election that somebody spoils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A pause that can't be read.
    Pause,
    /// A marker above every revision.
    Marker,
    /// A term record that can't be read.
    Term,
}

/// Which replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Replica(usize),
    /// Whoever leads this election when the fault begins.
    Leader(Election),
    /// Those whose bit is set, at the same time.
    Several(u16),
    /// None: a fault of the store.
    Store,
}

/// One fault; moments are counted from the storm's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    /// Of a replica with several jobs, which one is hit, unless it is the target's or all are.
    pub(crate) job: Job,
}

impl Kind {
    /// DESIGN §1 promises nothing for these: nobody is left to end what the job started, a virtual
    /// machine is frozen whole, or nobody can tell a leader that it was deposed. (One that is killed
    /// whole leaves nothing behind.)
    pub(crate) fn is_excepted(self) -> bool {
        matches!(
            self,
            Self::Kill(Whom::Both)
                | Self::Stop(Whom::Both | Whom::Tree)
                | Self::KillBesideStopped(_)
                | Self::RevokeDeaf
        )
    }

    /// A lease may end early by it, behind its holder's back: an operator does it, or a member
    /// that wakes up and believes that it still leads the cluster.
    pub(crate) fn ends_leases_early(self) -> bool {
        matches!(
            self,
            Self::Revoke
                | Self::DeleteKey
                | Self::RevokeThenKillNext
                | Self::RevokeDeaf
                | Self::PutKey
                | Self::MemberStop(_)
                | Self::EtcdLeaderStop
                | Self::QuorumStopped(_)
        )
    }

    /// Whether that happens at its beginning, and not at its end.
    pub(crate) fn ends_leases_at_once(self) -> bool {
        self.ends_leases_early() && !self.is_of_members()
    }

    /// A replica may be unable to hear of that while it goes on.
    pub(crate) fn deafens(self) -> bool {
        match self {
            Self::Stop(whom) => matches!(whom, Whom::Daemon | Whom::Both | Whom::Tree),
            Self::StopThenKill | Self::KillBesideStopped(_) => true,
            _ => self.is_of_network() || self.is_of_members(),
        }
    }

    /// Members are out of order while it goes on.
    pub(crate) fn is_of_members(self) -> bool {
        matches!(
            self,
            Self::MemberKill(_)
                | Self::MemberStop(_)
                | Self::EtcdLeaderStop
                | Self::MemberSlow(_)
                | Self::DiskSlow(..)
                | Self::MemberFull(_)
                | Self::QuorumKilled(_)
                | Self::QuorumStopped(_)
                | Self::AllKilled
                | Self::Stray(_)
                | Self::NoSpace
        )
    }

    /// While it goes on, no lease of the replica may end: its job could not be killed, which DESIGN §1
    /// excepts.
    pub(crate) fn needs_the_store(self) -> bool {
        matches!(self, Self::Unkillable(..))
    }

    pub(crate) fn is_of_processes(self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::Stop(_)
                | Self::Term(_)
                | Self::StepDown
                | Self::StepDownOne
                | Self::PauseOne
                | Self::TakeOut
                | Self::ExecFails
                | Self::Reconfigure
                | Self::Move(_)
                | Self::Reload
                | Self::TermThenKill
                | Self::TermTwice
                | Self::TermThenQuit
                | Self::HupStorm
                | Self::StopThenKill
                | Self::KillBesideStopped(_)
                | Self::Ill(_)
                | Self::Unkillable(..)
                | Self::ExecHangs(_)
                | Self::Starve(_)
        )
    }

    pub(crate) fn is_of_network(self) -> bool {
        matches!(self, Self::Link(_) | Self::RevokeDeaf)
    }

    /// A replica's lease or key is taken from it.
    pub(crate) fn is_of_a_lease(self) -> bool {
        matches!(
            self,
            Self::Revoke | Self::DeleteKey | Self::RevokeThenKillNext | Self::PutKey
        )
    }

    /// It is thrown at whoever leads.
    pub(crate) fn is_of_leaders(self) -> bool {
        matches!(
            self,
            Self::RevokeThenKillNext | Self::RevokeDeaf | Self::Unkillable(..) | Self::ExecHangs(_)
        )
    }

    /// It is something that only one of several jobs can suffer.
    pub(crate) fn is_of_one_of_several(self) -> bool {
        matches!(self, Self::StepDownOne | Self::PauseOne | Self::TakeOut)
    }

    /// Somebody types a command, which may come late if the store or its network is out of order.
    pub(crate) fn is_typed(self) -> bool {
        matches!(self, Self::StepDownOne | Self::PauseOne)
    }

    /// A command is typed in its course, which is about whoever leads by then.
    pub(crate) fn types(self) -> bool {
        let steps_down = matches!(
            self,
            Self::Unkillable(_, Blow::StepDown) | Self::ExecHangs(Blow::StepDown)
        );
        self.is_typed() || steps_down
    }

    /// Whose terms may end by it, if it hits this election's candidate. Nobody's by what should cost no
    /// term at all.
    pub(crate) fn reach(self, of: Election) -> Reach {
        match self {
            Self::Kill(whom) | Self::Stop(whom) | Self::Term(whom) if whom.is_of_one_job() => {
                Reach::Job(of)
            }
            Self::StepDownOne
            | Self::PauseOne
            | Self::TakeOut
            | Self::ExecFails
            | Self::Ill(_)
            | Self::Revoke
            | Self::DeleteKey
            | Self::PutKey
            | Self::RevokeThenKillNext
            | Self::Unkillable(_, Blow::StepDown | Blow::KillGuardian | Blow::TakeOut)
            | Self::ExecHangs(Blow::StepDown | Blow::KillGuardian | Blow::TakeOut) => {
                Reach::Job(of)
            }
            Self::Reload
            | Self::HupStorm
            | Self::Compact
            | Self::Defragment(_)
            | Self::StrangeKey
            | Self::BadRecord(_)
            | Self::GoLapses(_) => Reach::Nobody,
            _ => Reach::All,
        }
    }

    /// What follows from it for the candidates that it hits.
    pub(crate) fn after(self) -> After {
        match self {
            Self::Kill(Whom::Daemon)
            | Self::Term(Whom::Daemon)
            | Self::Reconfigure
            | Self::Move(_)
            | Self::TermThenKill
            | Self::TermTwice
            | Self::TermThenQuit
            | Self::TakeOut => After::Leaves,
            Self::Kill(Whom::Guardian) | Self::StepDown | Self::StepDownOne => After::EndsTerm,
            Self::Kill(Whom::Job | Whom::JobTree | Whom::GuardianOfChecks)
            | Self::Term(Whom::Job | Whom::JobTree | Whom::Guardian)
            | Self::Reload
            | Self::HupStorm => After::GoesOn,
            _ => After::Lingers,
        }
    }

    /// The name under which it is counted.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Kill(w) => format!("SIGKILL of the {}", w.name()),
            Self::Stop(w) => format!("SIGSTOP of the {}", w.name()),
            Self::Term(w) => format!("SIGTERM of the {}", w.name()),
            Self::StepDown => "step-down by SIGUSR1".into(),
            Self::StepDownOne => "step-down of one of several".into(),
            Self::PauseOne => "pause of one of several".into(),
            Self::TakeOut => "reload without one of several".into(),
            Self::ExecFails => "exec fails".into(),
            Self::Reconfigure => "restart with another config".into(),
            Self::Move(world) => world.name().into(),
            Self::Reload => "reload with another config".into(),
            Self::TermThenKill => "SIGTERM, then SIGKILL while it stops".into(),
            Self::TermTwice => "SIGTERM twice".into(),
            Self::TermThenQuit => "SIGTERM, then SIGQUIT while it stops".into(),
            Self::HupStorm => "SIGHUP again and again".into(),
            Self::StopThenKill => "SIGSTOP, then SIGKILL of the daemon".into(),
            Self::KillBesideStopped(w) => {
                format!("SIGKILL of the {} beside a stopped one", w.name())
            }
            Self::Ill(Ill::Fails) => "check fails".into(),
            Self::Ill(Ill::Hangs) => "check hangs".into(),
            Self::Link(cut) => cut.name().into(),
            Self::MemberKill(_) => "member killed and restarted".into(),
            Self::MemberStop(_) => "member stopped".into(),
            Self::EtcdLeaderStop => "etcd's leader stopped".into(),
            Self::MemberSlow(_) => "member slow".into(),
            Self::DiskSlow(..) => "member's disk slow".into(),
            Self::MemberFull(_) => "member's disk full".into(),
            Self::QuorumKilled(_) => "quorum killed".into(),
            Self::QuorumStopped(_) => "quorum stopped".into(),
            Self::AllKilled => "quorum killed: all members".into(),
            Self::Revoke => "lease revoked".into(),
            Self::DeleteKey => "key deleted".into(),
            Self::RevokeThenKillNext => "lease revoked, then SIGKILL of the next".into(),
            Self::RevokeDeaf => "lease revoked, its holder deaf".into(),
            Self::Compact => "compaction".into(),
            Self::Defragment(_) => "defragmentation".into(),
            Self::Unkillable(Hold::Frozen, blow) => format!("job frozen, {}", blow.name()),
            Self::Unkillable(Hold::Traced, blow) => format!("job traced, {}", blow.name()),
            Self::Unkillable(Hold::Roots, blow) => format!("job of root's, {}", blow.name()),
            Self::ExecHangs(blow) => format!("exec hangs, {}", blow.name()),
            Self::Starve(Want::Threads) => "no more threads".into(),
            Self::Starve(Want::Descriptors) => "no more descriptors".into(),
            Self::Starve(Want::FileSize) => "no file may grow".into(),
            Self::Stray(_) => "stray member with a cluster of its own".into(),
            Self::PutKey => "key taken off its lease".into(),
            Self::StrangeKey => "key that is no candidate's".into(),
            Self::BadRecord(Record::Pause) => "pause that can't be read".into(),
            Self::BadRecord(Record::Marker) => "marker above all revisions".into(),
            Self::BadRecord(Record::Term) => "term record that can't be read".into(),
            Self::GoLapses(false) => "Go leader lapses".into(),
            Self::GoLapses(true) => "Go leader lapses before newcomers join".into(),
            Self::NoSpace => "NOSPACE alarm".into(),
            Self::Load => "host without a free core".into(),
        }
    }
}

impl Blow {
    fn name(self) -> &'static str {
        match self {
            Self::StepDown => "step-down",
            Self::Term => "SIGTERM of the daemon",
            Self::KillDaemon => "SIGKILL of the daemon",
            Self::KillGuardian => "SIGKILL of the guardian",
            Self::TakeOut => "reload without it",
        }
    }
}

impl Cut {
    fn name(self) -> &'static str {
        match self {
            Self::Drop => "connections dropped",
            Self::Refuse => "connections refused",
            Self::Pause => "network paused",
            Self::BlackHole => "black hole",
            Self::OneWay(Direction::Up) => "cut one way: not heard",
            Self::OneWay(Direction::Down) => "cut one way: deaf",
            Self::OneMember(_) => "black hole before one member",
            Self::Slow(_) => "slow network",
        }
    }
}

impl Target {
    /// Whether both may mean the same replica.
    pub(crate) fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Several(some), Self::Several(others)) => some & others != 0,
            (Self::Several(some), Self::Replica(i)) | (Self::Replica(i), Self::Several(some)) => {
                some & (1 << i) != 0
            }
            _ => self == other,
        }
    }
}

impl Fault {
    pub(crate) fn ends(&self) -> Duration {
        self.at + self.lasts
    }

    /// The name under which it is counted.
    pub(crate) fn name(&self) -> String {
        let several = if matches!(self.target, Target::Several(_)) {
            ", of several at once"
        } else {
            ""
        };
        self.kind.name() + several
    }
}
