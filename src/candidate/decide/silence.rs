//! What the guardian was told of a term, and when its silence means that it is dead or stopped.

use std::time::Duration;

use crate::clock::Instant;
use crate::config::timing::Timing;
use crate::guardian::protocol::{Report, Request, TermSpec};
use crate::revision::Token;

/// How long after D−K a guardian that is seen to act may take at most to prove the tree empty before
/// it is taken for stopped.
const ACTING_LATE: Duration = Duration::from_millis(100);

/// From one word of a guardian that is killing to its silence. It kills before it says so again, so
/// that little is left to K by then; a machine that is busy may hold its words up for as long.
const KILLING_SILENT: Duration = Duration::from_millis(300);

/// The same within K, which must do for the death of the tree as well (R2).
fn acting_late(timing: &Timing) -> Duration {
    ACTING_LATE.min(timing.kill_budget() / 2)
}

/// What was said to the guardian, and what it said of itself.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// What it was told of the present term.
    sent: Option<Sent>,
    /// The last term and deadline that it has acknowledged.
    acknowledged: Option<(Token, Instant)>,
    /// It said that it stops the present term, so it knows of the deadline and acts on it.
    acting: bool,
    /// When it last said that it is killing: it is at work, however long that takes.
    killing: Option<Instant>,
    /// When it was first told to kill the tree at once.
    to_kill: Option<Instant>,
}

/// What the guardian was told of a term.
#[derive(Clone, Copy, Debug)]
struct Sent {
    token: Token,
    /// The deadline that the term was sent with.
    first: Instant,
    /// The deadline that was sent last.
    last: Instant,
    /// How many acknowledgements are on their way: each term and each deadline brings one.
    pending: u32,
    /// How many of them come until that of the term as it was sent last.
    until_taken: u32,
}

impl Silence {
    /// The guardian is asked for this.
    pub(super) fn asked(&mut self, request: &Request, now: Instant) {
        match request {
            Request::Term(term) => self.term(term),
            // The term is lost already.
            Request::Kill { .. } => _ = self.to_kill.get_or_insert(now),
            _ => {}
        }
    }

    /// The guardian is told of a term, or of what changed in it.
    fn term(&mut self, term: &TermSpec) {
        let before = self.sent.filter(|sent| sent.token == term.token);
        let pending = before.map_or(0, |sent| sent.pending) + 1;
        self.sent = Some(Sent {
            token: term.token,
            first: term.deadline,
            last: term.deadline,
            pending,
            until_taken: pending,
        });
        self.acting = false;
        if before.is_none() {
            self.to_kill = None;
        }
    }

    /// Whether the guardian is to be told of this deadline: it is later than the last one, and it
    /// guards this term. Once it stops the term a later deadline saves nothing.
    pub(super) fn deadline(&mut self, token: Token, deadline: Instant) -> bool {
        let sent = self.sent.as_mut().filter(|sent| {
            let later = sent.token == token && sent.last < deadline;
            later && !self.acting
        });
        sent.map(|sent| {
            sent.last = deadline;
            sent.pending += 1;
        })
        .is_some()
    }

    /// Whether the guardian has acknowledged the term as it was sent last.
    pub(super) fn acked(&self, token: Token) -> bool {
        self.sent
            .is_some_and(|sent| sent.token == token && sent.until_taken == 0)
    }

    /// Takes note of what the guardian's words say about itself.
    pub(super) fn heard(&mut self, report: &Report, now: Instant) {
        match report {
            Report::Stopping { .. } => self.acting = true,
            Report::Killing | Report::Stuck { .. } => self.killing = Some(now),
            // Nothing of the tree is left to kill, whatever a Rust job does yet.
            Report::Empty { .. } => self.to_kill = None,
            Report::Guarded { token, deadline } => {
                self.acknowledged = Some((*token, *deadline));
                if let Some(sent) = &mut self.sent
                    && sent.token == *token
                {
                    sent.pending = sent.pending.saturating_sub(1);
                    sent.until_taken = sent.until_taken.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    /// When the guardian is to be taken for dead or stopped, unless it is heard before: at D−G−K of
    /// the deadline that it acknowledged last if a later one was sent to it, else at the latest
    /// when it should have killed the tree.
    pub(super) fn silent_at(&self, timing: &Timing) -> Option<Instant> {
        let Sent {
            token, first, last, ..
        } = self.sent?;
        let acknowledged = self
            .acknowledged
            .filter(|(acknowledged, _)| *acknowledged == token)
            .map(|(_, deadline)| deadline);
        let silent_at = match acknowledged {
            Some(acknowledged) if self.acting => timing.kill(acknowledged) + acting_late(timing),
            Some(acknowledged) if acknowledged >= last => timing.kill(last),
            Some(acknowledged) => timing.polite_stop(acknowledged),
            // Not even the term itself. That the lease is renewed meanwhile gives it no more time:
            // this candidate would lead for ever and run nothing.
            None => timing.polite_stop(first),
        };
        // The term was lost before its deadline: from then on the next leader waits for no more
        // than K, so the deadline gives no time any more (R7, R13).
        let unkilled = self.to_kill.map(|at| at + acting_late(timing));
        let silent_at = unkilled.map_or(silent_at, |unkilled| silent_at.min(unkilled));
        // Given up for silence alone: while it kills in vain, it is who renews after the daemon's end.
        let heard = self.killing.map(|at| at + KILLING_SILENT);
        Some(heard.map_or(silent_at, |heard| silent_at.max(heard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;

    const TOKEN: Token = Token::at(Revision::new(7));

    /// Of a guardian that was told of the term 7, and has acknowledged it.
    fn of_term(timing: &Timing, deadline: Instant) -> Silence {
        let mut silence = Silence::default();
        let token = TOKEN;
        let term = TermSpec {
            token,
            deadline,
            graces: timing.graces(),
            stop_signal: 15,
            in_daemon: false,
        };
        silence.asked(&Request::Term(term), Instant::BOOT);
        silence.heard(&Report::Guarded { token, deadline }, Instant::BOOT);
        silence
    }

    #[test]
    fn a_guardian_that_is_told_to_kill_and_does_not_is_given_up_on_within_k() {
        let deadline = Instant::from_nanos(20_000_000_000);
        let lost = Instant::from_nanos(9_000_000_000);
        for kill_budget in [10, 47, 200, 1000].map(Duration::from_millis) {
            let timing = Timing::new(Duration::from_secs(15), Duration::ZERO, kill_budget);
            let mut silence = of_term(&timing, deadline);
            silence.asked(&Request::Kill { token: TOKEN }, lost);
            // Said again, it is given no more time.
            silence.asked(&Request::Kill { token: TOKEN }, deadline);
            let silent_at = silence.silent_at(&timing).unwrap();
            assert!(silent_at > lost);
            assert!(silent_at + kill_budget / 2 <= lost + kill_budget);
        }
    }

    #[test]
    fn a_guardian_that_acts_is_given_up_on_while_k_can_still_do_for_a_kill() {
        let deadline = Instant::from_nanos(20_000_000_000);
        for kill_budget in [10, 47, 200, 1000].map(Duration::from_millis) {
            let timing = Timing::new(Duration::from_secs(15), Duration::ZERO, kill_budget);
            let mut silence = of_term(&timing, deadline);
            silence.heard(&Report::Stopping { token: TOKEN }, deadline);
            let silent_at = silence.silent_at(&timing).unwrap();
            assert!(silent_at > timing.kill(deadline));
            assert!(silent_at + kill_budget / 2 <= deadline, "{kill_budget:?}");
        }
    }

    #[test]
    fn a_guardian_that_kills_is_given_up_on_for_silence_alone() {
        let deadline = Instant::from_nanos(20_000_000_000);
        for kill_budget in [10, 47, 200, 1000].map(Duration::from_millis) {
            let timing = Timing::new(Duration::from_secs(15), Duration::ZERO, kill_budget);
            let mut silence = of_term(&timing, deadline);
            silence.heard(&Report::Stopping { token: TOKEN }, deadline);
            silence.asked(&Request::Kill { token: TOKEN }, timing.kill(deadline));
            let mut now = timing.kill(deadline);
            // Long past the deadline, since its job can't be killed.
            for _ in 0..1_000 {
                silence.heard(&Report::Killing, now);
                let silent_at = silence.silent_at(&timing).unwrap();
                assert!(silent_at > now + Duration::from_millis(100));
                assert!(silent_at <= now + Duration::from_millis(500));
                now = now + Duration::from_millis(100);
            }
        }
    }
}
