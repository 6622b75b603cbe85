//! What goes wrong in a history, and how.

use super::chance::nanos;
use super::clock::{any_rate, any_slew};
use super::daemon::Word;
use super::world::{What, World};
use crate::config::timing::SLACK;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The machine is suspended.
    Suspend,
    /// Our clock changes its rate.
    Rate,
    /// The daemon is stopped for a time (SIGSTOP), or hangs.
    DaemonStalls,
    /// The guardian is.
    GuardianStalls,
    /// The daemon is killed.
    DaemonKilled,
    /// The guardian is killed.
    GuardianKilled,
    /// The store gets a new leader.
    NewLeader,
    /// The deposed leader is heard no more.
    DeposedGone,
    /// Nothing goes to or comes from the store any more.
    CutOff,
    /// The daemon is asked to end.
    Shutdown,
    /// The job's processes end by themselves.
    JobExits,
}

impl World {
    /// Plans what goes wrong; returns whether the daemon may have to kill in its guardian's place.
    pub(super) fn plan_faults(&mut self) -> bool {
        use Fault::{
            CutOff, DaemonKilled, DaemonStalls, DeposedGone, GuardianKilled, GuardianStalls,
            JobExits, NewLeader, Rate, Shutdown, Suspend,
        };
        let some = [
            Suspend,
            Rate,
            DaemonStalls,
            GuardianStalls,
            NewLeader,
            DeposedGone,
            JobExits,
        ];
        let ends = [CutOff, CutOff, Shutdown, DaemonKilled, GuardianKilled];
        let mut faults: Vec<_> = (0..self.chance.up_to(5))
            .map(|_| self.chance.pick(&some))
            .collect();
        faults.push(self.chance.pick(&ends));
        let span = nanos(self.truth.ttl() * 3 / 2);
        for fault in &faults {
            let after = self.chance.up_to(span);
            self.after(after, What::Fault(*fault));
        }
        // Every history ends somehow.
        self.after(span, What::Fault(CutOff));
        faults.contains(&GuardianStalls) || faults.contains(&GuardianKilled)
    }

    /// Where the polite stop has begun, mistakes are made soonest.
    pub(super) fn stop_begun(&mut self) {
        if self.chance.one_in(3) {
            let after = self.chance.span(self.truth.lost_grace());
            let fault = self.chance.pick(&[
                Fault::GuardianStalls,
                Fault::DaemonStalls,
                Fault::Suspend,
                Fault::JobExits,
            ]);
            self.after(after, What::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        let steady = self.now >= self.steady_since + nanos(SLACK);
        let both_up = steady && !self.daemon.process.dead && !self.guardian.process.dead;
        match fault {
            Fault::Suspend => self.suspend(),
            Fault::Rate => {
                self.clock.rate = any_rate(&mut self.chance);
                self.clock.slew = any_slew(&mut self.chance);
                self.arm();
            }
            Fault::DaemonStalls if both_up => {
                self.daemon.process.stalled_until = self.stall();
            }
            // Where the job runs in the daemon, nobody but the guardian is left to kill it.
            Fault::GuardianStalls if both_up && self.may_stall() => {
                self.guardian.process.stalled_until = self.stall();
            }
            Fault::DaemonKilled if both_up => self.daemon_killed(),
            Fault::GuardianKilled if both_up && !self.in_daemon => {
                self.guardian.process.dead = true;
                self.tell_daemon(Word::GuardianGone);
            }
            Fault::DaemonStalls
            | Fault::GuardianStalls
            | Fault::DaemonKilled
            | Fault::GuardianKilled => {}
            Fault::NewLeader => {
                let (extends, deposed_answers) = (self.chance.one_in(2), self.chance.one_in(2));
                self.store.depose(self.now, extends, deposed_answers);
            }
            Fault::DeposedGone => self.store.deposed = None,
            Fault::CutOff => self.cut_off = true,
            Fault::Shutdown => self.tell_daemon(Word::Shutdown),
            Fault::JobExits => self.job_ends_by(self.now),
        }
    }

    /// Whether the guardian may stand still just now.
    pub(super) fn may_stall(&self) -> bool {
        let steady = self.now >= self.steady_since + nanos(SLACK);
        steady && self.relayed && !self.daemon.process.dead && !self.in_daemon
    }

    /// One of the two processes stands still; returns until when. The other never does at the same
    /// time, nor before this one had the time to run again.
    pub(super) fn stall(&mut self) -> u64 {
        let until = self.now + self.chance.up_to(nanos(self.truth.ttl() * 3 / 2));
        self.steady_since = until;
        until
    }

    fn suspend(&mut self) {
        let span = self.chance.up_to(nanos(self.truth.ttl()));
        let woken = self.now + span;
        self.clock.suspended_until = woken;
        self.steady_since = self.steady_since.max(woken);
        // A machine that sleeps when it should kill can but kill on waking.
        let killing = nanos(SLACK + self.truth.kill_budget());
        if woken + killing > self.store.expiry {
            self.excused_until = woken + killing;
        }
    }
}
