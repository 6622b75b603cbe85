//! What goes wrong in a history, until all heals.

use super::{
    BEGIN, Duration, Event, Happening, Mistake, Outcome, SECOND, State, Time, World, Write,
};

impl World {
    pub(super) fn fault(&mut self) {
        let life = self.life;
        if !self.faulty() {
            self.resume();
            if self.planner.is_some() {
                self.hear(life, Event::TermOver);
                self.leave();
            }
            return;
        }
        match self.up_to(8) {
            0..=2 if self.planner.is_some() => self.leave(),
            3 if self.planner.is_some() => {
                self.hear(life, Event::TermOver);
                self.leave();
            }
            4 => self.hear(life, Event::Stop),
            5 => {
                self.offset = self.up_to(300 * SECOND);
                self.hear(life, Event::Tick);
            }
            6 => self.hear(
                life,
                Event::Trigger {
                    id: self.order,
                    queue: true,
                },
            ),
            7 if self.paused.is_none() => {
                self.paused = Some(self.now);
                if !self.makes(Mistake::PauseIsUntold) {
                    self.hear(life, Event::Paused(true));
                }
            }
            _ => self.resume(),
        }
        let delay = 1 + self.up_to(100 * SECOND);
        self.after(delay, Happening::Fault);
    }

    fn resume(&mut self) {
        if self.paused.take().is_none() {
            return;
        }
        if self.planner.is_some() {
            let life = self.life;
            self.hear(life, Event::Paused(false));
        } else if let Some(old) = &self.state {
            // What `resume` writes where nobody leads, by a clock that is right.
            let right = Time::from_millis(BEGIN + self.now);
            self.state = Some(old.resumed(right));
            self.revision = self.revision.next();
        }
    }

    /// Somebody settles a lost run, while a write of the leader's is on its way.
    pub(super) fn resolve(&mut self) {
        let rerun = self.one_in(2);
        let result = if rerun {
            Outcome::Rerun
        } else {
            Outcome::Success
        };
        let state = self.state.as_ref();
        let slot = state.and_then(|state| state.last.as_ref()?.slot.slot());
        let Some((slot, Ok(state))) = slot.zip(
            state
                .zip(slot)
                .map(|(state, slot)| state.resolved(slot, result)),
        ) else {
            return;
        };
        self.say(&format!("{slot} is settled: {result:?}"));
        if rerun {
            self.again.insert(slot);
        } else {
            self.settled.insert(slot);
        }
        self.state = Some(state);
        self.revision = self.revision.next();
        let (delay, life) = (1 + self.up_to(20), self.life);
        self.after(delay, Happening::StateChanged { life });
    }

    /// The run closes itself, in a transaction of its own that is guarded as ours are.
    pub(super) fn completes(&mut self, nonce: &str) {
        let job = self.job.as_mut().filter(|job| job.run.nonce == nonce);
        let Some(job) = job else {
            return;
        };
        let run = job.run.clone();
        let state = self.state.clone();
        let open = |state: &State| state.open.as_ref().is_some_and(|it| it.nonce == nonce);
        let Some(state) = state.filter(|state| Some(run.token) == self.leader && open(state))
        else {
            return;
        };
        let Some((state, record)) = state.closed(Outcome::Success, None, Duration::ZERO) else {
            return;
        };
        job.closed = true;
        self.completed.extend(run.slot.slot());
        self.truth.insert((run.slot, run.attempt), Outcome::Success);
        self.land(&Write {
            number: 0,
            token: run.token,
            seen: self.revision,
            runs: vec![(state.seq, record)],
            trimmed: Vec::new(),
            state,
            last: false,
        });
        let (delay, life) = (1 + self.up_to(20), self.life);
        self.after(delay, Happening::StateChanged { life });
    }
}
