//! One line on a terminal that says what is waited for.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::output;

/// How long the end waits for the terminal: one that was stopped shows nothing.
const PATIENCE: Duration = Duration::from_millis(100);

/// The line, written by a thread of its own: a terminal that was stopped holds up nobody.
///
/// Does nothing where standard error is no terminal. Cleared on drop.
#[derive(Debug)]
pub(super) struct ProgressLine {
    writer: Option<(Sender<Option<String>>, JoinHandle<()>)>,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self { writer: None };
        }
        let (lines, inbox) = channel::<Option<String>>();
        let body = move || {
            let mut shown = false;
            while let Ok(line) = inbox.recv() {
                let mut stderr = io::stderr().lock();
                let width = output::width_of(&io::stderr()).unwrap_or(80);
                let text = match &line {
                    Some(line) => {
                        let line: String = line.chars().take(width.saturating_sub(1)).collect();
                        format!("\r\x1b[2K{line}")
                    }
                    None if shown => "\r\x1b[2K".to_owned(),
                    None => continue,
                };
                shown = line.is_some();
                // Nobody is left to be told that this failed.
                stderr.write_all(text.as_bytes()).ok();
                stderr.flush().ok();
            }
        };
        // It does without where there is no thread to be had.
        let thread = std::thread::Builder::new().spawn(body);
        Self {
            writer: thread.ok().map(|thread| (lines, thread)),
        }
    }

    /// Shows this line in place of the last one.
    pub(super) fn say(&self, line: String) {
        self.send(Some(line));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.send(None);
    }

    fn send(&self, line: Option<String>) {
        if let Some((lines, _)) = &self.writer {
            lines.send(line).ok();
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
        let Some((lines, thread)) = self.writer.take() else {
            return;
        };
        drop(lines);
        let until = crate::clock::now() + PATIENCE;
        while !thread.is_finished() && !until.has_passed() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
