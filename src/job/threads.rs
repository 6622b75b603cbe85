//! The threads that came of a Rust job, told from the daemon's own.
//!
//! They bear the [mark](crate::guardian::mark) of the run's first thread, at however many removes and
//! whatever their names. Those that block its signal since before the run, as some libraries block
//! every signal in threads of their own, are not the job's.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;

use crate::guardian::mark::{Mark, MarkStatus, SIGNAL};

/// The threads of one run.
#[derive(Debug)]
pub(super) struct Threads {
    /// Those that looked like them before there was any: their ids, this thread's included.
    others: BTreeSet<OsString>,
}

impl Threads {
    /// Marks the calling thread, and so all that it starts.
    ///
    /// # Errors
    /// Where the threads of this process can't be looked at.
    pub(super) fn mark_this_one() -> io::Result<Self> {
        let this = rustix::thread::gettid().as_raw_pid().to_string();
        let mut others = marked()?;
        others.insert(this.into());
        block(Mark::of_this_daemon().signals());
        Ok(Self { others })
    }

    /// Whether any is left, or may be, beside the one that was marked first.
    pub(super) fn are_left(&self) -> bool {
        marked().map_or(true, |marked| !marked.is_subset(&self.others))
    }
}

/// The marked threads of this process. One that has just been started may seem to be marked, since
/// the C library starts it with every signal blocked; none that is marked seems not to be.
fn marked() -> io::Result<BTreeSet<OsString>> {
    let mut marked = BTreeSet::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        let status = MarkStatus::of_thread(&thread.path())?;
        if status.is_some_and(|status| status.blocks(SIGNAL)) {
            marked.insert(thread.file_name());
        }
    }
    Ok(marked)
}

fn block(signals: impl Iterator<Item = i32>) {
    #[allow(
        unsafe_code,
        reason = "nothing safe sets a signal mask; the set is initialised before it is read, and \
                  a blocked signal that nobody sends runs no handler and keeps none from running"
    )]
    // SAFETY: see the reason above.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError, mpsc};
    use std::thread;

    /// A process has one run at a time: two side by side would each wait for the other's threads.
    static ONE_RUN: Mutex<()> = Mutex::new(());

    #[test]
    fn a_thread_is_told_by_who_started_it_at_any_remove() {
        let _alone = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, ended) = mpsc::channel::<()>();
        let run = thread::spawn(|| {
            let threads = Threads::mark_this_one().unwrap();
            let child = thread::spawn(|| {
                let named = thread::Builder::new().name("contest".to_owned());
                named.spawn(move || ended.recv().unwrap_err()).unwrap()
            });
            let grandchild = child.join().unwrap();
            assert!(threads.are_left());
            drop(end);
            grandchild.join().unwrap();
            // The kernel may list it for an instant longer.
            while threads.are_left() {
                thread::yield_now();
            }
        });
        run.join().unwrap();
    }

    #[test]
    fn a_thread_that_was_there_before_the_run_is_not_the_jobs() {
        let _alone = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, ended) = mpsc::channel::<()>();
        let (blocked, ready) = mpsc::channel();
        let before = thread::spawn(move || {
            block([SIGNAL].into_iter());
            blocked.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        ready.recv().unwrap();
        let run = thread::spawn(|| {
            let threads = Threads::mark_this_one().unwrap();
            while threads.are_left() {
                thread::yield_now();
            }
        });
        run.join().unwrap();
        drop(end);
        before.join().unwrap();
    }
}
