//! What may change while the daemon runs.

use super::advice::Shown;
use super::timing::default_takeover_delay;
use super::{Config, JobConfigs, keys};

/// The new configurations, if they change nothing that a daemon keeps for life. Jobs with names may come
/// and go; of one that stays, what a daemon with one job keeps may not change either.
///
/// # Errors
/// A line for each key that would have to stay, with what it is and what it was to become. The
/// old configuration then holds on in whole.
pub fn reload(old: &JobConfigs, new: JobConfigs) -> Result<JobConfigs, Vec<String>> {
    let mut kept = Vec::new();
    if old.names().is_some() != new.names().is_some() {
        kept.push(format!(
            "[job] and [jobs.NAME] can't take each other's place while the daemon runs: it runs {}",
            old.names()
                .map_or("[job]".to_owned(), |names| format!("the jobs {names}"))
        ));
        return Err(kept);
    }
    let shared = in_common(old.shared(), new.shared());
    let stay = new.iter().filter_map(|config| {
        let name = config.job_name.as_ref();
        Some((name, of_one(old.get(name)?, config)))
    });
    let stay: Vec<_> = stay.collect();
    for (name, lines) in &stay {
        for line in lines {
            // What stands in [election] alone is said once of all.
            let is_of_all = stay.len() > 1 && stay.iter().all(|(_, it)| it.contains(line));
            match name {
                Some(name) if !is_of_all => kept.push(format!("jobs.{name}: {line}")),
                _ if kept.contains(line) => {}
                _ => kept.push(line.clone()),
            }
        }
    }
    kept.splice(0..0, shared);
    if kept.is_empty() { Ok(new) } else { Err(kept) }
}

/// A line for what must stay, and doesn't.
fn keep(key: &str, old: &str, new: &str) -> Option<String> {
    (old != new).then(|| {
        format!("{key} can't change while the daemon runs: it is {old}, and was to become {new}")
    })
}

/// What all jobs of a daemon have in common and keep.
fn in_common(old: &Config, new: &Config) -> Vec<String> {
    let quoted = |text: &str| super::place::quoted(text);
    let kept = [
        keep(
            keys::CANDIDATE_NAME.name,
            &quoted(&old.candidate_name),
            &quoted(&new.candidate_name),
        ),
        keep(
            keys::ELECTION_PREFIX.name,
            &quoted(old.root()),
            &quoted(new.root()),
        ),
        keep(
            keys::RUNTIME_DIR.name,
            &super::place::path_quoted(&old.runtime_dir),
            &super::place::path_quoted(&new.runtime_dir),
        ),
    ];
    kept.into_iter().flatten().collect()
}

/// What one job keeps: its election, and whether it is checked. Logs, HTTP, the store's endpoints and
/// credentials, the job (from its next run), the hooks (from the next term) and how it is checked may
/// change.
fn of_one(old: &Config, new: &Config) -> Vec<String> {
    let ttl = |config: &Config| Shown(config.election.ttl).to_string();
    let delay = |config: &Config| Shown(config.election.takeover_delay).to_string();
    let on = |config: &Config| if config.check.is_some() { "on" } else { "off" };
    let mut kept = vec![
        keep(keys::ELECTION_TTL.name, &ttl(old), &ttl(new)),
        keep("candidate.check", on(old), on(new)),
    ];
    // A delay that nobody set follows the job's kill budget, which may change.
    if !(has_default_delay(old) && has_default_delay(new)) {
        kept.push(keep(
            keys::ELECTION_TAKEOVER_DELAY.name,
            &delay(old),
            &delay(new),
        ));
    }
    kept.into_iter().flatten().collect()
}

fn has_default_delay(config: &Config) -> bool {
    config.election.takeover_delay == default_takeover_delay(config.job.kill_budget)
}
