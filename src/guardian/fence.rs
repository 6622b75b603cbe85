//! The daemon's last resort: to kill everything below it, the guardian first of all, and prove it.
//!
//! Called by [`client`](super::client), and by whoever else has to be sure that nothing below
//! this process lives. Needs no guardian and no socket.

use std::io;
use std::time::Duration;

use rustix::process::{getpid, set_child_subreaper};

use super::proc::{self, Reaped};
use crate::clock::{self, Instant};
use crate::proc::Handle;

/// Between two rounds of SIGKILL, at most.
const ROUND: Duration = Duration::from_millis(10);

/// Makes this process the one to which processes fall whose parents die. The daemon is one from
/// before its guardian starts, so that it can fence in the guardian's place.
///
/// # Errors
/// Never on a kernel that has pidfds.
pub fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Kills every descendant of this process, and reaps until none is left or `until` has come.
/// Returns whether none is left, which is proven for processes that lost their parents after
/// [`become_subreaper`].
///
/// Blocks the calling thread. Takes the exit status of every child away from whoever waits for it.
pub fn fence(until: Option<Instant>) -> bool {
    let me = getpid();
    loop {
        let one = proc::kill_descendants(me);
        loop {
            match proc::reap() {
                Reaped::One(..) => {}
                Reaped::Alive => break,
                Reaped::Empty => return true,
            }
        }
        if until.is_some_and(Instant::has_passed) {
            return false;
        }
        pause(one.as_ref(), until);
    }
}

/// Waits for the end of one process, for one round at most.
fn pause(one: Option<&Handle>, until: Option<Instant>) {
    let limit = until.map_or(ROUND, |until| until.since(clock::now()).min(ROUND));
    match one {
        Some(process) => drop(process.wait(limit)),
        None => std::thread::sleep(limit),
    }
}
