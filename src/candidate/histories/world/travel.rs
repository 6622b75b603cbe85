//! What travels between the machines and the store.

use std::time::Duration;

use super::super::chance::nanos;
use super::super::daemon::Word;
use super::super::faults::Mood;
use super::super::store::{Answer, Request};
use super::{Asker, What, World};
use crate::revision::Token;

impl World {
    pub(in crate::candidate::histories) const fn next_number(&mut self) -> u64 {
        self.number += 1;
        // Not one that a contest gives.
        self.number | 1 << 63
    }

    fn is_cut_off(&mut self, at: usize) -> bool {
        let lost = !self.is_quick() && self.chance.one_in(60);
        lost || self.now < self.machines[at].cut_off_until
    }

    pub(in crate::candidate::histories) fn travel(&mut self) -> u64 {
        if self.is_quick() {
            self.chance.up_to(2_000_000)
        } else {
            self.chance.delay(Duration::from_secs(4))
        }
    }

    /// Whether the network loses and delays nothing.
    fn is_quick(&self) -> bool {
        self.calm || self.mood != Mood::Rough
    }

    /// A request sets out for the store, and may be late, or lost.
    pub(in crate::candidate::histories) fn ask_store(
        &mut self,
        at: usize,
        asker: Asker,
        number: u64,
        request: Request,
    ) {
        let request = match request {
            // Whatever the product takes it for.
            Request::Grant { lease, .. } => Request::Grant {
                lease,
                ttl: nanos(self.machines[at].truth.ttl()),
            },
            request => request,
        };
        if matches!(request, Request::WriteSlots { .. }) {
            self.slots_asked(at);
        }
        if !self.is_cut_off(at) {
            let after = self.travel();
            let request = Box::new(request);
            self.after(after, What::Store(at, asker, number, request));
        }
    }

    pub(in crate::candidate::histories) fn store_hears(
        &mut self,
        at: usize,
        asker: Asker,
        number: u64,
        request: &Request,
    ) {
        if matches!(request, Request::WriteSlots { .. }) {
            self.slots_heard();
        }
        let heard = match self.reaches_deposed(request) {
            // Nobody else hears of it.
            Some(raft_term) => Some((Answer::Renewed, raft_term)),
            None => self.store.hear(request, self.now),
        };
        if let Some((answer, raft_term)) = heard
            && !self.is_cut_off(at)
        {
            let after = self.travel();
            let answer = Box::new(answer);
            self.after(after, What::Answer(at, asker, number, answer, raft_term));
        }
        self.store_changed();
    }

    pub(in crate::candidate::histories) fn answer(
        &mut self,
        at: usize,
        asker: Asker,
        number: u64,
        answer: Answer,
        raft_term: u64,
    ) {
        match asker {
            Asker::Daemon(daemon) if self.machines[at].daemon.number == daemon => {
                self.tell_daemon(at, Word::Answer(number, answer, raft_term));
            }
            Asker::Guardian(guardian) => {
                self.guardian_is_answered(at, guardian, number, &answer);
            }
            Asker::Hook => self.hook_is_answered(at, number),
            Asker::Daemon(_) | Asker::Nobody => {}
        }
    }

    /// Watches tell of what is gone, and the next lease ends some time.
    pub(in crate::candidate::histories) fn store_changed(&mut self) {
        for key in std::mem::take(&mut self.store.gone) {
            for at in 0..self.machines.len() {
                let after = self.watched(at, Some(key));
                self.after(after, What::Gone(at, key));
            }
        }
        if std::mem::take(&mut self.store.slots.is_changed) {
            let seen = self.store.slots.seen;
            for at in 0..self.machines.len() {
                if self.machines[at].daemon.contest.leads() {
                    let after = self.watched(at, None);
                    self.after(after, What::Slots(at, seen));
                }
            }
        }
        // A renewal puts it off; then that is found when it would have come.
        if let Some(expiry) = self.store.next_expiry()
            && self.expiry_planned.is_none_or(|planned| expiry < planned)
        {
            let expiry = expiry.max(self.now + 1);
            self.expiry_planned = Some(expiry);
            self.at(expiry, What::Expiry);
        }
    }

    pub(in crate::candidate::histories) fn control_changed(&mut self) {
        for at in 0..self.machines.len() {
            let after = self.watched(at, None);
            self.after(after, What::Control(at));
        }
    }

    /// How long a watch takes to tell. It may be late, or break and be opened anew; not so for the own
    /// key where strangers delete it, since then nothing else tells of it in time (R7).
    fn watched(&mut self, at: usize, key: Option<Token>) -> u64 {
        let own = key.is_some() && key == self.machines[at].daemon.contest.mine();
        let after = if self.calm || (own && self.mood == Mood::Strange) {
            self.chance.up_to(2_000_000)
        } else {
            self.travel()
        };
        after + self.machines[at].cut_off_until.saturating_sub(self.now)
    }
}
