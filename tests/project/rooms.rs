//! The rooms of both packages, and which of them may import which: the arrows point one way.
//!
//! The tables here are the design. A change that breaks one of these tests changes the design, and
//! should say why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every room and the rooms that it may import, which all stand further down.
///
/// The arithmetic of a term's times, `config::timing` with its `advice`, is a leaf of its own:
/// it reads no configuration.
const ARROWS: &[(&str, &str)] = &[
    // One file a command. Each asks what it needs of the rooms below: `check` asks in which unit
    // it runs.
    (
        "cli",
        "daemon http fencing guardian release status kv job election session term etcd config schedule runtime_dir signals log keys revision cgroup backoff clock wall proc reason",
    ),
    // The life of the process, and where each of its jobs is to be led.
    (
        "daemon",
        "http candidate placement guardian fencing job election term etcd config runtime_dir runs notify signals log lines keys proc backoff clock vital worker shortage",
    ),
    // Shows how the candidate stands to whoever asks, and takes the daemon's orders from the
    // control socket.
    (
        "http",
        "candidate status config runtime_dir metrics schedule etcd log keys revision term proc backoff clock wall vital reason",
    ),
    // The main loop. It speaks to the guardian, whose client side it holds for the daemon.
    (
        "candidate",
        "placement job guardian election session term etcd config schedule runtime_dir log lines metrics keys revision proc timing backoff clock wall vital worker reason shortage faults",
    ),
    // Which jobs a daemon stands for, and where each is to be led, as it is decided: the daemon carries it
    // out, and the candidate's histories play it.
    ("placement", "term keys clock"),
    // A command is described in the guardian's words; Rust code gets a term.
    (
        "job",
        "guardian term etcd config schedule revision proc notify os_text backoff vital",
    ),
    // Knows nothing of elections but how to give a term back.
    (
        "guardian",
        "term etcd log lines keys revision runs proc timing os_text clock vital worker reason shortage",
    ),
    // The stop hook, which stands in for daemon and guardian.
    (
        "release",
        "runtime_dir term etcd lines proc cgroup clock reason",
    ),
    // What an earlier daemon left.
    ("fencing", "runs keys proc clock"),
    // The lease file says how to give back.
    (
        "runtime_dir",
        "term etcd keys revision runs proc cgroup backoff vital faults",
    ),
    // What the commands ask.
    ("status", "election term etcd schedule keys revision wall"),
    // What is counted, and how it is shown.
    ("metrics", "session schedule wall reason revision"),
    // What who uses the election alone can do, on a thread of the client's.
    (
        "api",
        "election session term kv etcd keys revision timing backoff clock reason",
    ),
    ("kv", "term schedule etcd keys revision backoff"),
    // A term comes of an election and hangs on its session.
    (
        "election",
        "term session etcd schedule keys revision timing backoff clock wall",
    ),
    (
        "term",
        "session schedule etcd keys revision timing backoff clock wall reason",
    ),
    ("session", "etcd keys revision timing backoff clock reason"),
    // Only types: how to reach the store, how to log, what an election is called, when to run.
    (
        "config",
        "schedule etcd log keys os_text timing wall faults",
    ),
    ("etcd", "keys revision os_text backoff clock worker"),
    // The log lines that whoever stands in for another has in common with it.
    ("lines", "keys revision proc reason"),
    // What is remembered of a guardian's runs, between who writes it and who reads it.
    ("runs", "proc"),
    // When a job is to run, told the time by whoever asks.
    ("schedule", "clock wall revision"),
    // Leaves.
    ("shortage", "clock faults"),
    ("notify", "timing log"),
    ("timing", "clock"),
    ("backoff", "clock"),
    ("log", "vital"),
    ("worker", "vital"),
    ("signals", "vital"),
    ("keys", "revision"),
    ("reason", ""),
    ("revision", ""),
    ("proc", "clock"),
    ("cgroup", ""),
    ("clock", ""),
    ("wall", ""),
    ("faults", ""),
    ("os_text", ""),
    ("vital", ""),
];

/// The rooms that may name the etcd client crate.
const SPEAK_ETCD: &[&str] = &["etcd", "session", "election", "term", "kv", "api"];

/// What decides: no I/O, no clock, nothing to wait for.
const PURE: &[&str] = &[
    "candidate::decide",
    "guardian::decide",
    "schedule::planner",
    "placement",
];

/// All that it takes of the standard library.
const PURE_STD: &[&str] = &[
    "cmp::Reverse",
    "collections::",
    "mem::",
    "sync::Arc",
    "time::Duration",
];

/// The longest file.
const LINES: usize = 600;

/// Tables of a pure machine, where length is no lack of order.
const LONGER: &[&str] = &["guardian/decide/tests.rs", "schedule/planner/tests.rs"];

/// A file under `src`.
struct Source {
    /// Its path there.
    path: PathBuf,
    text: String,
}

impl Source {
    /// Every file of the library.
    fn all() -> Vec<Self> {
        let files = crate::common::sources().into_iter();
        files.map(|(path, text)| Self { path, text }).collect()
    }

    /// The module that it is, from the crate's root on.
    fn module(&self) -> Vec<String> {
        let path = self.path.with_extension("");
        path.iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect()
    }

    /// The files that hold the crate together belong to no room.
    fn is_root(&self) -> bool {
        ["lib.rs", "main.rs", "internals.rs"]
            .map(Path::new)
            .contains(&self.path.as_path())
    }

    /// What is compiled into the library: without comments and tests.
    fn code(&self) -> String {
        if self.path.ends_with("tests.rs") {
            return String::new();
        }
        let code = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().map(|line| line.split("//").next().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Every path in `code` that starts at the crate's root or at a module above `module`.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = &code[..at];
            // Part of another name, or the second `super` of a path that was read already.
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                || before.ends_with("super::")
            {
                continue;
            }
            let mut base = Vec::new();
            let mut rest = &code[at..];
            if start == "super::" {
                base = module.to_vec();
            }
            while let Some(deeper) = rest.strip_prefix("super::") {
                base.pop();
                rest = deeper;
            }
            let rest = rest.strip_prefix("crate::").unwrap_or(rest);
            read_tree(rest, &base, &mut found);
        }
    }
    found
}

/// Reads one path, or a group of them in braces, and returns what comes after it.
fn read_tree<'a>(code: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = code.trim_start();
    let mut path = base.to_vec();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = read_tree(rest, &path, found).trim_start();
                let next = rest.trim_start_matches(|c| c != ',' && c != '}');
                rest = next.trim_start_matches(',').trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let name = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
        let end = rest.find(|c| !name(c)).unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        let Some(deeper) = rest.strip_prefix("::") else {
            found.push(path);
            return rest;
        };
        rest = deeper;
    }
}

/// The room that a path leads into.
fn room_of(path: &[String]) -> Option<&str> {
    match path {
        [first, second, ..] if first == "config" && ["timing", "advice"].contains(&&**second) => {
            Some("timing")
        }
        [first, ..] => Some(first),
        [] => None,
    }
}

fn table() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let row = |(room, may): &(&'static str, &'static str)| {
        (*room, may.split(' ').filter(|it| !it.is_empty()).collect())
    };
    ARROWS.iter().map(row).collect()
}

#[test]
fn rooms_import_only_what_the_design_lets_them() {
    let table = table();
    let mut broken = BTreeSet::new();
    for source in Source::all().iter().filter(|source| !source.is_root()) {
        let module = source.module();
        let room = room_of(&module).unwrap();
        let Some(allowed) = table.get(room) else {
            broken.insert(format!("{room} is no room of the design"));
            continue;
        };
        for path in paths(&source.code(), &module) {
            let Some(other) = room_of(&path) else {
                continue;
            };
            if other != room && !allowed.contains(other) {
                let file = source.path.display();
                broken.insert(format!(
                    "{room} → {other}: {file} names {}",
                    path.join("::")
                ));
            }
        }
    }
    let broken: Vec<_> = broken.into_iter().collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_arrow_points_down() {
    let order: Vec<_> = ARROWS.iter().map(|(room, _)| *room).collect();
    for (at, (room, may)) in ARROWS.iter().enumerate() {
        for other in may.split(' ').filter(|other| !other.is_empty()) {
            let below = order[at + 1..].contains(&other);
            assert!(below, "{room} → {other} does not lead down");
        }
    }
}

#[test]
fn only_six_rooms_speak_to_etcd() {
    for source in Source::all() {
        if source.code().contains("etcd_client") {
            let module = source.module();
            let room = room_of(&module).unwrap();
            let file = source.path.display();
            assert!(SPEAK_ETCD.contains(&room), "{file} names the client crate");
        }
    }
}

#[test]
fn what_decides_is_pure() {
    let mut seen = BTreeSet::new();
    for source in Source::all() {
        let module = source.module().join("::");
        let Some(room) = PURE.iter().find(|room| module.starts_with(**room)) else {
            continue;
        };
        if module.ends_with("tests") {
            continue;
        }
        seen.insert(room);
        let code = source.code().replace("crate::clock::Instant", "");
        let of_std: Vec<_> = code.split("std::").skip(1).collect();
        for used in of_std {
            let allowed = PURE_STD.iter().any(|allowed| used.starts_with(allowed));
            let used: String = used.chars().take(30).collect();
            assert!(allowed, "{module} takes std::{used}");
        }
        let impure = [
            "async", "await", "unsafe", "tracing", "tokio", "clock::", "now()", "rustix",
        ];
        for word in impure {
            let line = code.lines().find(|line| line.contains(word));
            assert_eq!(line, None, "{module} names {word}");
        }
    }
    assert_eq!(seen.len(), PURE.len());
}

#[test]
fn every_room_is_in_the_layout_of_the_documentation() {
    let text = &Source::all();
    let root = text
        .iter()
        .find(|source| source.path.ends_with("lib.rs"))
        .unwrap();
    let documented = |room: &str| root.text.contains(&format!("`{room}`"));
    for room in table().into_keys().filter(|room| *room != "timing") {
        assert!(
            documented(room),
            "{room} is not in the crate's documentation"
        );
    }
    for rule in 1..=14 {
        let row = format!("//! | R{rule} |");
        assert!(
            root.text.contains(&row),
            "R{rule} is not in the crate's documentation"
        );
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    for source in Source::all() {
        let file = source.path.display().to_string();
        assert!(
            source.text.starts_with("//! "),
            "{file} says not what it is"
        );
        let lines = source.text.lines().count();
        let short = lines <= LINES || LONGER.contains(&file.as_str());
        assert!(short, "{file} has {lines} lines");
    }
}

#[test]
fn paths_are_found_however_they_are_grouped() {
    let code = "use crate::a::{self, b::{C, D as E}, f};\n\
                use crate::{g, h::I};\n\
                use super::j;\n\
                fn k() -> crate::l::M { super::super::n(mycrate::o) }\n";
    let module = ["x", "y", "z"].map(ToOwned::to_owned);
    let mut found: Vec<_> = paths(code, &module)
        .iter()
        .map(|path| path.join("::"))
        .collect();
    found.sort();
    let expected = [
        "a::b::C", "a::b::D", "a::f", "a::self", "g", "h::I", "l::M", "x::n", "x::y::j",
    ];
    assert_eq!(found, expected);
}

/// What starts threads on demand, and panics or waits for ever where there are none.
const STARTS_THREADS: &[&str] = &[
    "thread::spawn(",
    "spawn_blocking(",
    "block_in_place(",
    "lookup_host(",
    "tokio::fs",
    "tokio::process",
];

#[test]
fn nothing_starts_threads_on_demand_that_must_be_had() {
    for source in Source::all() {
        let code = source.code();
        for word in STARTS_THREADS {
            let path = source.path.display();
            assert!(
                !code.contains(word),
                "{path}: {word}…: see src/worker.rs (R15)"
            );
        }
    }
}
