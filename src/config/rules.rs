//! What must hold between keys, and what is allowed but not what it seems.

use std::time::Duration;

use super::advice::{Chosen, Shown};
use super::keys::{self, KEYS};
use super::layers::Tree;
use super::place::{Place, Problem};
use super::source::Source;
use super::timing::{SLACK, smallest_takeover_delay};
use super::value::{self, Context, Typed};

/// The values that passed, each with its place.
#[derive(Debug)]
pub(super) struct Settings {
    passed: Vec<(&'static str, Typed, Place)>,
    failed: Vec<&'static str>,
}

impl Settings {
    /// Walks the table of keys over the tree.
    pub(super) fn read(tree: &Tree, context: &Context<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut settings = Self {
            passed: Vec::new(),
            failed: Vec::new(),
        };
        for key in KEYS {
            let Some(value) = tree.get(key) else { continue };
            match value::parse(key, value, context) {
                Ok(typed) => {
                    let place = value::place_of(value);
                    settings.passed.push((key.name, typed, place));
                }
                Err(found) => {
                    problems.extend(found);
                    settings.failed.push(key.name);
                }
            }
        }
        settings
    }

    /// The value of the key `name`, if it has one that passed.
    pub(super) fn get<T: TryFrom<Typed>>(&self, name: &str) -> Option<T> {
        let (_, typed, _) = self.passed.iter().find(|(known, ..)| *known == name)?;
        typed.clone().try_into().ok()
    }

    /// All that passed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'static str, Typed, Place)> {
        self.passed.iter()
    }

    /// Where the user wrote the key `name`; [`Place::Default`] if nowhere.
    fn place(&self, name: &str) -> Place {
        let found = self.passed.iter().find(|(known, ..)| *known == name);
        found.map_or(Place::Default, |(.., place)| place.clone())
    }

    /// Whether the user has set the key `name`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.place(name) != Place::Default
    }

    /// Whether the user has set the key `name` to something else than its default.
    fn is_changed(&self, name: &str) -> bool {
        let Some(key) = keys::find(name) else {
            return false;
        };
        let typed = |(known, typed, place): &(&'static str, Typed, Place)| {
            (*known == name && *place != Place::Default).then(|| super::report::shown(name, typed))
        };
        let set = self.passed.iter().find_map(typed);
        set.is_some_and(|set| set != key.preset.example())
    }

    /// Whether the key has no value, not even a wrong one.
    fn is_missing(&self, name: &str) -> bool {
        !self.failed.contains(&name) && !self.passed.iter().any(|(known, ..)| *known == name)
    }

    /// The user's choices of timing; `None` if one of them is wrong.
    pub(super) fn chosen(&self) -> Option<Chosen> {
        let keys = [
            "job.lost_grace",
            "job.kill_budget",
            "election.takeover_delay",
        ];
        if keys.iter().any(|key| self.failed.contains(key)) {
            return None;
        }
        let [lost_grace, kill_budget, takeover_delay] = keys.map(|key| self.get(key));
        Some(Chosen {
            ttl: self.get("election.ttl")?,
            lost_grace,
            kill_budget,
            takeover_delay,
        })
    }
}

/// Everything that is wrong between keys. `file` is where a missing key would stand.
pub(super) fn broken(settings: &Settings, source: &Source, file: &Place) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(chosen) = settings.chosen() {
        timing(settings, &chosen, &mut problems);
    }
    restart_delays(settings, &mut problems);
    for (one, other) in [
        ("etcd.username", "etcd.password_file"),
        ("etcd.password_file", "etcd.username"),
        ("etcd.tls.cert_file", "etcd.tls.key_file"),
        ("etcd.tls.key_file", "etcd.tls.cert_file"),
    ] {
        if settings.is_set(one) && settings.is_missing(other) {
            let what = format!("expected {other} beside it, found none");
            problems.push(Problem::new(settings.place(one), one, what));
        }
    }
    tls(settings, &mut problems);
    let is_command = settings
        .get("job.kind")
        .is_some_and(|kind: String| kind == "command");
    if source.needs_job && is_command && settings.is_missing("job.command") {
        let what = r#"expected a command to run, such as ["/usr/bin/backup", "--full"] here or "incumbent run -- /usr/bin/backup --full", found none"#;
        problems.push(Problem::new(file.clone(), "job.command", what));
    }
    problems
}

/// R3, and the delay of R13.
fn timing(settings: &Settings, chosen: &Chosen, problems: &mut Vec<Problem>) {
    if let Err(advice) = chosen.check() {
        let keys = ["election.ttl", "job.lost_grace", "job.kill_budget"];
        let key = keys
            .into_iter()
            .find(|key| settings.is_set(key))
            .unwrap_or("election.ttl");
        problems.push(Problem::new(settings.place(key), key, advice.to_string()));
    }
    let kill_budget = chosen.timing().kill_budget();
    let (least, found) = (
        smallest_takeover_delay(kill_budget),
        chosen.takeover_delay(),
    );
    if found < least {
        let what = format!(
            "expected at least {}, which is kill_budget {} + {}, found {}",
            Shown(least),
            Shown(kill_budget),
            Shown(SLACK),
            Shown(found),
        );
        let key = "election.takeover_delay";
        problems.push(Problem::new(settings.place(key), key, what));
    }
}

fn restart_delays(settings: &Settings, problems: &mut Vec<Problem>) {
    let (first, largest) = ("job.restart_delay", "job.restart_delay_max");
    let delays: (Option<Duration>, Option<Duration>) = (settings.get(first), settings.get(largest));
    if let (Some(delay), Some(longest)) = delays
        && delay > longest
    {
        let (key, what) = if settings.is_set(first) {
            let what = format!(
                "at most {largest} {}, found {}",
                Shown(longest),
                Shown(delay)
            );
            (first, what)
        } else {
            let what = format!(
                "at least {first} {}, found {}",
                Shown(delay),
                Shown(longest)
            );
            (largest, what)
        };
        problems.push(Problem::new(
            settings.place(key),
            key,
            format!("expected {what}"),
        ));
    }
}

/// Without authorities to trust no https member can be reached, and without https no certificate
/// is ever used.
fn tls(settings: &Settings, problems: &mut Vec<Problem>) {
    let key = "etcd.endpoints";
    let Some(endpoints) = settings.get::<Vec<String>>(key) else {
        return;
    };
    let has_https = endpoints.iter().any(|url| url.starts_with("https:"));
    if has_https && settings.is_missing("etcd.tls.ca_file") {
        let what = "expected etcd.tls.ca_file beside https, found none";
        problems.push(Problem::new(settings.place(key), key, what));
    }
    for (name, _, place) in settings.iter() {
        if !has_https && name.starts_with("etcd.tls.") {
            let what = format!("expected {key} with https, found none but http");
            problems.push(Problem::new(place.clone(), *name, what));
        }
    }
}

/// What the user should know though nothing is wrong.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |name: &str, what: &str| {
        let place = settings.place(name);
        warnings.push(Problem::new(place, name, what).to_string());
    };
    let is_command = settings
        .get("job.kind")
        .is_some_and(|kind: String| kind == "command");
    if !is_command && settings.is_set("job.command") {
        warn(
            "job.command",
            "has no effect: job.kind names a job written in Rust",
        );
    }
    for (name, needs) in [
        ("candidate.check.interval", "candidate.check.command"),
        ("candidate.check.timeout", "candidate.check.command"),
        ("candidate.check.rise", "candidate.check.command"),
        ("candidate.check.fall", "candidate.check.command"),
        ("hooks.on_elected_timeout", "hooks.on_elected"),
        ("hooks.on_lost_timeout", "hooks.on_lost"),
    ] {
        // The shipped file sets them to what they are anyway.
        if settings.is_changed(name) && settings.is_missing(needs) {
            warn(name, &format!("has no effect without {needs}"));
        }
    }
    let has_settings = settings
        .get("job.settings")
        .is_some_and(|table: toml::Table| !table.is_empty());
    if is_command && has_settings {
        warn(
            "job.settings",
            "has no effect: a command gets job.env and its arguments",
        );
    }
    let endpoints: Vec<String> = settings.get("etcd.endpoints").unwrap_or_default();
    let is_https = |url: &&String| url.starts_with("https:");
    let secure = endpoints.iter().filter(is_https).count();
    if secure > 0 && secure < endpoints.len() {
        warn("etcd.endpoints", "some members are reached without TLS");
    }
    warnings
}
