//! What a test leaves nothing behind of: its folder, its processes, its place among the others.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::process;

/// The variable by which every process of a test is found again.
const VARIABLE: &str = "TEST_SANDBOX";

/// Waits for the end of its standard input, which comes when the test's process is gone however
/// it went, and then kills what the test started and removes its folder.
const SWEEPER: &str = r#"trap '' INT TERM HUP
read -r _
for environ in /proc/[0-9]*/environ; do
    if tr '\0' '\n' 2>/dev/null <"$environ" | grep -q "^$1/"; then
        pid=${environ#/proc/}
        kill -9 "${pid%/environ}"
    fi
done
rm -rf -- "$2""#;

/// A temporary folder, and a mark on every process that is started for the test.
///
/// On drop the processes are killed and the folder is removed; if the test is panicking, the
/// folder stays and its path is printed.
pub struct Sandbox {
    dir: TempDir,
    id: String,
    started: AtomicUsize,
    sweeper: Child,
}

impl Sandbox {
    /// Makes the folder.
    pub fn new() -> Arc<Self> {
        let dir = tempfile::Builder::new()
            .prefix("incumbent-")
            .tempdir()
            .unwrap();
        let id = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let sweeper = Command::new("sh")
            .args(["-c", SWEEPER, "sweeper"])
            .arg(format!("{VARIABLE}={id}"))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Arc::new(Self {
            dir,
            id,
            started: AtomicUsize::new(0),
            sweeper,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file or folder in the folder, not made yet.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Marks a command's processes as this test's; the returned text finds them with
    /// [`process::carrying`].
    pub fn mark(&self, command: &mut Command, who: &str) -> String {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let value = format!("{}/{who}-{number}/", self.id);
        command.env(VARIABLE, &value);
        format!("{VARIABLE}={value}")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        process::sweep(&format!("{VARIABLE}={}/", self.id));
        // It has nothing left to do; were it told through its input, it would look once more.
        self.sweeper.kill().ok();
        self.sweeper.wait().ok();
        if std::thread::panicking() || std::env::var_os("INCUMBENT_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("logs are kept in {}", self.dir.path().display());
        }
    }
}

/// One of the few places for clusters on this machine, whichever runner started the tests.
///
/// Three members and their daemons want a core; with more of them at once than cores, the
/// members' elections would be what the tests measure.
pub struct Slot(#[expect(dead_code, reason = "held for its lock")] File);

impl Slot {
    /// Waits, without limit, until a place is free.
    pub fn take() -> Self {
        let slots = std::env::var("INCUMBENT_TEST_SLOTS")
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(2);
        let user = rustix::process::getuid().as_raw();
        let dir = std::env::temp_dir().join(format!("incumbent-test-slots-{user}"));
        fs::create_dir_all(&dir).unwrap();
        loop {
            for slot in 0..slots.max(1) {
                let file = File::create(dir.join(slot.to_string())).unwrap();
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    return Self(file);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
