//! What tells whether two replicas of an election have the same settings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::backoff::jitter;
use crate::clock;
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::session;
use crate::term::member::MemberPlace;
use crate::term::record::MemberRecord;

/// The digest of a candidate's settings. Clones share it, so that a new configuration reaches
/// whoever is campaigning.
#[derive(Clone, Debug, Default)]
pub struct Digest(Arc<Mutex<Option<String>>>);

impl Digest {
    /// The digest as it is; `None` for a candidate without settings.
    pub fn get(&self) -> Option<String> {
        let digest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        digest.clone()
    }

    /// Makes it this one; returns whether that is another.
    pub fn set(&self, new: Option<String>) -> bool {
        let mut digest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *digest != new;
        *digest = new;
        changed
    }
}

impl From<String> for Digest {
    fn from(digest: String) -> Self {
        Self(Arc::new(Mutex::new(Some(digest))))
    }
}

/// Puts `digest` into the member record of the candidate with this lease, as it stands; tries until
/// the store answers, or refuses. Nothing happens where there is no such record.
///
/// # Errors
/// As [`Store::attempt`], where trying again is of no use.
pub async fn tell_digest(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    lease: LeaseId,
    digest: &Digest,
) -> Result<(), Error> {
    let place = MemberPlace { prefix, lease };
    let mut backoff = session::backoff();
    loop {
        let tell = |member: &mut MemberRecord| member.digest = digest.get();
        match place.amend(store, limit, None, tell).await {
            Ok(true) => return Ok(()),
            Err(error) if error.is_definite() => return Err(error),
            Ok(false) | Err(_) => clock::sleep(backoff.next(jitter())).await,
        }
    }
}
