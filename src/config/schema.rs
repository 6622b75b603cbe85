//! The shipped `config/incumbent.schema.json`, written from the table of keys: what editors know of a
//! configuration.
//!
//! It is of draft 7, which all tools for TOML know, and says of a file what holds whatever variables
//! and flags are set beside it: no key is needed, and of what must hold between keys only that of which
//! no other layer can make something right.

use serde_json::{Map, Value, json};

use super::jobs;
use super::keys::{self, Entry, KEYS, Preset};
use super::kinds::{self, schema};
use crate::keys::JobName;

/// The definition of a job among several.
const NAMED: &str = "named_job";

/// Sections that have a definition of their own.
const DEFINED: &[&str] = &[super::JOB];

/// The text of the schema, for a binary with these jobs in Rust.
pub fn text(job_kinds: &[String]) -> String {
    let mut root = section("", job_kinds);
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "The configuration of incumbent".into();
    let definitions = DEFINED.iter().map(|name| {
        let definition = section(name, job_kinds);
        ((*name).to_owned(), definition)
    });
    let named = (NAMED.to_owned(), named_job(job_kinds));
    root["definitions"] = definitions.chain([named]).collect::<Map<_, _>>().into();
    let name = format!("^[a-z0-9_-]{{1,{}}}$", JobName::LONGEST);
    root["properties"][jobs::JOBS] = json!({
        "type": "object",
        "additionalProperties": false,
        "maxProperties": jobs::MOST,
        "patternProperties": { name: { "$ref": format!("#/definitions/{NAMED}") } },
    });

    format!("{root:#}\n")
}

/// A section with its keys and the sections below; the whole file for the empty name.
fn section(name: &str, job_kinds: &[String]) -> Value {
    let mut properties = Map::new();
    for key in KEYS.iter().filter(|key| key.split().0 == name) {
        properties.insert(key.split().1.to_owned(), value(key, job_kinds));
    }
    for (below, last) in sections_below(name) {
        let schema = if DEFINED.contains(&below) {
            json!({ "$ref": format!("#/definitions/{below}") })
        } else {
            section(below, job_kinds)
        };
        properties.insert(last.to_owned(), schema);
    }
    let mut section = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if name == keys::SCHEDULE {
        let either = [
            keys::JOB_SCHEDULE_CRON.split().1,
            keys::JOB_SCHEDULE_EVERY.split().1,
        ];
        section["not"] = json!({ "required": either });
    }
    section
}

/// A job among several: the same keys by the names that they have there.
fn named_job(job_kinds: &[String]) -> Value {
    let mut job = section(super::JOB, job_kinds);
    for (name, of) in jobs::SECTIONS_OF_ONE {
        job["properties"][name] = section(of, job_kinds);
    }
    for key in jobs::KEYS_OF_ELECTION {
        job["properties"][key.split().1] = value(&key, job_kinds);
    }
    job
}

/// The sections right below, each with the last part of its name.
fn sections_below(name: &str) -> Vec<(&'static str, &'static str)> {
    let parts = |section: &'static str| section.rsplit_once('.').unwrap_or(("", section));
    let mut below: Vec<_> = keys::sections()
        .into_iter()
        .flat_map(|section| {
            // A section may have no keys but those of the sections below it.
            let ends = section.match_indices('.').map(|(end, _)| end);
            ends.chain([section.len()]).map(|end| &section[..end])
        })
        .map(|section| (section, parts(section)))
        .filter(|(_, (above, _))| *above == name)
        .map(|(section, (_, last))| (section, last))
        .collect();
    below.dedup();
    below
}

/// A key: what its values look like, and what the table says of it.
fn value(key: &Entry, job_kinds: &[String]) -> Value {
    let mut schema = schema::of(key.kind, job_kinds);
    let expected = kinds::expected(key, job_kinds);
    let variable = key.variable();
    schema["description"] =
        format!("{}\n\nExpected: {expected}. Variable: {variable}", key.doc).into();
    match key.preset {
        Preset::Constant(text) | Preset::Within(text) => schema["default"] = from_toml(text),
        Preset::Depends(text) => schema["examples"] = json!([from_toml(text)]),
    }
    schema
}

/// A value of the table of keys, which its tests have read as TOML.
fn from_toml(text: &str) -> Value {
    let table = toml::from_str::<Map<String, Value>>(&format!("value = {text}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_default()
}
