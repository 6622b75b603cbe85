//! Fences what an earlier daemon left on this host.
//!
//! The daemon calls it once, before it joins. A daemon and its guardian that were killed together may
//! leave processes of their job behind: those that had left its session, and those that took another
//! user's rights, which the kernel doesn't kill with their guardian. They are known
//!
//! - by their run, which stands in the runtime directory: its session, and all below it;
//! - by the variables of their term, which stand in their environment.
//!
//! Replicas of one election may share a host. So whom a living guardian holds is left alone: that is
//! said by the record of the run, or by the variable in which the guardian has named itself, and
//! nothing else; who is held has it among its ancestors. Whoever started this daemon is left alone too.
//!
//! For a user that isn't root, a process that hides its environment from its own user can't be told
//! from a stranger: a program with more rights than who started it, or one of our own commands that
//! has read a password, whose guarded writes the store refuses. In a session of a run it is found all
//! the same.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::clock;
use crate::keys::Prefix;
use crate::proc::look::{everybody, kernel_threads, listed, seen};
use crate::proc::{self, GUARDIAN_VARIABLE, Process, Stat};
use crate::runs::RunRecord;

/// How long to wait for one process's end before looking at all of them again.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a process without an environment is looked at, in case it is being executed.
const LOOKS: usize = 4;

/// From one of these looks to the next; an exec takes a fraction of it.
const EXEC_PAUSE: Duration = Duration::from_millis(2);

/// How often a way up to the first process may break because a parent on it ended.
const TRIES: usize = 16;

/// Kills every process that an earlier term of this election left behind, and all that is left of
/// `runs`, and waits until they are gone, for at most `limit`. Returns those that are left; while there
/// are any, nobody may start a job here (R4).
///
/// Blocks: for the daemon's start, where no term depends on this thread yet.
///
/// # Errors
/// Where `/proc` can't be looked through by then: there may be some, and as little may be started.
pub(crate) fn fence(
    prefix: &Prefix,
    runs: &[RunRecord],
    limit: Duration,
) -> io::Result<Vec<Process>> {
    let until = clock::now() + limit;
    let mut told = HashSet::new();
    let mut clean_looks = 0;
    loop {
        let left = match left_behind(prefix, runs) {
            Ok(left) => left,
            Err(error) if until.has_passed() => return Err(error),
            Err(_) => {
                clean_looks = 0;
                std::thread::sleep(PAUSE.min(until.remaining()));
                continue;
            }
        };
        let Some(first) = left.first() else {
            // One look can miss the child of a process that forks and ends in the midst of it.
            clean_looks += 1;
            if clean_looks == 2 {
                return Ok(left);
            }
            continue;
        };
        clean_looks = 0;
        // New ones may be born while the others die, hence the look at all of them each time.
        for process in &left {
            if told.insert(*process) {
                tracing::warn!(election = %prefix, pid = process.pid, "fencing a process left behind");
            }
            if let Err(error) = process.kill() {
                tracing::debug!(pid = process.pid, %error, "process not killed");
            }
        }
        if until.has_passed() {
            return Ok(left);
        }
        match first.open() {
            Ok(Some(handle)) => drop(handle.wait(PAUSE.min(until.remaining()))),
            Ok(None) => {}
            Err(_) => std::thread::sleep(PAUSE.min(until.remaining())),
        }
    }
}

/// The living processes that belong to an earlier term of this election, or to one of `runs`.
fn left_behind(prefix: &Prefix, runs: &[RunRecord]) -> io::Result<Vec<Process>> {
    let mut found = of_runs(runs)?;
    found.extend(of_terms(prefix)?);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let ancestors = ancestors()?;
    let mut left = Vec::new();
    for process in found {
        if !ancestors.contains(&process.pid) && process.lives()? {
            left.push(process);
        }
    }
    Ok(left)
}

/// What is left of runs whose guardian is dead: their sessions, and all below them.
fn of_runs(runs: &[RunRecord]) -> io::Result<HashSet<Process>> {
    let mut orphaned = Vec::new();
    for run in runs {
        if !run.guardian.lives()? {
            orphaned.push(run);
        }
    }
    let mut found = HashSet::new();
    if orphaned.is_empty() {
        return Ok(found);
    }
    let this = Process::this().pid;
    let all: HashMap<i32, Stat> = everybody()?.into_iter().collect();
    let mut open: Vec<i32> = all
        .iter()
        .filter_map(|(pid, stat)| {
            let of = |run: &&RunRecord| run.has(stat, all.get(&run.session));
            orphaned.iter().any(of).then_some(*pid)
        })
        .collect();
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, stat) in &all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    while let Some(pid) = open.pop() {
        // This daemon may have been started from such a run; what it has started is its own.
        if pid == this {
            continue;
        }
        if let Some(stat) = all.get(&pid)
            && !stat.has_ended()
        {
            found.insert(stat.process(pid));
        }
        // Taken out, since a look that was overtaken may show a circle.
        open.extend(children.remove(&pid).unwrap_or_default());
    }
    Ok(found)
}

/// Those that have the variables of a term of this election in their environment, and that no living
/// guardian holds.
fn of_terms(prefix: &Prefix) -> io::Result<Vec<Process>> {
    let mut bearers = Vec::new();
    let mut unknown = suspects(prefix)?;
    for attempt in 0..LOOKS {
        if attempt > 0 && !unknown.is_empty() {
            std::thread::sleep(EXEC_PAUSE);
        }
        for process in std::mem::take(&mut unknown) {
            match environment(process.pid)? {
                // In the midst of an exec there is none to be seen: look again.
                Some(environ) if environ.is_empty() => unknown.push(process),
                Some(environ) if has_variables(&environ, prefix) => {
                    bearers.push((process, guardian_in(&environ)));
                }
                Some(_) | None => {}
            }
        }
    }
    if bearers.is_empty() {
        return Ok(Vec::new());
    }
    let daemons = daemons()?;
    let mut found = Vec::new();
    for (process, guardian) in bearers {
        let is_spared = match guardian {
            Some(guardian) => is_held(process.pid, guardian)?,
            // Started by a guardian of an earlier version, which is known by its name alone.
            None => daemons.contains(&process.pid) || has_guardian(process.pid)?,
        };
        if !is_spared {
            found.push(process);
        }
    }
    Ok(found)
}

/// The guardian that has named itself in this environment, by the number that it has for itself.
fn guardian_in(environ: &[u8]) -> Option<Process> {
    let mut variables = environ.split(|byte| *byte == 0);
    let value = variables.find_map(|each| {
        let (name, value) = each.split_at_checked(GUARDIAN_VARIABLE.len())?;
        (name == GUARDIAN_VARIABLE.as_bytes())
            .then_some(value)?
            .strip_prefix(b"=")
    })?;
    Process::parse(std::str::from_utf8(value).ok()?)
}

/// Whether this guardian lives and is among the ancestors of a process.
fn is_held(pid: i32, guardian: Process) -> io::Result<bool> {
    let is_it = |pid: i32, stat: &Stat| {
        let may_be = guardian.is_told_by(stat) && !stat.has_ended();
        Ok(may_be && seen(proc::own_number(pid))? == Some(guardian.pid))
    };
    is_below(pid, is_it)
}

/// Replaces this process by one without the variables of a term of this election, if it has them: a
/// daemon that is started from within a job is none of the job's processes. Returns where it has
/// none, or can't.
pub(crate) fn leave_the_term(prefix: &Prefix) {
    let of_term = |name: &str| std::env::var_os(name);
    let election = of_term("INCUMBENT_ELECTION");
    if election != Some(prefix.as_str().into()) || of_term("INCUMBENT_TOKEN").is_none() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    // As the kernel has them: they need not be text.
    let words = proc::read(Process::this().pid, "cmdline").unwrap_or_default();
    let mut words = words
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()));
    let mut command = std::process::Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let mut words: Vec<_> = words.collect();
    // What follows the last zero.
    words.pop();
    command.args(words).env_remove(GUARDIAN_VARIABLE);
    for name in ["ELECTION", "TOKEN", "LEASE", "LEADER_KEY", "CANDIDATE"] {
        command.env_remove(format!("INCUMBENT_{name}"));
    }
    // Fails with what it was, and the daemon goes on as it is.
    drop(command.exec());
}

/// The parents of all living guardians.
fn daemons() -> io::Result<HashSet<i32>> {
    let all = everybody()?.into_iter();
    let guardians = all.filter(|(_, stat)| is_guardian(stat));
    Ok(guardians.map(|(_, stat)| stat.parent).collect())
}

/// Who started this process, and who started those.
///
/// As in [`is_below`], the way up may break. Whoever was found on any way counts.
fn ancestors() -> io::Result<HashSet<i32>> {
    let mut found = HashSet::new();
    for _ in 0..TRIES {
        let mut next = Process::this().pid;
        while next > 0
            && let Some(stat) = seen(Stat::read(next))?
        {
            found.insert(stat.parent);
            next = stat.parent;
        }
        if next == 0 {
            break;
        }
    }
    Ok(found)
}

fn is_guardian(stat: &Stat) -> bool {
    let names = [proc::GUARDIAN, proc::CHECKS].map(std::ffi::CStr::to_bytes);
    names.contains(&stat.comm.as_bytes()) && !stat.has_ended()
}

/// The other living processes that may be ours and have these variables, or no environment to be seen,
/// without what this one has started itself: its guardian, which may have our environment.
fn suspects(prefix: &Prefix) -> io::Result<Vec<Process>> {
    let this = Process::this().pid;
    let mut suspects = Vec::new();
    let all = listed()?;
    let kernel = kernel_threads();
    for pid in all.into_iter().filter(|pid| !kernel.contains(pid)) {
        // First of all, though it tells nothing of who it is: a launch waits for this, and hundreds have
        // nothing of ours.
        let environ = environment(pid)?;
        if !environ.is_some_and(|it| it.is_empty() || has_variables(&it, prefix)) {
            continue;
        }
        let Some(stat) = seen(Stat::read(pid))? else {
            continue;
        };
        let is_other = pid != this && stat.parent != this;
        if is_other && !stat.has_ended() && !stat.is_kernel_thread && may_be_ours(pid)? {
            suspects.push(stat.process(pid));
        }
    }
    Ok(suspects)
}

/// Whether the process runs as our user; for root, any may: a job can take another user's rights. The
/// folder tells even of one whose files are root's, since it hides its environment.
fn may_be_ours(pid: i32) -> io::Result<bool> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(true);
    }
    let folder = seen(fs::metadata(format!("/proc/{pid}")))?;
    Ok(folder.is_some_and(|folder| folder.uid() == uid.as_raw()))
}

/// What stands in the environment that the process was executed with; `None` if it is gone, or
/// hides it from us.
fn environment(pid: i32) -> io::Result<Option<Vec<u8>>> {
    seen(proc::read(pid, "environ"))
}

fn has_variables(environ: &[u8], prefix: &Prefix) -> bool {
    let election = format!("INCUMBENT_ELECTION={prefix}");
    let mut variables = environ.split(|byte| *byte == 0);
    let is_ours = variables.clone().any(|each| each == election.as_bytes());
    is_ours && variables.any(|each| each.starts_with(b"INCUMBENT_TOKEN="))
}

/// Whether the process is a living guardian, or has one among its ancestors.
fn has_guardian(pid: i32) -> io::Result<bool> {
    is_below(pid, |_, stat| Ok(is_guardian(stat)))
}

/// Whether any on the way from this process up to the first one is it.
///
/// A parent that ends on the way has had its children handed on, so the way is walked again.
fn is_below(pid: i32, is_it: impl Fn(i32, &Stat) -> io::Result<bool>) -> io::Result<bool> {
    for _ in 0..TRIES {
        if let Some(is_below) = walk_up(pid, &is_it)? {
            return Ok(is_below);
        }
    }
    Ok(false)
}

/// As [`is_below`], by one walk; `None` if somebody on the way was gone.
fn walk_up(pid: i32, is_it: &impl Fn(i32, &Stat) -> io::Result<bool>) -> io::Result<Option<bool>> {
    let mut next = pid;
    while next > 0 {
        let Some(stat) = seen(Stat::read(next))? else {
            return Ok(None);
        };
        if is_it(next, &stat)? {
            return Ok(Some(true));
        }
        next = stat.parent;
    }
    Ok(Some(false))
}

#[cfg(test)]
mod tests;
