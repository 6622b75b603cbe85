//! The job of the tests: records that it lives, so that overlap is measured and not guessed.
//!
//! ```text
//! recorder FILE [--every D] [--ignore-term] [--end-after-term D] [--exit-after D] [--code N]
//!               [--child-own-session] [--spam BYTES] [--spam-errors BYTES]
//!               [--part-of RUN] [--own-session] [--default-term]
//!               [--lock FILE] [--count FILE KEY INCUMBENT] [--hang-after D] [--fork-every D]
//!               [--daemonised-child] [--slots FILE] [--drawn D]
//!               [--complete KEY INCUMBENT]
//! ```
//! Each line, filled up with blanks, is one write to FILE, opened for appending:
//! `start|beat|asked|end TOKEN PID NANOSECONDS RUN`, on `CLOCK_MONOTONIC`. RUN is the process id
//! of the run's main process, so that a child's life counts as part of the run; `--part-of` says so
//! to the child. A beat is written before each sleep. `asked` says that SIGTERM came. A killed
//! process writes no end: its life goes from its first line to its last. With `--default-term`
//! SIGTERM is not caught, and ends it at once, without a line.
//!
//! With `--lock` it holds a lock together with all its descendants, hung and stopped ones included:
//! the kernel lets go of it with the last of them. A run that finds it held records `clash`. With
//! `--count` it counts in the store (see `recorder/count.rs`). With `--hang-after` it
//! records `hang` and lives on without a beat. With `--fork-every` children come and go; `--daemonised-child` leaves its session
//! and its parent, as daemons of old did. With `--slots` a scheduled run records what it is for (see
//! `recorder/slot.rs`), with `--drawn` it ends within that time, one time in four with code 1, and with
//! `--complete` one in two completes itself halfway, with a key that begins so.

#![allow(
    clippy::disallowed_methods,
    reason = "its own patience is no deadline of ours"
)]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use incumbent::clock::{self, Instant};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use signal_hook::consts::SIGTERM;

use record::Record;
use slot::SlotRecord;

#[path = "recorder/count.rs"]
mod count;
#[path = "recorder/record.rs"]
mod record;
#[path = "recorder/slot.rs"]
mod slot;

/// What the command line asks for.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Options {
    file: PathBuf,
    every: Duration,
    catch_term: bool,
    /// How long after SIGTERM it ends; `None` if never.
    end_after_term: Option<Duration>,
    exit_after: Option<Duration>,
    code: u8,
    child_own_session: bool,
    spam: usize,
    spam_errors: usize,
    /// This life is part of the run with this main process.
    part_of: Option<u32>,
    /// It leaves its session for one of its own.
    own_session: bool,
    lock: Option<PathBuf>,
    /// The record of its writes, the key it counts in, and the tool that reads and writes it.
    count: Option<[String; 3]>,
    hang_after: Option<Duration>,
    fork_every: Option<Duration>,
    daemonised_child: bool,
    /// The record of slots.
    slots: Option<PathBuf>,
    /// How the key of its effect begins, and the tool that puts it.
    complete: Option<[String; 2]>,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        file: arguments
            .next()
            .ok_or("expected the file to write to")?
            .into(),
        every: Duration::from_millis(5),
        catch_term: true,
        end_after_term: Some(Duration::ZERO),
        exit_after: None,
        code: 0,
        child_own_session: false,
        spam: 0,
        spam_errors: 0,
        part_of: None,
        own_session: false,
        lock: None,
        count: None,
        hang_after: None,
        fork_every: None,
        daemonised_child: false,
        slots: None,
        complete: None,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} expects a value"));
        let duration = |text: String| humantime::parse_duration(&text).map_err(|e| e.to_string());
        let number = |text: String| text.parse::<usize>().map_err(|e| e.to_string());
        match flag.as_str() {
            "--default-term" => options.catch_term = false,
            "--every" => options.every = duration(value()?)?,
            "--ignore-term" => options.end_after_term = None,
            "--end-after-term" => options.end_after_term = Some(duration(value()?)?),
            "--exit-after" => options.exit_after = Some(duration(value()?)?),
            "--code" => options.code = value()?.parse().map_err(|_| "--code: 0 to 255")?,
            "--child-own-session" => options.child_own_session = true,
            "--spam" => options.spam = number(value()?)?,
            "--spam-errors" => options.spam_errors = number(value()?)?,
            "--part-of" => options.part_of = value()?.parse().ok(),
            "--own-session" => options.own_session = true,
            "--lock" => options.lock = Some(value()?.into()),
            "--count" => options.count = Some([value()?, value()?, value()?]),
            "--hang-after" => options.hang_after = Some(duration(value()?)?),
            "--fork-every" => options.fork_every = Some(duration(value()?)?),
            "--daemonised-child" => options.daemonised_child = true,
            "--slots" => options.slots = Some(value()?.into()),
            "--complete" => options.complete = Some([value()?, value()?]),
            "--drawn" => {
                let (after, code) = slot::drawn(duration(value()?)?);
                (options.exit_after, options.code) = (Some(after), code);
            }
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(options)
}

/// Writes so many bytes in lines of 100, beside the beats: a pipe that nobody empties must not
/// look like a dead job.
fn spam(bytes: usize, mut to: impl Write + Send + 'static) {
    std::thread::spawn(move || {
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        let mut left = bytes;
        while left > 0 {
            let length = left.min(line.len());
            if to.write_all(&line[line.len() - length..]).is_err() {
                return;
            }
            left -= length;
        }
        to.flush().ok();
    });
}

/// Takes the lock for this process and all that come of it; says whether it was free.
fn lock(file: &Path) -> io::Result<bool> {
    let file = File::options().create(true).append(true).open(file)?;
    // Handed on to every child: one lock, held until the last of them is dead.
    fcntl_setfd(&file, FdFlags::empty())?;
    let free = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK) => false,
        Err(error) => return Err(error.into()),
    };
    std::mem::forget(file);
    Ok(free)
}

/// Starts children of this run that beat for a moment, one after the other.
fn fork(every: Duration, file: PathBuf, run: u32) {
    std::thread::spawn(move || {
        loop {
            let child = std::env::current_exe().and_then(|this| {
                Command::new(this)
                    .arg(&file)
                    .args(["--exit-after", "60ms", "--part-of", &run.to_string()])
                    .spawn()
            });
            std::thread::sleep(every);
            child.and_then(|mut child| child.wait()).ok();
        }
    });
}

fn run(options: &Options) -> io::Result<ExitCode> {
    // Before the first line: whoever has seen it may send the signal.
    let asked = Arc::new(AtomicBool::new(false));
    if options.catch_term {
        signal_hook::flag::register(SIGTERM, Arc::clone(&asked))?;
    }
    if options.own_session {
        rustix::process::setsid()?;
    }
    let token = std::env::var("INCUMBENT_TOKEN").unwrap_or_else(|_| "0".to_owned());
    let this = std::process::id();
    let run = options.part_of.unwrap_or(this);
    let free = options.lock.as_deref().map_or(Ok(true), lock)?;
    let mut record = Record::open(&options.file, token.clone(), this, run)?;
    let begun = clock::now();
    record.write("start")?;
    let mut slot = options
        .slots
        .as_deref()
        .map(SlotRecord::start)
        .transpose()?;
    if let (Some(file), Some([key, incumbent])) = (&options.slots, &options.complete) {
        let pause = options.exit_after.unwrap_or_default() / 2;
        slot::complete(file, key, incumbent, pause)?;
    }
    let mut end = |record: &mut Record, code: u8| {
        record.write("end")?;
        slot.as_mut().map_or(Ok(()), |slot| slot.end(code))?;
        Ok(ExitCode::from(code))
    };
    if !free {
        record.write("clash")?;
    }
    if options.child_own_session {
        Command::new(std::env::current_exe()?)
            .arg(&options.file)
            .args(["--ignore-term", "--own-session", "--part-of"])
            .arg(run.to_string())
            .spawn()?;
    }
    if options.daemonised_child {
        Command::new("setsid")
            .arg("--fork")
            .arg(std::env::current_exe()?)
            .arg(&options.file)
            .args(["--ignore-term", "--part-of", &run.to_string()])
            .status()?;
    }
    if let Some(every) = options.fork_every {
        fork(every, options.file.clone(), run);
    }
    if let Some([file, key, incumbent]) = &options.count {
        count::start(file, key, incumbent, &token)?;
    }
    spam(options.spam, io::stdout());
    spam(options.spam_errors, io::stderr());
    let mut asked_at: Option<Instant> = None;
    loop {
        if asked.load(Ordering::SeqCst) && asked_at.is_none() {
            record.write("asked")?;
            asked_at = Some(clock::now());
        }
        let told = asked_at
            .zip(options.end_after_term)
            .is_some_and(|(at, after)| (at + after).has_passed());
        if told {
            return end(&mut record, 0);
        }
        if options
            .exit_after
            .is_some_and(|after| (begun + after).has_passed())
        {
            return end(&mut record, options.code);
        }
        record.write("beat")?;
        let hangs = options
            .hang_after
            .is_some_and(|after| (begun + after).has_passed());
        if hangs {
            record.write("hang")?;
            loop {
                std::thread::park();
            }
        }
        // Ended early by no signal: std goes on sleeping, so an answer takes one beat at most.
        std::thread::sleep(options.every);
    }
}

fn main() -> ExitCode {
    let done = parse(std::env::args().skip(1)).and_then(|options| {
        run(&options)
            .map_err(|error| format!("cannot record in {}: {error}", options.file.display()))
    });
    done.unwrap_or_else(|error| {
        writeln!(io::stderr(), "recorder: {error}").ok();
        ExitCode::from(2)
    })
}
