//! What `incumbent check` prints of a configuration that passed.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use super::advice::Shown;
use super::keys::{ETCD_PASSWORD_FILE, ETCD_TLS_KEY_FILE};
use super::kinds::shown_typed;
use super::place::{Place, path_quoted, path_shown, quoted};
use super::rules::PassedValues;
use super::source::Source;
use super::timing::{SURVIVES_HUNG_FOLLOWER, SURVIVES_HUNG_LEADER};
use super::{Config, JobConfigs, LoadedJobs, SetByUser};
use crate::keys::JobName;
use crate::log::printable;
use crate::wall::Time;

/// Which layers there were, what the user set, when a term ends, when each job runs from `now` on if
/// it has a schedule, and every warning; lines for standard output, with a newline at the end.
pub fn check_report(loaded: &LoadedJobs, source: &Source, now: Time) -> String {
    let configs = &loaded.configs;
    let mut lines = vec![format!(
        "configuration ok: {}",
        layers(configs.shared(), source)
    )];
    for SetByUser { key, value, place } in &loaded.set {
        lines.push(format!("  {key} = {value}  ({place})"));
    }
    lines.extend(all_times(configs));
    for config in configs.iter() {
        let Some(scheduling) = &config.scheduling else {
            continue;
        };
        let mut preview = scheduling.preview(now);
        if let (Some(name), Some(first)) = (&config.job_name, preview.first_mut()) {
            *first = format!("{name} {first}");
        }
        lines.extend(preview);
    }
    let mut warnings = loaded.warnings.clone();
    warnings.extend(exposures(configs.shared()));
    warnings.extend(of_all(configs, ttl_warnings));
    warnings.extend(of_all(configs, |config| {
        let scheduling = config.scheduling.as_ref();
        scheduling.map_or(Vec::new(), |it| {
            it.tight(config.election.takeover_delay, now)
        })
    }));
    lines.extend(warnings.iter().map(|it| format!("warning: {it}")));
    lines.join("\n") + "\n"
}

/// What is to be said of each job, and whose it is unless it is of all.
fn of_all(configs: &JobConfigs, say: impl Fn(&Config) -> Vec<String>) -> Vec<String> {
    let said: Vec<_> = configs.iter().map(|config| (config, say(config))).collect();
    let mut lines: Vec<String> = Vec::new();
    for (config, own) in &said {
        for line in own {
            let is_of_all = said.iter().all(|(_, others)| others.contains(line));
            let line = match &config.job_name {
                Some(name) if !is_of_all => format!("{name}: {line}"),
                _ => line.clone(),
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// The times of each job's terms; those that are alike once.
fn all_times(configs: &JobConfigs) -> Vec<String> {
    let mut known: Vec<(String, Vec<&str>)> = Vec::new();
    for config in configs.iter() {
        let times = times(config);
        let name = config.job_name.as_ref().map(JobName::as_str);
        match known.iter_mut().find(|(of_others, _)| *of_others == times) {
            Some((_, names)) => names.extend(name),
            None => known.push((times, name.into_iter().collect())),
        }
    }
    let is_of_all = known.len() == 1;
    let shown = known.into_iter().map(|(times, names)| {
        if is_of_all {
            times
        } else {
            format!("{}: {times}", names.join(", "))
        }
    });
    shown.collect()
}

/// Where the configuration came from.
fn layers(config: &Config, source: &Source) -> String {
    let mut layers = vec!["built-in defaults".to_owned()];
    if let Some(file) = &config.file {
        layers.push(printable(&path_shown(file)));
    }
    for (count, noun) in [
        (source.variables_set(), "variable"),
        (source.flags.len(), "flag"),
    ] {
        match count {
            0 => {}
            1 => layers.push(format!("1 {noun}")),
            _ => layers.push(format!("{count} {noun}s")),
        }
    }
    layers.join(", ")
}

/// What happens when, counted as the safety rules count.
fn times(config: &Config) -> String {
    let timing = config.timing();
    // A lifetime has parts of a millisecond where the TTL has; nobody plans with those.
    let millis = |span: Duration| {
        Shown(Duration::from_millis(
            span.as_millis().try_into().unwrap_or(u64::MAX),
        ))
    };
    let kill = timing.lifetime().saturating_sub(timing.kill_budget());
    let polite_stop = kill.saturating_sub(timing.lost_grace());
    let smallest = match timing.smallest_ttl() {
        Some(ttl) => Shown(ttl).to_string(),
        None => "none".to_owned(),
    };
    format!(
        "times of a term, from the sending of its last proven renewal:\n\
         \x20 {:>8}  is renewed again, each attempt within {}\n\
         \x20 {:>8}  the job is asked to stop (lost_grace {})\n\
         \x20 {:>8}  the job is killed (kill_budget {})\n\
         \x20 {:>8}  deadline: the job is dead\n\
         \x20 {:>8}  etcd ends the lease (ttl)\n\
         takeover_delay {}; the smallest ttl for these graces is {smallest}",
        millis(timing.renewal_interval()).to_string(),
        millis(timing.attempt_limit()),
        millis(polite_stop).to_string(),
        Shown(timing.lost_grace()),
        millis(kill).to_string(),
        Shown(timing.kill_budget()),
        millis(timing.lifetime()).to_string(),
        Shown(timing.ttl()).to_string(),
        Shown(config.election.takeover_delay),
    )
}

/// Where secrets, or how the replica stands, are open to more than those they are meant for.
fn exposures(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let etcd = &config.etcd;
    let remote = etcd.endpoints.iter().find(|url| is_plain_and_remote(url));
    if let (Some(url), true) = (remote, etcd.password_file.is_some()) {
        warnings.push(format!(
            "etcd.password_file: the password travels readably to {}: use https",
            quoted(url)
        ));
    }
    for (key, file) in [
        (ETCD_PASSWORD_FILE.name, &etcd.password_file),
        (ETCD_TLS_KEY_FILE.name, &etcd.tls.key_file),
    ] {
        let Some(file) = file else { continue };
        let mode = std::fs::metadata(file).map_or(0, |found| found.mode());
        // A group is one that somebody has chosen, and for systemd's credentials stands for more.
        let may = match (mode & 0o004 != 0, mode & 0o022 != 0) {
            (true, true) => "read and write",
            (true, false) => "read",
            (false, true) => "write",
            (false, false) => continue,
        };
        warnings.push(format!(
            "{key}: others may {may} {} (mode {:03o}): chmod 600",
            path_quoted(file),
            mode & 0o777
        ));
    }
    if let Some(address) = config.http_listen.filter(|it| it.ip().is_unspecified()) {
        warnings.push(format!(
            "http.listen: {address} is every address of this host: name the one that those reach who \
             may know"
        ));
    }
    warnings
}

/// Whether a member is reached without TLS, and over a network.
fn is_plain_and_remote(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = bare.parse().ok();
    let is_here = address.map_or(bare.eq_ignore_ascii_case("localhost"), |address| {
        address.to_canonical().is_loopback()
    });
    !is_here
}

/// What a short TTL costs when a member of the store hangs.
pub fn ttl_warnings(config: &Config) -> Vec<String> {
    let ttl = config.election.ttl;
    let warning = |hangs: &str, survives: Duration| {
        format!(
            "election.ttl: {} may cost the term when {hangs}; from {} on it doesn't",
            Shown(ttl),
            Shown(survives),
        )
    };
    let mut warnings = Vec::new();
    if ttl < SURVIVES_HUNG_FOLLOWER {
        warnings.push(warning("a follower of etcd hangs", SURVIVES_HUNG_FOLLOWER));
    }
    if ttl < SURVIVES_HUNG_LEADER {
        warnings.push(warning("the leader of etcd hangs", SURVIVES_HUNG_LEADER));
    }
    warnings
}

/// What the user set, without secrets.
pub(super) fn set_by_user(settings: &PassedValues) -> Vec<SetByUser> {
    let set = settings
        .iter()
        .filter(|(.., place)| *place != Place::Default);
    set.map(|(key, typed, place)| SetByUser {
        key: key.name.to_owned(),
        value: shown_typed(key, typed),
        place: place.clone(),
    })
    .collect()
}
