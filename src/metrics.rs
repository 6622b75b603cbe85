//! What is counted for `/metrics`: terms, renewals and runs since the process started.
//!
//! Counting takes an atomic, so that the threads which renew and decide may count (R14).

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::reason::EndReason;
use crate::session::Renewed;

/// Upper bounds of a renewal's time, in milliseconds.
const BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];

/// How attempts to renew come out, with the words for it.
const RENEWALS: [(Renewed, &str); 3] = [
    (Renewed::Ok, "ok"),
    (Renewed::Unproven, "unproven"),
    (Renewed::Failed, "failed"),
];

/// How a run of the job came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunResult {
    /// It ended by itself, well.
    Success,
    /// It ended by itself, badly.
    Failure,
    /// It was stopped, and ended in its grace.
    Stopped,
    /// It was stopped, and had to be killed.
    Killed,
}

impl RunResult {
    const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Stopped, Self::Killed];

    /// The word for metrics and pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
        }
    }
}

/// The counts of one process; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    terms: [AtomicU64; EndReason::ALL.len()],
    runs: [AtomicU64; RunResult::ALL.len()],
    renewals: [Histogram; RENEWALS.len()],
}

#[derive(Debug, Default)]
struct Histogram {
    /// How many took no longer than the bound of the same place, and longer than the one before.
    buckets: [AtomicU64; BOUNDS_MS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// What is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Whether this candidate leads, and may go on.
    pub leader: bool,
    /// Whether it stands in the queue, or leads.
    pub ready: bool,
    /// The fencing token; 0 without a term.
    pub token: i64,
    /// What is left of the lease for certain.
    pub lease_remaining: Duration,
    /// Whether the job runs.
    pub job_up: bool,
    /// Whether this replica is healthy, where it has a check.
    pub healthy: Option<bool>,
}

impl Metrics {
    /// A term is over.
    pub fn term_ended(&self, reason: EndReason) {
        self.0.terms[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A run is over.
    pub fn run_ended(&self, result: RunResult) {
        self.0.runs[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt to renew came out.
    pub fn renewed(&self, result: Renewed, took: Duration) {
        self.0.renewals[result as usize].observe(took);
    }

    /// All of it, in Prometheus' text format.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::with_capacity(4096);
        let Gauges {
            leader,
            ready,
            token,
            lease_remaining,
            job_up,
            healthy,
        } = gauges;
        let mut gauge = |name: &str, help: &str, value: &dyn Display| {
            head(&mut text, name, help, "gauge");
            line(&mut text, name, "", value);
        };
        gauge(
            "incumbent_leader",
            "Whether this candidate leads: 1 or 0.",
            &u8::from(*leader),
        );
        gauge(
            "incumbent_ready",
            "Whether this candidate stands in the queue or leads: 1 or 0.",
            &u8::from(*ready),
        );
        gauge(
            "incumbent_fencing_token",
            "The token of the present term; 0 without one.",
            token,
        );
        gauge(
            "incumbent_lease_remaining_seconds",
            "What is left of the lease for certain, were no renewal to come through any more.",
            &lease_remaining.as_secs_f64(),
        );
        gauge(
            "incumbent_job_up",
            "Whether the job runs: 1 or 0.",
            &u8::from(*job_up),
        );
        if let Some(healthy) = healthy {
            gauge(
                "incumbent_healthy",
                "Whether the check says that this replica may lead: 1 or 0.",
                &u8::from(*healthy),
            );
        }
        self.render_counts(&mut text);
        self.render_renewals(&mut text);
        text
    }

    fn render_counts(&self, text: &mut String) {
        let name = "incumbent_terms_total";
        head(text, name, "Terms that ended, by reason.", "counter");
        for reason in EndReason::ALL {
            let count = self.0.terms[reason as usize].load(Ordering::Relaxed);
            // From the start, so that a first one is seen as a rise.
            if count > 0 || reason.is_of_own_term() {
                line(text, name, &format!("{{reason=\"{reason}\"}}"), &count);
            }
        }
        let name = "incumbent_job_runs_total";
        head(
            text,
            name,
            "Runs of the job that are over, by result.",
            "counter",
        );
        for result in RunResult::ALL {
            let count = self.0.runs[result as usize].load(Ordering::Relaxed);
            let labels = format!("{{result=\"{}\"}}", result.word());
            line(text, name, &labels, &count);
        }
    }

    fn render_renewals(&self, text: &mut String) {
        let name = "incumbent_renew_seconds";
        head(
            text,
            name,
            "How long attempts to renew the lease took, by result.",
            "histogram",
        );
        for (result, word) in RENEWALS {
            self.0.renewals[result as usize].render(text, name, word);
        }
    }
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let within = |bound: &u64| took <= Duration::from_millis(*bound);
        if let Some(place) = BOUNDS_MS.iter().position(within) {
            self.buckets[place].fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn render(&self, text: &mut String, name: &str, result: &str) {
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        for (bound, count) in BOUNDS_MS.iter().zip(&self.buckets) {
            below += count.load(Ordering::Relaxed);
            let bound = Duration::from_millis(*bound).as_secs_f64();
            let labels = format!("{{result=\"{result}\",le=\"{bound}\"}}");
            line(text, &bucket, &labels, &below);
        }
        // Never fewer than below a bound, whatever was counted while this was read.
        let count = self.count.load(Ordering::Relaxed).max(below);
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let labels = format!("{{result=\"{result}\",le=\"+Inf\"}}");
        line(text, &bucket, &labels, &count);
        let labels = format!("{{result=\"{result}\"}}");
        line(text, &format!("{name}_sum"), &labels, &sum);
        line(text, &format!("{name}_count"), &labels, &count);
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String can't fail; the same in `line`.
    _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, labels: &str, value: &dyn Display) {
    _ = writeln!(text, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "what is read is what was written")]

    use std::collections::BTreeMap;

    use super::*;

    fn values(metrics: &Metrics, gauges: &Gauges) -> BTreeMap<String, f64> {
        let text = metrics.render(gauges);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_was_counted_is_told_and_what_was_not_is_zero() {
        let metrics = Metrics::default();
        metrics.clone().term_ended(EndReason::Deadline);
        metrics.run_ended(RunResult::Killed);
        metrics.run_ended(RunResult::Killed);
        let gauges = Gauges {
            leader: true,
            ready: true,
            token: 7,
            lease_remaining: Duration::from_millis(2500),
            job_up: true,
            healthy: Some(true),
        };
        let values = values(&metrics, &gauges);
        assert_eq!(values["incumbent_terms_total{reason=\"deadline\"}"], 1.0);
        assert_eq!(values["incumbent_terms_total{reason=\"resigned\"}"], 0.0);
        assert_eq!(values["incumbent_job_runs_total{result=\"killed\"}"], 2.0);
        assert_eq!(values["incumbent_job_runs_total{result=\"failure\"}"], 0.0);
        assert_eq!(values["incumbent_leader"], 1.0);
        assert_eq!(values["incumbent_fencing_token"], 7.0);
        assert_eq!(values["incumbent_lease_remaining_seconds"], 2.5);
        assert_eq!(values["incumbent_job_up"], 1.0);
        assert_eq!(values["incumbent_healthy"], 1.0);
    }

    #[test]
    fn buckets_count_all_that_took_no_longer() {
        let metrics = Metrics::default();
        for millis in [1, 3, 3, 9000] {
            metrics.renewed(Renewed::Ok, Duration::from_millis(millis));
        }
        let values = values(&metrics, &Gauges::default());
        let bucket = |le: &str| {
            values[&format!("incumbent_renew_seconds_bucket{{result=\"ok\",le=\"{le}\"}}")]
        };
        assert_eq!(bucket("0.001"), 1.0);
        assert_eq!(bucket("0.002"), 1.0);
        assert_eq!(bucket("0.005"), 3.0);
        assert_eq!(bucket("2.5"), 3.0);
        assert_eq!(bucket("+Inf"), 4.0);
        assert_eq!(values["incumbent_renew_seconds_sum{result=\"ok\"}"], 9.007);
        assert_eq!(
            values["incumbent_renew_seconds_count{result=\"failed\"}"],
            0.0
        );
    }
}
