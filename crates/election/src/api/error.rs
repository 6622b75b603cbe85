//! What can go wrong, to match on.

use std::io;
use std::sync::Arc;

use crate::election;
use crate::etcd::Error;
use crate::etcd::patience::Failure;
use crate::keys::NotAPrefix;
use crate::kv;
use crate::session::Loss;
use crate::term;

/// The options can't be meant so.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no endpoint.
    #[error("no endpoint is named")]
    NoEndpoint,
    /// An endpoint is no URL.
    #[error("{0:?} is no endpoint: expected http://host:port or https://host:port")]
    Endpoint(String),
    /// A certificate without its key, or a key without its certificate.
    #[error("{missing} is missing: a certificate and its key go together")]
    TlsPair {
        /// What is missing.
        missing: &'static str,
    },
    /// A limit within which nothing can be done.
    #[error("{0} is zero")]
    Zero(&'static str),
    /// A TTL that etcd doesn't grant: expected whole seconds, 2 or more.
    #[error("a ttl of {0:?}: expected whole seconds, from 2 s to 9,000,000,000 s")]
    Ttl(std::time::Duration),
    /// The TTL, or the one that etcd granted, has no room for the graces; says what would help.
    #[error("{0}")]
    NoRoom(String),
    /// The takeover delay is too short for the kill budget.
    #[error("a takeover delay of {delay:?}: expected {least:?} or more, by the kill budget")]
    TakeoverDelay {
        /// As it was given.
        delay: std::time::Duration,
        /// The shortest.
        least: std::time::Duration,
    },
    /// There is no thread, or no runtime, to be had.
    #[error("no thread for the client")]
    Thread(#[source] Arc<io::Error>),
}

/// Why a campaign ended without a term. The key is withdrawn.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CampaignError {
    /// The candidacy was lost: campaign again.
    #[error("the candidacy was lost")]
    Lost(#[source] Loss),
    /// No lease was to be had: campaign again if that [may pass](Error::may_pass).
    #[error("no lease")]
    NoLease(#[source] Error),
    /// The leader was asked to step down for one behind this candidate: campaign again, behind that.
    #[error("making way for the one that is to lead")]
    MakeWay,
    /// The store's memory rules it out, and an operator has to look: it tells of a token that could
    /// only come after this one.
    #[error("refusing to lead: {0}")]
    Refused(String),
    /// The options can't be meant so.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No election is held under such a prefix.
    #[error(transparent)]
    Prefix(#[from] NotAPrefix),
}

impl CampaignError {
    /// Whether another campaign may come to something.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Lost(Loss::ClusterChanged(_) | Loss::Refused(_))
            | Self::Refused(_)
            | Self::Options(_)
            | Self::Prefix(_) => false,
            Self::NoLease(error) => error.may_pass(),
            Self::Lost(_) | Self::MakeWay => true,
        }
    }
}

impl From<election::CampaignError> for CampaignError {
    fn from(error: election::CampaignError) -> Self {
        match error {
            election::CampaignError::Lost(loss) => Self::Lost(loss),
            election::CampaignError::MakeWay => Self::MakeWay,
            election::CampaignError::Prefix(error) => Self::Prefix(error),
            refused @ election::CampaignError::SessionTaken => Self::Refused(refused.to_string()),
            election::CampaignError::Refused(why) => Self::Refused(why),
        }
    }
}

/// Why a term ends. The work has to end too, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ending {
    /// It is lost, or its certain time is nearly over.
    #[error("lost")]
    Lost(#[source] Loss),
    /// An operator asked for it, and another is there to lead.
    #[error("asked to step down")]
    StepDown,
    /// The election was paused.
    #[error("the election is paused")]
    Paused,
    /// This program resigns.
    #[error("resigning")]
    Stopping,
}

/// A term was not given back, or nobody confirmed it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResignError {
    /// So many clones of the [`Term`](super::Term) were left at the deadline: as many as may still
    /// work. Nothing was given back; renewals have ended, and the TTL decides.
    #[error("not resigned: {0} clones of the term are left, and may work yet")]
    StillWorking(usize),
    /// Etcd confirmed nothing in time, or refused. Where it was not done, the TTL decides.
    #[error("resigned, and not confirmed")]
    Unconfirmed(#[source] Error),
    /// The client's thread has ended.
    #[error("not resigned: the client is gone")]
    Gone,
}

/// A write was not done, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The term is over; nothing was written.
    #[error("not the leader: the term is over")]
    NotLeader,
    /// The key is the election's own, and would block it; nothing was written.
    #[error("{key:?} is the election's own, and would block it; nothing was written")]
    Blocks {
        /// The key.
        key: String,
    },
    /// Nobody answered in time what comes before a write: nothing was written.
    #[error("etcd was not reached; nothing was written")]
    Unreached(#[source] Error),
    /// Nobody answered in time: it may be applied, now or later; a term's, if that still is then. Or
    /// somebody else has written the key since, and it may have been applied before.
    #[error("no answer; it may be written")]
    Unknown(#[source] Error),
    /// Etcd refuses it; nothing was written.
    #[error("refused; nothing was written")]
    Refused(#[source] Error),
    /// The client's thread has ended.
    #[error("the client is gone; it may be written")]
    Gone,
}

/// Of writes that no term guards.
impl From<kv::Error> for WriteError {
    fn from(error: kv::Error) -> Self {
        let last = |failure| match failure {
            Failure::TimedOut { last, .. } | Failure::Store(last) => last,
        };
        match error {
            kv::Error::Store(Failure::Store(error)) if !error.may_pass() => Self::Refused(error),
            kv::Error::Store(failure) => Self::Unreached(last(failure)),
            kv::Error::InDoubt(failure) => Self::Unknown(last(failure)),
            kv::Error::Overwritten(error) => Self::Unknown(error),
            kv::Error::NotLeader { .. }
            | kv::Error::Overtaken { .. }
            // Only the close of a run ends so, and no write of the interface is one.
            | kv::Error::NotOpen { .. }
            | kv::Error::NoRecord => Self::NotLeader,
            kv::Error::Compacted { oldest, .. } => Self::Refused(Error::Compacted { oldest }),
        }
    }
}

impl From<term::WriteError> for WriteError {
    fn from(error: term::WriteError) -> Self {
        match error {
            term::WriteError::NotLeader => Self::NotLeader,
            term::WriteError::Blocks { key } => Self::Blocks { key },
            term::WriteError::Store(error) if !error.leaves_doubt() => Self::Refused(error),
            term::WriteError::Store(error) => Self::Unknown(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use super::*;

    /// Each text of an error and of what it came of.
    fn chain(error: &dyn std::error::Error) -> Vec<String> {
        let mut texts = vec![error.to_string()];
        let mut source = error.source();
        while let Some(deeper) = source {
            texts.push(deeper.to_string());
            source = deeper.source();
        }
        texts
    }

    fn refusal() -> Error {
        Error::Refused {
            endpoint: "http://a:1".to_owned(),
            reason: "permission denied".to_owned(),
        }
    }

    #[test]
    fn each_error_tells_its_own_part_and_has_the_rest_as_its_source() {
        let errors: [(&dyn std::error::Error, usize); 7] = [
            (&CampaignError::Lost(Loss::Refused(refusal())), 3),
            (&CampaignError::Lost(Loss::Expired), 2),
            (&CampaignError::NoLease(refusal()), 2),
            (&Ending::Lost(Loss::Refused(refusal())), 3),
            (&WriteError::Unknown(refusal()), 2),
            (&ResignError::Unconfirmed(refusal()), 2),
            (&OptionsError::Thread(Arc::new(io::Error::other("none"))), 2),
        ];
        for (error, parts) in errors {
            let texts = chain(error);
            assert_eq!(texts.len(), parts, "{texts:?}");
            for (at, text) in texts.iter().enumerate() {
                let above = &texts[..at];
                assert!(!above.iter().any(|it| it.contains(text)), "{texts:?}");
            }
        }
        let error = CampaignError::Lost(Loss::Refused(refusal()));
        let loss = error.source().unwrap().downcast_ref::<Loss>().unwrap();
        assert!(loss.source().unwrap().downcast_ref::<Error>().is_some());
    }

    #[test]
    fn a_write_that_another_cluster_answered_may_be_written() {
        let answered = |error: Error| WriteError::from(term::WriteError::Store(error));
        let changed = Error::ClusterChanged("its history is another".to_owned());
        for error in [
            answered(changed.clone()),
            kv::Error::InDoubt(changed.clone().into()).into(),
        ] {
            assert_eq!(error, WriteError::Unknown(changed.clone()));
        }
        assert_eq!(answered(refusal()), WriteError::Refused(refusal()));
        assert!(changed.leaves_doubt() && !refusal().leaves_doubt());
    }

    #[test]
    fn graces_without_room_are_told_in_the_names_of_the_interface() {
        let second = Duration::from_secs(1);
        let timing = crate::timing::Timing::new(5 * second, 3 * second, 3 * second);
        let advice = timing.check().unwrap_err();
        let told = advice.in_words_of_the_options();
        assert!(told.contains("raise ttl to "), "{told}");
        assert!(!told.contains("election.") && !told.contains("job."));
        let daemons = advice.to_string();
        assert_eq!(
            told,
            daemons.replace("election.", "").replace("job.", ""),
            "{daemons}"
        );
    }
}
