//! `/status`: how this replica stands.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ServerState;
use crate::candidate::{JobStanding, Public, Role};
use crate::config::Config;
use crate::keys::LeaseId;
use crate::proc::survivor::Survivor;
use crate::revision::Token;
use crate::status::CandidateStatus;
use crate::term::record::host_name;

/// The answer's shape.
#[derive(Debug, Serialize)]
pub(super) struct StatusBody {
    role: &'static str,
    candidate: Option<CandidateStatus>,
    term: Option<TermBody>,
    job: Option<JobBody>,
    deadline_in_s: Option<f64>,
    /// Only where there is a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthBody>,
}

/// The answer's shape where there are several jobs: that of each, by its name.
#[derive(Debug, Serialize)]
pub(super) struct JobsBody {
    jobs: BTreeMap<String, StatusBody>,
}

impl JobsBody {
    pub(super) async fn of(state: &ServerState, standings: &[JobStanding]) -> Self {
        let named = standings
            .iter()
            .filter_map(|it| Some(it.name()?.to_string()));
        let bodies = StatusBody::of_all(state, standings).await;
        Self {
            jobs: named.zip(bodies).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct HealthBody {
    state: &'static str,
    /// What the last check came to.
    last: Option<String>,
}

#[derive(Debug, Serialize)]
struct TermBody {
    token: Token,
    since: Option<String>,
}

#[derive(Debug, Serialize)]
struct JobBody {
    kind: String,
    pid: Option<u32>,
    up: bool,
    runs: u64,
    /// The exit code of the last run that ended by itself, 128 and the signal's number if one
    /// killed it.
    last_exit: Option<i32>,
    /// Its processes that were sent SIGKILL and live on; only where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unkillable: Vec<Survivor>,
}

impl StatusBody {
    /// Of each of these, in this order.
    pub(super) async fn of_all(state: &ServerState, standings: &[JobStanding]) -> Vec<Self> {
        let publics = standings.iter().map(|it| it.view.public.borrow().clone());
        let all: Vec<(&Config, Public)> = standings
            .iter()
            .map(|it| &*it.config)
            .zip(publics)
            .collect();
        let moved: Vec<_> = all
            .iter()
            .filter_map(|(config, public)| Some((&config.election.prefix, may_have_moved(public)?)))
            .collect();
        let places = state.reader.positions(&moved).await;
        let places = moved.iter().map(|(_, lease)| *lease).zip(places);
        let places: BTreeMap<LeaseId, usize> = places
            .filter_map(|(lease, place)| Some((lease, place?)))
            .collect();
        let bodies = all.into_iter().map(|(config, public)| {
            let place = public.lease.and_then(|lease| places.get(&lease).copied());
            Self::new(config, &public, place)
        });
        bodies.collect()
    }

    /// Of one whose place in the queue is `place` now, as far as the store tells.
    fn new(config: &Config, public: &Public, place: Option<usize>) -> Self {
        Self {
            role: public.role.word(),
            candidate: candidate(config, public, place),
            term: public.token.map(|token| TermBody {
                token,
                since: public.since.as_deref().map(ToOwned::to_owned),
            }),
            job: Some(JobBody {
                kind: config.job.kind.clone(),
                pid: public.pid,
                up: public.job.up,
                runs: public.job.runs,
                last_exit: public.job.last.iter().find_map(|run| run.end.exit_code()),
                unkillable: public.survivors.to_vec(),
            }),
            deadline_in_s: public
                .deadline
                .map(|deadline| deadline.remaining().as_secs_f64()),
            health: public.health.as_ref().map(|health| HealthBody {
                state: health.word(),
                last: health.last.as_deref().map(ToOwned::to_owned),
            }),
        }
    }
}

/// The lease of one that stood behind others when it joined: those may have left since, which only the
/// store knows.
fn may_have_moved(public: &Public) -> Option<LeaseId> {
    let stood_behind = public.position.is_some_and(|position| position > 0);
    public
        .lease
        .filter(|_| stood_behind && public.role != Role::Leading)
}

fn candidate(config: &Config, public: &Public, place: Option<usize>) -> Option<CandidateStatus> {
    let lease = public.lease?;
    let joined_at = usize::try_from(public.position?).ok()?;
    let position = match public.role {
        Role::Leading => 0,
        _ => place.unwrap_or(joined_at),
    };
    let since = public.since.as_deref().or(public.joined.as_deref());
    Some(CandidateStatus {
        position,
        name: config.candidate_name.clone(),
        lease,
        token: public.revision?,
        key: config.election.prefix.candidate(lease),
        ttl: public.timing.ttl().as_secs(),
        lease_remaining_s: public.held_until.map(|until| until.remaining().as_secs()),
        host: Some(host_name()),
        pid: Some(std::process::id()),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        since: since.map(ToOwned::to_owned),
        // It knows no other's.
        differs: false,
        // It is told of the job.
        unkillable: Vec::new(),
        turn: public.turn,
        off_lease: false,
        foreign: false,
    })
}
