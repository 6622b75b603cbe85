//! How acknowledged renewals move the deadline (R1): no I/O, no clock.

use super::Status;
use crate::clock::Instant;
use crate::etcd::keep_alive::Ack;
use crate::timing::Timing;

/// Whether a linearizable read of the own key, begun after `ack` had arrived and answered in the
/// raft term `read_in`, proves the acknowledged renewal; `newest` is the highest raft term seen.
///
/// A leader of the store that was deposed while it was frozen acknowledges renewals on waking that
/// nobody else hears of. A read never comes from such a leader.
pub const fn is_proven(ack: Ack, read_in: u64, newest: u64) -> bool {
    ack.raft_term == read_in && ack.raft_term >= newest
}

/// Whether a claim that was answered in the raft term `claimed_in` at `now` can begin its term with the
/// renewal that was acknowledged before: proven, and young enough that one more may fail.
pub fn is_enough(ack: Ack, claimed_in: u64, newest: u64, timing: Timing, now: Instant) -> bool {
    let polite_stop = timing.polite_stop(timing.deadline(ack.sent));
    is_proven(ack, claimed_in, newest) && now + timing.attempt_limit() < polite_stop
}

impl Status {
    /// A lease that was just granted, and carries no term yet.
    pub fn granted(ack: Ack, timing: Timing) -> Self {
        Self {
            deadline: timing.deadline(ack.sent),
            ack,
            proven: false,
            trouble: None,
            loss: None,
        }
    }

    /// Takes in a renewal of a lease that carries no term: its word is enough.
    pub fn acknowledged(&mut self, ack: Ack, timing: Timing) {
        self.deadline = self.deadline.max(timing.deadline(ack.sent));
        self.ack = ack;
        self.trouble = None;
    }

    /// Takes in a proven renewal of a lease that carries a term. The first sets the deadline, since
    /// what went before may have been unproven; the others never move it back. A loss is final,
    /// whatever is renewed after it.
    pub fn proven(&mut self, ack: Ack, timing: Timing) {
        if self.loss.is_some() {
            return;
        }
        let deadline = timing.deadline(ack.sent);
        self.deadline = if self.proven {
            self.deadline.max(deadline)
        } else {
            deadline
        };
        self.proven = true;
        self.trouble = None;
        if ack.sent >= self.ack.sent {
            self.ack = ack;
        }
    }
}
