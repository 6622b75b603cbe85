//! The signals that the daemon understands, and those that `exec` passes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
    SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use signal_hook_tokio::Signals;
use tokio_stream::StreamExt;

use crate::vital;

/// Signals that mean nothing to us and end a process by default: limits that are reached, timers and
/// descriptors that whoever started us has set up, and what is sent by mistake. SIGPIPE is ignored
/// already, by the standard library.
///
/// SIGXCPU stands here since its hard limit kills anyway. By default, with reason: what a fault of our
/// own raises; SIGTSTP, by which a person stops us, and the guardian goes on.
const STRAY: [i32; 9] = [
    SIGXFSZ,
    SIGXCPU,
    SIGALRM,
    SIGVTALRM,
    SIGPROF,
    SIGIO,
    SIGUSR2,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// From now on no signal ends or stops this process that only says something of what is around it. What
/// reached a limit is an error to who wrote it.
///
/// They are caught, not ignored: an exec resets what is caught. Not so those of a terminal for who
/// writes to it, or reads it, in the background, since a write that is caught there is tried for ever.
///
/// # Errors
/// Never for these signals.
pub(crate) fn shrug_off() -> io::Result<()> {
    let ignored = ignored();
    for signal in STRAY {
        if ignored & (1 << (signal - 1)) == 0 {
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
    }
    for signal in [SIGTTOU, SIGTTIN] {
        #[allow(
            unsafe_code,
            reason = "nothing safe ignores a signal, which runs no code of ours"
        )]
        // SAFETY: see the reason above.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    Ok(())
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM or SIGINT: a planned stop; another one after a while, an impatient one.
    Stop,
    /// SIGQUIT: an impatient stop at once.
    StopNow,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: let another candidate lead.
    StepDown,
}

/// The signals as they arrive.
pub(crate) struct Arriving(Signals);

impl Arriving {
    /// Takes the signals over from their defaults, at once.
    ///
    /// # Errors
    /// When the kernel has no descriptor to spare.
    pub(crate) fn new() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1]).map(Self)
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.0.next().await {
            Some(SIGHUP) => Signal::Reload,
            Some(SIGUSR1) => Signal::StepDown,
            Some(SIGQUIT) => Signal::StopNow,
            Some(_) => Signal::Stop,
            None => vital::gone("signals"),
        }
    }
}

/// The signals that a command passes on to the job that it waits for.
pub(crate) struct PassedOn(Signals);

/// A signal to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Its number.
    pub signal: i32,
    /// Whether it asks for the end, so that another one may be impatient: SIGTERM and SIGINT.
    pub is_stop: bool,
    /// Whether it hurries an end that was asked for: SIGQUIT.
    pub hurries: bool,
    /// Whether a process that doesn't handle it ends.
    pub ends: bool,
}

impl PassedOn {
    /// Takes the signals over from their defaults, at once. One that whoever started us had
    /// ignored, as `nohup` does, stays so.
    ///
    /// # Errors
    /// When the kernel has no descriptor to spare.
    pub(crate) fn new() -> io::Result<Self> {
        let ignored = ignored();
        let all = [
            SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP,
        ];
        let heard = all.into_iter().filter(|signal| {
            let bit = 1_u64 << (signal - 1);
            *signal == SIGTERM || ignored & bit == 0
        });
        Signals::new(heard).map(Self)
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Passed {
        loop {
            let Some(signal) = self.0.next().await else {
                vital::gone("signals")
            };
            // Stopped, we would renew no more, and the job would be killed. It can't be stopped
            // alone either: it is in a session without a shell.
            if signal != SIGTSTP {
                return Passed {
                    signal,
                    is_stop: [SIGTERM, SIGINT].contains(&signal),
                    hurries: signal == SIGQUIT,
                    ends: [SIGTERM, SIGINT, SIGHUP, SIGQUIT].contains(&signal),
                };
            }
        }
    }
}

/// The signals that this process ignores, a bit each.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
