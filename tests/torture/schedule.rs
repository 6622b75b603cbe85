//! What is thrown, at whom, and when: decided by the seed alone.
//!
//! Faults come in storms. Several of them go on at once, but for what [`clashes`] keeps apart.

use std::time::Duration;

use crate::beside::Ill;
use crate::checker::{After, Reach};
use crate::common::{Direction, Random};
use crate::elections::{Election, Job};
use crate::holds::{Hold, Want};
use crate::kinds::{Blow, Cut, Fault, Kind, Record, Target, Whom};
use crate::replicas::WITH_ONE;
use crate::worlds::World;

/// How long faults begin for, in one storm.
pub(crate) const STORM: Duration = Duration::from_secs(20);

/// How long a replica or a member is left to itself after a fault of its own.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// How long before and after a lease's early end no replica may be deaf: as long as it takes to
/// notice a broken watch and to open another.
const ALL_EARS: Duration = Duration::from_secs(4);

/// How long a lease that is not renewed may last, and the take-over delay after it.
const LEASE: Duration = Duration::from_secs(8);

/// Members in the cluster.
pub(crate) const MEMBERS: usize = 3;

/// The moments at which a lease may end early by it.
fn early_ends(fault: &Fault) -> Option<(Duration, Duration)> {
    if !fault.kind.ends_leases_early() {
        return None;
    }
    let begin = if fault.kind.ends_leases_at_once() {
        fault.at
    } else {
        fault.ends()
    };
    Some((begin.saturating_sub(ALL_EARS), fault.ends() + ALL_EARS))
}

/// Whether two faults must not go on at once.
///
/// - Daemon and guardian of one replica are never out of action together by two faults, which would
///   be a fault that DESIGN §1 excepts: one replica suffers one signal at a time. ("The leader" may be
///   any of them: that is seen to when the fault is thrown.)
/// - A lease never ends early while a replica cannot hear of it, which DESIGN §1 excepts too. (A
///   watch through the member that wakes up goes on with it, or was opened elsewhere before.)
/// - No lease may end while its holder's job can't be killed, which DESIGN §1 excepts.
/// - One fault of the members at a time, one of a replica's network, and one of the queue.
fn clashes(a: &Fault, b: &Fault) -> bool {
    let meet = |(a, b): (Duration, Duration), (c, d)| a < d && c < b;
    let settled = |f: &Fault| (f.at, f.ends() + SETTLE);
    let same = a.target.meets(b.target);
    let of_one_replica = same && a.kind.is_of_processes() && b.kind.is_of_processes();
    let of_one_network = same && a.kind.is_of_network() && b.kind.is_of_network();
    let of_queue = |f: &&Fault| matches!(f.kind, Kind::GoLapses(_) | Kind::StrangeKey);
    let of_queue = [a, b].iter().all(of_queue);
    let of_members = a.kind.is_of_members() && b.kind.is_of_members();
    let unheard = |a: &Fault, b: &Fault| {
        // One whose holder is deaf on purpose is counted apart anyhow.
        let promised = !a.kind.is_excepted() && b.kind.deafens();
        promised && early_ends(a).is_some_and(|early| meet(early, (b.at, b.ends())))
    };
    // The spans that a lease lives on for, at most, when it can't be renewed.
    let needed = |a: &Fault, b: &Fault| {
        let hurts = b.kind.deafens() || early_ends(b).is_some() || b.kind == Kind::Load;
        let span = |f: &Fault| (f.at.saturating_sub(LEASE), f.ends() + LEASE);
        a.kind.needs_the_store() && hurts && meet(span(a), span(b))
    };
    ((of_one_replica || of_one_network || of_members || of_queue) && meet(settled(a), settled(b)))
        || needed(a, b)
        || needed(b, a)
        || unheard(a, b)
        || unheard(b, a)
}

/// The faults of one storm, in the order of their beginnings.
///
/// Those that end leases early and those that deafen replicas leave each other little room, so they
/// take turns from storm to storm.
pub(crate) fn storm(seed: u64, number: u64, replicas: usize, excepted: bool) -> Vec<Fault> {
    let mut random = Random::new(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
    let mut faults: Vec<Fault> = Vec::new();
    // The storm before is over, and what it did with it.
    let mut at = Duration::from_secs(1);
    if number % 8 == 1 {
        // It lasts too long to find a place among others.
        let hold = [Hold::Frozen, Hold::Roots, Hold::Traced][random.below(3)];
        let fitting = (0..20).find_map(|_| {
            let kind = Kind::Unkillable(hold, draw_blow(&mut random));
            let fault = drawn(&mut random, kind, at, replicas);
            is_of_turn(&fault, number).then_some(fault)
        });
        faults.extend(fitting);
    }
    while at < STORM {
        // Some moments suit no fault: others are tried, so that none starves.
        let fitting = (0..8).find_map(|_| {
            let fault = if is_of_jobs(number) && random.below(2) == 0 {
                draw_of_one_job(&mut random, at, replicas)
            } else {
                draw(&mut random, at, replicas, excepted)
            };
            let fits = !faults.iter().any(|other| clashes(&fault, other));
            (fits && is_of_turn(&fault, number)).then_some(fault)
        });
        faults.extend(fitting);
        at += random.millis(50, 900);
    }
    faults
}

/// Whether that is a storm in which daemons with several jobs suffer only what is one job's, so that the end
/// of another's term can't have any other reason.
fn is_of_jobs(number: u64) -> bool {
    [1, 3].contains(&(number % 8))
}

/// A fault that hits one of several jobs.
fn draw_of_one_job(random: &mut Random, at: Duration, replicas: usize) -> Fault {
    let whom = [
        Whom::Guardian,
        Whom::Guardian,
        Whom::Job,
        Whom::JobTree,
        Whom::GuardianOfChecks,
    ][random.below(5)];
    let blow = [Blow::StepDown, Blow::KillGuardian, Blow::TakeOut][random.below(3)];
    let kind = match random.below(14) {
        0 | 1 => Kind::Kill(whom),
        2 | 3 => Kind::Stop(whom),
        4 => Kind::Term(whom),
        5 => Kind::StepDownOne,
        6 => Kind::PauseOne,
        7 | 8 => Kind::TakeOut,
        9 => Kind::ExecFails,
        10 => Kind::ExecHangs(blow),
        11 => Kind::DeleteKey,
        12 => Kind::Revoke,
        _ => Kind::Unkillable([Hold::Frozen, Hold::Traced][random.below(2)], blow),
    };
    let mut fault = drawn(random, kind, at, replicas);
    if !matches!(fault.target, Target::Leader(Election::Of(_))) {
        let scheduled = matches!(kind, Kind::ExecFails | Kind::PauseOne);
        let job = if scheduled { Job::Leaks } else { fault.job };
        fault.target = Target::Leader(Election::Of(job));
    }
    fault
}

/// Whether a replica with several jobs may be hit by it.
fn may_hit_several(target: Target) -> bool {
    match target {
        Target::Replica(i) => i >= WITH_ONE,
        Target::Leader(of) => of.job().is_some(),
        Target::Several(some) => some >> WITH_ONE != 0,
        Target::Store => false,
    }
}

/// Whether a fault fits the storm of this number.
fn is_of_turn(fault: &Fault, number: u64) -> bool {
    // Nobody who joins leads while it goes on, and whatever comes late beside it is excused.
    if fault.kind == Kind::StrangeKey && number % 8 != 5 {
        return false;
    }
    if fault.kind.is_typed() && !is_of_jobs(number) {
        return false;
    }
    let whole = fault.kind.reach(Election::Of(fault.job)) == Reach::All;
    if is_of_jobs(number) && whole && may_hit_several(fault.target) {
        return false;
    }
    match number % 8 {
        // Leaders cut off and nothing else, lest each be relieved of its term before it is long
        // enough for a deadline to matter.
        0 | 4 => fault.kind.is_of_network() || fault.kind == Kind::Stop(Whom::Daemon),
        // Jobs that can't be killed, which need a store in order and leases that last.
        1 => !fault.kind.deafens() && early_ends(fault).is_none() && fault.kind != Kind::Load,
        // Nothing that would excuse a late hand-over.
        3 => fault.kind.after() != After::Lingers || (!whole && may_hit_several(fault.target)),
        2 | 6 => early_ends(fault).is_none(),
        _ => {
            let heard = early_ends(fault).is_none_or(|(from, _)| from > Duration::ZERO);
            heard && (fault.kind.is_of_members() || !fault.kind.deafens())
        }
    }
}

fn draw(random: &mut Random, at: Duration, replicas: usize, excepted: bool) -> Fault {
    let kind = draw_kind(random, excepted);
    drawn(random, kind, at, replicas)
}

/// A fault of this kind: at whom, and for how long.
fn drawn(random: &mut Random, kind: Kind, at: Duration, replicas: usize) -> Fault {
    let of_replicas = kind.is_of_processes() || kind.is_of_network() || kind.is_of_a_lease();
    let target = match random.below(100) {
        _ if !of_replicas => Target::Store,
        // Slots of a paused time are skipped, which would excuse too much.
        _ if kind == Kind::PauseOne => {
            let jobs = [Job::Counts, Job::Leaks, Job::Stubborn];
            Target::Leader(Election::Of(jobs[random.below(jobs.len())]))
        }
        _ if kind.is_of_one_of_several() => Target::Leader(Election::Of(draw_job(random))),
        // A run that can't be executed has said nothing of itself.
        _ if kind == Kind::ExecFails => {
            let elections = [
                Election::Steady,
                Election::Of(Job::Counts),
                Election::Of(Job::Leaks),
                Election::Of(Job::Stubborn),
            ];
            Target::Leader(elections[random.below(elections.len())])
        }
        _ if kind.is_of_leaders() => Target::Leader(draw_election(random)),
        0..70 => Target::Leader(draw_election(random)),
        70..80 if !kind.is_of_a_lease() => several(random, replicas),
        _ => Target::Replica(random.below(replicas)),
    };
    let lasts = match kind {
        // Each may be longer than it is borne.
        Kind::Stop(Whom::Guardian | Whom::GuardianOfChecks | Whom::Job | Whom::JobTree)
        | Kind::Ill(_) => random.millis(100, 7_000),
        // The stop that it falls into takes no longer.
        Kind::TermThenKill => random.millis(0, 600),
        // Sooner than a second signal counts, and later.
        Kind::TermTwice | Kind::TermThenQuit => random.millis(0, 2_000),
        Kind::Stop(_) | Kind::StopThenKill | Kind::Link(_) | Kind::MemberStop(_)
            if random.below(3) == 0 =>
        {
            random.millis(100, 2_000)
        }
        // Longer than a lease, and the delay after it.
        Kind::Stop(_)
        | Kind::StopThenKill
        | Kind::KillBesideStopped(_)
        | Kind::Link(_)
        | Kind::RevokeDeaf
        | Kind::MemberStop(_)
        | Kind::EtcdLeaderStop => random.millis(6_000, 11_000),
        Kind::QuorumKilled(_) | Kind::QuorumStopped(_) | Kind::AllKilled => {
            random.millis(1_000, 6_000)
        }
        Kind::MemberKill(_) | Kind::MemberFull(_) | Kind::MemberSlow(_) | Kind::DiskSlow(..) => {
            random.millis(1_000, 5_000)
        }
        // As long as it takes to start again.
        Kind::Kill(_)
        | Kind::Term(_)
        | Kind::StepDown
        | Kind::StepDownOne
        | Kind::Reconfigure
        | Kind::Move(_)
        | Kind::Reload => Duration::from_millis(500),
        Kind::PauseOne | Kind::TakeOut | Kind::ExecFails => random.millis(1_000, 4_000),
        // Until the next one is killed: within its delay, or a moment after it.
        Kind::RevokeThenKillNext => random.millis(50, 1_200),
        Kind::Revoke | Kind::DeleteKey | Kind::Compact | Kind::Defragment(_) => Duration::ZERO,
        // Until one leads.
        Kind::GoLapses(_) => random.millis(6_000, 10_000),
        // Longer than whoever kills or waits in vain may take to say so.
        Kind::Unkillable(..) | Kind::StrangeKey => random.millis(9_500, 11_000),
        Kind::ExecHangs(_) | Kind::Stray(_) => random.millis(3_000, 9_000),
        Kind::Starve(_) | Kind::Load | Kind::HupStorm => random.millis(500, 6_000),
        Kind::BadRecord(_) | Kind::NoSpace | Kind::PutKey => random.millis(500, 4_000),
    };
    Fault {
        at,
        lasts,
        kind,
        target,
        job: draw_job(random),
    }
}

/// Whose leader is hit.
fn draw_election(random: &mut Random) -> Election {
    // What is started again and again has less to lose.
    match random.below(9) {
        0..=3 => Election::Steady,
        4 | 5 => Election::Scheduled,
        _ => Election::Of(draw_job(random)),
    }
}

fn draw_job(random: &mut Random) -> Job {
    [Job::Counts, Job::Slots, Job::Leaks, Job::Stubborn][random.below(4)]
}

/// Two or more; all of them now and then.
fn several(random: &mut Random, replicas: usize) -> Target {
    let all = (1_u16 << replicas) - 1;
    if random.below(3) == 0 {
        return Target::Several(all);
    }
    let first = random.below(replicas);
    let second = (first + 1 + random.below(replicas - 1)) % replicas;
    let others = u16::try_from(random.below(usize::from(all) + 1)).unwrap();
    Target::Several(1 << first | 1 << second | others)
}

fn draw_kind(random: &mut Random, excepted: bool) -> Kind {
    if excepted && random.below(8) == 0 {
        return match random.below(6) {
            0 => Kind::Kill(Whom::Both),
            1 => Kind::Stop(Whom::Both),
            2 => Kind::Stop(Whom::Tree),
            3 => Kind::KillBesideStopped(Whom::Daemon),
            4 => Kind::KillBesideStopped(Whom::Guardian),
            _ => Kind::RevokeDeaf,
        };
    }
    let member = random.below(MEMBERS);
    let single = [Whom::Daemon, Whom::Guardian, Whom::Job, Whom::JobTree][random.below(4)];
    match random.below(98) {
        0..=8 => Kind::Kill(single),
        9..=13 => Kind::Stop(single),
        14..=16 => Kind::Term(single),
        17 => Kind::Kill(Whom::Tree),
        18 | 19 => Kind::StepDown,
        20 => Kind::Reconfigure,
        21 => Kind::Reload,
        22 => Kind::TermThenKill,
        23 => Kind::TermTwice,
        24 => Kind::StopThenKill,
        25..=34 => Kind::Link(draw_cut(random, member)),
        35 => Kind::MemberKill(member),
        36 => Kind::MemberStop(member),
        37 => Kind::EtcdLeaderStop,
        38 => Kind::MemberSlow(member),
        39 => Kind::DiskSlow(member, random.millis(20, 400)),
        40 => Kind::MemberFull(member),
        41 => Kind::QuorumKilled(member),
        42 => Kind::QuorumStopped(member),
        43 => Kind::AllKilled,
        44 | 45 => Kind::Revoke,
        46 => Kind::DeleteKey,
        47 => Kind::RevokeThenKillNext,
        48 => Kind::Compact,
        49 => Kind::Ill(Ill::Fails),
        50 => Kind::Ill(Ill::Hangs),
        51 => Kind::Kill(Whom::GuardianOfChecks),
        52 => Kind::Stop(Whom::GuardianOfChecks),
        53 => Kind::Defragment(member),
        54 => Kind::Unkillable(Hold::Frozen, draw_blow(random)),
        55 => Kind::Unkillable(Hold::Traced, draw_blow(random)),
        83 | 84 => Kind::StrangeKey,
        80..=82 => Kind::GoLapses(random.below(3) > 0),
        79 => Kind::Unkillable(Hold::Roots, draw_blow(random)),
        56..=58 => Kind::ExecHangs(draw_blow(random)),
        59 => Kind::Starve(Want::Threads),
        60 => Kind::Starve(Want::Descriptors),
        61 => Kind::Starve(Want::FileSize),
        62 | 63 => Kind::Stray(member),
        64 | 65 => Kind::PutKey,
        66 => Kind::BadRecord(Record::Pause),
        67 => Kind::BadRecord([Record::Marker, Record::Term][random.below(2)]),
        68 => Kind::NoSpace,
        69 => Kind::TermThenQuit,
        70 | 71 => Kind::HupStorm,
        72..=78 => Kind::Move(draw_world(random)),
        86..=88 => Kind::StepDownOne,
        89..=91 => Kind::PauseOne,
        92..=94 => Kind::TakeOut,
        95..=97 => Kind::ExecFails,
        _ => Kind::Load,
    }
}

pub(crate) fn draw_world(random: &mut Random) -> World {
    // Those with most to go wrong more often.
    let worlds = [
        World::Plain,
        World::Hidden,
        World::Hidden,
        World::Nobody,
        World::Nested,
        World::Nested,
        World::HalfDead,
    ];
    worlds[random.below(worlds.len())]
}

fn draw_blow(random: &mut Random) -> Blow {
    let blows = [
        Blow::StepDown,
        Blow::Term,
        Blow::KillDaemon,
        Blow::KillGuardian,
    ];
    blows[random.below(blows.len())]
}

fn draw_cut(random: &mut Random, member: usize) -> Cut {
    match random.below(11) {
        0 => Cut::Drop,
        1 => Cut::Refuse,
        2 | 3 => Cut::Pause,
        4 | 5 => Cut::BlackHole,
        6 | 7 => Cut::OneWay(Direction::Up),
        8 => Cut::OneWay(Direction::Down),
        9 => Cut::OneMember(member),
        _ => Cut::Slow(random.millis(30, 800)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_throws_the_same() {
        assert_eq!(storm(7, 3, 5, true), storm(7, 3, 5, true));
        assert_ne!(storm(7, 3, 5, false), storm(8, 3, 5, false));
        assert_ne!(storm(7, 3, 5, false), storm(7, 4, 5, false));
    }

    #[test]
    fn an_excepted_fault_is_thrown_only_when_asked_for() {
        let thrown = |excepted| {
            let mut storms = (0..200).flat_map(|n| storm(1, n, 5, excepted));
            storms.any(|fault| fault.kind.is_excepted())
        };
        assert!(!thrown(false));
        assert!(thrown(true));
    }

    #[test]
    fn no_lease_ends_early_while_a_replica_is_deaf() {
        for n in 0..500 {
            let faults = storm(2, n, 5, false);
            for early in faults.iter().filter_map(|f| Some((f, early_ends(f)?))) {
                let deaf = faults.iter().find(|other| {
                    let (from, to) = early.1;
                    *other != early.0
                        && other.kind.deafens()
                        && other.at < to
                        && from < other.ends()
                });
                assert_eq!(deaf, None, "{early:?}");
            }
        }
    }

    #[test]
    fn no_lease_is_in_danger_while_its_job_can_not_be_killed() {
        let mut held = 0;
        for n in 0..500 {
            let faults = storm(4, n, 5, true);
            for fault in faults.iter().filter(|f| f.kind.needs_the_store()) {
                held += 1;
                let danger = faults.iter().find(|other| {
                    let hurts = other.kind.deafens() || early_ends(other).is_some();
                    hurts && other.at < fault.ends() && fault.at < other.ends()
                });
                assert_eq!(danger, None, "{fault:?}");
            }
        }
        assert!(held > 50, "{held}");
    }

    #[test]
    fn every_kind_is_thrown_and_several_go_on_at_once() {
        let mut names = std::collections::BTreeSet::new();
        let (mut most, mut several) = (0, false);
        for n in 0..1000 {
            let faults = storm(3, n, 5, true);
            let at_once = |f: &Fault| {
                faults
                    .iter()
                    .filter(|o| o.at <= f.at && f.at < o.ends())
                    .count()
            };
            most = most.max(faults.iter().map(at_once).max().unwrap());
            names.extend(faults.iter().map(|fault| fault.kind.name()));
            several |= faults
                .iter()
                .any(|f| matches!(f.target, Target::Several(_)));
        }
        assert_eq!(names.len(), 95, "{names:#?}");
        assert!(several);
        assert!(most >= 3, "{most}");
    }
}
