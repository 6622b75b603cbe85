//! What was counted, in the text format of Prometheus.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Gauges, Histogram, Metrics, RENEWALS, RUN_OUTCOMES, RunResult, SlotOutcome};
use crate::reason::EndReason;
use crate::revision::Token;
use crate::wall::Time;

/// The figures of one candidate.
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    /// The prefix of its election, which all of them are labelled with.
    pub election: &'a str,
    /// What was counted.
    pub metrics: &'a Metrics,
    /// What is measured now.
    pub gauges: Gauges,
}

/// All of these, in Prometheus' text format.
pub(crate) fn render(all: &[Figures<'_>]) -> String {
    let mut page = MetricsPage {
        text: String::with_capacity(8192),
        all,
    };
    page.gauges();
    page.counts();
    page.renewals();
    page.schedules();
    page.text
}

/// What is rendered: a metric after the other, each of all candidates.
struct MetricsPage<'a> {
    text: String,
    all: &'a [Figures<'a>],
}

impl MetricsPage<'_> {
    fn gauges(&mut self) {
        self.gauge(
            "incumbent_leader",
            "Whether this candidate leads: 1 or 0.",
            |gauges| Some(u8::from(gauges.leader)),
        );
        self.gauge(
            "incumbent_ready",
            "Whether this candidate stands in the queue or leads: 1 or 0.",
            |gauges| Some(u8::from(gauges.ready)),
        );
        self.gauge(
            "incumbent_fencing_token",
            "The token of the present term; 0 without one.",
            |gauges| Some(gauges.token.map_or(0, Token::get)),
        );
        self.gauge(
            "incumbent_lease_remaining_seconds",
            "What is left of the lease for certain, were no renewal to come through any more.",
            |gauges| Some(gauges.lease_remaining.as_secs_f64()),
        );
        self.gauge(
            "incumbent_job_up",
            "Whether the job runs: 1 or 0.",
            |gauges| Some(u8::from(gauges.job_up)),
        );
        self.gauge(
            "incumbent_healthy",
            "Whether the check says that this replica may lead: 1 or 0.",
            |gauges| gauges.healthy.map(u8::from),
        );
    }

    fn counts(&mut self) {
        let reasons = EndReason::ALL.map(|reason| format!("reason=\"{reason}\""));
        self.counter(
            "incumbent_terms_total",
            "Terms that ended, by reason.",
            &reasons,
            |figures, place| {
                let reason = EndReason::ALL[place];
                let count = loaded(&figures.metrics.0.terms[reason as usize]);
                // From the start, so that a first one is seen as a rise.
                (count > 0 || reason.is_of_own_term()).then_some(count)
            },
        );
        let results = RunResult::ALL.map(|result| format!("result=\"{}\"", result.word()));
        self.counter(
            "incumbent_job_runs_total",
            "Runs of the job that are over, by result.",
            &results,
            |figures, place| Some(loaded(&figures.metrics.0.runs[place])),
        );
    }

    fn renewals(&mut self) {
        let results = RENEWALS.map(|(_, word)| format!("result=\"{word}\""));
        self.histogram(
            "incumbent_renew_seconds",
            "How long attempts to renew the lease took, by result.",
            &results,
            |figures, place| Some(&figures.metrics.0.renewals[RENEWALS[place].0 as usize]),
        );
    }

    /// Of those whose job has one.
    fn schedules(&mut self) {
        let seconds = |time: Time| Duration::from_millis(time.as_millis()).as_secs_f64();
        self.gauge(
            "incumbent_schedule_next_timestamp_seconds",
            "When the next run is due, in seconds since 1970; only on the leader.",
            |gauges| gauges.schedule?.next.map(seconds),
        );
        self.gauge(
            "incumbent_schedule_last_success_timestamp_seconds",
            "The last slot that was a success, in seconds since 1970; only on the leader.",
            |gauges| gauges.schedule?.last_success.map(seconds),
        );
        self.gauge(
            "incumbent_schedule_open",
            "Whether a run is claimed and not closed: 1 or 0; only on the leader.",
            |gauges| gauges.schedule?.open.map(u8::from),
        );
        let results = RUN_OUTCOMES.map(|result| format!("result=\"{}\"", result.word()));
        self.counter(
            "incumbent_schedule_runs_total",
            "Scheduled runs that are over, by result.",
            &results,
            |figures, place| {
                let count = loaded(&figures.metrics.0.slot_runs[place]);
                figures.gauges.schedule.map(|_| count)
            },
        );
        let outcomes = SlotOutcome::ALL.map(|(_, word)| format!("outcome=\"{word}\""));
        self.counter(
            "incumbent_schedule_slots_total",
            "Slots of the schedule, by what became of them.",
            &outcomes,
            |figures, place| {
                let count = loaded(&figures.metrics.0.slots[place]);
                figures.gauges.schedule.map(|_| count)
            },
        );
        self.histogram(
            "incumbent_schedule_late_seconds",
            "How long after it was due a slot was claimed.",
            &[String::new()],
            |figures, _| figures.gauges.schedule.map(|_| &figures.metrics.0.late),
        );
        self.histogram(
            "incumbent_schedule_run_seconds",
            "How long scheduled runs took.",
            &[String::new()],
            |figures, _| figures.gauges.schedule.map(|_| &figures.metrics.0.ran),
        );
    }

    /// One value of each candidate that has one.
    fn gauge<V: Display>(&mut self, name: &str, help: &str, value: impl Fn(&Gauges) -> Option<V>) {
        let own = &[String::new()];
        self.metric((name, help, "gauge"), own, |text, figures, _, labels| {
            if let Some(value) = value(&figures.gauges) {
                line(text, name, labels, &value);
            }
        });
    }

    /// A value for each of the labels `own`, if there is one at that place.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        own: &[String],
        value: impl Fn(&Figures<'_>, usize) -> Option<u64>,
    ) {
        self.metric(
            (name, help, "counter"),
            own,
            |text, figures, place, labels| {
                if let Some(value) = value(figures, place) {
                    line(text, name, labels, &value);
                }
            },
        );
    }

    /// A histogram for each of the labels `own`, if there is one at that place.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        own: &[String],
        value: impl for<'a> Fn(&Figures<'a>, usize) -> Option<&'a Histogram>,
    ) {
        self.metric(
            (name, help, "histogram"),
            own,
            |text, figures, place, labels| {
                if let Some(histogram) = value(figures, place) {
                    histogram.render(text, name, labels);
                }
            },
        );
    }

    /// Has `write` write the lines of a metric for each candidate and each of the labels `own`; the
    /// head is there where any line is.
    fn metric(
        &mut self,
        (name, help, kind): (&str, &str, &str),
        own: &[String],
        write: impl Fn(&mut String, &Figures<'_>, usize, &str),
    ) {
        let mut lines = String::new();
        for figures in self.all {
            let election = escaped(figures.election);
            for (place, own) in own.iter().enumerate() {
                let comma = if own.is_empty() { "" } else { "," };
                let labels = format!("election=\"{election}\"{comma}{own}");
                write(&mut lines, figures, place, &labels);
            }
        }
        if !lines.is_empty() {
            // Writing to a String can't fail; the same in `line`.
            _ = write!(
                self.text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}"
            );
        }
    }
}

/// A label's value, as the format has it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn loaded(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Histogram {
    fn render(&self, text: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        for (bound, count) in self.bounds_ms.iter().zip(&self.buckets) {
            below += loaded(count);
            let bound = Duration::from_millis(*bound).as_secs_f64();
            line(text, &bucket, &format!("{labels},le=\"{bound}\""), &below);
        }
        // Never fewer than below a bound, whatever was counted while this was read.
        let count = loaded(&self.count).max(below);
        let sum = Duration::from_micros(loaded(&self.sum_us)).as_secs_f64();
        line(text, &bucket, &format!("{labels},le=\"+Inf\""), &count);
        line(text, &format!("{name}_sum"), labels, &sum);
        line(text, &format!("{name}_count"), labels, &count);
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: &dyn Display) {
    _ = writeln!(text, "{name}{{{labels}}} {value}");
}
