//! How fast and how small it is: `make bench`.
//!
//! Measures what the design promises, in one run on one machine together with the floor that the
//! promises are made against: `F`, which is the commit of a delete, the delivery of a watch event
//! and one linearizable read between two warm clients, and `E`, which is fork and exec of the bare
//! job. Every hand-over begins after one second of quiet, and rows that are compared take turns, so
//! that whatever else the machine does hits all of them alike.
//!
//! | variable | means |
//! |---|---|
//! | `INCUMBENT_BENCH_RUNS` | samples of each hand-over (default 100; in a crowd: 30 at most) |
//! | `INCUMBENT_BENCH_CUTS` | samples of each fault that cuts a leader off (default 20) |
//! | `INCUMBENT_BENCH_FAULTS` | samples of each fault's hand-over (default 10; `etcdctl elect`: 3) |
//! | `INCUMBENT_BENCH_ROWS` | only rows whose name holds one of these words, with commas between |
//!
//! The variables of the test harness work too; see `tests/common/mod.rs`. The table is printed, and
//! written with all samples to `target/handover.json`, with a picture in `target/handover.svg`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that fails should fail at once, and the table is its purpose"
)]

#[path = "../../tests/common/mod.rs"]
mod common;

mod crowd;
mod cut_off;
mod etcdctl;
mod faults;
mod floor;
mod idle;
mod picture;
mod replicas;
mod slots;
mod table;

use std::time::Duration;

use common::{Cluster, Daemon};
use etcdctl::{Elect, Lock};
use faults::{Fault, Pending};
use floor::{Exec, Floor};
use replicas::{Launch, Replicas};
use slots::{Commit, KilledAtSlot, Slots};
use table::{Case, Row, Table, Target, Who};

/// Before each hand-over.
const QUIET: Duration = Duration::from_secs(1);

/// How many replicas stand in the large election.
const CROWD: usize = 50;

/// How many candidates of the library stand in the largest one.
const CONTENDERS: usize = 1000;

/// How many samples are taken where many candidates stand.
const IN_A_CROWD: usize = 30;

/// How many leaders of `etcdctl elect` are hit by each fault: its TTL of 60 s has no flag.
const SLOW: usize = 3;

/// What is measured over and over, beginning each time from quiet.
trait Contest {
    /// Takes one sample, in milliseconds, and makes ready for the next.
    fn sample(&mut self) -> f64;
}

/// A contest and the row that its samples go to.
struct Entry<'a> {
    row: Row,
    contest: Box<dyn Contest + 'a>,
}

/// What the environment asks for.
struct Settings {
    runs: usize,
    cuts: usize,
    faults: usize,
    rows: Vec<String>,
}

impl Settings {
    fn from_env() -> Self {
        let text = |name| std::env::var(name).ok();
        let number = |name, default| {
            text(name).map_or(default, |text| {
                text.parse()
                    .unwrap_or_else(|_| panic!("{name}: expected a number, found {text:?}"))
            })
        };
        let rows = text("INCUMBENT_BENCH_ROWS").unwrap_or_default();
        Self {
            runs: number("INCUMBENT_BENCH_RUNS", 100),
            cuts: number("INCUMBENT_BENCH_CUTS", 20),
            faults: number("INCUMBENT_BENCH_FAULTS", 10),
            rows: rows.split(',').map(str::to_owned).collect(),
        }
    }

    fn wants(&self, row: &str) -> bool {
        self.rows.iter().any(|word| row.contains(word.as_str()))
    }
}

fn main() {
    let settings = Settings::from_env();
    let cluster = Cluster::start(3);
    let mut table = Table::default();
    take_turns(&settings, &cluster, &mut table);
    let crowded = settings.runs.min(IN_A_CROWD);
    if settings.wants("one of 50:") {
        table.extend(crowd::of_replicas(&cluster, CROWD, crowded));
    }
    if settings.wants("one of 1000:") {
        table.extend(crowd::of_contenders(&cluster, CONTENDERS, crowded));
    }
    // They take a minute, beside what is measured in seconds.
    let slow: Vec<_> = begin_faults(&settings, &cluster, Who::Elect, SLOW).collect();
    for fault in [cut_off::STOPPED, cut_off::CUT] {
        if settings.wants(fault.name) {
            table.extend([cut_off::measure(&cluster, fault, settings.cuts)]);
        }
    }
    for who in [Who::Us, Who::Lock] {
        let hit = begin_faults(&settings, &cluster, who, settings.faults);
        table.extend(hit.map(Pending::finish));
    }
    table.extend(slow.into_iter().map(Pending::finish));
    if settings.wants("idle") {
        table.extend(idle::measure(&cluster));
    }
    print!("{table}");
    let file = table.write();
    println!("all samples: {}", file.display());
}

/// Hits leaders of one kind by each fault that is asked for. Kills of our own daemon are measured
/// in turns with what they are compared to.
fn begin_faults(
    settings: &Settings,
    cluster: &Cluster,
    who: Who,
    n: usize,
) -> impl Iterator<Item = Pending> {
    let faults = Fault::ALL.into_iter();
    let asked = faults.filter(move |fault| {
        let elsewhere = who == Who::Us && *fault == Fault::Kill;
        !elsewhere && settings.wants(&Pending::row_name(who, *fault))
    });
    asked.map(move |fault| Pending::begin(cluster, who, fault, n))
}

/// Runs the hand-overs of two or three contestants, one sample of each in turn.
fn take_turns(settings: &Settings, cluster: &Cluster, table: &mut Table) {
    let mut entries = vec![
        Entry {
            row: Row::new(table::FLOOR, "ms", Target::None),
            contest: Box::new(Floor::new(cluster)),
        },
        Entry {
            row: Row::new(table::EXEC, "ms", Target::None),
            contest: Box::new(Exec::new(cluster)),
        },
    ];
    macro_rules! enter {
        ($name:expr, $case:expr, $target:expr, $contest:expr) => {
            if settings.wants($name) {
                let mut row = Row::new($name, "ms", $target);
                row.case = $case;
                entries.push(Entry {
                    row,
                    contest: Box::new($contest),
                });
            }
        };
    }
    let planned = |who| {
        let fault = table::PLANNED;
        Some(Case { fault, who })
    };
    let killed = Case {
        fault: Fault::Kill.name(),
        who: Who::Us,
    };
    enter!(
        "SIGTERM of the leader → next job",
        planned(Who::Us),
        Target::Floors {
            median: 1.5,
            worst: None
        },
        Replicas::start(cluster, "term", 2, Daemon::sigterm)
    );
    enter!(
        "kill -9 of the daemon → next job",
        Some(killed),
        Target::Floors {
            median: 2.0,
            worst: Some(50.0)
        },
        Replicas::start(cluster, "kill", 2, Daemon::sigkill)
    );
    enter!(
        "launch → job, idle cluster",
        None,
        Target::Median(30.0),
        Launch::new(cluster)
    );
    enter!(
        "etcdctl lock: SIGTERM of the group → next job",
        planned(Who::Lock),
        Target::None,
        Lock::start(cluster)
    );
    enter!(
        "etcdctl elect: SIGTERM → elected",
        planned(Who::Elect),
        Target::None,
        Elect::start(cluster, "elect-term")
    );
    enter!(table::COMMIT, None, Target::None, Commit::new(cluster));
    enter!(
        "slot of a schedule → job, idle leader",
        None,
        Target::AfterCommit {
            floors: 0.0,
            millis: 15.0
        },
        Slots::start(cluster)
    );
    enter!(
        "kill -9 of the daemon at a slot → the next leader's run",
        None,
        Target::AfterCommit {
            floors: 2.0,
            millis: 0.0
        },
        KilledAtSlot::start(cluster)
    );
    for run in 0..settings.runs {
        eprint!("\rhand-overs: {} of {}", run + 1, settings.runs);
        for entry in &mut entries {
            std::thread::sleep(QUIET);
            entry.row.samples.push(entry.contest.sample());
        }
    }
    eprintln!();
    table.extend(entries.into_iter().map(|entry| entry.row));
}
