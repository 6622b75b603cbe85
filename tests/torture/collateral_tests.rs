//! A history in which each job has its own faults passes, and one whose fault ends another's stand is caught.

use crate::checker::{Breach, Candidacy, Reach, Thrown};
use crate::checker_tests::{SECOND, candidacy, thrown};
use crate::collateral::{COLLATERAL, check};
use crate::elections::{Election, Job};

const OWN: Election = Election::Of(Job::Counts);
const OTHER: Election = Election::Of(Job::Leaks);

/// `m0` stands from the first second on, until this one.
fn stand(until: Option<u64>) -> Candidacy {
    Candidacy {
        created_at: SECOND,
        deleted: until.map(|_| 20),
        deleted_at: until.map(|at| at * SECOND),
        ..candidacy("m0", 10, None)
    }
}

fn fault(reach: Reach, replica: &str, from: u64, to: u64) -> Thrown {
    Thrown {
        reach,
        ..thrown(false, replica, from, to)
    }
}

/// The rules that are broken by an end at this second, and how many stands say something.
fn judged(until: Option<u64>, thrown: &[Thrown]) -> (Vec<&'static str>, usize) {
    let mut breaches: Vec<Breach> = Vec::new();
    let stands = vec![(OWN, vec![stand(until)])];
    let beside = check(&stands, thrown, &mut breaches);
    (breaches.into_iter().map(|it| it.rule).collect(), beside)
}

#[test]
fn a_stand_that_goes_on_beside_anothers_fault_passes_and_says_something() {
    let other = fault(Reach::Job(OTHER), "m0", 10, 12);
    assert_eq!(judged(None, std::slice::from_ref(&other)), (vec![], 1));
    assert_eq!(judged(Some(40), &[other]), (vec![], 1));
    assert_eq!(judged(None, &[]), (vec![], 0));
}

#[test]
fn a_stand_that_ends_by_anothers_fault_is_caught() {
    let other = || fault(Reach::Job(OTHER), "m0", 10, 12);
    for at in [10, 11, 12, 15] {
        assert_eq!(judged(Some(at), &[other()]), (vec![COLLATERAL], 1));
    }
    let paused = Thrown {
        replica: None,
        ..other()
    };
    assert_eq!(judged(Some(11), &[paused]).0, [COLLATERAL]);
    // Once, however many there were.
    let twice = [other(), fault(Reach::Job(OTHER), "m0", 9, 13)];
    assert_eq!(judged(Some(11), &twice), (vec![COLLATERAL], 1));
    // What should cost nobody a term excuses nothing, nor does what hit another host, or came later or
    // long before.
    for excuse in [
        fault(Reach::Nobody, "m0", 10, 12),
        fault(Reach::All, "m1", 10, 12),
        fault(Reach::Job(OWN), "m1", 10, 12),
        fault(Reach::All, "m0", 13, 14),
        fault(Reach::All, "m0", 1, 1),
    ] {
        assert_eq!(judged(Some(11), &[other(), excuse]).0, [COLLATERAL]);
    }
}

#[test]
fn an_end_that_something_else_explains_passes() {
    let other = || fault(Reach::Job(OTHER), "m0", 10, 12);
    let anywhere = |reach| Thrown {
        replica: None,
        ..fault(reach, "", 5, 6)
    };
    for reason in [
        fault(Reach::All, "m0", 10, 11),
        fault(Reach::Job(OWN), "m0", 9, 10),
        anywhere(Reach::All),
        // The job is paused, wherever it is led.
        anywhere(Reach::Job(OWN)),
    ] {
        assert_eq!(judged(Some(11), &[other(), reason]), (vec![], 0));
    }
    // Another host's fault, and one that was over when it stood, are none of its.
    let elsewhere = fault(Reach::Job(OTHER), "m1", 10, 12);
    assert_eq!(judged(Some(11), &[elsewhere]), (vec![], 0));
    let before = fault(Reach::Job(OTHER), "m0", 0, 1);
    assert_eq!(judged(Some(2), &[before]), (vec![], 0));
}
