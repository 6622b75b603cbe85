//! Whether a loop still runs: asked, not assumed, so that an idle loop need not tick for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{self, Tick};

/// How often it is looked whether the loops live at all.
const ROUND: Duration = Duration::from_secs(15);

/// How long a loop may be silent before it counts as ended. A machine that is too busy for a thread's
/// turn for so long has lost its term in any case.
const SILENCE: Duration = Duration::from_secs(10);

/// Waits until one of these loops has ended, however it did; returns which.
pub(crate) async fn ended(pulses: &[(&'static str, Pulse)]) -> &'static str {
    loop {
        clock::sleep(ROUND).await;
        for (name, pulse) in pulses {
            // Once more: should this process have been stopped meanwhile, nobody had the time.
            if !pulse.beats(SILENCE).await && !pulse.beats(SILENCE).await {
                return name;
            }
        }
    }
}

/// A loop that ticks when it is asked to; however many ask at once, it is woken once.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    asked: Arc<Notify>,
    answered: Arc<Notify>,
    /// Whether the loop has come to its end, which is no silence.
    is_over: Arc<AtomicBool>,
    tick: Tick,
}

/// Loops that come to their end together: when it is dropped at the latest.
#[derive(Debug)]
pub(super) struct Pulses<const N: usize>(pub(super) [Pulse; N]);

impl<const N: usize> Pulses<N> {
    /// They answer no more, and need not.
    pub(super) fn end(&self) {
        for pulse in &self.0 {
            pulse.is_over.store(true, Ordering::Release);
            pulse.answered.notify_waiters();
        }
    }
}

impl<const N: usize> Drop for Pulses<N> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Pulse {
    /// The pulse of a loop that ticks `tick` in each round.
    pub(crate) fn new(tick: Tick) -> Self {
        Self {
            asked: Arc::default(),
            answered: Arc::default(),
            is_over: Arc::default(),
            tick,
        }
    }

    /// Waits until somebody asks; then the loop owes an [`answer`](Self::answer).
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Ticks, and tells who has asked.
    pub(crate) fn answer(&self) {
        self.tick.tick();
        self.answered.notify_waiters();
    }

    /// Answers whenever somebody asks, in place of a loop that has no round of its own.
    pub(crate) async fn beat(self) {
        loop {
            self.asked().await;
            self.answer();
        }
    }

    /// Whether the loop came round within the last `limit`, or does so within the next, or has come to its
    /// end. Only in the second case it is woken.
    pub(crate) async fn beats_about(&self, limit: Duration) -> bool {
        self.tick.age() < limit || self.beats(limit).await
    }

    /// Whether the loop comes round within `limit`, or has come to its end.
    pub(crate) async fn beats(&self, limit: Duration) -> bool {
        let asked_at = clock::now();
        let answered = async {
            loop {
                let answer = self.answered.notified();
                self.asked.notify_one();
                if self.is_over.load(Ordering::Acquire) {
                    return;
                }
                answer.await;
                if self.tick.last() >= asked_at {
                    return;
                }
            }
        };
        tokio::select! {
            () = answered => true,
            () = clock::sleep(limit) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_has_come_to_its_end_is_not_silent() {
        let pulse = Pulse::new(Tick::new());
        let pulses = Pulses([pulse.clone()]);
        let asked = pulse.beats(Duration::from_secs(10));
        let ends = async {
            tokio::task::yield_now().await;
            drop(pulses);
        };
        let (beats, ()) = tokio::join!(asked, ends);
        assert!(beats, "who asks before");
        assert!(pulse.beats(Duration::from_secs(10)).await, "and after");
    }

    #[tokio::test]
    async fn a_loop_that_comes_round_beats_and_one_that_hangs_does_not() {
        let limit = Duration::from_millis(50);
        let pulse = Pulse::new(Tick::new());
        assert!(!pulse.beats(limit).await);
        tokio::spawn(pulse.clone().beat());
        assert!(pulse.beats(Duration::from_secs(10)).await);
        assert!(pulse.beats(Duration::from_secs(10)).await);
    }
}
