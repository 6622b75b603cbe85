//! The daemon under test: the built binary, its config, its signals and its log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::cluster::Cluster;
use super::config;
use super::example::example;
use super::ordinary;
use super::output::{Line, Output};
use super::process;
use super::proxy::Links;
use super::record::Record;
use super::sandbox::Sandbox;
use super::security::Tls;
use super::timens;
use super::wait::{eventually, millis, secs, throughout};

/// What a daemon says that the service manager didn't hear in time.
pub const UNHEARD: &str = "the service manager hears nothing: a term begins without its watchdog";

/// The election of tests that need only one.
pub const PREFIX: &str = "/election";

/// The short name of the guardian's process.
const GUARDIAN: &str = "incumbent-guard";

/// The program under test.
pub fn program() -> PathBuf {
    let named = std::env::var_os("INCUMBENT_BIN");
    named.map_or_else(|| env!("CARGO_BIN_EXE_incumbent").into(), PathBuf::from)
}

/// What a daemon is to be started with.
pub struct Builder {
    sandbox: Arc<Sandbox>,
    name: String,
    binary: PathBuf,
    config: toml::Table,
    environment: BTreeMap<String, String>,
    /// What starts it.
    starter: Vec<String>,
    /// Who owns its files, if somebody else than the test's user.
    owner: Option<u32>,
}

/// One replica.
///
/// On drop the daemon, its guardian, its job and all that came of them are killed; if the test is
/// panicking, the end of its log is printed.
pub struct Daemon {
    name: String,
    mark: String,
    pid: i32,
    spawned_at: u64,
    child: Mutex<Child>,
    output: Arc<Output>,
    config: Mutex<toml::Table>,
    file: PathBuf,
}

impl Builder {
    /// The election to stand in.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        self.toml(&format!("election.prefix = {prefix:?}"))
    }

    /// The lease's TTL.
    #[must_use]
    pub fn ttl(self, ttl: &str) -> Self {
        self.toml(&format!("election.ttl = {ttl:?}"))
    }

    /// The job.
    #[must_use]
    pub fn job<S: AsRef<str>>(self, command: &[S]) -> Self {
        let command: Vec<_> = command.iter().map(AsRef::as_ref).collect();
        self.toml(&format!("job.command = {command:?}"))
    }

    /// A job that keeps this record; `flags` as in `examples/recorder.rs`.
    #[must_use]
    pub fn records(self, record: &Record, flags: &[&str]) -> Self {
        self.job(&record.command(flags))
    }

    /// One more of several jobs, in place of the only one, with what that would have.
    #[must_use]
    pub fn named_job<S: AsRef<str>>(mut self, name: &str, command: &[S]) -> Self {
        let command: Vec<_> = command.iter().map(AsRef::as_ref).collect();
        self.config.remove("job");
        self.toml(&format!(
            "[jobs.{name}]\ncommand = {command:?}\nstop_grace = '5s'\nlost_grace = '300ms'\nkill_budget = '500ms'"
        ))
    }

    /// A Rust job that keeps this record; `settings` as in `examples/recording.rs`.
    #[must_use]
    pub fn rust_job(self, record: &Record, settings: &str) -> Self {
        let file = record.file();
        let mut this = self
            .binary(example("recording"))
            .toml("job.kind = 'recording'")
            .toml(&format!("job.settings = {{ file = '{}' }}", file.display()))
            .toml(&format!("job.settings = {{ {settings} }}"));
        if let Some(job) = this.config["job"].as_table_mut() {
            job.remove("command");
        }
        this
    }

    /// Another binary than the tool itself: one with jobs in Rust.
    #[must_use]
    pub fn binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// Reaches the members through these proxies.
    #[must_use]
    pub fn through(self, links: &Links) -> Self {
        self.toml(&format!("etcd.endpoints = {:?}", links.urls()))
    }

    /// Runs as an ordinary user, which takes root, and one that has nothing else: the kernel limits no
    /// process of root's. Its job may still write the test's records.
    #[must_use]
    pub fn ordinary(self) -> Self {
        self.of(ordinary::user())
    }

    /// As [`ordinary`](Self::ordinary), as the user with this number.
    #[must_use]
    pub fn of(mut self, id: u32) -> Self {
        self.owner = Some(id);
        let setpriv = format!("setpriv --reuid={id} --regid={id} --clear-groups --");
        self.starter.extend(setpriv.split(' ').map(str::to_owned));
        self
    }

    /// Sees nothing of other users' processes in `/proc`, nor what hides itself; takes root.
    #[must_use]
    pub fn hidepid(self) -> Self {
        self.mounting("mount -t proc -o hidepid=2 proc /proc")
    }

    /// Runs where this was mounted for it alone; takes root.
    #[must_use]
    pub fn mounting(mut self, mount: &str) -> Self {
        let script = format!("{mount} && exec \"$@\"");
        let unshare = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        self.starter.splice(0..0, unshare.map(str::to_owned));
        self
    }

    /// Runs as the first process of a PID namespace, as in a container; takes root. The process that the
    /// test started stands outside, and ends as the first one does.
    #[must_use]
    pub fn contained(mut self) -> Self {
        let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
        self.starter.splice(0..0, unshare.map(str::to_owned));
        self
    }

    /// Runs where `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC` are so many seconds ahead of the machine's, as
    /// on a host that was booted so much earlier; takes root, see [`timens::may_shift_clocks`].
    #[must_use]
    pub fn clocks_ahead(mut self, boottime: i64, monotonic: i64) -> Self {
        let unshare = timens::command(boottime, monotonic);
        self.starter.splice(0..0, unshare);
        self
    }

    /// May have only so much of a resource, by its name in `prlimit`, until the limit is raised.
    #[must_use]
    pub fn limited(mut self, resource: &str, to: u64) -> Self {
        let limit = format!("--{resource}={to}:");
        self.starter.extend(["prlimit".to_owned(), limit]);
        self
    }

    /// Writes to `file` what it and all that it starts send, fork and execute, in that order; takes
    /// `strace`.
    #[must_use]
    pub fn traced(self, file: &Path) -> Self {
        let calls = "--trace=write,writev,sendto,sendmsg,fork,vfork,clone,clone3,execve";
        self.under_strace(file, &["-s", "4096", calls])
    }

    /// Each of its calls of this name takes so much longer; takes `strace`.
    #[must_use]
    pub fn slowed(self, call: &str, delay: Duration) -> Self {
        let (trace, delay) = (format!("--trace={call}"), delay.as_micros());
        let inject = format!("--inject={call}:delay_enter={delay}");
        self.under_strace(Path::new("/dev/null"), &[&trace, &inject])
    }

    /// The tracer is not the parent, so that the daemon is the process that was started.
    fn under_strace(mut self, file: &Path, options: &[&str]) -> Self {
        let strace = ["strace", "-D", "-f"].iter().chain(options);
        self.starter.extend(strace.map(|&word| word.to_owned()));
        self.starter
            .extend(["-o".to_owned(), file.display().to_string()]);
        self
    }

    /// Any other part of the config; what is set already is replaced.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        config::merge(&mut self.config, text);
        self
    }

    /// As [`toml`](Self::toml), for parts that are taken away.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut toml::Table)) -> Self {
        change(&mut self.config);
        self
    }

    /// A variable for the daemon.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes the config and starts the daemon, without waiting for anything.
    pub fn spawn(mut self) -> Daemon {
        let dir = self.folder();
        let runtime_dir = dir.join("run");
        if !runtime_dir.exists() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&runtime_dir)
                .unwrap();
        }
        let runtime_dir = runtime_dir.to_str().unwrap();
        config::merge(&mut self.config, &format!("runtime_dir = {runtime_dir:?}"));
        let file = dir.join("incumbent.toml");
        config::write(&file, &self.config);
        if let Some(owner) = self.owner {
            ordinary::give(self.sandbox.path(), &dir, owner);
        }

        let binary = self.binary;
        let mut words = self
            .starter
            .iter()
            .map(OsString::from)
            .chain([binary.clone().into()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        for (name, _) in std::env::vars_os() {
            let ours = name.to_str().is_some_and(|n| n.starts_with("INCUMBENT_"));
            if ours
                || ["NOTIFY_SOCKET", "RUNTIME_DIRECTORY"]
                    .iter()
                    .any(|n| name == *n)
            {
                command.env_remove(&name);
            }
        }
        command
            .arg("run")
            .arg("-c")
            .arg(&file)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mark = self.sandbox.mark(&mut command, &self.name);
        let spawned_at = process::monotonic_ns();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", binary.display()));
        let output = Output::collect(
            child.stdout.take().unwrap(),
            child.stderr.take().unwrap(),
            &dir.join("log"),
        );
        Daemon {
            pid: i32::try_from(child.id()).unwrap(),
            name: self.name,
            spawned_at,
            mark,
            child: Mutex::new(child),
            output,
            config: Mutex::new(self.config),
            file,
        }
    }

    /// The daemon's folder in the test's; a second daemon of one name is the first one started
    /// again, and finds what that one left.
    fn folder(&self) -> PathBuf {
        let dir = self.sandbox.join(&self.name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}

impl Daemon {
    /// A replica of this name with a job that sleeps, a TTL of 4 s, and graces short enough that
    /// a slow machine costs no term.
    pub fn builder(cluster: &Cluster, name: &str) -> Builder {
        let builder = Builder {
            sandbox: Arc::clone(cluster.sandbox()),
            name: name.to_owned(),
            binary: program(),
            config: toml::Table::new(),
            environment: BTreeMap::new(),
            starter: Vec::new(),
            owner: None,
        };
        let tls = cluster.tls().map(Tls::settings).unwrap_or_default();
        let builder = tls.iter().fold(builder, |builder, (key, file)| {
            builder.toml(&format!("etcd.tls.{key} = '{}'", file.display()))
        });
        builder
            .toml(&format!("candidate.name = {name:?}"))
            .toml(&format!("etcd.endpoints = {:?}", cluster.endpoints()))
            .prefix(PREFIX)
            .ttl("4s")
            .job(&["sleep", "1000000"])
            .toml("job = { stop_grace = '5s', lost_grace = '300ms', kill_budget = '500ms' }")
            .toml("log = { format = 'json', filter = 'info' }")
    }

    /// The candidate's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The daemon's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it was started, on `CLOCK_MONOTONIC`.
    pub fn spawned_at(&self) -> u64 {
        self.spawned_at
    }

    /// The guardian's process id.
    #[track_caller]
    pub fn guardian(&self) -> i32 {
        let what = format!("{} has a guardian", self.name);
        eventually(secs(5), &what, || process::child(self.pid, GUARDIAN))
    }

    /// The folder with its config, its log and its runtime folder.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap()
    }

    /// Sends a signal, unless it was waited for: then its number may be anybody's.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            process::signal(self.pid, signal);
        }
    }

    /// Asks for a planned stop.
    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks once more when the last stop is old enough for that to be impatience.
    #[track_caller]
    pub fn sigterm_again(&self) {
        throughout(millis(1100), "it waits", || self.is_alive());
        self.sigterm();
    }

    /// Asks for a stop at once.
    pub fn sigquit(&self) {
        self.signal(Signal::QUIT);
    }

    /// Kills the daemon alone.
    pub fn sigkill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops the daemon alone; returns when it stands still.
    pub fn sigstop(&self) {
        process::freeze(self.pid);
    }

    /// Lets the daemon go on.
    pub fn sigcont(&self) {
        process::thaw(self.pid);
    }

    /// Asks for a reload.
    pub fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// Asks to step down.
    pub fn sigusr1(&self) {
        self.signal(Signal::USR1);
    }

    /// Kills the guardian alone; returns the process id it had.
    pub fn guardian_sigkill(&self) -> i32 {
        let guardian = self.guardian();
        process::signal(guardian, Signal::KILL);
        guardian
    }

    /// Stops the guardian alone; returns its process id.
    pub fn guardian_sigstop(&self) -> i32 {
        let guardian = self.guardian();
        process::freeze(guardian);
        guardian
    }

    /// Kills daemon and guardian, so that neither sees the other die and acts, and returns when
    /// both are dead.
    #[track_caller]
    pub fn sigkill_both(&self) {
        let guardian = self.guardian();
        process::freeze(guardian);
        self.sigkill();
        process::signal(guardian, Signal::KILL);
        eventually(secs(5), "daemon and guardian are dead", || {
            !self.is_alive() && !process::is_alive(guardian)
        });
    }

    /// Writes the config anew with these changes, and asks for a reload.
    pub fn reload(&self, text: &str) {
        self.change(text);
        self.sighup();
    }

    /// Writes the config anew with these changes, of which the daemon hears nothing yet.
    pub fn change(&self, text: &str) {
        self.edit(|config| config::merge(config, text));
    }

    /// As [`change`](Self::change), for changes that take something away.
    pub fn edit(&self, change: impl FnOnce(&mut toml::Table)) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut config);
        config::write(&self.file, &config);
    }

    /// Waits until the daemon has exited.
    #[track_caller]
    pub fn wait_exit(&self, budget: Duration) -> ExitStatus {
        let what = format!("{} exits", self.name);
        eventually(budget, &what, || self.exit_status())
    }

    /// How the daemon exited, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()
            .unwrap()
    }

    /// Whether the daemon runs.
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Living processes that came of this daemon, itself and its guardian included.
    pub fn processes(&self) -> Vec<i32> {
        process::carrying(&self.mark)
    }

    /// Waits until nothing lives that came of this daemon.
    #[track_caller]
    pub fn wait_no_processes(&self, budget: Duration) {
        let what = format!("nothing is left of {}", self.name);
        eventually(budget, &what, || {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }

    /// All lines of the log so far.
    pub fn logs(&self) -> Vec<Line> {
        self.output.lines()
    }

    /// All lines with this message so far.
    pub fn lines(&self, message: &str) -> Vec<Line> {
        let mut lines = self.logs();
        lines.retain(|line| line.message() == Some(message));
        lines
    }

    /// Waits for the first line with this message.
    #[track_caller]
    pub fn wait_log(&self, message: &str, budget: Duration) -> Line {
        self.wait_nth(message, 1, budget)
    }

    /// Waits for the `n`th line with this message, counted from 1.
    #[track_caller]
    pub fn wait_nth(&self, message: &str, n: usize, budget: Duration) -> Line {
        let what = format!("{} logs {message:?} for the {n}. time", self.name);
        eventually(budget, &what, || {
            let lines = self.lines(message);
            let seen = lines.len();
            lines.into_iter().nth(n - 1).ok_or(seen)
        })
    }

    /// Waits for a line with this message about the term with this token.
    #[track_caller]
    pub fn wait_of_term(&self, message: &str, token: i64, budget: Duration) -> Line {
        let what = format!("{} logs {message:?} with token {token}", self.name);
        eventually(budget, &what, || {
            let mut lines = self.lines(message).into_iter();
            lines.find(|line| line.get("token").and_then(serde_json::Value::as_i64) == Some(token))
        })
    }

    /// Waits until the daemon has led for the first time; returns that term's token.
    #[track_caller]
    pub fn wait_elected(&self, budget: Duration) -> i64 {
        self.wait_log("elected", budget).token()
    }

    /// Waits until it has led for the `n`th time; returns that term's token.
    #[track_caller]
    pub fn wait_elected_nth(&self, n: usize, budget: Duration) -> i64 {
        self.wait_nth("elected", n, budget).token()
    }

    /// Waits until its first job runs; returns the job's process id.
    #[track_caller]
    pub fn wait_job(&self, budget: Duration) -> i32 {
        self.wait_log("job started", budget).pid()
    }

    /// What the daemon and its job write.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The reader first: nothing of this may hang on a full pipe.
        self.output.resume();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Once it was waited for, its number may be anybody's.
        if matches!(child.try_wait(), Ok(None)) {
            let guardians = process::children(self.pid);
            child.kill().ok();
            for guardian in guardians {
                process::signal(guardian, Signal::KILL);
            }
            child.wait().ok();
        }
        drop(child);
        process::sweep(&self.mark);
        if std::thread::panicking() {
            self.output.print_tail(&self.name);
        }
    }
}
