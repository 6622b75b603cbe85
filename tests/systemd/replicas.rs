//! Three instances of the shipped unit, in an election of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::common::{History, Record, eventually, record::Life, secs};
use crate::rig::Rig;

/// Instances `NAME-1` to `NAME-3`; stopped on drop.
pub(crate) struct Replicas {
    pub(crate) rig: &'static Rig,
    pub(crate) name: &'static str,
    pub(crate) record: Record,
}

impl Replicas {
    /// Configures and starts them one after the other, so that they queue in order.
    pub(crate) fn start(rig: &'static Rig, name: &'static str) -> Self {
        let file = rig.file(&format!("{name}.record"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let replicas = Self {
            rig,
            name,
            record: Record::at(file),
        };
        for i in 1..=3 {
            let config = format!(
                "[candidate]\nname = \"{name}-{i}\"\n[election]\nprefix = \"/{name}\"\n\
                 [job]\ncommand = [\"/usr/bin/recorder\", \"/rig/{name}.record\"]\n\
                 [log]\nformat = \"journald\"\n"
            );
            rig.write(&format!("/etc/incumbent/{name}-{i}.toml"), &config);
            let drop_in = format!("/etc/systemd/system/incumbent@{name}-{i}.service.d/rig.conf");
            rig.write(&drop_in, "[Service]\nReadWritePaths=/rig\n");
        }
        rig.ok(&["systemctl", "daemon-reload"]);
        for i in 1..=3 {
            rig.ok(&["systemctl", "start", &replicas.unit(i)]);
            replicas.wait_queued(i);
        }
        replicas
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

    /// Candidates in the order of the queue.
    pub(crate) fn queue(&self) -> Vec<String> {
        let config = format!("INCUMBENT_CONFIG=/etc/incumbent/{}-1.toml", self.name);
        let text = self
            .rig
            .ok(&["env", &config, "incumbent", "status", "-o", "json"]);
        let status: Value = serde_json::from_str(&text).unwrap();
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

    /// Waits until these messages are in the journal, in this order.
    pub(crate) fn wait_said(&self, i: usize, messages: &[&str]) {
        eventually(secs(10), &format!("{i} says {messages:?}"), || {
            let lines = self.journal(i);
            let said: Vec<_> = lines
                .iter()
                .filter_map(|line| line["MESSAGE"].as_str())
                .collect();
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

impl Drop for Replicas {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for i in 1..=3 {
                let journal = self
                    .rig
                    .run(&["journalctl", "-n", "40", "-u", &self.unit(i)]);
                println!("{}", String::from_utf8_lossy(&journal.stdout));
            }
        }
        let units = [self.unit(1), self.unit(2), self.unit(3)];
        let mut command = vec!["systemctl", "stop"];
        command.extend(units.iter().map(String::as_str));
        self.rig.run(&command);
    }
}
