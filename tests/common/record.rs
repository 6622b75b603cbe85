//! The record of the test's job, and what it says about overlap.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::example::example;
use super::sandbox::Sandbox;
use super::wait::eventually;

/// A file that `examples/recorder.rs` writes to, from as many daemons as there are.
#[derive(Clone, Debug)]
pub struct Record {
    file: PathBuf,
}

impl Record {
    /// A new record in the test's folder.
    pub fn new(sandbox: &Sandbox, name: &str) -> Self {
        Self {
            file: sandbox.join(&format!("{name}.record")),
        }
    }

    /// A record that is kept elsewhere.
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The command of a job that writes this record; `flags` as in `examples/recorder.rs`.
    pub fn command(&self, flags: &[&str]) -> Vec<String> {
        let program = example("recorder").to_str().unwrap().to_owned();
        let file = self.file.to_str().unwrap().to_owned();
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        [program, file].into_iter().chain(flags).collect()
    }

    /// What is recorded so far.
    pub fn history(&self) -> History {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        History::parse(&text)
    }

    /// Waits until a run of this term has started, and returns its main process's life.
    #[track_caller]
    pub fn wait_run(&self, token: i64, budget: Duration) -> Life {
        let what = format!("the job of term {token} has started");
        eventually(budget, &what, || {
            let history = self.history();
            let run = history.runs_of(token).next().cloned();
            run.ok_or(history)
        })
    }

    /// Waits until so many lives of this term have started.
    #[track_caller]
    pub fn wait_lives(&self, token: i64, n: usize, budget: Duration) {
        let what = format!("term {token} has {n} lives");
        eventually(budget, &what, || {
            let history = self.history();
            let lives = history.lives.iter().filter(|life| life.token == token);
            if lives.count() >= n {
                Ok(())
            } else {
                Err(history)
            }
        });
    }

    /// Waits until some life of this term was asked to end by SIGTERM.
    #[track_caller]
    pub fn wait_asked(&self, token: i64, budget: Duration) {
        let what = format!("the job of term {token} got SIGTERM");
        eventually(budget, &what, || {
            let history = self.history();
            let mut lives = history.lives.iter();
            lives.any(|life| life.token == token && life.asked.is_some())
        });
    }
}

/// One process, or a thread of a Rust job, from its first line to its last, on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The term it was started in.
    pub token: i64,
    /// The main process of its run; itself, or an ancestor.
    pub run: i32,
    /// Its process id.
    pub pid: i32,
    /// When it started.
    pub start: u64,
    /// When it was last known to live.
    pub last: u64,
    /// When it got SIGTERM.
    pub asked: Option<u64>,
    /// Whether it wrote that it ends; a killed process doesn't.
    pub ended: bool,
    /// Whether it found another run's process alive when it started.
    pub clashed: bool,
    /// Whether it wrote that it lives on without a sign.
    pub hung: bool,
}

impl Life {
    /// Whether this is the process that the daemon started.
    pub fn is_main(&self) -> bool {
        self.pid == self.run
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            token,
            run,
            pid,
            start,
            last,
            ..
        } = self;
        let child = if self.is_main() { "" } else { " (a child)" };
        let lived = Duration::from_nanos(last - start);
        write!(
            f,
            "token {token}, run {run}, process {pid}{child}: from {start} to {last} ({lived:.1?})"
        )
    }
}

/// All lives of a record, in the order of their start.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The lives.
    pub lives: Vec<Life>,
}

impl History {
    /// Reads a record.
    ///
    /// # Panics
    /// On a line that the recorder doesn't write.
    pub fn parse(text: &str) -> Self {
        let mut lives: BTreeMap<(i64, i32, i32), Life> = BTreeMap::new();
        for line in text.lines() {
            let read = || {
                let mut words = line.split_whitespace();
                let what = words.next()?;
                let token = words.next()?.parse::<i64>().ok()?;
                let pid = words.next()?.parse::<i32>().ok()?;
                let at = words.next()?.parse::<u64>().ok()?;
                let run = words.next()?.parse::<i32>().ok()?;
                let known = ["start", "beat", "asked", "end", "clash", "hang"].contains(&what);
                (known && words.next().is_none()).then_some((what, token, pid, at, run))
            };
            let (what, token, pid, at, run) =
                read().unwrap_or_else(|| panic!("not a line of a record: {line:?}"));
            let life = lives.entry((token, run, pid)).or_insert(Life {
                token,
                run,
                pid,
                start: at,
                last: at,
                asked: None,
                ended: false,
                clashed: false,
                hung: false,
            });
            life.start = life.start.min(at);
            life.last = life.last.max(at);
            life.ended |= what == "end";
            life.clashed |= what == "clash";
            life.hung |= what == "hang";
            if what == "asked" {
                life.asked = Some(at);
            }
        }
        let mut lives: Vec<_> = lives.into_values().collect();
        lives.sort_by_key(|life| life.start);
        Self { lives }
    }

    /// Main processes of this term's runs, in the order of their start.
    pub fn runs_of(&self, token: i64) -> impl Iterator<Item = &Life> {
        let of_term = move |life: &&Life| life.token == token && life.is_main();
        self.lives.iter().filter(of_term)
    }

    /// The tokens in the order in which their terms' first lives started.
    pub fn tokens(&self) -> Vec<i64> {
        let mut tokens: Vec<_> = Vec::new();
        for life in &self.lives {
            if !tokens.contains(&life.token) {
                tokens.push(life.token);
            }
        }
        tokens
    }

    /// When the last process of this term was last known to live.
    pub fn last_beat_of(&self, token: i64) -> Option<u64> {
        let of_term = self.lives.iter().filter(|life| life.token == token);
        of_term.map(|life| life.last).max()
    }

    /// Two lives of different runs that lived at the same time, if there are any.
    pub fn overlap(&self) -> Option<(&Life, &Life)> {
        self.lives.iter().enumerate().find_map(|(i, earlier)| {
            let later = self.lives[i + 1..].iter().find(|later| {
                let same_run = (later.token, later.run) == (earlier.token, earlier.run);
                !same_run && later.start <= earlier.last
            })?;
            Some((earlier, later))
        })
    }

    /// A life that started with a lower token than one that had started before it.
    pub fn falling_token(&self) -> Option<(&Life, &Life)> {
        let mut lives = self.lives.windows(2);
        lives.find_map(|pair| (pair[1].token < pair[0].token).then_some((&pair[0], &pair[1])))
    }

    /// Checks that no two runs ever lived at the same time and that tokens only rise.
    ///
    /// # Panics
    /// With both lives that break a rule.
    #[track_caller]
    pub fn assert_no_overlap(&self) {
        if let Some((earlier, later)) = self.overlap() {
            panic!("two jobs at once:\n  {earlier}\n  {later}");
        }
        if let Some((earlier, later)) = self.falling_token() {
            panic!("a token fell:\n  {earlier}\n  {later}");
        }
    }

    /// From the last beat of each term to the first line of the next.
    pub fn handover_gaps(&self) -> Vec<Duration> {
        let tokens = self.tokens();
        let gaps = tokens.windows(2).map(|pair| {
            let ended = self.last_beat_of(pair[0]).unwrap();
            let begun = self.lives.iter().find(|life| life.token == pair[1]);
            Duration::from_nanos(begun.unwrap().start.saturating_sub(ended))
        });
        gaps.collect()
    }
}

/// One life a line.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lives", self.lives.len())?;
        self.lives
            .iter()
            .try_for_each(|life| write!(f, "\n  {life}"))
    }
}
