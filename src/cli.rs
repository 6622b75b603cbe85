//! The command line: what is typed, and one file a command.
//!
//! A command says what goes wrong on standard error and ends with one of the codes of `exit`;
//! wrong usage is clap's to say. `run` and `guardian` log; all others answer on standard output.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments of arguments are the help text, which is no markdown"
)]

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::job::Jobs;

pub use app::App;
use exit::Failure;

mod app;
mod away;
mod check;
mod config_schema;
mod exec;
mod exit;
mod first;
mod guardian;
mod kv;
mod look;
mod nesting;
mod next;
mod observe;
mod options;
mod output;
mod pause;
mod progress;
mod release;
mod reload;
mod run;
mod runs;
mod status;
mod step_down;
mod table;
mod terms;
mod trigger;

/// Runs a job on exactly one of several machines, elected through etcd.
#[derive(Debug, Parser)]
#[command(
    name = "incumbent",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Example: on each of two machines; stop either, and the other takes over
  incumbent run --endpoints http://etcd1:2379,http://etcd2:2379 -- my-job"
)]
struct Cli<C: Subcommand> {
    #[command(subcommand)]
    command: C,
}

/// All commands.
#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it is short-lived"
)]
enum TopCommand {
    #[command(flatten)]
    Typed(Typed),
    Guardian(guardian::Args),
}

/// The commands that people type, or a unit of theirs.
#[derive(Debug, Subcommand)]
enum Typed {
    Run(run::Args),
    Exec(exec::Args),
    Status(status::Args),
    Observe(observe::Args),
    Next(next::Args),
    Runs(runs::Args),
    Terms(terms::Args),
    Trigger(trigger::Args),
    StepDown(step_down::Args),
    Pause(pause::Args),
    Resume(pause::ResumeArgs),
    Kv(kv::Args),
    Check(check::Args),
    ConfigSchema(config_schema::Args),
    Reload(reload::Args),
    Release(release::Args),
}

/// Runs a command.
fn dispatch(command: TopCommand, jobs: Jobs) -> ExitCode {
    let typed = match command {
        TopCommand::Guardian(args) => {
            shrug_off();
            return guardian::run(&args);
        }
        TopCommand::Typed(typed) => typed,
    };
    if first::is_first() && matches!(typed, Typed::Run(_) | Typed::Exec(_)) {
        let ended = first::look_after().context("cannot start the daemon");
        return ended.unwrap_or_else(|error| Failure::Failed(error).report());
    }
    // The others end as any command does whose output has no room.
    if matches!(typed, Typed::Run(_) | Typed::Exec(_) | Typed::Release(_)) {
        shrug_off();
    }
    let ended = match typed {
        Typed::Run(args) => run::run(args, jobs),
        Typed::Exec(args) => exec::run(args),
        Typed::Status(args) => status::run(&args),
        Typed::Observe(args) => observe::run(&args),
        Typed::Next(args) => next::run(&args),
        Typed::Runs(args) => runs::run(&args),
        Typed::Terms(args) => terms::run(&args),
        Typed::Trigger(args) => trigger::run(&args),
        Typed::StepDown(args) => step_down::run(&args),
        Typed::Pause(args) => pause::run(&args),
        Typed::Resume(args) => pause::resume(&args),
        Typed::Kv(args) => kv::run(args),
        Typed::Check(args) => check::run(&args, &jobs),
        Typed::ConfigSchema(args) => config_schema::run(&args, &jobs),
        Typed::Reload(args) => reload::run(&args),
        Typed::Release(args) => release::run(&args),
    };
    ended.unwrap_or_else(|failure| failure.report())
}

/// What can't be had here costs no term, and there are no logs yet.
fn shrug_off() {
    crate::signals::shrug_off().ok();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::<TopCommand>::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_shows_an_example() {
        let mut open = vec![Cli::<TopCommand>::command()];
        while let Some(mut command) = open.pop() {
            let help = command.render_long_help().to_string();
            let is_ours = command.get_name() != "help" && !command.is_hide_set();
            assert!(!is_ours || help.contains("Example"), "{help}");
            open.extend(command.get_subcommands().cloned());
        }
    }
}
