//! What the pages under `docs/` say is so: their messages are those of the program, their numbers
//! what it reckons, their recipes run.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of tests is part of them; a test that is skipped says so"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use incumbent::reason::EndReason;

use crate::common::*;

/// Why a term ends that no page of lost terms needs: a session that its own program closed, a
/// candidacy that never led, and what nobody wrote down.
const NEVER_LOST: [EndReason; 3] = [
    EndReason::Closed,
    EndReason::Unknown,
    EndReason::Unreachable,
];

fn page(name: &str) -> String {
    fs::read_to_string(Path::new("docs").join(name)).unwrap()
}

/// The messages of all warnings and errors that the program logs.
fn messages() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in sources() {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for start in [
            "tracing::warn!(",
            "tracing::error!(",
            "line!(warn,",
            "line!(error,",
        ] {
            for call in text.split(start).skip(1) {
                // The message is the last argument.
                let Some((call, _)) = call.split_once(");") else {
                    continue;
                };
                let literals: Vec<&str> = call.split('"').collect();
                if let [.., message, tail] = literals[..]
                    && tail.trim_matches([',', ' ', '\n']).is_empty()
                {
                    found.insert(message.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn every_warning_and_error_is_explained() {
    let page = page("troubleshoot.md");
    let messages = messages();
    assert!(messages.len() > 30, "found only {messages:?}");
    let missing: Vec<&String> = messages
        .iter()
        .filter(|message| !page.contains(&format!("`{message}`")))
        .collect();
    assert!(missing.is_empty(), "docs/troubleshoot.md lacks {missing:?}");
}

#[test]
fn every_message_that_is_explained_is_logged() {
    let text: String = sources().into_iter().map(|(_, text)| text).collect();
    let page = page("troubleshoot.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut rows = rows.peekable();
    assert!(rows.peek().is_some());
    for row in rows {
        let first = row.split('|').nth(1).unwrap();
        for word in first.split('`').skip(1).step_by(2) {
            assert!(
                text.contains(&format!("\"{word}\"")),
                "nothing says {word:?}"
            );
        }
    }
}

/// The milliseconds of a line of `incumbent check` such as `    1597ms  the job is asked to stop`.
/// The page for developers names files that are there.
#[test]
fn every_file_that_is_named_inside_is_there() {
    let page = page("internals.md");
    let named: BTreeSet<&str> = page
        .split(|c: char| c.is_whitespace() || "`,()│".contains(c))
        .filter(|word| {
            ["src/", "crates/"]
                .iter()
                .any(|root| word.starts_with(root))
        })
        .filter(|word| Path::new(word).extension().is_some())
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for file in named {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        assert!(path.is_file(), "{file} is not there");
    }
}

fn reckoned(check: &str, what: &str) -> f64 {
    let line = check.lines().find(|line| line.contains(what)).unwrap();
    let word = line.split_whitespace().next().unwrap();
    humantime::parse_duration(word).unwrap().as_secs_f64()
}

#[test]
fn the_table_of_ttls_is_what_check_reckons() {
    let (page, sandbox) = (page("ttl.md"), Sandbox::new());
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("s |"));
    let rows: Vec<Vec<&str>> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells[0].ends_with('s') && !cells[0].contains('`'))
        .collect();
    assert_eq!(rows.len(), 6);
    for cells in rows {
        let ttl = cells[0];
        let check = sandbox
            .incumbent(&["check"])
            .env("INCUMBENT__ELECTION__TTL", ttl)
            .env("INCUMBENT__JOB__COMMAND", r#"["/bin/true"]"#)
            .text();
        let numbers = |text: &str| -> Vec<f64> {
            let words = text
                .split([' ', ','])
                .filter_map(|word| word.trim_end_matches('s').parse().ok());
            words.collect()
        };
        let near = |stated: f64, reckoned: f64| (stated - reckoned).abs() <= 0.051;
        let what = ["is asked to stop", "the job is killed", "deadline:"];
        for (stated, what) in numbers(cells[2]).into_iter().zip(what) {
            let reckoned = reckoned(&check, what);
            assert!(
                near(stated, reckoned),
                "ttl {ttl}, {what}: {stated}, not {reckoned}"
            );
        }
        let renewed = reckoned(&check, "is renewed again");
        assert!(
            near(numbers(cells[1])[0], renewed),
            "ttl {ttl}: renewed every {renewed} s"
        );
        let ends = reckoned(&check, "etcd ends the lease");
        let delay = check
            .split("takeover_delay ")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        let delay = humantime::parse_duration(delay).unwrap().as_secs_f64();
        let next = ends + 0.5 + delay;
        assert!(
            near(numbers(cells[3])[0], next),
            "ttl {ttl}: the next leads within {next} s"
        );
        for (cell, whose) in [(cells[4], "a follower"), (cells[5], "the leader")] {
            let warned = check.contains(&format!("when {whose} of etcd hangs"));
            assert_eq!(warned, cell == "may cost the term", "ttl {ttl}, {whose}");
        }
    }
}

#[test]
fn the_ends_of_terms_are_those_that_the_program_knows() {
    let (planned, lost): (Vec<_>, Vec<_>) = EndReason::ALL
        .into_iter()
        .filter(|reason| !NEVER_LOST.contains(reason))
        .partition(|reason| reason.is_planned());

    let page = page("troubleshoot.md");
    let table = page.split("| reason | means |").nth(1).unwrap();
    let rows = table.split("\n\n").next().unwrap().lines().skip(2);
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let mut told: Vec<_> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    told.sort_unstable();
    let lost: Vec<_> = lost.into_iter().map(EndReason::word).collect();
    assert_eq!(told, lost, "docs/troubleshoot.md");

    let readme = fs::read_to_string("README.md").unwrap();
    let mut metrics = readme.lines();
    let row = metrics.find(|line| line.contains("`incumbent_terms_total{reason}`"));
    let told = row.unwrap().split(" or the `reason`").next().unwrap();
    let mut told: Vec<_> = told.split('`').skip(3).step_by(2).collect();
    told.sort_unstable();
    let planned: Vec<_> = planned.into_iter().map(EndReason::word).collect();
    assert_eq!(told, planned, "README.md");

    for name in ["docs/alerts.yml", "docs/alerts_test.yml", "docs/health.md"] {
        let text = fs::read_to_string(name).unwrap();
        let words: Vec<_> = ["reason=\"", "reason!=\""]
            .into_iter()
            .flat_map(|start| text.split(start).skip(1))
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(!words.is_empty(), "{name}");
        for word in words {
            assert!(EndReason::read(word).is_some(), "{name} has {word:?}");
        }
    }
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    if !is_there("promtool", "the rules of docs/alerts.yml") {
        return;
    }
    for arguments in [
        ["check", "rules", "docs/alerts.yml"],
        ["test", "rules", "docs/alerts_test.yml"],
    ] {
        let output = Command::new("promtool").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The code of each fence that a comment such as `<!-- run: postgresql -->` stands above, with what
/// the comment says.
fn marked<'a>(page: &'a str, whose: &str) -> Vec<(&'a str, &'a str)> {
    let comments = page.split("<!-- ").skip(1);
    let marked = comments.filter_map(|rest| {
        let (comment, rest) = rest.split_once(" -->\n```")?;
        let (_, code) = rest.split_once('\n')?;
        Some((comment, code.split_once("```")?.0))
    });
    marked
        .filter(|(comment, _)| comment.contains(whose))
        .collect()
}

#[test]
fn the_recipe_for_etcd_is_refused_once_the_term_is_over() {
    let page = page("fencing.md");
    let [(_, recipe)] = marked(&page, "run: job")[..] else {
        panic!("one recipe for a job");
    };
    let scene = Scene::start(1);
    let script = scene.cluster.sandbox().join("recipe");
    let answers = scene.cluster.sandbox().join("answers");
    // As a job writes; again when the term is over, by somebody who has left the job's tree.
    fs::write(&script, recipe).unwrap();
    let (script, answers) = (script.display().to_string(), answers.display().to_string());
    let environment = scene.cluster.sandbox().join("environment");
    let job = format!(
        "export -p >{}; sh {script} >{answers}; exec sleep 1000000",
        environment.display()
    );
    // Not that of other tests: a daemon that starts there would kill what has left the job's tree.
    let daemon = Daemon::builder(&scene.cluster, "a")
        .prefix("/recipe")
        .job(&["sh", "-c", &job])
        .spawn();
    daemon.wait_job(SOON);
    let said = || fs::read_to_string(&answers).unwrap_or_default();
    eventually(SOON, "the job has written", || said().contains("SUCCESS"));
    assert_eq!(scene.cluster.get("/backup/last").as_deref(), Some("today"));
    daemon.sigterm();
    daemon.wait_exit(SOON);
    let late = format!(
        ". {}; sed s/today/late/ {script} | sh",
        environment.display()
    );
    let output = Command::new("sh").args(["-c", &late]).output().unwrap();
    assert!(text(&output).contains("FAILURE"), "{}", text(&output));
    assert_eq!(scene.cluster.get("/backup/last").as_deref(), Some("today"));
}

/// Where the programs of a `PostgreSQL` server are, if there is one.
fn postgresql() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders = versions.flatten().map(|version| version.path().join("bin"));
    folders.find(|folder| folder.join("pg_ctl").exists())
}

/// A server of its own, for one test; it lets nobody in over the network.
struct Postgresql {
    programs: PathBuf,
    folder: tempfile::TempDir,
}

impl Postgresql {
    fn start(programs: PathBuf) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("incumbent-pg")
            .tempdir_in("/tmp")
            .unwrap();
        let server = Self { programs, folder };
        server.chown();
        server.run("initdb", &["--no-sync", "--auth=trust", "--pgdata"]);
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories={}",
            server.path()
        );
        let log = format!("{}/log", server.path());
        server.run(
            "pg_ctl",
            &["start", "--wait", "-o", &options, "-l", &log, "--pgdata"],
        );
        server
    }

    fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The server refuses to run as root.
    fn chown(&self) {
        if rustix::process::geteuid().is_root() {
            let chown = Command::new("chown")
                .args(["postgres", &self.path()])
                .status();
            assert!(chown.unwrap().success());
        }
    }

    fn as_its_user(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let data = format!("{}/data", self.path());
        let output = self
            .as_its_user(program)
            .args(arguments)
            .arg(data)
            .stdout(Stdio::null())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{program}: {}", text(&output));
    }

    fn sql(&self, code: &str) -> Output {
        let flags = [
            "-X",
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &self.path(),
            "-c",
            code,
        ];
        self.as_its_user("psql").args(flags).output().unwrap()
    }
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        self.run("pg_ctl", &["stop", "--mode=immediate", "--pgdata"]);
    }
}

#[test]
fn the_recipe_for_postgresql_keeps_the_late_leader_out() {
    let Some(programs) = postgresql() else {
        eprintln!("SKIPPED: the recipe for PostgreSQL: none in /usr/lib/postgresql");
        return;
    };
    let server = Postgresql::start(programs);
    let page = page("fencing.md");
    let recipes = marked(&page, "postgresql");
    assert_eq!(recipes.len(), 3);
    for (comment, code) in recipes {
        let output = server.sql(code);
        match comment.strip_prefix("fails: postgresql: ") {
            None => assert!(output.status.success(), "{code}: {}", text(&output)),
            Some(error) => assert!(text(&output).contains(error), "{code}: {}", text(&output)),
        }
    }
    let written = server.sql("SELECT string_agg(token::text, ' ' ORDER BY token) FROM runs");
    let written = text(&written);
    assert!(
        written.contains("7 9") && !written.contains("7 7"),
        "{written}"
    );
}
