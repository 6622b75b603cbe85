//! What can't be had for a moment, a thread, a descriptor, a process, memory or room on a disk, ends
//! nothing: it is said, and tried again (R15).

use std::io;
use std::time::Duration;

use crate::clock;
use crate::faults::may_pass;

/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries until `get` comes off or fails for another reason; the first try that doesn't is logged, with
/// `what` is being waited for.
///
/// # Errors
/// What `get` fails with, where that [won't pass](may_pass) by itself.
///
/// # Cancel safety
/// Safe where `get` is.
pub(crate) async fn until_had<T>(
    what: &str,
    mut get: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut wait = Wait { what, said: false };
    loop {
        if let Some(done) = wait.note(get()) {
            return done;
        }
        clock::sleep(PAUSE).await;
    }
}

/// As [`until_had`], for what has no runtime yet. Blocks.
///
/// # Errors
/// As [`until_had`].
pub(crate) fn until_had_blocking<T>(
    what: &str,
    mut get: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut wait = Wait { what, said: false };
    loop {
        if let Some(done) = wait.note(get()) {
            return done;
        }
        std::thread::sleep(PAUSE);
    }
}

struct Wait<'a> {
    what: &'a str,
    said: bool,
}

impl Wait<'_> {
    /// The outcome, unless another try may bring a better one.
    fn note<T>(&mut self, outcome: io::Result<T>) -> Option<io::Result<T>> {
        match outcome {
            Err(error) if may_pass(&error) => {
                if !self.said {
                    tracing::warn!(what = self.what, %error, "not to be had yet");
                }
                self.said = true;
                None
            }
            done => Some(done),
        }
    }
}
