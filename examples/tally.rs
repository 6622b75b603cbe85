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

use incumbent::{GuardedTxn, Job, JobError, JobTerm, Jobs};

/// The job, as `job.settings` describes it.
struct Tally {
    /// Under it stand the count and a key for each slot.
    folder: String,
    /// How long the work of a slot takes.
    work: Duration,
    /// How long it takes to tidy up after it.
    tidy: Duration,
}

impl Tally {
    fn from_settings(settings: toml::Table) -> Result<Self, JobError> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            folder: String,
            work: String,
            tidy: String,
        }
        let settings: Settings = settings.try_into()?;
        Ok(Self {
            folder: settings.folder,
            work: humantime::parse_duration(&settings.work)?,
            tidy: humantime::parse_duration(&settings.tidy)?,
        })
    }
}

impl Job for Tally {
    async fn run(&self, term: JobTerm) -> Result<(), JobError> {
        let run = term.run().ok_or("expected a job with a schedule")?;
        tracing::info!(slot = run.slot, attempt = run.attempt, "working");
        // Without effects, or with such as may be there twice.
        pause(&term, self.work).await?;
        // Nobody else writes it: runs never overlap, and none is open twice.
        let count = format!("{}/count", self.folder);
        let before: u64 = match term.get(count.as_str()).await? {
            Some(text) => String::from_utf8(text)?.parse()?,
            None => 0,
        };
        let effects = GuardedTxn::new().put(count, (before + 1).to_string()).put(
            format!("{}/{}", self.folder, run.slot),
            run.attempt.to_string(),
        );
        term.complete(effects).await?;
        // From here on the slot is done, whatever becomes of this run.
        pause(&term, self.tidy).await
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
    incumbent::main(Jobs::new().with("tally", Tally::from_settings))
}
