//! What `incumbent status` tells: who leads, and who stands in the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::election::queue;
use crate::etcd::patience::Failure;
use crate::etcd::{Lifetime, Patience, Store};
use crate::keys::{LeaseId, Prefix};
use crate::revision::{Revision, Token};
use crate::schedule::record::{HistoryEntry, Last, Open, State};
use crate::schedule::{Schedule, Slot};
use crate::term::history::read_past;
use crate::term::record::{PastTerm, PauseRecord, Record, Turn, Unkillable};
use crate::term::run_book::RunBook;
use crate::wall::Time;

/// What to say of a key that blocks the queue and is that of the last term on record: to delete it
/// is nobody's to do but the next candidate's, which waits for the job first.
pub(crate) const OF_LAST_TERM: &str =
    "the key of the last term, off its lease, which has ended: the next candidate takes it away";

/// An election at one revision; as JSON the very shape of `status -o json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ElectionStatus {
    /// The election's prefix.
    pub election: Prefix,
    /// The leader; `None` if there is nobody, if the queue is blocked before anybody, or if the first
    /// in it has no complete claim.
    pub leader: Option<CandidateStatus>,
    /// All candidates in order, the leader included.
    pub queue: Vec<CandidateStatus>,
    /// Keys under the prefix that are no candidates and block those behind them.
    pub blocked_by: Vec<String>,
    /// Whether the election is paused.
    pub paused: bool,
    /// Who paused it and how; only where that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseRecord>,
    /// Its job's schedule, if it has one, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// Who should lead, the first before the second, by the configuration of who asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
    /// The token of the first in line, which doesn't lead, and what it waits for; not part of the
    /// JSON, as all that follows but the last two.
    #[serde(skip)]
    pub waits: Option<(Token, String)>,
    /// The one among the keys that block whose term is the last on record.
    #[serde(skip)]
    pub last_term: Option<String>,
    /// The keys of records that can't be read.
    #[serde(skip)]
    pub unreadable: Vec<String>,
    /// Every term up to this token was proven dead or waited out.
    pub marker: Option<Token>,
    /// The revision at which all of this was so.
    pub revision: Revision,
}

/// The schedule of an election's job, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ScheduleStatus {
    /// The schedule in words, by the configuration of who asks.
    pub words: Option<String>,
    /// The next slot, by that configuration.
    pub next: Option<Slot>,
    /// How that reads in the schedule's zone.
    pub next_local: Option<String>,
    /// The run that is open.
    pub open: Option<Open>,
    /// The last run that is over.
    pub last: Option<Last>,
    /// The last slot that was a success.
    pub last_success: Option<Slot>,
    /// So many slots in a row failed.
    pub failures: u64,
    /// So many slots were never run: missed or skipped.
    pub missed: u64,
    /// Whether the schedule on record is another than that of the configuration; not part of the
    /// JSON.
    #[serde(skip)]
    pub is_another: bool,
    /// Which one is on record.
    #[serde(skip)]
    spec: Option<String>,
    /// No slot up to this one is due.
    #[serde(skip)]
    mark: Option<Slot>,
}

impl ScheduleStatus {
    /// What the record of the state tells.
    pub(crate) fn of(state: &State) -> Self {
        Self {
            open: state.open.clone(),
            last: state.last.clone(),
            last_success: state.last_success,
            failures: state.failures,
            missed: state.missed,
            spec: Some(state.spec.clone()),
            mark: Some(state.mark()),
            ..Self::default()
        }
    }
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CandidateStatus {
    /// Its place in the queue, from 0.
    pub position: usize,
    /// Its name.
    pub name: String,
    /// Its lease.
    pub lease: LeaseId,
    /// `create_revision` of its key; its fencing token once it leads.
    pub token: Token,
    /// Its key.
    pub key: String,
    /// The lease's TTL in seconds; 0 where it isn't known.
    pub ttl: u64,
    /// What is left of it, in seconds, as the store counts.
    pub lease_remaining_s: Option<u64>,
    /// The host it runs on; like all that follows, unknown of candidates that are not ours.
    pub host: Option<String>,
    /// Its daemon's process id.
    pub pid: Option<u32>,
    /// Its daemon's version.
    pub version: Option<String>,
    /// Since when it leads, if there is a record of its term, or else has been waiting; RFC 3339.
    pub since: Option<String>,
    /// Its `election.*`, `job.*` or `hooks.*` aren't the leader's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub differs: bool,
    /// What of its job was sent SIGKILL and lives on; only where there is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unkillable: Vec<Unkillable>,
    /// Its turn at the cold start that it joined in; only of who joined in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// Something has taken its key off its lease; not part of the JSON.
    #[serde(skip)]
    pub off_lease: bool,
    /// It is one of another program, which heeds no pause; not part of the JSON.
    #[serde(skip)]
    pub foreign: bool,
}

/// What a pause is to who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InPause<'a> {
    /// Nobody does.
    Nobody,
    /// It goes on, as asked.
    Kept,
    /// It stops its job, and gives its place up.
    Stops(&'a CandidateStatus),
    /// It goes on, since it heeds no pause.
    Deaf(&'a CandidateStatus),
}

impl ElectionStatus {
    /// What its pause is to the leader; one that can't be read keeps nobody.
    pub(crate) fn in_pause(&self) -> InPause<'_> {
        let keeps = self.pause.as_ref().is_some_and(|pause| pause.keep_leader);
        match &self.leader {
            None => InPause::Nobody,
            Some(_) if keeps => InPause::Kept,
            Some(leader) if leader.foreign => InPause::Deaf(leader),
            Some(leader) => InPause::Stops(leader),
        }
    }

    /// Reads the status of the election under `prefix`.
    ///
    /// The queue is read in one transaction, the leases one by one after it; what can't be learnt
    /// of a lease within the patience stays unknown.
    ///
    /// # Errors
    /// If the queue can't be read.
    pub(crate) async fn read(
        store: &Store,
        prefix: &Prefix,
        patience: &Patience,
    ) -> Result<Self, Failure> {
        let queue = queue::Queue::ask(store, patience, prefix).await?;
        Ok(Self::with_lifetimes(store, prefix, queue, patience.attempt()).await)
    }

    /// The status of a queue that was read; its leases are asked for at most `limit`.
    pub(crate) async fn with_lifetimes(
        store: &Store,
        prefix: &Prefix,
        queue: queue::Queue,
        limit: Duration,
    ) -> Self {
        let leases = queue.candidates.iter().map(|candidate| candidate.lease);
        let lifetimes = lifetimes(store, leases, limit).await;
        Self::of(prefix, queue, &lifetimes)
    }

    /// With what this schedule has ahead: that of the asker's configuration, if that has one.
    #[must_use]
    pub(crate) fn with_schedule(mut self, schedule: Option<&Schedule>, now: Time) -> Self {
        let Some(schedule) = schedule else {
            return self;
        };
        let mut status = self.schedule.take().unwrap_or_default();
        let now = Slot::up_to(now);
        status.next = schedule.next(status.mark.map_or(now, |mark| mark.max(now)));
        status.next_local = status.next.map(|next| schedule.with_offset(next));
        status.words = Some(schedule.words());
        status.is_another = status.spec.as_ref().is_some_and(|it| it != schedule.spec());
        self.schedule = Some(status);
        self
    }

    /// The election below this one that a key which blocks the queue is of, if it looks like one's.
    pub(crate) fn election_below<'a>(&self, key: &'a str) -> Option<&'a str> {
        let below = key.strip_prefix(self.election.candidates().as_str())?;
        let of_records = below.find(".meta/");
        let of_candidate = || {
            let at = below.rfind('/')?;
            let other = Prefix::new(&key[..key.len() - below.len() + at]);
            other.lease_of(key.as_bytes()).map(|_| at)
        };
        let at = of_records.or_else(of_candidate)?;
        Some(&key[..key.len() - below.len() + at])
    }

    /// With who should lead by the asker's configuration.
    #[must_use]
    pub(crate) fn with_preference(mut self, prefer: &[String]) -> Self {
        self.prefer = prefer.to_vec();
        self
    }

    /// Who waits and is preferred to the leader, if anybody is.
    pub(crate) fn better(&self) -> Option<&CandidateStatus> {
        let place = |candidate: &CandidateStatus| {
            let place = self.prefer.iter().position(|name| *name == candidate.name);
            place.unwrap_or(usize::MAX)
        };
        let leader = place(self.leader.as_ref()?);
        let better = self.queue.iter().filter(|it| place(it) < leader);
        better.min_by_key(|it| place(it))
    }

    /// What is wrong with it, if anything is; of several things the worst.
    pub(crate) fn trouble(&self) -> Option<String> {
        let stuck = self.queue.iter().find_map(|candidate| {
            let (name, stuck) = (&candidate.name, candidate.stuck()?);
            Some(format!("the job of {name} can't be killed: {stuck}"))
        });
        let blocked = || {
            let key = self.blocked_by.first()?;
            Some(format!("blocked by {key}"))
        };
        // Nobody is wanted while it is paused.
        let nobody = || (self.leader.is_none() && !self.paused).then(|| "nobody leads".to_owned());
        let fails = || {
            let failures = self.schedule.as_ref()?.failures;
            (failures > 1).then(|| format!("{failures} slots in a row failed"))
        };
        let differs = || {
            let other = self.queue.iter().find(|candidate| candidate.differs)?;
            Some(format!(
                "the settings of {} aren't the leader's",
                other.name
            ))
        };
        let found = stuck.or_else(blocked).or_else(nobody);
        found.or_else(fails).or_else(differs)
    }

    /// Without what changes by itself: the time that the leases have left, and the revision.
    #[must_use]
    pub(crate) fn without_time(&self) -> Self {
        let mut status = self.clone();
        status.revision = Revision::default();
        for candidate in status.leader.iter_mut().chain(&mut status.queue) {
            candidate.lease_remaining_s = None;
            candidate.ttl = 0;
        }
        status
    }

    fn of(prefix: &Prefix, queue: queue::Queue, lifetimes: &BTreeMap<LeaseId, Lifetime>) -> Self {
        let leader = queue.leader();
        let digest = leader.and_then(|leader| digest(leader)).cloned();
        let leads = leader.map(|leader| leader.token);
        let first = queue.first().filter(|_| leader.is_none());
        let waits = first.map(|first| first.token).zip(queue.waits.clone());
        let candidates = queue.candidates.iter().enumerate();
        let all: Vec<CandidateStatus> = candidates
            .map(|(position, candidate)| {
                let lifetime = lifetimes.get(&candidate.lease);
                let member = candidate.member.as_ref().and_then(Record::as_ref);
                let term = queue
                    .term
                    .as_ref()
                    .filter(|term| candidate.member.is_some() && term.token == candidate.token);
                let differs = match (digest.as_ref(), self::digest(candidate)) {
                    (Some(leaders), Some(own)) => leaders != own,
                    _ => false,
                };
                CandidateStatus {
                    position,
                    name: candidate.name.clone(),
                    lease: candidate.lease,
                    token: candidate.token,
                    key: candidate.key.clone(),
                    ttl: lifetime.map_or(0, |lifetime| lifetime.granted.as_secs()),
                    lease_remaining_s: lifetime.map(|lifetime| lifetime.remaining.as_secs()),
                    since: term
                        .map(|term| term.since.clone())
                        .or_else(|| member.map(|member| member.since.clone())),
                    host: member.map(|member| member.host.clone()),
                    pid: member.map(|member| member.pid),
                    version: member.map(|member| member.version.clone()),
                    differs,
                    unkillable: member.map_or_else(Vec::new, |it| it.unkillable.clone()),
                    turn: member.and_then(|it| it.turn),
                    off_lease: candidate.off_lease,
                    foreign: candidate.member.is_none(),
                }
            })
            .collect();
        let recorded = queue.term.as_ref().map(|term| term.token);
        let last_term = queue
            .blocked_by
            .iter()
            .find(|(at, _)| Some(*at) == recorded.map(Token::revision));
        Self {
            election: prefix.clone(),
            leader: all
                .first()
                .filter(|first| leads == Some(first.token))
                .cloned(),
            queue: all,
            last_term: last_term.map(|(_, key)| key.clone()),
            blocked_by: queue.blocked_by.into_iter().map(|(_, key)| key).collect(),
            paused: queue.pause.is_some(),
            pause: queue.pause.and_then(Record::read),
            schedule: queue
                .schedule
                .and_then(Result::ok)
                .map(|state| ScheduleStatus::of(&state)),
            prefer: Vec::new(),
            waits,
            unreadable: queue.unreadable,
            marker: queue.marker,
            revision: queue.revision,
        }
    }
}

impl CandidateStatus {
    /// The processes of its job that can't be killed in one line, if there are any.
    pub(crate) fn stuck(&self) -> Option<String> {
        let each: Vec<String> = self.unkillable.iter().map(ToString::to_string).collect();
        (!each.is_empty()).then(|| each.join(", "))
    }
}

/// The digest of a candidate's settings, where it tells.
fn digest(candidate: &queue::QueuedCandidate) -> Option<&String> {
    let member = candidate.member.as_ref()?.as_ref()?;
    member.digest.as_ref()
}

/// An election and its past, for the page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Overview {
    /// The election now.
    pub status: ElectionStatus,
    /// The terms that ended, the latest first.
    pub terms: Vec<PastTerm>,
    /// The runs of a scheduled job that are over, the latest first.
    pub runs: Vec<HistoryEntry>,
}

/// So many runs of a scheduled job are read.
const RUNS: usize = 100;

impl Overview {
    /// Reads the election under `prefix`, and its history.
    ///
    /// # Errors
    /// If one of them can't be read.
    pub(crate) async fn read(
        store: &Store,
        prefix: &Prefix,
        patience: &Patience,
    ) -> Result<Self, Failure> {
        let status = ElectionStatus::read(store, prefix, patience).await?;
        let terms = patience.ask(async |limit| read_past(store, limit, prefix).await);
        let terms = terms.await?;
        let runs = if status.schedule.is_some() {
            let book = async |limit| RunBook::read(store, limit, prefix, RUNS).await;
            let runs = patience.ask(book).await?.runs.into_iter();
            runs.map(|(_, run)| run).collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            status,
            terms,
            runs,
        })
    }
}

/// So many elections are asked for at once.
const AT_ONCE: usize = 16;

/// The answers to all of these questions, in their order, each of which is about an election: some are
/// asked side by side, so that many take no longer than a few.
///
/// # Cancel safety
/// Dropping it drops them.
pub(crate) async fn side_by_side<A: 'static>(
    questions: impl IntoIterator<Item: Future<Output = A> + 'static>,
) -> Vec<A> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (here, mut asked) = (LocalSet::new(), JoinSet::new());
    for (place, question) in questions.into_iter().enumerate() {
        let turns = Arc::clone(&turns);
        let answer = async move {
            let _turn = turns.acquire().await;
            (place, question.await)
        };
        asked.spawn_local_on(answer, &here);
    }
    let mut answers = here.run_until(asked.join_all()).await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The place in the queue of the candidate with this lease; `None` if it stands there no more.
///
/// # Errors
/// If the queue can't be read.
pub(crate) async fn position(
    store: &Store,
    prefix: &Prefix,
    lease: LeaseId,
    patience: &Patience,
) -> Result<Option<usize>, Failure> {
    let queue = queue::Queue::ask(store, patience, prefix).await?;
    let mut leases = queue.candidates.iter().map(|candidate| candidate.lease);
    Ok(leases.position(|candidate| candidate == lease))
}

/// Asks for all leases at once; those that are gone, or not answered for, are missing.
async fn lifetimes(
    store: &Store,
    leases: impl Iterator<Item = LeaseId>,
    limit: Duration,
) -> BTreeMap<LeaseId, Lifetime> {
    let mut asked = JoinSet::new();
    for lease in leases {
        let store = store.clone();
        asked.spawn(async move { (lease, store.time_to_live(limit, lease).await) });
    }
    let mut known = BTreeMap::new();
    while let Some(answered) = asked.join_next().await {
        if let Ok((lease, Ok(Some(lifetime)))) = answered {
            known.insert(lease, lifetime);
        }
    }
    known
}
