//! Processes of ordinary users, which the kernel limits, and the limits.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::command::skipped;
use super::sandbox::Sandbox;

/// Whether processes of another user can be started; says what is left out where they can't.
pub fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped(&format!("{what}: not root"));
    }
    is_root
}

/// The number of a user that has no process yet.
pub fn user() -> u32 {
    static USED: AtomicU32 = AtomicU32::new(0);
    100_000 + std::process::id() % 100_000 * 100 + USED.fetch_add(1, Ordering::Relaxed)
}

/// Gives a folder with all that is in it to a user, who may write in `above` too.
pub fn give(above: &Path, folder: &Path, user: u32) {
    fs::set_permissions(above, Permissions::from_mode(0o777)).unwrap();
    give_all(folder, user);
}

fn give_all(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_all(&entry.unwrap().path(), user);
        }
    }
}

/// Sets the limit that holds for a process now, by its name in `prlimit`; `None` raises it again as far
/// as it goes.
pub fn limit(pid: i32, resource: &str, to: Option<u64>) {
    let to = to.map_or_else(|| "unlimited".to_owned(), |to| to.to_string());
    let owner = owner(pid);
    let set = |to: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), &format!("--{resource}={to}:")]);
        // Without a capability that root may lack, it is its owner's to set.
        command.uid(owner).gid(owner).output().unwrap()
    };
    let mut output = set(&to);
    if to == "unlimited" && !output.status.success() {
        output = set(&hard(pid, resource));
    }
    assert!(output.status.success(), "{output:?}");
}

/// Whose a process is, even where its files in `/proc` are root's since it can't be dumped.
fn owner(pid: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let first = line.unwrap().split_whitespace().next();
    first.unwrap().parse().unwrap()
}

/// How far a limit may be raised.
fn hard(pid: i32, resource: &str) -> String {
    let name = match resource {
        "nproc" => "Max processes",
        "nofile" => "Max open files",
        _ => "Max address space",
    };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

/// The words of a command that becomes root by the set-user-id bit, of whose processes an ordinary user's
/// daemon may signal none.
pub fn as_root(sandbox: &Sandbox, command: &[String]) -> Vec<String> {
    let setuid = sandbox.join("become-root");
    if !setuid.exists() {
        fs::copy("/usr/bin/setpriv", &setuid).unwrap();
        fs::set_permissions(&setuid, Permissions::from_mode(0o4755)).unwrap();
    }
    let own = "--reuid=0 --regid=0 --clear-groups --".split(' ');
    let words = [setuid.to_str().unwrap()].into_iter().chain(own);
    let command = command.iter().map(String::as_str);
    words.chain(command).map(str::to_owned).collect()
}
