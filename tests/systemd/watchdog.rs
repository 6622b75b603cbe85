//! systemd's watchdog, the second line behind the guardian: when it strikes, and what follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::daemon::UNHEARD;
use crate::common::{eventually, millis, patience, secs, throughout};
use crate::replicas::{Replicas, Setup};
use crate::rig::{Rig, own_rig, rig};

/// How late systemd may strike.
const JITTER: Duration = Duration::from_millis(250);

/// What the watchdog of a daemon without a term is set to.
const IDLE: Duration = Duration::from_mins(1);

/// A time span as systemd writes it: `1min 2.5s`.
fn span(text: &str) -> Duration {
    let units = [
        ("min", 60_000_000.0),
        ("ms", 1000.0),
        ("us", 1.0),
        ("s", 1_000_000.0),
    ];
    let part = |part: &str| {
        let (number, unit) = units
            .iter()
            .find_map(|(name, unit)| Some((part.strip_suffix(name)?.parse::<f64>().ok()?, unit)))
            .unwrap_or_else(|| panic!("not a time span of systemd: {text:?}"));
        Duration::from_secs_f64(number * unit / 1e6)
    };
    text.split(' ').map(part).sum()
}

/// What the watchdog of an instance is set to now, from its last sign of life on.
fn watchdog(replicas: &Replicas, i: usize) -> Duration {
    span(&replicas.property(i, "WatchdogUSec"))
}

/// The longest of its settings, over three renewals of a TTL: what it is told right after a
/// renewal was sent.
fn longest(replicas: &Replicas, ttl: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    throughout(ttl / 5 * 3, "a term has a watchdog", || {
        let now = watchdog(replicas, 1);
        longest = longest.max(now);
        now < ttl
    });
    longest
}

#[test]
fn a_term_sets_the_watchdog_between_the_kill_and_the_end_of_the_lease() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 2,
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "interval", &setup);
    replicas.wait_term(1);
    // T = 15 s, K = 1 s, D = s + T·0.999 − 200 ms.
    eventually(secs(10), "the term has a watchdog", || {
        watchdog(&replicas, 1) < IDLE
    });
    let set = longest(&replicas, secs(15));
    let (kill, hook) = (millis(13_785), millis(150));
    assert!(set > kill, "{set:?}: before the guardian kills");
    assert!(
        set + JITTER + hook < secs(15),
        "{set:?}: no time for the hook"
    );
    assert_eq!(watchdog(&replicas, 2), IDLE);
}

#[test]
fn a_unit_that_hangs_whole_is_killed_and_fenced_before_its_lease_ends() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 2,
        config: "election.ttl = \"5s\"\n",
        // Once its hooks are over systemd kills who is left, which must not do the hook's work.
        drop_in: "ExecStopPost=/bin/sleep 3\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "whole", &setup);
    let job = replicas.wait_term(1);
    let (daemon, guardian) = (replicas.daemon(1), replicas.guardian_of(&job));
    rig.ok(&["kill", "-STOP", &guardian, &daemon]);
    let next = replicas.wait_term(2);
    // The job beat on, and was fenced with the key still there: or else the marker would not say
    // so, and the next would have waited for the lease's end and for the takeover delay.
    let history = replicas.proven();
    let gap = history.handover_gaps()[0];
    println!("all but the job hung: from its last beat to the next job's start: {gap:.1?}");
    assert!(gap < patience(millis(1000)), "{gap:?}");
    let marker = replicas.status()["marker"].as_i64();
    assert!(marker >= Some(job.token), "{marker:?}: {history:?}");
    assert!(next.token > job.token);
    let resigned = replicas.wait_line(1, "that its hook resigned", |line| {
        line["MESSAGE"] == "resigned" && line["INCUMBENT_BY"] == "release"
    });
    assert_eq!(resigned["INCUMBENT_CONFIRMED"], "true", "{resigned}");
    replicas.wait_line(1, "that the watchdog struck", |line| {
        let text = line["MESSAGE"].as_str().unwrap_or_default();
        text.contains("Watchdog timeout")
    });
    replicas.wait_queued(1);
    replicas.proven();
}

#[test]
fn a_term_whose_lease_leaves_no_room_for_a_watchdog_has_none() {
    let Some(rig) = rig() else { return };
    let setup = Setup {
        instances: 1,
        config: "election.ttl = \"3s\"\njob.kill_budget = \"150ms\"\n",
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "small", &setup);
    replicas.wait_term(1);
    // It would strike before the guardian does, or too late.
    throughout(secs(3), "the watchdog stays idle", || {
        let set = watchdog(&replicas, 1);
        if set == IDLE { Ok(()) } else { Err(set) }
    });
}

/// More than the messages that the service manager's queue holds where nobody has made that longer.
const ELECTIONS: [&str; 15] = [
    "at-a", "at-b", "at-c", "at-d", "at-e", "at-f", "at-g", "at-h", "at-i", "at-j", "at-k", "at-l",
    "at-m", "at-n", "at-o",
];

/// Units read anew again and again, which is all that the service manager does meanwhile; until dropped.
struct Reloading {
    is_over: Arc<AtomicBool>,
}

impl Reloading {
    fn start(rig: &'static Rig) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                rig.run(&["systemctl", "daemon-reload"]);
            }
        });
        Self { is_over }
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn where_the_service_manager_has_no_time_no_job_runs_without_its_terms_watchdog() {
    let Some(rig) = own_rig() else { return };
    let ttl = secs(15);
    let setup = Setup {
        instances: 1,
        ..Setup::default()
    };
    let all = ELECTIONS.map(|name| Replicas::prepare(rig, name, &setup));
    let units = all.each_ref().map(|replicas| replicas.unit(1));
    let units = units.each_ref().map(String::as_str);
    let reloading = Reloading::start(rig);
    rig.ok(&[&["systemctl", "start", "--no-block"], &units[..]].concat());
    let mut waiting: Vec<&Replicas> = all.iter().collect();
    let mut guarded = 0;
    eventually(secs(60), "all have a job", || {
        waiting.retain(|replicas| {
            if replicas.record.history().lives.is_empty() {
                return true;
            }
            // What was sent before this question is worked on before it.
            let set = watchdog(replicas, 1);
            guarded += usize::from(set < ttl);
            // For a second it may be waited for.
            let excused = set < ttl || replicas.has_said(1, UNHEARD);
            assert!(excused, "{}: {set:?}", replicas.name);
            false
        });
        waiting.is_empty()
    });
    drop(reloading);
    println!("{guarded} of {} jobs began guarded", all.len());
    assert!(guarded > 0);
}
