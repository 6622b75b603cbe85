//! The shipped schema is the table of keys, and agrees with the loader as far as a schema can.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use incumbent::config::schema::text as schema_text;
use jsonschema::Validator;
use serde_json::Value;

use super::*;

/// What only the loader can tell: what stands in other files and on this host, what holds between keys
/// that other layers may set too, and how large something is that is written in words.
const BEYOND: &[&str] = &[
    "expected a duration of at least ",
    "expected a duration of whole seconds",
    "expected whole seconds from ",
    "in which to renew",
    " beside it, found none",
    " beside it, found neither",
    " beside https, found none",
    "with https, found none but http",
    "which is kill_budget",
    "expected at most ",
    "expected at least ",
    "expected a name of 1 to 255 bytes",
    "expected an IANA time zone",
    "expected a pattern that matches some day",
    "expected a pattern of cron (",
    "expected one of @yearly",
    "expected no empty item in a list",
    "expected a readable file",
    "expected CREDENTIALS_DIRECTORY",
];

fn shipped_schema() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/incumbent.schema.json")
}

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&schema_text(&[])).expect("the schema is JSON"));

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft7::new(&SCHEMA).expect("a schema of draft 7"));

/// Whether the schema refuses a file; `None` if that is no TOML.
fn refused(text: &str) -> Option<bool> {
    let file: toml::Table = toml::from_str(text).ok()?;
    Some(!VALIDATOR.is_valid(&json(toml::Value::Table(file))))
}

/// A value as tools for TOML take it for one of JSON: a date is text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, it)| (key, json(it))).collect(),
        plain => serde_json::to_value(plain).expect("a plain value"),
    }
}

/// The schema refuses nothing that the loader takes.
#[track_caller]
pub(super) fn takes(text: &str) {
    assert_ne!(refused(text), Some(true), "{text}");
}

/// The schema refuses what the loader does, but for what is beyond it.
#[track_caller]
pub(super) fn agrees(text: &str, faults: &[String]) {
    let is_beyond = |fault: &String| BEYOND.iter().any(|what| fault.contains(what));
    let expected = !faults.iter().all(is_beyond);
    if let Some(refused) = refused(text) {
        assert!(refused || !expected, "{text}\n{faults:?}");
    }
}

/// Writes the file anew with `INCUMBENT_BLESS=1`, as after a change of the table.
#[test]
fn the_shipped_schema_is_the_table_of_keys() {
    if std::env::var_os("INCUMBENT_BLESS").is_some() {
        fs::write(shipped_schema(), schema_text(&[])).unwrap();
    }
    let shipped = fs::read_to_string(shipped_schema()).unwrap();
    assert_eq!(shipped, schema_text(&[]));
    assert!(jsonschema::meta::is_valid(&SCHEMA));
}

#[test]
fn the_schema_knows_every_key_with_its_default() {
    let mut known = BTreeSet::new();
    for key in KEYS {
        let mut schema = &*SCHEMA;
        for part in key.name.split('.') {
            schema = &schema["properties"][part];
            if let Some(Value::String(name)) = schema.get("$ref") {
                schema = SCHEMA.pointer(&name[1..]).unwrap();
            }
        }
        let description = schema["description"].as_str().unwrap_or_default();
        assert!(description.starts_with(key.doc), "{}: {schema}", key.name);
        assert!(description.contains(&key.variable()), "{description}");
        let shown = match key.preset {
            Preset::Constant(_) | Preset::Within(_) => &schema["default"],
            Preset::Depends(_) => &schema["examples"][0],
        };
        assert!(!shown.is_null(), "{}: {schema}", key.name);
        assert!(known.insert(key.name));
    }
    assert_eq!(known.len(), KEYS.len());
}

#[test]
fn the_schema_takes_every_file_that_is_shipped() {
    takes(&shipped::text());
    let uncommented: Vec<String> = shipped::text()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with("every = ") => String::new(),
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let uncommented = uncommented.join("\n");
    assert_eq!(refused(&uncommented), Some(false), "{uncommented}");
    for (file, kinds) in [
        ("backup.toml", vec![]),
        ("reindex.toml", vec!["reindex".to_owned()]),
        ("tally.toml", vec!["tally".to_owned()]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(file);
        let table: toml::Table = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let faults = of(&kinds)
            .iter_errors(&json(toml::Value::Table(table)))
            .count();
        assert_eq!(faults, 0, "{file}");
    }
}

/// The schema of a binary with these jobs in Rust.
fn of(kinds: &[String]) -> Validator {
    let schema = serde_json::from_str(&schema_text(kinds)).unwrap();
    jsonschema::draft7::new(&schema).unwrap()
}

#[test]
fn a_binary_with_jobs_of_its_own_has_them_in_its_schema() {
    let file = serde_json::json!({ "job": { "kind": "reindex" } });
    assert!(of(&["reindex".to_owned()]).is_valid(&file));
    assert!(!VALIDATOR.is_valid(&file));
}

#[test]
fn one_file_has_one_kind_of_schedule() {
    takes("[job.schedule]\ncron = \"@daily\"\n");
    let both = "[job.schedule]\ncron = \"@daily\"\nevery = \"1h\"\n";
    assert_eq!(refused(both), Some(true));
}

/// Whether the loader takes the value of this key, and whether the schema does.
fn both(section: &str, key: &str, value: &str) -> (bool, bool) {
    let text = format!("[{section}]\n{key} = {}\n", toml::Value::from(value));
    let fixture = Fixture::new(&text);
    (load(&fixture.source).is_ok(), refused(&text) == Some(false))
}

#[test]
fn the_schema_and_the_loader_agree_on_what_is_written_in_words() {
    for (section, key, values) in [
        (
            "job",
            "stop_grace",
            "1s; 1 h30 m ;1.5s;1 . 5s;1.s;1h1;1hh;1µs;2M;2mo;.5s;1s,;1e3s;;1minute;1S",
        ),
        ("job", "timeout", "off;Off;1h;off1h; off"),
        (
            "job",
            "stop_signal",
            "TERM;SIGTERM;sigterm;RTMIN;SIGRTMIN+1;SIGRTMIN-1;RTMAX-1;SIGSIGINT;STOP",
        ),
        (
            "http",
            "listen",
            "off;127.0.0.1:1;LocalHost:80;[::1]:80;[fe80::1%lo]:80;::1:80;1.2.3:4;a:1;:1;localhost",
        ),
        (
            "log",
            "filter",
            "WARN;a = debug, info;a::b=Info;=info;a=loud;info,;,;a[{=info;a=b=info",
        ),
        (
            "job",
            "working_dir",
            "a;a$b;$;a$;$$x;${HOME};a${b;a$${b};a\tb;a\u{85}b;é",
        ),
        ("election", "prefix", "/a.meta;/a.meta/b;/a.metal;.meta;é"),
        (
            "job.schedule",
            "cron",
            "@daily; @Daily ;@ daily;* * * * *;0 * * * * *;* * * *;",
        ),
    ] {
        for value in values.split(';') {
            let (loaded, taken) = both(section, key, value);
            assert_eq!(loaded, taken, "{section}.{key} = {value:?}");
        }
    }
}

proptest! {
    #[test]
    fn the_schema_knows_a_duration(text in "[0-9]{0,2}[ .]{0,2}[0-9]{0,2} ?[a-zM]{0,3} ?([0-9]{1,2} ?(ms|s|m|h|d))?") {
        let (loaded, taken) = both("job", "stop_grace", &text);
        // A part of a month may be no whole number of nanoseconds.
        let is_exact = !text.contains('.');
        prop_assert!(taken || !loaded, "{:?}", text);
        prop_assert!(loaded || !taken || !is_exact, "{:?}", text);
    }
}

#[test]
fn jobs_with_names_have_the_keys_of_one_and_their_own() {
    let of = |text: &str| refused(text).expect("TOML");
    assert!(!of(jobs::TWO));
    assert!(!of(
        "[jobs.a]\nprefer = ['x']\ntakeover_delay = '2s'\nkind = 'command'\n"
    ));
    for bad in [
        "[jobs.A]\ncommand = ['x']\n",
        "[jobs.a]\ncomand = ['x']\n",
        "[jobs.a]\nprefix = '/x'\n",
        "[jobs.a]\nttl = 5\n",
        "[jobs.a.check]\ncomand = ['x']\n",
        "[jobs.a.schedule]\ncron = '@daily'\nevery = '5m'\n",
        "[jobs]\na = 5\n",
    ] {
        assert!(of(bad), "{bad}");
        assert!(Fixture::new(bad).load_jobs().is_err(), "{bad}");
    }
}
