//! `--once-per`: the run of a crontab that stands on several hosts.

use std::time::Duration;

use crate::backoff::{self, Backoff};
use crate::cli::exit::Failure;
use crate::cli::options::block_on;
use crate::clock;
use crate::config::Config;
use crate::election::follow::Follower;
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::etcd::{Patience, Settings, Store};
use crate::keys::Prefix;
use crate::log::printable;
use crate::revision::Revision;
use crate::schedule::record::{Outcome, State};
use crate::schedule::{Occasion, Slot, Stored};
use crate::term::run_book::{RepairError, RunBook};
use crate::term::slots;
use crate::wall;

/// How long the store may take to tell whether the slot is claimed.
const PATIENCE: Duration = Duration::from_secs(5);

/// From one try to follow the record to the next, the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The slot to run for, and where that is recorded.
pub(super) struct Claim {
    etcd: Settings,
    prefix: Prefix,
    spec: String,
    slot: Slot,
}

impl Claim {
    /// The latest slot of the schedule, where there is one; a run that fails is not tried again.
    ///
    /// # Errors
    /// If the pattern had no slot yet.
    pub(super) fn of(config: &mut Config) -> Result<Option<Self>, Failure> {
        let Some(scheduling) = &mut config.scheduling else {
            return Ok(None);
        };
        scheduling.policy.retries = 0;
        let schedule = &scheduling.schedule;
        let after = Slot::up_to(wall::now() + Duration::from_secs(1));
        let slot = schedule.previous(after);
        let slot = slot.ok_or_else(|| anyhow::anyhow!("the pattern has had no slot yet"))?;
        Ok(Some(Self {
            etcd: config.etcd.clone(),
            prefix: config.election.prefix.clone(),
            spec: schedule.spec().to_owned(),
            slot,
        }))
    }

    /// Looks whether the slot has been claimed, and says so then. Else the record of the schedule is made
    /// such that it is due: a schedule that nobody ran before begins with it.
    ///
    /// # Errors
    /// If the store doesn't tell, or the record can't be read.
    pub(super) fn prepare(&self) -> Result<Option<String>, Failure> {
        let store = Store::unanimous(&self.etcd);
        let patience = Patience::new(&store, PATIENCE);
        let attempt = async |limit: Duration| loop {
            let book = RunBook::read(&store, limit, &self.prefix, 1).await?;
            let state = match &book.state {
                None => State::new(self.spec.clone(), wall::now()),
                Some(Ok(state)) => state.clone(),
                Some(Err(why)) => return Ok(Err(why.clone())),
            };
            if is_claimed(&state, self.slot) {
                return Ok(Ok(Some(self.claimed(&state))));
            }
            if book.seen > Revision::default() && state.spec == self.spec {
                return Ok(Ok(None));
            }
            let before = Slot::up_to(self.slot.time() - Duration::from_secs(1));
            let state = State {
                spec: self.spec.clone(),
                since: before.time(),
                ..state
            };
            match book.begin(&store, limit, &self.prefix, &state).await {
                Ok(false) => {}
                Err(RepairError::Store(error)) => return Err(error),
                Ok(true) | Err(_) => return Ok(Ok(None)),
            }
        };
        let found = block_on(async { Ok(patience.ask(attempt).await?) })?;
        found.map_err(|why| Failure::Refused(why.to_string()))
    }

    /// Waits until the slot has been claimed.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn made(&self) {
        let store = Store::unanimous(&self.etcd);
        let mut follower = Follower::new(store.clone(), self.prefix.clone(), LONGEST_ATTEMPT);
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let stored = match follower.next().await {
                Ok(_) => slots::read(&store, LONGEST_ATTEMPT, &self.prefix).await,
                Err(error) => Err(error),
            };
            match stored {
                Ok(Stored::State { state, .. }) if is_claimed(&state, self.slot) => return,
                Ok(_) => pauses.reset(),
                Err(error) => {
                    // What is wrong is told by who stands for election meanwhile.
                    tracing::debug!(%error, "the schedule's state was not read");
                    follower.forget();
                    clock::sleep(pauses.next(backoff::jitter())).await;
                }
            }
        }
    }

    fn claimed(&self, state: &State) -> String {
        let open = state.open.as_ref().map(|open| open.host.as_str());
        let host = open.or(state.last.as_ref().map(|last| last.host.as_str()));
        let by = host.map_or(String::new(), |host| format!(" by {}", printable(host)));
        format!(
            "{} has been claimed{by}; the command was not started",
            self.slot
        )
    }
}

/// Whether the slot has been claimed, and is not to be run again.
fn is_claimed(state: &State, slot: Slot) -> bool {
    let last = state.last.as_ref().filter(|_| state.open.is_none());
    let is_due =
        last.is_some_and(|last| last.slot == Occasion::Slot(slot) && last.result == Outcome::Rerun);
    state.slot >= Some(slot) && !is_due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Token;
    use crate::schedule::record::Last;
    use crate::wall::Time;

    #[test]
    fn a_slot_is_claimed_unless_it_is_to_be_run_again() {
        let slot = Slot::up_to(Time::from_secs(1_800_000_000));
        let before = Slot::up_to(Time::from_secs(1_700_000_000));
        let mut state = State::new("spec".to_owned(), Time::EPOCH);
        assert!(!is_claimed(&state, slot));
        state.slot = Some(before);
        assert!(!is_claimed(&state, slot));
        state.slot = Some(slot);
        assert!(is_claimed(&state, slot));
        assert!(is_claimed(&state, before));
        state.last = Some(Last {
            slot: Occasion::Slot(slot),
            attempt: 0,
            result: Outcome::Rerun,
            began: slot.time(),
            took_ms: 0,
            host: "a".to_owned(),
            token: Token::new(7),
            nonce: None,
            missed: 0,
        });
        assert!(!is_claimed(&state, slot));
        assert!(is_claimed(&state, before));
    }
}
