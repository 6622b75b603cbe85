//! A real etcd of three members inside the rig, each a unit of its own.

use std::process::Output;

use crate::common::{Authority, eventually, secs};
use crate::rig::Rig;

/// From one member's ports to the next one's.
const APART: u16 = 10;

/// The members, and how to speak to them. Its owner stops them, or they end with the rig.
pub(crate) struct Store {
    name: &'static str,
    endpoints: Vec<String>,
    /// `USER:PASSWORD` of who may do everything, once names are asked for.
    root: Option<String>,
    /// The certificate of who vouches for the members, inside the rig, where they speak TLS.
    ca: Option<String>,
}

impl Store {
    /// Starts the members, the first of which serves at `port`, and waits until all of them serve.
    pub(crate) fn start(rig: &Rig, name: &'static str, port: u16) -> Self {
        Self::start_with(rig, name, port, None, &[])
    }

    /// The same over TLS; the authority's certificate is `/etc/incumbent/NAME.ca.pem`.
    pub(crate) fn start_tls(rig: &Rig, name: &'static str, port: u16) -> Self {
        let authority = Authority::new(name);
        let issued = authority.issue("member", &["127.0.0.1"]);
        let [ca, certificate, key] =
            ["ca.pem", "pem", "key"].map(|kind| format!("/etc/incumbent/{name}.{kind}"));
        rig.write(&ca, &authority.pem());
        rig.write(&certificate, &issued.certificate);
        rig.write_secret(&key, &issued.key);
        let tls = [
            format!("--cert-file={certificate}"),
            format!("--key-file={key}"),
        ];
        Self::start_with(rig, name, port, Some(ca), &tls)
    }

    fn start_with(
        rig: &Rig,
        name: &'static str,
        port: u16,
        ca: Option<String>,
        more: &[String],
    ) -> Self {
        let members = || (1..=3).zip((port..).step_by(usize::from(APART)));
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let scheme = if ca.is_some() { "https" } else { "http" };
        let client_url = |port: u16| format!("{scheme}://127.0.0.1:{port}");
        let cluster: Vec<_> = members()
            .map(|(i, port)| format!("{name}-{i}={}", url(port + 1)))
            .collect();
        let cluster = cluster.join(",");
        for (i, port) in members() {
            let (client, peer) = (client_url(port), url(port + 1));
            let own = [
                format!("--name={name}-{i}"),
                format!("--data-dir=/tmp/{name}-{i}"),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={cluster}"),
                format!("--initial-cluster-token={name}"),
            ];
            let unit = format!("--unit={name}-{i}");
            let mut command = vec!["systemd-run", "--quiet", &unit, "rig-etcd"];
            command.extend(own.iter().chain(more).map(String::as_str));
            rig.ok(&command);
        }
        let store = Self {
            name,
            endpoints: members().map(|(_, port)| client_url(port)).collect(),
            root: None,
            ca,
        };
        for endpoint in &store.endpoints {
            eventually(secs(30), &format!("{endpoint} serves in the rig"), || {
                let read = store.etcdctl_at(rig, endpoint, &["get", "x"]);
                read.status.success()
            });
        }
        store
    }

    /// Asks for names and passwords from now on: `user` may use what begins with `prefix`.
    pub(crate) fn lock(&mut self, rig: &Rig, prefix: &str, user: &str, password: &str) {
        let user_and_password = format!("{user}:{password}");
        let permission = ["role", "grant-permission", user, "--prefix=true"];
        self.ok(rig, &["user", "add", "root:root"]);
        self.ok(rig, &["user", "grant-role", "root", "root"]);
        self.ok(rig, &["user", "add", &user_and_password]);
        self.ok(rig, &["role", "add", user]);
        self.ok(rig, &[&permission[..], &["readwrite", prefix]].concat());
        self.ok(rig, &["user", "grant-role", user, user]);
        self.ok(rig, &["auth", "enable"]);
        self.root = Some("root:root".to_owned());
    }

    /// Is known by a name from now on.
    pub(crate) fn go_by_name(&mut self) {
        for endpoint in &mut self.endpoints {
            *endpoint = endpoint.replace("127.0.0.1", "localhost");
        }
    }

    /// Sends a signal to every member.
    pub(crate) fn signal(&self, rig: &Rig, signal: &str) {
        for i in 1..=self.endpoints.len() {
            let (unit, signal) = (format!("{}-{i}", self.name), format!("--signal={signal}"));
            rig.ok(&["systemctl", "kill", &signal, &unit]);
        }
    }

    /// The URLs of all members.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// `etcdctl …` for this store.
    pub(crate) fn etcdctl(&self, rig: &Rig, arguments: &[&str]) -> Output {
        self.etcdctl_at(rig, &self.endpoints.join(","), arguments)
    }

    fn etcdctl_at(&self, rig: &Rig, endpoints: &str, arguments: &[&str]) -> Output {
        let mut command = vec!["etcdctl", "--endpoints", endpoints];
        if let Some(ca) = &self.ca {
            command.extend(["--cacert", ca.as_str()]);
        }
        if let Some(root) = &self.root {
            command.extend(["--user", root.as_str()]);
        }
        command.extend(arguments);
        rig.run(&command)
    }

    /// As [`etcdctl`](Self::etcdctl), and returns what it printed; it must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, rig: &Rig, arguments: &[&str]) -> String {
        let output = self.etcdctl(rig, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills the members.
    pub(crate) fn stop(&self, rig: &Rig) {
        let units = [1, 2, 3].map(|i| format!("{}-{i}.service", self.name));
        let [first, second, third] = &units;
        rig.run(&["systemctl", "kill", "-s", "KILL", first, second, third]);
    }
}
