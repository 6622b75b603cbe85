//! The command line: what is typed, and one file a command.
//!
//! A command says what goes wrong on standard error and ends with one of the codes of `exit`;
//! wrong usage is clap's to say. `run` and `guardian` log; all others answer on standard output.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments of arguments are the help text, which is no markdown"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::job::Jobs;

mod away;
mod check;
mod exec;
mod exit;
mod guardian;
mod kv;
mod observe;
mod options;
mod output;
mod pause;
mod progress;
mod release;
mod reload;
mod run;
mod status;
mod step_down;
mod table;

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
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Exec(exec::Args),
    Status(status::Args),
    Observe(observe::Args),
    StepDown(step_down::Args),
    Pause(pause::Args),
    Resume(pause::ResumeArgs),
    Kv(kv::Args),
    Check(check::Args),
    Reload(reload::Args),
    Release(release::Args),
    Guardian(guardian::Args),
}

/// Runs the command that this process was started with.
pub fn main(jobs: Jobs) -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(args) => run::run(args, jobs),
        Command::Exec(args) => exec::run(args),
        Command::Status(args) => status::run(&args),
        Command::Observe(args) => observe::run(&args),
        Command::StepDown(args) => step_down::run(&args),
        Command::Pause(args) => pause::run(&args),
        Command::Resume(args) => pause::resume(&args),
        Command::Kv(args) => kv::run(args),
        Command::Check(args) => check::run(&args, &jobs),
        Command::Reload(args) => reload::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Guardian(args) => Ok(guardian::run(&args)),
    };
    ended.unwrap_or_else(|failure| failure.report())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_shows_an_example() {
        let mut open = vec![Cli::command()];
        while let Some(mut command) = open.pop() {
            let help = command.render_long_help().to_string();
            let is_ours = command.get_name() != "help" && !command.is_hide_set();
            assert!(!is_ours || help.contains("Example"), "{help}");
            open.extend(command.get_subcommands().cloned());
        }
    }
}
