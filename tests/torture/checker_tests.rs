//! A clean history passes, and each rule, broken by itself, is caught.

use crate::checker::Outcome::{Accepted, Refused, Unknown};
use crate::checker::*;
use crate::common::record::Life;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A main process's life.
pub(crate) fn life(token: i64, pid: i32, start: u64, last: u64) -> Life {
    Life {
        token,
        run: pid,
        pid,
        start: start * SECOND,
        last: last * SECOND,
        asked: None,
        ended: false,
        clashed: false,
        hung: false,
    }
}

/// A write in its term, and the state of the counter that it made at this revision.
fn write(token: i64, pid: i32, n: u64, count: u64, revision: i64) -> (Write, Count) {
    let id = (token, pid, n);
    let outcome = Accepted;
    let at = SECOND;
    (
        Write { id, count, outcome },
        Count {
            revision,
            at,
            id,
            number: count,
        },
    )
}

pub(crate) fn candidacy(name: &str, token: i64, deleted: Option<i64>) -> Candidacy {
    Candidacy {
        key: format!("/e/{token}"),
        name: name.into(),
        token,
        deleted,
        created_at: 0,
        deleted_at: None,
        proven: false,
    }
}

pub(crate) fn thrown(excepted: bool, replica: &str, from: u64, to: u64) -> Thrown {
    Thrown {
        name: "a fault".into(),
        excepted,
        ends_leases: false,
        spoils: false,
        after: After::Lingers,
        replica: Some(replica.into()),
        reach: Reach::All,
        from: from * SECOND,
        to: to * SECOND,
    }
}

/// `a` leads with token 10 and two runs, a Go candidate with 11, then `b` with 12.
fn clean() -> Evidence {
    let mut lives = vec![
        life(10, 100, 1, 4),
        life(10, 101, 5, 9),
        life(11, -1, 10, 12),
        life(12, 102, 13, 20),
    ];
    // A child that outlives its main process is part of its run.
    lives.push(Life {
        pid: 200,
        ..life(10, 100, 2, 5)
    });
    lives[1].start += 1;
    let (writes, counts) = [
        write(10, 100, 1, 1, 20),
        write(10, 101, 1, 2, 21),
        write(12, 102, 1, 3, 41),
        write(12, 102, 2, 4, 42),
    ]
    .into_iter()
    .unzip();
    Evidence {
        lives,
        writes,
        counts,
        candidates: vec![
            candidacy("a", 10, Some(30)),
            candidacy("etcdctl-1", 11, Some(40)),
            candidacy("b", 12, None),
        ],
        thrown: vec![thrown(false, "a", 8, 9)],
        heals: vec![Heal {
            at: 12 * SECOND,
            led: Some(13 * SECOND),
            limit: 2 * SECOND,
        }],
        ..Evidence::default()
    }
}

/// The rules that are broken once `harm` is done to a clean history.
#[track_caller]
fn broken(harm: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = clean();
    harm(&mut evidence);
    let verdict = check(&evidence);
    assert_eq!(verdict.excepted, []);
    verdict.breaches.into_iter().map(|b| b.rule).collect()
}

#[test]
fn a_clean_history_passes() {
    assert_eq!(check(&clean()), Verdict::default());
}

#[test]
fn a_beat_of_the_old_term_in_the_new_one_is_caught() {
    assert_eq!(
        broken(|e| e.lives[1].last = 13 * SECOND),
        [OVERLAP, OVERLAP]
    );
    assert_eq!(broken(|e| e.lives[1].last = 10 * SECOND), [OVERLAP]);
}

#[test]
fn a_job_beside_a_go_candidate_that_leads_is_caught() {
    assert_eq!(broken(|e| e.lives[2].last = 14 * SECOND), [OVERLAP]);
}

#[test]
fn a_child_that_outlives_its_run_into_the_next_is_caught() {
    assert_eq!(broken(|e| e.lives[4].last = 6 * SECOND), [OVERLAP]);
}

#[test]
fn a_long_life_under_several_later_ones_is_caught_each_time() {
    let found = broken(|e| e.lives[0].last = 19 * SECOND);
    assert_eq!(found, [OVERLAP; 3]);
}

#[test]
fn a_silent_process_that_holds_the_lock_is_caught() {
    assert_eq!(broken(|e| e.lives[3].clashed = true), [OVERLAP]);
}

#[test]
fn an_overlap_is_excepted_only_by_an_excepted_fault_of_the_old_replica_at_that_time() {
    let overlap = |fault: Thrown| {
        let mut evidence = clean();
        evidence.lives.remove(2);
        evidence.lives[1].last = 14 * SECOND;
        evidence.thrown.push(fault);
        let verdict = check(&evidence);
        (verdict.breaches.len(), verdict.excepted.len())
    };
    assert_eq!(overlap(thrown(true, "a", 11, 15)), (0, 1));
    assert_eq!(overlap(thrown(true, "a", 9, 11)), (0, 1));
    assert_eq!(overlap(thrown(false, "a", 11, 15)), (1, 0));
    assert_eq!(overlap(thrown(true, "b", 11, 15)), (1, 0));
    assert_eq!(overlap(thrown(true, "a", 14, 15)), (1, 0));
    assert_eq!(overlap(thrown(true, "a", 1, 5)), (1, 0));
}

#[test]
fn a_go_candidate_that_waits_for_nothing_is_excused_only_for_a_moment_after_an_early_end() {
    let overlap = |last: u64, later: usize, ends_leases: bool| {
        let mut evidence = clean();
        evidence.lives[1].last = evidence.lives[later].start + last;
        if later == 3 {
            evidence.lives.remove(2);
        }
        evidence.thrown = vec![Thrown {
            ends_leases,
            ..thrown(false, "a", 9, 13)
        }];
        let verdict = check(&evidence);
        (verdict.breaches.len(), verdict.excepted.len())
    };
    assert_eq!(overlap(SECOND / 2, 2, true), (0, 1));
    assert_eq!(overlap(SECOND / 2, 2, false), (1, 0));
    assert_eq!(overlap(SECOND, 2, true), (1, 0));
    assert_eq!(overlap(SECOND / 2, 3, true), (1, 0));
}

#[test]
fn a_token_that_falls_is_caught() {
    let found = broken(|e| {
        e.lives[1].token = 13;
        e.lives[2].token = 14;
    });
    assert_eq!(found, [FALLEN]);
}

#[test]
fn a_write_after_the_end_of_its_term_is_caught() {
    assert_eq!(broken(|e| e.counts[1].revision = 31), [STALE]);
    assert_eq!(broken(|e| e.candidates[0].deleted = Some(21)), [STALE]);
}

#[test]
fn a_write_of_a_candidate_that_is_not_the_first_is_caught() {
    assert_eq!(broken(|e| e.candidates[1].deleted = Some(42)), [STALE]);
    assert_eq!(broken(|e| e.candidates[2].token = 13), [STALE; 2]);
}

#[test]
fn an_accepted_write_that_is_not_in_the_store_is_caught() {
    let found = broken(|e| e.counts.truncate(3));
    assert_eq!(found, [LOST]);
}

#[test]
fn a_write_that_undoes_another_is_caught() {
    // The second term did not see the last write of the first.
    let found = broken(|e| {
        for i in [2, 3] {
            e.writes[i].count -= 1;
            e.counts[i].number -= 1;
        }
    });
    assert_eq!(found, [LOST]);
    let found = broken(|e| {
        e.writes[3].count = 3;
        e.counts[3].number = 3;
    });
    assert_eq!(found, [LOST]);
}

#[test]
fn an_unknown_outcome_within_a_term_is_no_loss_but_beyond_it_is() {
    let unknown = |i: usize| {
        move |e: &mut Evidence| {
            e.writes[i].outcome = Unknown;
            for j in [i, i + 1] {
                e.writes[j].count = 9;
                e.counts[j].number = 9;
            }
        }
    };
    assert!(broken(|e| e.writes[3].outcome = Unknown).is_empty());
    assert_eq!(broken(unknown(1)), [LOST; 2]);
}

#[test]
fn a_refused_write_that_is_in_the_store_is_caught() {
    let found = broken(|e| e.writes[1].outcome = Refused);
    assert_eq!(found, [REFUSED]);
}

#[test]
fn a_write_that_nobody_made_or_that_came_twice_is_caught() {
    assert_eq!(broken(|e| e.writes.retain(|w| w.id.1 != 101)), [UNHEARD]);
    let found = broken(|e| {
        let again = Count {
            revision: 43,
            ..e.counts[3]
        };
        e.counts.push(again);
    });
    assert_eq!(found, [UNHEARD, LOST]);
}

#[test]
fn a_late_leader_and_none_at_all_are_caught() {
    assert_eq!(broken(|e| e.heals[0].led = Some(15 * SECOND)), [LEADERLESS]);
    assert_eq!(broken(|e| e.heals[0].led = None), [LEADERLESS]);
}

#[test]
fn a_writer_that_outlives_its_term_is_caught_when_it_is_heard() {
    let late = |outcome: Outcome, revision: i64| {
        broken(|e| {
            let (write, count) = write(10, 900, 1, 1, revision);
            e.late_writes.push(Write { outcome, ..write });
            e.late_counts.push(count);
        })
    };
    assert!(late(Accepted, 29).is_empty());
    assert!(late(Unknown, 29).is_empty());
    assert_eq!(late(Accepted, 31), [STALE]);
    assert_eq!(late(Refused, 29), [REFUSED]);
    let found = broken(|e| e.late_writes.push(write(10, 900, 1, 1, 29).0));
    assert_eq!(found, [LOST]);
}

#[test]
fn an_old_term_that_starts_another_run_is_excused_as_its_overlap_is() {
    let fallen = |fault: Thrown| {
        let mut evidence = clean();
        // A run of term 10, after the first of term 12 and while that one lives.
        evidence.lives.remove(2);
        evidence.lives.push(life(10, 103, 15, 16));
        evidence.thrown.push(fault);
        let verdict = check(&evidence);
        (verdict.breaches.len(), verdict.excepted.len())
    };
    assert_eq!(fallen(thrown(true, "a", 10, 16)), (0, 2));
    assert_eq!(fallen(thrown(true, "b", 10, 16)), (2, 0));
    assert_eq!(fallen(thrown(false, "a", 10, 16)), (2, 0));
}

#[test]
fn leftovers_and_odd_ends_are_caught() {
    assert_eq!(broken(|e| e.leftovers.push("a lease".into())), [LEFT]);
    assert_eq!(broken(|e| e.odd_ends.push((1, "exit 101".into()))), [ENDED]);
}

#[test]
fn the_record_of_writes_is_read_as_the_jobs_write_it() {
    let text = "try 10 100 1 1\naccepted 10 100 1 1\ntry 10 100 2 2\nrefused 10 100 2 2\n\
                try 12 102 1 2\nunknown 12 102 1 2\ntry 12 102 2 3\n";
    let outcomes: Vec<_> = parse_writes(text).iter().map(|w| w.outcome).collect();
    assert_eq!(outcomes, [Accepted, Refused, Unknown, Unknown]);
}

#[test]
fn a_replica_that_stays_out_is_caught() {
    let back = |stood: Option<u64>| {
        broken(|e| {
            e.returns.push(Return {
                replica: "a".into(),
                healed: 12 * SECOND,
                stood: stood.map(|at| at * SECOND),
                limit: 16 * SECOND,
            });
        })
    };
    assert_eq!(back(None), [ABSENT]);
    assert_eq!(back(Some(29)), [ABSENT]);
    assert!(back(Some(28)).is_empty());
}

#[test]
fn a_panic_is_caught() {
    let line = "a: thread 'contest' panicked at src/etcd.rs".to_owned();
    assert_eq!(broken(|e| e.panics.push((SECOND, line))), [PANIC]);
    let lines = [
        "thread 'contest' (4711) panicked at src/etcd.rs:7:5:",
        r#"{"level":"ERROR","message":"panicked","thread":"guardian"}"#,
    ];
    assert!(lines.into_iter().all(tells_of_a_panic));
    assert!(!tells_of_a_panic(
        r#"{"level":"WARN","message":"term lost"}"#
    ));
}

#[test]
fn a_job_that_nobody_names_is_caught() {
    let wait = |named: Option<u64>| {
        broken(|e| {
            e.waits.push(Wait {
                at: SECOND,
                replica: "a".into(),
                pid: 100,
                blow: "job frozen".into(),
                named: named.map(|at| at * SECOND),
                limit: 6 * SECOND,
            });
        })
    };
    assert_eq!(wait(None), [SILENT]);
    assert_eq!(wait(Some(8)), [SILENT]);
    assert!(wait(Some(7)).is_empty());
}
