//! The start of most tests: a cluster, a record, and replicas in a known order.

use std::time::Duration;

use super::cluster::Cluster;
use super::daemon::{Builder, Daemon, PREFIX};
use super::record::{Life, Record};
use super::store::Candidate;
use super::wait::{eventually, millis, patience, throughout};

/// Longest time for what takes milliseconds on a machine that isn't busy.
pub const SOON: Duration = Duration::from_secs(15);

/// One cluster, and one record that the jobs of all replicas write to.
pub struct Scene {
    /// The store.
    pub cluster: Cluster,
    /// What the jobs did.
    pub record: Record,
    /// Where the replicas stand.
    election: String,
}

impl Scene {
    /// A cluster of `n` members and an empty record.
    pub fn start(n: usize) -> Self {
        Self::on(Cluster::start(n))
    }

    /// The same on a cluster that is there already, or isn't started yet.
    pub fn on(cluster: Cluster) -> Self {
        Self {
            record: Record::new(cluster.sandbox(), "record"),
            cluster,
            election: PREFIX.to_owned(),
        }
    }

    /// In another election than that of most tests. Who starts in one kills what it finds left of it on
    /// this host, whichever test left it.
    #[must_use]
    pub fn in_election(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.election);
        self
    }

    /// The election's prefix.
    pub fn election(&self) -> &str {
        &self.election
    }

    /// A replica with a recording job.
    pub fn daemon(&self, name: &str) -> Builder {
        self.daemon_with(name, &[])
    }

    /// A replica whose recording job has these flags; see `examples/recorder.rs`.
    pub fn daemon_with(&self, name: &str, flags: &[&str]) -> Builder {
        let builder = Daemon::builder(&self.cluster, name).prefix(&self.election);
        builder.records(&self.record, flags)
    }

    /// A replica with a recording Rust job; `settings` as in `examples/recording.rs`.
    pub fn rust(&self, name: &str, settings: &str) -> Builder {
        let builder = Daemon::builder(&self.cluster, name).prefix(&self.election);
        builder.rust_job(&self.record, settings)
    }

    /// Starts the first replica and waits until it leads in every view.
    #[track_caller]
    pub fn leader(&self, builder: Builder) -> (Daemon, i64) {
        let daemon = builder.spawn();
        let token = self.wait_leads(&daemon, 1, SOON);
        (daemon, token)
    }

    /// Starts one more replica and waits until it stands in the queue behind the others.
    #[track_caller]
    pub fn waiter(&self, builder: Builder) -> Daemon {
        let daemon = builder.spawn();
        daemon.wait_log("campaigning", SOON);
        let what = format!("{} waits in the queue", daemon.name());
        eventually(SOON, &what, || {
            self.place(&daemon).filter(|place| *place > 0)
        });
        daemon
    }

    /// Waits until a replica leads for the `n`th time by its own log, by etcd's queue and by the
    /// record of its job; returns the term's token.
    #[track_caller]
    pub fn wait_leads(&self, daemon: &Daemon, n: usize, budget: Duration) -> i64 {
        let token = daemon.wait_elected_nth(n, budget);
        self.record.wait_run(token, SOON);
        let first = self.first();
        assert_eq!(
            (first.name.as_str(), first.create_revision),
            (daemon.name(), token),
            "etcd sees another leader than the replica that says it leads"
        );
        token
    }

    /// Waits until whoever of these is first in the queue says that it leads, and its job runs;
    /// returns the term's token.
    #[track_caller]
    pub fn wait_settled(&self, daemons: &[&Daemon], budget: Duration) -> i64 {
        eventually(budget, "whoever is first in the queue leads", || {
            let first = self
                .cluster
                .first(&self.election)
                .ok_or("nobody is in the queue")?;
            let token = first.create_revision;
            let elected = daemons.iter().any(|daemon| {
                let mut lines = daemon.lines("elected").into_iter();
                daemon.name() == first.name && lines.any(|line| line.token() == token)
            });
            let runs = self.last_run(token).is_some();
            if elected && runs {
                Ok(token)
            } else {
                Err("the first does not lead yet")
            }
        })
    }

    /// First in the queue.
    #[track_caller]
    pub fn first(&self) -> Candidate {
        self.cluster
            .first(&self.election)
            .expect("the queue is not empty")
    }

    /// A replica's place in the queue.
    pub fn place(&self, daemon: &Daemon) -> Option<usize> {
        let names = self.cluster.names(&self.election);
        names.iter().position(|name| name == daemon.name())
    }

    /// A replica's candidate key.
    #[track_caller]
    pub fn candidate(&self, daemon: &Daemon) -> Candidate {
        let mut queue = self.cluster.queue(&self.election).into_iter();
        let found = queue.find(|candidate| candidate.name == daemon.name());
        found.unwrap_or_else(|| panic!("{} is not in the queue", daemon.name()))
    }

    /// Whether the replica leads, alone and unbroken, in the term with this token.
    ///
    /// # Errors
    /// What says otherwise.
    pub fn still_leads(&self, daemon: &Daemon, token: i64) -> Result<(), String> {
        if let Some(line) = daemon.lines("term lost").last() {
            return Err(line.text.clone());
        }
        match self.cluster.first(&self.election) {
            Some(first) if first.create_revision == token => Ok(()),
            first => Err(format!("first in the queue is {first:?}")),
        }
    }

    /// The main process of a term's last run, if there was one.
    pub fn last_run(&self, token: i64) -> Option<Life> {
        self.record.history().runs_of(token).last().cloned()
    }

    /// Waits until the term with this token is on record, which is off the way to its job; returns the
    /// record.
    #[track_caller]
    pub fn term_record(&self, token: i64) -> serde_json::Value {
        let key = format!("{}.meta/term", self.election);
        eventually(SOON, "the term is on record", || {
            let text = self.cluster.get(&key).ok_or("nothing")?;
            let record: serde_json::Value = serde_json::from_str(&text).map_err(|_| "no JSON")?;
            if record["token"] == token {
                Ok(record)
            } else {
                Err("another term")
            }
        })
    }

    /// Waits until etcd's marker has reached this token: every job up to it is proven dead.
    #[track_caller]
    pub fn wait_marker(&self, token: i64) {
        let what = format!("the marker has reached {token}");
        eventually(SOON, &what, || {
            let marker = self.cluster.marker(&self.election);
            if marker >= Some(token) {
                Ok(())
            } else {
                Err(marker)
            }
        });
    }

    /// Waits until a lease is gone, and its keys with it.
    #[track_caller]
    pub fn wait_no_lease(&self, lease: i64) {
        let what = format!("lease {lease:x} is gone");
        eventually(SOON, &what, || !self.cluster.leases().contains(&lease));
    }

    /// Checks the whole record; see [`History::assert_no_overlap`](super::History).
    #[track_caller]
    pub fn assert_no_overlap(&self) {
        self.record.history().assert_no_overlap();
    }

    /// Checks that no hand-over in the record took longer.
    #[track_caller]
    pub fn assert_gaps_below(&self, limit: Duration) {
        let history = self.record.history();
        let limit = patience(limit);
        for gap in history.handover_gaps() {
            assert!(gap < limit, "nobody's job ran for {gap:?}: {history:?}");
        }
    }

    /// Checks that the job of this term was over before `gone`, when etcd ended the lease: that it
    /// had beaten for the last time by then, and goes on beating no more.
    #[track_caller]
    pub fn assert_over_before(&self, token: i64, gone: u64) {
        let what = format!("the job of term {token} was over before its lease");
        // As long as some dozens of beats, so that a living job can't keep quiet.
        throughout(millis(300), &what, || {
            let last = self.record.history().last_beat_of(token).unwrap();
            let late = Duration::from_nanos(last.saturating_sub(gone));
            if last < gone {
                Ok(())
            } else {
                Err(format!("it lived {late:?} longer"))
            }
        });
    }

    /// Waits until the recorded job of this term beats no more; returns its last beat.
    #[track_caller]
    pub fn wait_job_over(&self, token: i64, budget: Duration) -> u64 {
        let what = format!("no process of term {token} is left");
        eventually(budget, &what, || {
            let history = self.record.history();
            let lives = history.lives.iter().filter(|life| life.token == token);
            let left: Vec<_> = lives
                .filter(|life| super::process::is_alive(life.pid))
                .map(ToString::to_string)
                .collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        self.record.history().last_beat_of(token).unwrap()
    }
}

/// A planned stop must be over by then: the default `stop_grace` of the tests, and some.
pub const STOPPED: Duration = Duration::from_secs(10);
