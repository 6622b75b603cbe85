//! Who of the Go candidates that this run started must be ended by it, since nobody else does: dead ones
//! that left a key, and a living one that stands first and never leads.
//!
//! `etcdctl elect` may wait for ever for an event that it has missed, and renews its lease all the
//! while; a write of a dead one may be applied late. Either would keep everybody out, which says nothing of the
//! replicas. Whatever stands first under another name is none of these, and stays.

use std::time::Duration;

use crate::faults::nanos;

/// How the names of Go candidates begin; a number follows.
pub(crate) const NAME: &str = "etcdctl-";

/// How long a living one may stand first without leading. (A replica that follows still leads in time.)
pub(crate) const HUNG: Duration = Duration::from_secs(5);

/// One key in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) token: i64,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Burial {
    /// The keys of dead ones.
    pub(crate) left: Vec<String>,
    /// The living one does not go on.
    pub(crate) hung: bool,
}

/// Looks at the queue again and again.
#[derive(Debug, Default)]
pub(crate) struct Undertaker {
    /// The token of the living one, and since when it has been seen first.
    first: Option<(i64, u64)>,
}

impl Undertaker {
    /// `living` is the name of the one that runs, until it leads.
    pub(crate) fn look(
        &mut self,
        queue: &[Standing],
        living: Option<&str>,
        leads: bool,
        now: u64,
    ) -> Burial {
        let first = queue.iter().min_by_key(|it| it.token);
        let first = first.filter(|it| living == Some(it.name.as_str()) && !leads);
        let same = self
            .first
            .filter(|(token, _)| first.is_some_and(|it| it.token == *token));
        self.first = first.map(|it| same.unwrap_or((it.token, now)));
        let dead = |it: &&Standing| it.name.starts_with(NAME) && living != Some(it.name.as_str());
        Burial {
            left: queue.iter().filter(dead).map(|it| it.key.clone()).collect(),
            hung: self
                .first
                .is_some_and(|(_, since)| now - since > nanos(HUNG)),
        }
    }

    /// The queue could not be read: then a candidate that waits for news may have got none either.
    pub(crate) fn forget(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn queue(names: &[&str]) -> Vec<Standing> {
        let standing = |(token, name): (i64, &&str)| Standing {
            key: format!("/e/{token}"),
            name: (*name).to_owned(),
            token,
        };
        (1..).zip(names).map(standing).collect()
    }

    /// Looks once a second; the first look, if any, that finds the living one hung.
    fn hung_at(names: &[&str], living: &str, leads: bool) -> Option<u64> {
        let mut undertaker = Undertaker::default();
        let mut seconds = 0..20;
        seconds.find(|s| {
            let look = undertaker.look(&queue(names), Some(living), leads, s * SECOND);
            look.hung
        })
    }

    #[test]
    fn one_that_stands_first_and_never_leads_is_hung() {
        assert_eq!(hung_at(&["etcdctl-4", "r1"], "etcdctl-4", false), Some(6));
    }

    #[test]
    fn one_that_leads_or_waits_behind_another_is_not() {
        assert_eq!(hung_at(&["etcdctl-4", "r1"], "etcdctl-4", true), None);
        assert_eq!(hung_at(&["r1", "etcdctl-4"], "etcdctl-4", false), None);
    }

    #[test]
    fn a_replica_that_stands_first_and_does_not_lead_is_left_to_be_judged() {
        let mut undertaker = Undertaker::default();
        for s in 0..20 {
            let queue = queue(&["r1", "etcdctl-4", "stranger"]);
            let look = undertaker.look(&queue, Some("etcdctl-4"), false, s * SECOND);
            assert_eq!(look, Burial::default());
        }
    }

    #[test]
    fn the_time_begins_anew_with_another_key_and_with_a_queue_that_can_not_be_read() {
        let mut undertaker = Undertaker::default();
        let look = |undertaker: &mut Undertaker, token: i64, s: u64| {
            let mut queue = queue(&["etcdctl-4"]);
            queue[0].token = token;
            undertaker
                .look(&queue, Some("etcdctl-4"), false, s * SECOND)
                .hung
        };
        assert!(!look(&mut undertaker, 3, 0));
        assert!(!look(&mut undertaker, 4, 6));
        assert!(look(&mut undertaker, 4, 12));
        undertaker.forget();
        assert!(!look(&mut undertaker, 4, 13));
    }

    #[test]
    fn keys_of_dead_ones_are_found_wherever_they_stand() {
        let found = |living: Option<&str>| {
            let queue = queue(&["etcdctl-3", "r1", "etcdctl-4", "etcdctl-5"]);
            Undertaker::default().look(&queue, living, false, 0).left
        };
        assert_eq!(found(Some("etcdctl-4")), ["/e/1", "/e/4"]);
        assert_eq!(found(None), ["/e/1", "/e/3", "/e/4"]);
    }
}
