//! `/status`: how this replica stands.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ServerState;
use crate::candidate::{JobStanding, Public, Role};
use crate::config::Config;
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
        let mut jobs = BTreeMap::new();
        for standing in standings {
            if let Some(name) = standing.name() {
                jobs.insert(name.to_string(), StatusBody::of(state, standing).await);
            }
        }
        Self { jobs }
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
    pub(super) async fn of(state: &ServerState, standing: &JobStanding) -> Self {
        let public = standing.view.public.borrow().clone();
        let config = &standing.config;
        Self {
            role: public.role.word(),
            candidate: candidate(state, &public, config).await,
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

async fn candidate(
    state: &ServerState,
    public: &Public,
    config: &Config,
) -> Option<CandidateStatus> {
    let lease = public.lease?;
    let joined_at = usize::try_from(public.position?).ok()?;
    let position = match public.role {
        Role::Leading => 0,
        // Those in front may have left since; only the store knows.
        _ if joined_at > 0 => {
            let now = state.reader.position(&config.election.prefix, lease).await;
            now.unwrap_or(joined_at)
        }
        _ => joined_at,
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
