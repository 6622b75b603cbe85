//! What somebody writes to the election's keys: over a candidate's key, over a record, and a key that is
//! no candidate's.

use std::sync::PoisonError;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, Txn, TxnOp};
use rustix::process::Signal;

use crate::checker::Wait;
use crate::common::process::monotonic_ns;
use crate::common::{millis, patience};
use crate::elections::{ELECTIONS, Election, Job, prefix};
use crate::faults::{NAMES, Range, nanos};
use crate::kinds::{Fault, Kind, Record, Target, Whom};
use crate::replica::Replica;
use crate::store::try_ask;

/// How long a replica that was killed may take to stand again, for it to be of use here.
const AGAIN: Duration = Duration::from_secs(2);

/// Under which something is written: what a frozen member keeps of it, and applies when nobody expects it
/// any more, is refused once the permit is gone.
struct Permit {
    key: String,
    at: i64,
}

impl Range<'_> {
    fn permit(&self) -> Option<Permit> {
        let key = format!("{}.torture/permit-{}", prefix(), monotonic_ns());
        let put = async |mut client: Client| client.put(key.as_str(), "", None).await;
        let at = try_ask(self.cluster, put)?.header()?.revision();
        Some(Permit { key, at })
    }

    /// Puts a key without a lease; returns at which revision.
    fn put(&self, permit: &Permit, key: &str, text: &str) -> Option<i64> {
        let Permit { key: own, at } = permit;
        let txn = Txn::new()
            .when([Compare::mod_revision(own.as_str(), CompareOp::Equal, *at)])
            .and_then([TxnOp::put(key, text, None)]);
        let put = async |mut client: Client| client.txn(txn.clone()).await;
        let done = try_ask(self.cluster, put)?;
        let revision = done.header()?.revision();
        done.succeeded().then_some(revision)
    }

    /// Takes the leader's key off its lease; what is left of that, an operator deletes.
    pub(crate) fn put_key(&self, replica: &Replica, fault: &Fault, of: Election) -> bool {
        let Some(key) = self.key_of(replica, fault, of) else {
            return false;
        };
        let Some(permit) = self.permit() else {
            return false;
        };
        let done = self.put(&permit, &key, &replica.name).is_some();
        std::thread::sleep(fault.lasts);
        self.delete(&permit.key);
        self.insist(async |mut client| {
            let found = client.get(key.as_str(), None).await?;
            if found.kvs().iter().any(|kv| kv.lease() == 0) {
                client.delete(key.as_str(), None).await?;
            }
            Ok(())
        });
        done
    }

    /// Writes a record that nobody can make sense of.
    pub(crate) fn spoil(&self, record: Record, lasts: Duration) -> bool {
        let (name, text) = match record {
            Record::Pause => ("control/pause", "{"),
            Record::Marker => ("ended", "999999999"),
            Record::Term => ("term", "{"),
        };
        // A pause has slots skipped, which would excuse too much.
        let of_both = record != Record::Pause;
        let elections = if of_both {
            &ELECTIONS[..2]
        } else {
            &ELECTIONS[..1]
        };
        let keys = elections
            .iter()
            .map(|it| format!("{}.meta/{name}", it.prefix()));
        let keys: Vec<_> = keys.collect();
        let Some(permit) = self.permit() else {
            return false;
        };
        let done = keys
            .iter()
            .map(|key| self.put(&permit, key, text).is_some());
        let done = done.fold(false, |any, done| any | done);
        std::thread::sleep(lasts);
        self.delete(&permit.key);
        // Nobody may take away the record of a term: the next one writes its own.
        if record != Record::Term {
            for key in &keys {
                self.delete(key);
            }
        }
        done
    }

    fn delete(&self, key: &str) {
        self.insist(async |mut client| client.delete(key, None).await.map(drop));
    }

    /// Asks until it is answered.
    fn insist(&self, ask: impl AsyncFn(Client) -> Result<(), Error>) {
        while try_ask(self.cluster, &ask).is_none() {
            std::thread::sleep(millis(100));
        }
    }

    /// Puts a key into the queue that never goes away by itself: who comes to stand behind it must say
    /// so.
    pub(crate) fn block(&self, fault: &Fault) -> bool {
        // Nothing else may keep it from being seen.
        let Ok(_members) = self.members.try_lock() else {
            return false;
        };
        let key = format!("{}/nobody", prefix());
        let Some(permit) = self.permit() else {
            return false;
        };
        let done = self.put(&permit, &key, "x");
        let end = monotonic_ns() + nanos(fault.lasts);
        let blocked = done.and_then(|token| self.send_behind(token, end));
        std::thread::sleep(Duration::from_nanos(end.saturating_sub(monotonic_ns())));
        if let Some((replica, at, pid)) = blocked {
            let named = replica.said_blocked_at(at, &key);
            let limit = nanos(patience(NAMES));
            // Whom another fault ended waits no more.
            if named.is_some() || replica.pid() == pid && monotonic_ns() - at > limit {
                let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
                waits.push(Wait {
                    at,
                    replica: replica.name.clone(),
                    pid,
                    blow: fault.name(),
                    named,
                    limit,
                });
            }
        }
        self.delete(&permit.key);
        self.delete(&key);
        done.is_some()
    }

    /// Kills a daemon that waits, so that it stands anew; says which, if it now is the next after the
    /// key with this token, and since when.
    fn send_behind(&self, token: i64, end: u64) -> Option<(&Replica, u64, i32)> {
        let from = monotonic_ns();
        let lasts = millis(500);
        let first = self.chronicle.first(Election::Steady);
        let mut steady = self.replicas.of(Election::Steady);
        let replica = steady.find(|replica| {
            first.as_ref() != Some(&replica.name)
                && self
                    .chronicle
                    .standing_of(&replica.name, Election::Steady)
                    .is_some()
                && replica.take(None, end)
                && replica.take_network(end)
        })?;
        let kill = Fault {
            at: Duration::ZERO,
            lasts,
            kind: Kind::Kill(Whom::Daemon),
            target: Target::Leader(Election::Steady),
            job: Job::Counts,
        };
        if replica
            .signal(Whom::Daemon, Election::Steady, Signal::KILL)
            .is_empty()
        {
            return None;
        }
        self.note(&kill, Some(replica), from);
        while monotonic_ns() < from + nanos(AGAIN) {
            std::thread::sleep(millis(10));
            if let Some((name, at)) = self.chronicle.next_after(token) {
                return (name == replica.name).then(|| (replica, at, replica.pid()));
            }
        }
        None
    }
}
