//! The replicas: each with its own ways to the members, started again when it ends, as systemd
//! would do it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;

use crate::beside::{self, Ill};
use crate::checker::tells_of_a_panic;
use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, Daemon, Links, Random, eventually, millis, program, secs};
use crate::elections::{ELECTIONS, Election};
use crate::faults::nanos;
use crate::kinds::Whom;
use crate::processes::{bears, guardian, guardian_of_checks, job, of_ours, whole_tree};
use crate::schedule;
use crate::slots::SlotPolicy;
use crate::store::{COUNTER, DONE};
use crate::worlds::{self, Ways, World};

/// Those whose job runs all the time, and those of the scheduled one behind them.
const STEADY: usize = 5;

pub(crate) const REPLICAS: usize = STEADY + 3;

/// TTL, stop_grace, lost_grace, kill_budget.
const TIMES: [[&str; 4]; 4] = [
    ["4s", "2s", "300ms", "500ms"],
    ["5s", "1s", "800ms", "500ms"],
    ["4s", "500ms", "100ms", "400ms"],
    ["6s", "3s", "1s", "600ms"],
];

/// The longest of [`TIMES`].
pub(crate) const LONGEST_TTL: std::time::Duration = std::time::Duration::from_secs(6);

/// The longest stop_grace of [`TIMES`].
pub(crate) const LONGEST_GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// The longest kill_budget of [`TIMES`].
pub(crate) const LONGEST_BUDGET: std::time::Duration = std::time::Duration::from_millis(600);

/// The longest take-over delay: that of the longest kill_budget.
pub(crate) const LONGEST_DELAY: std::time::Duration = std::time::Duration::from_millis(1_100);

/// How the jobs misbehave.
const JOBS: [&[&str]; 9] = [
    &[],
    &["--ignore-term"],
    &["--child-own-session"],
    &["--ignore-term", "--child-own-session"],
    &["--daemonised-child"],
    &["--end-after-term", "700ms"],
    &["--hang-after", "400ms", "--ignore-term"],
    &["--fork-every", "50ms"],
    &["--exit-after", "3s", "--code", "1"],
];

/// How the scheduled ones do; how long each takes and how it ends is drawn for each run.
const SCHEDULED_JOBS: [&[&str]; 8] = [
    &["--drawn", "300ms"],
    &["--drawn", "1s"],
    &["--drawn", "4s"],
    &["--drawn", "2s", "--ignore-term"],
    &["--drawn", "3s", "--child-own-session"],
    &["--drawn", "2s", "--daemonised-child"],
    &["--drawn", "6s", "--end-after-term", "700ms"],
    &["--drawn", "1s", "--fork-every", "50ms"],
];

pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) election: Election,
    pub(crate) links: Links,
    /// The binary of its job, which no other replica has.
    pub(crate) program: PathBuf,
    ways: Ways,
    /// Until when it suffers a fault of its processes, and of its network.
    busy: [AtomicU64; 2],
    state: Mutex<State>,
}

struct State {
    /// All that were ever started; the last is the current one.
    daemons: Vec<Daemon>,
    random: Random,
    times: usize,
    world: World,
    ended: Option<u64>,
}

/// Where the scheduled job's runs say what they are for, in the sandbox.
pub(crate) const SLOTS: &str = "slots";

/// All of them, and what they share.
pub(crate) struct Replicas<'a> {
    cluster: &'a Cluster,
    pub(crate) policy: SlotPolicy,
    pub(crate) all: Vec<Replica>,
    pub(crate) odd_ends: Mutex<Vec<(u64, String)>>,
    /// Whether those that end are started again.
    wanted: AtomicBool,
}

impl<'a> Replicas<'a> {
    pub(crate) fn start(cluster: &'a Cluster, seed: u64) -> Self {
        let sandbox = cluster.sandbox();
        let recorder = Election::Steady.record(sandbox).command(&[]).swap_remove(0);
        let program = |name: &str| {
            let copy = sandbox.join(&format!("recorder-{name}"));
            std::fs::copy(&recorder, &copy).unwrap();
            copy
        };
        worlds::open(sandbox, &["writes", SLOTS]);
        for election in ELECTIONS {
            let record = election.record(sandbox);
            let record = record.file().file_name().unwrap().to_str().unwrap();
            worlds::open(sandbox, &[election.lock(), record]);
        }
        let mut random = Random::new(seed ^ 0x0007_0712);
        let mut world = || match random.below(2) {
            0 => World::Plain,
            _ => Some(schedule::draw_world(&mut random))
                .filter(|world| world.can_be())
                .unwrap_or(World::Plain),
        };
        let worlds = [(); REPLICAS].map(|()| world());
        println!("in these worlds at first: {worlds:?}");
        let replica = |i: usize| {
            let (election, number) = if i < STEADY {
                (Election::Steady, i)
            } else {
                (Election::Scheduled, i - STEADY)
            };
            let name = format!("{}{number}", election.letter());
            Replica {
                election,
                ways: Ways::new(&name),
                links: Links::to(cluster),
                program: program(&name),
                busy: Default::default(),
                state: Mutex::new(State {
                    daemons: Vec::new(),
                    random: Random::new(seed ^ (0x1234_5678 + u64::try_from(i).unwrap())),
                    times: i % TIMES.len(),
                    world: worlds[i].of(election),
                    ended: None,
                }),
                name,
            }
        };
        let policy = SlotPolicy::of(seed);
        println!("the scheduled job: {policy}");
        let this = Self {
            cluster,
            policy,
            all: (0..REPLICAS).map(replica).collect(),
            odd_ends: Mutex::default(),
            wanted: AtomicBool::new(true),
        };
        for replica in &this.all {
            this.spawn(replica, &mut replica.state());
        }
        this
    }

    fn spawn(&self, replica: &Replica, state: &mut State) {
        let [ttl, stop_grace, lost_grace, kill_budget] = TIMES[state.times];
        let folder = self.cluster.sandbox();
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let binary = binary();
        let election = replica.election;
        let record = election.record(folder);
        let (lock, writes, slots) = (file(election.lock()), file("writes"), file(SLOTS));
        let mut flags = vec!["--lock", &lock];
        let schedule = match election {
            Election::Steady => {
                flags.extend(["--every", "10ms", "--count", &writes, COUNTER, &binary]);
                flags.extend(JOBS[state.random.below(JOBS.len())]);
                String::new()
            }
            Election::Scheduled => {
                flags.extend(["--every", "20ms", "--slots", &slots]);
                flags.extend(["--complete", DONE, &binary]);
                flags.extend(SCHEDULED_JOBS[state.random.below(SCHEDULED_JOBS.len())]);
                self.policy.toml()
            }
        };
        // One of them at most: somebody must lead in the end.
        let may_refuse = replica.name == self.all[0].name;
        let random = &mut state.random;
        let beside = beside::settings(
            folder.path(),
            &replica.name,
            &record,
            &lock,
            random,
            may_refuse,
        );
        let mut job = record.command(&flags);
        replica.program.to_str().unwrap().clone_into(&mut job[0]);
        let builder = Daemon::builder(self.cluster, &replica.name).through(&replica.links);
        let builder = replica
            .ways
            .settle(builder, state.world, folder, &replica.links, job);
        let daemon = builder
            .prefix(election.prefix())
            .ttl(ttl)
            .toml(&beside)
            .toml(&schedule)
            .toml(&format!(
                "job = {{ stop_grace = '{stop_grace}', lost_grace = '{lost_grace}', \
                 kill_budget = '{kill_budget}', restart_delay = '200ms', \
                 restart_delay_max = '2s', yield_cooldown = '3s' }}"
            ))
            .spawn();
        state.daemons.push(daemon);
        state.ended = None;
    }

    /// Starts daemons again a moment after their end, until it is told to stop.
    pub(crate) fn supervise(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            for replica in &self.all {
                let mut state = replica.state();
                let Some(status) = state.current().exit_status() else {
                    continue;
                };
                let now = monotonic_ns();
                let Some(ended) = state.ended else {
                    state.ended = Some(now);
                    // Killed: by a fault, or by its guardian. Exit 0: as it was told.
                    if !status.success()
                        && std::os::unix::process::ExitStatusExt::signal(&status) != Some(9)
                    {
                        let what = format!("{}: {status}", replica.name);
                        self.odd_ends
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((now, what));
                    }
                    continue;
                };
                // The shipped unit leaves systemd's own pause.
                if now - ended >= 100_000_000 && self.wanted.load(Ordering::Relaxed) {
                    self.spawn(replica, &mut state);
                }
            }
            std::thread::sleep(millis(10));
        }
    }

    /// Waits until each of them has a daemon.
    pub(crate) fn wait_complete(&self) {
        eventually(secs(20), "every replica runs", || {
            self.all
                .iter()
                .all(|replica| replica.state().current().is_alive())
        });
    }

    /// What its job was started with by whoever was elected last, and the token.
    pub(crate) fn variables_of_job(&self) -> Option<(i64, Vec<(String, String)>)> {
        let (i, token) = self.leader(Election::Steady)?;
        let job = job(self.all[i].state().current())?;
        let environ = std::fs::read_to_string(format!("/proc/{job}/environ")).ok()?;
        let variables: Vec<_> = environ
            .split('\0')
            .filter_map(|variable| variable.split_once('='))
            .filter(|(name, _)| name.starts_with("INCUMBENT_"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let own = ("INCUMBENT_TOKEN".to_owned(), token.to_string());
        variables.contains(&own).then_some((token, variables))
    }

    /// Those of one election.
    pub(crate) fn of(&self, election: Election) -> impl Iterator<Item = &Replica> {
        let all = self.all.iter();
        all.filter(move |replica| replica.election == election)
    }

    /// The replica of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Replica> {
        self.all.iter().find(|replica| replica.name == name)
    }

    /// Who says that it was elected last in this election, and its token.
    pub(crate) fn leader(&self, election: Election) -> Option<(usize, i64)> {
        let last = |i: usize| {
            let lines = self.all[i].state().current().lines("elected");
            lines.last().map(|line| (line.token(), i))
        };
        let of_it = |i: &usize| self.all[*i].election == election;
        let (token, i) = (0..self.all.len()).filter(of_it).filter_map(last).max()?;
        Some((i, token))
    }

    /// Whether a replica says that it was elected with this token, and, unless that waits for a slot, that
    /// its job started.
    pub(crate) fn leads(&self, name: &str, token: i64) -> bool {
        let Some(replica) = self.named(name) else {
            return false;
        };
        let state = replica.state();
        let told = match replica.election {
            Election::Steady => "job started",
            Election::Scheduled => "elected",
        };
        let mut started = state.current().lines(told).into_iter();
        started.any(|line| line.token() == token)
    }

    /// How many lines with this message all daemons wrote so far.
    pub(crate) fn said(&self, message: &str) -> usize {
        let all = self.all.iter().map(|replica| {
            let state = replica.state();
            let lines = state.daemons.iter().map(|daemon| daemon.lines(message));
            lines.map(|lines| lines.len()).sum::<usize>()
        });
        all.sum()
    }

    /// When candidates, by their keys, said that they wait the last term out.
    pub(crate) fn delays(&self) -> Vec<(String, u64)> {
        let all = self.all.iter().flat_map(|replica| {
            let state = replica.state();
            let lines = state.daemons.iter();
            let lines = lines.flat_map(|daemon| daemon.lines("waiting out the last term"));
            let told = lines.map(|line| (replica.key_of(line.text("lease")), line.read_at));
            told.collect::<Vec<_>>()
        });
        all.collect()
    }

    /// Lines of any log that tell of a panic.
    pub(crate) fn panics(&self) -> Vec<(u64, String)> {
        let all = self.all.iter().flat_map(|replica| {
            let state = replica.state();
            let lines = state.daemons.iter().flat_map(Daemon::logs);
            let panics = lines.filter(|line| tells_of_a_panic(&line.text));
            let nested = worlds::nested_log(self.cluster.sandbox(), &replica.name);
            let nested = std::fs::read_to_string(nested).unwrap_or_default();
            let nested = nested.lines().filter(|line| tells_of_a_panic(line));
            let nested = nested.map(|line| (0, format!("a job of {}: {line}", replica.name)));
            let told =
                panics.map(|line| (line.read_at, format!("{}: {}", replica.name, line.text)));
            told.chain(nested).collect::<Vec<_>>()
        });
        all.collect()
    }

    /// A planned stop of all, for good.
    pub(crate) fn stop(&self) -> Vec<String> {
        self.wanted.store(false, Ordering::Relaxed);
        for replica in &self.all {
            eventually(secs(20), "it hears of the stop, or has ended", || {
                let state = replica.state();
                let daemon = state.current();
                let hears = bears(daemon, Signal::TERM);
                if hears {
                    daemon.sigterm();
                }
                hears || !daemon.is_alive()
            });
        }
        for replica in &self.all {
            let state = replica.state();
            eventually(secs(20), "every replica stops", || {
                !state.current().is_alive()
            });
        }
        let left = self.all.iter().flat_map(|replica| {
            let state = replica.state();
            let left: BTreeMap<i32, _> = state
                .daemons
                .iter()
                .flat_map(Daemon::processes)
                .map(|pid| (pid, process::comm(pid)))
                .collect();
            let shown = |(pid, comm)| format!("a process of {}: {pid} {comm:?}", replica.name);
            left.into_iter().map(shown).collect::<Vec<_>>()
        });
        left.collect()
    }
}

impl Replica {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the replica for a fault of one sort until `end`; false if it suffers one already.
    pub(crate) fn take(&self, of_network: bool, end: u64) -> bool {
        let now = monotonic_ns();
        let free = |until: u64| (until <= now).then_some(end);
        let busy = &self.busy[usize::from(of_network)];
        busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free)
            .is_ok()
    }

    /// The next start has other times and another job; says whether there was somebody to be told.
    pub(crate) fn reconfigure(&self) -> bool {
        let mut state = self.state();
        if !bears(state.current(), Signal::TERM) {
            return false;
        }
        state.times = (state.times + 1) % TIMES.len();
        state.current().sigterm();
        true
    }

    /// The key that it stands with, with this lease.
    fn key_of(&self, lease: &str) -> String {
        format!("{}/{lease}", self.election.prefix())
    }

    /// The next start is in another world; says whether there was somebody to be told.
    pub(crate) fn go_to(&self, world: World) -> bool {
        let mut state = self.state();
        if !bears(state.current(), Signal::TERM) {
            return false;
        }
        state.world = world.of(self.election);
        state.current().sigterm();
        true
    }

    /// The current run has the old graces, the next one others; says whether there was somebody to be told.
    pub(crate) fn reload(&self) -> bool {
        let mut state = self.state();
        if !bears(state.current(), Signal::HUP) {
            return false;
        }
        let [_, stop_grace, lost_grace, kill_budget] = TIMES[state.random.below(TIMES.len())];
        state.current().reload(&format!(
            "job = {{ stop_grace = '{stop_grace}', lost_grace = '{lost_grace}', \
             kill_budget = '{kill_budget}' }}"
        ));
        true
    }

    /// Makes its check fail, or hang, from now on; or succeed again.
    pub(crate) fn fall_ill(&self, folder: &Path, ill: Option<Ill>) {
        let file = beside::illness(folder, &self.name);
        match ill {
            Some(ill) => std::fs::write(file, ill.word()).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
    }

    /// Its job: the main process, and all that came of it.
    pub(crate) fn job(&self) -> Option<(i32, Vec<i32>)> {
        let state = self.state();
        let daemon = state.current();
        let main = job(daemon)?;
        let ours = of_ours(daemon);
        let mut tree = daemon.processes();
        tree.retain(|pid| !ours.contains(pid));
        Some((main, tree))
    }

    /// Daemon and guardians of one that has come up: what it can't have before, it says, and ends.
    pub(crate) fn of_ours(&self) -> Vec<i32> {
        let state = self.state();
        match state.current() {
            daemon if daemon.lines("incumbent starts").is_empty() => Vec::new(),
            daemon => of_ours(daemon),
        }
    }

    /// The key of its last candidacy, unless its daemon has ended.
    pub(crate) fn candidacy(&self) -> Option<String> {
        let state = self.state();
        let daemon = state.current();
        let lines = daemon.lines("campaigning");
        let key = self.key_of(lines.last()?.get("lease")?.as_str()?);
        daemon.is_alive().then_some(key)
    }

    /// When anybody first named what can't be killed, since then.
    pub(crate) fn named_at(&self, since: u64) -> Option<u64> {
        let state = self.state();
        let lines = state.daemons.iter().flat_map(Daemon::logs);
        let mut naming = lines
            .filter(|line| line.read_at > since && line.message() == Some("job can't be killed"));
        let named = naming.find(|line| {
            let pids = line.get("pids").map(ToString::to_string);
            pids.is_some_and(|pids| pids.contains(|c: char| c.is_ascii_digit()))
        });
        named.map(|line| line.read_at)
    }

    /// When it first said, since then, that this key blocks the queue.
    pub(crate) fn said_blocked_at(&self, since: u64, key: &str) -> Option<u64> {
        let state = self.state();
        let said = state
            .current()
            .lines("queue blocked by a key that is no candidate");
        let mut said = said.into_iter().filter(|line| line.text.contains(key));
        said.find(|line| line.read_at >= since.saturating_sub(nanos(secs(1))))
            .map(|line| line.read_at)
    }

    /// Its daemon's process.
    pub(crate) fn pid(&self) -> i32 {
        self.state().current().pid()
    }

    /// Sends a signal; returns the processes that got it, none if there was nobody to get it.
    pub(crate) fn signal(&self, whom: Whom, signal: Signal) -> Vec<i32> {
        let state = self.state();
        let daemon = state.current();
        if !daemon.is_alive() || (whom == Whom::Daemon && !bears(daemon, signal)) {
            return Vec::new();
        }
        let pids = match whom {
            Whom::Daemon => vec![daemon.pid()],
            Whom::Guardian => guardian(daemon).into_iter().collect(),
            Whom::GuardianOfChecks => guardian_of_checks(daemon).into_iter().collect(),
            Whom::Job => job(daemon).into_iter().collect(),
            Whom::Both => {
                let Some(guardian) = guardian(daemon) else {
                    return Vec::new();
                };
                // Stopped first, so that it does not see the daemon's end and act.
                process::freeze(guardian);
                vec![daemon.pid(), guardian]
            }
            Whom::JobTree => return whole_tree(daemon, signal, &of_ours(daemon)),
            Whom::Tree => return whole_tree(daemon, signal, &[]),
        };
        for pid in &pids {
            process::signal(*pid, signal);
        }
        pids
    }
}

impl Replica {
    /// Sends another signal to the same processes, unless they have been replaced.
    pub(crate) fn signal_again(&self, pids: &[i32], signal: Signal) {
        // Nobody reaps them while this is held, so that no other process can have their numbers.
        let state = self.state();
        let daemon = state.current();
        if daemon.is_alive() && pids.contains(&daemon.pid()) {
            process::signal(daemon.pid(), signal);
        }
    }
}

impl State {
    fn current(&self) -> &Daemon {
        self.daemons.last().unwrap()
    }
}

/// The tool under test.
pub(crate) fn binary() -> String {
    program().to_str().unwrap().to_owned()
}
