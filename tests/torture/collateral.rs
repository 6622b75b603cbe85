//! Decides whether what befell one of a daemon's jobs cost another of them its place: its term, or its
//! stand in the queue.

use crate::checker::{Breach, Candidacy, Reach, Thrown, breach};
use crate::elections::Election;

pub(crate) const COLLATERAL: &str = "a fault of one job ended the stand of another";

/// How long after its end a fault may still be why a stand ends: as long as a lease that is not renewed
/// lasts, and whoever waits for it.
const LINGERS: u64 = 8_000_000_000;

/// How long after its end one that hit another job is looked at.
const AFTERMATH: u64 = 3_000_000_000;

/// Adds the stands that ended so to the breaches; returns how many there were that such a fault was thrown
/// beside and nothing else, so that an end could only have been its doing.
pub(crate) fn check(
    several: &[(Election, Vec<Candidacy>)],
    thrown: &[Thrown],
    breaches: &mut Vec<Breach>,
) -> usize {
    let mut beside = 0;
    for (of, stands) in several {
        for stand in stands {
            let (mut alone, mut blamed) = (false, None);
            for fault in thrown {
                let over = fault.to.saturating_add(AFTERMATH);
                let ended = stand
                    .deleted_at
                    .filter(|at| fault.from <= *at && *at <= over);
                let stood = stand.created_at < fault.from
                    && stand.deleted_at.is_none_or(|at| fault.from <= at);
                let elsewhere = matches!(fault.reach, Reach::Job(other) if other != *of)
                    && fault.replica.as_ref().is_none_or(|hit| *hit == stand.name);
                if !elsewhere || !stood {
                    continue;
                }
                let until = ended.unwrap_or(over);
                if !is_explained(thrown, *of, &stand.name, fault.from, until) {
                    alone = true;
                    blamed = ended.map(|at| (at, fault)).or(blamed);
                }
            }
            beside += usize::from(alone);
            if let Some((at, fault)) = blamed {
                let what = format!("{of:?}: {stand:?}\n    by {fault:?}");
                breaches.push(breach(COLLATERAL, at, what));
            }
        }
    }
    beside
}

/// Whether something else that may end this replica's stand in this election happened then, or lately: to
/// the store, to the whole daemon, or to the job.
fn is_explained(thrown: &[Thrown], of: Election, name: &String, from: u64, until: u64) -> bool {
    thrown.iter().any(|fault| {
        let reaches = match fault.reach {
            Reach::Nobody => false,
            Reach::Job(own) => own == of,
            Reach::All => true,
        };
        let here = fault.replica.as_ref().is_none_or(|hit| hit == name);
        reaches && here && fault.from <= until && from <= fault.to.saturating_add(LINGERS)
    })
}
