//! The `incumbent` binary.
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("guardian") => incumbent::guardian::main::main(),
        _ => ExitCode::from(2),
    }
}
