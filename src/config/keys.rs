//! The one table of keys: what may be written, as what, and why.
//!
//! The merged tree is walked along this table, and the shipped `config/incumbent.toml` is written
//! from it, so neither can know a key that the other doesn't.

use std::time::Duration;

use strsim::{jaro, levenshtein};

/// What a value is, and so how text from the environment or a flag becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A duration in words, at least so long.
    Span(Duration),
    /// A duration in words that is whole seconds, within what etcd grants.
    Ttl,
    /// A whole number from 1.
    Count,
    /// Text that is not empty and has no control characters.
    Text,
    /// The value of a candidate key.
    Name,
    /// The prefix of an election.
    Prefix,
    /// A path.
    Path,
    /// The path of a file that must be readable.
    File,
    /// URLs of the store's members.
    Urls,
    /// Names by which this host is asked.
    Hosts,
    /// A command and its arguments.
    Argv,
    /// Variables of an environment.
    Variables,
    /// A table whose shape a Rust job knows.
    Table,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `command`, or a registered Rust job.
    JobKind,
    /// A signal by name.
    Signal,
    /// An address to listen on, or `off`.
    Address,
    /// Levels of logging.
    Filter,
}

impl Kind {
    /// Whether a table stands there, so that deeper keys are the user's own.
    pub(super) const fn is_table(self) -> bool {
        matches!(self, Self::Variables | Self::Table)
    }
}

/// What holds where the user writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This value, in TOML.
    Constant(&'static str),
    /// Nothing, or what the doc line says; this is an example in TOML.
    Depends(&'static str),
}

impl Preset {
    /// The TOML that shows how the key is written.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Constant(text) | Self::Depends(text) => text,
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
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

impl Key {
    const fn new(name: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            preset,
            doc,
            secret: false,
        }
    }

    const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
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

/// The variable of the environment that sets the key `name`.
pub fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "__").to_uppercase())
}

/// What the variables of the environment that set keys begin with.
pub const PREFIX: &str = "INCUMBENT__";

const fn at_least(millis: u64) -> Kind {
    Kind::Span(Duration::from_millis(millis))
}

use Kind::{
    Address, Argv, Choice, Count, File, Filter, Hosts, JobKind, Name, Path, Prefix, Signal, Table,
    Text, Ttl, Urls, Variables,
};
use Preset::{Constant, Depends};

/// Every key, in the order of the shipped file.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    Key::new("runtime_dir", Path, Depends(r#""/run/incumbent""#),
        "Lease file, control socket. Default: $RUNTIME_DIRECTORY, else incumbent/ in $XDG_RUNTIME_DIR or /run."),

    Key::new("candidate.name", Name, Depends(r#""host-a""#),
        "Who this replica is in the election, for people and for the job. Default: the host name."),

    Key::new("candidate.check.command", Argv, Depends(r#"["/usr/bin/pg_isready", "--quiet"]"#),
        "Exit code 0 says that this replica may lead; without one it always may.").secret(),
    Key::new("candidate.check.interval", at_least(100), Constant(r#""5s""#),
        "From the start of one check to the next."),
    Key::new("candidate.check.timeout", at_least(10), Constant(r#""2s""#),
        "A check that takes longer is killed, and has failed."),
    Key::new("candidate.check.rise", Count, Constant("2"),
        "After so many successes in a row an unhealthy replica is healthy again; the first check alone decides."),
    Key::new("candidate.check.fall", Count, Constant("3"),
        "After so many failures in a row a healthy replica is unhealthy."),

    Key::new("etcd.endpoints", Urls, Constant(r#"["http://127.0.0.1:2379"]"#),
        "The members of the store; name all of them, so that any one may be away."),
    Key::new("etcd.connect_timeout", at_least(1), Constant(r#""2s""#),
        "How long one member may take to be reached before the next one is tried."),
    Key::new("etcd.username", Text, Depends(r#""incumbent""#),
        "The store's user, where it asks for one; needs password_file."),
    Key::new("etcd.password_file", File, Depends(r#""${CREDENTIALS_DIRECTORY}/etcd-password""#),
        "The user's password; a path, best that of a systemd credential, as here."),

    Key::new("etcd.tls.ca_file", File, Depends(r#""/etc/incumbent/ca.pem""#),
        "Certificates of the authorities to trust; needed where endpoints are https."),
    Key::new("etcd.tls.cert_file", File, Depends(r#""/etc/incumbent/client.pem""#),
        "Our certificate, where the store asks for one; needs key_file."),
    Key::new("etcd.tls.key_file", File, Depends(r#""${CREDENTIALS_DIRECTORY}/client-key""#),
        "The key of our certificate."),
    Key::new("etcd.tls.server_name", Text, Depends(r#""etcd.example.com""#),
        "The name in the members' certificates, where it isn't the endpoint's host."),

    Key::new("election.prefix", Prefix, Constant(r#""/incumbent/default""#),
        "Which election to stand in: replicas of one job share it, other jobs have another."),
    Key::new("election.ttl", Ttl, Constant(r#""15s""#),
        "Whole seconds until a lost host is given up; from 15s on, a hung leader of etcd costs no term."),
    Key::new("election.takeover_delay", at_least(0), Depends(r#""1500ms""#),
        "Wait after an end that nobody proved. Default: kill_budget + 500ms; at least kill_budget + 200ms."),

    Key::new("job.kind", JobKind, Constant(r#""command""#),
        "\"command\", or the name of a job written in Rust and registered in this binary."),
    Key::new("job.command", Argv, Depends(r#"["/usr/bin/backup", "--full"]"#),
        "The command and its arguments; no shell looks at them.").secret(),
    Key::new("job.working_dir", Path, Depends(r#""/var/lib/backup""#),
        "Where the command starts. Default: where the daemon does."),
    Key::new("job.env", Variables, Constant("{}"),
        "More variables for the command, such as { LANG = \"C\" }.").secret(),
    Key::new("job.stop_signal", Signal, Constant(r#""SIGTERM""#),
        "The signal that asks the job to end."),
    Key::new("job.stop_grace", at_least(0), Constant(r#""30s""#),
        "How long the job may take to end on a planned stop, before SIGKILL."),
    Key::new("job.lost_grace", at_least(0), Depends(r#""2s""#),
        "How long it may take while the term is being lost. Default: the smaller of 2s and ttl/5."),
    Key::new("job.kill_budget", at_least(10), Depends(r#""1s""#),
        "How long SIGKILL may take to empty the job's tree. Default: the smaller of 1s and ttl/5."),
    Key::new("job.restart", Choice(&["always", "on-failure", "never"]), Constant(r#""always""#),
        "Start the job again when it ends: always, on-failure, never. If not, the term is given back."),
    Key::new("job.restart_delay", at_least(1), Constant(r#""1s""#),
        "The first pause before a restart; doubled each time, and jittered."),
    Key::new("job.restart_delay_max", at_least(1), Constant(r#""60s""#),
        "The longest pause; after a run that lasts longer than this, the first again."),
    Key::new("job.yield_after", Count, Constant("5"),
        "After so many failures in a row another host may try."),
    Key::new("job.yield_cooldown", at_least(0), Constant(r#""60s""#),
        "How long this host then stays out of the election."),
    Key::new("job.settings", Table, Constant("{}"),
        "Handed to a job written in Rust, which knows what belongs there.").secret(),

    Key::new("hooks.on_elected", Argv, Depends(r#"["/usr/local/bin/take-address"]"#),
        "Runs in each term before the job; unless it ends with 0 in its time, the term is given back.").secret(),
    Key::new("hooks.on_elected_timeout", at_least(1), Constant(r#""10s""#),
        "How long it may take; this host then stays out of the election for job.yield_cooldown."),
    Key::new("hooks.on_lost", Argv, Depends(r#"["/usr/local/bin/drop-address"]"#),
        "Runs at the end of a term, after the job and before the next leader's, if the lease leaves time.").secret(),
    Key::new("hooks.on_lost_timeout", at_least(1), Constant(r#""10s""#),
        "How long it may take; less where the term is being lost."),

    Key::new("http.listen", Address, Constant(r#""off""#),
        "Where the status endpoints listen, such as \"127.0.0.1:9180\"; \"off\" for nowhere."),
    Key::new("http.hosts", Hosts, Constant("[]"),
        "Names by which they are asked, such as \"node1.example.com\"; by its address and as localhost always."),

    Key::new("log.filter", Filter, Constant(r#""info""#),
        "off, error, warn, info, debug or trace; or, by part, \"info,incumbent::session=debug\"."),
    Key::new("log.format", Choice(&["text", "json", "journald"]), Constant(r#""text""#),
        "text for people, json for one object a line, journald for the journal with its fields."),
];

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
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
        .min_by_key(|name| strangeness(unknown, name))?;
    is_like(unknown, nearest).then_some(nearest)
}

/// The question that follows upon an unknown name.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |nearest| {
        format!("; did you mean {nearest}?")
    })
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
    let elsewhere = levenshtein(section, known_section).min(2);
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
        for unknown in ["job.schedule", "job.schedule.cron", "foo", "zzz.yyy", "x"] {
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
