//! What somebody writes to the election's keys: over a candidate's key, over a record, and a key that is
//! no candidate's.

use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;

use crate::checker::Wait;
use crate::common::process::monotonic_ns;
use crate::common::{millis, patience};
use crate::faults::{NAMES, Range, nanos};
use crate::kinds::{Fault, Kind, Record, Target, Whom};
use crate::prefix;
use crate::replicas::Replica;
use crate::store::try_ask;

/// How long a replica that was killed may take to stand again, for it to be of use here.
const AGAIN: Duration = Duration::from_secs(2);

impl Range<'_> {
    /// Takes the leader's key off its lease; what is left of that, an operator deletes.
    pub(crate) fn put_key(&self, replica: &Replica, fault: &Fault) -> bool {
        let Some(key) = self.key_of(replica, fault) else {
            return false;
        };
        let put = async |mut client: etcd_client::Client| {
            client.put(key.as_str(), replica.name.as_str(), None).await
        };
        let done = try_ask(self.cluster, put).is_some();
        std::thread::sleep(fault.lasts);
        try_ask(self.cluster, async |mut client| {
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
        let key = format!("{}.meta/{name}", prefix());
        let put =
            async |mut client: etcd_client::Client| client.put(key.as_str(), text, None).await;
        let done = try_ask(self.cluster, put).is_some();
        std::thread::sleep(lasts);
        // Nobody may take away the record of a term: the next one writes its own.
        if record != Record::Term {
            self.delete(&key);
        }
        done
    }

    fn delete(&self, key: &str) {
        let delete = async |mut client: etcd_client::Client| client.delete(key, None).await;
        while try_ask(self.cluster, delete).is_none() {
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
        let put = async |mut client: etcd_client::Client| client.put(key.as_str(), "x", None).await;
        let done = try_ask(self.cluster, put);
        let end = monotonic_ns() + nanos(fault.lasts);
        let blocked = done.as_ref().and_then(|done| {
            let token = done.header()?.revision();
            self.send_behind(token, end)
        });
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
        self.delete(&key);
        done.is_some()
    }

    /// Kills a daemon that waits, so that it stands anew; says which, if it now is the next after the
    /// key with this token, and since when.
    fn send_behind(&self, token: i64, end: u64) -> Option<(&Replica, u64, i32)> {
        let from = monotonic_ns();
        let lasts = millis(500);
        let first = self.chronicle.first();
        let replica = self.replicas.all.iter().find(|replica| {
            first.as_ref() != Some(&replica.name)
                && self.chronicle.standing_of(&replica.name).is_some()
                && replica.take(false, end)
                && replica.take(true, end)
        })?;
        let kill = Fault {
            at: Duration::ZERO,
            lasts,
            kind: Kind::Kill(Whom::Daemon),
            target: Target::Leader,
        };
        if replica.signal(Whom::Daemon, Signal::KILL).is_empty() {
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
