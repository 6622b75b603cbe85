//! A binary of one's own: the whole tool, with a job in Rust added to it.
//!
//! ```sh
//! cargo run --example reindex -- check -c examples/reindex.toml
//! cargo run --example reindex -- run -c examples/reindex.toml
//! ```
//!
//! The job indexes documents, batch after batch, with a program that it is given. How far it has
//! come stands in etcd, so that the next leader, here or on another host, goes on from there.

use std::process::ExitCode;
use std::time::Duration;

use incumbent::{App, Job, JobError, JobTerm};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The job.
struct Reindex(Settings);

/// `job.settings`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The program that indexes a batch. Its last arguments are the first document and how many.
    program: Vec<String>,
    /// How many documents make a batch.
    batch: u64,
    /// Pause between two batches.
    #[serde(deserialize_with = "span")]
    pause: Duration,
    /// The key under which the next document stands.
    progress: String,
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(D::Error::custom)
}

impl Reindex {
    /// The document that the last term, whoever led, has not come to.
    async fn next(&self, term: &JobTerm) -> Result<u64, JobError> {
        match term.get(self.0.progress.as_str()).await? {
            Some(text) => Ok(String::from_utf8(text)?.parse()?),
            None => Ok(0),
        }
    }
}

impl Job for Reindex {
    type Settings = Settings;

    fn new(settings: Settings) -> Result<Self, JobError> {
        if settings.program.is_empty() {
            return Err("program: expected a program, found none".into());
        }
        Ok(Self(settings))
    }

    async fn run(&self, term: JobTerm) -> Result<(), JobError> {
        let mut next = self.next(&term).await?;
        tracing::info!(token = term.token().get(), next, "reindexing");
        while !term.is_stopping() {
            // Started by the guardian, so that it can't outlive the term whatever happens here. It
            // finds the fencing token in its environment, as INCUMBENT_TOKEN.
            let program = term
                .command(&self.0.program[0])
                .args(&self.0.program[1..])
                .arg(next.to_string())
                .arg(self.0.batch.to_string())
                .spawn()
                .await?;
            let status = tokio::select! {
                status = program.wait() => status?,
                // The program is stopped once this has returned, and has job.stop_grace for it.
                () = term.stopping() => break,
            };
            if !status.success() {
                // A failed run: it is started again, and after some of them elsewhere.
                return Err(format!("documents from {next} on: {status}").into());
            }
            next += self.0.batch;
            // Refused by etcd should another host lead by now.
            term.put(self.0.progress.as_str(), next.to_string()).await?;
            tokio::select! {
                () = tokio::time::sleep(self.0.pause) => {}
                () = term.stopping() => {}
            }
        }
        // With no term left there is nothing that could still be put in order.
        if !term.remaining().is_zero() {
            tracing::info!(token = term.token().get(), next, "reindexing stopped");
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    App::new("reindex", env!("CARGO_PKG_VERSION"))
        .job::<Reindex>("reindex")
        .main()
}
