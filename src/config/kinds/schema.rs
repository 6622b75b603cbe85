//! What a JSON schema can say of a value by its kind.
//!
//! It is never stricter than who reads the value: an editor must not complain of what the daemon takes.
//! What no schema can say, such as how long a duration is at least, it leaves to `incumbent check`.

use serde_json::{Value, json};

use super::{CountKind, Kind, LONGEST_NAME, ListKind, TextKind};
use crate::config::{compound, file_path, signal};

/// No control characters, and some other.
const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// Any text without NUL, as an argument or a variable may be.
const NO_NUL: &str = r"^[^\u0000]*$";

/// The units of durations, by all their names.
const UNITS: &str = "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m\
    |hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y";

/// A host name, an IPv4 address, or an IPv6 address in brackets.
const HOST: &str = r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\])";

/// A pattern of cron: a name, or 5 or 6 fields.
const CRON: &str = r"^\s*(@[A-Za-z]+|[^\s@]\S*(\s+\S+){4,5})\s*$";

/// What values of this kind look like.
pub(in crate::config) fn of(kind: Kind, job_kinds: &[String]) -> Value {
    match kind {
        Kind::Span(_) => text(&format!("^{}$", span())),
        Kind::Limit(_) => text(&format!("^(off|{})$", span())),
        Kind::Count(CountKind { least, most }) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Text(kind) => of_text(kind, job_kinds),
        Kind::Path(_) => text(&path()),
        Kind::List(kind) => of_list(kind),
        Kind::Variables(_) => json!({
            "type": "object",
            "propertyNames": {
                "pattern": r"^[^=\u0000]+$",
                "not": { "pattern": format!("^{}", compound::OUR_VARIABLES) },
            },
            "additionalProperties": text(NO_NUL),
        }),
        Kind::Table(_) => json!({ "type": "object" }),
        Kind::Signal(_) => of_signal(),
        Kind::Address(_) => text(&address()),
    }
}

fn of_text(kind: TextKind, job_kinds: &[String]) -> Value {
    match kind {
        TextKind::Any => text(PRINTABLE),
        // Counted in characters, of which there are never more than bytes.
        TextKind::Name => {
            json!({ "type": "string", "pattern": PRINTABLE, "maxLength": LONGEST_NAME })
        }
        TextKind::Prefix => json!({
            "type": "string",
            "pattern": PRINTABLE,
            "not": { "pattern": r"\.meta(/|$)" },
        }),
        TextKind::Choice(words) => json!({ "enum": words }),
        TextKind::JobKind => {
            let kinds: Vec<&str> = ["command"]
                .into_iter()
                .chain(job_kinds.iter().map(String::as_str))
                .collect();
            json!({ "enum": kinds })
        }
        TextKind::Filter => text(&filter()),
        TextKind::Zone => text("^[A-Za-z0-9_+/-]+$"),
    }
}

fn of_list(kind: ListKind) -> Value {
    let list = |item: Value| json!({ "type": "array", "minItems": 1, "items": item });
    match kind {
        ListKind::Urls => list(text(&format!("^https?://{HOST}:0*[1-9][0-9]{{0,4}}/?$"))),
        ListKind::Hosts => json!({ "type": "array", "items": text(&format!("^{HOST}$")) }),
        ListKind::Names => list(of_text(TextKind::Name, &[])),
        // The command itself, and its arguments.
        ListKind::Argv => json!({
            "type": "array",
            "minItems": 1,
            "items": [text(r"^[^\u0000]+$")],
            "additionalItems": text(NO_NUL),
        }),
        ListKind::Patterns => json!({ "anyOf": [text(CRON), list(text(CRON))] }),
    }
}

/// The full names first, which editors offer.
fn of_signal() -> Value {
    let names = signal::names();
    let full: Vec<&str> = names.split(", ").collect();
    let short: Vec<&str> = full
        .iter()
        .filter_map(|name| name.strip_prefix("SIG"))
        .collect();
    let rest = format!(
        r"^({}|(SIG)?RTMIN(\+[0-9]+)?|(SIG)?RTMAX(-[0-9]+)?)$",
        short.join("|")
    );
    json!({ "anyOf": [{ "enum": full }, text(&rest)] })
}

fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// Numbers with units: `1h 30m`, `1.5s`.
fn span() -> String {
    format!(r"\s*([0-9][0-9\s]*(\.\s*[0-9][0-9\s]*)?({UNITS})\s*)+")
}

/// A path in which nothing stands for something but the folder of credentials at its start.
fn path() -> String {
    let start = file_path::CREDENTIALS
        .replace('$', r"\$")
        .replace('{', r"\{")
        .replace('}', r"\}");
    let control = r"\u0000-\u001f\u007f-\u009f";
    format!(r"^({start}[^{control}]*|([^{control}$]|\$+[^{control}${{])+\$*|\$+)$")
}

/// Levels, each alone or for a part.
fn filter() -> String {
    let levels = ["off", "error", "warn", "info", "debug", "trace"].map(of_any_case);
    let level = levels.join("|");
    let part = format!(r"\s*([^,=\[\]{{}}\s][^,=\[\]{{}}]*=\s*)?({level})\s*");
    format!("^{part}(,{part})*$")
}

fn address() -> String {
    let localhost = of_any_case("localhost");
    format!(
        r"^(off|([0-9]{{1,3}}(\.[0-9]{{1,3}}){{3}}|{localhost}|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]):[0-9]+)$"
    )
}

/// The word in capitals or not: flags of patterns are no part of a schema.
fn of_any_case(word: &str) -> String {
    let either = |letter: char| format!("[{}{letter}]", letter.to_ascii_uppercase());
    word.chars().map(either).collect()
}
