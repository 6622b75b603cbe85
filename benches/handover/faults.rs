//! Hand-overs after every kind of fault, and whether the old job was over by then: for replicas as
//! shipped, and for the tools that come with etcd.

use rustix::process::Signal;

use super::common::process::{self, monotonic_ns};
use super::common::{Cluster, Daemon, Links, Record, SOON, eventually, millis, secs};
use super::etcdctl::{Etcdctl, wait_in_queue};
use super::replicas::{ms, replica};
use super::table::{Case, Row, Target, Who};

/// A job that beats, so that one that lives on is seen.
const BEATING: &[&str] = &["--default-term", "--every", "20ms"];

/// The TTL of our replicas, for `etcdctl lock` too; it takes 10 s by itself.
const LOCK_TTL: &str = "--ttl=15";

/// Between two faults, so that they come at different moments of the renewals.
const APART: u64 = 137;

/// For how long a job that lives on is looked for: some beats.
const LOOK: u64 = 200;

/// What happens to a leader without notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process that holds the lease is killed.
    Kill,
    /// It stands still.
    Stop,
    /// The network swallows everything that it sends and is sent.
    Cut,
    /// All its processes and its network are gone at once.
    Host,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::Cut, Self::Host];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGSTOP",
            Self::Cut => "cut off",
            Self::Host => "host loss",
        }
    }
}

/// Who has the place in an election.
enum Holder {
    Replica(Daemon),
    Etcdctl(Etcdctl),
}

impl Holder {
    fn pid(&self) -> i32 {
        match self {
            Self::Replica(daemon) => daemon.pid(),
            Self::Etcdctl(etcdctl) => etcdctl.pid(),
        }
    }

    /// Every process that came of it.
    fn kill_all(&self) {
        match self {
            Self::Replica(daemon) => {
                for pid in daemon.processes() {
                    process::signal(pid, Signal::KILL);
                }
            }
            Self::Etcdctl(etcdctl) => etcdctl.signal_group(Signal::KILL),
        }
    }
}

/// A leader and the next in line, in an election of their own.
struct Pair {
    leader: Holder,
    next: Holder,
    links: Links,
    /// What their jobs did; those who elect without a job have none.
    record: Option<Record>,
    /// When the fault came.
    begun: u64,
}

impl Pair {
    fn start(cluster: &Cluster, who: Who, name: &str) -> Self {
        let links = Links::to(cluster);
        let record = (who != Who::Elect).then(|| Record::new(cluster.sandbox(), name));
        let join = |place: usize| match (who, &record) {
            (Who::Us, Some(record)) => {
                let replica = replica(cluster, record, &format!("{name}-{place}"))
                    .records(record, BEATING)
                    .prefix(&format!("/{name}"));
                let replica = if place == 0 {
                    replica.through(&links).spawn()
                } else {
                    replica.spawn()
                };
                replica.wait_log("campaigning", SOON);
                Holder::Replica(replica)
            }
            (_, record) => {
                let endpoints = if place == 0 {
                    links.urls()
                } else {
                    cluster.endpoints()
                };
                let arguments: Vec<_> = match record {
                    Some(record) => ["lock", LOCK_TTL, name, "--"]
                        .map(str::to_owned)
                        .into_iter()
                        .chain(record.command(BEATING))
                        .collect(),
                    None => ["elect", name, "me"].map(str::to_owned).to_vec(),
                };
                let etcdctl = Etcdctl::start(cluster, &endpoints, &arguments);
                wait_in_queue(cluster, name, place + 1);
                Holder::Etcdctl(etcdctl)
            }
        };
        let leader = join(0);
        match (&leader, &record) {
            (Holder::Etcdctl(leader), None) => drop(leader.first_line()),
            (_, record) => {
                let record = record.as_ref().unwrap();
                eventually(SOON, "the job runs", || !record.history().lives.is_empty());
            }
        }
        let next = join(1);
        Self {
            leader,
            next,
            links,
            record,
            begun: 0,
        }
    }

    fn hit(&mut self, fault: Fault) {
        self.begun = monotonic_ns();
        match fault {
            Fault::Kill => process::signal(self.leader.pid(), Signal::KILL),
            Fault::Stop => process::freeze(self.leader.pid()),
            Fault::Cut => self.links.black_hole(),
            Fault::Host => {
                self.links.black_hole();
                self.leader.kill_all();
            }
        }
    }

    /// How long it took until the next one led or its job ran, in milliseconds, and whether the
    /// old job still lived then.
    fn outcome(&self) -> (f64, bool) {
        let Some(record) = &self.record else {
            let Holder::Etcdctl(next) = &self.next else {
                unreachable!("replicas have jobs");
            };
            return (ms(next.first_line() - self.begun), false);
        };
        let begun = eventually(secs(120), "the next job runs", || {
            let lives = record.history().lives;
            let mut starts = lives.iter().map(|life| life.start);
            starts.find(|start| *start > self.begun)
        });
        std::thread::sleep(millis(LOOK));
        (ms(begun - self.begun), record.history().overlap().is_some())
    }
}

/// Leaders that have been hit, whose successors are not there yet.
pub(super) struct Pending {
    row: Row,
    pairs: Vec<Pair>,
}

impl Pending {
    pub(super) fn row_name(who: Who, fault: Fault) -> String {
        let next = match who {
            Who::Elect => "elected",
            Who::Us | Who::Lock => "next job",
        };
        format!("{}: {} → {next}", who.name(), fault.name())
    }

    /// Hits so many leaders.
    pub(super) fn begin(cluster: &Cluster, who: Who, fault: Fault, n: usize) -> Self {
        let name = Self::row_name(who, fault);
        eprintln!("{name}: {n} leaders");
        let election = |number| {
            let name = format!("{}-{}-{number}", who.name(), fault.name());
            name.replace(' ', "-").to_lowercase()
        };
        let mut pairs: Vec<_> = (0..n)
            .map(|number| Pair::start(cluster, who, &election(number)))
            .collect();
        for pair in &mut pairs {
            pair.hit(fault);
            std::thread::sleep(millis(APART));
        }
        let case = Case {
            fault: fault.name(),
            who,
        };
        Self {
            row: Row::new(&name, "ms", Target::None).of(case),
            pairs,
        }
    }

    /// Waits for the successors.
    pub(super) fn finish(self) -> Row {
        let Self { mut row, pairs } = self;
        let mut overlaps = 0;
        for pair in pairs {
            let (took, overlap) = pair.outcome();
            row.samples.push(took);
            overlaps += usize::from(overlap);
        }
        row.overlaps = Some(overlaps);
        row
    }
}
