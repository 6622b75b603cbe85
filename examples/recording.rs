//! A binary with the Rust job of the tests: it keeps the record that `examples/recorder.rs` keeps,
//! and misbehaves as `job.settings` asks for.
//!
//! In its lines a thread stands where a process does in the recorder's: runs of one daemon are
//! told apart by the thread that each of them began on.

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use incumbent::{App, GuardedTxn, Job, JobError, JobTerm};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use record::Record;

#[path = "recorder/record.rs"]
mod record;

/// How often a job was made, or not made, in this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Between two beats.
const EVERY: Duration = Duration::from_millis(5);

/// The job, as `job.settings` describes it. Times are in milliseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Recording {
    /// The record.
    file: PathBuf,
    /// What it logs first.
    says: Option<String>,
    /// It can't be made: with an error, or with a panic.
    not_made: Option<NotMade>,
    /// But so often before that it can, in one process: when the configuration is checked.
    made: u32,
    /// Commands to run one after the other before it beats; the last is not waited for.
    commands: Vec<Vec<String>>,
    /// Commands to start before it beats, past the guardian; none is waited for.
    starts: Vec<Vec<String>>,
    /// Closes its run twice, with this key, and records what it heard.
    completes: Option<String>,
    /// But only while nothing stands under this key.
    unless: Option<String>,
    /// Blocks both threads of its runtime for so long.
    blocks: u64,
    /// After so long it does what `ends` says.
    ends_after: Option<u64>,
    /// How it ends by itself.
    ends: Ends,
    /// What it leaves behind when it ends, by itself or since it is told to.
    leaves: Leaves,
    /// What it does when it is told to stop.
    told: Told,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NotMade {
    Error,
    Panic,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ends {
    #[default]
    Well,
    Error,
    Panic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Leaves {
    #[default]
    Nothing,
    /// A thread of its own that beats on.
    Thread,
    /// A blocking task of its runtime that beats on.
    Blocking,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// It ends at once.
    #[default]
    Ends,
    /// It ends after so long.
    EndsAfter(u64),
    /// It goes on.
    GoesOn,
    /// It waits until the term is lost, tries to write this key, and records what it heard.
    Writes(String),
}

impl Recording {
    async fn start_commands(&self, term: &JobTerm, run: u32) -> Result<(), JobError> {
        let Some((last, first)) = self.commands.split_last() else {
            return Ok(());
        };
        let command = |argv: &[String]| {
            let command = term.command(&argv[0]).args(&argv[1..]);
            command.args(["--part-of", &run.to_string()])
        };
        for argv in first {
            command(argv).status().await?;
        }
        command(last).spawn().await?;
        Ok(())
    }

    fn start_by_itself(&self, term: &JobTerm, run: u32) -> Result<(), JobError> {
        for argv in &self.starts {
            let mut command = Command::new(&argv[0]);
            command
                .args(&argv[1..])
                .args(["--part-of", &run.to_string()]);
            command.env("INCUMBENT_TOKEN", term.token().to_string());
            command.spawn()?;
        }
        Ok(())
    }

    /// Whether it ends now that it was told to so long ago.
    fn is_told_enough(&self, ago: Duration) -> bool {
        match self.told {
            Told::Ends | Told::Writes(_) => true,
            Told::EndsAfter(after) => ago >= Duration::from_millis(after),
            Told::GoesOn => false,
        }
    }

    /// Writes beside the record what it was told: whole, or not there.
    fn leave_outcome(&self, text: &str) -> std::io::Result<()> {
        let whole = self.file.with_extension("outcome");
        let half = self.file.with_extension("half");
        std::fs::write(&half, text)?;
        std::fs::rename(half, whole)
    }

    /// Leaves somebody behind who beats on.
    fn leave(&self, mut another: impl FnMut() -> Result<Record, JobError> + Send + 'static) {
        let beats_on = move || {
            let Ok(mut record) = another() else { return };
            while record.write("beat").is_ok() {
                std::thread::sleep(EVERY);
            }
        };
        match self.leaves {
            Leaves::Nothing => {}
            Leaves::Thread => drop(std::thread::spawn(beats_on)),
            Leaves::Blocking => drop(tokio::task::spawn_blocking(beats_on)),
        }
    }
}

/// The thread that this is called on.
fn this_thread() -> u32 {
    rustix::thread::gettid().as_raw_pid().unsigned_abs()
}

/// Blocks both threads of the runtime.
async fn block(span: Duration) {
    let blocked = [(); 2].map(|()| tokio::spawn(async move { std::thread::sleep(span) }));
    for task in blocked {
        task.await.ok();
    }
}

impl Job for Recording {
    type Settings = Self;

    fn new(settings: Self) -> Result<Self, JobError> {
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        match settings.not_made.filter(|_| made >= settings.made) {
            Some(NotMade::Error) => Err("it can't be made".into()),
            Some(NotMade::Panic) => panic!("it can't be made"),
            None => Ok(settings),
        }
    }

    async fn run(&self, term: JobTerm) -> Result<(), JobError> {
        let (file, token, run) = (self.file.clone(), term.token().to_string(), this_thread());
        let open = move |id| Ok::<_, JobError>(Record::open(&file, token.clone(), id, run)?);
        let mut record = open(run)?;
        record.write("start")?;
        if let Some(message) = &self.says {
            tracing::info!("{message}");
        }
        self.start_commands(&term, run).await?;
        self.start_by_itself(&term, run)?;
        if let Some(key) = &self.completes {
            let mut txn = GuardedTxn::new().put(key.as_str(), "done");
            if let Some(unless) = &self.unless {
                txn = txn.when_missing(unless.as_str());
            }
            let complete = || term.complete(txn.clone());
            let heard = [complete().await, complete().await];
            self.leave_outcome(&format!("{:?}\n{heard:?}\n", term.run()))?;
        }
        if self.blocks > 0 {
            block(Duration::from_millis(self.blocks)).await;
        }
        let (begun, mut asked) = (Instant::now(), None::<Instant>);
        let (told, ends) = loop {
            record.write("beat")?;
            if asked.is_none() && term.is_stopping() {
                record.write("asked")?;
                asked = Some(Instant::now());
            }
            let told = asked.is_some_and(|asked| self.is_told_enough(asked.elapsed()));
            let ends = self
                .ends_after
                .is_some_and(|after| begun.elapsed() >= Duration::from_millis(after));
            if told || ends {
                break (told, ends);
            }
            tokio::time::sleep(EVERY).await;
        };
        self.leave(move || open(this_thread()));
        if ends && !told {
            record.write("end")?;
            return match self.ends {
                Ends::Well => Ok(()),
                Ends::Error => Err("it is to fail".into()),
                Ends::Panic => panic!("it is to panic"),
            };
        }
        if let Told::Writes(key) = &self.told {
            term.lost().await;
            let outcome = term.put(key.as_str(), "too late").await;
            self.leave_outcome(&format!("{outcome:?}\n"))?;
        }
        record.write("end")?;
        Ok(())
    }
}

/// Starts a process that is the daemon's, and adds its number to the file that
/// `RECORDING_PREPARES` names.
fn prepare() -> std::io::Result<()> {
    let Some(file) = std::env::var_os("RECORDING_PREPARES") else {
        return Ok(());
    };
    let mut file = File::options().create(true).append(true).open(file)?;
    let sleeper = Command::new("sleep").arg("1000000").spawn()?;
    writeln!(file, "{}", sleeper.id())
}

/// Adds what it hears to a file.
struct Hearing(PathBuf);

impl<S: Subscriber> Layer<S> for Hearing {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let file = File::options().create(true).append(true).open(&self.0);
        // One that isn't there is a line that the test waits for in vain.
        drop(file.and_then(|mut file| writeln!(file, "{}", message.0)));
    }
}

/// Hears what the job logs, where `RECORDING_HEARS` names a file.
fn hearing() -> Option<Hearing> {
    std::env::var_os("RECORDING_HEARS").map(|file| Hearing(file.into()))
}

fn main() -> ExitCode {
    App::new("recording", "7.8.9")
        .job::<Recording>("recording")
        .layer(hearing)
        .prepare(prepare)
        .main()
}
