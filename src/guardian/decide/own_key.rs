//! The key of the own term, where nobody else watches it: strangers may end a term whose daemon is dead,
//! or stands still, while what runs is stopped politely.

use std::time::Duration;

use super::{Daemon, GuardAction, TermGuard};
use crate::clock::Instant;
use crate::keys::LeaseId;
use crate::reason::EndReason;

/// Between two looks for the own key. `takeover_delay` is longer than the kill budget by at least twice
/// that (R13).
const LOOK: Duration = Duration::from_millis(100);

impl TermGuard {
    /// When the own key is looked for: while something is to be spared, what runs or the hook that would
    /// follow, and the daemon, which would watch it, is dead or stands still.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let guarded = self.term.as_ref().filter(|guarded| !guarded.over)?;
        let alone = self.daemon != Daemon::Alive || guarded.late;
        let spared = self.killing().is_none() || guarded.at_end.is_some();
        let spared = self.tree.is_some() && spared;
        (alone && (spared || self.daemon_kill_at().is_some())).then_some(self.next_look)
    }

    pub(super) fn look(&mut self, now: Instant) {
        self.next_look = now + LOOK;
        let token = self.term.as_ref().map(|guarded| guarded.term.token);
        let lease = token.and_then(|token| self.lease_of(token));
        if let Some(own) = lease.and_then(|lease| self.leases.get(&lease)) {
            let own = own.resignation.clone();
            self.act(GuardAction::LookForKey(own));
        }
    }

    /// Somebody has ended the term, and another may lead before the polite stop is over: what runs is
    /// killed at once (R7), and no hook runs at its end.
    pub(super) fn key_gone(&mut self, lease: LeaseId, now: Instant) {
        let Some(guarded) = &self.term else { return };
        let token = guarded.term.token;
        if self.lease_of(token) != Some(lease) || self.look_at().is_none() {
            return;
        }
        self.skip_at_end(token);
        self.kill_tree(now);
        if self.daemon_kill_at().is_some() {
            self.say_lost(token, EndReason::Deleted);
            self.kill_daemon(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::GuardEvent;
    use super::super::tests::{guarding, hook_begins, in_daemon, running, with_hook};
    use super::LeaseId;

    fn gone() -> GuardEvent {
        GuardEvent::KeyGone {
            lease: LeaseId::new(0x1f).unwrap(),
        }
    }

    #[test]
    fn the_key_of_a_dead_daemon_is_looked_for_until_its_job_is_dead_or_to_be_killed() {
        running()
            .looks(900, &[])
            .closes(1_000)
            .looks(1_000, &["1f"])
            .looks(1_099, &[])
            .looks(1_100, &["1f"])
            .at(1_200, gone(), &["kill tree"])
            .looks(1_200, &[])
            .at(1_200, gone(), &[])
            .at(
                1_201,
                GuardEvent::TreeEmpty,
                &["empty 7, killed", "say job of 1f killed after 201"],
            )
            .looks(1_300, &[]);
    }

    #[test]
    fn the_key_of_a_daemon_that_stands_still_is_looked_for_once_the_polite_stop_has_begun() {
        running()
            .at(6_999, gone(), &[])
            .looks(6_999, &[])
            .at(7_000, GuardEvent::Tick, &["stopping 7", "stop tree by 15"])
            .looks(7_100, &["1f"])
            .at(7_200, gone(), &["kill tree"]);
        let mut play = guarding();
        play.at(0, in_daemon(), &["guarded 7 until 10000"])
            .at(7_000, GuardEvent::Tick, &["stopping 7", "empty 7"])
            .looks(7_100, &["1f"])
            .at(
                7_200,
                gone(),
                &["say term lost 7 of 1f: deleted", "kill daemon"],
            )
            .looks(7_300, &[]);
    }

    #[test]
    fn no_hook_runs_at_the_end_of_a_term_that_strangers_have_ended() {
        let mut play = running();
        with_hook(&mut play);
        play.closes(1_000).at(1_000, gone(), &["kill tree"]).at(
            1_001,
            GuardEvent::TreeEmpty,
            &["empty 7, killed", "say job of 1f killed after 1"],
        );
        // Nor where the job is being killed already.
        let mut play = running();
        with_hook(&mut play);
        play.closes(1_000)
            .at(3_000, GuardEvent::Tick, &["kill tree"])
            .looks(3_100, &["1f"])
            .at(3_101, gone(), &[])
            .looks(3_200, &[])
            .at(
                3_201,
                GuardEvent::TreeEmpty,
                &["empty 7, killed", "say job of 1f killed after 2201"],
            );
        hook_begins()
            .at(1_200, GuardEvent::DaemonClosed, &["kill daemon"])
            .at(1_300, gone(), &["kill tree"]);
    }
}
