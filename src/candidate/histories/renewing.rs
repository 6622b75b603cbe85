//! The daemon's renewals and its claim: what it asks the store for, when, and what it makes of the
//! answers. When is left to chance; what they are worth is the product's to say (R1).

use std::time::Duration;

use super::Mistake;
use super::chance::nanos;
use super::daemon::Stage;
use super::store::Heard;
use super::world::World;
use crate::clock::Instant;
use crate::etcd::keep_alive::Ack;
use crate::session::deadline::is_proven;

impl World {
    pub(super) fn renew(&mut self, now: Instant) {
        let interval = nanos(self.truth.renewal_interval());
        let daemon = &mut self.daemon;
        if daemon.status.loss.is_some() || daemon.leaving {
            daemon.claims_at = None;
            return;
        }
        if daemon.claims_at.take_if(|at| now >= *at).is_some() {
            daemon.acked = daemon.status.ack;
            self.ask_store(Heard::Claim);
        }
        let daemon = &mut self.daemon;
        match daemon.stage {
            Stage::Idle { due } if now >= due => {
                daemon.stage = Stage::Renewing;
                let late = self.truth.ttl() / 2;
                daemon.gives_up_at = now + Duration::from_nanos(self.chance.span(late));
                let attempt = daemon.attempt;
                self.ask_store(Heard::Renewal { attempt, sent: now });
            }
            Stage::Renewing | Stage::Reading(_) if now >= daemon.gives_up_at => {
                let pause = self.chance.up_to(interval);
                self.next_attempt(now + Duration::from_nanos(pause));
            }
            _ => {}
        }
    }

    /// Answers to the present attempt come too late from now on.
    fn next_attempt(&mut self, due: Instant) {
        self.daemon.attempt += 1;
        self.daemon.stage = Stage::Idle { due };
    }

    pub(super) fn acknowledged(&mut self, mut ack: Ack) {
        let now = self.clock();
        if self.mistake == Some(Mistake::DeadlineFromReply) {
            ack.sent = now;
        }
        let interval = self.truth.renewal_interval();
        let daemon = &mut self.daemon;
        if !daemon.claimed {
            daemon.status.acknowledged(ack, daemon.timing);
            return self.next_attempt(ack.sent + interval);
        }
        daemon.stage = Stage::Reading(ack);
        let attempt = daemon.attempt;
        self.ask_store(Heard::Read { attempt });
    }

    pub(super) fn read(&mut self, ack: Ack, raft_term: u64) {
        let (now, interval) = (self.clock(), self.truth.renewal_interval());
        if self.proves(ack, raft_term) {
            let daemon = &mut self.daemon;
            daemon.status.proven(ack, daemon.timing);
            self.next_attempt(ack.sent + interval);
            self.elected();
        } else {
            let pause = self.chance.up_to(nanos(interval));
            self.next_attempt(now + Duration::from_nanos(pause));
        }
    }

    fn proves(&mut self, ack: Ack, read_in: u64) -> bool {
        self.daemon.newest = self.daemon.newest.max(read_in);
        if self.mistake == Some(Mistake::BelievesEveryAck) {
            return is_proven(ack, ack.raft_term, ack.raft_term);
        }
        is_proven(ack, read_in, self.daemon.newest)
    }

    pub(super) fn claimed(&mut self, raft_term: u64) {
        let acked = self.daemon.acked;
        self.daemon.claimed = true;
        // A renewal that is on its way is followed by another.
        let idle = matches!(self.daemon.stage, Stage::Idle { .. });
        if self.proves(acked, raft_term) && idle {
            let daemon = &mut self.daemon;
            daemon.status.proven(acked, daemon.timing);
            self.elected();
        } else {
            self.next_attempt(self.clock());
        }
    }
}
