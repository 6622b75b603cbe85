//! The file: TOML with the place of every value, all its faults of syntax, and its unknown keys.

use std::ops::Range;

use ::config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::jobs::{self, JOBS};
use super::keys::{self, Entry, KEYS};
use super::kinds::{self, DATETIME};
use super::layers::Layer;
use super::place::{Place, Problem};
use crate::keys::JobName;
use crate::log::printable;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct ReadFile {
    /// Its known keys.
    pub(super) layer: Layer,
    /// Its unknown keys, and tables where none belong.
    pub(super) problems: Vec<Problem>,
    /// Its faults of syntax, one a line; what else stands on that line is a guess.
    pub(super) syntax: Vec<Problem>,
}

/// Reads the bytes of the file that is shown as `file`.
pub(super) fn read(file: &str, bytes: &[u8]) -> ReadFile {
    let mut read = ReadFile::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            // The rest is not looked at: it may be in any encoding.
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let place = place_in(file, &valid, valid.len());
            let what = format!("expected UTF-8 text, found the byte 0x{byte:02x}");
            read.syntax.push(Problem::new(place, "", what));
            return read;
        }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or_default();
        let place = place_in(file, text, span.start);
        let (key, what) = syntax(table.get_ref(), text, span, error.message());
        let problem = Problem::new(place, key, what);
        // One fault may draw several errors; the first says where it began.
        if !read.syntax.iter().any(|known| known.shares_line(&problem)) {
            read.syntax.push(problem);
        }
    }
    let place = |span: Range<usize>| place_in(file, text, span.start);
    Walk {
        read: &mut read,
        place: &place,
    }
    .table(table.get_ref(), &mut Vec::new());
    read
}

/// The place of the byte at `offset`.
fn place_in(file: &str, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    // A byte order mark is no character that anyone sees.
    let column = before[line_start..]
        .trim_start_matches('\u{feff}')
        .chars()
        .count()
        + 1;
    Place::Line(file.to_owned(), line, column)
}

/// The key that a fault of syntax is about, and the fault in words. Never quotes a value, which
/// may be a secret.
fn syntax(table: &DeTable<'_>, text: &str, span: Range<usize>, message: &str) -> (String, String) {
    if message == "duplicate key" {
        let name = printable(&format!(
            "{}{}",
            parents(text, span.start),
            text.get(span.clone()).unwrap_or_default()
        ));
        let key = match section_at(table, text, span.start) {
            Some(section) => format!("{section}.{name}"),
            None => name,
        };
        return (key, "expected each key once, found it again".to_owned());
    }
    let key = key_at(table, span.start).unwrap_or_default();
    // A word that begins as one of TOML's own is taken for that one, misspelt.
    let bare = [
        "string values must be quoted",
        "invalid boolean",
        "invalid float, expected `inf`",
        "invalid float, expected `nan`",
    ];
    let is_bare = bare.iter().any(|bare| message.starts_with(bare));
    let what = match message {
        _ if is_bare && span.is_empty() && at_end_of_line(text, span.start) => {
            "expected a value, found none".to_owned()
        }
        _ if is_bare => {
            "expected text in quotes, a number or a list, found text without quotes".to_owned()
        }
        _ => format!("not valid TOML: {message}"),
    };
    (key, what)
}

fn at_end_of_line(text: &str, offset: usize) -> bool {
    let rest = text.get(offset..).unwrap_or_default();
    rest.is_empty() || rest.starts_with(['\n', '\r', '#'])
}

/// The path of the innermost entry whose value covers the byte at `offset`.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(deeper) => key_at(deeper, offset),
            _ => None,
        };
        let name = shown_key(key.get_ref());
        match inner {
            Some(inner) => Some(format!("{name}.{inner}")),
            None if matches!(value.get_ref(), DeValue::Table(_)) => None,
            None => {
                let span = value.span();
                (span.start <= offset && offset <= span.end).then_some(name)
            }
        }
    })
}

/// What stands before the last part of a dotted key that begins at `start`, dots included.
fn parents(text: &str, start: usize) -> String {
    let blank = [' ', '\t'];
    let mut parents = String::new();
    let mut rest = text
        .get(..start)
        .unwrap_or_default()
        .trim_end_matches(blank);
    while let Some(before) = rest.strip_suffix('.') {
        let before = before.trim_end_matches(blank);
        let name = match before.chars().next_back() {
            Some(quote @ ('"' | '\'')) => before[..before.len() - 1].rfind(quote),
            _ => Some(before.trim_end_matches(is_bare).len()),
        };
        let (left, name) = before.split_at(name.unwrap_or(before.len()));
        parents = format!("{name}.{parents}");
        rest = left.trim_end_matches(blank);
    }
    parents
}

/// The table in which the key at `offset` stands: the inline one around it, or that of the last
/// header before it. A header itself stands in none.
fn section_at(table: &DeTable<'_>, text: &str, offset: usize) -> Option<String> {
    let mut last = (0, None);
    tables(table, &mut Vec::new(), &mut |path, span| {
        let opening = text.get(span.start..).unwrap_or_default();
        let is_header = opening.starts_with('[');
        let is_inline = opening.starts_with('{');
        let is_around = span.contains(&offset);
        let is_before = is_header && span.end <= offset;
        if (is_before || is_around && (is_header || is_inline)) && span.start >= last.0 {
            let is_itself = is_header && is_around;
            last = (span.start, (!is_itself).then(|| dotted(path)));
        }
    });
    last.1
}

/// Shows `look` each table below `table`, with its path.
fn tables(
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    look: &mut dyn FnMut(&[String], Range<usize>),
) {
    for (name, value) in table {
        if let DeValue::Table(deeper) = value.get_ref() {
            path.push(name.get_ref().clone().into_owned());
            look(path, value.span());
            tables(deeper, path, look);
            path.pop();
        }
    }
}

/// The walk over the tables of a file.
struct Walk<'a> {
    read: &'a mut ReadFile,
    place: &'a dyn Fn(Range<usize>) -> Place,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (name, value) in table {
            path.push(name.get_ref().clone().into_owned());
            self.entry(name.span(), value, path);
            path.pop();
        }
    }

    fn entry(&mut self, name: Range<usize>, value: &Spanned<DeValue<'_>>, path: &mut Vec<String>) {
        let dotted = dotted(path);
        let is_table = value.get_ref().is_table();
        let known = match path.as_slice() {
            [jobs, ..] if jobs == JOBS => in_jobs(path),
            _ => in_file(path),
        };
        if let WalkedPath::BadName(job) = known {
            let problem = jobs::bad_name((self.place)(name), job);
            self.read.problems.push(problem);
        } else if let WalkedPath::Key(key, path) = known {
            if is_table && !key.kind.is_table() {
                let what = format!("expected {}, found a table", kinds::expected(key, &[]));
                let place = (self.place)(value.span());
                self.read.problems.push(Problem::new(place, dotted, what));
                return;
            }
            let value = self::value(value.get_ref(), value.span(), self.place);
            self.read.layer.set(&path, value);
        } else if matches!(known, WalkedPath::Unknown) {
            self.unknown(name, is_table, dotted, path);
        } else if let DeValue::Table(deeper) = value.get_ref() {
            if let [jobs, job] = path.as_slice()
                && jobs == JOBS
            {
                // One that has nothing of its own is a job all the same.
                self.read.layer.table(&[jobs, job]);
            }
            self.table(deeper, path);
        } else {
            let place = (self.place)(value.span());
            let what = format!(
                "expected a section [{dotted}] with keys of its own, found {}",
                match value.get_ref() {
                    DeValue::Array(_) => "a list",
                    _ => "a value",
                }
            );
            self.read.problems.push(Problem::new(place, dotted, what));
        }
    }

    fn unknown(&mut self, name: Range<usize>, is_table: bool, dotted: String, path: &[String]) {
        let of_job = match path {
            [jobs, job, ..] if jobs == JOBS => jobs::known(&shown_key(job)),
            _ => Vec::new(),
        };
        let (noun, nearest) = if !of_job.is_empty() {
            let noun = if is_table { "section" } else { "key" };
            let known = of_job.iter().map(String::as_str);
            (noun, keys::nearest(&dotted, known))
        } else if is_table {
            let tables = KEYS.iter().filter(|key| key.kind.is_table());
            let known = keys::sections()
                .into_iter()
                .chain(tables.map(|key| key.name));
            ("section", keys::nearest(&dotted, known))
        } else {
            (
                "key",
                keys::nearest(&dotted, KEYS.iter().map(|key| key.name)),
            )
        };
        let what = format!("unknown {noun}{}", keys::did_you_mean(nearest));
        let place = (self.place)(name);
        self.read.problems.push(Problem::new(place, dotted, what));
    }
}

/// What stands at a path.
enum WalkedPath<'a> {
    /// A key, whose value has this path in the tree.
    Key(&'static Entry, Vec<&'a str>),
    /// A table of keys.
    Section,
    /// A job whose name can be none.
    BadName(&'a str),
    Unknown,
}

/// What stands at `path`, outside of the jobs' own tables.
fn in_file(path: &[String]) -> WalkedPath<'_> {
    let dotted = dotted(path);
    match keys::find(&dotted) {
        Some(key) => WalkedPath::Key(key, path.iter().map(String::as_str).collect()),
        None if keys::sections().contains(&dotted.as_str()) => WalkedPath::Section,
        None => WalkedPath::Unknown,
    }
}

/// What stands at `path`, which begins with [`JOBS`].
fn in_jobs(path: &[String]) -> WalkedPath<'_> {
    let [_, job, below @ ..] = path else {
        return WalkedPath::Section;
    };
    if JobName::new(job).is_none() {
        return WalkedPath::BadName(job);
    }
    let dotted = dotted(below);
    match jobs::find(&dotted) {
        Some(key) => {
            let path = [JOBS, job].into_iter().chain(key.name.split('.'));
            WalkedPath::Key(key, path.collect())
        }
        None if below.is_empty() || jobs::is_section(&dotted) => WalkedPath::Section,
        None => WalkedPath::Unknown,
    }
}

/// The path with dots; parts that TOML would want quoted are, so they match no known key.
fn dotted(path: &[String]) -> String {
    let parts: Vec<String> = path.iter().map(|part| shown_key(part)).collect();
    parts.join(".")
}

/// Whether TOML has the character in keys without quotes.
fn is_bare(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-".contains(character)
}

/// A key as TOML has it, escaped where it is not a bare one.
pub(super) fn shown_key(key: &str) -> String {
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        super::place::quoted(key)
    }
}

/// A value of TOML as the `config` crate has it, with the place of everything in it.
pub(super) fn value(
    value: &DeValue<'_>,
    span: Range<usize>,
    place: &dyn Fn(Range<usize>) -> Place,
) -> Value {
    let origin = place(span).origin();
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.clone().into_owned()),
        DeValue::Boolean(truth) => ValueKind::Boolean(*truth),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            match (
                i64::from_str_radix(digits, radix),
                i128::from_str_radix(digits, radix),
            ) {
                (Ok(number), _) => ValueKind::I64(number),
                (_, Ok(number)) => ValueKind::I128(number),
                _ => ValueKind::I128(i128::MAX),
            }
        }
        DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        // The crate knows no dates; a table that nobody writes keeps them apart from text.
        DeValue::Datetime(date) => {
            let date = Value::new(Some(&origin), ValueKind::String(date.to_string()));
            ValueKind::Table(Map::from([(DATETIME.to_owned(), date)]))
        }
        DeValue::Array(list) => ValueKind::Array(
            list.iter()
                .map(|item| self::value(item.get_ref(), item.span(), place))
                .collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(
            table
                .iter()
                .map(|(name, item)| {
                    let name = name.get_ref().clone().into_owned();
                    (name, self::value(item.get_ref(), item.span(), place))
                })
                .collect(),
        ),
    };
    Value::new(Some(&origin), kind)
}
