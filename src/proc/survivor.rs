//! Who lives on after SIGKILL, as people want to know it, and how often they are told.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Stat, read, uid_of};
use crate::clock::Instant;

/// Between two words about what can't be killed.
pub(crate) const REPEATED: Duration = Duration::from_secs(5);

/// Where users have their names; what stands beyond this size is not looked at.
const USERS: (&str, u64) = ("/etc/passwd", 1024 * 1024);

static NAMES: OnceLock<BTreeMap<u32, String>> = OnceLock::new();

/// A process that SIGKILL was sent to, and that lives on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Its process id.
    pub pid: u32,
    /// The user that it acts as: the name, or the number where that is not known here.
    pub user: String,
    /// What it calls itself, 15 bytes at most.
    pub command: String,
}

impl Survivor {
    /// The process with this number. Waits for nobody: the whole command line, which lies in the
    /// memory of the process, may hang with it.
    pub fn of(pid: i32) -> Self {
        // What is hidden from us still can't be killed.
        let unknown = || "unknown".to_owned();
        Self {
            pid: pid.unsigned_abs(),
            user: uid_of(pid).map_or_else(unknown, name),
            command: Stat::of(pid).map_or_else(unknown, |stat| stat.comm),
        }
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.pid, self.user, self.command)
    }
}

/// Them all in one line.
pub(crate) fn listed(survivors: &[Survivor]) -> String {
    let each: Vec<String> = survivors.iter().map(ToString::to_string).collect();
    each.join(", ")
}

/// The process that traces the one with this number, if one does.
pub(crate) fn tracer(pid: i32) -> Option<i32> {
    let status = read(pid, "status").ok()?;
    let status = String::from_utf8_lossy(&status);
    let mut lines = status.lines();
    let tracer = lines.find_map(|line| line.strip_prefix("TracerPid:"))?;
    tracer.trim().parse().ok().filter(|tracer| *tracer > 0)
}

/// Reads the names of users, for whoever may not wait for a disk later on.
pub(crate) fn learn_names() {
    NAMES.get_or_init(|| {
        let mut text = Vec::new();
        let (path, limit) = USERS;
        if let Ok(file) = fs::File::open(path) {
            file.take(limit).read_to_end(&mut text).ok();
        }
        let text = String::from_utf8_lossy(&text);
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        // The first name of a number is the one that counts.
        text.lines().rev().filter_map(entry).collect()
    });
}

fn name(uid: u32) -> String {
    let names = NAMES.get().and_then(|names| names.get(&uid)).cloned();
    names.unwrap_or_else(|| {
        if uid == 0 {
            "root".to_owned()
        } else {
            uid.to_string()
        }
    })
}

/// When whoever kills in vain says who lives on: after K, and every few seconds from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InVain {
    next: Instant,
}

impl InVain {
    /// Of a kill that begins now and may take so long.
    pub(crate) fn from(now: Instant, kill_budget: Duration) -> Self {
        Self {
            next: now + kill_budget,
        }
    }

    /// Whether it is to be said now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + REPEATED;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_with_its_user_and_its_command() {
        learn_names();
        let this = Survivor::of(super::super::Process::this().pid);
        let user = name(rustix::process::geteuid().as_raw());
        assert_eq!(this.user, user);
        assert_ne!(this.command, "unknown");
        assert_eq!(
            this.to_string(),
            format!("{} ({user}, {})", std::process::id(), this.command)
        );
        assert_eq!(name(4_000_000_000), "4000000000");
        assert_eq!(name(0), "root");
    }

    #[test]
    fn it_is_said_after_k_and_every_five_seconds() {
        let at = Instant::from_nanos;
        let mut vain = InVain::from(at(0), Duration::from_secs(1));
        let said: Vec<u64> = (0..=12_000)
            .filter(|ms| vain.is_due(at(ms * 1_000_000)))
            .collect();
        assert_eq!(said, [1_000, 6_000, 11_000]);
    }
}
