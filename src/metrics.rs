//! What is counted for `/metrics`: terms, renewals and runs since the process started.
//!
//! Counting takes an atomic, so that the threads which renew and decide may count (R14).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::reason::EndReason;
use crate::revision::Token;
use crate::schedule::record::Outcome;
use crate::session::Renewed;
use crate::wall::Time;

mod exposition;

pub(crate) use exposition::{Figures, render};

/// Upper bounds of what a histogram tells apart, in milliseconds.
type Bounds = [u64; 11];

/// Of a renewal's time.
const RENEWAL_MS: Bounds = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];

/// Of how late a run is claimed.
const LATE_MS: Bounds = [
    5, 10, 25, 100, 500, 1000, 5000, 30_000, 300_000, 1_800_000, 14_400_000,
];

/// Of how long a scheduled run takes.
const RUN_MS: Bounds = [
    100, 500, 1000, 5000, 15_000, 60_000, 300_000, 900_000, 3_600_000, 10_800_000, 43_200_000,
];

/// How attempts to renew come out, with the words for it.
const RENEWALS: [(Renewed, &str); 3] = [
    (Renewed::Ok, "ok"),
    (Renewed::Unproven, "unproven"),
    (Renewed::Failed, "failed"),
];

/// How a run of the job came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunResult {
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
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
        }
    }
}

/// What became of a slot of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotOutcome {
    /// It was claimed, for a run.
    Claimed,
    /// It came while nobody could run it, and nothing runs it any more.
    Missed,
    /// It was passed over on purpose.
    Skipped,
}

impl SlotOutcome {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Claimed, "claimed"),
        (Self::Missed, "missed"),
        (Self::Skipped, "skipped"),
    ];
}

/// How scheduled runs end.
const RUN_OUTCOMES: [Outcome; 6] = [
    Outcome::Success,
    Outcome::Failure,
    Outcome::Timeout,
    Outcome::Stopped,
    Outcome::Killed,
    Outcome::Lost,
];

/// The counts of one process; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    terms: [AtomicU64; EndReason::ALL.len()],
    runs: [AtomicU64; RunResult::ALL.len()],
    renewals: [Histogram; RENEWALS.len()],
    slots: [AtomicU64; SlotOutcome::ALL.len()],
    slot_runs: [AtomicU64; RUN_OUTCOMES.len()],
    late: Histogram,
    ran: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            terms: Default::default(),
            runs: Default::default(),
            renewals: RENEWALS.map(|_| Histogram::new(&RENEWAL_MS)),
            slots: Default::default(),
            slot_runs: Default::default(),
            late: Histogram::new(&LATE_MS),
            ran: Histogram::new(&RUN_MS),
        }
    }
}

#[derive(Debug)]
struct Histogram {
    bounds_ms: &'static Bounds,
    /// How many took no longer than the bound of the same place, and longer than the one before.
    buckets: [AtomicU64; 11],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// What is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gauges {
    /// Whether this candidate leads, and may go on.
    pub leader: bool,
    /// Whether it stands in the queue, or leads.
    pub ready: bool,
    /// The fencing token; 0 without a term.
    pub token: Option<Token>,
    /// What is left of the lease for certain.
    pub lease_remaining: Duration,
    /// Whether the job runs.
    pub job_up: bool,
    /// Whether this replica is healthy, where it has a check.
    pub healthy: Option<bool>,
    /// Where the job has a schedule.
    pub schedule: Option<ScheduleGauges>,
}

/// What a leader knows of its job's schedule; nothing on a replica that doesn't lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScheduleGauges {
    /// When the next run begins.
    pub next: Option<Time>,
    /// The last slot that was a success.
    pub last_success: Option<Time>,
    /// Whether a run is open.
    pub open: Option<bool>,
}

impl Metrics {
    /// A term is over.
    pub(crate) fn term_ended(&self, reason: EndReason) {
        self.0.terms[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A run is over.
    pub(crate) fn run_ended(&self, result: RunResult) {
        self.0.runs[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt to renew came out.
    pub(crate) fn renewed(&self, result: Renewed, took: Duration) {
        self.0.renewals[result as usize].observe(took);
    }

    /// So many slots of the schedule came to this.
    pub(crate) fn slots(&self, outcome: SlotOutcome, count: u64) {
        self.0.slots[outcome as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// A slot was claimed so long after its run was due.
    pub(crate) fn slot_late(&self, late: Duration) {
        self.0.late.observe(late);
    }

    /// A scheduled run is over, and how that is recorded; one that was lost took nobody knows how
    /// long.
    pub(crate) fn slot_run_ended(&self, result: Outcome, took: Option<Duration>) {
        if let Some(place) = RUN_OUTCOMES.iter().position(|it| *it == result) {
            self.0.slot_runs[place].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(took) = took {
            self.0.ran.observe(took);
        }
    }
}

impl Histogram {
    fn new(bounds_ms: &'static Bounds) -> Self {
        Self {
            bounds_ms,
            buckets: Default::default(),
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    fn observe(&self, took: Duration) {
        let within = |bound: &u64| took <= Duration::from_millis(*bound);
        if let Some(place) = self.bounds_ms.iter().position(within) {
            self.buckets[place].fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "what is read is what was written")]

    use std::collections::BTreeMap;

    use super::*;

    /// The values by their names, without the label of the election.
    fn values(metrics: &Metrics, gauges: &Gauges) -> BTreeMap<String, f64> {
        let text = render(&[Figures {
            election: "/a\"\\",
            metrics,
            gauges: *gauges,
        }]);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| {
                let (name, labels) = name.split_once(r#"{election="/a\"\\""#).unwrap();
                let own = labels.strip_suffix('}').unwrap();
                let own = own.strip_prefix(',').map(|own| format!("{{{own}}}"));
                let name = format!("{name}{}", own.unwrap_or_default());
                (name, value.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn each_metric_stands_once_with_the_figures_of_all_elections() {
        let metrics = [Metrics::default(), Metrics::default()];
        metrics[1].run_ended(RunResult::Success);
        let figures = |election, metrics| Figures {
            election,
            metrics,
            gauges: Gauges::default(),
        };
        let text = render(&[figures("/a", &metrics[0]), figures("/b", &metrics[1])]);
        let name = "incumbent_job_runs_total";
        assert_eq!(text.matches(&format!("# TYPE {name} counter\n")).count(), 1);
        for (election, count) in [("/a", 0), ("/b", 1)] {
            let line = format!("\n{name}{{election=\"{election}\",result=\"success\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
        for absent in ["incumbent_healthy", "incumbent_schedule"] {
            assert!(!text.contains(absent), "{text}");
        }
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
            token: Token::new(7),
            lease_remaining: Duration::from_millis(2500),
            job_up: true,
            healthy: Some(true),
            schedule: None,
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

    #[test]
    fn a_schedule_is_told_where_there_is_one_and_only_there() {
        let metrics = Metrics::default();
        metrics.slots(SlotOutcome::Missed, 12);
        metrics.slots(SlotOutcome::Claimed, 1);
        metrics.slot_late(Duration::from_millis(7));
        metrics.slot_run_ended(Outcome::Success, Some(Duration::from_mins(2)));
        metrics.slot_run_ended(Outcome::Lost, None);
        let gauges = Gauges {
            schedule: Some(ScheduleGauges {
                next: Some(Time::from_secs(1_800_000_000)),
                last_success: None,
                open: Some(true),
            }),
            ..Gauges::default()
        };
        let told = values(&metrics, &gauges);
        let schedule = |name: &str| told.get(&format!("incumbent_schedule_{name}")).copied();
        assert_eq!(schedule("next_timestamp_seconds"), Some(1_800_000_000.0));
        assert_eq!(schedule("last_success_timestamp_seconds"), None);
        assert_eq!(schedule("open"), Some(1.0));
        assert_eq!(schedule("slots_total{outcome=\"missed\"}"), Some(12.0));
        assert_eq!(schedule("slots_total{outcome=\"skipped\"}"), Some(0.0));
        assert_eq!(schedule("runs_total{result=\"lost\"}"), Some(1.0));
        assert_eq!(schedule("runs_total{result=\"timeout\"}"), Some(0.0));
        assert_eq!(schedule("late_seconds_bucket{le=\"0.005\"}"), Some(0.0));
        assert_eq!(schedule("late_seconds_bucket{le=\"0.01\"}"), Some(1.0));
        assert_eq!(schedule("run_seconds_sum"), Some(120.0));
        assert_eq!(schedule("run_seconds_count"), Some(1.0));
        let told = values(&metrics, &Gauges::default());
        assert!(
            !told.keys().any(|name| name.contains("schedule")),
            "{told:?}"
        );
    }
}
