//! A scheduled job whose effects in etcd are there exactly once: a count of slots.
//!
//! ```sh
//! cargo run --example tally -- run -c examples/tally.toml
//! ```
//!
//! Whoever dies when, the count is the number of slots that were run to their end: the count, the key of
//! the slot and the record of the run are written in one transaction.

use std::process::ExitCode;
use std::time::Duration;

use incumbent::{App, GuardedTxn, Job, JobError, JobTerm};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The job.
struct Tally(Settings);

/// `job.settings`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Under it stand the count and a key for each slot.
    folder: String,
    /// How long the work of a slot takes.
    #[serde(deserialize_with = "span")]
    work: Duration,
    /// How long it takes to tidy up after it.
    #[serde(deserialize_with = "span")]
    tidy: Duration,
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(D::Error::custom)
}

impl Job for Tally {
    type Settings = Settings;

    fn new(settings: Settings) -> Result<Self, JobError> {
        Ok(Self(settings))
    }

    async fn run(&self, term: JobTerm) -> Result<(), JobError> {
        let run = term.run().ok_or("expected a job with a schedule")?;
        tracing::info!(slot = run.slot, attempt = run.attempt, "working");
        // Without effects, or with such as may be there twice.
        pause(&term, self.0.work).await?;
        // Nobody else writes it: runs never overlap, and none is open twice.
        let count = format!("{}/count", self.0.folder);
        let before: u64 = match term.get(count.as_str()).await? {
            Some(text) => String::from_utf8(text)?.parse()?,
            None => 0,
        };
        let effects = GuardedTxn::new().put(count, (before + 1).to_string()).put(
            format!("{}/{}", self.0.folder, run.slot),
            run.attempt.to_string(),
        );
        term.complete(effects).await?;
        // From here on the slot is done, whatever becomes of this run.
        pause(&term, self.0.tidy).await
    }
}

/// Waits, unless the job is to end.
async fn pause(term: &JobTerm, span: Duration) -> Result<(), JobError> {
    tokio::select! {
        () = tokio::time::sleep(span) => Ok(()),
        () = term.stopping() => Err("stopped".into()),
    }
}

fn main() -> ExitCode {
    App::new("tally", env!("CARGO_PKG_VERSION"))
        .job::<Tally>("tally")
        .main()
}
