//! Values by kind: what is expected of each, and what it becomes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::advice::Shown;
use super::keys::{Key, Kind};
use super::place::{Place, Problem, path_quoted, quoted};
use super::source::{Source, why_unreadable};
use super::timing::{LARGEST_TTL, SMALLEST_TTL};
use super::{address, compound, signal};
use crate::keys::{NotAPrefix, Prefix};

/// The one key of the table that stands for a date of TOML.
pub(super) const DATETIME: &str = "\0date";

/// The one key of the table that stands for a path that is no UTF-8.
const BYTES: &str = "\0bytes";

/// The longest name of a candidate, in bytes.
const LONGEST_NAME: usize = 255;

/// The start of a path that stands for systemd's directory of credentials.
const CREDENTIALS: &str = "${CREDENTIALS_DIRECTORY}";

/// A value that passed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    /// A duration.
    Span(Duration),
    /// A number.
    Count(u32),
    /// Text, a prefix or a word.
    Text(String),
    /// An absolute path.
    Path(PathBuf),
    /// URLs or arguments.
    List(Vec<String>),
    /// Variables.
    Variables(BTreeMap<String, String>),
    /// Settings of a Rust job.
    Table(toml::Table),
    /// A signal's number.
    Signal(i32),
    /// An address, or none for `off`.
    Address(Option<SocketAddr>),
}

/// Lets a reader of settings ask for the type it wants.
macro_rules! typed {
    ($($variant:ident => $type:ty),* $(,)?) => {$(
        impl TryFrom<Typed> for $type {
            type Error = ();

            fn try_from(typed: Typed) -> Result<Self, ()> {
                match typed {
                    Typed::$variant(value) => Ok(value),
                    _ => Err(()),
                }
            }
        }
    )*};
}

typed! {
    Span => Duration,
    Count => u32,
    Text => String,
    Path => PathBuf,
    List => Vec<String>,
    Variables => BTreeMap<String, String>,
    Table => toml::Table,
    Signal => i32,
    Address => Option<SocketAddr>,
}

/// What a value is read against.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// Where the configuration comes from.
    pub(super) source: &'a Source,
    /// The file, absolute.
    pub(super) file: Option<&'a Path>,
}

/// What is expected of `key`, in words.
pub(super) fn expected(key: &Key, job_kinds: &[String]) -> String {
    let example = key.preset.example();
    match key.kind {
        Kind::Span(least) if least.is_zero() => format!("a duration such as {example}"),
        Kind::Span(least) => {
            format!("a duration of at least {}, such as {example}", Shown(least))
        }
        Kind::Ttl => format!("whole seconds from {} on, such as {example}", Shown(SMALLEST_TTL)),
        Kind::Count => format!("a whole number from 1 on, such as {example}"),
        Kind::Text => format!("text without control characters, such as {example}"),
        Kind::Name => {
            format!("a name of 1 to {LONGEST_NAME} bytes without control characters, such as {example}")
        }
        Kind::Prefix => {
            format!("a prefix that isn't empty and holds no control characters, such as {example}")
        }
        Kind::Path | Kind::File => format!("a path such as {example}"),
        Kind::Urls => format!("a list of URLs such as {example}"),
        Kind::Hosts => r#"a list of names such as ["node1", "node1.example.com"]"#.to_owned(),
        Kind::Argv => format!("a list of text such as {example}"),
        Kind::Variables => r#"a table of text such as { LANG = "C" }"#.to_owned(),
        Kind::Table => "a table".to_owned(),
        Kind::Choice(words) => one_of(words.iter().copied()),
        Kind::JobKind => one_of(["command"].into_iter().chain(job_kinds.iter().map(String::as_str))),
        Kind::Signal => format!("the name of a signal: {}", signal::names()),
        Kind::Address => r#"an address such as "127.0.0.1:9180", or "off""#.to_owned(),
        Kind::Filter => {
            r#"a level (off, error, warn, info, debug, trace) or a list such as "info,incumbent::session=debug""#
                .to_owned()
        }
    }
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

/// The value of `key` as its kind has it.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse(
    key: &Key,
    value: &Value,
    context: &Context<'_>,
) -> Result<Typed, Vec<Problem>> {
    match key.kind {
        Kind::Urls | Kind::Argv | Kind::Hosts => return compound::list(key, value),
        Kind::Variables => return compound::variables(key, value),
        Kind::Table => return compound::settings(key, value),
        _ => {}
    }
    let fault = |what: String| vec![Problem::new(place_of(value), key.name, what)];
    let plain = || {
        let expected = expected(key, &context.source.job_kinds);
        let unit = match key.kind {
            Kind::Span(_) | Kind::Ttl if is_number(value) => ", which has no unit",
            _ => "",
        };
        let found = shown(value, key.secret);
        fault(format!("expected {expected}, found {found}{unit}"))
    };
    if let (Kind::Count, ValueKind::I64(number)) = (key.kind, &value.kind) {
        let count = u32::try_from(*number).ok().filter(|count| *count > 0);
        return count.map(Typed::Count).ok_or_else(plain);
    }
    if let (Kind::Path | Kind::File, Some(text)) = (key.kind, os_text(value)) {
        let path = path(&text, &place_of(value), context).map_err(fault)?;
        if key.kind == Kind::File {
            readable(&path).map_err(fault)?;
        }
        return Ok(Typed::Path(path));
    }
    let ValueKind::String(text) = &value.kind else {
        return Err(plain());
    };
    match key.kind {
        Kind::Span(least) => span(text).filter(|span| *span >= least).map(Typed::Span),
        Kind::Ttl => span(text).filter(|span| is_ttl(*span)).map(Typed::Span),
        Kind::Text => is_text(text).then(|| Typed::Text(text.clone())),
        Kind::Name => {
            (is_text(text) && text.len() <= LONGEST_NAME).then(|| Typed::Text(text.clone()))
        }
        Kind::Prefix if Prefix::checked(text) == Err(NotAPrefix::Records) => {
            let expected = "a prefix that doesn't end in .meta or contain .meta/, where incumbent \
                            keeps its records";
            return Err(fault(format!(
                "expected {expected}, found {}",
                quoted(text)
            )));
        }
        Kind::Prefix => Prefix::checked(text)
            .is_ok()
            .then(|| Typed::Text(text.clone())),
        Kind::Choice(words) => words
            .contains(&text.as_str())
            .then(|| Typed::Text(text.clone())),
        Kind::JobKind => {
            let known = text == "command" || context.source.job_kinds.contains(text);
            known.then(|| Typed::Text(text.clone()))
        }
        Kind::Signal => signal::number(text).map(Typed::Signal),
        Kind::Address if text == "off" => Some(Typed::Address(None)),
        Kind::Address => address::listening(text).map(|address| Typed::Address(Some(address))),
        Kind::Filter => crate::log::is_filter(text).then(|| Typed::Text(text.clone())),
        Kind::Count
        | Kind::Path
        | Kind::File
        | Kind::Urls
        | Kind::Hosts
        | Kind::Argv
        | Kind::Variables
        | Kind::Table => None,
    }
    .ok_or_else(plain)
}

/// A path that is no UTF-8, of which the `config` crate knows nothing.
pub(super) fn of_bytes(path: &OsStr, place: &Place) -> Value {
    let origin = place.origin();
    let at = |kind| Value::new(Some(&origin), kind);
    let bytes = path.as_bytes().iter();
    let bytes = bytes
        .map(|byte| at(ValueKind::I64((*byte).into())))
        .collect();
    let bytes = at(ValueKind::Array(bytes));
    at(ValueKind::Table(Map::from([(BYTES.to_owned(), bytes)])))
}

/// The text of a path, whatever its bytes.
fn os_text(value: &Value) -> Option<OsString> {
    let table = match &value.kind {
        ValueKind::String(text) => return Some(text.into()),
        ValueKind::Table(table) => table,
        _ => return None,
    };
    let ValueKind::Array(bytes) = &table.get(BYTES)?.kind else {
        return None;
    };
    let byte = |value: &Value| match value.kind {
        ValueKind::I64(byte) => u8::try_from(byte).ok(),
        _ => None,
    };
    bytes
        .iter()
        .map(byte)
        .collect::<Option<_>>()
        .map(OsString::from_vec)
}

/// A duration in words; one without a unit, `0` included, is none.
fn span(text: &str) -> Option<Duration> {
    let has_unit = text.contains(|character: char| character.is_ascii_alphabetic());
    has_unit
        .then(|| humantime::parse_duration(text).ok())
        .flatten()
}

/// Whether the value is a number, or text that would be one.
fn is_number(value: &Value) -> bool {
    match &value.kind {
        ValueKind::String(text) => text.trim().parse::<f64>().is_ok(),
        ValueKind::I64(_) | ValueKind::Float(_) => true,
        _ => false,
    }
}

fn is_ttl(span: Duration) -> bool {
    span.subsec_nanos() == 0 && (SMALLEST_TTL..=LARGEST_TTL).contains(&span)
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// The absolute path that `text` means.
fn path(text: &OsStr, place: &Place, context: &Context<'_>) -> Result<PathBuf, String> {
    let shown = path_quoted(Path::new(text));
    let as_text = text.to_string_lossy();
    if !is_text(&as_text) {
        let found = shown;
        return Err(format!(
            "expected a path without control characters, found {found}"
        ));
    }
    let base = match context.file.and_then(Path::parent) {
        Some(dir) if place.is_in_file() => dir,
        _ => &context.source.current_dir,
    };
    let Some(rest) = text.as_bytes().strip_prefix(CREDENTIALS.as_bytes()) else {
        if as_text.contains("${") {
            return Err(format!(
                "expected a path in which only {CREDENTIALS} at the start stands for something, \
                 found {shown}"
            ));
        }
        return Ok(base.join(text));
    };
    let dir = context.source.credentials_dir(context.file);
    let dir = dir.ok_or_else(|| {
        format!(
            "expected CREDENTIALS_DIRECTORY in the environment, as systemd sets it for a unit with \
             LoadCredential=, found it missing for {shown}{}",
            context.source.who_has_credentials(context.file)
        )
    })?;
    let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
    Ok(dir.join(OsStr::from_bytes(&rest[slashes..])))
}

/// Looks without opening: a path may be a pipe, and a pipe can be read but once.
fn readable(path: &Path) -> Result<(), String> {
    let found = if path.is_dir() {
        "a directory".to_owned()
    } else {
        match rustix::fs::access(path, rustix::fs::Access::READ_OK) {
            Ok(()) => return Ok(()),
            Err(error) => why_unreadable(&error.into()),
        }
    };
    let path = path_quoted(path);
    Err(format!("expected a readable file, found {found} at {path}"))
}
