//! The simulated store: leases, the queue, the records, and the leaders of the store that keep them
//! or only think they do.

use std::collections::BTreeMap;
use std::time::Duration;

mod slots;

use super::Mistake;
use crate::clock::Instant;
use crate::election::claim::Standing;
use crate::keys::LeaseId;
use crate::revision::{Revision, Token};
use crate::schedule::{Stored, Write, Written};
use crate::term::record;
use crate::term::resignation::Resignation;
pub(super) use slots::{By, Control, Done, SlotRecords, SlotWrite, WantedRun};

/// What the store is asked.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Grant {
        lease: LeaseId,
        ttl: u64,
    },
    /// The candidate key is put, unless it is there.
    Join {
        lease: LeaseId,
    },
    Renew {
        lease: LeaseId,
    },
    /// The own key is read, linearizably.
    Read {
        token: Token,
    },
    Claim {
        mine: Token,
    },
    /// The term record is written, and the term that was waited out is marked.
    Record(Recorded),
    /// The queue is read, by who is to hand over, to this one if to any in particular.
    Look {
        mine: Option<Token>,
        to: Option<LeaseId>,
    },
    /// Key and lease are given back, and a run is closed with them; unless whoever does so can't know of
    /// that yet.
    GiveBack {
        resignation: Box<Resignation>,
        close: Option<Box<Write>>,
        knows: bool,
    },
    /// The wish to step down is taken back.
    TakeBack {
        at: Revision,
    },
    /// What operators want is read.
    LookAround,
    /// The state of the schedule is read, linearizably.
    ReadSlots,
    /// It is written.
    WriteSlots {
        lease: LeaseId,
        write: Box<Write>,
    },
    /// A wish for a run is answered.
    AnswerWanted {
        lease: LeaseId,
        token: Token,
        wish: Revision,
    },
}

impl Request {
    /// Gives back as `resignation` says, at this instant.
    pub(super) fn give_back(resignation: Resignation, now: Instant) -> Self {
        let close = resignation.close.as_ref();
        Self::GiveBack {
            close: close.map(|close| Box::new(close.write_at(now))),
            resignation: Box::new(resignation),
            knows: true,
        }
    }
}

/// What a leader puts on record.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) lease: LeaseId,
    pub(super) token: Token,
    pub(super) kill_budget: Duration,
    /// The earlier term that it has waited out.
    pub(super) waited_out: Option<Token>,
}

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Granted,
    Joined {
        token: Token,
        position: i64,
    },
    Renewed,
    Read,
    First(Standing),
    Behind {
        predecessor: Token,
        /// Whether the leader is to hand over to one behind.
        makes_way: bool,
    },
    /// The lease, or the key, is gone.
    Gone,
    Done,
    Queue {
        candidates: usize,
        paused: bool,
        way: Way,
    },
    GivenBack {
        was_there: bool,
    },
    Control(Control),
    Slots(Stored),
    Wrote(Written),
}

/// A key in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) lease: LeaseId,
    /// Since when it stands there.
    pub(super) since: u64,
}

/// Whether a leader may hand over to whom it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Clear,
    /// Others are in front of it yet.
    Wait,
    /// It is not there.
    Barred,
}

/// A pause of the election.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paused {
    pub(super) at: Revision,
    pub(super) keep_leader: bool,
}

/// A wish that a term step down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wished {
    pub(super) at: Revision,
    pub(super) token: Token,
    /// Who is to follow.
    pub(super) to: Option<LeaseId>,
    /// Whether it is a preference, which a run that goes on is worth more than.
    pub(super) by_preference: bool,
}

/// A term on record whose key is gone, and of which nobody has proven that its job is dead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unproven {
    pub(super) token: Token,
    /// From then on its job is dead, as it says itself.
    pub(super) dead_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: u64,
    /// When it ends if nothing more is heard of, in true time, which is that of the store's leader.
    expiry: u64,
}

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    revision: Revision,
    leases: BTreeMap<LeaseId, Lease>,
    /// No lease ends before.
    none_ends_before: u64,
    /// By create_revision: the first leads, or will.
    pub(super) queue: BTreeMap<Token, Key>,
    pub(super) marker: Option<Token>,
    pub(super) recorded: Option<record::TermRecord>,
    pub(super) pause: Option<Paused>,
    pub(super) wish: Option<Wished>,
    /// The raft term of the leader that counts.
    pub(super) raft_term: u64,
    /// A leader that was deposed while it was frozen, and doesn't know it yet: its raft term.
    pub(super) deposed: Option<u64>,
    /// Whether there is a leader.
    pub(super) has_quorum: bool,
    /// True time.
    pub(super) now: u64,
    mistake: Option<Mistake>,
    /// The claims that were complete when they were heard, and whether the election was paused then.
    pub(super) claims: Vec<(Token, bool)>,
    /// Terms that may live yet, for all that the store was told.
    pub(super) unproven: Vec<Unproven>,
    /// A term that was marked though it may live.
    pub(super) marked_early: Option<(Token, Token)>,
    /// The keys that are gone since that was asked last, by create_revision.
    pub(super) gone: Vec<Token>,
    /// The records of a schedule.
    pub(super) slots: SlotRecords,
    /// Who wrote the state last.
    slots_by: Option<By>,
}

impl Store {
    pub(super) fn new(mistake: Option<Mistake>) -> Self {
        Self {
            revision: Revision::new(10),
            leases: BTreeMap::new(),
            none_ends_before: u64::MAX,
            queue: BTreeMap::new(),
            marker: None,
            recorded: None,
            pause: None,
            wish: None,
            raft_term: 1,
            deposed: None,
            has_quorum: true,
            now: 0,
            mistake,
            claims: Vec::new(),
            unproven: Vec::new(),
            marked_early: None,
            gone: Vec::new(),
            slots: SlotRecords::default(),
            slots_by: None,
        }
    }

    /// Takes in what arrives at `now`; returns the answer and the raft term of who gave it.
    pub(super) fn hear(&mut self, request: &Request, now: u64) -> Option<(Answer, u64)> {
        if !self.has_quorum {
            return None;
        }
        self.expire(now);
        let answer = match request {
            Request::Grant { lease, ttl } => {
                let (ttl, expiry) = (*ttl, now + *ttl);
                self.none_ends_before = self.none_ends_before.min(expiry);
                self.leases.entry(*lease).or_insert(Lease { ttl, expiry });
                Answer::Granted
            }
            Request::Join { lease } => self.join(*lease),
            Request::Renew { lease } => match self.leases.get_mut(lease) {
                Some(known) => {
                    known.expiry = known.expiry.max(now + known.ttl);
                    Answer::Renewed
                }
                None => Answer::Gone,
            },
            Request::Read { token } if self.queue.contains_key(token) => Answer::Read,
            Request::Read { .. } => Answer::Gone,
            Request::Claim { mine } => self.claim(*mine),
            Request::Record(recorded) => self.record(recorded),
            Request::Look { mine, to } => Answer::Queue {
                candidates: self.queue.len(),
                paused: self.pause.is_some(),
                way: self.way(*mine, *to),
            },
            Request::GiveBack {
                resignation,
                close,
                knows,
            } => self.give_back(resignation, close.as_deref(), *knows),
            Request::TakeBack { at } => {
                self.wish.take_if(|wish| wish.at == *at);
                Answer::Done
            }
            Request::LookAround => self.look_around(),
            Request::ReadSlots => self.read_slots(),
            Request::WriteSlots { lease, write } => self.write_slots(*lease, write),
            Request::AnswerWanted { lease, token, wish } => {
                self.answer_wanted((*lease, *token), *wish)
            }
        };
        Some((answer, self.raft_term))
    }

    fn next_revision(&mut self) -> Revision {
        self.revision = self.revision.next();
        self.revision
    }

    fn key_of(&self, lease: LeaseId) -> Option<Token> {
        let mut queue = self.queue.iter();
        queue.find_map(|(token, key)| (key.lease == lease).then_some(*token))
    }

    fn join(&mut self, lease: LeaseId) -> Answer {
        if !self.leases.contains_key(&lease) {
            return Answer::Gone;
        }
        let token = self.key_of(lease).unwrap_or_else(|| {
            let token = Token::at(self.next_revision());
            let since = self.now;
            self.queue.insert(token, Key { lease, since });
            token
        });
        let position = self.queue.range(..token).count();
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        Answer::Joined { token, position }
    }

    fn claim(&mut self, mine: Token) -> Answer {
        let there = self.queue.contains_key(&mine);
        if !there && self.mistake != Some(Mistake::ClaimWithoutOwnKey) {
            return Answer::Gone;
        }
        if let Some((&predecessor, _)) = self.queue.range(..mine).next_back() {
            let makes_way = self.must_make_way(mine);
            return Answer::Behind {
                predecessor,
                makes_way,
            };
        }
        if there {
            self.claims.push((mine, self.pause.is_some()));
        }
        Answer::First(self.standing())
    }

    /// What a claim finds.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            marker: self.marker,
            recorded: self.recorded.clone(),
            paused: self.pause.map(|pause| pause.at),
            ..Standing::default()
        }
    }

    fn record(&mut self, recorded: &Recorded) -> Answer {
        if !self.queue.contains_key(&recorded.token) {
            return Answer::Gone;
        }
        self.next_revision();
        self.recorded = Some(record::TermRecord {
            token: recorded.token,
            candidate: String::new(),
            lease: recorded.lease,
            host: String::new(),
            since: String::new(),
            kill_budget_ms: u64::try_from(recorded.kill_budget.as_millis()).ok(),
        });
        if let Some(waited_out) = recorded.waited_out {
            self.mark(waited_out, None);
        }
        Answer::Done
    }

    fn give_back(
        &mut self,
        resignation: &Resignation,
        close: Option<&Write>,
        knows: bool,
    ) -> Answer {
        if let Some(token) = resignation.token
            && self.queue.contains_key(&token)
        {
            self.remove(token);
            self.close_with_term(token, close, knows);
            if resignation.may_mark {
                self.mark(token, Some(token));
            }
            let asked = resignation.step_down;
            self.wish.take_if(|wish| Some(wish.at) == asked);
        }
        if self.mistake == Some(Mistake::LeaseIsKept) {
            return Answer::GivenBack { was_there: true };
        }
        let was_there = self.revoke(resignation.lease);
        Answer::GivenBack { was_there }
    }

    /// Revokes a lease; returns whether it was there.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> bool {
        if let Some(key) = self.key_of(lease) {
            self.remove(key);
        }
        self.leases.remove(&lease).is_some()
    }

    /// Every term up to this one is marked as dead, by `own` if it is the last itself.
    fn mark(&mut self, token: Token, own: Option<Token>) {
        let now = self.now;
        let covered = |it: &&Unproven| it.token <= token && Some(it.token) != own;
        let mut early = self.unproven.iter().filter(covered);
        if let Some(early) = early.find(|it| now < it.dead_at) {
            self.marked_early = Some((token, early.token));
        }
        self.marker = Some(token);
        self.unproven.retain(|it| it.token > token);
    }

    /// Whether the lease is there.
    pub(super) fn holds(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// Deletes a key.
    pub(super) fn remove(&mut self, key: Token) {
        if let Some(term) = self.recorded.as_ref().filter(|term| term.token == key) {
            let budget = term.kill_budget_ms.unwrap_or(0) * 1_000_000;
            self.unproven.push(Unproven {
                token: key,
                dead_at: self.now + budget,
            });
        }
        self.next_revision();
        self.queue.remove(&key);
        self.gone.push(key);
    }

    /// Whether the first of the queue has the term on record.
    pub(super) fn is_led(&self) -> bool {
        let term = self.recorded.as_ref().map(|term| term.token);
        let first = self.queue.first_key_value();
        first.is_some_and(|(token, _)| term == Some(*token))
    }

    /// An operator pauses the election, or ends the pause.
    pub(super) fn turn_pause(&mut self, keep_leader: bool) {
        let at = self.next_revision();
        self.pause = match self.pause {
            None => Some(Paused { at, keep_leader }),
            Some(_) => None,
        };
    }

    /// An operator asks who stands in front to step down.
    pub(super) fn wish(&mut self) {
        let at = self.next_revision();
        let first = self.queue.keys().next().copied();
        self.wish = first.map(|token| Wished {
            at,
            token,
            to: None,
            by_preference: false,
        });
    }

    /// A term is asked to go over to the candidate with this lease, if it goes on.
    pub(super) fn wish_for(&mut self, token: Token, to: LeaseId) -> bool {
        if !self.has_quorum || !self.queue.contains_key(&token) {
            return false;
        }
        let at = self.next_revision();
        self.wish = Some(Wished {
            at,
            token,
            to: Some(to),
            by_preference: true,
        });
        true
    }

    /// How the leader with this key stands to the one that is to follow, if any is.
    fn way(&self, mine: Option<Token>, to: Option<LeaseId>) -> Way {
        let Some(to) = to else { return Way::Clear };
        match (mine, self.key_of(to)) {
            (Some(mine), Some(chosen)) if mine < chosen => {
                let mut between = self.queue.range(mine..chosen).skip(1);
                between.next().map_or(Way::Clear, |_| Way::Wait)
            }
            _ => Way::Barred,
        }
    }

    /// Whether the candidate with this key stands between a leader and the one it is to hand over to.
    fn must_make_way(&self, mine: Token) -> bool {
        let Some(wish) = self.wish else { return false };
        let first = self.queue.keys().next().copied();
        let chosen = wish.to.and_then(|to| self.key_of(to));
        Some(wish.token) == first && wish.token < mine && chosen.is_some_and(|it| mine < it)
    }

    /// The last revision that was given out: all elections of a store have them in common.
    pub(super) const fn revision_mut(&mut self) -> &mut Revision {
        &mut self.revision
    }

    /// Somebody of another program joins, under a lease that lasts so long.
    pub(super) fn join_foreign(&mut self, lease: LeaseId, now: u64, span: u64) {
        let (ttl, expiry) = (span, now + span);
        self.none_ends_before = self.none_ends_before.min(expiry);
        self.leases.insert(lease, Lease { ttl, expiry });
        self.join(lease);
    }

    /// What is over by now ends.
    pub(super) fn expire(&mut self, now: u64) {
        if !self.has_quorum || now < self.none_ends_before {
            return;
        }
        let over = |(lease, known): (&LeaseId, &Lease)| (known.expiry <= now).then_some(*lease);
        let ended: Vec<_> = self.leases.iter().filter_map(over).collect();
        for lease in ended {
            self.revoke(lease);
        }
        let expiries = self.leases.values().map(|lease| lease.expiry);
        self.none_ends_before = expiries.min().unwrap_or(u64::MAX);
    }

    /// When to look next whether a lease ends.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        let next = self.none_ends_before;
        (self.has_quorum && next < u64::MAX).then_some(next)
    }

    /// When the lease of the candidate with this key ends, if nothing more is heard of it.
    pub(super) fn expiry_of(&self, key: Token) -> Option<u64> {
        let lease = self.queue.get(&key)?.lease;
        Some(self.leases.get(&lease)?.expiry)
    }

    /// How many leases there are.
    pub(super) fn leases(&self) -> usize {
        self.leases.len()
    }

    /// A new leader is elected. At best it gives every lease its whole TTL again.
    pub(super) fn depose(&mut self, now: u64, extends: bool, deposed_answers: bool) {
        self.expire(now);
        self.deposed = deposed_answers.then_some(self.raft_term);
        self.raft_term += 1;
        if extends {
            for lease in self.leases.values_mut() {
                lease.expiry = now + lease.ttl;
            }
        }
    }

    /// The leader is gone, and nobody can be elected; no lease ends meanwhile.
    pub(super) fn lose_quorum(&mut self, now: u64) {
        self.expire(now);
        self.has_quorum = false;
    }

    /// There is a leader again.
    pub(super) fn regain_quorum(&mut self, now: u64) {
        if !self.has_quorum {
            self.has_quorum = true;
            // Nothing ended while nobody could end it.
            let late = self.leases.values_mut().filter(|lease| lease.expiry <= now);
            late.for_each(|lease| lease.expiry = now + 1);
            self.none_ends_before = now + 1;
            self.depose(now, true, false);
        }
    }
}
