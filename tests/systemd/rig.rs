//! A real system manager, booted once for all tests of this binary, with a real etcd in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::common::{example, secs, wait::eventually};

/// Where the tests' files are inside, as outside.
pub(crate) struct Rig {
    init: u32,
    folder: tempfile::TempDir,
    /// The rig lives until nobody holds this.
    _input: Mutex<std::process::ChildStdin>,
}

/// The rig, or `None`, said aloud, where it can't be booted.
pub(crate) fn rig() -> Option<&'static Rig> {
    static RIG: OnceLock<Result<Rig, String>> = OnceLock::new();
    match RIG.get_or_init(|| lacks().map_or_else(|| Ok(Rig::boot()), Err)) {
        Ok(rig) => Some(rig),
        Err(why) => {
            // Past the test harness, which hides what a test that passes prints.
            let notice = format!("SKIPPED: no system manager for the tests: {why}\n");
            std::io::stderr().write_all(notice.as_bytes()).unwrap();
            None
        }
    }
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
        let folder = tempfile::Builder::new()
            .prefix("incumbent-")
            .tempdir()
            .unwrap();
        // For the users of all instances.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        let etcd = std::env::var("ETCD").unwrap_or_else(|_| "/usr/bin/etcd".to_owned());
        let daemon = std::env::var("INCUMBENT_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_incumbent").to_owned());
        let inside = folder.path().display();
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
            .arg(format!("{inside}:/rig"))
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
            folder,
            _input: Mutex::new(script.stdin.take().unwrap()),
        };
        rig.ok(&[
            "systemd-run",
            "--quiet",
            "--unit=store",
            "rig-etcd",
            "--data-dir=/tmp/store",
        ]);
        eventually(secs(30), "etcd serves in the rig", || {
            rig.run(&["etcdctl", "get", "x"]).status.success()
        });
        rig
    }

    /// A file that inside is `/rig/NAME`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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

    /// Writes a file that only exists inside.
    pub(crate) fn write(&self, path: &str, text: &str) {
        // Drop-ins of several tests may be written at once.
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let mut number = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        let name = format!("file-{number}");
        drop(number);
        fs::write(self.file(&name), text).unwrap();
        self.ok(&["install", "-D", "-m", "644", &format!("/rig/{name}"), path]);
    }
}
