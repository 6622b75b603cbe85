//! When a stop is impatient.

use std::time::Duration;

use crate::clock::Instant;

/// Within this time another signal that asks for the end is the same stop, which has arrived twice:
/// `timeout`, a terminal's Ctrl-C or a service manager signal the whole process group, and a shell
/// or a wrapper in it then passes on what it got itself.
const SAME: Duration = Duration::from_secs(1);

/// The stops that were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stops {
    first: Option<Instant>,
}

/// What a signal that asks for the end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DaemonStop {
    /// The stop begins.
    Begin,
    /// It has begun already, and this says the same.
    Same,
    /// Whoever asked is tired of waiting.
    Hurry,
}

impl Stops {
    /// What SIGTERM or SIGINT means, which arrived now.
    pub(super) fn asked(&mut self, now: Instant) -> DaemonStop {
        match self.first {
            None => {
                self.first = Some(now);
                DaemonStop::Begin
            }
            Some(first) if now.since(first) < SAME => DaemonStop::Same,
            Some(_) => DaemonStop::Hurry,
        }
    }

    /// Whether a stop has begun.
    pub(super) const fn have_begun(&self) -> bool {
        self.first.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_arrives_again_within_a_second_is_the_same() {
        let mut stops = Stops::default();
        assert!(!stops.have_begun());
        let at = |millis: u64| Instant::BOOT + Duration::from_millis(5000 + millis);
        assert_eq!(stops.asked(at(0)), DaemonStop::Begin);
        assert!(stops.have_begun());
        for millis in [0, 1, 500, 999] {
            assert_eq!(stops.asked(at(millis)), DaemonStop::Same, "{millis}");
        }
        for millis in [1000, 1001, 90_000] {
            assert_eq!(stops.asked(at(millis)), DaemonStop::Hurry, "{millis}");
        }
    }
}
