//! The guard of writes inside a job: they are refused once the job's term is over.

use std::ffi::OsString;

use etcd_client::{Compare, CompareOp, TxnOp, TxnResponse};

use crate::etcd::reads;
use crate::keys::{LeaseId, Prefix};
use crate::revision::Token;
use crate::schedule::{Occasion, RunId};

/// The variable with the job's fencing token.
const TOKEN: &str = "INCUMBENT_TOKEN";

/// The variable with the leader's key.
const LEADER_KEY: &str = "INCUMBENT_LEADER_KEY";

/// The variables of a job in which its run finds itself.
const ELECTION: &str = "INCUMBENT_ELECTION";
const LEASE: &str = "INCUMBENT_LEASE";
const SLOT: &str = "INCUMBENT_SLOT";
const ATTEMPT: &str = "INCUMBENT_ATTEMPT";
const RUN: &str = "INCUMBENT_RUN";

/// What a write is tied to: the leader's key, as the term created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteGuard {
    key: String,
    token: Token,
}

/// The job's variables are there, and make no guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGuard {
    /// The token is no fencing token.
    #[error("{TOKEN} is no fencing token, which is a positive number; nothing was written")]
    Token,
    /// The key is no text.
    #[error("{LEADER_KEY} is no text; nothing was written")]
    Key,
}

impl WriteGuard {
    /// The guard that the daemon gave its job along; `None` outside of a job.
    ///
    /// # Errors
    /// Fails rather than let a write through unguarded that was meant to be guarded.
    pub fn of_job(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, BadGuard> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let (Some(token), Some(key)) = (given(TOKEN), given(LEADER_KEY)) else {
            return Ok(None);
        };
        let token = token.to_str().and_then(|text| text.parse().ok());
        let token = token.and_then(Token::new);
        Ok(Some(Self {
            key: key.into_string().map_err(|_| BadGuard::Key)?,
            token: token.ok_or(BadGuard::Token)?,
        }))
    }

    /// The term's token.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The condition that the term is not over.
    pub(super) fn holds(&self) -> Compare {
        Compare::create_revision(self.key.as_str(), CompareOp::Equal, self.token.get())
    }

    /// The read that tells whether it was this condition that failed, where there are others.
    pub(super) fn look(&self) -> TxnOp {
        TxnOp::get(self.key.as_str(), None)
    }

    /// Whether the guard held, as [`look`](Self::look) in a transaction that failed tells.
    pub(super) fn held(&self, answer: &TxnResponse) -> bool {
        // Another read may follow it.
        reads::firsts(answer)
            .flatten()
            .any(|leader| leader.key() == self.key.as_bytes() && Token::of(&leader) == self.token)
    }
}

/// The run that a job is, where it has a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunGuard {
    pub(super) prefix: Prefix,
    pub(super) lease: LeaseId,
    pub(super) id: RunId,
}

/// There is no run to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRun {
    /// A variable is missing that each run of a scheduled job has.
    #[error("it closes a run of a job with a schedule, and {0} is not set here")]
    NotThere(&'static str),
    /// A variable isn't what a run has there.
    #[error("it closes a run of a job with a schedule, and {0} is not what one has")]
    Odd(&'static str),
}

impl RunGuard {
    /// The run that the daemon told its job of.
    ///
    /// # Errors
    /// Outside of a scheduled run.
    pub fn of_job(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, NoRun> {
        let text = |name: &'static str| {
            let value = variable(name).filter(|value| !value.is_empty());
            let value = value.ok_or(NoRun::NotThere(name))?;
            value.into_string().map_err(|_| NoRun::Odd(name))
        };
        // What an unscheduled job hasn't got comes first.
        let slot = text(SLOT)?;
        let attempt = text(ATTEMPT)?;
        let token = text(TOKEN)?.parse().ok().and_then(Token::new);
        let prefix = text(ELECTION)?;
        let lease = text(LEASE)?;
        Ok(Self {
            prefix: Prefix::checked(prefix).map_err(|_| NoRun::Odd(ELECTION))?,
            lease: lease.parse().map_err(|_| NoRun::Odd(LEASE))?,
            id: RunId {
                slot: Occasion::try_from(slot).map_err(|_| NoRun::Odd(SLOT))?,
                attempt: attempt.parse().map_err(|_| NoRun::Odd(ATTEMPT))?,
                token: token.ok_or(NoRun::Odd(TOKEN))?,
                // An older daemon doesn't tell.
                nonce: text(RUN).ok(),
            },
        })
    }

    /// The election that it runs in.
    pub const fn election(&self) -> &Prefix {
        &self.prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(token: Option<&str>, key: Option<&str>) -> Result<Option<WriteGuard>, BadGuard> {
        WriteGuard::of_job(|name| match name {
            TOKEN => token.map(OsString::from),
            LEADER_KEY => key.map(OsString::from),
            _ => None,
        })
    }

    #[test]
    fn a_guard_takes_both_variables() {
        assert_eq!(of(None, None), Ok(None));
        assert_eq!(of(Some("7"), None), Ok(None));
        assert_eq!(of(None, Some("/e/1f")), Ok(None));
        assert_eq!(of(Some("7"), Some("")), Ok(None));
        let guard = of(Some("7"), Some("/e/1f")).unwrap().unwrap();
        assert_eq!(guard.token().get(), 7);
    }

    #[test]
    fn a_bad_token_is_no_way_round_the_guard() {
        for token in ["x", "0", "-1", "7 ", "99999999999999999999"] {
            assert_eq!(of(Some(token), Some("/e/1f")), Err(BadGuard::Token));
        }
    }
}
