//! A real etcd cluster on this machine, and the faults its members can have.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use etcd_client::Client;
use tokio::runtime::Runtime;

use super::process;
use super::programs;
use super::sandbox::{Sandbox, Slot};
use super::security::Tls;
use super::store;
use super::wait::{eventually, secs};

mod life;

/// How often a whole cluster is tried on new ports before that is a failure.
const TRIES: usize = 5;

/// Members of one etcd cluster, each a process with a folder and a log in the test's folder.
///
/// Members keep etcd's default timing (heartbeat 100 ms, election 1 s). Killed and waited for on
/// drop.
pub struct Cluster {
    members: Vec<Member>,
    clients: Mutex<Vec<Client>>,
    pub(super) runtime: Runtime,
    sandbox: Arc<Sandbox>,
    slot: Slot,
    tls: Option<Arc<Tls>>,
}

/// A member of no cluster of ours, in the place of one that is.
pub struct Stray {
    child: Child,
    data: PathBuf,
}

impl Drop for Stray {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// One member: what it is started with, and its process while it has one.
struct Member {
    name: String,
    client: SocketAddr,
    scheme: &'static str,
    arguments: Vec<String>,
    data: PathBuf,
    log: PathBuf,
    process: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    child: Option<Child>,
    /// What it is started as, if not as the etcd of the tests.
    program: Option<PathBuf>,
    /// By how much its clock on the wall is wrong, where its program heeds that.
    wall_offset: Option<String>,
    frozen: bool,
    astray: bool,
}

impl Cluster {
    /// Starts `n` members and returns when each of them answers a linearizable read.
    pub fn start(n: usize) -> Self {
        Self::start_with(n, &[])
    }

    /// As [`start`](Self::start), with arguments added to each member's command line.
    pub fn start_with(n: usize, arguments: &[&str]) -> Self {
        Self::start_in(n, &Sandbox::new(), arguments, None)
    }

    /// As [`start_with`](Self::start_with), with TLS; `is_mutual` if clients must show a
    /// certificate of the same authority.
    pub fn start_tls(n: usize, is_mutual: bool, arguments: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        let tls = Tls::new(sandbox.join("tls"), is_mutual);
        Self::start_in(n, &sandbox, arguments, Some(&Arc::new(tls)))
    }

    fn start_in(
        n: usize,
        sandbox: &Arc<Sandbox>,
        arguments: &[&str],
        tls: Option<&Arc<Tls>>,
    ) -> Self {
        let mut slot = Some(Slot::take());
        for attempt in 1.. {
            let folder = |_| sandbox.path().to_owned();
            let cluster = Self::lay_out(n, arguments, sandbox, &folder, &mut slot, tls);
            match cluster.start_all() {
                Ok(()) => return cluster,
                // Somebody took a port between our look and etcd's: look again.
                Err(log) if attempt < TRIES && log.contains("address already in use") => {
                    slot = Some(cluster.into_slot());
                }
                Err(log) => panic!("etcd ended while it started:\n{log}"),
            }
        }
        unreachable!("the last try panics")
    }

    /// Chooses addresses for `n` members and starts none: a store that is not there yet.
    pub fn prepare(n: usize) -> Self {
        let sandbox = Sandbox::new();
        let folder = sandbox.path().to_owned();
        Self::prepare_in(n, &sandbox, &[], |_| folder.clone())
    }

    /// As [`prepare`](Self::prepare), with each member's data in a folder of the caller's, and
    /// arguments added to each one's command line.
    pub fn prepare_in(
        n: usize,
        sandbox: &Arc<Sandbox>,
        arguments: &[&str],
        folder: impl Fn(usize) -> PathBuf,
    ) -> Self {
        Self::lay_out(
            n,
            arguments,
            sandbox,
            &folder,
            &mut Some(Slot::take()),
            None,
        )
    }

    /// Starts all members that have no process, and waits until each serves.
    ///
    /// # Errors
    /// The log of a member that ended instead.
    pub fn start_all(&self) -> Result<(), String> {
        for member in &self.members {
            member.start(&self.sandbox);
        }
        (0..self.members.len()).try_for_each(|i| self.wait_serving(i))
    }

    /// How many members there are, dead and frozen ones included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::url).collect()
    }

    /// Where a member serves its clients.
    pub fn address(&self, i: usize) -> SocketAddr {
        self.members[i].client
    }

    /// How clients speak to the members.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What certificates there are, if any.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// The test's folder and marks.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// A client of one member, for assertions with [`block_on`](Self::block_on).
    pub fn client(&self, i: usize) -> Client {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients[i].clone()
    }

    /// Puts other clients in place, such as ones that log in.
    pub fn set_clients(&self, clients: Vec<Client>) {
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    /// Runs a future on the cluster's own runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Kills a member without a word, and waits until it is gone.
    pub fn kill(&self, i: usize) {
        self.members[i].kill();
    }

    /// Kills all members.
    pub fn stop_all(&self) {
        for member in &self.members {
            member.kill();
        }
    }

    /// Stops a member's process: it keeps its connections and answers nothing.
    pub fn freeze(&self, i: usize) {
        let mut process = self.members[i]
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        process::freeze(process.pid());
        process.frozen = true;
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, i: usize) {
        let mut process = self.members[i]
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        process::thaw(process.pid());
        process.frozen = false;
    }

    /// Starts a killed member on its old data, or kills and starts a running one, and returns
    /// when it serves.
    pub fn restart(&self, i: usize) {
        self.start_again(i);
        if let Err(log) = self.wait_serving(i) {
            panic!("etcd ended while it started again:\n{log}");
        }
    }

    /// As [`restart`](Self::restart), without waiting: the member may have no quorum yet.
    pub fn start_again(&self, i: usize) {
        self.members[i].kill();
        self.members[i].start(&self.sandbox);
    }

    /// Kills a member and starts it again where it served its clients, but without its data and as a
    /// cluster of its own: what comes of `--initial-cluster-state new` after a disk was replaced.
    /// Returns when it serves.
    pub fn lead_astray(&self, i: usize) {
        self.members[i].kill();
        self.members[i].start_alone(&self.sandbox);
        if let Err(log) = self.wait_serving(i) {
            panic!("etcd ended while it started alone:\n{log}");
        }
    }

    /// Kills a member, and starts another at its address for clients: without data, and alone in a
    /// cluster of its own. It is killed when what is returned is dropped; the member stays dead.
    pub fn impersonate(&self, i: usize) -> Stray {
        let member = &self.members[i];
        member.kill();
        let data = self.sandbox.join(&format!(
            "stray-{}-{}.data",
            member.client.port(),
            process::monotonic_ns()
        ));
        let peer = format!("http://127.0.0.1:{}", free_ports(1)[0]);
        let binary = programs::etcd();
        let log = File::create(self.sandbox.join("stray.log")).unwrap();
        let mut command = Command::new(binary);
        command
            .env_remove("ETCD")
            .args(["--name", "stray", "--data-dir"])
            .arg(&data)
            .args(["--listen-client-urls", &member.url()])
            .args(["--advertise-client-urls", &member.url()])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("stray={peer}")])
            .args(["--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", data.to_str().unwrap()])
            .args(self.tls.as_deref().map(Tls::arguments).unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.sandbox.mark(&mut command, "stray");
        Stray {
            child: command.spawn().unwrap(),
            data,
        }
    }

    /// The process of a member that runs.
    pub fn pid(&self, i: usize) -> i32 {
        let process = self.members[i].process.lock();
        process.unwrap_or_else(PoisonError::into_inner).pid()
    }

    /// Whether a member's process ended by itself.
    pub fn has_ended(&self, i: usize) -> bool {
        self.members[i].has_ended()
    }

    /// Members that are neither dead nor frozen nor astray.
    pub fn healthy(&self) -> Vec<usize> {
        let healthy = |i: &usize| {
            let process = self.members[*i]
                .process
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            process.child.is_some() && !process.frozen && !process.astray
        };
        (0..self.members.len()).filter(healthy).collect()
    }

    fn lay_out(
        n: usize,
        extra: &[&str],
        sandbox: &Arc<Sandbox>,
        folder: &dyn Fn(usize) -> PathBuf,
        slot: &mut Option<Slot>,
        tls: Option<&Arc<Tls>>,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let secured = tls.map(|tls| tls.arguments()).unwrap_or_default();
        let ports = free_ports(2 * n);
        let address = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        let (clients, peers) = ports.split_at(n);
        let cluster = (0..n)
            .map(|i| format!("etcd{i}=http://{}", address(&peers[i])))
            .collect::<Vec<_>>()
            .join(",");
        let members: Vec<_> = (0..n)
            .map(|i| {
                let peer = format!("http://{}", address(&peers[i]));
                let client = format!("{scheme}://{}", address(&clients[i]));
                let name = format!("etcd{i}");
                // A folder of its own for each try, and a cluster id that no other test has.
                let data = folder(i).join(format!("{name}-{}.data", clients[0]));
                let token = sandbox.join(&clients[0].to_string());
                let arguments = [
                    "--name",
                    &name,
                    "--data-dir",
                    data.to_str().unwrap(),
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                    "--initial-cluster",
                    &cluster,
                    "--initial-cluster-token",
                    token.to_str().unwrap(),
                ];
                Member {
                    client: address(&clients[i]),
                    scheme,
                    arguments: arguments
                        .iter()
                        .chain(extra)
                        .map(|argument| (*argument).to_owned())
                        .chain(secured.clone())
                        .collect(),
                    data,
                    log: sandbox.join(&format!("{name}.log")),
                    name,
                    process: Mutex::default(),
                }
            })
            .collect();
        let runtime = store::runtime();
        let clients = members
            .iter()
            .map(|member| {
                let tls = tls.map(Arc::as_ref);
                runtime.block_on(store::connect_with(&member.url(), tls, |options| options))
            })
            .collect();
        Self {
            members,
            clients: Mutex::new(clients),
            runtime,
            sandbox: Arc::clone(sandbox),
            slot: slot.take().unwrap(),
            tls: tls.cloned(),
        }
    }

    fn wait_serving(&self, i: usize) -> Result<(), String> {
        let what = format!("etcd member {i} answers a linearizable read");
        eventually(secs(30), &what, || {
            if self.members[i].has_ended() {
                let log = std::fs::read_to_string(&self.members[i].log).unwrap();
                let tail = log.lines().rev().take(15).collect::<Vec<_>>();
                return Ok(Err(tail.into_iter().rev().collect::<Vec<_>>().join("\n")));
            }
            self.read_through(i).map(Ok)
        })
    }

    fn into_slot(self) -> Slot {
        self.stop_all();
        self.slot
    }
}

impl Member {
    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.client)
    }

    fn start(&self, sandbox: &Sandbox) {
        self.start_with(sandbox, &self.arguments, false);
    }

    /// Without its data, and as a cluster of its own.
    fn start_alone(&self, sandbox: &Sandbox) {
        std::fs::remove_dir_all(&self.data).ok();
        let mut arguments = self.arguments.clone();
        let value = |arguments: &[String], flag: &str| {
            arguments.iter().position(|it| it == flag).unwrap() + 1
        };
        let peer = arguments[value(&arguments, "--initial-advertise-peer-urls")].clone();
        let (cluster, token) = (
            value(&arguments, "--initial-cluster"),
            value(&arguments, "--initial-cluster-token"),
        );
        arguments[cluster] = format!("{}={peer}", self.name);
        arguments[token] += "-alone";
        arguments.extend(["--initial-cluster-state".to_owned(), "new".to_owned()]);
        self.start_with(sandbox, &arguments, true);
    }

    fn start_with(&self, sandbox: &Sandbox, arguments: &[String], astray: bool) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if process.child.is_some() {
            return;
        }
        let program = process.program.clone().map(OsString::from);
        let binary = program.unwrap_or_else(programs::etcd);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut command = Command::new(&binary);
        command
            .args(arguments)
            .env_remove("ETCD")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(offset) = &process.wall_offset {
            command.env("WALL_OFFSET", offset);
        }
        sandbox.mark(&mut command, &self.name);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot run {}: {error}. The tests need etcd: apt-get install etcd-server \
                 etcd-client (Debian 12, Ubuntu 24.04 and newer; apt-get install etcd before), \
                 or set ETCD to the path of its binary",
                binary.display()
            )
        });
        process.child = Some(child);
        process.frozen = false;
        process.astray = astray;
    }

    fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = process.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let child = process.child.as_mut().unwrap();
        child.try_wait().unwrap().is_some()
    }
}

impl Process {
    fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("the member runs");
        i32::try_from(child.id()).unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        // Sixty megabytes a member that say little: only the log is worth keeping.
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// Ports that nobody listens on, below those that the kernel gives to outgoing connections: such
/// a connection must not sit on a dead member's port when it is to be started again.
fn free_ports(n: usize) -> Vec<u16> {
    let mut ports: Vec<u16> = Vec::new();
    while ports.len() < n {
        let mut random = [0; 2];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let port = 10_000 + u16::from_ne_bytes(random) % 22_000;
        if !ports.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
