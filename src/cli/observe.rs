//! `incumbent observe`: one JSON line for each change of the leader.

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::away::Away;
use super::exit::Failure;
use super::options::{CommonOptions, JobOption, block_on};
use super::output;
use crate::config;
use crate::election::observe::{LeaderEvent, Observer};
use crate::election::queue::QueuedCandidate;
use crate::etcd::Store;
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::keys::LeaseId;
use crate::log;
use crate::revision::{Revision, Token};

/// Follow the election: one JSON line for each change of the leader, nobody included
///
/// The first line is the state now. While the store is away it goes on trying.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  incumbent observe --election /backup | jq --unbuffered -r '.leader.name // \"nobody\"'")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,

    #[command(flatten)]
    job: JobOption,
}

/// One line.
#[derive(Serialize)]
struct ObserveLine<'a> {
    event: &'static str,
    revision: Revision,
    leader: Option<Leader<'a>>,
}

#[derive(Serialize)]
struct Leader<'a> {
    name: &'a str,
    lease: LeaseId,
    key: &'a str,
    token: Token,
}

/// Follows the election until nobody reads any more.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut source = args.options.source_in_job();
    args.job.choose(&mut source);
    let config = config::load(&source)?.config;
    block_on(async {
        tokio::select! {
            failed = follow(Store::unanimous(&config.etcd), config.election.prefix) => failed,
            () = output::closed() => Ok(ExitCode::SUCCESS),
        }
    })
}

async fn follow(store: Store, prefix: crate::keys::Prefix) -> Result<ExitCode, Failure> {
    let mut observer = Observer::new(store, prefix, LONGEST_ATTEMPT);
    let mut away = Away::new();
    loop {
        match observer.next().await {
            Ok(event) => {
                let line = log::json(&ObserveLine::of(&event)).context("no JSON")?;
                output::write(line + "\n")?;
            }
            Err(error) => away.wait(error).await?,
        }
    }
}

impl<'a> ObserveLine<'a> {
    fn of(event: &'a LeaderEvent) -> Self {
        match event {
            LeaderEvent::Leader { revision, leader } => Self {
                event: "leader",
                revision: *revision,
                leader: leader.as_ref().map(Leader::of),
            },
            LeaderEvent::Value { revision, leader } => Self {
                event: "value",
                revision: *revision,
                leader: Some(Leader::of(leader)),
            },
        }
    }
}

impl<'a> Leader<'a> {
    fn of(candidate: &'a QueuedCandidate) -> Self {
        Self {
            name: &candidate.name,
            lease: candidate.lease,
            key: &candidate.key,
            token: candidate.token,
        }
    }
}
