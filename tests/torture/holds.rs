//! What holds a replica's processes up from outside: a job that can't be killed, threads, descriptors and
//! file sizes that can't be had, a host without a free core.
//!
//! Each is real, by the kernel's own means, and is over when its guard is dropped. What can't be had on
//! a machine is said once and counts as not thrown.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::common::process;
use crate::common::{eventually, millis, secs};

/// How a job is kept from dying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A frozen control group: the kernel delivers SIGKILL only when it is thawed.
    Frozen,
    /// A debugger that stands still: only it can reap what it traces.
    Traced,
    /// A process of the job's that took root's rights, under an ordinary user's daemon.
    Roots,
}

/// What daemon and guardians get no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Threads,
    Descriptors,
    /// Files can't grow.
    FileSize,
}

/// Says once what can't be done on this machine.
pub(crate) fn skip(what: &str, why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(what.to_owned()) {
        println!("SKIPPED: {what}: {why}");
    }
}

/// A control group of the old kind of its own, which has one controller.
struct Group {
    path: PathBuf,
    parent: PathBuf,
}

impl Group {
    fn new(controller: &str, name: &str) -> Option<Self> {
        let parent = Path::new("/sys/fs/cgroup").join(controller);
        let path = parent.join(name);
        if let Err(error) = fs::create_dir(&path) {
            skip(
                &format!("faults by the {controller} controller"),
                &error.to_string(),
            );
            return None;
        }
        Some(Self { path, parent })
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).unwrap();
    }

    /// Moves them in; one that has just ended is none to move.
    fn take(&self, pids: &[i32]) {
        for pid in pids {
            fs::write(self.path.join("cgroup.procs"), pid.to_string()).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        eventually(secs(10), "a control group is left", || {
            let inside = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
            for pid in inside.lines() {
                fs::write(self.parent.join("cgroup.procs"), pid).ok();
            }
            fs::remove_dir(&self.path).is_ok()
        });
    }
}

/// A job that can't be killed until this is dropped.
pub(crate) struct Unkillable {
    freezer: Option<Group>,
    tracer: Option<Child>,
    /// The process that is root's.
    roots: Option<i32>,
}

impl Unkillable {
    /// Holds all of `pids`, of the job with the main process `main`; `name` is no other group's. A job
    /// that can do so has a process of root's once there is the file `wish`.
    pub(crate) fn new(
        hold: Hold,
        main: i32,
        pids: &[i32],
        name: &str,
        wish: &Path,
    ) -> Option<Self> {
        let mut this = Self {
            freezer: None,
            tracer: None,
            roots: None,
        };
        let done = match hold {
            Hold::Frozen => this.freeze(pids, name),
            Hold::Traced => this.trace(main),
            Hold::Roots => this.become_root(pids, wish),
        };
        done.then_some(this)
    }

    /// The process that is to be named, given the job's main process.
    pub(crate) fn named(&self, main: i32) -> i32 {
        self.roots.unwrap_or(main)
    }

    fn become_root(&mut self, pids: &[i32], wish: &Path) -> bool {
        let is_roots = |pid: &&i32| {
            let folder = fs::metadata(format!("/proc/{pid}"));
            folder.is_ok_and(|it| it.uid() == 0)
        };
        if pids.iter().any(|pid| is_roots(&pid)) {
            return false;
        }
        fs::write(wish, "").unwrap();
        for _ in 0..200 {
            self.roots = pids.iter().find(is_roots).copied();
            if self.roots.is_some() {
                break;
            }
            std::thread::sleep(millis(5));
        }
        fs::remove_file(wish).unwrap();
        self.roots.is_some()
    }

    fn freeze(&mut self, pids: &[i32], name: &str) -> bool {
        let Some(group) = Group::new("freezer", name) else {
            return false;
        };
        group.take(pids);
        group.set("freezer.state", "FROZEN");
        self.freezer = Some(group);
        true
    }

    fn trace(&mut self, main: i32) -> bool {
        let tracer = Command::new("strace")
            .args(["--trace=none", "--output=/dev/null", "--attach"])
            .arg(main.to_string())
            .stderr(Stdio::null())
            .spawn();
        let Ok(tracer) = tracer else {
            skip("a traced job", "no strace");
            return false;
        };
        let pid = i32::try_from(tracer.id()).unwrap();
        self.tracer = Some(tracer);
        let by = format!("TracerPid:\t{pid}\n");
        for _ in 0..200 {
            let status = fs::read_to_string(format!("/proc/{main}/status"));
            if status.is_ok_and(|text| text.contains(&by)) {
                process::freeze(pid);
                return true;
            }
            std::thread::sleep(millis(5));
        }
        false
    }
}

impl Drop for Unkillable {
    fn drop(&mut self) {
        if let Some(group) = &self.freezer {
            group.set("freezer.state", "THAWED");
        }
        if let Some(pid) = self.roots {
            process::signal(pid, Signal::KILL);
        }
        // It lets go of what it traces when it ends.
        if let Some(tracer) = &mut self.tracer {
            tracer.kill().ok();
            tracer.wait().ok();
        }
    }
}

/// While it lives, these processes get no more of something.
pub(crate) struct Starved {
    /// One without a free place.
    _group: Option<Group>,
    /// The limits from before.
    limits: Vec<(Pid, Resource, Rlimit)>,
}

impl Starved {
    pub(crate) fn new(want: Want, pids: &[i32], name: &str) -> Option<Self> {
        let resource = match want {
            Want::Threads => {
                let group = Group::new("pids", name)?;
                group.take(pids);
                group.set("pids.max", "0");
                return Some(Self {
                    _group: Some(group),
                    limits: Vec::new(),
                });
            }
            Want::Descriptors => Resource::Nofile,
            Want::FileSize => Resource::Fsize,
        };
        let none = Rlimit {
            current: Some(0),
            ..getrlimit(resource)
        };
        let limits = pids.iter().filter_map(|pid| {
            let pid = Pid::from_raw(*pid)?;
            let before = prlimit(Some(pid), resource, none).ok()?;
            Some((pid, resource, before))
        });
        Some(Self {
            limits: limits.collect(),
            _group: None,
        })
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        for (pid, resource, limit) in self.limits.drain(..) {
            prlimit(Some(pid), resource, limit).ok();
        }
    }
}

/// Processes that take every core, four for each.
pub(crate) struct Load(Vec<Child>);

impl Load {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let busy = |_| {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()
                .unwrap()
        };
        Self((0..4 * cores).map(busy).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            process::signal(i32::try_from(child.id()).unwrap(), Signal::KILL);
            child.wait().ok();
        }
    }
}
