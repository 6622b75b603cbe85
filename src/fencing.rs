//! Fences what an earlier daemon of the same election left on this host.
//!
//! The daemon calls it once, before it joins. A daemon and its guardian that were killed together
//! may leave a descendant of their job behind that had left its session; it carries the variables
//! of its term in its environment. Replicas of one election may share a host, so a process that
//! has a living guardian above it is another replica's, and is left alone.
//!
//! A daemon may be started from such an environment itself, by hand or by a job. So one that has a
//! living guardian below it is left alone too, and so is whoever started this one.
//!
//! For a user that isn't root, a process that hides its environment from its own user can't be told
//! from a stranger and lives on: a program with more rights than who started it, or one of our own
//! commands that has read a password, whose guarded writes the store refuses.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::clock;
use crate::keys::Prefix;
use crate::proc::{self, Process, Stat};

/// How long to wait for one process's end before looking at all of them again.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a process without an environment is looked at, in case it is being executed.
const LOOKS: usize = 4;

/// From one of these looks to the next; an exec takes a fraction of it.
const EXEC_PAUSE: Duration = Duration::from_millis(2);

/// How often a way up to the first process may break because a parent on it ended.
const TRIES: usize = 16;

/// Kills every process that an earlier term of this election left behind, and waits until they are
/// gone, for at most `limit`. Returns those that are left; while there are any, nobody may start a
/// job here (R4).
///
/// Blocks: for the daemon's start, where no term depends on this thread yet.
pub fn fence(prefix: &Prefix, limit: Duration) -> Vec<Process> {
    let until = clock::now() + limit;
    let mut told = HashSet::new();
    let mut clean_looks = 0;
    loop {
        let left = left_behind(prefix);
        let Some(first) = left.first() else {
            // One look can miss the child of a process that forks and ends in the midst of it.
            clean_looks += 1;
            if clean_looks == 2 {
                return left;
            }
            continue;
        };
        clean_looks = 0;
        // New ones may be born while the others die, hence the look at all of them each time.
        for process in &left {
            if told.insert(*process) {
                tracing::warn!(election = %prefix, pid = process.pid, "fencing a process left behind");
            }
            if let Err(error) = kill(*process) {
                tracing::debug!(pid = process.pid, %error, "process not killed");
            }
        }
        if until.has_passed() {
            return left;
        }
        if let Ok(Some(handle)) = first.open() {
            handle.wait(PAUSE.min(until.remaining()));
        }
    }
}

fn kill(process: Process) -> std::io::Result<()> {
    process.open()?.map_or(Ok(()), |handle| handle.kill())
}

/// The living processes of our user that belong to an earlier term of this election.
fn left_behind(prefix: &Prefix) -> Vec<Process> {
    let mut left = Vec::new();
    let mut unknown = others();
    for attempt in 0..LOOKS {
        if attempt > 0 && !unknown.is_empty() {
            std::thread::sleep(EXEC_PAUSE);
        }
        unknown.retain(|process| match environment(process.pid) {
            // In the midst of an exec there is none to be seen: look again.
            Some(environ) if environ.is_empty() => true,
            Some(environ) => {
                if has_variables(&environ, prefix) {
                    left.push(*process);
                }
                false
            }
            None => false,
        });
    }
    if left.is_empty() {
        return left;
    }
    let daemons = daemons();
    let ancestors = ancestors();
    left.retain(|process| {
        let spared = daemons.contains(&process.pid) || ancestors.contains(&process.pid);
        !spared && process.is_alive() && !has_guardian(process.pid)
    });
    left
}

/// The parents of all living guardians.
fn daemons() -> HashSet<i32> {
    let stats = proc::all().into_iter().filter_map(Stat::of);
    let guardians = stats.filter(is_guardian);
    guardians.map(|stat| stat.parent).collect()
}

/// Who started this process, and who started those.
///
/// As in [`has_guardian`], the way up may break. Whoever was found on any way counts.
fn ancestors() -> HashSet<i32> {
    let mut found = HashSet::new();
    for _ in 0..TRIES {
        let mut next = Process::this().pid;
        while next > 0
            && let Some(stat) = Stat::of(next)
        {
            found.insert(stat.parent);
            next = stat.parent;
        }
        if next == 0 {
            break;
        }
    }
    found
}

fn is_guardian(stat: &Stat) -> bool {
    let names = [proc::GUARDIAN, proc::CHECKS].map(std::ffi::CStr::to_bytes);
    names.contains(&stat.comm.as_bytes()) && !stat.has_ended()
}

/// The other living processes of our user, without what this one has started itself: its guardian,
/// which may have our environment.
fn others() -> Vec<Process> {
    let this = Process::this().pid;
    let pids = proc::all().into_iter();
    pids.filter(|pid| *pid != this && is_of_our_user(*pid))
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .filter(|(_, stat)| !stat.has_ended() && !stat.is_kernel_thread && stat.parent != this)
        .map(|(pid, stat)| stat.process(pid))
        .collect()
}

/// Whether the process runs as our user. The folder tells even of one whose files are root's, since
/// it hides its environment.
fn is_of_our_user(pid: i32) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|folder| folder.uid() == uid)
}

/// What stands in the environment that the process was executed with; `None` if it is gone, or
/// hides it from us.
fn environment(pid: i32) -> Option<Vec<u8>> {
    proc::read(pid, "environ").ok()
}

fn has_variables(environ: &[u8], prefix: &Prefix) -> bool {
    let election = format!("INCUMBENT_ELECTION={prefix}");
    let mut variables = environ.split(|byte| *byte == 0);
    let is_ours = variables.clone().any(|each| each == election.as_bytes());
    is_ours && variables.any(|each| each.starts_with(b"INCUMBENT_TOKEN="))
}

/// Whether the process is a living guardian, or has one among its ancestors.
///
/// A parent that ends on the way up has had its children handed on, so the way is walked again.
/// One that never holds still counts as guarded: the next look decides.
fn has_guardian(pid: i32) -> bool {
    (0..TRIES).find_map(|_| walk_up(pid)).unwrap_or(true)
}

/// `None` if a process on the way was gone.
fn walk_up(pid: i32) -> Option<bool> {
    let mut next = pid;
    while next > 0 {
        let stat = Stat::of(next)?;
        if is_guardian(&stat) {
            return Some(true);
        }
        next = stat.parent;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// An election that no other test and no other run knows.
    fn election(name: &str) -> Prefix {
        Prefix::new(format!("/test/fencing/{name}/{}", std::process::id()))
    }

    /// Whether any process belongs to a term of this election.
    fn exists(prefix: &Prefix) -> bool {
        let environs = others()
            .into_iter()
            .filter_map(|each| environment(each.pid));
        environs
            .into_iter()
            .any(|environ| has_variables(&environ, prefix))
    }

    /// A process of a job, in a session of its own, started by a parent of this name which waits
    /// for it. The parent's own environment is clean.
    struct Job(Child);

    impl Job {
        fn start(parent: &str, prefix: &Prefix) -> Self {
            // The kernel takes a process's name from the file that it executes.
            let folder = tempfile::tempdir().unwrap();
            let shell = folder.path().join(parent);
            std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
            let script = format!(
                "INCUMBENT_ELECTION={prefix} INCUMBENT_TOKEN=7 setsid sleep 60 & echo; wait"
            );
            let mut child = Command::new(&shell)
                .args(["-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = [0];
            let mut output = child.stdout.take().unwrap();
            std::io::Read::read_exact(&mut output, &mut line).unwrap();
            let job = Self(child);
            // The shell has forked; until it executes the job the variables are not to be seen.
            let until = clock::now() + Duration::from_secs(5);
            while !exists(prefix) {
                assert!(!until.has_passed(), "the job has not started");
                std::thread::sleep(Duration::from_millis(1));
            }
            job
        }
    }

    impl Drop for Job {
        fn drop(&mut self) {
            let parent = i32::try_from(self.0.id()).unwrap();
            let is_child = |pid: &i32| Stat::of(*pid).is_some_and(|stat| stat.parent == parent);
            for pid in proc::all().into_iter().filter(is_child) {
                drop(kill(Process::with_pid(pid).unwrap()));
            }
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn a_process_left_behind_in_its_own_session_is_killed() {
        let prefix = election("left");
        let _job = Job::start("plain", &prefix);
        assert_eq!(left_behind(&prefix).len(), 1);
        assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
        assert_eq!(left_behind(&prefix), []);
    }

    #[test]
    fn a_job_under_a_living_guardian_is_left_alone() {
        let prefix = election("guarded");
        let mut job = Job::start(proc::GUARDIAN.to_str().unwrap(), &prefix);
        assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
        assert!(exists(&prefix));
        // Once the guardian is dead its job has nobody left.
        job.0.kill().unwrap();
        job.0.wait().unwrap();
        assert_eq!(left_behind(&prefix).len(), 1);
        assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
    }

    /// Set for a process of the next test that is to fence.
    const FENCES: &str = "INCUMBENT_TEST_FENCES";

    #[test]
    fn who_started_this_daemon_is_left_alone() {
        if let Ok(prefix) = std::env::var(FENCES) {
            let prefix = Prefix::new(prefix);
            assert!(exists(&prefix), "the shell has the variables");
            assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
            return;
        }
        let prefix = election("ancestor");
        // The shell that the operator starts a daemon from, by way of another.
        let again = "\"$0\" --exact fencing::tests::who_started_this_daemon_is_left_alone; exit $?";
        let status = Command::new("sh")
            .args(["-c", "sh -c \"$1\" \"$0\"; exit $?"])
            .arg(std::env::current_exe().unwrap())
            .arg(again)
            .env("INCUMBENT_ELECTION", prefix.as_str())
            .env("INCUMBENT_TOKEN", "7")
            .env(FENCES, prefix.as_str())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    #[test]
    fn a_daemon_with_a_living_guardian_is_left_alone() {
        let prefix = election("sibling");
        let folder = tempfile::tempdir().unwrap();
        let guardian = folder.path().join(proc::GUARDIAN.to_str().unwrap());
        std::os::unix::fs::symlink("/bin/sh", &guardian).unwrap();
        // The guardian waits for a line that never comes, the daemon for the guardian, and for the
        // daemon somebody else than this process, which leaves alone what it has started itself.
        let daemon = "sh -c '\"$0\" -c \"echo; read line\"; sleep 60' \"$0\"";
        let variables = format!("INCUMBENT_ELECTION={prefix} INCUMBENT_TOKEN=7");
        let mut daemon = Command::new("sh")
            .args(["-c", &format!("{variables} {daemon}; exit $?")])
            .arg(&guardian)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = daemon.stdout.take().unwrap();
        std::io::Read::read_exact(&mut output, &mut [0]).unwrap();
        assert!(exists(&prefix));
        assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
        assert!(daemon.try_wait().unwrap().is_none(), "the daemon lives");
        // Without its guardian it is no daemon that anybody holds to its deadline.
        drop(daemon.stdin.take());
        let until = clock::now() + Duration::from_secs(5);
        while left_behind(&prefix).is_empty() {
            assert!(!until.has_passed(), "the guardian has not ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
        daemon.wait().unwrap();
    }

    #[test]
    fn other_elections_are_left_alone() {
        let prefix = election("mine");
        let longer = Prefix::new(format!("{prefix}/longer"));
        let _job = Job::start("plain", &longer);
        assert_eq!(fence(&prefix, Duration::from_secs(5)), []);
        assert_eq!(left_behind(&longer).len(), 1);
    }

    #[test]
    fn both_variables_are_needed() {
        let prefix = Prefix::new("/a");
        let has = |environ: &[u8]| has_variables(environ, &prefix);
        assert!(has(b"INCUMBENT_TOKEN=7\0HOME=/\0INCUMBENT_ELECTION=/a\0"));
        assert!(!has(b"INCUMBENT_ELECTION=/a\0"));
        assert!(!has(b"INCUMBENT_TOKEN=7\0INCUMBENT_ELECTION=/ab\0"));
        assert!(!has(b"XINCUMBENT_ELECTION=/a\0INCUMBENT_TOKEN=7\0"));
    }
}
