//! What a daemon writes, read on threads of their own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{ChildStderr, ChildStdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::process::monotonic_ns;

/// How many lines are printed of a daemon whose test fails; the rest is in its `log` file.
const TAIL: usize = 60;

/// One line of standard error: the daemon's log, or anything else, such as its job's errors.
#[derive(Clone, Debug)]
pub struct Line {
    /// The line as it was read.
    pub text: String,
    /// Its fields, if it is a line of the log.
    pub fields: Option<Map<String, Value>>,
    /// When it was read, on `CLOCK_MONOTONIC`.
    pub read_at: u64,
}

impl Line {
    fn new(text: String) -> Self {
        Self {
            fields: serde_json::from_str(&text).ok(),
            text,
            read_at: monotonic_ns(),
        }
    }

    /// The constant message of a line of the log.
    pub fn message(&self) -> Option<&str> {
        self.get("message")?.as_str()
    }

    /// A field of a line of the log.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.as_ref()?.get(field)
    }

    /// A field that is text.
    #[track_caller]
    pub fn text(&self, field: &str) -> &str {
        let value = self.get(field).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text {field:?} in {}", self.text))
    }

    /// A field that is a whole number.
    #[track_caller]
    pub fn int(&self, field: &str) -> i64 {
        let value = self.get(field).and_then(Value::as_i64);
        value.unwrap_or_else(|| panic!("no whole number {field:?} in {}", self.text))
    }

    /// A field that is true or false.
    #[track_caller]
    pub fn bool(&self, field: &str) -> bool {
        let value = self.get(field).and_then(Value::as_bool);
        value.unwrap_or_else(|| panic!("no truth value {field:?} in {}", self.text))
    }

    /// The term's token.
    #[track_caller]
    pub fn token(&self) -> i64 {
        self.int("token")
    }

    /// The job's process id.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.int("pid")).unwrap()
    }
}

/// Standard output, counted, and standard error, kept line by line.
pub struct Output {
    lines: Mutex<Vec<Line>>,
    written: AtomicU64,
    paused: Mutex<bool>,
    resumed: Condvar,
    errors: OwnedFd,
}

impl Output {
    /// Reads both to their ends on two threads; standard error goes to `log` too.
    pub fn collect(mut output: ChildStdout, mut errors: ChildStderr, log: &Path) -> Arc<Self> {
        let collected = Arc::new(Self {
            lines: Mutex::default(),
            written: AtomicU64::new(0),
            paused: Mutex::new(false),
            resumed: Condvar::new(),
            errors: errors.as_fd().try_clone_to_owned().unwrap(),
        });
        let counter = Arc::clone(&collected);
        std::thread::spawn(move || {
            counter.each_chunk(&mut output, |chunk| {
                let length = u64::try_from(chunk.len()).unwrap();
                counter.written.fetch_add(length, Ordering::SeqCst);
            });
        });
        let reader = Arc::clone(&collected);
        let mut log = File::options().create(true).append(true).open(log).unwrap();
        std::thread::spawn(move || {
            let mut unfinished = Vec::new();
            reader.each_chunk(&mut errors, |chunk| {
                log.write_all(chunk).ok();
                unfinished.extend_from_slice(chunk);
                while let Some(end) = unfinished.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = unfinished.drain(..=end).collect();
                    let text = String::from_utf8_lossy(&line[..end]).into_owned();
                    reader.kept().push(Line::new(text));
                }
            });
        });
        collected
    }

    /// Stops reading: the pipes fill up, and whoever writes to them blocks.
    pub fn pause(&self) {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Reads on.
    pub fn resume(&self) {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.resumed.notify_all();
    }

    /// How many bytes of standard error wait to be read.
    pub fn unread_errors(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.errors).unwrap()
    }

    /// How many bytes came on standard output.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// All lines of standard error so far.
    pub fn lines(&self) -> Vec<Line> {
        self.kept().clone()
    }

    /// Prints the last lines, for a test that fails.
    pub fn print_tail(&self, name: &str) {
        let lines = self.kept();
        let skipped = lines.len().saturating_sub(TAIL);
        eprintln!("-- standard error of {name}, after {skipped} lines:");
        for line in &lines[skipped..] {
            eprintln!("   {}", line.text);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each_chunk(&self, from: &mut impl Read, mut take: impl FnMut(&[u8])) {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.resumed.wait_while(paused, |paused| *paused));
            match from.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(length) => take(&chunk[..length]),
            }
        }
    }
}
