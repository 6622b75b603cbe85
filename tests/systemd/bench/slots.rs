//! How late a scheduled job begins under the shipped unit, beside a timer of the service manager's and
//! beside cron, in the same minutes on the same machine.
//!
//! `INCUMBENT_BENCH_MINUTES` says how long (default 4): cron has one slot a minute. The table is printed,
//! and written with all samples to `target/slots.json`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{leave, median_and_worst, ms, say};
use crate::common::process::{monotonic_ns, realtime_ns};
use crate::common::{Record, skipped};
use crate::replicas::{Replicas, Setup};
use crate::rig::{Rig, rig};

/// What each job does: it is over long before the next slot.
const JOB: &str = "--exit-after 20ms --every 10ms";

/// Between two slots of those that know seconds.
const APART: u64 = 4;

/// Who starts a job by the time of day.
struct Scheduler {
    name: &'static str,
    record: Record,
    /// Seconds between two slots, and from a whole number of them to the first.
    apart: u64,
    first: u64,
}

impl Scheduler {
    /// How late each job began, in milliseconds, by the difference of both clocks.
    fn late(&self, ahead: u64) -> Vec<f64> {
        let second = 1_000_000_000;
        let lives = self.record.history().lives;
        let late = |start: u64| ms((start + ahead - self.first * second) % (self.apart * second));
        let mut late: Vec<_> = lives.iter().map(|life| late(life.start)).collect();
        late.sort_by(f64::total_cmp);
        late
    }
}

/// How far the time of day is ahead of the clock of the records.
fn ahead() -> u64 {
    realtime_ns() - monotonic_ns()
}

fn record(rig: &Rig, name: &str) -> Record {
    Record::at(rig.file(&format!("{name}.record")))
}

/// A timer as exact as there is, a second after ours.
fn start_timer(rig: &Rig) -> Scheduler {
    let job = format!("/usr/bin/recorder /rig/timer.record {JOB}");
    rig.write(
        "/etc/systemd/system/timed.service",
        &format!("[Service]\nType=oneshot\nExecStart={job}\n"),
    );
    rig.write(
        "/etc/systemd/system/timed.timer",
        &format!("[Timer]\nOnCalendar=*:*:1/{APART}\nAccuracySec=1us\n"),
    );
    rig.ok(&["systemctl", "daemon-reload"]);
    rig.ok(&["systemctl", "start", "timed.timer"]);
    Scheduler {
        name: "systemd timer, AccuracySec=1us",
        record: record(rig, "timer"),
        apart: APART,
        first: 1,
    }
}

/// Cron, where there is one. It has no slots but whole minutes.
fn start_cron(rig: &Rig) -> Option<Scheduler> {
    if !Path::new("/usr/sbin/cron").exists() {
        skipped("cron in the table of slots: /usr/sbin/cron is missing");
        return None;
    }
    let job = format!("/usr/bin/recorder /rig/cron.record {JOB}");
    rig.write("/etc/cron.d/rig", &format!("* * * * * root {job}\n"));
    rig.ok(&["systemd-run", "--unit=rig-cron", "/usr/sbin/cron", "-f"]);
    Some(Scheduler {
        name: "cron",
        record: record(rig, "cron"),
        apart: 60,
        first: 0,
    })
}

#[test]
#[ignore = "measures for some minutes: make bench-systemd"]
fn slots_begin_on_time_beside_a_timer_and_cron() {
    let Some(rig) = rig() else { return };
    let minutes = std::env::var("INCUMBENT_BENCH_MINUTES");
    let minutes = minutes.map_or(4, |text| text.parse().unwrap());
    let job: Vec<_> = JOB.split(' ').collect();
    let setup = Setup {
        instances: 1,
        job: &job,
        config: &format!("job.schedule.every = \"{APART}s\"\n"),
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, "slots", &setup);
    let ours = Scheduler {
        name: "incumbent, claimed in etcd first",
        record: replicas.record.clone(),
        apart: APART,
        first: 0,
    };
    let schedulers: Vec<_> = [ours, start_timer(rig)]
        .into_iter()
        .chain(start_cron(rig))
        .collect();
    let before = ahead();
    std::thread::sleep(Duration::from_mins(minutes));
    let after = ahead();
    assert!(before.abs_diff(after) < 10_000_000, "the clock was set");

    say(&format!(
        "{:36} {:>9} {:>9} {:>4}",
        "ms from the slot to the job", "median", "worst", "n"
    ));
    let mut rows = Vec::<Value>::new();
    for scheduler in &schedulers {
        let late = scheduler.late(after);
        let n = late.len();
        assert!(n > 0, "{} never started its job", scheduler.name);
        let (median, worst) = median_and_worst(&late);
        say(&format!(
            "{:36} {median:>9.1} {worst:>9.1} {n:>4}",
            scheduler.name
        ));
        rows.push(json!({
            "who": scheduler.name,
            "median": median,
            "worst": worst,
            "n": n,
            "samples": late,
        }));
    }
    leave("slots.json", &json!({ "rows": rows }));
}
