//! `incumbent next`: when the job runs next.

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::exit::Failure;
use super::look::Look;
use super::options::{CommonOptions, JobOption, ListFormat};
use super::output;
use super::table::Table;
use crate::config::{self, Config, Scheduling};
use crate::log;
use crate::schedule::{Slot, jitter};
use crate::wall::{self, Time};

/// How many slots are shown where nothing is said.
const SHOWN: u32 = 5;

/// How many at most.
const MOST: u32 = 1_000_000;

/// Show when a scheduled job runs next; asks no store, and starts nothing
///
/// These are the instants that the schedule names, whatever has been run of them: "runs" tells that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent next -c /etc/incumbent/backup.toml
  incumbent next -n 3 --from 2027-03-27
  incumbent next --until '2027-04-01 12:00' -o json | jq -r .slots[].slot")]
pub(super) struct Args {
    #[command(flatten)]
    options: CommonOptions,

    #[command(flatten)]
    job: JobOption,

    /// How many to show [default: 5, or all up to --until]
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    number: Option<u32>,

    /// Those after this time instead of now: RFC 3339, or a date, with or without a time of day, in
    /// the schedule's time zone
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// None after this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    output: ListFormat,
}

/// What is printed with `-o json`.
#[derive(Debug, Serialize)]
struct NextBody {
    election: String,
    schedule: String,
    timezone: String,
    slots: Vec<SlotBody>,
}

#[derive(Debug, Serialize)]
struct SlotBody {
    /// Its name in the store, and for the job.
    slot: Slot,
    /// With the offset of the schedule's zone.
    local: String,
    /// When the run begins, which a jitter makes later.
    begins: Time,
}

/// Shows the slots.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut source = args.options.source_in_job();
    source.needs_schedule = true;
    args.job.choose(&mut source);
    let config = config::load(&source)?.config;
    let Some(scheduling) = &config.scheduling else {
        return Err(anyhow::anyhow!("the job has no schedule").into());
    };
    let time = |flag: &str, text: &Option<String>| {
        let time = text.as_ref().map(|text| scheduling.schedule.time(text));
        let time = time.transpose();
        time.map_err(|why| Failure::Usage(format!("{flag}: {why}")))
    };
    let from = time("--from", &args.from)?;
    let until = time("--until", &args.until)?;
    let slots = slots(
        scheduling,
        from.unwrap_or(Slot::up_to(wall::now())),
        until,
        args.number,
    );
    output::write(match args.output {
        ListFormat::Table => table(&config, scheduling, &slots, Look::of_stdout()),
        ListFormat::Json => {
            let body = body(&config, scheduling, &slots);
            log::json(&body).context("no JSON")? + "\n"
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn slots(
    scheduling: &Scheduling,
    from: Slot,
    until: Option<Slot>,
    number: Option<u32>,
) -> Vec<Slot> {
    let last = Slot::up_to(Time::from_secs(u64::MAX));
    let most = number.unwrap_or(if until.is_some() { MOST } else { SHOWN });
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let schedule = &scheduling.schedule;
    schedule.between(from, until.unwrap_or(last), most)
}

/// When the run of a slot begins.
fn begins(config: &Config, scheduling: &Scheduling, slot: Slot) -> Time {
    let election = config.election.prefix.as_str();
    slot.time() + jitter(election, slot, scheduling.policy.jitter)
}

fn table(config: &Config, scheduling: &Scheduling, slots: &[Slot], look: Look) -> String {
    let schedule = &scheduling.schedule;
    let mut text = String::new();
    let words = format!("runs {}", schedule.words());
    look.line(&mut text, &words, None);
    if slots.is_empty() {
        look.line(&mut text, "no slot then", None);
        return text;
    }
    let local = |slot: Slot| schedule.with_offset(slot).replacen('T', " ", 1);
    text.push('\n');
    text += &if scheduling.policy.jitter.is_zero() {
        let mut table = Table::new(["SLOT", "LOCAL TIME"], &[], &[]);
        for slot in slots {
            table.push(None, [slot.to_string(), local(*slot)]);
        }
        table.render(look)
    } else {
        let mut table = Table::new(["SLOT", "LOCAL TIME", "BEGINS"], &[], &[]);
        for slot in slots {
            let begins = begins(config, scheduling, *slot).to_string();
            table.push(None, [slot.to_string(), local(*slot), begins]);
        }
        table.render(look)
    };
    text
}

fn body(config: &Config, scheduling: &Scheduling, slots: &[Slot]) -> NextBody {
    let schedule = &scheduling.schedule;
    let slots = slots.iter().map(|slot| SlotBody {
        slot: *slot,
        local: schedule.with_offset(*slot),
        begins: begins(config, scheduling, *slot),
    });
    NextBody {
        election: config.election.prefix.to_string(),
        schedule: schedule.words(),
        timezone: schedule.timezone(),
        slots: slots.collect(),
    }
}
