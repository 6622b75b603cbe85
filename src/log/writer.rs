//! The bounded queue, and the one thread that writes lines.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Level;

use super::Format;
use super::record::{LogRecord, Value};
use super::render;
use crate::vital;

/// How many records may wait for the writer; a burst of this size passes without loss.
const CAPACITY: usize = 1024;

/// How long to wait before a descriptor that is full and doesn't block is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Where the journal takes datagrams in its native protocol.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

thread_local! {
    /// Whether this thread says when it has nothing else to do, and so when its lines are written.
    static SAYS_IDLE: Cell<bool> = const { Cell::new(false) };
    /// Whether it has logged since it said so last.
    static HAS_LOGGED: Cell<bool> = const { Cell::new(false) };
}

/// What stands between the threads that log and the one that writes.
///
/// The lock is held for as long as it takes to move a record, never while anything is written.
#[derive(Debug)]
pub(super) struct LogQueue {
    state: Mutex<WriterState>,
    /// Signalled when there is something to write.
    filled: Condvar,
    /// Signalled when everything is written.
    drained: Condvar,
}

#[derive(Debug)]
struct WriterState {
    records: VecDeque<LogRecord>,
    dropped: u64,
    format: Format,
    /// Fields of every line.
    always: Arc<[(&'static str, Value)]>,
    /// The writer has taken records and not come back yet.
    writing: bool,
}

/// What the writer takes at once.
#[derive(Debug)]
pub(super) struct Batch {
    /// The records that waited, oldest first.
    pub(super) records: Vec<LogRecord>,
    /// How many were dropped after the last of them.
    pub(super) dropped: u64,
    /// How to write them.
    pub(super) format: Format,
    /// What each of them says.
    always: Arc<[(&'static str, Value)]>,
}

impl LogQueue {
    /// An empty queue.
    pub(super) fn new(format: Format) -> Self {
        Self {
            state: Mutex::new(WriterState {
                records: VecDeque::new(),
                dropped: 0,
                format,
                always: Arc::default(),
                writing: false,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, WriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a record for the writer, or counts it as dropped if too many wait. Never blocks.
    pub(super) fn push(&self, record: LogRecord) {
        let mut state = self.state();
        if state.records.len() < CAPACITY {
            state.records.push_back(record);
        } else {
            state.dropped += 1;
        }
        drop(state);
        if SAYS_IDLE.get() {
            HAS_LOGGED.set(true);
        } else {
            self.filled.notify_one();
        }
    }

    /// The calling thread has nothing else to do: its lines may be written now. From the first
    /// time on, what it logs waits for the next.
    pub(super) fn idle(&self) {
        SAYS_IDLE.set(true);
        if HAS_LOGGED.replace(false) {
            self.filled.notify_one();
        }
    }

    /// Names fields that every line has from now on.
    pub(super) fn say_always(&self, fields: Vec<(&'static str, Value)>) {
        self.state().always = fields.into();
    }

    /// Changes how records are written from now on.
    pub(super) fn set_format(&self, format: Format) {
        self.state().format = format;
    }

    /// Takes all that waits; `None` if nothing came within `patience`.
    pub(super) fn take(&self, patience: Duration) -> Option<Batch> {
        let is_empty = |state: &mut WriterState| state.records.is_empty() && state.dropped == 0;
        let state = self.state();
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, patience, is_empty)
            .unwrap_or_else(PoisonError::into_inner);
        if is_empty(&mut state) {
            return None;
        }
        state.writing = true;
        Some(Batch {
            records: std::mem::take(&mut state.records).into(),
            dropped: std::mem::take(&mut state.dropped),
            format: state.format,
            always: Arc::clone(&state.always),
        })
    }

    /// Says that what was taken is written.
    fn done(&self) {
        self.state().writing = false;
        self.drained.notify_all();
    }

    /// Waits until everything is written, for at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        self.filled.notify_one();
        let is_busy = |state: &mut WriterState| state.writing || !state.records.is_empty();
        let outcome = self
            .drained
            .wait_timeout_while(self.state(), limit, is_busy);
        drop(outcome.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the writer thread, which lives as long as the process.
///
/// # Errors
/// When there is none to be had.
pub(super) fn spawn<W: Write + Send + 'static>(
    queue: Arc<LogQueue>,
    mut output: Output<W>,
) -> io::Result<()> {
    let body = move || loop {
        let Some(batch) = queue.take(Duration::MAX) else {
            continue;
        };
        output.write(batch);
        queue.done();
    };
    vital::spawn("log", body)
}

/// Where lines go: standard error, or the journal and standard error where there is no journal.
pub(super) struct Output<W> {
    lines: W,
    colour: bool,
    journal: Option<UnixDatagram>,
    journal_path: PathBuf,
    /// How many lines could not be written and weren't told of yet.
    lost: u64,
}

impl<W: Write> Output<W> {
    /// Lines to `lines`, with colours if asked for.
    pub(super) fn new(lines: W, colour: bool) -> Self {
        Self {
            lines,
            colour,
            journal: UnixDatagram::unbound().ok(),
            journal_path: JOURNAL_SOCKET.into(),
            lost: 0,
        }
    }

    fn write(&mut self, batch: Batch) {
        self.lost += batch.dropped;
        for record in batch.records {
            self.tell_lost(batch.format, &batch.always);
            if !self.write_record(record, batch.format, &batch.always) {
                self.lost += 1;
            }
        }
        self.tell_lost(batch.format, &batch.always);
    }

    /// Says how many lines were lost, as soon as that can be written.
    fn tell_lost(&mut self, format: Format, always: &[(&'static str, Value)]) {
        if self.lost > 0 {
            let lost = Value::Integer(self.lost.into());
            let notice = LogRecord::new(Level::WARN, "log lines dropped", vec![("dropped", lost)]);
            if self.write_record(notice, format, always) {
                self.lost = 0;
            }
        }
    }

    /// Returns whether it was written.
    fn write_record(
        &mut self,
        mut record: LogRecord,
        format: Format,
        always: &[(&'static str, Value)],
    ) -> bool {
        record.complete(always);
        match format {
            Format::Text => self.write_line(&render::text(&record, self.colour)),
            Format::Json => self.write_line(&render::json(&record)),
            Format::Journald => {
                self.send_to_journal(&render::journal(&record))
                    || self.write_line(&render::text(&record, self.colour))
            }
        }
    }

    /// Blocks while the journal's queue is full; false if there is no journal.
    fn send_to_journal(&self, datagram: &[u8]) -> bool {
        let sent = |socket: &UnixDatagram| socket.send_to(datagram, &self.journal_path).is_ok();
        self.journal.as_ref().is_some_and(sent)
    }

    /// Writes one line with as few writes as the reader allows, so that the lines of two processes
    /// on one pipe don't mix; returns whether it was written whole. A reader who has gone away is
    /// nobody's problem but his own, and a disk that is full is no reason to stop.
    fn write_line(&mut self, mut line: &[u8]) -> bool {
        while !line.is_empty() {
            match self.lines.write(line) {
                Ok(0) => return false,
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The descriptor is shared, and another process may have made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(FULL_PAUSE);
                }
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::clock;

    /// Has room for so many bytes, then for none until it is given some.
    struct Full(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut file = self.0.lock().unwrap();
            if file.0 == 0 {
                return Err(ErrorKind::FileTooLarge.into());
            }
            let written = bytes.len().min(file.0);
            file.0 -= written;
            file.1.extend_from_slice(&bytes[..written]);
            Ok(written)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_said_once_there_is_some() {
        let file = Arc::new(Mutex::new((0, Vec::new())));
        let queue = started(Format::Json, Output::new(Full(Arc::clone(&file)), false));
        for _ in 0..3 {
            queue.push(line("lost"));
        }
        queue.flush(PATIENCE);
        file.lock().unwrap().0 = usize::MAX;
        queue.push(line("kept"));
        queue.flush(PATIENCE);
        let text = String::from_utf8(file.lock().unwrap().1.clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("log lines dropped") && lines[0].contains("\"dropped\":3"));
        assert!(lines[1].contains("kept"));
    }

    /// How long a test waits for the writer thread.
    const PATIENCE: Duration = Duration::from_secs(5);

    fn line(message: &str) -> LogRecord {
        LogRecord::new(Level::INFO, message, vec![])
    }

    fn started(format: Format, output: Output<impl Write + Send + 'static>) -> Arc<LogQueue> {
        let queue = Arc::new(LogQueue::new(format));
        spawn(Arc::clone(&queue), output).unwrap();
        queue
    }

    /// Lines with so much in them that the pipe is full long before the queue.
    fn flood(queue: &LogQueue, lines: usize) {
        let long = "x".repeat(200);
        for _ in 0..lines {
            queue.push(line(&long));
        }
    }

    #[test]
    fn a_reader_who_stops_reading_blocks_nobody_and_is_told_what_was_lost() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let queue = started(Format::Json, Output::new(pipe, false));
        let before = clock::now();
        flood(&queue, 10 * CAPACITY);
        queue.flush(Duration::from_millis(50));
        drop(queue);
        let took = clock::now().since(before);
        assert!(took < Duration::from_secs(2), "took {took:?}");

        let mut kept = 0;
        let mut dropped = 0;
        let mut text = String::new();
        let mut chunk = [0; 8192];
        while kept + dropped < 10 * CAPACITY as u64 {
            let read = reader.read(&mut chunk).unwrap();
            text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
            while let Some((line, rest)) = text.split_once('\n') {
                let object: serde_json::Value = serde_json::from_str(line).unwrap();
                if object["message"] == "log lines dropped" {
                    assert_eq!(object["level"], "WARN");
                    dropped += object["dropped"].as_u64().unwrap();
                } else {
                    kept += 1;
                }
                text = rest.to_owned();
            }
        }
        assert_eq!(kept + dropped, 10 * CAPACITY as u64);
        assert!(dropped > 0);
    }

    #[test]
    fn every_line_says_for_whom_the_process_speaks() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let queue = started(Format::Text, Output::new(pipe, false));
        let words = |text: &str| Value::Text(text.to_owned());
        queue.say_always(vec![("election", words("/a")), ("candidate", words("b"))]);
        queue.push(line("one"));
        queue.push(LogRecord::new(
            Level::INFO,
            "two",
            vec![("candidate", words("c"))],
        ));
        queue.flush(PATIENCE);
        let mut chunk = [0; 4096];
        let length = reader.read(&mut chunk).unwrap();
        let text = String::from_utf8_lossy(&chunk[..length]);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].ends_with("INFO one election=/a candidate=b"),
            "{text}"
        );
        assert!(
            lines[1].ends_with("INFO two election=/a candidate=c"),
            "{text}"
        );
    }

    #[test]
    fn a_flush_waits_for_the_last_line() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let queue = started(Format::Text, Output::new(pipe, false));
        queue.push(line("the last"));
        queue.flush(PATIENCE);
        let mut chunk = [0; 4096];
        let read = reader.read(&mut chunk).unwrap();
        assert!(chunk[..read].ends_with(b"INFO the last\n"));
    }

    #[test]
    fn the_lines_of_a_thread_that_says_when_it_is_idle_are_written_then_and_at_a_flush() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let queue = started(Format::Text, Output::new(pipe, false));
        let mut read = move || {
            let mut chunk = [0; 4096];
            let length = reader.read(&mut chunk).unwrap();
            String::from_utf8_lossy(&chunk[..length]).into_owned()
        };
        queue.idle();
        queue.push(line("one"));
        queue.idle();
        assert!(read().ends_with("INFO one\n"));
        queue.push(line("two"));
        queue.flush(PATIENCE);
        assert!(read().ends_with("INFO two\n"));
    }

    #[test]
    fn a_closed_reader_is_ignored() {
        let (reader, pipe) = std::io::pipe().unwrap();
        drop(reader);
        let queue = started(Format::Text, Output::new(pipe, false));
        flood(&queue, 10);
        let before = clock::now();
        queue.flush(PATIENCE);
        assert!(clock::now().since(before) < PATIENCE);
    }

    #[test]
    fn a_changed_format_holds_for_the_lines_that_follow() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let queue = started(Format::Text, Output::new(pipe, false));
        queue.push(line("one"));
        queue.flush(PATIENCE);
        queue.set_format(Format::Json);
        queue.push(line("two"));
        queue.flush(PATIENCE);
        let mut chunk = [0; 4096];
        let read = reader.read(&mut chunk).unwrap();
        let text = std::str::from_utf8(&chunk[..read]).unwrap();
        assert!(text.contains("INFO one\n{\"timestamp\":"), "{text}");
    }

    #[test]
    fn without_a_journal_the_lines_go_to_standard_error() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let mut output = Output::new(pipe, false);
        output.journal_path = "/nonexistent/socket".into();
        let queue = started(Format::Journald, output);
        queue.push(line("alone"));
        let mut chunk = [0; 4096];
        let read = reader.read(&mut chunk).unwrap();
        assert!(chunk[..read].ends_with(b"alone\n"));
    }

    #[test]
    fn a_journal_that_stops_reading_blocks_only_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut output = Output::new(std::io::sink(), false);
        output.journal_path = path;
        let queue = started(Format::Journald, output);
        let before = clock::now();
        flood(&queue, 3 * CAPACITY);
        assert!(clock::now().since(before) < Duration::from_secs(2));
        let mut datagram = [0; 4096];
        let read = journal.recv(&mut datagram).unwrap();
        assert!(datagram[..read].starts_with(b"PRIORITY\n"));
    }
}
