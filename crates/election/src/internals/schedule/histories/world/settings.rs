//! What a history's schedule is, and what its leaders are told of that.

use std::sync::Arc;
use std::time::Duration;

use super::{Mistake, World};
use crate::schedule::planner::{Guarantee, Missed, Overlap, Policy, Setup};
use crate::schedule::{Pace, Schedule};

impl World {
    /// One that the configuration accepts.
    pub(super) fn any_setup(&mut self) -> Setup {
        let seconds = Duration::from_secs;
        let mut setup = plain();
        setup.policy = Policy {
            guarantee: self.pick(&[Guarantee::AtMostOnce, Guarantee::AtLeastOnce]),
            missed: self.pick(&[Missed::Skip, Missed::Last, Missed::All]),
            missed_max: self.pick(&[1, 5, 5]),
            start_within: self.pick(&[None, None, Some(seconds(20)), Some(seconds(90))]),
            overlap: self.pick(&[Overlap::Skip, Overlap::Queue, Overlap::Replace]),
            retries: self.pick(&[0, 0, 1, 2]),
            retry_delay: seconds(self.pick(&[0, 5])),
            jitter: seconds(self.pick(&[0, 0, 10])),
            drain: seconds(self.pick(&[0, 20])),
            timeout: self.pick(&[None, Some(seconds(10)), Some(seconds(40))]),
            history: self.pick(&[1, 1, 2, 3, 1000]),
        };
        if self.one_in(3) {
            let half = Pace::Every(seconds(30));
            setup.schedule = Arc::new(Schedule::new(&half, "UTC").expect("a schedule"));
        }
        setup
    }

    /// As the leaders are told of it.
    pub(super) fn told_setup(&self) -> Setup {
        let mut setup = self.setup.clone();
        let policy = &mut setup.policy;
        match self.mistake {
            Some(Mistake::LostRunsAgain) => policy.guarantee = Guarantee::AtLeastOnce,
            Some(Mistake::LostStaysLost) => policy.guarantee = Guarantee::AtMostOnce,
            Some(Mistake::LateIsInTime) => policy.start_within = None,
            Some(Mistake::RetriesAreUncounted) => policy.retries += 5,
            _ => {}
        }
        setup
    }
}

/// Each minute, once.
pub(super) fn plain() -> Setup {
    let minutes = Pace::Cron(vec!["* * * * *".to_owned()]);
    Setup {
        schedule: Arc::new(Schedule::new(&minutes, "Europe/Berlin").expect("a schedule")),
        policy: Policy {
            guarantee: Guarantee::AtMostOnce,
            missed: Missed::Last,
            missed_max: 5,
            start_within: None,
            overlap: Overlap::Skip,
            retries: 0,
            retry_delay: Duration::ZERO,
            jitter: Duration::ZERO,
            drain: Duration::ZERO,
            timeout: None,
            history: 100,
        },
        election: "/jobs/backup".to_owned(),
        host: "a".to_owned(),
    }
}
