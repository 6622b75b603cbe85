//! A hand-over that waited is caught, and only what may delay one excuses it.

use crate::checker::*;
use crate::checker_tests::{SECOND, candidacy, life, thrown};

/// `a` leads with token 10 and is told to go at second 9; `b`, which waits with 12, follows at once.
fn clean() -> Evidence {
    let mut evidence = Evidence {
        lives: vec![life(10, 100, 1, 9), life(12, 101, 9, 20)],
        candidates: vec![candidacy("a", 10, Some(30)), candidacy("b", 12, None)],
        thrown: vec![Thrown {
            after: After::Leaves,
            ..thrown(false, "a", 9, 9)
        }],
        ..Evidence::default()
    };
    let ms = SECOND / 1000;
    evidence.lives[0].last += 10 * ms;
    evidence.candidates[0].deleted_at = Some(9 * SECOND + 15 * ms);
    evidence.candidates[0].proven = true;
    evidence.lives[1].start += 20 * ms;
    evidence
}

#[track_caller]
fn broken(harm: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = clean();
    harm(&mut evidence);
    let breaches = check(&evidence).breaches;
    breaches.into_iter().map(|breach| breach.rule).collect()
}

/// The key outlives its daemon by as long as a lease does; the next one follows it.
fn kept(evidence: &mut Evidence) {
    evidence.candidates[0].deleted_at = Some(13 * SECOND);
    evidence.candidates[0].proven = false;
    evidence.lives[1].start = 14 * SECOND;
}

/// The next one's job comes after a take-over delay.
fn late(evidence: &mut Evidence) {
    evidence.lives[1].start = 10 * SECOND;
}

#[test]
fn a_prompt_hand_over_is_timed_and_passes() {
    let verdict = check(&clean());
    assert_eq!(verdict.breaches, []);
    assert_eq!(verdict.given_back, [SECOND / 200]);
    assert_eq!(verdict.followed, [SECOND / 200]);
}

#[test]
fn a_key_that_waits_for_its_ttl_is_caught() {
    assert_eq!(broken(kept), [KEPT]);
    assert_eq!(broken(|e| e.candidates[0].deleted_at = None), [KEPT]);
    let term_only = broken(|e| {
        kept(e);
        e.thrown[0].after = After::EndsTerm;
    });
    assert_eq!(term_only, [KEPT]);
}

#[test]
fn the_key_of_a_killed_waiter_that_waits_for_its_ttl_is_caught() {
    let waiter = |after: After| {
        broken(|e| {
            e.thrown[0].after = after;
            e.thrown[0].replica = Some("b".into());
            e.lives[1].start = 14 * SECOND;
            e.lives[1].token = 13;
            e.candidates[1].deleted_at = Some(13 * SECOND);
            e.candidates[1].deleted = Some(29);
        })
    };
    assert_eq!(waiter(After::Leaves), [KEPT]);
    assert!(waiter(After::EndsTerm).is_empty());
}

#[test]
fn what_needs_not_end_a_candidacy_is_no_reason() {
    for after in [After::GoesOn, After::Lingers] {
        let found = broken(|e| {
            kept(e);
            e.thrown[0].after = after;
        });
        assert!(found.is_empty(), "{after:?}");
    }
    // A job that hangs leaves no sign of its end.
    let hung = broken(|e| {
        kept(e);
        e.lives[0].hung = true;
    });
    assert!(hung.is_empty());
    // Nobody else stands: it may stay.
    let alone = broken(|e| {
        kept(e);
        e.thrown[0].after = After::EndsTerm;
        e.candidates[1].created_at = 10 * SECOND;
    });
    assert!(alone.is_empty());
}

#[test]
fn a_job_that_ends_late_is_no_late_hand_over() {
    let found = broken(|e| {
        e.lives[0].last = 12 * SECOND;
        e.candidates[0].deleted_at = Some(12 * SECOND + 1);
        e.lives[1].start = 12 * SECOND + 2;
    });
    assert!(found.is_empty());
}

#[test]
fn a_late_follower_of_a_proven_end_is_caught() {
    assert_eq!(broken(late), [SLOW]);
    let unproven = broken(|e| {
        late(e);
        e.candidates[0].proven = false;
    });
    assert!(unproven.is_empty());
}

#[test]
fn a_follower_that_was_not_there_yet_or_is_not_ours_may_be_late() {
    let found = broken(|e| {
        late(e);
        e.candidates[1].token = 31;
        e.lives[1].token = 31;
    });
    assert!(found.is_empty());
    let found = broken(|e| {
        late(e);
        e.lives[1].run = -1;
    });
    assert!(found.is_empty());
    // Somebody stood between them, whose job never gave a sign.
    let found = broken(|e| {
        late(e);
        e.candidates.insert(1, candidacy("c", 11, Some(31)));
    });
    assert!(found.is_empty());
}

#[test]
fn only_a_fault_near_it_excuses_a_late_hand_over() {
    let beside = |harm: fn(&mut Evidence), whom: Option<&str>, after: After, from: u64, to: u64| {
        broken(|e| {
            harm(e);
            e.thrown.push(Thrown {
                after,
                replica: whom.map(Into::into),
                ..thrown(false, "", from, to)
            });
        })
    };
    // Of the store, or of whom it concerns.
    assert!(beside(kept, None, After::Lingers, 4, 5).is_empty());
    assert!(beside(late, None, After::Lingers, 4, 5).is_empty());
    assert!(beside(kept, Some("a"), After::Lingers, 4, 5).is_empty());
    assert!(beside(late, Some("b"), After::Lingers, 4, 5).is_empty());
    assert!(beside(late, Some("b"), After::GoesOn, 9, 10).is_empty());
    // Of others, or long ago, or without a trace.
    assert_eq!(beside(kept, Some("c"), After::Lingers, 4, 10), [KEPT]);
    assert_eq!(beside(late, Some("c"), After::Lingers, 4, 10), [SLOW]);
    assert_eq!(beside(kept, None, After::Lingers, 2, 3), [KEPT]);
    assert_eq!(beside(late, None, After::Lingers, 2, 3), [SLOW]);
    assert_eq!(beside(late, Some("b"), After::GoesOn, 4, 5), [SLOW]);
}

#[test]
fn a_patient_machine_may_take_longer() {
    let found = broken(|e| {
        late(e);
        e.patience = 2;
    });
    assert!(found.is_empty());
}

#[test]
fn a_take_over_delay_after_a_proven_end_is_caught_however_patient_the_machine() {
    let delayed = |harm: &dyn Fn(&mut Evidence)| {
        broken(|e| {
            late(e);
            e.patience = 6;
            e.delays.push(("/e/12".into(), 9 * SECOND + SECOND / 50));
            harm(e);
        })
    };
    assert_eq!(delayed(&|_| ()), [SLOW]);
    // Somebody else's, or one of another time.
    assert!(delayed(&|e| e.delays[0].0 = "/e/14".into()).is_empty());
    assert!(delayed(&|e| e.delays[0].1 = 5 * SECOND).is_empty());
    assert!(delayed(&|e| e.delays[0].1 = 11 * SECOND).is_empty());
    // It could not know better.
    let spoilt = Thrown {
        spoils: true,
        ..thrown(false, "c", 2, 3)
    };
    assert!(delayed(&|e| e.thrown.push(spoilt.clone())).is_empty());
    let between = |gone: u64| {
        delayed(&|e| {
            let mut other = candidacy("c", 11, Some(20));
            other.deleted_at = Some(gone);
            e.candidates.insert(1, other);
        })
    };
    assert!(between(9 * SECOND).is_empty());
    assert_eq!(between(7 * SECOND), [SLOW]);
}
