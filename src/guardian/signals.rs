//! The signal mask and the dispositions, which survive fork and exec, and which nothing safe can set.
//!
//! A daemon that was started with signals blocked would hand that on to its guardian, which then
//! hears of no child's end, and to the job, which then hears no stop.

use std::io;

/// Blocks no signal any more in the calling thread, nor in those that it starts from now on.
/// Async-signal-safe.
pub(crate) fn empty_mask() -> io::Result<()> {
    #[allow(
        unsafe_code,
        reason = "nothing safe sets a signal mask; the set is initialised before it is read, and \
                  signals that were pending run handlers that are async-signal-safe by themselves"
    )]
    // SAFETY: see the reason above.
    let error = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Runs `work` with every signal blocked in the calling thread, then blocks what was blocked before.
pub(crate) fn with_all_blocked<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let set = |set: &libc::sigset_t| {
        #[allow(
            unsafe_code,
            reason = "both sets are initialised: the one is passed, the other is zeroed"
        )]
        // SAFETY: see the reason above.
        let (error, before) = unsafe {
            let mut before = std::mem::zeroed();
            let error = libc::pthread_sigmask(libc::SIG_SETMASK, set, &raw mut before);
            (error, before)
        };
        match error {
            0 => Ok(before),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    };
    #[allow(
        unsafe_code,
        reason = "the call initialises the set, which zeroes are valid for before"
    )]
    // SAFETY: see the reason above.
    let all = unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        all
    };
    let before = set(&all)?;
    let outcome = work();
    set(&before)?;
    Ok(outcome)
}

/// Gives every signal its default disposition. Async-signal-safe.
pub(crate) fn reset() {
    // Two numbers are the C library's own and two can't be set; those calls just fail.
    for signal in 1..=64 {
        #[allow(unsafe_code, reason = "the default disposition runs no code of ours")]
        // SAFETY: see the reason above.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}
