//! What is to be done next, while nothing is on its way and no run is going.

use std::time::Duration;

use super::{
    Action, BEHIND, Guarantee, HistoryEntry, LONGEST_RETRY, Line, Missed, Now, Occasion, Open,
    Outcome, Overlap, Phase, Planner, Run, Slot, State, Then, Verdict, cut, mix,
};

/// What becomes of the slot that was run last.
enum Retry {
    /// It is over.
    Over,
    /// This attempt is to be claimed, which stands for so many slots beyond its own.
    Claim(Slot, u32, u64),
    /// It was claimed and not started, which is too late now; so many slots are missed with it.
    Miss(Slot, u64),
    /// It is tried again, but not yet; slots that come are looked at meanwhile, or wait for it.
    Later { blocks: bool },
}

impl Planner {
    pub(super) fn decide(&mut self, now: Now) {
        let spec = self.setup.schedule.spec();
        let Some(term) = &mut self.term else {
            return;
        };
        if !matches!(term.phase, Phase::Idle) {
            return;
        }
        term.blocked = false;
        if term.state.spec.is_empty() {
            let state = State::new(spec.to_owned(), now.wall);
            self.write(state, Vec::new(), Then::Nothing);
            return;
        }
        if let Some(open) = &term.state.open {
            if open.token == Some(term.token) {
                // A claim of our own that landed after all: what it claimed was never started.
                self.close(None);
            } else {
                self.find_lost();
            }
            return;
        }
        if term.state.spec != spec {
            let mut state = term.state.clone();
            spec.clone_into(&mut state.spec);
            // Never back, whatever the clock says.
            state.since = state.since.max(now.wall);
            (term.queued, term.retry) = (None, None);
            let since = state.since;
            self.say(Line::Changed { since });
            self.write(state, Vec::new(), Then::Nothing);
            return;
        }
        if term.stopping {
            self.drain();
            return;
        }
        if self.is_behind(now) {
            return;
        }
        self.skip_paused();
        if self.paused {
            self.pass_all(now);
            return;
        }
        self.choose(now);
    }

    /// Passes over the slots of a pause that nobody led through.
    fn skip_paused(&mut self) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Some(until) = term.state.paused_until else {
            return;
        };
        // What waits for its turn is among them.
        term.queued.take_if(|slot| slot.time() <= until);
        let (slots, left_out) = self.setup.due(term.mark(), until);
        if let Some(last) = slots.last().copied() {
            let count = u64::try_from(slots.len()).unwrap_or(u64::MAX);
            self.pass_over(last, count + left_out, true);
        }
    }

    /// The open run is of a term that is over, and nobody recorded its end.
    fn find_lost(&mut self) {
        let Some(term) = &self.term else {
            return;
        };
        let closed = term.state.closed(Outcome::Lost, None, Duration::ZERO);
        let (Some((state, record)), Some(open)) = (closed, &term.state.open) else {
            return;
        };
        let again = self.setup.policy.guarantee == Guarantee::AtLeastOnce
            && record.slot != Occasion::Manual;
        self.say(Line::Lost {
            slot: record.slot,
            host: record.host.clone(),
            token: open.token,
            again,
        });
        let runs = vec![(state.seq, record)];
        self.write(state, runs, Then::Nothing);
    }

    fn drain(&mut self) {
        let Some(term) = &mut self.term else {
            return;
        };
        if term.passed.is_some() {
            let state = term.state.clone();
            self.write(state, Vec::new(), Then::Nothing);
        } else if !term.drained {
            term.drained = true;
            self.act(Action::Drained);
        }
    }

    fn is_behind(&mut self, now: Now) -> bool {
        let Some(term) = &mut self.term else {
            return false;
        };
        let until = term.state.latest();
        let behind = now.wall + BEHIND < until;
        let news = behind && !term.behind;
        term.behind = behind;
        let wish = if behind { term.wish.take() } else { None };
        if news {
            let wall = now.wall;
            self.say(Line::ClockBehind { wall, until });
        }
        self.refuse_wish(wish, Verdict::Held);
        behind
    }

    fn pass_all(&mut self, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        let queued = term.queued.take();
        let wish = term.wish.take();
        // What was queued is among them, unless the clock was put back since.
        let (slots, left_out) = self.setup.due(term.mark(), now.wall);
        if let Some(last) = slots.last().copied().or(queued) {
            let count = u64::try_from(slots.len().max(1)).unwrap_or(u64::MAX);
            self.pass_over(last, count + left_out, true);
        }
        self.refuse_wish(wish, Verdict::Paused);
    }

    fn choose(&mut self, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        if term.hold.is_some_and(|at| now.clock < at) {
            term.blocked = true;
            return;
        }
        term.hold = None;
        // First what is owed: a run that somebody asks for would take its place as the last.
        match self.next_of_last(now) {
            Retry::Claim(slot, attempt, missed) => {
                let (before, more) = self.missed_before(now);
                let occasion = Occasion::Slot(slot);
                self.claim(occasion, attempt, missed, before, None, more, now);
                return;
            }
            Retry::Miss(slot, count) => return self.miss_unclaimed((slot, count), now),
            Retry::Later { blocks: true } => {
                if let Some(term) = &mut self.term {
                    term.blocked = true;
                }
                return;
            }
            Retry::Later { blocks: false } => {}
            Retry::Over => {
                if let Some(term) = &mut self.term {
                    term.retry = None;
                }
            }
        }
        let Some(term) = &mut self.term else {
            return;
        };
        if let Some(id) = term.wish.take() {
            let (before, more) = self.missed_before(now);
            self.claim(Occasion::Manual, 1, 0, before, Some(id), more, now);
            return;
        }
        if let Some(slot) = term.queued {
            let (_, more) = self.missed_before(now);
            if let Some(term) = &mut self.term {
                term.queued = None;
            }
            if !self.setup.is_too_late(slot, now.wall) {
                self.claim(Occasion::Slot(slot), 1, 0, None, None, more, now);
                return;
            }
            // What follows it may be fresh.
            self.miss((slot, 1), now);
            return;
        }
        let choice = self.setup.choose(term.mark(), now.wall);
        if let Some((slot, missed)) = choice.run {
            let occasion = Occasion::Slot(slot);
            self.claim(occasion, 1, missed, choice.missed, None, choice.more, now);
        } else if let Some(missed) = choice.missed {
            self.miss(missed, now);
        } else if term.passed.is_some() {
            let state = term.state.clone();
            self.write(state, Vec::new(), Then::Nothing);
        }
    }

    /// Of the slots that are due before a run that comes first: which of them nothing will run, and
    /// whether some are to be run after it. They are missed ones, whatever is to become of those that
    /// come during it; but what the next slot replaces, they do.
    fn missed_before(&self, now: Now) -> (Option<(Slot, u64)>, bool) {
        let Some(term) = &self.term else {
            return (None, false);
        };
        let policy = &self.setup.policy;
        if policy.overlap == Overlap::Replace && policy.missed != Missed::All {
            return (None, false);
        }
        let choice = self.setup.choose(term.mark(), now.wall);
        match choice.run {
            Some(_) => (None, true),
            // What waits for its turn comes before them: past their mark it would be nobody's.
            None if term.queued.is_some() => (None, choice.missed.is_some()),
            None => (choice.missed, false),
        }
    }

    /// Records slots that nothing runs.
    fn miss(&mut self, missed: (Slot, u64), now: Now) {
        let Some(term) = &self.term else {
            return;
        };
        let mut state = term.state.clone();
        let run = self.record_missed(&mut state, missed, now);
        self.write(state, vec![run], Then::Nothing);
    }

    /// Records the slot whose claim was taken back last, and those that it stood for.
    fn miss_unclaimed(&mut self, missed: (Slot, u64), now: Now) {
        let Some(term) = &self.term else {
            return;
        };
        let mut state = term.state.clone();
        state.last = None;
        let run = self.record_missed(&mut state, missed, now);
        self.write(state, vec![run], Then::Nothing);
    }

    fn record_missed(
        &mut self,
        state: &mut State,
        (slot, count): (Slot, u64),
        now: Now,
    ) -> (u64, HistoryEntry) {
        self.say(Line::Missed { slot, count });
        let token = self.term.as_ref().map(|term| term.token);
        let host = cut(&self.setup.host);
        state.without_run(slot, count, Outcome::Missed, now.wall, host, token)
    }

    /// Whether the slot that was run last is to be run again.
    fn next_of_last(&mut self, now: Now) -> Retry {
        let policy = &self.setup.policy;
        let Some(term) = &mut self.term else {
            return Retry::Over;
        };
        let Some(last) = term.state.last.as_ref() else {
            return Retry::Over;
        };
        let Some(slot) = last.slot.slot() else {
            return Retry::Over;
        };
        let at_least_once = policy.guarantee == Guarantee::AtLeastOnce;
        let (at_once, failed) = match last.result {
            Outcome::Rerun => (true, false),
            Outcome::Failure | Outcome::Timeout if last.attempt <= policy.retries => (false, true),
            // What kills a host must not do so as fast as there are hosts.
            Outcome::Lost | Outcome::Stopped | Outcome::Killed if at_least_once => {
                (last.attempt == 1, false)
            }
            _ => return Retry::Over,
        };
        if self.setup.is_too_late(slot, now.wall) {
            return if last.is_owed() {
                Retry::Miss(slot, last.missed.saturating_add(1))
            } else {
                // It has its record.
                Retry::Over
            };
        }
        let attempt = last.attempt + 1;
        let newer = term.queued.is_some() || term.state.slot > Some(slot) || {
            let next = self.setup.schedule.next(term.mark());
            next.is_some_and(|next| self.setup.due_at(next) <= now.wall)
        };
        let replaced = last.result == Outcome::Stopped && policy.overlap == Overlap::Replace;
        if newer && (failed || replaced) {
            return Retry::Over;
        }
        if at_once {
            return Retry::Claim(slot, attempt, last.missed);
        }
        let at = match term.retry {
            Some((of, number, at)) if (of, number) == (slot, attempt) => at,
            _ => {
                let before = last.attempt - u32::from(!failed);
                let pause = retry_pause(policy.retry_delay, before, term.seed);
                term.retry = Some((slot, attempt, now.clock + pause));
                now.clock + pause
            }
        };
        if now.clock < at {
            return Retry::Later { blocks: !failed };
        }
        Retry::Claim(slot, attempt, last.missed)
    }

    #[expect(clippy::too_many_arguments, reason = "all that a claim says")]
    fn claim(
        &mut self,
        slot: Occasion,
        attempt: u32,
        stands_for: u64,
        missed: Option<(Slot, u64)>,
        wish: Option<u64>,
        more: bool,
        now: Now,
    ) {
        let number = self.number;
        let host = cut(&self.setup.host);
        let Some(term) = &mut self.term else {
            return;
        };
        term.retry = None;
        let (token, nonce) = (term.token, term.nonce(number));
        let mut state = term.state.clone();
        let runs: Vec<_> = missed
            .map(|missed| self.record_missed(&mut state, missed, now))
            .into_iter()
            .collect();
        if let Some(slot) = slot.slot() {
            state.slot = state.slot.max(Some(slot));
        }
        state.open = Some(Open {
            slot,
            attempt,
            token: Some(token),
            nonce: nonce.clone(),
            host,
            at: now.wall,
            missed: stands_for,
        });
        let run = Run {
            slot,
            attempt,
            missed: stands_for,
            last_success: state.last_success,
            token,
            nonce,
        };
        self.write(state, runs, Then::Start { run, wish, more });
    }
}

/// The pause after an attempt: doubled each time, and from half of it to the whole.
fn retry_pause(first: Duration, attempt: u32, seed: u64) -> Duration {
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    let whole = first.saturating_mul(doubled).min(LONGEST_RETRY.max(first));
    let half = whole / 2;
    let random = u32::try_from(mix(seed ^ u64::from(attempt)) >> 32).unwrap_or(0);
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
