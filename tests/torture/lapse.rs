//! A Go candidate that leads, stands still, and loses its lease meanwhile: whoever leads next must
//! leave it the time that it may overrun its lease by, known from the queue or, for a newcomer, from the
//! note that waiters leave.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::millis;
use crate::common::process::monotonic_ns;
use crate::elections::{Election, Job, prefix};
use crate::faults::{Range, nanos};
use crate::kinds::{Fault, Kind, Target, Whom};
use crate::store::{lease_of, try_ask};

/// For how long after the loss of its lease it counts as leading: a little less than the shortest
/// take-over delay.
const OVERRUNS: Duration = Duration::from_millis(800);

/// How long it leads before: waiters note it then.
pub(crate) const LEADS: Duration = Duration::from_millis(500);

/// How long the note and the ends of keys are waited for.
const SOON: Duration = Duration::from_millis(700);

/// How far a lapse is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    None,
    /// The next one that leads is to stand still.
    Wanted,
    /// It stands still, with this key and token.
    Still(String, i64),
}

/// What the fault and whoever follows the candidate tell each other.
#[derive(Debug, Default)]
pub(crate) struct Lapse(Mutex<Stage>);

impl Lapse {
    pub(crate) fn stage(&self) -> Stage {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, stage: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Says that it stands still, if that is still wanted.
    pub(crate) fn stands_still(&self, key: &str, token: i64) -> bool {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *stage == Stage::Wanted;
        if wanted {
            *stage = Stage::Still(key.to_owned(), token);
        }
        wanted
    }
}

/// Lets it go on when the fault ends, however it does.
struct Ends<'a>(&'a Lapse);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.set(Stage::None);
    }
}

impl Range<'_> {
    /// Waits for one that leads and takes its lease, and notes that, which is when the fault begins; with
    /// `newcomers`, when nobody waits that has seen it lead.
    pub(crate) fn lapse(&self, fault: &Fault, newcomers: bool) {
        let lapse = &self.elect.lapse;
        lapse.set(Stage::Wanted);
        let _ends = Ends(lapse);
        let still = until(fault.lasts, || match lapse.stage() {
            Stage::Still(key, token) => Some((key, token)),
            _ => None,
        });
        let Some((key, token)) = still else {
            return;
        };
        let from = monotonic_ns();
        // Nobody who comes later could know of it; and on a busy host those who wait may all be about to.
        if until(SOON, || self.is_noted(token).then_some(())).is_none() {
            return;
        }
        if newcomers {
            self.kill_all(token);
        }
        let Some(lease) = lease_of(&key) else {
            return;
        };
        let at = monotonic_ns();
        let revoke = async |mut client: etcd_client::Client| client.lease_revoke(lease).await;
        let done = try_ask(self.cluster, revoke).is_some();
        if done {
            self.elect.led_until(token, at + nanos(OVERRUNS));
            std::thread::sleep(OVERRUNS);
            self.note(fault, None, from);
        }
    }

    fn is_noted(&self, token: i64) -> bool {
        let key = format!("{}.meta/foreign", prefix());
        let get = async |mut client: etcd_client::Client| client.get(key.as_str(), None).await;
        let note = try_ask(self.cluster, get);
        let noted = note.iter().flat_map(etcd_client::GetResponse::kvs);
        noted
            .filter_map(|kv| kv.value_str().ok()?.parse::<i64>().ok())
            .any(|noted| noted >= token)
    }

    /// Kills every daemon that suffers nothing else, and waits until no key of theirs stands.
    fn kill_all(&self, token: i64) {
        let from = monotonic_ns();
        for replica in self.replicas.of(Election::Steady) {
            let lasts = millis(500);
            if !replica.take(None, from + nanos(lasts)) {
                continue;
            }
            let kill = Fault {
                at: Duration::ZERO,
                lasts,
                kind: Kind::Kill(Whom::Daemon),
                target: Target::Leader(Election::Steady),
                job: Job::Counts,
            };
            if !replica
                .signal(Whom::Daemon, Election::Steady, Signal::KILL)
                .is_empty()
            {
                self.note(&kill, Some(replica), from);
            }
        }
        until(SOON, || self.chronicle.is_alone(token).then_some(()));
    }
}

fn until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = monotonic_ns() + nanos(limit);
    while monotonic_ns() < end {
        if let Some(found) = probe() {
            return Some(found);
        }
        std::thread::sleep(millis(10));
    }
    None
}
