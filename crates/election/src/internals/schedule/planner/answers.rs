//! Writes, and what is made of the store's answers to them.

use super::due::COUNTED;
use super::{
    AGAIN, Action, Ending, HistoryEntry, InFlight, Line, Now, Outcome, Phase, Planner, RunId,
    Running, State, Stored, Then, Time, Verdict, Write, Written, cut,
};
use crate::revision::Revision;

impl Planner {
    /// Sends a write, with all that was passed over and the store isn't told of yet.
    pub(super) fn write(&mut self, state: State, runs: Vec<(u64, HistoryEntry)>, then: Then) {
        let number = self.next_number();
        let wall = self.seen.map_or(Time::EPOCH, |seen| seen.wall);
        let host = cut(&self.setup.host);
        let Some(term) = &self.term else {
            return;
        };
        let (mut state, mut runs) = (state, runs);
        if let Some((slot, count)) = term.passed {
            let skipped = Outcome::Skipped;
            runs.push(state.without_run(slot, count, skipped, wall, host, Some(term.token)));
        }
        let last = term.stopping && matches!(then, Then::Close(_));
        let records: Vec<_> = runs.iter().map(|(seq, _)| *seq).collect();
        let trimmed = term.untrimmed.into_iter().chain(records.iter().copied());
        let trimmed = trimmed.flat_map(|seq| self.trimmed(seq));
        // What one write records and a short history has no room for is never put: etcd refuses a
        // transaction that puts a key and deletes it.
        let trimmed = trimmed.filter(|seq| !records.contains(seq));
        let newest = records.iter().max().copied().unwrap_or_default();
        let oldest = self.trimmed(newest).pop().unwrap_or_default();
        runs.retain(|(seq, _)| *seq > oldest);
        let write = Write {
            number,
            token: term.token,
            seen: term.revision,
            trimmed: trimmed.collect(),
            state,
            runs,
            last,
        };
        self.send(InFlight { write, then });
    }

    fn send(&mut self, sent: InFlight) {
        self.act(Action::Write(Box::new(sent.write.clone())));
        if let Some(term) = &mut self.term {
            term.phase = Phase::Writing(sent);
        }
    }

    pub(super) fn send_read(&mut self, fate: Option<InFlight>, refused: bool) {
        let number = self.next_number();
        self.act(Action::Read { number });
        if let Some(term) = &mut self.term {
            term.phase = Phase::Reading {
                number,
                again: None,
                fate,
                refused,
            };
        }
    }

    /// Somebody else may have written: what is not on its way is read anew.
    pub(super) fn read_anew(&mut self) {
        let number = self.number + 1;
        match self.term.as_mut().map(|term| &mut term.phase) {
            Some(Phase::Idle) => self.send_read(None, false),
            Some(Phase::Unreadable { fate }) => {
                let fate = fate.take();
                self.send_read(fate, false);
            }
            Some(Phase::Running(running)) => {
                running.look = Some(number);
                self.number = number;
                self.act(Action::Read { number });
            }
            _ => {}
        }
    }

    /// While the run goes on: what is written meanwhile, as when it has closed itself. What isn't answered
    /// is found out when it ends.
    fn looked(&mut self, stored: Stored) {
        let Some(term) = &mut self.term else {
            return;
        };
        if let Phase::Running(running) = &mut term.phase
            && let Stored::State { state, revision } = stored
        {
            let run = &running.run;
            running.look = None;
            let closed = state.has_closed(&run.id());
            // Somebody may have written what is nothing to the run: the end of a pause. Its close follows.
            if closed || state.open == term.state.open {
                self.take_in(*state, revision);
            }
        }
    }

    /// Goes on from what another wrote, or from a write of our own that was given up.
    fn take_in(&mut self, state: State, revision: Revision) {
        let Some(term) = &mut self.term else {
            return;
        };
        let (before, mark) = (term.state.mark(), state.mark());
        if mark < before {
            // The schedule was set back: all that comes after that comes anew.
            (term.passed, term.queued, term.retry) = (None, None, None);
        } else if mark > before {
            // Some of what waits, or was passed over, may be told of there.
            term.queued = term.queued.filter(|slot| *slot > mark);
            term.passed = term.passed.filter(|(slot, _)| *slot > mark);
            if let Some((slot, count)) = &mut term.passed {
                let left = self.setup.schedule.between(mark, *slot, COUNTED);
                *count = u64::try_from(left.len()).unwrap_or(u64::MAX);
            }
        }
        term.untrimmed = Some(state.seq);
        (term.state, term.revision) = (state, revision);
    }

    /// Sends the read again that was not answered.
    pub(super) fn ask_again(&mut self, now: Now) {
        if let Some(term) = &mut self.term
            && let Phase::Reading {
                again,
                fate,
                refused,
                ..
            } = &mut term.phase
            && again.is_some_and(|at| now.clock >= at)
        {
            let (fate, refused) = (fate.take(), *refused);
            self.send_read(fate, refused);
        }
    }

    pub(super) fn wrote(&mut self, number: u64, written: Written, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        let Phase::Writing(sent) = &term.phase else {
            return;
        };
        // The answer to another write may come late.
        if sent.write.number != number {
            return;
        }
        let sent = sent.clone();
        match written {
            Written::Done { revision } => self.done(sent, revision, now),
            // Refused, it may have been done before, if it was sent twice.
            Written::Refused => self.send_read(Some(sent), true),
            Written::Unknown => self.send_read(Some(sent), false),
        }
    }

    pub(super) fn read(&mut self, number: u64, stored: Stored, now: Now) {
        let Some(term) = &mut self.term else {
            return;
        };
        if let Phase::Running(running) = &term.phase
            && running.look == Some(number)
        {
            return self.looked(stored);
        }
        let Phase::Reading {
            number: expected,
            again,
            fate,
            ..
        } = &mut term.phase
        else {
            return;
        };
        if *expected != number {
            return;
        }
        let fate = fate.take();
        let (state, revision) = match stored {
            Stored::Unknown => {
                let term_again = now.clock + AGAIN;
                *again = Some(term_again);
                if let Phase::Reading { fate: kept, .. } = &mut term.phase {
                    *kept = fate;
                }
                return;
            }
            Stored::Unreadable { why, revision } => {
                term.revision = revision;
                // What it hides may be ours, and is looked for once it is mended.
                term.phase = Phase::Unreadable { fate };
                let wish = term.wish.take();
                self.say(Line::Unreadable { why });
                self.refuse_wish(wish, Verdict::Held);
                return;
            }
            Stored::Absent => (None, Revision::default()),
            Stored::State { state, revision } => (Some(*state), revision),
        };
        match fate {
            // Each put makes a revision, so none of ours was done: first, for a write may put what is
            // there already.
            Some(sent) if revision == sent.write.seen => self.send_again(sent),
            Some(sent) if state.as_ref() == Some(&sent.write.state) => {
                self.done(sent, revision, now);
            }
            fate => {
                term.phase = Phase::Idle;
                let state = state.unwrap_or_else(|| State::new(String::new(), Time::EPOCH));
                self.take_in(state, revision);
                if let Some(sent) = fate {
                    self.overtaken(&sent);
                }
            }
        }
    }

    /// The write is not there, and may come yet: the same is sent again, so that at most one of both
    /// is done.
    fn send_again(&mut self, mut sent: InFlight) {
        if let Then::Start { wish, .. } = &sent.then
            && let Some(verdict) = self.nothing_new()
            && let Some(term) = &self.term
        {
            // The claim may still come, and until then its slot can't be told of. What puts the same
            // state once more keeps it away, or is refused if it came first.
            let (wish, state) = (*wish, term.state.clone());
            self.refuse_wish(wish, verdict);
            self.write(state, Vec::new(), Then::Nothing);
            return;
        }
        sent.write.number = self.next_number();
        self.send(sent);
    }

    /// Why nothing new may start, if that is so.
    fn nothing_new(&self) -> Option<Verdict> {
        let stopping = self.term.as_ref().is_some_and(|term| term.stopping);
        match (stopping, self.paused) {
            (true, _) => Some(Verdict::Ending),
            (false, true) => Some(Verdict::Paused),
            (false, false) => None,
        }
    }

    /// Somebody else wrote instead.
    fn overtaken(&mut self, sent: &InFlight) {
        let Some(term) = &mut self.term else {
            return;
        };
        match &sent.then {
            Then::Start { wish, .. } => term.wish = term.wish.or(*wish),
            Then::Close(ending) => {
                let open = term.state.open.as_ref();
                // Still open: the end is recorded all the same. Else another did so in our place, as a
                // rule the run itself.
                if open.is_some_and(|open| open.token == Some(sent.write.token)) {
                    self.close(*ending);
                } else if let Some(last) = &sent.write.state.last
                    && term.state.has_closed(&RunId {
                        slot: last.slot,
                        attempt: last.attempt,
                        token: sent.write.token,
                        nonce: last.nonce.clone(),
                    })
                {
                    let closed = term.closed();
                    self.actions.extend(closed);
                }
            }
            Then::Nothing => {}
        }
    }

    fn done(&mut self, sent: InFlight, revision: Revision, now: Now) {
        let refused = self.nothing_new();
        let actions = &mut self.actions;
        let Some(term) = &mut self.term else {
            return;
        };
        term.state = sent.write.state;
        term.revision = revision;
        (term.passed, term.untrimmed) = (None, None);
        term.phase = Phase::Idle;
        match sent.then {
            Then::Nothing => {}
            Then::Close(ending) => actions.extend(ending.and_then(|_| term.closed())),
            Then::Start { run, wish, more } => {
                if let Some(id) = wish {
                    let verdict = refused.unwrap_or(Verdict::Claimed);
                    actions.push(Action::Answer { id, verdict });
                }
                actions.push(Action::Say(Line::Claimed {
                    slot: run.slot,
                    attempt: run.attempt,
                    missed: run.missed,
                }));
                if refused.is_none() {
                    actions.push(Action::Start(run.clone()));
                    term.phase = Phase::Running(Running {
                        run,
                        began: now.clock,
                        drain_until: None,
                        stop: None,
                        more,
                        look: None,
                    });
                } else {
                    self.close(None);
                }
            }
        }
    }

    /// Records the end of the open run; `None` takes a claim back that was certainly not started.
    pub(super) fn close(&mut self, ending: Ending) {
        let Some(term) = &self.term else {
            return;
        };
        let (state, runs) = match ending {
            None => (term.state.unclaimed(), Vec::new()),
            Some((result, exit, took)) => {
                let Some((state, record)) = term.state.closed(result, exit, took) else {
                    return;
                };
                let run = (state.seq, record);
                (state, vec![run])
            }
        };
        self.write(state, runs, Then::Close(ending));
    }
}
