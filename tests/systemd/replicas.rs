//! Instances of the shipped unit, in an election of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::{History, Record, eventually, record::Life, secs};
use crate::rig::Rig;
use crate::store::Store;

/// What a test wants otherwise than most of them.
pub(crate) struct Setup<'a> {
    /// How many instances there are.
    pub(crate) instances: usize,
    /// The store, if it isn't that of all tests.
    pub(crate) store: Option<&'a Store>,
    /// More arguments of the job.
    pub(crate) job: &'a [&'a str],
    /// More lines of the configuration, with whole keys.
    pub(crate) config: &'a str,
    /// More lines of the unit's drop-in, in its section `[Service]`.
    pub(crate) drop_in: &'a str,
    /// What the commands of this test, which no unit starts, need in their environment.
    pub(crate) variables: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            instances: 3,
            store: None,
            job: &[],
            config: "",
            drop_in: "",
            variables: &[],
        }
    }
}

/// Instances `NAME-1`, `NAME-2`, …; stopped on drop.
pub(crate) struct Replicas {
    pub(crate) rig: &'static Rig,
    pub(crate) name: &'static str,
    pub(crate) instances: usize,
    pub(crate) record: Record,
    variables: Vec<String>,
}

impl Replicas {
    /// Three instances, as shipped.
    pub(crate) fn start(rig: &'static Rig, name: &'static str) -> Self {
        Self::start_with(rig, name, &Setup::default())
    }

    /// Configures and starts instances one after the other, so that they queue in order.
    pub(crate) fn start_with(rig: &'static Rig, name: &'static str, setup: &Setup<'_>) -> Self {
        let replicas = Self::prepare(rig, name, setup);
        for i in 1..=replicas.instances {
            replicas.start_one(i);
        }
        replicas
    }

    /// Configures instances, and starts none.
    pub(crate) fn prepare(rig: &'static Rig, name: &'static str, setup: &Setup<'_>) -> Self {
        let file = rig.file(&format!("{name}.record"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let variables = setup.variables.iter().map(|set| (*set).to_owned());
        let replicas = Self {
            rig,
            name,
            instances: setup.instances,
            record: Record::at(file),
            variables: variables.collect(),
        };
        let endpoints = setup.store.unwrap_or_else(|| rig.store()).endpoints();
        let record = format!("/rig/{name}.record");
        let command = [&["/usr/bin/recorder", &record], setup.job].concat();
        for i in 1..=replicas.instances {
            let config = format!(
                "candidate.name = \"{name}-{i}\"\nelection.prefix = \"/{name}\"\n\
                 etcd.endpoints = {endpoints:?}\njob.command = {command:?}\n\
                 log.format = \"journald\"\n{}",
                setup.config
            );
            rig.write(&format!("/etc/incumbent/{name}-{i}.toml"), &config);
            replicas.drop_in(i, "rig", &format!("ReadWritePaths=/rig\n{}", setup.drop_in));
        }
        rig.ok(&["systemctl", "daemon-reload"]);
        replicas
    }

    /// Writes a drop-in of one instance; it counts after a `daemon-reload`.
    pub(crate) fn drop_in(&self, i: usize, name: &str, lines: &str) {
        let unit = self.unit(i);
        let file = format!("/etc/systemd/system/{unit}.d/{name}.conf");
        self.rig.write(&file, &format!("[Service]\n{lines}"));
    }

    /// Starts one instance, and waits until it is the last of the queue.
    pub(crate) fn start_one(&self, i: usize) {
        self.rig.ok(&["systemctl", "start", &self.unit(i)]);
        self.wait_queued(i);
    }

    pub(crate) fn unit(&self, i: usize) -> String {
        format!("incumbent@{}-{i}.service", self.name)
    }

    /// A property of an instance's unit.
    pub(crate) fn property(&self, i: usize, property: &str) -> String {
        let property = format!("--property={property}");
        self.rig
            .ok(&["systemctl", "show", "--value", &property, &self.unit(i)])
    }

    /// The daemon's process.
    pub(crate) fn daemon(&self, i: usize) -> String {
        self.property(i, "MainPID")
    }

    /// The guardian's: the parent of the job's.
    pub(crate) fn guardian_of(&self, job: &Life) -> String {
        let job = job.pid.to_string();
        let parent = self.rig.ok(&["ps", "-o", "ppid=", "-p", &job]);
        parent.trim().to_owned()
    }

    /// What `incumbent status` says.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.incumbent(&["status", "-o", "json"])).unwrap()
    }

    /// Why a term ended, by the history; `None` while it isn't told there.
    pub(crate) fn ended_for(&self, token: i64) -> Option<String> {
        let key = format!("/{}.meta/terms/{token}", self.name);
        let past = self.incumbent(&["kv", "get", "--print-value-only", &key]);
        let past: Value = serde_json::from_str(&past).ok()?;
        past["reason"].as_str().map(str::to_owned)
    }

    /// What a command says, typed on the first instance's host.
    pub(crate) fn incumbent(&self, args: &[&str]) -> String {
        let config = format!("INCUMBENT_CONFIG=/etc/incumbent/{}-1.toml", self.name);
        let mut command = vec!["env", &config];
        command.extend(self.variables.iter().map(String::as_str));
        command.push("incumbent");
        command.extend(args);
        self.rig.ok(&command)
    }

    /// Candidates in the order of the queue.
    pub(crate) fn queue(&self) -> Vec<String> {
        let status = self.status();
        let queue = status["queue"].as_array().unwrap().iter();
        queue
            .map(|candidate| candidate["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until an instance stands at the end of a queue.
    pub(crate) fn wait_queued(&self, i: usize) {
        let name = format!("{}-{i}", self.name);
        eventually(secs(20), &format!("{name} is in the queue"), || {
            let queue = self.queue();
            if queue.last() == Some(&name) {
                Ok(())
            } else {
                Err(queue)
            }
        });
    }

    /// Waits for the first run of the `n`th term, counted from 1, and returns its main process.
    pub(crate) fn wait_term(&self, n: usize) -> Life {
        eventually(secs(30), &format!("term number {n} has a job"), || {
            let history = self.record.history();
            let token = history.tokens().get(n - 1).copied();
            token
                .and_then(|token| history.runs_of(token).next().cloned())
                .ok_or(history)
        })
    }

    /// What is recorded; no two jobs ever lived at once.
    pub(crate) fn proven(&self) -> History {
        let history = self.record.history();
        history.assert_no_overlap();
        history
    }

    /// The instance's journal since the start, as its own fields.
    pub(crate) fn journal(&self, i: usize) -> Vec<Value> {
        let text = self
            .rig
            .ok(&["journalctl", "--unit", &self.unit(i), "--output=json"]);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// How often the instance's daemon has started. The manager's own count of restarts has one more for
    /// each that it schedules anew, as when its units are reloaded in between.
    pub(crate) fn starts(&self, i: usize) -> usize {
        let lines = self.journal(i);
        let said = said(&lines).into_iter();
        said.filter(|message| *message == "incumbent starts")
            .count()
    }

    /// Whether its journal has this message.
    pub(crate) fn has_said(&self, i: usize, message: &str) -> bool {
        said(&self.journal(i)).contains(&message)
    }

    /// Waits until the journal tells of so many starts.
    pub(crate) fn wait_starts(&self, i: usize, count: usize) {
        eventually(secs(10), &format!("{i} has started {count} times"), || {
            let starts = self.starts(i);
            (starts == count).then_some(()).ok_or(starts)
        });
    }

    /// Waits until a line of the instance's journal fits, and returns it.
    pub(crate) fn wait_line(&self, i: usize, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(secs(30), &format!("{i} says {what}"), || {
            let lines = self.journal(i);
            let found = lines.iter().find(|line| fits(line)).cloned();
            found.ok_or_else(|| said(&lines).join("\n"))
        })
    }

    /// Waits until these messages are in the journal, in this order.
    pub(crate) fn wait_said(&self, i: usize, messages: &[&str]) {
        eventually(secs(10), &format!("{i} says {messages:?}"), || {
            let lines = self.journal(i);
            let said = said(&lines);
            let mut rest = said.iter();
            let in_order = messages
                .iter()
                .all(|message| rest.any(|line| line == message));
            if in_order {
                Ok(())
            } else {
                Err(said.join("\n"))
            }
        });
    }
}

/// The instance that leads, and its processes as this process knows them.
pub(crate) struct Leader<'a> {
    pub(crate) replicas: &'a Replicas,
    pub(crate) i: usize,
    pub(crate) token: i64,
    pub(crate) daemon: i32,
    pub(crate) guardian: i32,
    pub(crate) group: PathBuf,
}

impl<'a> Leader<'a> {
    pub(crate) fn of(replicas: &'a Replicas) -> Self {
        eventually(secs(20), "somebody leads, and its job runs", || {
            Self::try_of(replicas)
        })
    }

    /// `None` in the midst of a hand-over.
    fn try_of(replicas: &'a Replicas) -> Option<Self> {
        let status = replicas.status();
        let leader = &status["leader"];
        let (name, token) = (leader["name"].as_str()?, leader["token"].as_i64()?);
        let i = name.rsplit('-').next()?.parse().ok()?;
        let history = replicas.record.history();
        let job = history.runs_of(token).last()?.pid.to_string();
        let rig = replicas.rig;
        let parent = rig.run(&["ps", "-o", "ppid=", "-p", &job]);
        let guardian = String::from_utf8(parent.stdout).ok()?;
        let group = replicas.property(i, "ControlGroup");
        Some(Self {
            replicas,
            i,
            token,
            daemon: rig.outer(&replicas.daemon(i))?,
            guardian: rig.outer(guardian.trim())?,
            group: rig.inside(&format!("/sys/fs/cgroup{group}")),
        })
    }

    pub(crate) fn systemctl(&self, verb: &str) {
        let unit = self.replicas.unit(self.i);
        self.replicas.rig.ok(&["systemctl", verb, &unit]);
    }

    pub(crate) fn filter(&self, rules: &[&str]) {
        let unit = self.replicas.unit(self.i);
        let set = ["systemctl", "set-property", "--runtime", &unit];
        self.replicas.rig.ok(&[&set[..], rules].concat());
    }
}

/// The messages of lines of the journal.
fn said(lines: &[Value]) -> Vec<&str> {
    let messages = lines.iter().map(|line| line["MESSAGE"].as_str());
    messages.map(Option::unwrap_or_default).collect()
}

impl Drop for Replicas {
    fn drop(&mut self) {
        let units: Vec<_> = (1..=self.instances).map(|i| self.unit(i)).collect();
        if std::thread::panicking() {
            for unit in &units {
                let journal = self.rig.run(&["journalctl", "-n", "40", "-u", unit]);
                println!("{}", String::from_utf8_lossy(&journal.stdout));
            }
        }
        let mut command = vec!["systemctl", "stop"];
        command.extend(units.iter().map(String::as_str));
        self.rig.run(&command);
    }
}
