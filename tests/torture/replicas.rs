//! The replicas: each with its own ways to the members, started again when it ends, as systemd
//! would do it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;

use crate::beside;
use crate::checker::tells_of_a_panic;
use crate::common::daemon::Builder;
use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, Daemon, Links, Random, eventually, millis, program, secs};
use crate::elections::{ELECTIONS, Election, Job, SEVERAL};
use crate::processes::{bears, job, lines};
use crate::replica::{Replica, State, TIMES, key_in};
use crate::schedule;
use crate::several::{self, DAEMONS};
use crate::slots::SlotPolicy;
use crate::worlds::{self, Ways, World};

/// Those whose job runs all the time, those of the scheduled one behind them, and those with several jobs.
const STEADY: usize = 5;

const SCHEDULED: usize = 3;

/// Those with one job stand before the others.
pub(crate) const WITH_ONE: usize = STEADY + SCHEDULED;

pub(crate) const REPLICAS: usize = WITH_ONE + DAEMONS;

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

/// All of them, and what they share.
pub(crate) struct Replicas<'a> {
    cluster: &'a Cluster,
    /// Of the scheduled job, and of the one among several.
    policies: [SlotPolicy; 2],
    pub(crate) all: Vec<Replica>,
    pub(crate) odd_ends: Mutex<Vec<(u64, String)>>,
    /// Whether those that end are started again.
    wanted: AtomicBool,
}

impl<'a> Replicas<'a> {
    pub(crate) fn start(cluster: &'a Cluster, seed: u64) -> Self {
        let sandbox = cluster.sandbox();
        let recorder = Election::Steady.record(sandbox).command(&[]).swap_remove(0);
        for election in ELECTIONS {
            let record = election.record(sandbox);
            let record = record.file().file_name().unwrap().to_str().unwrap();
            worlds::open(sandbox, &[&election.lock(), &election.notes(), record]);
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
            let (elections, number) = if i < STEADY {
                (&ELECTIONS[..1], i)
            } else if i < WITH_ONE {
                (&ELECTIONS[1..2], i - STEADY)
            } else {
                (&SEVERAL[..], i - WITH_ONE)
            };
            let name = format!("{}{number}", elections[0].letter());
            for election in elections {
                let program = several::program(sandbox, &name, *election);
                std::fs::copy(&recorder, program).unwrap();
            }
            Replica {
                elections,
                ways: Ways::new(&name),
                links: Links::to(cluster),
                busy: Mutex::default(),
                state: Mutex::new(State {
                    daemons: Vec::new(),
                    random: Random::new(seed ^ (0x1234_5678 + u64::try_from(i).unwrap())),
                    times: i % TIMES.len(),
                    world: worlds[i].of(elections[0]),
                    ended: None,
                }),
                name,
            }
        };
        let policies = [SlotPolicy::of(seed), SlotPolicy::of(!seed)];
        println!("the scheduled job: {}", policies[0]);
        println!("the scheduled one among several: {}", policies[1]);
        let this = Self {
            cluster,
            policies,
            all: (0..REPLICAS).map(replica).collect(),
            odd_ends: Mutex::default(),
            wanted: AtomicBool::new(true),
        };
        for replica in &this.all {
            this.spawn(replica, &mut replica.state());
        }
        this
    }

    /// Of a scheduled job.
    pub(crate) fn policy(&self, of: Election) -> &SlotPolicy {
        &self.policies[usize::from(of != Election::Scheduled)]
    }

    fn spawn(&self, replica: &Replica, state: &mut State) {
        let [ttl, graces @ ..] = TIMES[state.times];
        let builder = Daemon::builder(self.cluster, &replica.name).through(&replica.links);
        let builder = if replica.has_several() {
            self.with_several(builder, replica, state, graces)
        } else {
            self.with_one(builder, replica, state, graces)
        };
        state.daemons.push(builder.ttl(ttl).spawn());
        state.ended = None;
    }

    fn with_several(
        &self,
        builder: Builder,
        replica: &Replica,
        state: &mut State,
        graces: [&str; 3],
    ) -> Builder {
        let settings = several::Settings {
            sandbox: self.cluster.sandbox(),
            replica: &replica.name,
            graces,
            policy: self.policy(Election::Of(Job::Slots)),
        };
        let folder = self.cluster.sandbox();
        let commands = SEVERAL.map(|of| {
            let command = self.command(replica, of, &mut state.random);
            let owner = several::owner(&replica.name, of);
            worlds::clad(state.world, folder, &owner, command)
        });
        let ways = &replica.ways;
        let builder = ways.house(builder, state.world, folder, &replica.links);
        let hooked = Election::Of(several::HOOKED);
        let lock = folder.join(&hooked.lock()).to_str().unwrap().to_owned();
        let hooks = beside::hooks_of_one(
            several::HOOKED.name(),
            &hooked.record(folder),
            &lock,
            &mut state.random,
        );
        several::settle(builder, &settings, commands).toml(&hooks)
    }

    fn with_one(
        &self,
        builder: Builder,
        replica: &Replica,
        state: &mut State,
        [stop_grace, lost_grace, kill_budget]: [&str; 3],
    ) -> Builder {
        let folder = self.cluster.sandbox();
        let election = replica.elections[0];
        let job = self.command(replica, election, &mut state.random);
        let record = election.record(folder);
        let lock = folder.join(&election.lock()).to_str().unwrap().to_owned();
        // One of them at most: somebody must lead in the end.
        let may_refuse = replica.name == self.all[0].name;
        let beside = beside::settings(
            folder.path(),
            &replica.name,
            &record,
            &lock,
            &mut state.random,
            may_refuse,
        );
        let schedule = if election.is_scheduled() {
            self.policy(election).toml("job")
        } else {
            String::new()
        };
        let ways = &replica.ways;
        ways.settle(builder, state.world, folder, &replica.links, job)
            .prefix(election.prefix())
            .toml(&beside)
            .toml(&schedule)
            .toml(&format!(
                "job = {{ stop_grace = '{stop_grace}', lost_grace = '{lost_grace}', \
                 kill_budget = '{kill_budget}', restart_delay = '200ms', \
                 restart_delay_max = '2s', yield_cooldown = '3s' }}"
            ))
    }

    /// The command of a replica's job, which misbehaves as it is drawn.
    fn command(&self, replica: &Replica, of: Election, random: &mut Random) -> Vec<String> {
        let folder = self.cluster.sandbox();
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (lock, notes, binary) = (file(&of.lock()), file(&of.notes()), binary());
        let (counter, done) = (of.counter(), of.done());
        let mut flags = vec!["--lock", &lock];
        let counts = ["--count", &notes, &counter, &binary];
        if of.is_scheduled() {
            flags.extend(["--every", "20ms", "--slots", &notes]);
            flags.extend(["--complete", &done, &binary]);
            flags.extend(SCHEDULED_JOBS[random.below(SCHEDULED_JOBS.len())]);
        } else if let Some(job) = of.job() {
            flags.extend(["--every", "20ms"]);
            if job == Job::Counts {
                flags.extend(counts);
            }
            flags.extend(several::flags(job, random));
        } else {
            flags.extend(["--every", "10ms"]);
            flags.extend(counts);
            flags.extend(JOBS[random.below(JOBS.len())]);
        }
        let mut command = of.record(folder).command(&flags);
        let program = several::program(folder, &replica.name, of);
        program.to_str().unwrap().clone_into(&mut command[0]);
        command
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
        let job = job(self.all[i].state().current(), Election::Steady)?;
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
        all.filter(move |replica| replica.elections.contains(&election))
    }

    /// The replica of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Replica> {
        self.all.iter().find(|replica| replica.name == name)
    }

    /// Who says that it was elected last in this election, and its token.
    pub(crate) fn leader(&self, election: Election) -> Option<(usize, i64)> {
        let last = |i: usize| {
            let lines = lines(self.all[i].state().current(), election, "elected");
            lines.last().map(|line| (line.token(), i))
        };
        let of_it = |i: &usize| self.all[*i].elections.contains(&election);
        let (token, i) = (0..self.all.len()).filter(of_it).filter_map(last).max()?;
        Some((i, token))
    }

    /// Whether a replica says that it was elected with this token, and, unless that waits for a slot, that
    /// its job started.
    pub(crate) fn leads(&self, of: Election, name: &str, token: i64) -> bool {
        let Some(replica) = self.named(name) else {
            return false;
        };
        let told = if of.is_scheduled() {
            "elected"
        } else {
            "job started"
        };
        let state = replica.state();
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
            let told = lines.map(|line| (key_in(&line), line.read_at));
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

/// The tool under test.
pub(crate) fn binary() -> String {
    program().to_str().unwrap().to_owned()
}
