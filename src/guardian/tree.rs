//! The job's processes: started, signalled and reaped here and nowhere else (R6).
//!
//! Owned by the guardian's one forking thread, whose death the kernel answers with SIGKILL to
//! every main process. The guardian is a subreaper, so whatever loses its parent becomes its
//! child, and the tree is empty when it has no child left.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper,
};

use super::decide::GuardEvent;
use super::launch::{Failure, LaunchStage, Starting, launch};
use super::proc::{self, Reaped};
use super::protocol::{CommandSpec, Exit, Stdin};
use crate::clock::Instant;
use crate::proc::survivor::Survivor;
use crate::runs::Runs;

/// The processes of the job, all of them descendants of this process.
#[derive(Debug)]
pub(super) struct Tree {
    guardian: Pid,
    /// The main processes that were not reaped yet, each the leader of its group.
    mains: BTreeMap<u64, Pid>,
    /// Those that have yet to be executed.
    starting: BTreeMap<u64, (Starting, CommandSpec)>,
    /// What has ended, and can't be reaped.
    held: Vec<i32>,
    /// The standard input for a run that is to have the daemon's.
    input: Option<OwnedFd>,
    /// Where the runs stand for who comes after daemon and guardian.
    runs: Option<Runs>,
    /// The standard input for every other. Opened once: a start opens nothing that may hang.
    null: OwnedFd,
}

impl Tree {
    /// Makes this process the subreaper of all that it starts.
    pub(super) fn new() -> io::Result<Self> {
        let guardian = getpid();
        set_child_subreaper(Some(guardian))?;
        crate::proc::keep_children()?;
        Ok(Self {
            guardian,
            mains: BTreeMap::new(),
            starting: BTreeMap::new(),
            held: Vec::new(),
            input: None,
            runs: None,
            null: File::open("/dev/null")?.into(),
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

    /// Starts a run, unless `before` has come. What becomes of it is told by [`reap`](Self::reap), or
    /// at once where there is no process.
    pub(super) fn spawn(
        &mut self,
        run: u64,
        spec: CommandSpec,
        before: Instant,
    ) -> Option<GuardEvent> {
        let input = match (spec.stdin, &self.input) {
            (Stdin::Null, _) => &self.null,
            (Stdin::Inherit, Some(input)) => input,
            (Stdin::Inherit, None) => {
                let (code, error) = (126, "there is no standard input to pass on".to_owned());
                return Some(GuardEvent::NotExecuted { run, code, error });
            }
        };
        let record = self.runs.as_mut().and_then(|runs| runs.prepare().ok());
        match launch(&spec, input.as_fd(), self.guardian, before, record) {
            Ok(starting) => {
                if let Some(runs) = &mut self.runs {
                    runs.begun(starting.pid.as_raw_pid());
                }
                self.starting.insert(run, (starting, spec));
                None
            }
            Err(error) => {
                let error = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
                let (code, error) = explain(&spec, Failure::Other(error));
                Some(GuardEvent::NotExecuted { run, code, error })
            }
        }
    }

    /// What becomes readable when a process that is being started has come further.
    pub(super) fn news(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let starting = self.starting.values();
        starting.filter_map(|(starting, _)| starting.news())
    }

    /// Asks the tree to stop: the groups of the main processes, or where none is left, everyone.
    ///
    /// What has yet to be executed is killed: it would hear nothing, and nothing of it is lost.
    pub(super) fn stop(&self, signal: i32) {
        for (starting, _) in self.starting.values() {
            if starting.was_executed() {
                kill_process_group(starting.pid, named(signal)).ok();
            } else {
                kill_process(starting.pid, Signal::KILL).ok();
            }
        }
        // A stopped process would only hear of it when continued.
        self.send(&[named(signal), Signal::CONT]);
    }

    /// Passes a signal on to whom [`stop`](Self::stop) asks.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(signal) = numbered(signal) {
            for (starting, _) in self.starting.values() {
                kill_process(starting.pid, signal).ok();
            }
            self.send(&[signal]);
        }
    }

    fn send(&self, signals: &[Signal]) {
        for group in self.mains.values() {
            for signal in signals {
                kill_process_group(*group, *signal).ok();
            }
        }
        if self.mains.is_empty() && self.starting.is_empty() {
            proc::signal_descendants(self.guardian, signals);
        }
    }

    /// Sends SIGKILL to every process of the tree; says what follows where it is over then.
    pub(super) fn kill(&mut self) -> Vec<GuardEvent> {
        for (starting, _) in self.starting.values() {
            kill_process(starting.pid, Signal::KILL).ok();
        }
        for group in self.mains.values() {
            kill_process_group(*group, Signal::KILL).ok();
        }
        drop(proc::kill_descendants(self.guardian, &proc::nobody));
        self.held()
    }

    /// What follows where all that is left of the tree has ended, and can't be reaped, since a tracer
    /// keeps it: nothing of it runs.
    fn held(&mut self) -> Vec<GuardEvent> {
        let Some(held) = proc::held().filter(|held| !held.is_empty()) else {
            return Vec::new();
        };
        if held != self.held {
            proc::say_held(&held);
            self.held = held;
        }
        // How they ended is for their tracers to know; they were killed.
        let signal = Signal::KILL.as_raw();
        let mut events = self.executed();
        let starting = std::mem::take(&mut self.starting).into_keys();
        events.extend(starting.map(|run| GuardEvent::KilledEarly { run, signal }));
        let mains = std::mem::take(&mut self.mains).into_iter();
        events.extend(mains.map(|(run, pid)| GuardEvent::MainEnded {
            run,
            pid: proc::id(pid),
            exit: Exit::Signal(signal),
        }));
        events.push(GuardEvent::TreeEmpty);
        events
    }

    /// The living processes.
    pub(super) fn survivors(&self) -> Vec<Survivor> {
        proc::survivors(self.guardian, &proc::nobody)
    }

    /// Looks what was executed and reaps all that has ended; says what that means for the runs and
    /// the tree. Never blocks.
    pub(super) fn reap(&mut self) -> Vec<GuardEvent> {
        let mut events = self.executed();
        let mut reaped = false;
        loop {
            // Whether one was executed that has ended can only be told before it is reaped.
            let next = if self.starting.is_empty() {
                proc::reap()
            } else {
                proc::reap_after(|| events.extend(self.executed()))
            };
            match next {
                Reaped::One(pid, status) => {
                    reaped = true;
                    events.extend(self.ended(pid, status));
                }
                Reaped::Alive => {
                    // What was kept from us once bars no later proof.
                    let held = if self.held.is_empty() {
                        Vec::new()
                    } else {
                        self.held()
                    };
                    if held.is_empty() && reaped {
                        events.push(GuardEvent::Reaped);
                    }
                    events.extend(held);
                    return events;
                }
                Reaped::Empty => {
                    if let Some(runs) = &mut self.runs {
                        runs.all_ended();
                    }
                    self.held.clear();
                    events.push(GuardEvent::TreeEmpty);
                    return events;
                }
            }
        }
    }

    /// Those that were executed since the last look.
    fn executed(&mut self) -> Vec<GuardEvent> {
        let executed = self.starting.extract_if(.., |_, (starting, _)| {
            starting.look() == LaunchStage::Executed
        });
        let mut events = Vec::new();
        for (run, (starting, spec)) in executed {
            self.mains.insert(run, starting.pid);
            if spec.stdin == Stdin::Inherit {
                // Whoever writes to it must see it closed when the job closes it.
                self.input = None;
            }
            let pid = proc::id(starting.pid);
            events.push(GuardEvent::Executed { run, pid });
        }
        events
    }

    /// What it means that a process has ended.
    fn ended(&mut self, pid: Pid, status: WaitStatus) -> Option<GuardEvent> {
        let signal = status.terminating_signal();
        let of_pid = |(_, (starting, _)): &(&u64, &(Starting, _))| starting.pid == pid;
        if let Some(run) = self.starting.iter().find(of_pid).map(|(run, _)| *run) {
            let (mut starting, spec) = self.starting.remove(&run)?;
            return Some(match starting.look() {
                LaunchStage::Failed(Failure::TooLate) => GuardEvent::TooLate { run },
                LaunchStage::Failed(failure) => {
                    let (code, error) = explain(&spec, failure);
                    GuardEvent::NotExecuted { run, code, error }
                }
                _ => {
                    let signal = signal.unwrap_or(Signal::KILL.as_raw());
                    GuardEvent::KilledEarly { run, signal }
                }
            });
        }
        let run = *self.mains.iter().find(|(_, main)| **main == pid)?.0;
        self.mains.remove(&run);
        let exit = match signal {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(status.exit_status().unwrap_or(0)),
        };
        let pid = proc::id(pid);
        Some(GuardEvent::MainEnded { run, pid, exit })
    }
}

/// The code and text of a command that could not be executed.
fn explain(spec: &CommandSpec, failure: Failure) -> (i32, String) {
    let Some(program) = spec.argv.first() else {
        return (127, "no command".to_owned());
    };
    match failure {
        Failure::Directory(error) => {
            let directory = spec.working_dir.as_deref().unwrap_or(Path::new(""));
            let error = io::Error::from(error);
            (126, format!("{}: {error}", directory.display()))
        }
        Failure::Other(error) => {
            let code = if error == Errno::NOENT { 127 } else { 126 };
            (code, format!("{program}: {}", io::Error::from(error)))
        }
        Failure::TooLate => (126, format!("{program}: too late")),
    }
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
