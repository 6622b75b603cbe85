//! How long a hand-over takes under the shipped unit: `make bench-systemd`.
//!
//! | variable | means |
//! |---|---|
//! | `INCUMBENT_BENCH_ROUNDS` | samples of each fault (default 30) |
//! | `INCUMBENT_BENCH_ROWS` | only faults whose name holds one of these words, with commas between |
//!
//! Every round begins after a second of quiet, and fails if two jobs ever lived at once. Faults that
//! are measured in milliseconds take turns in elections of their own; those that wait for a deadline
//! run beside each other, with several leaders each. What is promised is promised of the median. The
//! table is printed, and written with all
//! samples to `target/systemd.json`.

mod slots;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::process::{monotonic_ns, signal};
use crate::common::{eventually, secs};
use crate::replicas::{Leader, Replicas, Setup};
use crate::rig::{Rig, rig};
use crate::store::Store;

/// Before each fault.
const QUIET: Duration = Duration::from_secs(1);

/// How many elections the samples of a slow fault come from, side by side.
const SIDE_BY_SIDE: usize = 2;

/// What a hand-over after a crash takes at most, in milliseconds, at the median.
const CRASH: f64 = 40.0;

/// What befalls a leader.
struct Fault {
    name: &'static str,
    /// Names of its elections.
    elections: &'static [&'static str],
    /// What the store asks for.
    asks: Asks,
    /// The longest that a hand-over may take, in milliseconds.
    target: Option<f64>,
    throw: fn(&Leader<'_>),
    /// Brings the one that led back where nobody else does.
    mend: fn(&Leader<'_>),
}

/// What a store asks for.
#[derive(Clone, Copy)]
enum Asks {
    Nothing,
    Tls,
    TlsAndPassword,
}

impl Asks {
    /// A store of an election's own where it asks for anything, and its client's configuration.
    fn store(self, rig: &'static Rig, election: &'static str) -> (Option<Store>, String) {
        let tls = format!("etcd.tls.ca_file = \"/etc/incumbent/{election}.ca.pem\"\n");
        match self {
            Self::Nothing => (None, String::new()),
            Self::Tls => (Some(Store::start_tls(rig, election, 6379)), tls),
            Self::TlsAndPassword => {
                let mut store = Store::start_tls(rig, election, 7379);
                store.lock(rig, &format!("/{election}"), "daemon", "correct horse");
                rig.write_secret("/etc/incumbent/bench.password", "correct horse\n");
                fs::write(rig.file("bench.password"), "correct horse\n").unwrap();
                let login = "etcd.username = \"daemon\"\n\
                             etcd.password_file = \"${CREDENTIALS_DIRECTORY}/etcd-password\"\n";
                (Some(store), tls + login)
            }
        }
    }

    /// More lines of the unit.
    const fn drop_in(self) -> &'static str {
        match self {
            Self::Nothing | Self::Tls => "",
            Self::TlsAndPassword => "LoadCredential=etcd-password:/etc/incumbent/bench.password\n",
        }
    }

    /// What the test's own commands need.
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Nothing | Self::Tls => &[],
            Self::TlsAndPassword => &["INCUMBENT__ETCD__PASSWORD_FILE=/rig/bench.password"],
        }
    }
}

const FAST: [Fault; 5] = [
    Fault {
        name: "systemctl stop",
        elections: &["stops"],
        asks: Asks::Nothing,
        target: None,
        throw: |leader| leader.systemctl("stop"),
        mend: |leader| leader.systemctl("start"),
    },
    Fault {
        name: "kill -9 of the daemon",
        elections: &["mains"],
        asks: Asks::Nothing,
        target: Some(CRASH),
        throw: |leader| signal(leader.daemon, Signal::KILL),
        mend: |_| {},
    },
    Fault {
        name: "kill -9 of the daemon, TLS",
        elections: &["mains-tls"],
        asks: Asks::Tls,
        target: Some(CRASH),
        throw: |leader| signal(leader.daemon, Signal::KILL),
        mend: |_| {},
    },
    Fault {
        name: "kill -9 of the daemon, TLS and password",
        elections: &["mains-password"],
        asks: Asks::TlsAndPassword,
        target: Some(CRASH),
        throw: |leader| signal(leader.daemon, Signal::KILL),
        mend: |_| {},
    },
    Fault {
        name: "kill -9 of everything",
        elections: &["alls"],
        asks: Asks::Nothing,
        target: Some(CRASH),
        throw: |leader| fs::write(leader.group.join("cgroup.kill"), "1").unwrap(),
        mend: |_| {},
    },
];

const SLOW: [Fault; 3] = [
    Fault {
        name: "SIGSTOP of the daemon",
        elections: &["hung-a", "hung-b"],
        asks: Asks::Nothing,
        target: None,
        throw: |leader| signal(leader.daemon, Signal::STOP),
        mend: |_| {},
    },
    Fault {
        name: "SIGSTOP of daemon and guardian",
        elections: &["dogged-a", "dogged-b"],
        asks: Asks::Nothing,
        target: None,
        throw: |leader| {
            signal(leader.guardian, Signal::STOP);
            signal(leader.daemon, Signal::STOP);
        },
        mend: |_| {},
    },
    Fault {
        name: "cut off",
        elections: &["cuts-a", "cuts-b"],
        asks: Asks::Nothing,
        target: None,
        throw: |leader| leader.filter(&["IPAddressAllow=", "IPAddressDeny=any"]),
        mend: |leader| leader.filter(&["IPAddressAllow=any"]),
    },
];

/// One hand-over, in milliseconds.
#[derive(Clone, Copy)]
struct Sample {
    /// From the fault to the first line of the next job.
    took: f64,
    /// From the last beat of the job before to it: so long there was none.
    gap: f64,
}

fn start(rig: &'static Rig, election: &'static str, asks: Asks, every: &str) -> Replicas {
    let (store, config) = asks.store(rig, election);
    let setup = Setup {
        store: store.as_ref(),
        job: &["--default-term", "--every", every],
        config: &config,
        drop_in: asks.drop_in(),
        variables: asks.variables(),
        ..Setup::default()
    };
    let replicas = Replicas::start_with(rig, election, &setup);
    replicas.wait_term(1);
    replicas
}

/// Throws a fault once at whoever leads, and waits until the one that led is back.
fn round(fault: &Fault, replicas: &Replicas) -> Sample {
    let leader = Leader::of(replicas);
    std::thread::sleep(QUIET);
    // What is past was looked at; the recorder appends.
    File::options()
        .write(true)
        .truncate(true)
        .open(replicas.record.file())
        .unwrap();
    let begun = monotonic_ns();
    (fault.throw)(&leader);
    let next = eventually(secs(40), "the next job runs", || {
        let history = replicas.record.history();
        let mut lives = history.lives.iter();
        let next = lives.find(|life| life.token > leader.token).cloned();
        next.ok_or(history)
    });
    (fault.mend)(&leader);
    replicas.wait_queued(leader.i);
    let history = replicas.proven();
    let last = history.last_beat_of(leader.token).unwrap_or(begun);
    Sample {
        took: ms(next.start - begun),
        gap: ms(next.start - last),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "not in spans that anybody waits for"
)]
fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// What the rows are about.
struct Row<'a> {
    fault: &'a Fault,
    samples: Vec<Sample>,
}

impl Row<'_> {
    fn sorted(&self, of: fn(&Sample) -> f64) -> Vec<f64> {
        let mut sorted: Vec<_> = self.samples.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Median and worst.
    fn shown(&self, of: fn(&Sample) -> f64) -> (f64, f64) {
        median_and_worst(&self.sorted(of))
    }

    fn passes(&self) -> Option<bool> {
        self.fault
            .target
            .map(|most| self.shown(|sample| sample.took).0 <= most)
    }

    fn line(&self) -> String {
        let (took, gap) = (
            self.shown(|sample| sample.took),
            self.shown(|sample| sample.gap),
        );
        let verdict = match self.passes() {
            Some(true) => "pass",
            Some(false) => "MISS",
            None => "",
        };
        let target = self
            .fault
            .target
            .map_or("—".to_owned(), |most| format!("≤ {most}"));
        format!(
            "{:40} {target:>6} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>4}  {verdict}",
            self.fault.name,
            took.0,
            took.1,
            gap.0,
            gap.1,
            self.samples.len()
        )
    }

    fn json(&self) -> Value {
        let (took, gap) = (
            self.shown(|sample| sample.took),
            self.shown(|sample| sample.gap),
        );
        json!({
            "fault": self.fault.name,
            "target": self.fault.target,
            "median": took.0,
            "worst": took.1,
            "gap_median": gap.0,
            "gap_worst": gap.1,
            "n": self.samples.len(),
            "pass": self.passes(),
            "samples": self.samples.iter().map(|sample| sample.took).collect::<Vec<_>>(),
            "gaps": self.samples.iter().map(|sample| sample.gap).collect::<Vec<_>>(),
        })
    }
}

/// Faults that take milliseconds, in turns.
fn in_turns<'a>(rig: &'static Rig, faults: &[&'a Fault], rounds: usize) -> Vec<Row<'a>> {
    let mut rows: Vec<_> = faults
        .iter()
        .map(|fault| {
            (
                start(rig, fault.elections[0], fault.asks, "5ms"),
                *fault,
                Vec::new(),
            )
        })
        .collect();
    for number in 1..=rounds {
        for (replicas, fault, samples) in &mut rows {
            samples.push(round(fault, replicas));
        }
        say(&format!(
            "hand-overs after crashes and stops: {number} of {rounds}"
        ));
    }
    let rows = rows.into_iter();
    rows.map(|(_, fault, samples)| Row { fault, samples })
        .collect()
}

/// Faults that wait for a deadline, side by side.
fn side_by_side<'a>(rig: &'static Rig, faults: &[&'a Fault], rounds: usize) -> Vec<Row<'a>> {
    let share = rounds.div_ceil(SIDE_BY_SIDE);
    let of_one = |fault: &Fault, election: &'static str| {
        let replicas = start(rig, election, fault.asks, "20ms");
        let sample = |number: usize| {
            let sample = round(fault, &replicas);
            say(&format!(
                "{}: {number} of {share} in {election}",
                fault.name
            ));
            sample
        };
        (1..=share).map(sample).collect::<Vec<_>>()
    };
    let rows: Vec<_> = faults
        .iter()
        .map(|fault| {
            Mutex::new(Row {
                fault,
                samples: Vec::new(),
            })
        })
        .collect();
    std::thread::scope(|scope| {
        for row in &rows {
            let fault = row.lock().unwrap().fault;
            for election in fault.elections {
                scope.spawn(move || {
                    let samples = of_one(fault, election);
                    row.lock().unwrap().samples.extend(samples);
                });
            }
        }
    });
    rows.into_iter()
        .map(|row| row.into_inner().unwrap())
        .collect()
}

/// Of samples in their order.
fn median_and_worst(sorted: &[f64]) -> (f64, f64) {
    let n = sorted.len();
    (
        f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]),
        sorted[n - 1],
    )
}

/// Writes results to a file of this name in the folder of all that is built.
fn leave(name: &str, results: &Value) {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap_or(Path::new("."));
    fs::write(target.join(name), format!("{results:#}\n")).unwrap();
}

/// Past the test harness, which hides what a test that passes prints.
fn say(text: &str) {
    std::io::stderr()
        .write_all(format!("{text}\n").as_bytes())
        .unwrap();
}

#[test]
#[ignore = "measures for ten minutes: make bench-systemd"]
fn hand_overs_under_the_unit_take_as_long_as_is_promised() {
    let Some(rig) = rig() else { return };
    let variable = |name| std::env::var(name).ok();
    let rounds = variable("INCUMBENT_BENCH_ROUNDS").map_or(30, |text| text.parse().unwrap());
    let words = variable("INCUMBENT_BENCH_ROWS").unwrap_or_default();
    let wanted = |fault: &&Fault| words.split(',').any(|word| fault.name.contains(word));
    let mut rows = in_turns(rig, &FAST.iter().filter(wanted).collect::<Vec<_>>(), rounds);
    rows.extend(side_by_side(
        rig,
        &SLOW.iter().filter(wanted).collect::<Vec<_>>(),
        rounds,
    ));
    say(&format!(
        "{:40} {:>6} {:>9} {:>9} {:>9} {:>9} {:>4}",
        "ms from the fault to the next job", "target", "median", "worst", "no job", "worst", "n"
    ));
    for row in &rows {
        say(&row.line());
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let results = json!({
        "cores": cores,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    leave("systemd.json", &results);
    let missed: Vec<_> = rows
        .iter()
        .filter(|row| row.passes() == Some(false))
        .collect();
    let missed: Vec<_> = missed.iter().map(|row| row.fault.name).collect();
    assert!(missed.is_empty(), "longer than promised: {missed:?}");
}
