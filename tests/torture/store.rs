//! The store, as the torture needs it: its whole history, questions that may fail, and disks that
//! can be full.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Error, EventType, WatchOptions};
use incumbent::keys::LeaseId;

use crate::checker::{Candidacy, Count};
use crate::common::Cluster;
use crate::common::process::monotonic_ns;
use crate::elections::{ELECTIONS, Election};
use crate::slots::StateWrite;

/// The key that writers write to who keep a job's variables beyond its term.
pub(crate) const LATE: &str = "/torture/late";

/// Longest wait for one member's answer.
const LIMIT: Duration = Duration::from_secs(1);

/// A member that says nothing for so long is left for the next one.
const SILENT: Duration = Duration::from_millis(1500);

/// What happened to the keys that matter, from the first revision on.
#[derive(Clone, Default)]
pub(crate) struct Chronicle(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// The first that answered, when all was in order.
    cluster: Option<u64>,
    revision: i64,
    /// By the key that they are in.
    counts: BTreeMap<String, Vec<Count>>,
    /// By token, of all elections.
    candidates: BTreeMap<i64, Candidacy>,
    /// When a marker was written.
    marked: BTreeSet<i64>,
    /// What was written of a schedule, by revision.
    slots: BTreeMap<(Election, i64), StateWrite>,
}

impl Chronicle {
    /// Follows the store until it is told to stop.
    pub(crate) fn follow(&self, cluster: &Cluster, stop: &AtomicBool) {
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let i = turn % cluster.len();
            // Another cluster may answer in a dead member's place.
            if !cluster.healthy().contains(&i) {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let client = cluster.client(i);
            // Whatever ended it, the next member goes on from where this one left off.
            cluster.block_on(self.follow_one(client, stop)).ok();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    async fn follow_one(&self, mut client: Client, stop: &AtomicBool) -> Result<(), ()> {
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(self.revision() + 1);
        let watch = client.watch("", Some(options));
        let mut stream = tokio::time::timeout(LIMIT, watch)
            .await
            .map_err(drop)?
            .map_err(drop)?;
        while !stop.load(Ordering::Relaxed) {
            let message = tokio::time::timeout(SILENT, stream.message()).await;
            let message = message.map_err(drop)?.map_err(drop)?.ok_or(())?;
            let id = message
                .header()
                .map(etcd_client::ResponseHeader::cluster_id);
            if self.told().cluster.get_or_insert(id.ok_or(())?) != &id.ok_or(())? {
                return Err(());
            }
            assert_eq!(message.compact_revision(), 0, "history was compacted away");
            let at = monotonic_ns();
            for event in message.events() {
                let kv = event.kv().unwrap();
                let key = kv.key_str().unwrap_or_default();
                let value = kv.value_str().unwrap_or_default();
                let deleted = event.event_type() == EventType::Delete;
                self.note(
                    at,
                    key,
                    value,
                    deleted,
                    (kv.create_revision(), kv.mod_revision()),
                );
            }
        }
        Ok(())
    }

    fn note(&self, at: u64, key: &str, value: &str, deleted: bool, revisions: (i64, i64)) {
        let (token, revision) = revisions;
        let mut told = self.told();
        told.revision = told.revision.max(revision);
        if key.starts_with("/torture/count-") || key == LATE {
            let word = |i: usize| value.split(' ').nth(i).unwrap().parse::<i64>().unwrap();
            let id = (
                word(1),
                i32::try_from(word(2)).unwrap(),
                word(3).unsigned_abs(),
            );
            let number = word(0).unsigned_abs();
            let count = Count {
                revision,
                at,
                id,
                number,
            };
            let counts = told.counts.entry(key.to_owned());
            counts.or_default().push(count);
        } else if let Some((of, name)) = ELECTIONS.iter().find_map(|it| {
            let rest = key.strip_prefix(it.prefix())?.strip_prefix(".meta/")?;
            (it.is_scheduled() && rest != "ended").then_some((*it, rest))
        }) {
            if !deleted {
                let write = told.slots.entry((of, revision)).or_default();
                (write.revision, write.at) = (revision, at);
                write.note(name, value);
            }
        } else if let Some((of, slot)) = ELECTIONS
            .iter()
            .find_map(|it| Some((*it, key.strip_prefix(&it.done())?)))
        {
            let write = told.slots.entry((of, revision)).or_default();
            (write.revision, write.at) = (revision, at);
            write.done = Some((slot.to_owned(), value.to_owned()));
        } else if ELECTIONS
            .iter()
            .any(|it| key.strip_prefix(it.prefix()) == Some(".meta/ended"))
        {
            told.marked.insert(revision);
        } else if ELECTIONS.iter().any(|it| it.has(key)) {
            if deleted {
                let mut standing = told.candidates.values_mut();
                if let Some(gone) = standing.find(|c| c.key == key && c.deleted.is_none()) {
                    gone.deleted = Some(revision);
                    gone.deleted_at = Some(at);
                }
            } else {
                told.candidates.entry(token).or_insert(Candidacy {
                    key: key.to_owned(),
                    name: value.to_owned(),
                    token,
                    deleted: None,
                    created_at: at,
                    deleted_at: None,
                    proven: false,
                });
            }
        }
    }

    /// The last revision that it has heard of.
    pub(crate) fn revision(&self) -> i64 {
        self.told().revision
    }

    /// The history of a key that is counted in.
    pub(crate) fn counts(&self, key: &str) -> Vec<Count> {
        self.told().counts.get(key).cloned().unwrap_or_default()
    }

    /// What was written of this schedule, in the order of revisions.
    pub(crate) fn slots(&self, of: Election) -> Vec<StateWrite> {
        let told = self.told();
        let own = told.slots.iter().filter(|((it, _), _)| *it == of);
        let of_state = own.map(|(_, write)| write).filter(|it| it.is_of_state());
        of_state.cloned().collect()
    }

    pub(crate) fn candidates(&self, of: Election) -> Vec<Candidacy> {
        let told = self.told();
        let mut candidates: Vec<_> = told.of(of).cloned().collect();
        for candidate in &mut candidates {
            let gone = candidate.deleted;
            candidate.proven = gone.is_some_and(|gone| told.marked.contains(&gone));
        }
        candidates
    }

    /// The name of the first in the queue.
    pub(crate) fn first(&self, of: Election) -> Option<String> {
        let told = self.told();
        let mut standing = told.of(of).filter(|c| c.deleted.is_none());
        standing.next().map(|first| first.name.clone())
    }

    /// Whether nobody stands but the candidate with this token, or nobody at all, where the job runs all the
    /// time.
    pub(crate) fn is_alone(&self, token: i64) -> bool {
        let told = self.told();
        let mut standing = told.of(Election::Steady).filter(|c| c.deleted.is_none());
        standing.all(|c| c.token == token)
    }

    /// Who stands next after this token there, and since when.
    pub(crate) fn next_after(&self, token: i64) -> Option<(String, u64)> {
        let told = self.told();
        let mut behind = told.of(Election::Steady);
        let next = behind.find(|c| c.token > token && c.deleted.is_none())?;
        Some((next.name.clone(), next.created_at))
    }

    /// The newest key under this name that stands in this election.
    pub(crate) fn standing_of(&self, name: &str, of: Election) -> Option<String> {
        let told = self.told();
        let own = told.of(of).filter(|c| c.name == name);
        let own = own.filter(|c| c.deleted.is_none()).last();
        own.map(|candidate| candidate.key.clone())
    }

    /// The key of the candidate with this token, if it stands.
    pub(crate) fn standing(&self, token: i64) -> Option<String> {
        let told = self.told();
        let candidate = told.candidates.get(&token)?;
        candidate.deleted.is_none().then(|| candidate.key.clone())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn of(&self, election: Election) -> impl Iterator<Item = &Candidacy> {
        let all = self.candidates.values();
        all.filter(move |candidate| election.has(&candidate.key))
    }
}

/// The lease that a candidate key is named after.
pub(crate) fn lease_of(key: &str) -> Option<i64> {
    let lease: LeaseId = key.rsplit('/').next()?.parse().ok()?;
    Some(lease.get())
}

/// The version of etcd that all members run.
pub(crate) fn version(cluster: &Cluster) -> String {
    let told = (0..cluster.len()).map(|i| {
        let status = cluster.block_on(async { cluster.client(i).status().await });
        status.unwrap().version().to_owned()
    });
    let versions: BTreeSet<_> = told.collect();
    versions.into_iter().collect::<Vec<_>>().join(" and ")
}

/// Asks each member that runs, once; `None` if none of them answers.
pub(crate) fn try_ask<T>(
    cluster: &Cluster,
    ask: impl AsyncFn(Client) -> Result<T, Error>,
) -> Option<T> {
    cluster.healthy().into_iter().find_map(|i| {
        let answer = async { tokio::time::timeout(LIMIT, ask(cluster.client(i))).await };
        cluster.block_on(answer).ok()?.ok()
    })
}

/// Disks of the members: small file systems in memory, which end with this process.
pub(crate) struct Disks(Vec<Disk>);

struct Disk {
    /// Keeps the file system, which has no place in the file tree any more.
    root: File,
}

impl Disks {
    /// One for each member; says why if that can't be.
    pub(crate) fn new(folder: &Path, n: usize) -> Result<Self, String> {
        let disk = |i: usize| {
            let place = folder.join(format!("disk{i}"));
            std::fs::create_dir(&place).map_err(|e| e.to_string())?;
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=1g,mode=0700", "tmpfs"])
                .arg(&place))?;
            let root = File::open(&place).map_err(|e| e.to_string());
            run(Command::new("umount").arg("--lazy").arg(&place))?;
            Ok(Disk { root: root? })
        };
        (0..n).map(disk).collect::<Result<_, String>>().map(Self)
    }

    /// The path by which other processes reach a disk.
    pub(crate) fn path(&self, i: usize) -> PathBuf {
        let fd = self.0[i].root.as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()))
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self, i: usize) {
        let mut ballast = File::create(self.path(i).join("ballast")).unwrap();
        let chunk = vec![0; 1 << 20];
        for size in [1 << 20, 4096] {
            while ballast.write_all(&chunk[..size]).is_ok() {}
        }
    }

    /// Gives back what was filled.
    pub(crate) fn free(&self, i: usize) {
        std::fs::remove_file(self.path(i).join("ballast")).unwrap();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| error.to_string())?;
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
    }
}
