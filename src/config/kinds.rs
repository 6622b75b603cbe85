//! Values by kind: what is expected of each, what it becomes, and how it is shown.
//!
//! The kinds whose values have one type make one enum. The table below binds them to that type, so
//! that a key's kind and the type of its value can't disagree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) mod schema;
mod span;

use ::config::{Value, ValueKind};

use super::keys::{Entry, Key, Preset};
use super::place::{Place, Problem, path_quoted, quoted};
use super::source::Source;
use super::{address, compound, file_path, signal};
use crate::keys::{NotAPrefix, Prefix};
use crate::schedule;
pub use span::{LimitKind, SpanKind};

/// The one key of the table that stands for a date of TOML.
pub(super) const DATETIME: &str = "\0date";

/// The longest name of a candidate, in bytes.
const LONGEST_NAME: usize = 255;

/// A value that passed, or the reasons why it doesn't.
pub(super) type Parsed<T> = Result<T, Vec<Problem>>;

/// How the values of some kinds are read and shown.
trait Reading: Copy {
    /// What they become.
    type Value;

    /// What is expected of one, in words.
    fn expected(self, example: &str, job_kinds: &[String]) -> String;

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<Self::Value>;

    /// The value in TOML.
    fn shown(value: &Self::Value) -> String;
}

/// Binds kinds to the type of their values.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($kind:ident) => $type:ty,)*) => {
        /// What a value is, and so how text from the environment or a flag becomes one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $name($kind),)*
        }

        /// A value that passed.
        #[derive(Clone, Debug, PartialEq)]
        pub(super) enum Typed {
            $($name($type),)*
        }

        /// What is expected of `key`, in words.
        pub(super) fn expected(key: &Entry, job_kinds: &[String]) -> String {
            let example = key.preset.example();
            match key.kind {
                $(Kind::$name(kind) => kind.expected(example, job_kinds),)*
            }
        }

        /// The value of `key` as its kind has it.
        ///
        /// # Errors
        /// Everything that is wrong with it.
        pub(super) fn parse(key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<Typed> {
            match key.kind {
                $(Kind::$name(kind) => kind.parse(key, value, context).map(Typed::$name),)*
            }
        }

        /// A value that passed, in TOML; `…` for one that is never shown.
        pub(super) fn shown_typed(key: &Entry, typed: &Typed) -> String {
            match typed {
                _ if key.secret => "…".to_owned(),
                $(Typed::$name(value) => $kind::shown(value),)*
            }
        }

        $(
            impl Key<$type> {
                /// A key whose values are of this kind.
                pub(super) const fn new(
                    name: &'static str,
                    kind: $kind,
                    preset: Preset,
                    doc: &'static str,
                ) -> Self {
                    Self::of(Entry::new(name, Kind::$name(kind), preset, doc))
                }
            }

            impl TryFrom<Typed> for $type {
                type Error = ();

                fn try_from(typed: Typed) -> Result<Self, ()> {
                    match typed {
                        Typed::$name(value) => Ok(value),
                        _ => Err(()),
                    }
                }
            }
        )*
    };
}

kinds! {
    /// A duration in words.
    Span(SpanKind) => Duration,
    /// A duration, or `off`.
    Limit(LimitKind) => Option<Duration>,
    /// A number.
    Count(CountKind) => u32,
    /// Text.
    Text(TextKind) => String,
    /// A path, absolute once it is read.
    Path(PathKind) => PathBuf,
    /// A list of text.
    List(ListKind) => Vec<String>,
    /// Variables of an environment.
    Variables(VariablesKind) => BTreeMap<String, String>,
    /// A table whose shape a Rust job knows.
    Table(TableKind) => toml::Table,
    /// A signal by name.
    Signal(SignalKind) => i32,
    /// An address to listen on, or `off`.
    Address(AddressKind) => Option<SocketAddr>,
}

impl Kind {
    /// Whether a table stands there, so that deeper keys are the user's own.
    pub(super) const fn is_table(self) -> bool {
        matches!(self, Self::Variables(_) | Self::Table(_))
    }
}

/// Which whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountKind {
    least: u32,
    most: u32,
}

impl CountKind {
    /// From 1 on.
    pub(super) const ANY: Self = Self::within(1, u32::MAX);

    /// Within these bounds, which are among them.
    pub(super) const fn within(least: u32, most: u32) -> Self {
        Self { least, most }
    }
}

impl Reading for CountKind {
    type Value = u32;

    fn expected(self, example: &str, _: &[String]) -> String {
        let Self { least, most } = self;
        match most {
            u32::MAX => format!("a whole number from {least} on, such as {example}"),
            most => format!("a whole number from {least} to {most}, such as {example}"),
        }
    }

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<u32> {
        let count = match value.kind {
            ValueKind::I64(number) => u32::try_from(number).ok(),
            _ => None,
        };
        let count = count.filter(|count| (self.least..=self.most).contains(count));
        count.ok_or_else(|| unexpected(key, value, context))
    }

    fn shown(count: &u32) -> String {
        count.to_string()
    }
}

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Any that is not empty and has no control characters.
    Any,
    /// The value of a candidate key.
    Name,
    /// The prefix of an election.
    Prefix,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `command`, or a registered Rust job.
    JobKind,
    /// Levels of logging.
    Filter,
    /// A time zone that this host knows.
    Zone,
}

impl Reading for TextKind {
    type Value = String;

    fn expected(self, example: &str, job_kinds: &[String]) -> String {
        match self {
            Self::Any => format!("text without control characters, such as {example}"),
            Self::Name => {
                format!("a name of 1 to {LONGEST_NAME} bytes without control characters, such as {example}")
            }
            Self::Prefix => {
                format!("a prefix that isn't empty and holds no control characters, such as {example}")
            }
            Self::Choice(words) => one_of(words.iter().copied()),
            Self::JobKind => one_of(["command"].into_iter().chain(job_kinds.iter().map(String::as_str))),
            Self::Filter => {
                r#"a level (off, error, warn, info, debug, trace) or a list such as "info,incumbent::session=debug""#
                    .to_owned()
            }
            Self::Zone => format!("an IANA time zone such as {example}"),
        }
    }

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<String> {
        if let (Self::Zone, ValueKind::String(text)) = (self, &value.kind)
            && let Err(problem) = schedule::check_zone(text)
        {
            return Err(fault(key, value, problem.to_string()));
        }
        if let (Self::Prefix, ValueKind::String(text)) = (self, &value.kind)
            && Prefix::checked(text) == Err(NotAPrefix::Records)
        {
            let expected = "a prefix that doesn't end in .meta or contain .meta/, where incumbent \
                            keeps its records";
            let what = format!("expected {expected}, found {}", quoted(text));
            return Err(fault(key, value, what));
        }
        let fits = |text: &str| match self {
            Self::Any => is_text(text),
            Self::Name => is_name(text),
            Self::Prefix => Prefix::checked(text).is_ok(),
            Self::Choice(words) => words.contains(&text),
            Self::JobKind => {
                text == "command" || context.source.job_kinds.iter().any(|known| known == text)
            }
            Self::Filter => crate::log::is_filter(text),
            Self::Zone => true,
        };
        from_text(key, value, context, |text| {
            fits(text).then(|| text.to_owned())
        })
    }

    fn shown(text: &String) -> String {
        quoted(text)
    }
}

/// Which paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Any.
    Any,
    /// That of a file that must be readable.
    File,
}

impl Reading for PathKind {
    type Value = PathBuf;

    fn expected(self, example: &str, _: &[String]) -> String {
        format!("a path such as {example}")
    }

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<PathBuf> {
        let text = file_path::text(value).ok_or_else(|| unexpected(key, value, context))?;
        let fault = |what| fault(key, value, what);
        let path = file_path::absolute(&text, &place_of(value), context).map_err(fault)?;
        if self == Self::File {
            file_path::readable(&path).map_err(fault)?;
        }
        Ok(path)
    }

    fn shown(path: &PathBuf) -> String {
        path_quoted(path)
    }
}

/// Whether it can be the name of a candidate.
pub(super) fn is_name(text: &str) -> bool {
    is_text(text) && text.len() <= LONGEST_NAME
}

/// Which lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// URLs of the store's members.
    Urls,
    /// Names by which this host is asked.
    Hosts,
    /// Names of candidates.
    Names,
    /// A command and its arguments.
    Argv,
    /// Patterns of cron; a single one may stand there without a list.
    Patterns,
}

impl Reading for ListKind {
    type Value = Vec<String>;

    fn expected(self, example: &str, _: &[String]) -> String {
        match self {
            Self::Urls => format!("a list of URLs such as {example}"),
            Self::Hosts => r#"a list of names such as ["node1", "node1.example.com"]"#.to_owned(),
            Self::Argv | Self::Names => format!("a list of text such as {example}"),
            Self::Patterns => format!("a pattern of cron such as {example}, or a list of them"),
        }
    }

    fn parse(self, key: &Entry, value: &Value, _: &Context<'_>) -> Parsed<Vec<String>> {
        compound::list(self, key, value)
    }

    fn shown(items: &Vec<String>) -> String {
        let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Variables for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariablesKind;

impl Reading for VariablesKind {
    type Value = BTreeMap<String, String>;

    fn expected(self, _: &str, _: &[String]) -> String {
        r#"a table of text such as { LANG = "C" }"#.to_owned()
    }

    fn parse(
        self,
        key: &Entry,
        value: &Value,
        _: &Context<'_>,
    ) -> Parsed<BTreeMap<String, String>> {
        compound::variables(key, value)
    }

    fn shown(_: &BTreeMap<String, String>) -> String {
        "…".to_owned()
    }
}

/// What a Rust job knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableKind;

impl Reading for TableKind {
    type Value = toml::Table;

    fn expected(self, _: &str, _: &[String]) -> String {
        "a table".to_owned()
    }

    fn parse(self, key: &Entry, value: &Value, _: &Context<'_>) -> Parsed<toml::Table> {
        compound::settings(key, value)
    }

    fn shown(_: &toml::Table) -> String {
        "…".to_owned()
    }
}

/// Signals that a job can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalKind;

impl Reading for SignalKind {
    type Value = i32;

    fn expected(self, _: &str, _: &[String]) -> String {
        format!("the name of a signal: {}", signal::names())
    }

    fn parse(self, key: &Entry, value: &Value, context: &Context<'_>) -> Parsed<i32> {
        from_text(key, value, context, signal::number)
    }

    fn shown(number: &i32) -> String {
        quoted(&signal::name(*number))
    }
}

/// An address, or none for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKind;

impl Reading for AddressKind {
    type Value = Option<SocketAddr>;

    fn expected(self, _: &str, _: &[String]) -> String {
        r#"an address such as "127.0.0.1:9180", or "off""#.to_owned()
    }

    fn parse(
        self,
        key: &Entry,
        value: &Value,
        context: &Context<'_>,
    ) -> Parsed<Option<SocketAddr>> {
        from_text(key, value, context, |text| match text {
            "off" => Some(None),
            text => address::listening(text).map(Some),
        })
    }

    fn shown(address: &Option<SocketAddr>) -> String {
        let address = address.map(|address| address.to_string());
        format!("\"{}\"", address.as_deref().unwrap_or("off"))
    }
}

/// What a value is read against.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// Where the configuration comes from.
    pub(super) source: &'a Source,
    /// The file, absolute.
    pub(super) file: Option<&'a Path>,
}

fn fault(key: &Entry, value: &Value, what: String) -> Vec<Problem> {
    vec![Problem::new(place_of(value), key.name, what)]
}

/// The value isn't what is expected of `key`.
fn unexpected(key: &Entry, value: &Value, context: &Context<'_>) -> Vec<Problem> {
    let expected = expected(key, &context.source.job_kinds);
    let unit = match key.kind {
        Kind::Span(_) | Kind::Limit(_) if is_number(value) => ", which has no unit",
        _ => "",
    };
    let found = shown(value, key.secret);
    fault(
        key,
        value,
        format!("expected {expected}, found {found}{unit}"),
    )
}

/// What `read` makes of a value that is text.
fn from_text<T>(
    key: &Entry,
    value: &Value,
    context: &Context<'_>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Parsed<T> {
    let typed = match &value.kind {
        ValueKind::String(text) => read(text),
        _ => None,
    };
    typed.ok_or_else(|| unexpected(key, value, context))
}

fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    match words.as_slice() {
        [only] => only.clone(),
        [] => String::new(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Where a value stands; a merged table has no place of its own, so that of its first entry.
pub(super) fn place_of(value: &Value) -> Place {
    match (&value.kind, value.origin()) {
        (ValueKind::Table(table), None) => {
            table.values().map(place_of).min().unwrap_or(Place::Default)
        }
        _ => Place::of(value),
    }
}

/// A value as errors show it.
pub(super) fn shown(value: &Value, secret: bool) -> String {
    match &value.kind {
        ValueKind::Table(table) if table.contains_key(DATETIME) => "a date".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::String(_) if secret => "text".to_owned(),
        ValueKind::Boolean(_) if secret => "true or false".to_owned(),
        _ if secret => "a number".to_owned(),
        ValueKind::String(text) => quoted(text),
        ValueKind::Boolean(truth) => truth.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        _ => "a number too large".to_owned(),
    }
}

/// Whether the value is that of the table, however it is written there.
pub(super) fn is_example(key: &Entry, typed: &Typed) -> bool {
    let example = key.preset.example();
    match typed {
        Typed::Span(value) => span::span(example.trim_matches('"')) == Some(*value),
        _ => shown_typed(key, typed) == example,
    }
}

/// Whether the value is a number, or text that would be one.
fn is_number(value: &Value) -> bool {
    match &value.kind {
        ValueKind::String(text) => text.trim().parse::<f64>().is_ok(),
        ValueKind::I64(_) | ValueKind::Float(_) => true,
        _ => false,
    }
}

pub(super) fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
