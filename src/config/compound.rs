//! Values made of several: lists, and tables whose keys are the user's own.

use std::collections::BTreeMap;

use ::config::{Map, Value, ValueKind};

use super::keys::Entry;
use super::kinds::{DATETIME, ListKind, Parsed, expected, is_name, place_of, shown};
use super::place::{Problem, quoted};
use super::toml_file::shown_key;
use super::url;
use crate::schedule;

/// What the name of a variable of ours begins with; the job's own may not.
pub(super) const OUR_VARIABLES: &str = "INCUMBENT_";

/// URLs or arguments; each faulty item is named by its index.
pub(super) fn list(kind: ListKind, key: &Entry, value: &Value) -> Parsed<Vec<String>> {
    if let (ListKind::Patterns, ValueKind::String(pattern)) = (kind, &value.kind) {
        return match schedule::check_pattern(pattern) {
            Ok(()) => Ok(vec![pattern.clone()]),
            Err(why) => Err(vec![Problem::new(
                place_of(value),
                key.name,
                why.to_string(),
            )]),
        };
    }
    let ValueKind::Array(items) = &value.kind else {
        let what = format!(
            "expected {}, found {}",
            expected(key, &[]),
            without_user(kind, key, value)
        );
        return Err(vec![Problem::new(place_of(value), key.name, what)]);
    };
    if items.is_empty() && kind != ListKind::Hosts {
        let what = format!("expected {}, found an empty one", expected(key, &[]));
        return Err(vec![Problem::new(place_of(value), key.name, what)]);
    }
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match list_item(kind, key, index, item) {
            Ok(text) => texts.push(text),
            Err(what) => {
                let name = format!("{}[{index}]", key.name);
                problems.push(Problem::new(place_of(item), name, what));
            }
        }
    }
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(problems)
    }
}

fn list_item(kind: ListKind, key: &Entry, index: usize, item: &Value) -> Result<String, String> {
    match (&item.kind, kind) {
        (ValueKind::String(text), ListKind::Urls) => url::endpoint(text),
        (ValueKind::String(text), ListKind::Hosts) if url::is_host(text) => Ok(text.clone()),
        (ValueKind::String(text), ListKind::Hosts) => Err(format!(
            r#"expected a name or an address without a port, such as "node1.example.com", found {}"#,
            quoted(text)
        )),
        (ValueKind::String(text), ListKind::Patterns) => match schedule::check_pattern(text) {
            Ok(()) => Ok(text.clone()),
            Err(why) => Err(why.to_string()),
        },
        (ValueKind::String(text), ListKind::Names) if !is_name(text) => {
            let found = quoted(text);
            Err(format!("expected the name of a candidate, found {found}"))
        }
        (ValueKind::String(text), _) if text.contains('\0') => {
            Err("expected text without NUL, found one".to_owned())
        }
        (ValueKind::String(text), _) if text.is_empty() && index == 0 => {
            Err("expected a command, found empty text".to_owned())
        }
        (ValueKind::String(text), _) => Ok(text.clone()),
        (_, ListKind::Urls) => Err(url::expected(&shown(item, key.secret))),
        _ => Err(format!("expected text, found {}", shown(item, key.secret))),
    }
}

/// The value, but for URLs without what stands before the host.
fn without_user(kind: ListKind, key: &Entry, value: &Value) -> String {
    match (&value.kind, kind) {
        (ValueKind::String(text), ListKind::Urls) => quoted(&url::without_secrets(text)),
        _ => shown(value, key.secret),
    }
}

fn table<'a>(key: &Entry, value: &'a Value) -> Parsed<&'a Map<String, Value>> {
    match &value.kind {
        ValueKind::Table(table) if !table.contains_key(DATETIME) => Ok(table),
        _ => {
            let found = shown(value, key.secret);
            let what = format!("expected {}, found {found}", expected(key, &[]));
            Err(vec![Problem::new(place_of(value), key.name, what)])
        }
    }
}

/// The environment of a command; its values may be secrets and are never shown.
pub(super) fn variables(key: &Entry, value: &Value) -> Parsed<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, item) in table(key, value)? {
        let what = match &item.kind {
            _ if name.is_empty() || name.contains(['=', '\0']) => {
                "expected a name without = and NUL".to_owned()
            }
            _ if name.starts_with(OUR_VARIABLES) => {
                format!(
                    "expected a name that doesn't begin with {OUR_VARIABLES}, which the job gets from incumbent"
                )
            }
            ValueKind::String(text) if text.contains('\0') => {
                "expected text without NUL, found one".to_owned()
            }
            ValueKind::String(text) => {
                variables.insert(name.clone(), text.clone());
                continue;
            }
            _ => format!("expected text, found {}", shown(item, key.secret)),
        };
        let name = format!("{}.{}", key.name, shown_key(name));
        problems.push(Problem::new(place_of(item), name, what));
    }
    if problems.is_empty() {
        Ok(variables)
    } else {
        Err(problems)
    }
}

/// The settings of a Rust job, as TOML again.
pub(super) fn settings(key: &Entry, value: &Value) -> Parsed<toml::Table> {
    let mut problems = Vec::new();
    let settings = toml_table(key.name, table(key, value)?, &mut problems);
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

fn toml_table(path: &str, table: &Map<String, Value>, problems: &mut Vec<Problem>) -> toml::Table {
    let mut result = toml::Table::new();
    for (name, item) in table {
        let path = format!("{path}.{}", shown_key(name));
        if let Some(value) = toml_value(&path, item, problems) {
            result.insert(name.clone(), value);
        }
    }
    result
}

fn toml_value(path: &str, value: &Value, problems: &mut Vec<Problem>) -> Option<toml::Value> {
    Some(match &value.kind {
        ValueKind::Boolean(truth) => toml::Value::Boolean(*truth),
        ValueKind::I64(number) => toml::Value::Integer(*number),
        ValueKind::Float(number) => toml::Value::Float(*number),
        ValueKind::String(text) => toml::Value::String(text.clone()),
        ValueKind::Array(items) => {
            let items = items.iter().enumerate();
            let values = items.filter_map(|(index, item)| {
                toml_value(&format!("{path}[{index}]"), item, problems)
            });
            toml::Value::Array(values.collect())
        }
        ValueKind::Table(table) => match table.get(DATETIME).map(|date| &date.kind) {
            Some(ValueKind::String(date)) => toml::Value::Datetime(date.parse().ok()?),
            _ => toml::Value::Table(toml_table(path, table, problems)),
        },
        _ => {
            let what = "expected a number of 64 bits, found a larger one";
            problems.push(Problem::new(place_of(value), path, what));
            return None;
        }
    })
}
