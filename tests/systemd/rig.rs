//! A real system manager, booted once for all tests of this binary, with a real store in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::common::{example, skipped};
use crate::store::Store;

/// A machine that lives as long as this process; its folder `/rig` is for the tests' files.
pub(crate) struct Rig {
    init: u32,
    store: OnceLock<Store>,
    /// The rig lives until nobody holds this.
    _input: Mutex<std::process::ChildStdin>,
}

/// The rig, or `None`, said aloud, where it can't be booted.
pub(crate) fn rig() -> Option<&'static Rig> {
    static RIG: OnceLock<Result<Rig, String>> = OnceLock::new();
    match RIG.get_or_init(|| lacks().map_or_else(|| Ok(Rig::boot()), Err)) {
        Ok(rig) => Some(rig),
        Err(why) => {
            skipped(&format!("no system manager for the tests: {why}"));
            None
        }
    }
}

/// A rig as of [`rig`] for one test alone, which holds up whatever else the system manager does there.
pub(crate) fn own_rig() -> Option<&'static Rig> {
    rig().map(|_| &*Box::leak(Box::new(Rig::boot())))
}

/// What this machine lacks. Anything else that goes wrong is a failure, and not skipped.
fn lacks() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        return Some("/lib/systemd/systemd is missing".to_owned());
    }
    let probe = "mkdir /tmp/u /tmp/w /tmp/r && mkdir -p /tmp/c && mount -t cgroup2 c /tmp/c \
                 && mount -t overlay o -o lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w /tmp/r";
    let output = Command::new("unshare")
        .args(["-m", "-p", "-u", "-i", "-n", "-C", "-f", "sh", "-c"])
        .arg(format!("mount -t tmpfs t /tmp && {probe}"))
        .output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare can't be run: {error}")),
    }
}

impl Rig {
    #[expect(
        clippy::zombie_processes,
        reason = "it outlives this process, and cleans up after it"
    )]
    fn boot() -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let etcd = std::env::var("ETCD").unwrap_or_else(|_| "/usr/bin/etcd".to_owned());
        let daemon = std::env::var("INCUMBENT_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_incumbent").to_owned());
        let mut script = Command::new("bash")
            .arg(format!("{root}/tests/systemd/rig.sh"))
            .arg(format!("{daemon}:/usr/bin/incumbent"))
            .arg(format!(
                "{}:/usr/bin/recorder",
                example("recorder").display()
            ))
            .arg(format!("{etcd}:/usr/bin/rig-etcd"))
            .arg(format!(
                "{root}/systemd/incumbent@.service:/etc/systemd/system/incumbent@.service"
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(script.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let init = line
            .trim()
            .strip_prefix("up ")
            .and_then(|pid| pid.parse().ok());
        let rig = Self {
            init: init.unwrap_or_else(|| panic!("the rig did not come up: {line:?}")),
            store: OnceLock::new(),
            _input: Mutex::new(script.stdin.take().unwrap()),
        };
        let store = Store::start(&rig, "store", 2379);
        assert!(rig.store.set(store).is_ok());
        rig
    }

    /// The store of all tests that don't need one of their own.
    pub(crate) fn store(&self) -> &Store {
        self.store.get().expect("started when the rig was booted")
    }

    /// A file that inside is `/rig/NAME`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.inside("/rig").join(name)
    }

    /// The same file, or folder, as it is seen inside.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// The process id that this process knows a process inside by; `None` if there is none.
    pub(crate) fn outer(&self, inner: &str) -> Option<i32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(&self.init.to_string());
        let is_it = |pid: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
            let innermost = numbers.and_then(|line| line.split_whitespace().last());
            innermost == Some(inner) && namespace(pid) == ours
        };
        let listed = fs::read_dir("/proc").unwrap();
        let mut pids = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        pids.find(is_it)?.parse().ok()
    }

    /// Runs a command inside, as root.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        Command::new("nsenter")
            .args([
                "-t",
                &self.init.to_string(),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "-C",
                "--",
            ])
            .args(command)
            .env("ETCDCTL_API", "3")
            .current_dir("/")
            .output()
            .unwrap()
    }

    /// As [`run`](Self::run), and returns what it printed; it must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {printed}{errors}");
        printed.trim().to_owned()
    }

    /// Writes a file that only exists inside, and that all may read there.
    pub(crate) fn write(&self, path: &str, text: &str) {
        self.install(path, text, "644");
    }

    /// As [`write`](Self::write), for root's eyes alone.
    pub(crate) fn write_secret(&self, path: &str, text: &str) {
        self.install(path, text, "600");
    }

    fn install(&self, path: &str, text: &str, mode: &str) {
        // Drop-ins of several tests may be written at once.
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let mut number = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        let name = format!("file-{number}");
        drop(number);
        fs::write(self.file(&name), text).unwrap();
        self.ok(&["install", "-D", "-m", mode, &format!("/rig/{name}"), path]);
    }
}
