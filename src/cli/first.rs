//! The first process of a container, where `run` or `exec` is started as that: it starts itself once more,
//! as the daemon, and looks after it.
//!
//! The kernel spares a first process the signals from inside, so a guardian there could not kill a daemon
//! that stands still, and its lease would be renewed for ever (R6). And with its first process a container
//! ends as a whole, so nobody would be left to give back what a daemon leaves that dies (R5). This one holds
//! nothing: it passes signals on, reaps what falls to it, and ends as the daemon did, once the guardian has
//! gone after it.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, waitpid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::proc::look::own_children;
use crate::proc::{CHECKS, GUARDIAN, Stat};

/// What the daemon or the job of `exec` may hear of, and what tells of children.
const HEARD: [i32; 8] = [
    SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH,
];

/// Whether this process is that of its PID namespace.
pub(super) fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// Runs the command that this process was started with in another, to its end.
///
/// # Errors
/// When that can't be started.
pub(super) fn look_after() -> io::Result<ExitCode> {
    // A signal that comes before there is somebody to pass it to waits for that.
    let mut signals = Signals::new(HEARD)?;
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let mut command = Command::new(env::current_exe()?);
    let daemon = Pid::from_child(&command.arg0(name).args(words).spawn()?);
    let mut code = None;
    loop {
        while let Some((pid, status)) = ended() {
            if pid == daemon {
                code = Some(code_of(status));
            }
        }
        if let Some(code) = code
            && !has_guardians()
        {
            return Ok(ExitCode::from(code));
        }
        for signal in signals.wait() {
            let heard =
                Signal::from_named_raw(signal).filter(|_| signal != SIGCHLD && code.is_none());
            heard.map(|signal| kill_process(daemon, signal));
        }
    }
}

/// A child that has ended, reaped.
fn ended() -> Option<(Pid, WaitStatus)> {
    waitpid(None, WaitOptions::NOHANG).ok().flatten()
}

/// What a container's exit code says of a process that has ended: 128 more than the signal that ended it.
fn code_of(status: WaitStatus) -> u8 {
    let signal = || Some(128 + status.terminating_signal()?);
    let code = status.exit_status().or_else(signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Whether a guardian is at work that the daemon has left.
fn has_guardians() -> bool {
    let is_guardian = |stat: Stat| {
        let name = stat.comm.as_bytes();
        !stat.has_ended() && [GUARDIAN, CHECKS].iter().any(|it| it.to_bytes() == name)
    };
    let children = own_children().unwrap_or_default().into_iter();
    children.filter_map(Stat::of).any(is_guardian)
}
