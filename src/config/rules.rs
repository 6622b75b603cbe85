//! What must hold between keys, and what is allowed but not what it seems.

use super::advice::{Chosen, Shown};
use super::keys::{self, Entry, KEYS, Key};
use super::kinds::{self, Context, Typed};
use super::layers::MergedTree;
use super::place::{Place, Problem};
use super::scheduling;
use super::source::Source;
use super::timing::{SLACK, smallest_takeover_delay};

/// The values that passed, each with its place.
#[derive(Clone, Debug, Default)]
pub(super) struct PassedValues {
    passed: Vec<(&'static Entry, Typed, Place)>,
    failed: Vec<(&'static str, Place)>,
}

impl PassedValues {
    /// Walks the table of keys over the tree.
    pub(super) fn read(
        tree: &MergedTree,
        context: &Context<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut settings = Self {
            passed: Vec::new(),
            failed: Vec::new(),
        };
        for key in KEYS {
            let Some(value) = tree.get(key) else { continue };
            match kinds::parse(key, value, context) {
                Ok(typed) => {
                    let place = kinds::place_of(value);
                    settings.passed.push((key, typed, place));
                }
                Err(found) => {
                    problems.extend(found);
                    settings.failed.push((key.name, kinds::place_of(value)));
                }
            }
        }
        settings
    }

    /// The value of `key`, if it has one that passed.
    pub(super) fn get<T: TryFrom<Typed>>(&self, key: Key<T>) -> Option<T> {
        let (_, typed, _) = self.find(&key)?;
        typed.clone().try_into().ok()
    }

    /// The value of `key`, which has one wherever nothing is wrong.
    ///
    /// # Errors
    /// The key's name.
    pub(super) fn need<T: TryFrom<Typed>>(&self, key: Key<T>) -> Result<T, &'static str> {
        self.get(key).ok_or(key.name)
    }

    /// All that passed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'static Entry, Typed, Place)> {
        self.passed.iter()
    }

    fn find(&self, key: &Entry) -> Option<&(&'static Entry, Typed, Place)> {
        self.passed
            .iter()
            .find(|(known, ..)| known.name == key.name)
    }

    /// Where the user wrote `key`, unless its value is wrong; [`Place::Default`] if nowhere.
    pub(super) fn place(&self, key: &Entry) -> Place {
        let found = self.find(key);
        found.map_or(Place::Default, |(.., place)| place.clone())
    }

    /// Where the user wrote `key`, right or wrong.
    pub(super) fn written(&self, key: &Entry) -> Option<Place> {
        let failed = self.failed.iter().find(|(name, _)| *name == key.name);
        let place = failed.map_or_else(|| self.place(key), |(_, place)| place.clone());
        Some(place).filter(|place| *place != Place::Default)
    }

    /// Whether the user has set `key`.
    pub(super) fn is_set(&self, key: &Entry) -> bool {
        self.place(key) != Place::Default
    }

    /// Whether the user has set `key` to something else than its default.
    pub(super) fn is_changed(&self, key: &Entry) -> bool {
        let set = self.find(key).filter(|_| self.is_set(key));
        set.is_some_and(|(_, typed, _)| !kinds::is_example(key, typed))
    }

    pub(super) fn has_failed(&self, key: &Entry) -> bool {
        self.failed.iter().any(|(name, _)| *name == key.name)
    }

    /// Whether the key has no value, not even a wrong one.
    fn is_missing(&self, key: &Entry) -> bool {
        !self.has_failed(key) && self.find(key).is_none()
    }

    /// Whether the job is a command.
    fn runs_command(&self) -> bool {
        self.get(keys::JOB_KIND)
            .is_some_and(|kind| kind == "command")
    }

    /// The user's choices of timing; `None` if one of them is wrong.
    pub(super) fn chosen(&self) -> Option<Chosen> {
        let keys = [
            keys::JOB_LOST_GRACE,
            keys::JOB_KILL_BUDGET,
            keys::ELECTION_TAKEOVER_DELAY,
        ];
        if keys.iter().any(|key| self.has_failed(key)) {
            return None;
        }
        let [lost_grace, kill_budget, takeover_delay] = keys.map(|key| self.get(key));
        Some(Chosen {
            ttl: self.get(keys::ELECTION_TTL)?,
            lost_grace,
            kill_budget,
            takeover_delay,
        })
    }
}

/// Everything that is wrong between keys. `file` is where a missing key would stand; a command on
/// the command line may be the job only where there `may_be_flags`.
pub(super) fn broken(
    settings: &PassedValues,
    source: &Source,
    file: &Place,
    may_be_flags: bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    // The lease's times have to leave room for the job's.
    if let Some(chosen) = settings.chosen().filter(|_| !source.ignores_job) {
        timing(settings, &chosen, &mut problems);
    }
    restart_delays(settings, &mut problems);
    for (one, other) in [
        (keys::ETCD_USERNAME.entry, keys::ETCD_PASSWORD_FILE.entry),
        (keys::ETCD_PASSWORD_FILE.entry, keys::ETCD_USERNAME.entry),
        (
            keys::ETCD_TLS_CERT_FILE.entry,
            keys::ETCD_TLS_KEY_FILE.entry,
        ),
        (
            keys::ETCD_TLS_KEY_FILE.entry,
            keys::ETCD_TLS_CERT_FILE.entry,
        ),
    ] {
        if settings.is_set(&one) && settings.is_missing(&other) {
            let what = format!("expected {} beside it, found none", other.name);
            problems.push(Problem::new(settings.place(&one), one.name, what));
        }
    }
    tls(settings, &mut problems);
    scheduling::broken(settings, source, file, &mut problems);
    job_settings(settings, source, &mut problems);
    let has_no_command = settings.is_missing(&keys::JOB_COMMAND);
    if source.needs_job && settings.runs_command() && has_no_command {
        let or_flags = if may_be_flags {
            r#" here or "incumbent run -- /usr/bin/backup --full""#
        } else {
            ""
        };
        let what = format!(
            r#"expected a command to run, such as ["/usr/bin/backup", "--full"]{or_flags}, found none"#
        );
        problems.push(Problem::new(file.clone(), keys::JOB_COMMAND.name, what));
    }
    problems
}

/// A job in Rust says itself what it takes.
fn job_settings(settings: &PassedValues, source: &Source, problems: &mut Vec<Problem>) {
    let key = keys::JOB_SETTINGS;
    let kind = settings.get(keys::JOB_KIND);
    let Some(kind) = kind.filter(|_| !settings.has_failed(&key)) else {
        return;
    };
    let table = settings.get(key).unwrap_or_default();
    if let Err(why) = source.judge.ask(&kind, table) {
        let place = [key.entry, keys::JOB_KIND.entry].map(|key| settings.place(&key));
        let place = place.into_iter().find(|place| *place != Place::Default);
        let what = format!(
            "expected what the job {} takes: {why}",
            super::place::quoted(&kind)
        );
        problems.push(Problem::new(
            place.unwrap_or(Place::Default),
            key.name,
            what,
        ));
    }
}

/// R3, and the delay of R13.
fn timing(settings: &PassedValues, chosen: &Chosen, problems: &mut Vec<Problem>) {
    if let Err(advice) = chosen.check() {
        let keys = [
            keys::ELECTION_TTL,
            keys::JOB_LOST_GRACE,
            keys::JOB_KILL_BUDGET,
        ];
        let key = keys
            .into_iter()
            .find(|key| settings.is_set(key))
            .unwrap_or(keys::ELECTION_TTL);
        let what = advice.to_string();
        problems.push(Problem::new(settings.place(&key), key.name, what));
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
        let key = keys::ELECTION_TAKEOVER_DELAY;
        problems.push(Problem::new(settings.place(&key), key.name, what));
    }
}

fn restart_delays(settings: &PassedValues, problems: &mut Vec<Problem>) {
    let (first, largest) = (keys::JOB_RESTART_DELAY, keys::JOB_RESTART_DELAY_MAX);
    let delays = (settings.get(first), settings.get(largest));
    if let (Some(delay), Some(longest)) = delays
        && delay > longest
    {
        let (key, what) = if settings.is_set(&first) {
            let what = format!(
                "at most {} {}, found {}",
                largest.name,
                Shown(longest),
                Shown(delay)
            );
            (first, what)
        } else {
            let what = format!(
                "at least {} {}, found {}",
                first.name,
                Shown(delay),
                Shown(longest)
            );
            (largest, what)
        };
        problems.push(Problem::new(
            settings.place(&key),
            key.name,
            format!("expected {what}"),
        ));
    }
}

/// Without authorities to trust no https member can be reached, and without https no certificate
/// is ever used.
fn tls(settings: &PassedValues, problems: &mut Vec<Problem>) {
    let key = keys::ETCD_ENDPOINTS;
    let Some(endpoints) = settings.get(key) else {
        return;
    };
    let has_https = endpoints.iter().any(|url| url.starts_with("https:"));
    if has_https && settings.is_missing(&keys::ETCD_TLS_CA_FILE) {
        let what = "expected etcd.tls.ca_file beside https, found none";
        problems.push(Problem::new(settings.place(&key), key.name, what));
    }
    for (set, _, place) in settings.iter() {
        if !has_https && set.name.starts_with("etcd.tls.") {
            let what = format!("expected {} with https, found none but http", key.name);
            problems.push(Problem::new(place.clone(), set.name, what));
        }
    }
}

/// What the user should know though nothing is wrong.
pub(super) fn warnings(settings: &PassedValues) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |key: &Entry, what: &str| {
        let place = settings.place(key);
        warnings.push(Problem::new(place, key.name, what).to_string());
    };
    let is_command = settings.runs_command();
    if !is_command && settings.is_set(&keys::JOB_COMMAND) {
        warn(
            &keys::JOB_COMMAND,
            "has no effect: job.kind names a job written in Rust",
        );
    }
    for (key, needs) in [
        (
            keys::CANDIDATE_CHECK_INTERVAL.entry,
            keys::CANDIDATE_CHECK_COMMAND.entry,
        ),
        (
            keys::CANDIDATE_CHECK_TIMEOUT.entry,
            keys::CANDIDATE_CHECK_COMMAND.entry,
        ),
        (
            keys::CANDIDATE_CHECK_RISE.entry,
            keys::CANDIDATE_CHECK_COMMAND.entry,
        ),
        (
            keys::CANDIDATE_CHECK_FALL.entry,
            keys::CANDIDATE_CHECK_COMMAND.entry,
        ),
        (
            keys::HOOKS_ON_ELECTED_TIMEOUT.entry,
            keys::HOOKS_ON_ELECTED.entry,
        ),
        (keys::HOOKS_ON_LOST_TIMEOUT.entry, keys::HOOKS_ON_LOST.entry),
    ] {
        // The shipped file sets them to what they are anyway.
        if settings.is_changed(&key) && settings.is_missing(&needs) {
            warn(&key, &format!("has no effect without {}", needs.name));
        }
    }
    for (key, why) in scheduling::without_effect(settings) {
        warn(&key, why);
    }
    let has_settings = settings
        .get(keys::JOB_SETTINGS)
        .is_some_and(|table| !table.is_empty());
    if is_command && has_settings {
        warn(
            &keys::JOB_SETTINGS,
            "has no effect: a command gets job.env and its arguments",
        );
    }
    let endpoints = settings.get(keys::ETCD_ENDPOINTS).unwrap_or_default();
    let is_https = |url: &&String| url.starts_with("https:");
    let secure = endpoints.iter().filter(is_https).count();
    if secure > 0 && secure < endpoints.len() {
        warn(
            &keys::ETCD_ENDPOINTS,
            "some members are reached without TLS",
        );
    }
    warnings
}
