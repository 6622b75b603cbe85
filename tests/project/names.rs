//! The names of types: whoever meets one on a path should not have to ask which.

use std::collections::BTreeMap;

/// Names that every file of its sort has, and that are always met with their module.
const EVERYWHERE: [&str; 5] = ["Args", "Cmd", "Error", "Failure", "Result"];

/// How many of a hundred types may share their name with another one.
const SHARED: usize = 10;

/// The name of the type that a line at the left margin declares.
fn declared(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let (word, rest) = line.split_once(' ')?;
    let is_type = ["enum", "struct", "trait", "type", "union"].contains(&word);
    let name = |c: char| c.is_alphanumeric() || c == '_';
    is_type.then(|| rest.split(|c| !name(c)).next())?
}

/// Where each name is declared, without tests and the simulation, which are read by themselves.
fn types() -> BTreeMap<String, Vec<String>> {
    let mut types = BTreeMap::<_, Vec<_>>::new();
    for (path, text) in crate::common::sources() {
        let path = path.display().to_string();
        if path.ends_with("tests.rs") || path.contains("tests/") || path.contains("histories") {
            continue;
        }
        // Who uses the election alone meets no other names than those.
        if path.starts_with("api/") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for name in code.lines().filter_map(declared) {
            if !EVERYWHERE.contains(&name) {
                types.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
    types
}

#[test]
fn hardly_any_two_types_share_a_name() {
    let types = types();
    let all: usize = types.values().map(Vec::len).sum();
    assert!(all > 300, "found only {all}");
    let shared: BTreeMap<_, _> = types.iter().filter(|(_, at)| at.len() > 1).collect();
    let count: usize = shared.values().map(|at| at.len()).sum();
    assert!(
        count * 100 < all * SHARED,
        "{count} of {all} types share their names: {shared:#?}"
    );
}

#[test]
fn declarations_are_found_whatever_their_visibility() {
    for (line, name) in [
        ("struct Plain;", Some("Plain")),
        ("pub enum Open<T> {", Some("Open")),
        ("pub(crate) struct Tuple(u8);", Some("Tuple")),
        ("pub(in crate::candidate) type Alias = u8;", Some("Alias")),
        ("pub(super) trait Deep: Sized {", Some("Deep")),
        ("    struct Inner;", None),
        ("pub fn run() {}", None),
    ] {
        assert_eq!(declared(line), name, "{line}");
    }
}
