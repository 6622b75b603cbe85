//! The job's processes: started, signalled and reaped here and nowhere else (R6).
//!
//! Owned by the guardian's one forking thread, whose death the kernel answers with SIGKILL to
//! every main process. The guardian is a subreaper, so whatever loses its parent becomes its
//! child, and the tree is empty when it has no child left.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, WaitStatus, getpid, kill_process_group, set_child_subreaper};

use super::decide::Event;
use super::launch::{TOO_LATE, launch};
use super::proc::{self, Reaped};
use super::protocol::{CommandSpec, Exit, Stdin};
use crate::clock::Instant;
use crate::runs::Runs;

/// The processes of the job, all of them descendants of this process.
#[derive(Debug)]
pub(super) struct Tree {
    guardian: Pid,
    /// The main processes that were not reaped yet, each the leader of its group.
    mains: BTreeMap<u64, Pid>,
    /// The standard input for a run that is to have the daemon's.
    input: Option<OwnedFd>,
    /// Where the runs stand for who comes after daemon and guardian.
    runs: Option<Runs>,
}

impl Tree {
    /// Makes this process the subreaper of all that it starts.
    pub(super) fn new() -> io::Result<Self> {
        let guardian = getpid();
        set_child_subreaper(Some(guardian))?;
        Ok(Self {
            guardian,
            mains: BTreeMap::new(),
            input: None,
            runs: None,
        })
    }

    /// Keeps the standard input that the daemon handed over, if it did.
    pub(super) fn take_input(&mut self, input: Option<OwnedFd>) {
        self.input = input;
    }

    /// Has the runs stand in the file that the daemon handed over, if it did.
    pub(super) fn record_in(&mut self, file: Option<OwnedFd>) {
        self.runs = file.map(Runs::in_file);
    }

    /// Starts a run, unless `before` has come; says what became of it. Blocks until its exec.
    pub(super) fn spawn(&mut self, run: u64, spec: &CommandSpec, before: Instant) -> Event {
        let input = match (spec.stdin, &self.input) {
            (Stdin::Null, _) => None,
            (Stdin::Inherit, Some(input)) => Some(input.as_fd()),
            (Stdin::Inherit, None) => {
                let (code, error) = (126, "there is no standard input to pass on".to_owned());
                return Event::NotExecuted { run, code, error };
            }
        };
        let record = self.runs.as_mut().and_then(|runs| runs.prepare().ok());
        match launch(spec, input, self.guardian, before, record) {
            Ok(pid) => {
                if let Some(runs) = &mut self.runs {
                    runs.begun(pid.as_raw_pid());
                }
                self.mains.insert(run, pid);
                if spec.stdin == Stdin::Inherit {
                    // Whoever writes to it must see it closed when the job closes it.
                    self.input = None;
                }
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

    /// Asks the tree to stop: the groups of the main processes, or where none is left, everyone.
    pub(super) fn stop(&self, signal: i32) {
        // A stopped process would only hear of it when continued.
        self.send(&[named(signal), Signal::CONT]);
    }

    /// Passes a signal on to whom [`stop`](Self::stop) asks.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(signal) = numbered(signal) {
            self.send(&[signal]);
        }
    }

    fn send(&self, signals: &[Signal]) {
        for group in self.mains.values() {
            for signal in signals {
                kill_process_group(*group, *signal).ok();
            }
        }
        if self.mains.is_empty() {
            proc::signal_descendants(self.guardian, signals);
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
                    if let Some(runs) = &mut self.runs {
                        runs.all_ended();
                    }
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
    numbered(signal).unwrap_or(Signal::TERM)
}

/// The signal of this number, the real-time ones of the C library's users included.
fn numbered(signal: i32) -> Option<Signal> {
    if !(libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) {
        return Signal::from_named_raw(signal);
    }
    #[allow(
        unsafe_code,
        reason = "nothing safe makes a real-time signal, and the number was just looked at"
    )]
    // SAFETY: it is no number that the C library keeps for itself.
    Some(unsafe { Signal::from_raw_unchecked(signal) })
}
