//! `job.schedule.*`: what must hold between its keys, and what comes of them.

use std::sync::Arc;
use std::time::Duration;

use super::advice::Shown;
use super::keys::{self, Entry, KEYS};
use super::place::{Place, Problem};
use super::rules::PassedValues;
use super::source::Source;
use crate::schedule::planner::{Guarantee, Missed, Overlap, Policy};
use crate::schedule::{Pace, Schedule, Slot};
use crate::wall::Time;

/// So many slots are shown.
const NEXT: usize = 5;

/// Whatever comes, comes before.
const LAST: Slot = Slot::up_to(Time::from_secs(u64::MAX));

/// When the job runs, where it doesn't run all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// At which instants.
    pub schedule: Arc<Schedule>,
    /// How; with the timeout of a run.
    pub policy: Policy,
}

impl Scheduling {
    /// When the job runs: the pattern in words, the next slots, and what changes of the clocks come
    /// to; a line each.
    pub(super) fn preview(&self, now: Time) -> Vec<String> {
        let schedule = &*self.schedule;
        let from = Slot::up_to(now);
        let mut lines = vec![format!("runs {}; the next:", schedule.words())];
        let next = schedule.between(from, LAST, NEXT);
        if next.is_empty() {
            lines.push("  none".to_owned());
        }
        let is_utc = schedule.timezone() == "UTC";
        lines.extend(next.into_iter().map(|slot| {
            if is_utc {
                format!("  {slot}")
            } else {
                format!("  {}  ({slot})", schedule.local(slot))
            }
        }));
        let changes = schedule.clock_changes(from);
        if !changes.is_empty() {
            lines.push("changes of the clocks that it meets within a year:".to_owned());
            lines.extend(changes.iter().map(|change| format!("  {change}")));
        }
        lines
    }

    /// What takes longer than the shortest time between two runs, and so may cost one of them.
    pub(super) fn tight(&self, takeover_delay: Duration, now: Time) -> Vec<String> {
        let Some(gap) = self.schedule.smallest_gap(Slot::up_to(now)) else {
            return Vec::new();
        };
        let Policy {
            jitter, timeout, ..
        } = self.policy;
        let overlap = match self.policy.overlap {
            Overlap::Skip => "is skipped",
            Overlap::Queue => "waits for its end",
            Overlap::Replace => "replaces it",
        };
        let long = [
            (
                keys::JOB_SCHEDULE_JITTER.name,
                Some(jitter),
                "a run may begin after the next is due".to_owned(),
            ),
            (
                keys::JOB_TIMEOUT.name,
                timeout,
                format!("while a run takes so long, the next {overlap}"),
            ),
            (
                keys::ELECTION_TAKEOVER_DELAY.name,
                Some(takeover_delay),
                "after a leader is lost, runs are missed before the next leads".to_owned(),
            ),
        ];
        let long = long.into_iter().filter_map(|(key, span, costs)| {
            let span = span.filter(|span| *span > gap)?;
            Some(format!(
                "{key}: {} is longer than the shortest time between two runs, {}: {costs}",
                Shown(span),
                Shown(gap)
            ))
        });
        long.collect()
    }

    /// What the digest of a configuration holds of it: nothing of this host's database of zones.
    pub(super) fn digest(&self) -> String {
        format!("{} {:?}", self.schedule.spec(), self.policy)
    }
}

/// Whether the key stands in `[job.schedule]`.
fn is_of_schedule(key: &Entry) -> bool {
    key.split().0 == keys::SCHEDULE
}

/// The keys of the section that the user wrote, right or wrong, each with its place.
fn written(settings: &PassedValues) -> impl Iterator<Item = (&'static Entry, Place)> {
    let keys = KEYS.iter().filter(|key| is_of_schedule(key));
    keys.filter_map(|key| Some((key, settings.written(key)?)))
}

/// What is wrong between keys.
pub(super) fn broken(
    settings: &PassedValues,
    source: &Source,
    file: &Place,
    problems: &mut Vec<Problem>,
) {
    if source.ignores_job && !source.needs_schedule {
        return;
    }
    let (cron, every) = (keys::JOB_SCHEDULE_CRON, keys::JOB_SCHEDULE_EVERY);
    let names = format!("{} or {}", cron.name, every.name);
    match (settings.written(&cron), settings.written(&every)) {
        (Some(_), Some(place)) => {
            let what = format!("expected {names}, found both");
            problems.push(Problem::new(place, every.name, what));
        }
        (None, None) => {
            if let Some((key, place)) = written(settings).next() {
                let what = format!("expected {names} beside it, found neither");
                problems.push(Problem::new(place, key.name, what));
            } else if source.needs_schedule {
                let what = format!("expected {names}, found neither: the job runs all the time");
                problems.push(Problem::new(file.clone(), keys::SCHEDULE, what));
            }
        }
        _ => {}
    }
}

/// What is set and has no effect, with the reason.
pub(super) fn without_effect(settings: &PassedValues) -> Vec<(Entry, &'static str)> {
    if written(settings).next().is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for key in [
        keys::JOB_RESTART.entry,
        keys::JOB_RESTART_DELAY.entry,
        keys::JOB_RESTART_DELAY_MAX.entry,
    ] {
        // The shipped file sets them to what they are anyway.
        if settings.is_changed(&key) {
            found.push((
                key,
                "has no effect beside a schedule, which says when the job runs",
            ));
        }
    }
    let mut check = |key: Entry, needed: bool, why| {
        if settings.is_changed(&key) && !needed {
            found.push((key, why));
        }
    };
    check(
        keys::JOB_SCHEDULE_TIMEZONE.entry,
        settings.is_set(&keys::JOB_SCHEDULE_CRON),
        "has no effect without job.schedule.cron: every counts from 1970-01-01 00:00 UTC",
    );
    check(
        keys::JOB_SCHEDULE_MISSED_MAX.entry,
        settings.get(keys::JOB_SCHEDULE_MISSED).as_deref() == Some("all"),
        "has no effect without missed = \"all\"",
    );
    check(
        keys::JOB_SCHEDULE_RETRY_DELAY.entry,
        settings.get(keys::JOB_SCHEDULE_RETRIES) != Some(0),
        "has no effect without job.schedule.retries",
    );
    found
}

/// The schedule that the settings make, if there is to be one. None where a key of it is wrong, which
/// whoever runs no job doesn't mind.
///
/// # Errors
/// The name of a key that must have a value, and has none.
pub(super) fn assemble(settings: &PassedValues) -> Result<Option<Scheduling>, &'static str> {
    if KEYS
        .iter()
        .any(|key| is_of_schedule(key) && settings.has_failed(key))
    {
        return Ok(None);
    }
    let cron = settings.get(keys::JOB_SCHEDULE_CRON);
    let every = settings.get(keys::JOB_SCHEDULE_EVERY);
    let pace = match (cron, every) {
        (Some(patterns), _) => Pace::Cron(patterns),
        (_, Some(span)) => Pace::Every(span),
        (None, None) => return Ok(None),
    };
    let timezone = settings.need(keys::JOB_SCHEDULE_TIMEZONE)?;
    // Pattern and zone passed one by one; the zone's file may have gone since.
    let schedule = Schedule::new(&pace, &timezone).map_err(|_| keys::JOB_SCHEDULE_TIMEZONE.name)?;
    let missed_max = settings.need(keys::JOB_SCHEDULE_MISSED_MAX)?;
    Ok(Some(Scheduling {
        schedule: Arc::new(schedule),
        policy: Policy {
            guarantee: match &*settings.need(keys::JOB_SCHEDULE_GUARANTEE)? {
                "at-least-once" => Guarantee::AtLeastOnce,
                _ => Guarantee::AtMostOnce,
            },
            missed: match &*settings.need(keys::JOB_SCHEDULE_MISSED)? {
                "skip" => Missed::Skip,
                "all" => Missed::All,
                _ => Missed::Last,
            },
            missed_max: usize::try_from(missed_max).unwrap_or(usize::MAX),
            start_within: settings.need(keys::JOB_SCHEDULE_START_WITHIN)?,
            overlap: match &*settings.need(keys::JOB_SCHEDULE_OVERLAP)? {
                "queue" => Overlap::Queue,
                "replace" => Overlap::Replace,
                _ => Overlap::Skip,
            },
            retries: settings.need(keys::JOB_SCHEDULE_RETRIES)?,
            retry_delay: settings.need(keys::JOB_SCHEDULE_RETRY_DELAY)?,
            jitter: settings.need(keys::JOB_SCHEDULE_JITTER)?,
            drain: settings.need(keys::JOB_SCHEDULE_DRAIN)?,
            timeout: settings.need(keys::JOB_TIMEOUT)?,
            history: settings.need(keys::JOB_SCHEDULE_HISTORY)?.into(),
        },
    }))
}
