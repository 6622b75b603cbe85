//! The job's processes: started, signalled and reaped here and nowhere else (R6).
//!
//! Owned by the guardian's one forking thread, whose death the kernel answers with SIGKILL to
//! every main process. The guardian is a subreaper, so whatever loses its parent becomes its
//! child, and the tree is empty when it has no child left.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitStatus, getpid, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, setsid,
};

use super::decide::Event;
use super::proc::{self, Reaped};
use super::protocol::{CommandSpec, Exit};
use super::signals;
use crate::clock::{self, Instant};

/// What a child answers that came to its exec too late.
const TOO_LATE: Errno = Errno::TIME;

/// The processes of the job, all of them descendants of this process.
#[derive(Debug)]
pub(super) struct Tree {
    guardian: Pid,
    /// The main processes that were not reaped yet, each the leader of its group.
    mains: BTreeMap<u64, Pid>,
}

impl Tree {
    /// Makes this process the subreaper of all that it starts.
    pub(super) fn new() -> io::Result<Self> {
        let guardian = getpid();
        set_child_subreaper(Some(guardian))?;
        Ok(Self {
            guardian,
            mains: BTreeMap::new(),
        })
    }

    /// Starts a run, unless `before` has come; says what became of it. Blocks until its exec.
    pub(super) fn spawn(&mut self, run: u64, spec: &CommandSpec, before: Instant) -> Event {
        match self.execute(spec, before) {
            Ok(pid) => {
                self.mains.insert(run, pid);
                let pid = proc::id(pid);
                Event::Executed { run, pid }
            }
            Err(error) if error.raw_os_error() == Some(TOO_LATE.raw_os_error()) => {
                Event::TooLate { run }
            }
            Err(error) => {
                let (code, error) = explain(spec, &error);
                Event::NotExecuted { run, code, error }
            }
        }
    }

    fn execute(&self, spec: &CommandSpec, before: Instant) -> io::Result<Pid> {
        let [program, arguments @ ..] = spec.argv.as_slice() else {
            return Err(Errno::NOENT.into());
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        for name in &spec.remove {
            command.env_remove(name);
        }
        command.envs(&spec.set);
        if let Some(directory) = &spec.working_dir {
            command.current_dir(directory);
        }
        let guardian = self.guardian;
        #[allow(
            unsafe_code,
            reason = "the parent-death signal, the session and the dispositions and mask of signals \
                      can only be set between fork and exec; the closure makes system calls and nothing else, \
                      all of them async-signal-safe"
        )]
        // SAFETY: see the reason above.
        unsafe {
            command.pre_exec(move || {
                // An ignored signal survives the exec, and the job would never hear it. Two
                // numbers are the C library's own and two can't be set; those calls just fail.
                for signal in 1..=64 {
                    libc::signal(signal, libc::SIG_DFL);
                }
                become_job(guardian, before)
            });
        }
        let id = command.spawn()?.id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Errno::SRCH.into())
    }

    /// Asks the tree to stop: the groups of the main processes, or where none is left, everyone.
    pub(super) fn stop(&self, signal: i32) {
        // A stopped process would only hear of it when continued.
        let signals = [named(signal), Signal::CONT];
        for group in self.mains.values() {
            for signal in signals {
                kill_process_group(*group, signal).ok();
            }
        }
        if self.mains.is_empty() {
            proc::signal_descendants(self.guardian, &signals);
        }
    }

    /// Sends SIGKILL to every process of the tree.
    pub(super) fn kill(&self) {
        for group in self.mains.values() {
            kill_process_group(*group, Signal::KILL).ok();
        }
        drop(proc::kill_descendants(self.guardian));
    }

    /// The living processes.
    pub(super) fn living(&self) -> Vec<u32> {
        proc::living(self.guardian)
    }

    /// Reaps all that has ended; says what that means for the runs and the tree. Never blocks.
    pub(super) fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut reaped = false;
        loop {
            match proc::reap() {
                Reaped::One(pid, status) => {
                    reaped = true;
                    events.extend(self.main_ended(pid, status));
                }
                Reaped::Alive if reaped => {
                    events.push(Event::Reaped);
                    return events;
                }
                Reaped::Alive => return events,
                Reaped::Empty => {
                    events.push(Event::TreeEmpty);
                    return events;
                }
            }
        }
    }

    fn main_ended(&mut self, pid: Pid, status: WaitStatus) -> Option<Event> {
        let run = *self.mains.iter().find(|(_, main)| **main == pid)?.0;
        self.mains.remove(&run);
        let signal = status.terminating_signal().map(Exit::Signal);
        let exit = signal.unwrap_or(Exit::Code(status.exit_status().unwrap_or(0)));
        let pid = proc::id(pid);
        Some(Event::MainEnded { run, pid, exit })
    }
}

/// What a child does of its own before its exec. Async-signal-safe.
fn become_job(guardian: Pid, before: Instant) -> io::Result<()> {
    signals::empty_mask()?;
    setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A guardian that died before the line above was not heard.
    if getppid() != Some(guardian) {
        return Err(Errno::SRCH.into());
    }
    if clock::now() >= before {
        return Err(TOO_LATE.into());
    }
    Ok(())
}

/// The code and text of a command that could not be executed.
fn explain(spec: &CommandSpec, error: &io::Error) -> (i32, String) {
    let Some(program) = spec.argv.first() else {
        return (127, "no command".to_owned());
    };
    // The system has one and the same error for a program and for a directory that is missing.
    if let Some(directory) = &spec.working_dir
        // With the slash at its end, only a directory will do.
        && let Err(error) = access(directory.join(""), Access::EXEC_OK)
    {
        let error = io::Error::from(error);
        return (126, format!("{}: {error}", directory.display()));
    }
    let missing = error.kind() == io::ErrorKind::NotFound;
    let code = if missing { 127 } else { 126 };
    (code, format!("{program}: {error}"))
}

/// The signal of this number, or SIGTERM where the number is none.
fn named(signal: i32) -> Signal {
    Signal::from_named_raw(signal).unwrap_or(Signal::TERM)
}
