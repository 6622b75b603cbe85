//! `job.schedule.*`: what must hold between its keys, and what comes of them.

use std::sync::Arc;

use super::keys::{self, Entry, KEYS};
use super::place::{Place, Problem};
use super::rules::PassedValues;
use crate::schedule::planner::{Guarantee, Missed, Overlap, Policy};
use crate::schedule::{Pace, Schedule};

/// When the job runs, where it doesn't run all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// At which instants.
    pub schedule: Arc<Schedule>,
    /// How; with the timeout of a run.
    pub policy: Policy,
}

impl Scheduling {
    /// What the digest of a configuration holds of it: nothing of this host's database of zones.
    pub(super) fn digest(&self) -> String {
        format!("{} {:?}", self.schedule.spec(), self.policy)
    }
}

/// Whether the key stands in `[job.schedule]`.
fn is_of_schedule(key: &Entry) -> bool {
    key.split().0 == "job.schedule"
}

/// The keys of the section that the user wrote, right or wrong, each with its place.
fn written(settings: &PassedValues) -> impl Iterator<Item = (&'static Entry, Place)> {
    let keys = KEYS.iter().filter(|key| is_of_schedule(key));
    keys.filter_map(|key| Some((key, settings.written(key)?)))
}

/// What is wrong between keys.
pub(super) fn broken(settings: &PassedValues, problems: &mut Vec<Problem>) {
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
