//! In which order hosts join the queues of jobs that start cold.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::term::record::Turn;

/// From one place in the order of hosts to the next: several times what a claim takes.
const STEP: Duration = Duration::from_millis(300);

/// What a host has seen of the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Glimpse {
    /// Their names.
    pub(crate) hosts: Vec<String>,
    /// The elections where somebody stands.
    pub(crate) taken: BTreeSet<String>,
}

impl Glimpse {
    /// Whose turn it is for the job with this election; none where nobody is in sight, or somebody stands
    /// for it.
    pub(crate) fn turn(&self, election: &str, own: &str, prefer: &[String]) -> Option<Turn> {
        if self.hosts.is_empty() || self.taken.contains(election) {
            return None;
        }
        Some(Turn {
            rank: rank(election, own, &self.hosts, prefer),
            hosts: u32::try_from(self.hosts.len()).unwrap_or(u32::MAX),
        })
    }
}

/// How long a job is to be left to those whose turn comes before.
pub(crate) const fn delay(turn: Turn) -> Duration {
    STEP.saturating_mul(turn.rank)
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
}
