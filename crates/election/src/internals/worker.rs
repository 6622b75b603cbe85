//! Threads for what blocks: files that are read, names that are looked up, trees that are fenced.
//!
//! The invariant: a pool that was [started](Pool::start) always has a thread that takes what waits.
//! More are started while there is more to do, and where they can't be had the work waits its turn
//! (R15). tokio's own threads for this are started on demand, and it panics where they can't be had.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::vital;

/// For the files and names by which the store is reached.
pub static STORE: Pool = Pool::new("store");

/// For proving that nothing lives of what was started here, which may take for ever.
pub static FENCE: Pool = Pool::new("fence");

/// How many threads a pool may have at most.
const MOST: usize = 6;

/// How much may wait in a pool: work that was given up on doesn't count.
const LONGEST_QUEUE: usize = 256;

/// How long a thread beside the first waits for more to do.
const LINGER: Duration = Duration::from_secs(5);

type PoolWork = Box<dyn FnOnce() + Send>;

/// Some threads, the first of which never ends.
pub struct Pool {
    name: &'static str,
    state: Mutex<PoolState>,
    filled: Condvar,
}

struct PoolState {
    waiting: VecDeque<PoolWork>,
    threads: usize,
    idle: usize,
}

impl Pool {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            state: Mutex::new(PoolState {
                waiting: VecDeque::new(),
                threads: 0,
                idle: 0,
            }),
            filled: Condvar::new(),
        }
    }

    /// Makes sure that there is a thread.
    ///
    /// # Errors
    /// Fails if there is none to be had.
    pub fn start(&'static self) -> io::Result<()> {
        let mut state = self.state();
        if state.threads == 0 {
            self.spawn(&mut state)?;
        }
        Ok(())
    }

    /// Has `work` done; await what it returns for the outcome. Never blocks.
    ///
    /// # Errors
    /// Fails if there is no thread to be had and none was started before, or too much waits already.
    pub fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<oneshot::Receiver<T>> {
        let (done, outcome) = oneshot::channel();
        self.put(move || {
            // Whoever has given up on it would only hold up the others.
            if !done.is_closed() {
                drop(done.send(work()));
            }
        })?;
        Ok(outcome)
    }

    /// As [`run`](Self::run), and waits for the outcome.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Work that was not begun is left out.
    pub async fn outcome<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let outcome = self.run(work)?.await;
        outcome.map_err(|_| io::Error::other("its thread panicked"))
    }

    /// Has `work` done, whether or not anybody waits for it. Never blocks.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn put(&'static self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.start()?;
        let mut state = self.state();
        if state.waiting.len() >= LONGEST_QUEUE {
            return Err(io::Error::other("too much waits for a thread"));
        }
        state.waiting.push_back(Box::new(work));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    fn spawn(&'static self, state: &mut PoolState) -> io::Result<()> {
        vital::spawn(self.name, || {
            self.work();
            Ok(())
        })?;
        state.threads += 1;
        Ok(())
    }

    fn work(&'static self) {
        let mut state = self.state();
        loop {
            let work = loop {
                if let Some(work) = state.waiting.pop_front() {
                    break work;
                }
                state.idle += 1;
                if state.threads == 1 {
                    // The last one has nobody to leave the work to.
                    state = (self.filled.wait(state)).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                    continue;
                }
                let waited = self.filled.wait_timeout(state, LINGER);
                let timed_out;
                (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                if timed_out.timed_out() && state.waiting.is_empty() && state.threads > 1 {
                    state.threads -= 1;
                    return;
                }
            };
            // One that waits while this one works. Started here and not by whoever has work: that
            // may be a thread of a Rust job, and then what it starts would count as the job's.
            if state.idle == 0 && state.threads < MOST {
                // Where it can't be had, the work waits for this thread.
                drop(self.spawn(&mut state));
            }
            drop(state);
            // What panics is lost, which whoever awaits it sees; the thread is not.
            drop(panic::catch_unwind(AssertUnwindSafe(work)));
            state = self.state();
        }
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// How long a test waits for a thread.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn work_that_hangs_holds_up_nothing_else_while_threads_can_be_had() {
        static POOL: Pool = Pool::new("test-hang");
        let (release, hang) = mpsc::channel::<()>();
        let hanging = POOL.run(move || hang.recv().is_err()).unwrap();
        for n in 0..20 {
            let outcome = tokio::time::timeout(PATIENCE, POOL.outcome(move || n)).await;
            assert_eq!(outcome.unwrap().unwrap(), n);
        }
        drop(release);
        assert!(hanging.await.unwrap());
    }

    #[tokio::test]
    async fn work_that_was_given_up_on_is_left_out() {
        static POOL: Pool = Pool::new("test-left");
        let (told, tell) = mpsc::channel();
        let hold: Vec<_> = (0..MOST)
            .map(|_| {
                let (release, hang) = mpsc::channel::<()>();
                (release, POOL.run(move || hang.recv().is_err()).unwrap())
            })
            .collect();
        // All threads are at work, or will be before what follows.
        drop(POOL.run(move || told.send(())).unwrap());
        for (release, outcome) in hold {
            drop(release);
            assert!(outcome.await.unwrap());
        }
        assert!(tell.recv_timeout(PATIENCE).is_err());
    }

    #[tokio::test]
    async fn a_queue_that_is_full_is_an_error() {
        static POOL: Pool = Pool::new("test-full");
        let mut held = Vec::new();
        let refused = (0..=LONGEST_QUEUE + MOST).find_map(|_| {
            let (release, hang) = mpsc::channel::<()>();
            match POOL.run(move || hang.recv().is_err()) {
                // Without its outcome it counts as given up on, and is passed over.
                Ok(outcome) => held.push((release, outcome)),
                Err(refused) => return Some(refused),
            }
            None
        });
        assert!(refused.is_some());
    }
}
