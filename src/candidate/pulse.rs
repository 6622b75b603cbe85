//! Whether a loop still runs: asked, not assumed, so that an idle loop need not tick for it.

use std::sync::Arc;
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
    tick: Tick,
}

impl Pulse {
    /// The pulse of a loop that ticks `tick` in each round.
    pub(crate) fn new(tick: Tick) -> Self {
        Self {
            asked: Arc::default(),
            answered: Arc::default(),
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

    /// Whether the loop comes round within `limit`.
    pub(crate) async fn beats(&self, limit: Duration) -> bool {
        let asked_at = clock::now();
        let answered = async {
            loop {
                let answer = self.answered.notified();
                self.asked.notify_one();
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
    async fn a_loop_that_comes_round_beats_and_one_that_hangs_does_not() {
        let limit = Duration::from_millis(50);
        let pulse = Pulse::new(Tick::new());
        assert!(!pulse.beats(limit).await);
        tokio::spawn(pulse.clone().beat());
        assert!(pulse.beats(Duration::from_secs(10)).await);
        assert!(pulse.beats(Duration::from_secs(10)).await);
    }
}
