//! Where jobs are led: spread over the hosts when they start, and later by who leads better.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;
use crate::keys::LeaseId;

mod preference;
mod sight;

pub(super) use preference::hand_over;
pub(super) use sight::{Sight, Starting, delay};

/// From one place in the order of hosts to the next: several times what a claim takes.
const STEP: Duration = Duration::from_millis(300);

/// How many of the hosts in sight come before `own` for the job with this election: first those that
/// it prefers, then by rendezvous hashing, which deals jobs out evenly, and each host's own way for
/// each, whoever else is there.
fn rank(election: &str, own: &str, hosts: &[String], prefer: &[String]) -> u32 {
    let place = |host: &str| {
        let preferred = prefer.iter().position(|name| name == host);
        let score = score(election, host);
        (
            preferred.unwrap_or(usize::MAX),
            std::cmp::Reverse(score),
            host.to_owned(),
        )
    };
    let ours = place(own);
    let others = hosts.iter().filter(|host| *host != own);
    let before = others.filter(|host| place(host) < ours).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// How much a host is for a job: FNV-1a of both, mixed so that all bits count.
fn score(election: &str, host: &str) -> u64 {
    let text = election.bytes().chain([0]).chain(host.bytes());
    let hash = text.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
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

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("host-{at}")).collect()
    }

    #[test]
    fn every_host_has_a_place_of_its_own_and_the_preferred_the_first() {
        let hosts = names(5);
        let prefer = [
            "host-3".to_owned(),
            "host-1".to_owned(),
            "absent".to_owned(),
        ];
        for job in 0..50 {
            let election = format!("/jobs/{job}");
            let mut ranks: Vec<_> = hosts
                .iter()
                .map(|host| rank(&election, host, &hosts, &[]))
                .collect();
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3, 4]);
            assert_eq!(rank(&election, "host-3", &hosts, &prefer), 0);
            assert_eq!(rank(&election, "host-1", &hosts, &prefer), 1);
            assert_eq!(
                rank(&election, "host-3", &[], &[]),
                0,
                "nobody else is in sight"
            );
        }
    }

    #[test]
    fn jobs_are_dealt_out_evenly_and_those_of_a_host_that_goes_over_all_others() {
        let hosts = names(5);
        let first = |job: usize, hosts: &[String]| {
            let election = format!("/jobs/{job}");
            let is_first = |host: &&String| rank(&election, host, hosts, &[]) == 0;
            hosts.iter().find(is_first).unwrap().clone()
        };
        let mut led: BTreeMap<String, usize> = BTreeMap::new();
        let mut inherited: BTreeMap<String, usize> = BTreeMap::new();
        for job in 0..1000 {
            let leader = first(job, &hosts);
            *led.entry(leader.clone()).or_default() += 1;
            let left = first(job, &hosts[1..]);
            if leader == hosts[0] {
                *inherited.entry(left).or_default() += 1;
            } else {
                assert_eq!(left, leader, "only those of the host that went move");
            }
        }
        assert!(
            led.len() == 5 && led.values().all(|count| (150..250).contains(count)),
            "{led:?}"
        );
        assert!(
            inherited.len() == 4 && inherited.values().all(|count| *count > 30),
            "{inherited:?}"
        );
    }

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
