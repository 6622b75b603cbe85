//! The job of the tests: records that it lives, so that overlap is measured and not guessed.
//!
//! ```text
//! recorder FILE [--every D] [--ignore-term] [--default-term] [--end-after-term D] [--exit-after D]
//!               [--code N] [--child-own-session] [--spam BYTES] [--spam-errors BYTES]
//! ```
//! Each line is one write to FILE, opened for appending:
//! `start|beat|asked|end TOKEN PID NANOSECONDS RUN`, on `CLOCK_MONOTONIC`. RUN is the process id
//! of the run's main process, so that a child's life counts as part of the run. A beat is written
//! before each sleep. `asked` says that SIGTERM came. A killed process writes no end: its life
//! goes from its first line to its last. With `--default-term` it doesn't catch SIGTERM, and so ends
//! at once, without a line.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::SIGTERM;

/// What the command line asks for.
struct Options {
    file: String,
    every: Duration,
    catch_term: bool,
    /// How long after SIGTERM it ends; `None` if never.
    end_after_term: Option<Duration>,
    exit_after: Option<Duration>,
    code: u8,
    child_own_session: bool,
    spam: usize,
    spam_errors: usize,
    /// This process is the child of the run with this main process.
    child_of: Option<u32>,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        file: arguments.next().ok_or("expected the file to write to")?,
        every: Duration::from_millis(5),
        catch_term: true,
        end_after_term: Some(Duration::ZERO),
        exit_after: None,
        code: 0,
        child_own_session: false,
        spam: 0,
        spam_errors: 0,
        child_of: None,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} expects a value"));
        let duration = |text: String| humantime::parse_duration(&text).map_err(|e| e.to_string());
        let number = |text: String| text.parse::<usize>().map_err(|e| e.to_string());
        match flag.as_str() {
            "--every" => options.every = duration(value()?)?,
            "--ignore-term" => options.end_after_term = None,
            "--default-term" => options.catch_term = false,
            "--end-after-term" => options.end_after_term = Some(duration(value()?)?),
            "--exit-after" => options.exit_after = Some(duration(value()?)?),
            "--code" => options.code = value()?.parse().map_err(|_| "--code: 0 to 255")?,
            "--child-own-session" => options.child_own_session = true,
            "--spam" => options.spam = number(value()?)?,
            "--spam-errors" => options.spam_errors = number(value()?)?,
            "--child-of" => options.child_of = value()?.parse().ok(),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(options)
}

/// Writes the record.
struct Record {
    file: File,
    token: String,
    run: u32,
}

impl Record {
    fn write(&mut self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let pid = std::process::id();
        let Self { token, run, .. } = self;
        let (seconds, nanos) = (now.tv_sec, now.tv_nsec);
        let line = format!("{what} {token} {pid} {seconds}{nanos:09} {run}\n");
        self.file.write_all(line.as_bytes())
    }
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

fn run(options: &Options) -> io::Result<ExitCode> {
    // Before the first line: whoever has seen it may send the signal.
    let asked = Arc::new(AtomicBool::new(false));
    if options.catch_term {
        signal_hook::flag::register(SIGTERM, Arc::clone(&asked))?;
    }
    if options.child_of.is_some() {
        rustix::process::setsid()?;
    }
    let mut record = Record {
        file: File::options()
            .create(true)
            .append(true)
            .open(&options.file)?,
        token: std::env::var("INCUMBENT_TOKEN").unwrap_or_else(|_| "0".to_owned()),
        run: options.child_of.unwrap_or_else(std::process::id),
    };
    let begun = Instant::now();
    record.write("start")?;
    if options.child_own_session {
        let run = std::process::id().to_string();
        Command::new(std::env::current_exe()?)
            .args([&options.file, "--ignore-term", "--child-of", &run])
            .spawn()?;
    }
    spam(options.spam, io::stdout());
    spam(options.spam_errors, io::stderr());
    let mut asked_at = None;
    loop {
        if asked.load(Ordering::SeqCst) && asked_at.is_none() {
            record.write("asked")?;
            asked_at = Some(Instant::now());
        }
        let told = asked_at
            .zip(options.end_after_term)
            .is_some_and(|(at, after)| at.elapsed() >= after);
        if told {
            record.write("end")?;
            return Ok(ExitCode::SUCCESS);
        }
        if options
            .exit_after
            .is_some_and(|after| begun.elapsed() >= after)
        {
            record.write("end")?;
            return Ok(ExitCode::from(options.code));
        }
        record.write("beat")?;
        // Ended early by no signal: std goes on sleeping, so an answer takes one beat at most.
        std::thread::sleep(options.every);
    }
}

fn main() -> ExitCode {
    let done = parse(std::env::args().skip(1)).and_then(|options| {
        run(&options).map_err(|error| format!("cannot record in {}: {error}", options.file))
    });
    done.unwrap_or_else(|error| {
        writeln!(io::stderr(), "recorder: {error}").ok();
        ExitCode::from(2)
    })
}
