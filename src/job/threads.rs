//! The threads that came of a Rust job, told from the daemon's own.
//!
//! They bear the [mark](crate::guardian::mark) of the run's first thread, at however many removes and
//! whatever their names. Those that block its signal since before the run, as some libraries block
//! every signal in threads of their own, are not the job's.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use crate::guardian::mark::{Mark, SIGNAL, Status};

/// The threads of one run.
#[derive(Debug)]
pub(super) struct Threads {
    /// Those that looked like them before there was any: their ids, this thread's included.
    others: BTreeSet<OsString>,
}

impl Threads {
    /// Marks the calling thread, and so all that it starts.
    pub(super) fn mark_this_one() -> Self {
        let this = rustix::thread::gettid().as_raw_pid().to_string();
        let others = marked().chain([this.into()]).collect();
        block(Mark::of_this_daemon().signals());
        Self { others }
    }

    /// Whether any is left beside the one that was marked first.
    pub(super) fn are_left(&self) -> bool {
        marked().any(|thread| !self.others.contains(&thread))
    }
}

/// The marked threads of this process. One that has just been started may seem to be marked, since
/// the C library starts it with every signal blocked; none that is marked seems not to be.
fn marked() -> impl Iterator<Item = OsString> {
    // Without /proc the guardian couldn't do its work either.
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    threads.flatten().filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let blocks = Status::parse(&status)?.blocks(SIGNAL);
        blocks.then(|| thread.file_name())
    })
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
            let threads = Threads::mark_this_one();
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
            let threads = Threads::mark_this_one();
            while threads.are_left() {
                thread::yield_now();
            }
        });
        run.join().unwrap();
        drop(end);
        before.join().unwrap();
    }
}
