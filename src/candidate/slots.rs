//! What a schedule needs of the world: its records in the store, and an alarm on the wall clock.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::decide::words::{Event, SlotRequest};
use crate::clock;
use crate::election::wishes;
use crate::etcd::Store;
use crate::keys::{LeaseId, Prefix};
use crate::schedule::{Stored, Written};
use crate::term::slots;
use crate::wall::{Time, Timer};

/// Before a request is taken for unanswered that the store refused: it would be sent again at once.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// Before another try to have a timer.
const NO_TIMER_PAUSE: Duration = Duration::from_millis(500);

/// Asks the store, and returns what the candidate is to hear of it.
pub(super) async fn ask(
    store: &Store,
    limit: Duration,
    (prefix, lease): (&Prefix, LeaseId),
    request: SlotRequest,
) -> Option<Event> {
    match request {
        SlotRequest::Read { number } => {
            let stored = slots::read(store, limit, prefix).await;
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    tracing::debug!(%error, "the schedule's state was not read");
                    Stored::Unknown
                }
            };
            Some(Event::SlotsRead(lease, number, stored))
        }
        SlotRequest::Write(write) => {
            let written = slots::write(store, limit, (prefix, lease), &write).await;
            let written = match written {
                Ok(written) => written,
                Err(error) => {
                    if error.is_definite() {
                        tracing::warn!(
                            election = %prefix, %lease, %error,
                            "the schedule's state was not written: trying again"
                        );
                        clock::sleep(REFUSED_PAUSE).await;
                    } else {
                        tracing::debug!(%error, "the schedule's state was not written");
                    }
                    Written::Unknown
                }
            };
            Some(Event::SlotsWrote(lease, write.number, written))
        }
        SlotRequest::Answer {
            token,
            wish,
            answer,
        } => {
            // Whoever waits for it and hears nothing sees the run, or none.
            for _ in 0..store.member_count() {
                let of = (prefix, lease, token);
                let told = wishes::answer_trigger(store, limit, of, wish, answer.clone());
                match told.await {
                    Err(error) if !error.is_definite() => {}
                    Ok(()) | Err(_) => break,
                }
            }
            None
        }
    }
}

/// A timer that a task can wait for.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for types whose descriptor may change; a timer's does not"
)]
fn polled(timer: Timer) -> io::Result<AsyncFd<Timer>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

/// Wakes the main loop at a time of day, and whenever the clock is set, while there is such a time.
#[derive(Debug, Default)]
pub(super) struct WallAlarm {
    timer: Option<AsyncFd<Timer>>,
    /// What it is set for.
    at: Option<Time>,
}

impl WallAlarm {
    /// Sets the time to wake at. Nothing is done where that is as it was.
    pub(super) fn arm(&mut self, at: Option<Time>) {
        if at.is_none() {
            (self.timer, self.at) = (None, None);
        } else if at != self.at
            && let Err(error) = self.try_to_arm(at)
        {
            // Tried again with the next round, which the alarm sees to.
            tracing::debug!(%error, "no timer on the wall clock");
            (self.timer, self.at) = (None, None);
        }
    }

    fn try_to_arm(&mut self, at: Option<Time>) -> io::Result<()> {
        let timer = match self.timer.take() {
            Some(timer) => timer,
            None => polled(Timer::new()?)?,
        };
        timer.get_ref().arm(at)?;
        (self.timer, self.at) = (Some(timer), at);
        Ok(())
    }

    /// Waits for that time, or for the clock to be set; for ever if there is none.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn woken(&mut self) {
        let Some(timer) = &self.timer else {
            return std::future::pending().await;
        };
        match timer.readable().await {
            Ok(mut ready) => {
                drop(timer.get_ref().take());
                ready.clear_ready();
                // It is armed anew for what is due next, also if that is the same.
                self.at = None;
            }
            Err(_) => clock::sleep(NO_TIMER_PAUSE).await,
        }
    }
}
