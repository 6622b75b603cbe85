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

use incumbent::{Job, JobError, Jobs, Term};

/// The job, as `job.settings` describes it.
struct Reindex {
    /// The program that indexes a batch. Its last arguments are the first document and how many.
    program: Vec<String>,
    /// How many documents make a batch.
    batch: u64,
    /// Pause between two batches.
    pause: Duration,
    /// The key under which the next document stands.
    progress: String,
}

impl Reindex {
    fn from_settings(settings: toml::Table) -> Result<Self, JobError> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            program: Vec<String>,
            batch: u64,
            pause: String,
            progress: String,
        }
        let settings: Settings = settings.try_into()?;
        if settings.program.is_empty() {
            return Err("job.settings.program: expected a program, found none".into());
        }
        Ok(Self {
            program: settings.program,
            batch: settings.batch,
            pause: humantime::parse_duration(&settings.pause)?,
            progress: settings.progress,
        })
    }

    /// The document that the last term, whoever led, has not come to.
    async fn next(&self, term: &Term) -> Result<u64, JobError> {
        match term.get(self.progress.as_str()).await? {
            Some(text) => Ok(String::from_utf8(text)?.parse()?),
            None => Ok(0),
        }
    }
}

impl Job for Reindex {
    async fn run(&self, term: Term) -> Result<(), JobError> {
        let mut next = self.next(&term).await?;
        tracing::info!(token = term.token().get(), next, "reindexing");
        while !term.is_stopping() {
            // Started by the guardian, so that it can't outlive the term whatever happens here. It
            // finds the fencing token in its environment, as INCUMBENT_TOKEN.
            let program = term
                .command(&self.program[0])
                .args(&self.program[1..])
                .arg(next.to_string())
                .arg(self.batch.to_string())
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
            next += self.batch;
            // Refused by etcd should another host lead by now.
            term.put(self.progress.as_str(), next.to_string()).await?;
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
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
    incumbent::main(Jobs::new().with("reindex", Reindex::from_settings))
}
