//! What operators do to a cluster: other versions, members that are replaced, a snapshot put back.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;

use super::super::process;
use super::super::programs;
use super::super::sandbox::{Sandbox, Slot};
use super::super::security::Tls;
use super::super::store;
use super::super::wait::{eventually, secs};
use super::{Cluster, Member, free_ports};

impl Cluster {
    /// Three members whose clocks on the wall are right, fast and slow by that much, such as `5h`; none of
    /// them is started yet. `None` where no such etcd was built, which says that `what` is left out.
    pub fn skewed(by: &str, is_mutual: bool, arguments: &[&str], what: &str) -> Option<Self> {
        let program = programs::built("skewed/etcd", what)?;
        let sandbox = Sandbox::new();
        let tls = is_mutual.then(|| Arc::new(Tls::new(sandbox.join("tls"), true)));
        let folder = |_| sandbox.path().to_owned();
        let slot = &mut Some(Slot::take());
        let cluster = Self::lay_out(3, arguments, &sandbox, &folder, slot, tls.as_ref());
        for (i, offset) in ["0s".to_owned(), by.to_owned(), format!("-{by}")]
            .into_iter()
            .enumerate()
        {
            cluster.set_program(i, &program);
            let process = cluster.members[i].process.lock();
            let mut process = process.unwrap_or_else(PoisonError::into_inner);
            process.wall_offset = Some(offset);
        }
        Some(cluster)
    }

    /// Has a member lead the store.
    pub fn move_leader(&self, to: usize) {
        let id = self.member_id(to).expect("it is a member");
        let leader = self.leader();
        if leader == to {
            return;
        }
        self.block_on(self.client(leader).move_leader(id)).unwrap();
        eventually(secs(20), "the store is led by another", || {
            self.leader() == to
        });
    }

    /// Has a member run this program from its next start on.
    pub fn set_program(&self, i: usize, program: &Path) {
        let process = self.members[i].process.lock();
        let mut process = process.unwrap_or_else(PoisonError::into_inner);
        process.program = Some(program.to_owned());
    }

    /// Ends a member as a service manager does, starts it as this program, and returns when it serves.
    pub fn restart_as(&self, i: usize, program: &Path) {
        process::signal(self.pid(i), Signal::TERM);
        eventually(secs(20), "the member ends", || self.has_ended(i));
        self.set_program(i, program);
        self.restart(i);
    }

    /// Has the cluster make ready for members of the version `to`, such as `3.6`, by this `etcdctl`, and
    /// returns when all of them have.
    pub fn enable_downgrade(&self, etcdctl: &Path, to: &str) {
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new(etcdctl);
            command.args(arguments);
            let output = command.env("ETCDCTL_ENDPOINTS", self.endpoints().join(","));
            let output = output.output().unwrap();
            if output.status.success() {
                Ok(output.stdout)
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        };
        // Refused until the members have agreed on the version that they have now.
        eventually(secs(30), "a downgrade is enabled", || {
            run(&["downgrade", "enable", to])
        });
        eventually(secs(30), "what is stored is of that version", || {
            let told = run(&["endpoint", "status", "-w", "json"])?;
            let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
            let members = told.as_array().unwrap().iter();
            let stored =
                members.map(|it| it["Status"]["storageVersion"].as_str().unwrap_or_default());
            let stored: Vec<_> = stored.map(str::to_owned).collect();
            let are_ready = stored.iter().all(|version| version.starts_with(to));
            if are_ready {
                Ok(())
            } else {
                Err(format!("{stored:?}"))
            }
        });
    }

    /// Adds a member at addresses that were nobody's before; returns its place.
    pub fn grow(&mut self) -> usize {
        let i = self.members.len();
        let name = format!("etcd{i}");
        let ports = free_ports(2);
        let client = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let pattern = &self.members[0];
        let url = format!("{}://{client}", pattern.scheme);
        let peer = format!("http://127.0.0.1:{}", ports[1]);
        let data = self.sandbox.join(&format!("{name}-{}.data", ports[0]));
        let others = self.healthy().into_iter().map(|other| {
            let other = &self.members[other];
            let peer = other.argument("--initial-advertise-peer-urls");
            format!("{}={peer},", other.name)
        });
        let members = others.collect::<String>() + &format!("{name}={peer}");
        let mut arguments = pattern.arguments.clone();
        for (flag, value) in [
            ("--name", name.as_str()),
            ("--data-dir", data.to_str().unwrap()),
            ("--listen-client-urls", &url),
            ("--advertise-client-urls", &url),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &members),
        ] {
            let at = arguments.iter().position(|it| it == flag).unwrap();
            value.clone_into(&mut arguments[at + 1]);
        }
        let (log, scheme) = (self.sandbox.join(&format!("{name}.log")), pattern.scheme);
        self.members.push(Member {
            name,
            client,
            scheme,
            arguments,
            data,
            log,
            process: Mutex::default(),
        });
        let connect = store::connect_with(&url, self.tls.as_deref(), |options| options);
        let connected = self.runtime.block_on(connect);
        let clients = self.clients.get_mut();
        clients
            .unwrap_or_else(PoisonError::into_inner)
            .push(connected);
        self.add(i);
        i
    }

    /// Takes a member out of the cluster, and then its process and its data.
    pub fn remove(&self, i: usize) {
        let id = self.member_id(i).expect("it is a member");
        let others = self.without(i);
        self.etcdctl_of(&others, &["member", "remove", &format!("{id:x}")]);
        self.kill(i);
        fs::remove_dir_all(&self.members[i].data).unwrap();
    }

    /// Puts a member in the place of one that was removed: as a learner, which is promoted as soon as
    /// it has learned enough.
    pub fn add(&self, i: usize) {
        let member = &self.members[i];
        let peer = format!(
            "--peer-urls={}",
            member.argument("--initial-advertise-peer-urls")
        );
        let others = self.without(i);
        self.etcdctl_of(
            &others,
            &["member", "add", &member.name, "--learner", &peer],
        );
        let mut arguments = member.arguments.clone();
        arguments.extend(["--initial-cluster-state".to_owned(), "existing".to_owned()]);
        member.start_with(&self.sandbox, &arguments, false);
        let id = eventually(secs(20), "the learner is known", || self.member_id(i));
        eventually(secs(20), "the learner is promoted", || {
            let promote = ["member", "promote", &format!("{id:x}")];
            let answer = self
                .etcdctl(&promote)
                .env("ETCDCTL_ENDPOINTS", others.as_str());
            let answer = answer.run();
            if answer.code == Some(0) {
                Ok(())
            } else {
                Err(answer.errors)
            }
        });
        self.wait_serving(i).unwrap();
    }

    /// Puts the snapshot in `file` in the place of all members' data, by this program and with these
    /// flags more, and starts them.
    pub fn restore(&self, file: &Path, program: &Path, flags: &[&str]) {
        self.stop_all();
        for member in &self.members {
            fs::remove_dir_all(&member.data).unwrap();
            let mut command = std::process::Command::new(program);
            command
                .env("ETCDCTL_API", "3")
                .args(["snapshot", "restore"])
                .arg(file)
                .args(flags);
            for flag in [
                "--name",
                "--data-dir",
                "--initial-cluster",
                "--initial-cluster-token",
                "--initial-advertise-peer-urls",
            ] {
                command.args([flag, member.argument(flag)]);
            }
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        self.start_all().unwrap();
    }

    /// By what id the others know a member.
    fn member_id(&self, i: usize) -> Option<u64> {
        let peer = self.members[i].argument("--initial-advertise-peer-urls");
        self.ask("the members", async |mut client| {
            let answer = client.member_list().await?;
            let found = answer
                .members()
                .iter()
                .find(|member| member.peer_urls() == [peer]);
            Ok(found.map(etcd_client::Member::id))
        })
    }

    fn without(&self, i: usize) -> String {
        let mut endpoints = self.endpoints();
        endpoints.remove(i);
        endpoints.join(",")
    }

    #[track_caller]
    fn etcdctl_of(&self, endpoints: &str, arguments: &[&str]) {
        // Members that have come or gone a moment ago make the others refuse for a while.
        eventually(secs(20), &format!("etcdctl {arguments:?}"), || {
            let answer = self
                .etcdctl(arguments)
                .env("ETCDCTL_ENDPOINTS", endpoints)
                .run();
            if answer.code == Some(0) {
                Ok(())
            } else {
                Err(answer.errors)
            }
        });
    }
}

impl Member {
    /// What stands behind a flag of its command line.
    fn argument(&self, flag: &str) -> &str {
        let at = self.arguments.iter().position(|it| it == flag).unwrap();
        &self.arguments[at + 1]
    }
}
