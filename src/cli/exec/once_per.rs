//! `--once-per`: the run of a crontab that stands on several hosts.

use std::time::Duration;

use crate::cli::exit::Failure;
use crate::cli::options::block_on;
use crate::config::Config;
use crate::etcd::{Patience, Settings, Store};
use crate::keys::Prefix;
use crate::log::printable;
use crate::schedule::Slot;
use crate::schedule::record::State;
use crate::term::run_book::{RepairError, RunBook};
use crate::wall;

/// How long the store may take to tell whether the slot is claimed.
const PATIENCE: Duration = Duration::from_secs(5);

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
            if state.slot >= Some(self.slot) {
                return Ok(Ok(Some(self.claimed(&state))));
            }
            if book.seen > 0 && state.spec == self.spec {
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
