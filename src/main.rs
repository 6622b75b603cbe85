//! The `incumbent` binary: the whole tool, with no jobs in Rust.

use std::process::ExitCode;

fn main() -> ExitCode {
    incumbent::main(incumbent::Jobs::default())
}
