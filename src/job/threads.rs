//! The threads that came of a Rust job, told from the daemon's own.
//!
//! They bear the [mark](crate::guardian::mark) of the run's first thread, at however many removes and
//! whatever their names. Those that block its signal since before the run, as some libraries block
//! every signal in threads of their own, are not the job's.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use crate::guardian::mark::{self, MarkStatus, RunMark, SIGNAL};
use crate::proc::look::own_threads;

/// The threads of one run.
#[derive(Debug)]
pub(super) struct Threads {
    /// Those that looked like them before there was any: their ids, this thread's included.
    others: BTreeSet<OsString>,
    run: Arc<RunMark>,
}

impl Threads {
    /// Marks the calling thread, and so all that it starts, as `run` has it.
    ///
    /// # Errors
    /// Where the threads of this process can't be looked at.
    pub(super) fn mark_this_one(run: &Arc<RunMark>) -> io::Result<Self> {
        let this = rustix::thread::gettid().as_raw_pid().to_string();
        let mut others = marked(run)?;
        others.insert(this.into());
        block(run.signals());
        let run = Arc::clone(run);
        Ok(Self { others, run })
    }

    /// Whether any is left, or may be, beside the one that was marked first.
    pub(super) fn are_left(&self) -> bool {
        marked(&self.run).map_or(true, |marked| !marked.is_subset(&self.others))
    }
}

/// The marked threads of this process, but for those of other runs. One that has just been started may
/// seem to be one of them, since the C library starts it with every signal blocked; none that is seems
/// not to be.
fn marked(run: &RunMark) -> io::Result<BTreeSet<OsString>> {
    let mut marked = BTreeSet::new();
    let others = mark::others(Some(run));
    for thread in own_threads()? {
        let status = MarkStatus::of_thread(&thread)?;
        if status.is_some_and(|status| status.blocks(SIGNAL) && !status.is_of(&others)) {
            marked.extend(thread.file_name().map(OsStr::to_owned));
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
    use std::sync::mpsc;
    use std::thread;

    fn marked_run() -> Threads {
        Threads::mark_this_one(&RunMark::take().unwrap()).unwrap()
    }

    #[test]
    fn a_thread_is_told_by_who_started_it_at_any_remove() {
        let (end, ended) = mpsc::channel::<()>();
        let run = thread::spawn(|| {
            let threads = marked_run();
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
    fn a_thread_of_another_run_is_not_this_ones() {
        let (end, ended) = mpsc::channel::<()>();
        let (marked, ready) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let run = thread::spawn(move || {
            let threads = marked_run();
            begun.send(()).unwrap();
            ready.recv().unwrap();
            while threads.are_left() {
                thread::yield_now();
            }
        });
        // It begins after that one, and goes on beyond it.
        let other = thread::spawn(move || {
            begins.recv().unwrap();
            let own = marked_run();
            let worker = thread::spawn(move || ended.recv().unwrap_err());
            // Before the other run can end, and the worker with it.
            assert!(own.are_left());
            marked.send(()).unwrap();
            worker.join().unwrap();
        });
        run.join().unwrap();
        drop(end);
        other.join().unwrap();
    }

    #[test]
    fn a_thread_that_was_there_before_the_run_is_not_the_jobs() {
        let (end, ended) = mpsc::channel::<()>();
        let (blocked, ready) = mpsc::channel();
        let before = thread::spawn(move || {
            block([SIGNAL].into_iter());
            blocked.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        ready.recv().unwrap();
        let run = thread::spawn(|| {
            let threads = marked_run();
            while threads.are_left() {
                thread::yield_now();
            }
        });
        run.join().unwrap();
        drop(end);
        before.join().unwrap();
    }
}
