//! What the store has said of itself: which cluster it is, and how far its history goes (R12).

use etcd_client::ResponseHeader;

use super::Error;
use crate::revision::Revision;

/// Cluster, revision and raft term, from one answer or the highest of all so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Id of the cluster; 0 before the first answer.
    pub cluster: u64,
    /// Revision of the store.
    pub revision: Revision,
    /// Raft term of the member that answered.
    pub raft_term: u64,
}

impl From<&ResponseHeader> for Seen {
    fn from(header: &ResponseHeader) -> Self {
        Self {
            cluster: header.cluster_id(),
            revision: Revision::new(header.revision()),
            raft_term: header.raft_term(),
        }
    }
}

impl Seen {
    /// Whether a member that gave this answer is of the same cluster as what was `seen` so far, and
    /// as far: a leader that was deposed while it was frozen doesn't know.
    pub(super) const fn is_current(self, seen: Self) -> bool {
        (seen.cluster == 0 || self.cluster == seen.cluster) && self.raft_term >= seen.raft_term
    }

    /// Takes an answer in; `asked` is what had been seen before a linearizable request was sent.
    ///
    /// The first answer pins the cluster, where there is but one endpoint to ask. Any answer shows that the history goes so far at
    /// least; that it goes no further only a linearizable one does, and only against what was seen before
    /// it was asked for: answers may overtake.
    ///
    /// A linearizable answer of an earlier raft term than was seen before is of another history: within one
    /// it comes from a member that has applied the first entry of the present leader's, whose term is in the
    /// answer. A snapshot that was put back begins with term 1; if it has a revision as high as was seen it counts
    /// as the same store, and its terms are those that renewals are proven by from then on.
    pub(super) fn note(&mut self, answer: Self, asked: Option<Self>) -> Result<(), Error> {
        if self.cluster != 0 && answer.cluster != self.cluster {
            return Err(Error::ClusterChanged(format!(
                "cluster {:x} answered instead of {:x}",
                answer.cluster, self.cluster
            )));
        }
        self.cluster = answer.cluster;
        self.raft_term = self.raft_term.max(answer.raft_term);
        if let Some(asked) = asked
            && answer.revision < asked.revision
        {
            return Err(Error::ClusterChanged(format!(
                "the store is at revision {} after it was at {}: restored from a snapshot?",
                answer.revision, asked.revision
            )));
        }
        self.revision = self.revision.max(answer.revision);
        if asked.is_some_and(|asked| answer.raft_term < asked.raft_term) {
            self.raft_term = answer.raft_term;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cluster: u64, revision: i64, raft_term: u64) -> Seen {
        Seen {
            cluster,
            revision: Revision::new(revision),
            raft_term,
        }
    }

    #[test]
    fn the_first_answer_pins_the_cluster() {
        let mut seen = Seen::default();
        assert!(seen.note(answer(7, 5, 2), None).is_ok());
        assert!(seen.note(answer(8, 9, 2), None).is_err());
        assert!(seen.note(answer(7, 5, 2), None).is_ok());
    }

    #[test]
    fn a_linearizable_answer_may_not_go_back() {
        let mut seen = Seen::default();
        let before = seen;
        assert!(seen.note(answer(7, 5, 2), Some(before)).is_ok());
        let asked = seen;
        assert!(seen.note(answer(7, 4, 2), Some(asked)).is_err());
        assert!(seen.note(answer(7, 5, 2), Some(asked)).is_ok());
    }

    #[test]
    fn who_only_renewed_knows_too_how_far_the_history_went() {
        let mut seen = Seen::default();
        assert!(seen.note(answer(7, 9, 2), None).is_ok());
        let asked = seen;
        assert!(seen.note(answer(7, 5, 2), Some(asked)).is_err());
    }

    #[test]
    fn answers_that_overtake_each_other_are_no_change() {
        let mut seen = Seen::default();
        let first_asked = seen;
        assert!(seen.note(answer(7, 9, 2), Some(seen)).is_ok());
        assert!(seen.note(answer(7, 5, 2), Some(first_asked)).is_ok());
    }

    #[test]
    fn a_stranger_or_a_deposed_leader_is_not_current() {
        assert!(answer(7, 5, 2).is_current(Seen::default()));
        assert!(answer(7, 1, 2).is_current(answer(7, 5, 2)));
        assert!(!answer(7, 5, 1).is_current(answer(7, 5, 2)));
        assert!(!answer(8, 5, 2).is_current(answer(7, 5, 2)));
    }

    #[test]
    fn a_store_that_was_put_back_with_a_higher_revision_counts_its_raft_terms_anew() {
        let mut seen = answer(7, 9, 4);
        let asked = seen;
        // One that doesn't prove that it is the present one may be a member that lags.
        assert!(seen.note(answer(7, 1_009, 2), None).is_ok());
        assert_eq!(seen.raft_term, 4);
        assert!(seen.note(answer(7, 1_009, 2), Some(asked)).is_ok());
        assert_eq!((seen.revision.get(), seen.raft_term), (1_009, 2));
        // Nor does one that was asked before a new leader was heard of.
        let asked = seen;
        assert!(seen.note(answer(7, 1_010, 3), None).is_ok());
        assert!(seen.note(answer(7, 1_010, 2), Some(asked)).is_ok());
        assert_eq!(seen.raft_term, 3);
    }

    #[test]
    fn other_answers_may_lag() {
        let mut seen = answer(7, 9, 4);
        assert!(seen.note(answer(7, 2, 3), None).is_ok());
        assert_eq!((seen.revision.get(), seen.raft_term), (9, 4));
    }
}
