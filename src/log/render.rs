//! Records as lines for people, as JSON, and as the journal's own datagrams.

use std::fmt::Write as _;

use serde::ser::{SerializeMap, Serializer};
use tracing::Level;

use super::foreign::{escaped_json, is_printable, printable};
use super::record::{LogRecord, Value};

/// What the journal's fields of ours begin with.
const JOURNAL_PREFIX: &str = "INCUMBENT_";

/// Whether the record comes from our own crate; others' lines name their module.
fn is_ours(record: &LogRecord) -> bool {
    let ours = env!("CARGO_PKG_NAME");
    record.target.split("::").next() == Some(ours)
}

/// The moment as text: RFC 3339, UTC, milliseconds.
fn timestamp(record: &LogRecord) -> String {
    humantime::format_rfc3339_millis(record.at).to_string()
}

/// A line for people: time, level, message, then the fields that have a value.
pub(super) fn text(record: &LogRecord, colour: bool) -> Vec<u8> {
    let (dim, on, off) = match (colour, record.level) {
        (false, _) => ("", "", ""),
        (true, Level::ERROR) => ("\x1b[2m", "\x1b[1;31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[2m", "\x1b[0m"),
    };
    let mut line = format!("{dim}{}{off} {on}{}{off} ", timestamp(record), record.level);
    line.push_str(&printable(&record.message));
    let mut field = |name: &str, value: &str| {
        line.push(' ');
        line.push_str(dim);
        line.push_str(name);
        line.push('=');
        line.push_str(off);
        push_value(&mut line, value);
    };
    for (name, value) in &record.fields {
        match value {
            Value::Null => {}
            Value::Text(text) => field(name, text),
            Value::Bool(value) => field(name, &value.to_string()),
            Value::Integer(value) => field(name, &value.to_string()),
            Value::Float(value) => field(name, &value.to_string()),
        }
    }
    if !is_ours(record) {
        field("target", &record.target);
    }
    line.push('\n');
    line.into_bytes()
}

/// Appends the value of a field, in quotes where its end would not be seen without.
fn push_value(line: &mut String, value: &str) {
    let is_plain = !value.is_empty()
        && !value.contains(|c: char| c.is_whitespace() || !is_printable(c) || "\"=".contains(c));
    if is_plain {
        line.push_str(value);
    } else {
        // Writing to a String cannot fail.
        _ = write!(line, "{}", printable(&format!("{value:?}")));
    }
}

/// One JSON object: timestamp, level, message, then the fields, without nesting.
pub(super) fn json(record: &LogRecord) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    // Only a writer that fails, or a map key that is no text, could make this fail.
    _ = json_object(record, &mut line);
    let mut line = escaped_json(&String::from_utf8_lossy(&line)).into_bytes();
    line.push(b'\n');
    line
}

fn json_object(record: &LogRecord, line: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &timestamp(record))?;
    map.serialize_entry("level", record.level.as_str())?;
    map.serialize_entry("message", &record.message)?;
    for (name, value) in &record.fields {
        match value {
            Value::Null => map.serialize_entry(name, &()),
            Value::Bool(value) => map.serialize_entry(name, value),
            Value::Integer(value) => map.serialize_entry(name, value),
            Value::Float(value) => map.serialize_entry(name, value),
            Value::Text(value) => map.serialize_entry(name, value),
        }?;
    }
    if !is_ours(record) {
        map.serialize_entry("target", &record.target)?;
    }
    map.end()
}

/// A datagram in the journal's native protocol.
pub(super) fn journal(record: &LogRecord) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(256);
    let priority = match record.level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    };
    push_journal_field(&mut datagram, "PRIORITY", priority);
    push_journal_field(&mut datagram, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    push_journal_field(&mut datagram, "TARGET", &record.target);
    push_journal_field(&mut datagram, "MESSAGE", &record.message);
    for (name, value) in &record.fields {
        let name = format!(
            "{JOURNAL_PREFIX}{}",
            name.replace('.', "_").to_ascii_uppercase()
        );
        match value {
            Value::Null => {}
            Value::Text(text) => push_journal_field(&mut datagram, &name, text),
            Value::Bool(value) => push_journal_field(&mut datagram, &name, &value.to_string()),
            Value::Integer(value) => push_journal_field(&mut datagram, &name, &value.to_string()),
            Value::Float(value) => push_journal_field(&mut datagram, &name, &value.to_string()),
        }
    }
    datagram
}

/// Appends one field; the form with a length is the one in which a value may hold newlines.
fn push_journal_field(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend_from_slice(name.as_bytes());
    datagram.push(b'\n');
    datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn record(fields: Vec<(&'static str, Value)>) -> LogRecord {
        LogRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_381_200_123),
            ..LogRecord::new(Level::INFO, "elected", fields)
        }
    }

    fn words(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn json_is_one_flat_object_with_whole_numbers() {
        let line = json(&record(vec![
            ("election", words("/a")),
            ("token", Value::Integer(12)),
            ("confirmed", Value::Bool(true)),
            ("lease", Value::Null),
        ]));
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"timestamp\":\"2026-11-22T21:00:00.123Z\",\"level\":\"INFO\",\"message\":\"elected\",\
             \"election\":\"/a\",\"token\":12,\"confirmed\":true,\"lease\":null}\n"
        );
    }

    #[test]
    fn text_reads_as_one_line() {
        let line = text(
            &record(vec![("token", Value::Integer(12)), ("lease", Value::Null)]),
            false,
        );
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "2026-11-22T21:00:00.123Z INFO elected token=12\n"
        );
    }

    #[test]
    fn a_name_with_control_characters_stays_in_its_line() {
        let evil = record(vec![("candidate", words("a\nb\u{1b}[2J=\"c"))]);
        for line in [text(&evil, false), json(&evil)] {
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(!line.contains('\u{1b}'), "{line}");
        }
        let mut evil = record(vec![]);
        evil.message = "a\nb\u{1b}".to_owned();
        let line = String::from_utf8(text(&evil, false)).unwrap();
        assert!(line.ends_with("a\\nb\\u{1b}\n"), "{line}");
    }

    #[test]
    fn values_are_quoted_only_where_it_helps() {
        let line = text(
            &record(vec![
                ("a", words("b/c:1")),
                ("d", words("")),
                ("e", words("f g")),
            ]),
            false,
        );
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.ends_with("elected a=b/c:1 d=\"\" e=\"f g\"\n"),
            "{line}"
        );
    }

    #[test]
    fn lines_of_other_crates_name_their_module() {
        let mut foreign = record(vec![]);
        foreign.target = "h2::codec".to_owned();
        let line = String::from_utf8(text(&foreign, false)).unwrap();
        assert!(line.ends_with("elected target=h2::codec\n"), "{line}");
        let line = String::from_utf8(json(&foreign)).unwrap();
        assert!(line.ends_with(",\"target\":\"h2::codec\"}\n"), "{line}");
    }

    #[test]
    fn the_journal_gets_our_fields_under_our_prefix() {
        let datagram = journal(&record(vec![
            ("token", Value::Integer(12)),
            ("candidate", words("a\nb")),
        ]));
        let has = |name: &str, value: &str| {
            let mut field = Vec::new();
            push_journal_field(&mut field, name, value);
            datagram.windows(field.len()).any(|window| window == field)
        };
        assert!(has("MESSAGE", "elected"));
        assert!(has("PRIORITY", "6"));
        assert!(has("INCUMBENT_TOKEN", "12"));
        assert!(has("INCUMBENT_CANDIDATE", "a\nb"));
    }
}
