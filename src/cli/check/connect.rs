//! `--connect`: is the store one to trust a term to?

use std::time::Duration;

use super::super::exit::Failure;
use super::super::output;
use super::{election, members};
use crate::config::JobConfigs;
use crate::etcd::trust::TrustVerdict;
use crate::etcd::{Error, Patience, Settings, Store};
use crate::keys::LeaseId;
use crate::log::printable;

/// Writes what the store says; `limit` is for each member, and for all that they are asked
/// together.
///
/// # Errors
/// If no member serves, or if they are of several clusters.
pub(super) async fn check(configs: &JobConfigs, limit: Duration) -> Result<(), Failure> {
    let config = configs.shared();
    let timing = config.timing();
    let members = members::ask(config, limit).await;
    let lines = members::report(config, &members, timing.attempt_limit());
    output::report(&lines.join("\n"))?;

    let verdict = members::judge(&members);
    if let TrustVerdict::Believed(cluster) | TrustVerdict::Likely(cluster) = verdict {
        let strangers = members::strangers(&members, cluster);
        if !strangers.is_empty() {
            let named = strangers
                .iter()
                .map(|(endpoint, other)| format!("{} of cluster {other:x}", printable(endpoint)));
            let named: Vec<_> = named.collect();
            return Err(Failure::Misconfigured(format!(
                "etcd.endpoints: expected members of one cluster, found {}, where most are of cluster \
                 {cluster:x}; replicas could lead in each of them",
                named.join(", ")
            )));
        }
    }
    if let TrustVerdict::Disputed(why) = verdict {
        return Err(Failure::Misconfigured(printable(&why)));
    }
    let serving = members.iter().filter(|member| member.serves());
    let endpoints: Vec<_> = serving.map(|member| member.endpoint.clone()).collect();
    if let Some(proxied) = members.iter().find_map(members::CheckedMember::proxied) {
        return Err(Failure::Misconfigured(proxied.to_string()));
    }
    if endpoints.is_empty() {
        let errors = members.iter().filter_map(members::CheckedMember::error);
        let refused =
            |error: &&Error| matches!(error, Error::Refused { .. } | Error::LoginRefused { .. });
        if let Some(refused) = errors.clone().find(refused) {
            return Err(refused.clone().into());
        }
        let why = errors.map(ToString::to_string).next().unwrap_or_default();
        return Err(Failure::Unreachable(format!(
            "the store is unreachable: no member serves: {why}"
        )));
    }
    let store = Store::new(&Settings {
        endpoints,
        ..config.etcd.clone()
    });
    let patience = Patience::new(&store, limit);
    let mut lines = ttl_lines(configs, &store, &patience).await?;
    for config in configs.iter() {
        lines.extend(election::report(&store, &config.election.prefix, &patience).await?);
    }
    output::report(&lines.join("\n"))
}

/// The smallest TTL that the store grants, which may be longer than the one that is asked for.
async fn ttl_lines(
    configs: &JobConfigs,
    store: &Store,
    patience: &Patience,
) -> Result<Vec<String>, Failure> {
    let lease = LeaseId::random(crate::backoff::random());
    let grant = async |limit| store.smallest_ttl(limit, lease).await;
    let smallest = patience.ask(grant).await?;
    let seconds = smallest.as_secs();
    let mut lines = vec![format!("smallest TTL that the store grants: {seconds}s")];
    for config in configs.iter() {
        let ttl = config.election.ttl;
        if smallest > ttl {
            let of_job = config.job_name.as_ref();
            let of_job = of_job.map_or(String::new(), |name| format!("{name}: "));
            lines.push(format!(
                "warning: {of_job}election.ttl: {}s will be {seconds}s: the store grants no less with \
                 its --election-timeout",
                ttl.as_secs()
            ));
        }
    }
    Ok(lines)
}
