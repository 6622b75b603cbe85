//! What the replicas of a history are configured with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::chance::{Chance, nanos};
use crate::config::timing::{SLACK, Timing};
use crate::config::{Check, Config, Election, Hook, Hooks, Job, Restart, Scheduling};
use crate::etcd::Settings;
use crate::keys::Prefix;
use crate::schedule::planner::{Guarantee, Missed, Overlap, Policy};
use crate::schedule::{Pace, Schedule};

/// The kind of a job that is written in Rust.
pub(super) const NATIVE: &str = "native";

/// What the configuration accepts, with a TTL of up to 15 s, or one from there to two minutes.
pub(super) fn any_timing(chance: &mut Chance, long: bool, least_kill: Duration) -> Timing {
    loop {
        let ttl = if long {
            Duration::from_secs(15 + chance.up_to(105))
        } else {
            Duration::from_secs(2 + chance.up_to(13))
        };
        let lost_grace = Duration::from_millis(chance.up_to(3000));
        let kill_budget = least_kill + Duration::from_millis(chance.up_to(2000));
        let timing = Timing::new(ttl, lost_grace, kill_budget);
        if timing.check().is_ok() {
            return timing;
        }
    }
}

/// A configuration by these times, with the odds of a history.
pub(super) fn any_config(chance: &mut Chance, timing: Timing) -> Config {
    let hook = |chance: &mut Chance| {
        chance.one_in(3).then(|| Hook {
            command: vec!["hook".to_owned()],
            limit: Duration::from_nanos(1 + chance.up_to(nanos(timing.ttl()))),
        })
    };
    let second = Duration::from_secs(1);
    let mut config = config(timing);
    config.check = chance.one_in(4).then(|| Check {
        command: vec!["check".to_owned()],
        interval: 4 * second,
        timeout: second,
        rise: 2,
        fall: 2,
    });
    config.election.takeover_delay += Duration::from_millis(chance.up_to(500));
    config.job.kind = if chance.one_in(5) { NATIVE } else { "command" }.to_owned();
    config.job.stop_grace = Duration::from_millis(chance.up_to(10_000));
    config.job.restart = chance.pick(&[Restart::Always, Restart::OnFailure, Restart::Never]);
    // Often none at all: then a start comes close behind the end before it.
    config.job.restart_delay = Duration::from_nanos(chance.span(2 * second));
    config.hooks.on_elected = hook(chance);
    config.hooks.on_lost = hook(chance);
    config
}

/// When a job runs and how, as the configuration accepts it: every few seconds.
pub(super) fn any_scheduling(chance: &mut Chance) -> Scheduling {
    let second = Duration::from_secs(1);
    let pace = Pace::Every(chance.pick(&[4, 8, 15, 20]) * second);
    Scheduling {
        schedule: Arc::new(Schedule::new(&pace, "UTC").expect("a schedule")),
        policy: Policy {
            guarantee: chance.pick(&[Guarantee::AtMostOnce, Guarantee::AtLeastOnce]),
            missed: chance.pick(&[Missed::Skip, Missed::Last, Missed::All]),
            missed_max: chance.pick(&[1, 5]),
            start_within: chance.pick(&[None, None, Some(4 * second), Some(15 * second)]),
            overlap: chance.pick(&[Overlap::Skip, Overlap::Queue, Overlap::Replace]),
            retries: chance.pick(&[0, 0, 1, 2]),
            retry_delay: chance.pick(&[0, 2]) * second,
            jitter: chance.pick(&[0, 0, 2]) * second,
            drain: chance.pick(&[0, 3]) * second,
            timeout: chance.pick(&[None, Some(2 * second), Some(8 * second)]),
            history: chance.pick(&[1, 2, 3, 1000]),
        },
    }
}

/// The plain configuration by these times: a command, without hooks and checks.
pub(in crate::candidate) fn config(timing: Timing) -> Config {
    let second = Duration::from_secs(1);
    Config {
        job_name: None,
        prefer: Vec::new(),
        prefer_after: Duration::from_mins(5),
        file: None,
        candidate_name: "replica".to_owned(),
        check: None,
        etcd: Settings {
            connect_timeout: second,
            ..Settings::new([""; 0])
        },
        election: Election {
            prefix: Prefix::new("/a"),
            ttl: timing.ttl(),
            takeover_delay: timing.kill_budget() + SLACK,
        },
        job: Job {
            kind: "command".to_owned(),
            command: vec!["job".to_owned()],
            working_dir: None,
            env: BTreeMap::new(),
            stop_signal: 15,
            stop_grace: 10 * second,
            lost_grace: timing.lost_grace(),
            kill_budget: timing.kill_budget(),
            restart: Restart::Always,
            restart_delay: second,
            restart_delay_max: 4 * second,
            yield_after: 3,
            yield_cooldown: 3 * second,
            settings: toml::Table::new(),
        },
        run_timeout: None,
        scheduling: None,
        hooks: Hooks::default(),
        runtime_dir: PathBuf::from("/run/replica"),
        http_listen: None,
        http_hosts: Vec::new(),
        log: crate::log::LogSettings::default(),
    }
}
