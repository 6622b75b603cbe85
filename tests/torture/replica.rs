//! One replica: its daemons, one after the other, and what is done to the current one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;

use crate::beside::{self, Ill};
use crate::common::process::{self, monotonic_ns};
use crate::common::{Cluster, Daemon, Line, Links, Random, secs};
use crate::elections::{Election, Job};
use crate::faults::nanos;
use crate::kinds::Whom;
use crate::processes::{
    all_of, bears, guardian, guardian_of_checks, guardians, job, lines, of_ours, tree,
};
use crate::several;
use crate::worlds::{Ways, World};

/// TTL, stop_grace, lost_grace, kill_budget.
pub(crate) const TIMES: [[&str; 4]; 4] = [
    ["4s", "2s", "300ms", "500ms"],
    ["5s", "1s", "800ms", "500ms"],
    ["4s", "500ms", "100ms", "400ms"],
    ["6s", "3s", "1s", "600ms"],
];

pub(crate) struct Replica {
    pub(crate) name: String,
    /// One, or those of its jobs.
    pub(crate) elections: &'static [Election],
    pub(crate) links: Links,
    pub(crate) ways: Ways,
    pub(crate) busy: Mutex<Busy>,
    pub(crate) state: Mutex<State>,
}

/// A job that its replica's configuration is without, and its table there.
pub(crate) struct Taken {
    job: Job,
    table: toml::Value,
}

/// Until when a replica suffers faults.
#[derive(Default)]
pub(crate) struct Busy {
    network: u64,
    processes: u64,
    /// Those of one of several jobs.
    jobs: BTreeMap<Election, u64>,
}

pub(crate) struct State {
    /// All that were ever started; the last is the current one.
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) random: Random,
    pub(crate) times: usize,
    pub(crate) world: World,
    pub(crate) ended: Option<u64>,
}

impl Replica {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the network for a fault until `end`; false if it suffers one already.
    pub(crate) fn take_network(&self, end: u64) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let free = busy.network <= monotonic_ns();
        if free {
            busy.network = end;
        }
        free
    }

    /// Takes the processes for a fault until `end`, or what one of several jobs has of its own; false if they
    /// suffer one already. Different jobs may suffer at the same time.
    pub(crate) fn take(&self, one: Option<Election>, end: u64) -> bool {
        let now = monotonic_ns();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let held =
            |(job, until): (&Election, &u64)| *until > now && one.is_none_or(|it| it == *job);
        if busy.processes > now || busy.jobs.iter().any(held) {
            return false;
        }
        match one {
            Some(job) => _ = busy.jobs.insert(job, end),
            None => busy.processes = end,
        }
        true
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

    pub(crate) fn has_several(&self) -> bool {
        self.elections.len() > 1
    }

    /// The next start is in another world; says whether there was somebody to be told.
    pub(crate) fn go_to(&self, world: World) -> bool {
        let mut state = self.state();
        if !bears(state.current(), Signal::TERM) {
            return false;
        }
        state.world = world.of(self.elections[0]);
        state.current().sigterm();
        true
    }

    /// The current run has the old graces, the next one others; says whether there was somebody to be told.
    pub(crate) fn reload(&self) -> bool {
        let mut state = self.state();
        if !bears(state.current(), Signal::HUP) {
            return false;
        }
        let [_, graces @ ..] = TIMES[state.random.below(TIMES.len())];
        let [stop_grace, lost_grace, kill_budget] = graces;
        state.current().reload(&if self.has_several() {
            several::graces(graces)
        } else {
            format!(
                "job = {{ stop_grace = '{stop_grace}', lost_grace = '{lost_grace}', \
                 kill_budget = '{kill_budget}' }}"
            )
        });
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

    /// Its job in this election: the main process, and all that came of it.
    pub(crate) fn job(&self, of: Election) -> Option<(i32, Vec<i32>)> {
        let state = self.state();
        let daemon = state.current();
        let main = job(daemon, of)?;
        Some((main, tree(daemon, of)))
    }

    /// Daemon and guardians of one that has come up: what it can't have before, it says, and ends.
    pub(crate) fn of_ours(&self) -> Vec<i32> {
        let state = self.state();
        match state.current() {
            daemon if daemon.lines("incumbent starts").is_empty() => Vec::new(),
            daemon => of_ours(daemon),
        }
    }

    /// The key of its last candidacy there, unless its daemon has ended.
    pub(crate) fn candidacy(&self, of: Election) -> Option<String> {
        let state = self.state();
        let daemon = state.current();
        let key = key_in(lines(daemon, of, "campaigning").last()?);
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

    /// Sends a signal, of several jobs' processes to this one's; returns those that got it, none if there was
    /// nobody to get it.
    pub(crate) fn signal(&self, whom: Whom, of: Election, signal: Signal) -> Vec<i32> {
        let state = self.state();
        let daemon = state.current();
        if !daemon.is_alive() || (whom == Whom::Daemon && !bears(daemon, signal)) {
            return Vec::new();
        }
        let pids = match whom {
            Whom::Daemon => vec![daemon.pid()],
            Whom::Guardian => guardian(daemon, of).into_iter().collect(),
            Whom::GuardianOfChecks => guardian_of_checks(daemon, of).into_iter().collect(),
            Whom::Job => job(daemon, of).into_iter().collect(),
            Whom::Both => {
                let guardians = guardians(daemon);
                if guardians.is_empty() {
                    return Vec::new();
                }
                // Stopped first, so that none sees the daemon's end and acts.
                for pid in &guardians {
                    process::freeze(*pid);
                }
                [vec![daemon.pid()], guardians].concat()
            }
            Whom::JobTree => return all_of(signal, || tree(daemon, of)),
            Whom::Tree => return all_of(signal, || daemon.processes()),
        };
        for pid in &pids {
            process::signal(*pid, signal);
        }
        pids
    }

    /// Has one of several jobs give its term to another candidate, or the only one.
    pub(crate) fn step_down(&self, cluster: &Cluster, of: Election) -> bool {
        match of.job() {
            Some(job) => self.type_about(cluster, "step-down", job),
            None => !self.signal(Whom::Daemon, of, Signal::USR1).is_empty(),
        }
    }

    /// Has a command typed about one of its jobs; says whether it was done.
    pub(crate) fn type_about(&self, cluster: &Cluster, command: &str, job: Job) -> bool {
        let file = self.state().current().folder().join("incumbent.toml");
        several::typed(cluster, &file, command, job)
    }

    /// Reloads without one of its jobs.
    pub(crate) fn take_out(&self, job: Job) -> Option<Taken> {
        let state = self.state();
        if !bears(state.current(), Signal::HUP) {
            return None;
        }
        let table = several::take_out(state.current(), job)?;
        state.current().sighup();
        Some(Taken { job, table })
    }

    /// Reloads with it again; a daemon that was started since has it.
    pub(crate) fn put_back(&self, taken: Option<Taken>) {
        let Some(Taken { job, table }) = taken else {
            return;
        };
        let state = self.state();
        several::put_back(state.current(), job, table);
        if bears(state.current(), Signal::HUP) {
            state.current().sighup();
        }
    }
}

/// The key that whoever says this stands with.
pub(crate) fn key_in(line: &Line) -> String {
    format!("{}/{}", line.text("election"), line.text("lease"))
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
    pub(crate) fn current(&self) -> &Daemon {
        self.daemons.last().unwrap()
    }
}
