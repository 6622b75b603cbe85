//! The signal mask, which survives fork and exec, and which nothing safe can set.
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
