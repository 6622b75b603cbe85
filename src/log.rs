//! Logs: a bounded queue to a writer thread, so that no reader can hold up a term.
//!
//! Every process of ours calls [`init`] once, first thing, and keeps the [`LogGuard`] to its end. From
//! then on `tracing`'s macros put records into a queue and return; one thread turns them into lines
//! and writes them. A reader who stops reading blocks that thread and no other: the queue fills up,
//! further records are dropped and counted, and `log lines dropped` says how many.

mod foreign;
mod record;
mod render;
mod writer;

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

pub use foreign::{is_printable, json, printable, printable_lines};
use record::{ELECTION, LogLines, OURS, Value};
use writer::{LogQueue, Output};

/// How long the end of a process waits for its last lines to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// Crates below us whose details drown ours; they stay at warnings unless the filter names them.
const CHATTY: [&str; 6] = ["h2", "hyper", "hyper_util", "rustls", "tonic", "tower"];

/// `log.*` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// `log.filter`: a level, or `target=level` pairs with commas between.
    pub filter: String,
    /// `log.format`.
    pub format: Format,
}

/// Lines for people, at the level `info`.
impl Default for LogSettings {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Text,
        }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// systemd's journal, with the field prefix `INCUMBENT_`.
    Journald,
}

/// Whether the text is one for `log.filter`.
pub fn is_filter(text: &str) -> bool {
    targets(text).is_some()
}

/// Turns the text of `log.filter` into a filter.
///
/// Stricter than [`Targets`]' own parser, which takes a misspelt level for the name of a target.
fn targets(text: &str) -> Option<Targets> {
    let mut filter = Targets::new().with_default(LevelFilter::INFO);
    let mut fallback = LevelFilter::INFO;
    for part in text.split(',').map(str::trim) {
        if let Some((target, level)) = part.split_once('=') {
            let target = target.trim_end();
            // Spans and fields, which `Targets` would take for a part of the name.
            if target.is_empty() || target.contains(['[', ']', '{', '}']) {
                return None;
            }
            let level = level_of(level)?;
            filter = filter.with_target(target, level);
            if let Some(room) = target.strip_prefix(OURS) {
                filter = filter.with_target(format!("{ELECTION}{room}"), level);
            }
        } else {
            fallback = level_of(part)?;
            filter = filter.with_default(fallback);
        }
    }
    let named: Vec<String> = filter.iter().map(|(name, _)| name.to_owned()).collect();
    for target in CHATTY {
        if !named.iter().any(|name| name == target) {
            filter = filter.with_target(target, fallback.min(LevelFilter::WARN));
        }
    }
    Some(filter)
}

/// The level of this name. Numbers, which tracing takes too, are not part of our configuration.
fn level_of(name: &str) -> Option<LevelFilter> {
    let name = name.trim();
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    LevelFilter::from_str(name).ok().filter(|_| is_word)
}

/// Starts the writer thread and sends every event of this process to it.
///
/// The thread inherits the caller's signal mask, so a process that reads its signals from a file
/// descriptor blocks them before it calls this. A second call in one process changes nothing.
///
/// # Errors
/// When there is no thread to be had.
pub fn init(settings: &LogSettings) -> io::Result<LogGuard> {
    let queue = Arc::new(LogQueue::new(settings.format));
    let (filter, handle) = reload::Layer::new(targets_or_default(settings));
    let registry = Registry::default()
        .with(filter)
        .with(LogLines(Arc::clone(&queue)));
    if QUEUE.get().is_none() {
        let stderr = std::io::stderr();
        let colour = takes_colour(&stderr);
        // First, so that whoever tries again finds nothing done.
        writer::spawn(Arc::clone(&queue), Output::new(stderr, colour))?;
        if registry.try_init().is_ok() {
            QUEUE.get_or_init(|| Arc::clone(&queue));
        }
    }
    Ok(LogGuard {
        queue,
        filter: handle,
    })
}

/// Waits until what this process has logged so far is written, for at most 200 ms.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_LIMIT);
    }
}

/// Whether what is written there may be coloured: on a terminal that knows colours, unless
/// `NO_COLOR` is set to anything.
pub fn takes_colour(output: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    output.is_terminal() && !no_color && !is_dumb
}

static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Says that the calling thread has nothing else to do, so that the lines it has logged may be
/// written: to wake the writer costs a system call, and often the thread's turn on its processor,
/// in the middle of a hand-over. For tokio's `on_thread_park`. A thread that has never said it has
/// its lines written at once.
pub fn idle() {
    if let Some(queue) = QUEUE.get() {
        queue.idle();
    }
}

/// The filter of `settings`; a bad one, which the configuration should have refused, is `info`.
fn targets_or_default(settings: &LogSettings) -> Targets {
    targets(&settings.filter).unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}

/// Keeps the logs going; when it is dropped, the last lines are written, for at most 200 ms.
#[derive(Debug)]
#[must_use = "dropping it at once would lose the last lines"]
pub struct LogGuard {
    queue: Arc<LogQueue>,
    filter: reload::Handle<Targets, Registry>,
}

impl LogGuard {
    /// Takes over a changed level and format.
    pub fn reload(&self, settings: &LogSettings) {
        self.queue.set_format(settings.format);
        if let Err(error) = self.filter.reload(targets_or_default(settings)) {
            tracing::warn!(%error, "log filter not changed");
        }
    }

    /// Has every line from now on say for whom this process speaks, whoever in it wrote the line.
    pub fn speak_for(&self, election: impl Display, candidate: &str) {
        self.queue.say_always(vec![
            ("election", Value::Text(election.to_string())),
            ("candidate", Value::Text(candidate.to_owned())),
        ]);
    }

    /// Waits until what was logged so far is written, for at most 200 ms.
    ///
    /// For ways out that drop nothing, such as [`std::process::exit`].
    pub fn flush(&self) {
        self.flush_within(FLUSH_LIMIT);
    }

    /// As [`flush`](Self::flush), for at most so long.
    pub fn flush_within(&self, limit: Duration) {
        self.queue.flush(limit);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_bare_level_leaves_the_crates_below_at_warnings() {
        let filter = targets("debug").unwrap();
        assert!(filter.would_enable("incumbent::session", &Level::DEBUG));
        assert!(filter.would_enable("some_users_job", &Level::DEBUG));
        assert!(!filter.would_enable("h2::codec", &Level::INFO));
        assert!(filter.would_enable("h2::codec", &Level::WARN));
    }

    #[test]
    fn a_named_target_has_its_own_level() {
        let filter = targets("warn, h2 = trace,incumbent::etcd=debug").unwrap();
        assert!(filter.would_enable("h2::codec", &Level::TRACE));
        assert!(filter.would_enable("incumbent::etcd", &Level::DEBUG));
        assert!(filter.would_enable(&format!("{ELECTION}etcd::watch"), &Level::DEBUG));
        assert!(!filter.would_enable(&format!("{ELECTION}session"), &Level::INFO));
        assert!(!filter.would_enable("incumbent::session", &Level::INFO));
    }

    #[test]
    fn off_is_off_for_everyone() {
        let filter = targets("off").unwrap();
        assert!(!filter.would_enable("incumbent", &Level::ERROR));
        assert!(!filter.would_enable("h2", &Level::ERROR));
    }

    #[test]
    fn a_misspelt_level_is_an_error() {
        for text in [
            "",
            "inof",
            "3",
            "incumbent=loud",
            "=info",
            "a[{=info",
            "info,",
            "info,,warn",
        ] {
            assert!(!is_filter(text), "{text}");
        }
        assert!(is_filter("INFO"));
    }
}
