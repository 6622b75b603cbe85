//! Which term is to go over to who should lead: between runs, and one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;
use crate::keys::LeaseId;

/// From one look at the queues to the next, at most; and the part of the patience that it is.
const ROUND: Duration = Duration::from_secs(30);
const PART: u32 = 5;

/// Who the wishes are by that terms go over.
pub(crate) const BY: &str = "job.prefer";

/// From one hand-over to the next.
pub(crate) const PAUSE: Duration = Duration::from_mins(1);

/// What this replica has seen of those who wait for the jobs that it leads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preference {
    /// By election.
    waiters: BTreeMap<String, Waiters>,
    /// When a term was last asked to go over to another.
    last: Option<Instant>,
}

/// A job that this replica leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LedJob<'a> {
    pub(crate) election: &'a str,
    /// The name of this replica.
    pub(crate) own: &'a str,
    /// Who should lead, the first before the second.
    pub(crate) prefer: &'a [String],
    /// How long one that is preferred is to have waited.
    pub(crate) patience: Duration,
    /// Whether a run goes on, or is claimed.
    pub(crate) in_run: bool,
}

/// Whether another one than `own` might be preferred.
pub(crate) fn may_be_better_led(own: &str, prefer: &[String]) -> bool {
    prefer.first().is_some_and(|first| first != own)
}

/// How long it is from one look to the next, by the patience of each job.
pub(crate) fn round(patience: impl Iterator<Item = Duration>) -> Duration {
    let shortest = patience.map(|it| it / PART).min();
    shortest.unwrap_or(ROUND).min(ROUND)
}

impl Preference {
    /// Forgets who waits for other jobs than those of these elections.
    pub(crate) fn keep(&mut self, is_led: impl Fn(&str) -> bool) {
        self.waiters.retain(|election, _| is_led(election));
    }

    /// Takes note of those who stand in the queue of `job` now; returns whom the term is to go over to.
    pub(crate) fn successor(
        &mut self,
        now: Instant,
        job: LedJob<'_>,
        queue: &[(LeaseId, String)],
    ) -> Option<LeaseId> {
        let known = self.waiters.entry(job.election.to_owned()).or_default();
        let better = known.better(now, job.own, queue, job.prefer, job.patience)?;
        let is_soon = self.last.is_some_and(|last| now.since(last) < PAUSE);
        (!is_soon && !job.in_run).then_some(better)
    }

    /// A term was asked to go over.
    pub(crate) const fn asked(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// Who waits for a job, and since when: as this replica has seen it, by its own clock.
#[derive(Clone, Debug, Default)]
struct Waiters(BTreeMap<LeaseId, Instant>);

impl Waiters {
    /// Takes note of those who stand in the queue now, `own` the name of who leads; returns the one that
    /// should lead in its place, and has stood there for `patience`.
    fn better(
        &mut self,
        now: Instant,
        own: &str,
        queue: &[(LeaseId, String)],
        prefer: &[String],
        patience: Duration,
    ) -> Option<LeaseId> {
        self.0
            .retain(|lease, _| queue.iter().any(|(known, _)| known == lease));
        for (lease, _) in queue {
            self.0.entry(*lease).or_insert(now);
        }
        let place = |name: &str| prefer.iter().position(|known| known == name);
        let ours = place(own).unwrap_or(usize::MAX);
        let better = queue.iter().filter_map(|(lease, name)| {
            let since = self.0.get(lease)?;
            let has_waited = now.since(*since) >= patience;
            Some((place(name).filter(|at| *at < ours && has_waited)?, *lease))
        });
        better.min().map(|(_, lease)| lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_preferred_is_better_once_it_has_waited_without_a_break() {
        let lease = |id| LeaseId::new(id).unwrap();
        let queue = |waits: &[(i64, &str)]| -> Vec<_> {
            let all = waits.iter();
            all.map(|(id, name)| (lease(*id), (*name).to_owned()))
                .collect()
        };
        let prefer = ["a".to_owned(), "b".to_owned()];
        let patience = Duration::from_mins(5);
        let at = |seconds| Instant::BOOT + Duration::from_secs(seconds);
        let mut waiters = Waiters::default();
        let mut better = |seconds, own: &str, waits: &[(i64, &str)]| {
            waiters.better(at(seconds), own, &queue(waits), &prefer, patience)
        };
        assert_eq!(better(1000, "c", &[(1, "c"), (2, "b")]), None);
        assert_eq!(better(1200, "c", &[(1, "c"), (2, "b"), (3, "a")]), None);
        assert_eq!(
            better(1300, "c", &[(1, "c"), (2, "b"), (3, "a")]),
            Some(lease(2))
        );
        assert_eq!(
            better(1500, "c", &[(1, "c"), (2, "b"), (3, "a")]),
            Some(lease(3))
        );
        assert_eq!(better(1500, "b", &[(1, "b"), (3, "a")]), Some(lease(3)));
        assert_eq!(
            better(1500, "a", &[(1, "a"), (2, "b")]),
            None,
            "nobody is better"
        );
        // One that was away begins anew.
        assert_eq!(better(1600, "c", &[(1, "c")]), None);
        assert_eq!(better(1700, "c", &[(1, "c"), (3, "a")]), None);
        assert_eq!(better(1999, "c", &[(1, "c"), (3, "a")]), None);
        assert_eq!(better(2000, "c", &[(1, "c"), (3, "a")]), Some(lease(3)));
    }
}
