//! What is counted for `/metrics`: terms, renewals and runs since the process started.
//!
//! Counting takes an atomic, so that the threads which renew and decide may count (R14).

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::reason::EndReason;
use crate::revision::Token;
use crate::schedule::record::Outcome;
use crate::session::Renewed;
use crate::wall::Time;

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

    /// All of it, in Prometheus' text format.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::with_capacity(4096);
        let Gauges {
            leader,
            ready,
            token,
            lease_remaining,
            job_up,
            healthy,
            schedule,
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
            &token.map_or(0, Token::get),
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
        if let Some(schedule) = schedule {
            self.render_schedule(&mut text, schedule);
        }
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
            let labels = format!("result=\"{word}\"");
            self.0.renewals[result as usize].render(text, name, &labels);
        }
    }

    fn render_schedule(&self, text: &mut String, gauges: &ScheduleGauges) {
        let seconds = |time: Time| Duration::from_millis(time.as_millis()).as_secs_f64();
        for (name, help, value) in [
            (
                "incumbent_schedule_next_timestamp_seconds",
                "When the next run is due, in seconds since 1970; only on the leader.",
                gauges.next.map(seconds),
            ),
            (
                "incumbent_schedule_last_success_timestamp_seconds",
                "The last slot that was a success, in seconds since 1970; only on the leader.",
                gauges.last_success.map(seconds),
            ),
            (
                "incumbent_schedule_open",
                "Whether a run is claimed and not closed: 1 or 0; only on the leader.",
                gauges.open.map(|open| f64::from(u8::from(open))),
            ),
        ] {
            if let Some(value) = value {
                head(text, name, help, "gauge");
                line(text, name, "", &value);
            }
        }
        let name = "incumbent_schedule_runs_total";
        head(
            text,
            name,
            "Scheduled runs that are over, by result.",
            "counter",
        );
        for (result, count) in RUN_OUTCOMES.iter().zip(&self.0.slot_runs) {
            let labels = format!("{{result=\"{}\"}}", result.word());
            line(text, name, &labels, &count.load(Ordering::Relaxed));
        }
        let name = "incumbent_schedule_slots_total";
        head(
            text,
            name,
            "Slots of the schedule, by what became of them.",
            "counter",
        );
        for (outcome, word) in SlotOutcome::ALL {
            let count = self.0.slots[outcome as usize].load(Ordering::Relaxed);
            line(text, name, &format!("{{outcome=\"{word}\"}}"), &count);
        }
        for (name, help, histogram) in [
            (
                "incumbent_schedule_late_seconds",
                "How long after it was due a slot was claimed.",
                &self.0.late,
            ),
            (
                "incumbent_schedule_run_seconds",
                "How long scheduled runs took.",
                &self.0.ran,
            ),
        ] {
            head(text, name, help, "histogram");
            histogram.render(text, name, "");
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

    fn render(&self, text: &mut String, name: &str, own: &str) {
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        let comma = if own.is_empty() { "" } else { "," };
        for (bound, count) in self.bounds_ms.iter().zip(&self.buckets) {
            below += count.load(Ordering::Relaxed);
            let bound = Duration::from_millis(*bound).as_secs_f64();
            let labels = format!("{{{own}{comma}le=\"{bound}\"}}");
            line(text, &bucket, &labels, &below);
        }
        // Never fewer than below a bound, whatever was counted while this was read.
        let count = self.count.load(Ordering::Relaxed).max(below);
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let labels = format!("{{{own}{comma}le=\"+Inf\"}}");
        line(text, &bucket, &labels, &count);
        let labels = match own {
            "" => String::new(),
            own => format!("{{{own}}}"),
        };
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
