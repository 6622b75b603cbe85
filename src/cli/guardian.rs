//! `incumbent guardian`: the guardian's process. Started by the daemon, never typed.

use std::process::ExitCode;

/// The process that owns the job; the daemon starts it
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {}

/// Runs the guardian to its end.
pub(super) fn run(_: &Args) -> ExitCode {
    crate::guardian::main::main()
}
