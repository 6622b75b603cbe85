//! A large election: what a hand-over costs with many in the queue, and whom it wakes.

use super::QUIET;
use super::common::process::monotonic_ns;
use super::common::{Cluster, Contenders, Daemon, Served, millis};
use super::replicas::{Replicas, ms};
use super::table::{Row, Target};

/// What comes so soon after a hand-over belongs to it: the term record, the leader's watch.
const AFTER_MS: u64 = 50;

/// What a hand-over in a large election is measured by.
struct Rows {
    took: Row,
    events: Row,
    calls: Row,
}

impl Rows {
    fn of(crowd: &str, what: &str) -> Self {
        let floors = Target::Floors {
            median: 2.0,
            worst: None,
        };
        let row = |what, unit, target| Row::new(&format!("one of {crowd}: {what}"), unit, target);
        Self {
            took: row(what, "ms", floors),
            events: row("watch events of a hand-over", "", Target::Median(1.0)),
            calls: row("requests of a hand-over", "", Target::None),
        }
    }

    /// Takes a sample; what the members do anyway is counted before, and taken off.
    fn sample(&mut self, cluster: &Cluster, hand_over: impl FnOnce() -> f64) {
        let quiet = Window::open(cluster);
        std::thread::sleep(QUIET);
        let (noise, quiet) = quiet.close();
        let window = Window::open(cluster);
        self.took.samples.push(hand_over());
        std::thread::sleep(millis(AFTER_MS));
        let (served, span) = window.close();
        let share = span / quiet;
        let net = |all: f64, noise: f64| (all - noise * share).max(0.0);
        self.events.samples.push(net(served.events, noise.events));
        self.calls.samples.push(net(served.calls, noise.calls));
    }

    fn into_rows(self) -> [Row; 3] {
        [self.took, self.events, self.calls]
    }
}

/// A span of time in which the members' work is counted.
struct Window<'a> {
    cluster: &'a Cluster,
    before: Served,
    begun: u64,
}

impl<'a> Window<'a> {
    fn open(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            before: cluster.served(),
            begun: monotonic_ns(),
        }
    }

    /// What was done in it, and how long it was in milliseconds.
    fn close(self) -> (Served, f64) {
        let span = ms(monotonic_ns() - self.begun);
        let after = self.cluster.served();
        let served = Served {
            events: after.events - self.before.events,
            calls: after.calls - self.before.calls,
            requests: after.requests - self.before.requests,
            watchers: after.watchers - self.before.watchers,
        };
        (served, span)
    }
}

/// Hand-overs among `n` daemons.
pub(super) fn of_replicas(cluster: &Cluster, n: usize, runs: usize) -> [Row; 3] {
    eprintln!("starting {n} replicas");
    let mut rows = Rows::of(&n.to_string(), "SIGTERM of the leader → next job");
    let mut replicas = Replicas::start(cluster, "crowd", n, Daemon::sigterm);
    for run in 1..=runs {
        eprint!("\rone of {n}: {run} of {runs}");
        let mut past = None;
        rows.sample(cluster, || {
            let (took, leader) = replicas.hand_over();
            past = Some(leader);
            took
        });
        replicas.replace(past.unwrap());
    }
    eprintln!();
    rows.into_rows()
}

/// Hand-overs among `n` candidates of the library in this process.
pub(super) fn of_contenders(cluster: &Cluster, n: usize, runs: usize) -> [Row; 3] {
    eprintln!("starting {n} candidates");
    let mut rows = Rows::of(&n.to_string(), "the leader resigns → the next leads");
    let mut contenders = Contenders::start(cluster, "/contenders", n);
    for run in 1..=runs {
        eprint!("\rone of {n}: {run} of {runs}");
        rows.sample(cluster, || ms(contenders.hand_over()));
        contenders.replace();
    }
    eprintln!();
    rows.into_rows()
}
