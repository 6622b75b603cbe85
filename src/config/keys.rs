//! The one table of keys: what may be written, as what, and why.
//!
//! The merged tree is walked along this table, and the shipped `config/incumbent.toml` is written
//! from it, so neither can know a key that the other doesn't. A key is added here and where it is
//! used; what its value is for a type follows from its kind.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use strsim::{jaro, levenshtein};

use super::kinds::{
    AddressKind, CountKind, Kind, LimitKind, ListKind, PathKind, SignalKind, SpanKind, TableKind,
    TextKind, VariablesKind,
};

/// What holds where the user writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This value, in TOML.
    Constant(&'static str),
    /// Nothing, or what the doc line says; this is an example in TOML.
    Depends(&'static str),
    /// This value, in TOML, of a section that counts only where some key of it is set.
    Within(&'static str),
}

impl Preset {
    /// The TOML that shows how the key is written.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Constant(text) | Self::Depends(text) | Self::Within(text) => text,
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name with the sections before it.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds without it.
    pub preset: Preset,
    /// Why one would set it, in one line.
    pub doc: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
}

impl Entry {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        preset: Preset,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            preset,
            doc,
            secret: false,
        }
    }

    /// The section, empty at the top level, and the name in it.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    /// The variable of the environment that sets it.
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

/// One key, with the type that its value has.
#[derive(Debug)]
pub struct Key<T> {
    /// What doesn't depend on that type.
    pub entry: Entry,
    value: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    pub(super) const fn of(entry: Entry) -> Self {
        Self {
            entry,
            value: PhantomData,
        }
    }

    const fn secret(self) -> Self {
        Self::of(Entry {
            secret: true,
            ..self.entry
        })
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> Deref for Key<T> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

/// The variable of the environment that sets the key `name`.
pub fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "__").to_uppercase())
}

/// The section of a schedule, without which the job runs all the time.
pub const SCHEDULE: &str = "job.schedule";

/// What the variables of the environment that set keys begin with.
pub const PREFIX: &str = "INCUMBENT__";

use Preset::{Constant, Depends, Within};

/// Declares the keys, and lists them.
macro_rules! keys {
    ($($key:ident: $type:ty = $name:literal, $kind:expr, $preset:expr, $doc:literal $(, $secret:ident)?;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $key: Key<$type> = <Key<$type>>::new($name, $kind, $preset, $doc)$(.$secret())?;
        )*

        /// Every key, in the order of the shipped file.
        pub const KEYS: &[Entry] = &[$($key.entry),*];
    };
}

#[rustfmt::skip]
keys! {
    RUNTIME_DIR: PathBuf = "runtime_dir", PathKind::Any, Depends(r#""/run/incumbent""#),
        "Lease file, control socket. Default: $RUNTIME_DIRECTORY, else incumbent/ in $XDG_RUNTIME_DIR or /run.";

    CANDIDATE_NAME: String = "candidate.name", TextKind::Name, Depends(r#""host-a""#),
        "Who this replica is in the election, for people and for the job. Default: the host name.";

    CANDIDATE_CHECK_COMMAND: Vec<String> = "candidate.check.command", ListKind::Argv, Depends(r#"["/usr/bin/pg_isready", "--quiet"]"#),
        "Exit code 0 says that this replica may lead; without one it always may.", secret;
    CANDIDATE_CHECK_INTERVAL: Duration = "candidate.check.interval", SpanKind::at_least(100), Constant(r#""5s""#),
        "From the start of one check to the next.";
    CANDIDATE_CHECK_TIMEOUT: Duration = "candidate.check.timeout", SpanKind::at_least(10), Constant(r#""2s""#),
        "A check that takes longer is killed, and has failed.";
    CANDIDATE_CHECK_RISE: u32 = "candidate.check.rise", CountKind::ANY, Constant("2"),
        "After so many successes in a row an unhealthy replica is healthy again; the first check alone decides.";
    CANDIDATE_CHECK_FALL: u32 = "candidate.check.fall", CountKind::ANY, Constant("3"),
        "After so many failures in a row a healthy replica is unhealthy.";

    ETCD_ENDPOINTS: Vec<String> = "etcd.endpoints", ListKind::Urls, Constant(r#"["http://127.0.0.1:2379"]"#),
        "The members of the store; name all of them, so that any one may be away.";
    ETCD_CONNECT_TIMEOUT: Duration = "etcd.connect_timeout", SpanKind::at_least(1), Constant(r#""2s""#),
        "How long one member may take to be reached before the next one is tried.";
    ETCD_USERNAME: String = "etcd.username", TextKind::Any, Depends(r#""incumbent""#),
        "The store's user, where it asks for one; needs password_file.";
    ETCD_PASSWORD_FILE: PathBuf = "etcd.password_file", PathKind::File, Depends(r#""${CREDENTIALS_DIRECTORY}/etcd-password""#),
        "The user's password; a path, best that of a systemd credential, as here.";

    ETCD_TLS_CA_FILE: PathBuf = "etcd.tls.ca_file", PathKind::File, Depends(r#""/etc/incumbent/ca.pem""#),
        "Certificates of the authorities to trust; needed where endpoints are https.";
    ETCD_TLS_CERT_FILE: PathBuf = "etcd.tls.cert_file", PathKind::File, Depends(r#""/etc/incumbent/client.pem""#),
        "Our certificate, where the store asks for one; needs key_file.";
    ETCD_TLS_KEY_FILE: PathBuf = "etcd.tls.key_file", PathKind::File, Depends(r#""${CREDENTIALS_DIRECTORY}/client-key""#),
        "The key of our certificate.";
    ETCD_TLS_SERVER_NAME: String = "etcd.tls.server_name", TextKind::Any, Depends(r#""etcd.example.com""#),
        "The name in the members' certificates, where it isn't the endpoint's host.";

    ELECTION_PREFIX: String = "election.prefix", TextKind::Prefix, Constant(r#""/incumbent/default""#),
        "Which election to stand in: replicas of one job share it, other jobs have another.";
    ELECTION_TTL: Duration = "election.ttl", SpanKind::Ttl, Constant(r#""15s""#),
        "Whole seconds until a lost host is given up; from 15s on, a hung leader of etcd costs no term.";
    ELECTION_TAKEOVER_DELAY: Duration = "election.takeover_delay", SpanKind::at_least(0), Depends(r#""1500ms""#),
        "Wait after an end that nobody proved. Default: kill_budget + 500ms; at least kill_budget + 200ms.";

    JOB_KIND: String = "job.kind", TextKind::JobKind, Constant(r#""command""#),
        "\"command\", or the name of a job written in Rust and registered in this binary.";
    JOB_COMMAND: Vec<String> = "job.command", ListKind::Argv, Depends(r#"["/usr/bin/backup", "--full"]"#),
        "The command and its arguments; no shell looks at them.", secret;
    JOB_WORKING_DIR: PathBuf = "job.working_dir", PathKind::Any, Depends(r#""/var/lib/backup""#),
        "Where the command starts. Default: where the daemon does.";
    JOB_ENV: BTreeMap<String, String> = "job.env", VariablesKind, Constant("{}"),
        "More variables for the command, such as { LANG = \"C\" }.", secret;
    JOB_STOP_SIGNAL: i32 = "job.stop_signal", SignalKind, Constant(r#""SIGTERM""#),
        "The signal that asks the job to end.";
    JOB_STOP_GRACE: Duration = "job.stop_grace", SpanKind::at_least(0), Constant(r#""30s""#),
        "How long the job may take to end on a planned stop, before SIGKILL.";
    JOB_LOST_GRACE: Duration = "job.lost_grace", SpanKind::at_least(0), Depends(r#""2s""#),
        "How long it may take while the term is being lost. Default: the smaller of 2s and ttl/5.";
    JOB_KILL_BUDGET: Duration = "job.kill_budget", SpanKind::at_least(10), Depends(r#""1s""#),
        "How long SIGKILL may take to empty the job's tree. Default: the smaller of 1s and ttl/5.";
    JOB_TIMEOUT: Option<Duration> = "job.timeout", LimitKind::at_least(10), Constant(r#""off""#),
        "A run that takes longer is stopped, and has failed; \"off\" for as long as it likes.";
    JOB_RESTART: String = "job.restart", TextKind::Choice(&["always", "on-failure", "never"]), Constant(r#""always""#),
        "Start the job again when it ends: always, on-failure, never. If not, the term is given back.";
    JOB_RESTART_DELAY: Duration = "job.restart_delay", SpanKind::at_least(1), Constant(r#""1s""#),
        "The first pause before a restart; doubled each time, and jittered.";
    JOB_RESTART_DELAY_MAX: Duration = "job.restart_delay_max", SpanKind::at_least(1), Constant(r#""60s""#),
        "The longest pause; after a run that lasts longer than this, the first again.";
    JOB_YIELD_AFTER: u32 = "job.yield_after", CountKind::ANY, Constant("5"),
        "After so many failures in a row another host may try.";
    JOB_YIELD_COOLDOWN: Duration = "job.yield_cooldown", SpanKind::at_least(0), Constant(r#""60s""#),
        "How long this host then stays out of the election.";
    JOB_SETTINGS: toml::Table = "job.settings", TableKind, Constant("{}"),
        "Handed to a job written in Rust, which knows what belongs there.", secret;

    JOB_PREFER: Vec<String> = "job.prefer", ListKind::Names, Depends(r#"["host-a", "host-b"]"#),
        "Which candidates should lead, the first before the second: one that waits is handed the term between runs.";
    JOB_PREFER_AFTER: Duration = "job.prefer_after", SpanKind::at_least(1000), Constant(r#""5m""#),
        "Once it has been waiting for so long, and so was healthy.";

    JOB_SCHEDULE_CRON: Vec<String> = "job.schedule.cron", ListKind::Patterns, Depends(r#""30 3 * * *""#),
        "When the job runs: 5 fields, 6 with the seconds first, or @daily; of a list, any pattern.";
    JOB_SCHEDULE_EVERY: Duration = "job.schedule.every", SpanKind::Every, Depends(r#""15m""#),
        "Instead of cron: so often, counted from 1970-01-01 00:00 UTC.";
    JOB_SCHEDULE_TIMEZONE: String = "job.schedule.timezone", TextKind::Zone, Within(r#""UTC""#),
        "The time zone of cron, by its IANA name, such as \"Europe/Berlin\".";
    JOB_SCHEDULE_GUARANTEE: String = "job.schedule.guarantee", TextKind::Choice(&["at-most-once", "at-least-once"]), Within(r#""at-most-once""#),
        "What becomes of a run whose end nobody recorded: at-most-once leaves it, at-least-once runs it again.";
    JOB_SCHEDULE_MISSED: String = "job.schedule.missed", TextKind::Choice(&["skip", "last", "all"]), Within(r#""last""#),
        "Of runs that were due while nobody led: skip them, run the last in place of all, or run all.";
    JOB_SCHEDULE_MISSED_MAX: u32 = "job.schedule.missed_max", CountKind::within(1, 1000), Within("10"),
        "With missed = \"all\": so many at most, the latest; those before them are missed for good.";
    JOB_SCHEDULE_START_WITHIN: Option<Duration> = "job.schedule.start_within", LimitKind::at_least(1000), Within(r#""off""#),
        "A run that can't start so soon after it was due is missed for good.";
    JOB_SCHEDULE_OVERLAP: String = "job.schedule.overlap", TextKind::Choice(&["skip", "queue", "replace"]), Within(r#""skip""#),
        "While the last run still goes: skip the next, queue it (one at most), or replace the last.";
    JOB_SCHEDULE_RETRIES: u32 = "job.schedule.retries", CountKind::within(0, 1000), Within("0"),
        "How often a run that failed is tried again, before the next is due.";
    JOB_SCHEDULE_RETRY_DELAY: Duration = "job.schedule.retry_delay", SpanKind::at_least(1), Within(r#""30s""#),
        "The first pause before that; doubled each time up to an hour, and jittered.";
    JOB_SCHEDULE_JITTER: Duration = "job.schedule.jitter", SpanKind::at_least(0), Within(r#""0s""#),
        "A run begins up to so long after it is due, equally late on every replica; never early.";
    JOB_SCHEDULE_DRAIN: Duration = "job.schedule.drain", SpanKind::at_least(0), Within(r#""0s""#),
        "How long a run may go on after a planned stop, before it is asked to stop.";
    JOB_SCHEDULE_HISTORY: u32 = "job.schedule.history", CountKind::within(1, 1000), Within("100"),
        "How many runs are kept in the store.";

    HOOKS_ON_ELECTED: Vec<String> = "hooks.on_elected", ListKind::Argv, Depends(r#"["/usr/local/bin/take-address"]"#),
        "Runs in each term before the job; unless it ends with 0 in its time, the term is given back.", secret;
    HOOKS_ON_ELECTED_TIMEOUT: Duration = "hooks.on_elected_timeout", SpanKind::at_least(1), Constant(r#""10s""#),
        "How long it may take; this host then stays out of the election for job.yield_cooldown.";
    HOOKS_ON_LOST: Vec<String> = "hooks.on_lost", ListKind::Argv, Depends(r#"["/usr/local/bin/drop-address"]"#),
        "Runs at the end of a term, after the job and before the next leader's, if the lease leaves time.", secret;
    HOOKS_ON_LOST_TIMEOUT: Duration = "hooks.on_lost_timeout", SpanKind::at_least(1), Constant(r#""10s""#),
        "How long it may take; less where the term is being lost.";

    HTTP_LISTEN: Option<SocketAddr> = "http.listen", AddressKind, Constant(r#""off""#),
        "Where the status endpoints listen, such as \"127.0.0.1:9180\"; \"off\" for nowhere.";
    HTTP_HOSTS: Vec<String> = "http.hosts", ListKind::Hosts, Constant("[]"),
        "Names by which they are asked, such as \"node1.example.com\"; by its address and as localhost always.";

    LOG_FILTER: String = "log.filter", TextKind::Filter, Constant(r#""info""#),
        "off, error, warn, info, debug or trace; or, by part, \"info,incumbent::session=debug\".";
    LOG_FORMAT: String = "log.format", TextKind::Choice(&["text", "json", "journald"]), Constant(r#""text""#),
        "text for people, json for one object a line, journald for the journal with its fields.";
}

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    KEYS.iter().find(|key| key.name == name)
}

/// Every section, the nested ones too.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.split().0).collect();
    sections.dedup();
    sections.retain(|section| !section.is_empty());
    sections
}

/// The name among those known that the user most likely meant; `None` if it is like none of them.
pub(super) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let nearest = known
        .into_iter()
        .min_by_key(|name| (strangeness(unknown, name), !shares_section(unknown, name)))?;
    is_like(unknown, nearest).then_some(nearest)
}

/// The question that follows upon an unknown name.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |nearest| {
        format!("; did you mean {nearest}?")
    })
}

fn shares_section(unknown: &str, known: &str) -> bool {
    let section = |name: &str| name.rsplit_once('.').map(|(section, _)| section.to_owned());
    section(unknown) == section(known)
}

/// How unlike two names are; the last part counts most, for a key in the wrong section.
fn strangeness(unknown: &str, known: &str) -> usize {
    let (section, name) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let (known_section, known_name) = known.rsplit_once('.').unwrap_or(("", known));
    let by_name = if begins(name, known_name) {
        1
    } else {
        levenshtein(name, known_name)
    };
    let elsewhere = levenshtein(section, known_section).min(3);
    levenshtein(unknown, known).min(by_name + elsewhere)
}

/// Whether one may be a misspelling of the other, or the same in another section.
fn is_like(unknown: &str, known: &str) -> bool {
    let last = |name: &str| name.rsplit('.').next().map(ToOwned::to_owned);
    let (name, known_name) = (
        last(unknown).unwrap_or_default(),
        last(known).unwrap_or_default(),
    );
    name == known_name || begins(&name, &known_name) || jaro(unknown, known) >= LIKE
}

/// How alike two names must be by Jaro's measure, from 0 to 1, to be taken for one.
const LIKE: f64 = 0.59;

fn begins(name: &str, known: &str) -> bool {
    name.len() > 2 && known.starts_with(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(unknown: &str) -> Option<&'static str> {
        nearest(unknown, KEYS.iter().map(|key| key.name))
    }

    #[test]
    fn a_misspelt_key_names_the_right_one() {
        for (unknown, known) in [
            ("election.tll", "election.ttl"),
            ("election.takeover", "election.takeover_delay"),
            ("ttl", "election.ttl"),
            ("job.runtime_dir", "runtime_dir"),
            ("etcd.password", "etcd.password_file"),
            ("etcd.ca_file", "etcd.tls.ca_file"),
            ("electoin.ttl", "election.ttl"),
            ("job.Command", "job.command"),
        ] {
            assert_eq!(meant(unknown), Some(known), "{unknown}");
        }
    }

    #[test]
    fn what_is_like_no_key_names_none() {
        for unknown in ["foo", "zzz.yyy", "x"] {
            assert_eq!(meant(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn names_are_unique_and_grouped_by_section() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        let mut grouped = sections();
        grouped.sort_unstable();
        grouped.dedup();
        assert_eq!(grouped.len(), sections().len());
    }

    #[test]
    fn docs_are_one_line() {
        for key in KEYS {
            assert!(
                !key.doc.is_empty() && !key.doc.contains('\n'),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn variables_of_the_environment() {
        assert_eq!(
            variable("etcd.tls.ca_file"),
            "INCUMBENT__ETCD__TLS__CA_FILE"
        );
        assert_eq!(variable("runtime_dir"), "INCUMBENT__RUNTIME_DIR");
    }
}
