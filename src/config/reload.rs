//! What may change while the daemon runs.

use super::advice::Shown;
use super::timing::default_takeover_delay;
use super::{Config, keys};

/// The new configuration, if it changes nothing that a daemon keeps for life: its name, its
/// election, its runtime directory, and whether it is checked. Logs, HTTP, the store's endpoints and
/// credentials, the job (from its next run), the hooks (from the next term) and how it is checked may
/// change.
///
/// # Errors
/// A line for each key that would have to stay, with what it is and what it was to become. The
/// old configuration then holds on in whole.
pub fn reload(old: &Config, new: Config) -> Result<Config, Vec<String>> {
    let mut kept = Vec::new();
    let mut keep = |key: &str, old: String, new: String| {
        if old != new {
            kept.push(format!(
                "{key} can't change while the daemon runs: it is {old}, and was to become {new}"
            ));
        }
    };
    let quoted = |text: &str| super::place::quoted(text);
    keep(
        keys::CANDIDATE_NAME.name,
        quoted(&old.candidate_name),
        quoted(&new.candidate_name),
    );
    keep(
        keys::ELECTION_PREFIX.name,
        quoted(old.election.prefix.as_str()),
        quoted(new.election.prefix.as_str()),
    );
    keep(
        keys::ELECTION_TTL.name,
        Shown(old.election.ttl).to_string(),
        Shown(new.election.ttl).to_string(),
    );
    let on = |config: &Config| (if config.check.is_some() { "on" } else { "off" }).to_owned();
    keep("candidate.check", on(old), on(&new));
    // A delay that nobody set follows the job's kill budget, which may change.
    if !(has_default_delay(old) && has_default_delay(&new)) {
        keep(
            keys::ELECTION_TAKEOVER_DELAY.name,
            Shown(old.election.takeover_delay).to_string(),
            Shown(new.election.takeover_delay).to_string(),
        );
    }
    keep(
        keys::RUNTIME_DIR.name,
        super::place::path_quoted(&old.runtime_dir),
        super::place::path_quoted(&new.runtime_dir),
    );
    if kept.is_empty() { Ok(new) } else { Err(kept) }
}

fn has_default_delay(config: &Config) -> bool {
    config.election.takeover_delay == default_takeover_delay(config.job.kill_budget)
}
