//! Daemons, and the moments at which their jobs begin to run.

use std::collections::VecDeque;
use std::time::Duration;

use super::Contest;
use super::common::daemon::Builder;
use super::common::output::Output;
use super::common::process::monotonic_ns;
use super::common::{Cluster, Daemon, Record, SOON, eventually};

/// The job of the hand-overs: ends at once on SIGTERM, and otherwise keeps quiet.
pub(super) const JOB: &[&str] = &["--default-term", "--every", "1h"];

/// Nanoseconds as milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "not in spans that anybody waits for"
)]
pub(super) fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Longer than most hand-overs take. Nobody looks at the record before: reading it over and over
/// would take the time of one of the cores from what is measured.
const UNDISTURBED: Duration = Duration::from_millis(25);

/// When the first job after `begun` says that it runs, by the time that stands in the record.
pub(super) fn next_job(record: &Record, begun: u64) -> u64 {
    next_job_of(record, begun, |_| true)
}

/// The same for the jobs of some terms, by their tokens.
fn next_job_of(record: &Record, begun: u64, counts: impl Fn(i64) -> bool) -> u64 {
    std::thread::sleep(UNDISTURBED);
    eventually(SOON, "the next job runs", || {
        let lives = record.history().lives;
        let lives = lives.iter().filter(|life| counts(life.token));
        lives.map(|life| life.start).find(|start| *start > begun)
    })
}

pub(super) fn sleep_until(at: u64) {
    std::thread::sleep(Duration::from_nanos(at.saturating_sub(monotonic_ns())));
}

/// A replica with the job of the hand-overs, and everything else as shipped.
pub(super) fn replica(cluster: &Cluster, record: &Record, name: &str) -> Builder {
    Daemon::builder(cluster, name)
        .ttl("15s")
        .toml("job = { stop_grace = '30s', lost_grace = '2s', kill_budget = '1s' }")
        .records(record, JOB)
}

/// Replicas of one election, in the order of the queue. Whoever has led is replaced at its end.
pub(super) struct Replicas<'a> {
    cluster: &'a Cluster,
    record: Record,
    election: String,
    queue: VecDeque<Daemon>,
    started: usize,
    end: fn(&Daemon),
    /// The job's flags, and its schedule, if it has one.
    job: &'static [&'static str],
    schedule: String,
}

impl<'a> Replicas<'a> {
    /// Starts `n` replicas; `end` is what happens to each leader.
    pub(super) fn start(cluster: &'a Cluster, election: &str, n: usize, end: fn(&Daemon)) -> Self {
        let mut replicas = Self::of_job(cluster, election, end, JOB);
        for _ in 0..n {
            replicas.join();
        }
        replicas.queue[0].wait_job(SOON);
        replicas
    }

    /// Starts two whose job has a schedule, as lines of the configuration; leaders are killed.
    pub(super) fn start_scheduled(
        cluster: &'a Cluster,
        election: &str,
        job: &'static [&'static str],
        schedule: String,
    ) -> Self {
        let mut replicas = Self::of_job(cluster, election, Daemon::sigkill, job);
        replicas.schedule = schedule;
        replicas.join();
        replicas.join();
        replicas
    }

    fn of_job(
        cluster: &'a Cluster,
        election: &str,
        end: fn(&Daemon),
        job: &'static [&'static str],
    ) -> Self {
        Self {
            cluster,
            record: Record::new(cluster.sandbox(), election),
            election: election.to_owned(),
            queue: VecDeque::new(),
            started: 0,
            end,
            job,
            schedule: String::new(),
        }
    }

    /// Starts one more, and waits until it stands in the queue.
    fn join(&mut self) {
        self.started += 1;
        let name = format!("{}-{}", self.election, self.started);
        let mut builder = replica(self.cluster, &self.record, &name)
            .records(&self.record, self.job)
            .prefix(&format!("/{}", self.election));
        if !self.schedule.is_empty() {
            builder = builder.toml(&self.schedule);
        }
        let daemon = builder.spawn();
        daemon.wait_log("campaigning", SOON);
        self.queue.push_back(daemon);
    }

    /// Ends the leader; returns how long it took until the next job ran.
    pub(super) fn hand_over(&mut self) -> (f64, Daemon) {
        self.hand_over_at(0)
    }

    /// The same, at this instant, if it isn't past.
    pub(super) fn hand_over_at(&mut self, at: u64) -> (f64, Daemon) {
        let leader = self.queue.pop_front().unwrap();
        let token = leader.wait_elected(SOON);
        // Their lines wait, so that reading them is no part of it.
        let readers = [leader.output(), self.queue[0].output()];
        readers.into_iter().for_each(Output::pause);
        sleep_until(at);
        let begun = monotonic_ns();
        (self.end)(&leader);
        let took = next_job_of(&self.record, begun, |of| of > token) - begun;
        readers.into_iter().for_each(Output::resume);
        (ms(took), leader)
    }

    /// Puts another in the place of one that has led.
    pub(super) fn replace(&mut self, past: Daemon) {
        past.wait_exit(SOON);
        past.wait_no_processes(SOON);
        drop(past);
        self.join();
        self.record.history().assert_no_overlap();
    }
}

impl Contest for Replicas<'_> {
    fn sample(&mut self) -> f64 {
        let (took, past) = self.hand_over();
        self.replace(past);
        took
    }
}

/// From the start of a daemon on an idle cluster until its job runs. A new election each time.
pub(super) struct Launch<'a> {
    cluster: &'a Cluster,
    record: Record,
    launched: usize,
}

impl<'a> Launch<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            record: Record::new(cluster.sandbox(), "launch"),
            launched: 0,
        }
    }
}

impl Contest for Launch<'_> {
    fn sample(&mut self) -> f64 {
        self.launched += 1;
        let name = format!("launch-{}", self.launched);
        let daemon = replica(self.cluster, &self.record, &name)
            .prefix(&format!("/{name}"))
            .spawn();
        let begun = daemon.spawned_at();
        let took = next_job(&self.record, begun) - begun;
        daemon.sigterm();
        daemon.wait_exit(SOON);
        ms(took)
    }
}
