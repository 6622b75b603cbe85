//! The guard of writes inside a job: they are refused once the job's term is over.

use std::ffi::OsString;

use etcd_client::{Compare, CompareOp, TxnOp, TxnOpResponse, TxnResponse};

use crate::revision::Token;

/// The variable with the job's fencing token.
const TOKEN: &str = "INCUMBENT_TOKEN";

/// The variable with the leader's key.
const LEADER_KEY: &str = "INCUMBENT_LEADER_KEY";

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
        answer.op_responses().iter().any(|response| {
            let TxnOpResponse::Get(leader) = response else {
                return false;
            };
            let leader = leader.kvs().first();
            leader.is_some_and(|leader| {
                leader.key() == self.key.as_bytes() && leader.create_revision() == self.token.get()
            })
        })
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
