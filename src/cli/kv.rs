//! `incumbent kv`: the store's keys, with the arguments and the answers of `etcdctl`.
//!
//! Inside a job, writes are guarded by its term. A key that would block an election is refused.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};

use super::away::Away;
use super::exit::Failure;
use super::options::{Asking, block_on};
use super::output;
use crate::config::Config;
use crate::etcd::Store;
use crate::keys::{LeaseId, Prefix, shown};
use crate::kv::{self, Keys, Span, WriteGuard, json, plain, watch};
use crate::revision::Revision;

/// Read and write the store's keys, as etcdctl does
///
/// In a job, put and del are guarded: once the job's term is over they write nothing and exit with
/// code 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent kv put /backup/last 2031-05-04
  incumbent kv get /backup/ --prefix -o json")]
pub(super) struct Args {
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    Get(GetArgs),
    Put(PutArgs),
    Del(Del),
    Watch(WatchArgs),
}

/// What all of them take.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    asking: Asking,

    /// How to print the answer; json has the shape of `etcdctl -w json`
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = KvFormat::Plain)]
    output: KvFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KvFormat {
    Plain,
    Json,
}

/// Which keys.
#[derive(Debug, clap::Args)]
struct Range {
    /// The key, or where the range begins
    key: OsString,

    /// Where the range ends; this key is not in it
    #[arg(conflicts_with = "prefix")]
    end: Option<OsString>,

    /// Take KEY for a prefix, and every key that begins with it
    #[arg(long)]
    prefix: bool,
}

/// Print keys and their values
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent kv get /backup/last --print-value-only
  incumbent kv get /backup/ --prefix --keys-only")]
struct GetArgs {
    #[command(flatten)]
    range: Range,

    /// As of this revision; 0 is now
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    rev: i64,

    /// At most so many keys; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    limit: i64,

    /// Leave out the values
    #[arg(long)]
    keys_only: bool,

    /// Print the values and nothing else
    #[arg(long, conflicts_with_all = ["keys_only", "output"])]
    print_value_only: bool,

    #[command(flatten)]
    common: Common,
}

/// Write a key
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent kv put /backup/last 2031-05-04
  incumbent kv put /backup/report - < report.txt")]
struct PutArgs {
    /// The key
    key: OsString,

    /// Its new value; `-` or none is standard input
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,

    /// Print what was there before
    #[arg(long)]
    prev_kv: bool,

    /// The lease to attach the key to
    #[arg(long, value_name = "HEX", value_parser = lease)]
    lease: Option<LeaseId>,

    #[command(flatten)]
    guarding: GuardArgs,

    #[command(flatten)]
    common: Common,
}

/// Delete keys, and print how many there were
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent kv del /backup/last
  incumbent kv del /backup/old/ --prefix --prev-kv")]
struct Del {
    #[command(flatten)]
    range: Range,

    /// Print what was there before
    #[arg(long)]
    prev_kv: bool,

    #[command(flatten)]
    guarding: GuardArgs,

    #[command(flatten)]
    common: Common,
}

/// Print changes of keys as they come
///
/// Goes on over another member when one is lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent kv watch /backup/ --prefix
  incumbent kv watch /backup/last --rev 1000 -o json")]
struct WatchArgs {
    #[command(flatten)]
    range: Range,

    /// From this revision on; 0 is from now on
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    rev: i64,

    /// Print what was there before, too
    #[arg(long)]
    prev_kv: bool,

    #[command(flatten)]
    common: Common,
}

/// Whether a write in a job is tied to the job's term.
#[derive(Debug, clap::Args)]
struct GuardArgs {
    /// In a job: write even if the job's term is over
    #[arg(long)]
    unguarded: bool,
}

/// Runs one of them.
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    block_on(async {
        match args.command {
            KvCommand::Get(get) => get.run().await,
            KvCommand::Put(put) => put.run().await,
            KvCommand::Del(del) => del.run().await,
            KvCommand::Watch(watch) => tokio::select! {
                ended = watch.run() => ended,
                () = output::closed() => Ok(()),
            },
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

impl GetArgs {
    async fn run(self) -> Result<(), Failure> {
        let (keys, _) = self.common.keys(false)?;
        let get = kv::Get {
            span: self.range.span(),
            revision: Revision::new(self.rev),
            limit: self.limit,
            keys_only: self.keys_only,
        };
        let answer = keys.get(&get).await?;
        let as_text = if self.print_value_only {
            plain::values
        } else {
            plain::get
        };
        self.common.print(&answer, json::get, as_text)
    }
}

impl PutArgs {
    async fn run(self) -> Result<(), Failure> {
        let guard = self.guarding.guard()?;
        let (keys, config) = self.common.keys(guard.is_some())?;
        let key = self.key.into_vec();
        refuse_if_blocking(&config, &key, self.lease)?;
        let value = match self.value {
            Some(value) if value != "-" => value.into_vec(),
            _ => standard_input()?,
        };
        let put = kv::Put {
            key,
            value,
            lease: self.lease,
            prev_kv: self.prev_kv,
        };
        let answer = keys.put(&put, guard.as_ref()).await?;
        self.common.print(&answer, json::put, plain::put)
    }
}

impl Del {
    async fn run(self) -> Result<(), Failure> {
        let guard = self.guarding.guard()?;
        let (keys, _) = self.common.keys(guard.is_some())?;
        let span = self.range.span();
        let answer = keys.delete(&span, self.prev_kv, guard.as_ref()).await?;
        self.common.print(&answer, json::delete, plain::delete)
    }
}

impl WatchArgs {
    async fn run(self) -> Result<(), Failure> {
        let (keys, _) = self.common.keys(false)?;
        let request = watch::WatchRequest {
            span: self.range.span(),
            revision: Revision::new(self.rev),
            prev_kv: self.prev_kv,
        };
        let mut follower = keys.watch(request).await?;
        let mut away = Away::new();
        loop {
            let message = match follower.next().await {
                Ok(message) => message,
                Err(error) => {
                    away.wait(error).await?;
                    continue;
                }
            };
            self.common.print(&message, json::watch, plain::watch)?;
            if let Some(compacted) = follower.compacted(&message) {
                return Err(compacted.into());
            }
        }
    }
}

impl Common {
    /// The keys of the configured store, for writes that a term guards or for anything else; the time
    /// runs from here on.
    fn keys(&self, is_guarded: bool) -> Result<(Keys, Config), Failure> {
        let config = self.asking.load()?;
        let store = if is_guarded {
            // The condition holds in no other store than the term's: one stray costs the job nothing.
            Store::new(&config.etcd)
        } else {
            Store::unanimous(&config.etcd)
        };
        let patience = self.asking.patience(&store);
        Ok((Keys::new(store, patience), config))
    }

    fn print<T>(
        &self,
        answer: &T,
        as_json: impl Fn(&T) -> serde_json::Result<String>,
        as_text: impl Fn(&T) -> Vec<u8>,
    ) -> Result<(), Failure> {
        match self.output {
            KvFormat::Plain => output::write_foreign(&as_text(answer)),
            KvFormat::Json => output::write(as_json(answer).context("no JSON")? + "\n"),
        }
    }
}

impl Range {
    fn span(&self) -> Span {
        let key = self.key.clone().into_vec();
        match &self.end {
            Some(end) => Span::range(key, end.clone().into_vec()),
            None if self.prefix => Span::prefix(key),
            None => Span::key(key),
        }
    }
}

impl GuardArgs {
    fn guard(&self) -> Result<Option<WriteGuard>, Failure> {
        if self.unguarded {
            return Ok(None);
        }
        let guard = WriteGuard::of_job(|name| std::env::var_os(name));
        guard.map_err(|bad| Failure::Refused(bad.to_string()))
    }
}

/// Refuses a key that every candidate would wait for, and nobody would ever take away.
///
/// Looks at the configured election, and at the one that a job belongs to.
fn refuse_if_blocking(config: &Config, key: &[u8], lease: Option<LeaseId>) -> Result<(), Failure> {
    let of_the_job = std::env::var("INCUMBENT_ELECTION").ok().map(Prefix::new);
    let lease = lease.map_or(0, LeaseId::get);
    let blocked = [Some(config.election.prefix.clone()), of_the_job]
        .into_iter()
        .flatten()
        .find(|prefix| prefix.is_blocked_by(key, lease));
    match blocked {
        Some(prefix) => Err(Failure::Refused(format!(
            "{:?} would block the election {prefix}: it is not the key of a candidate's lease; \
             nothing was written",
            shown(key)
        ))),
        None => Ok(()),
    }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut value)
        .context("cannot read standard input")?;
    Ok(value)
}

/// Reads a lease as etcdctl prints it.
fn lease(text: &str) -> Result<LeaseId, &'static str> {
    let id = i64::from_str_radix(text, 16).ok();
    id.and_then(LeaseId::new)
        .ok_or("expected a lease id in hex, such as 32696bd0d159d067")
}
