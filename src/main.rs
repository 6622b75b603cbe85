//! The `incumbent` binary: the whole tool, with no jobs in Rust.

use std::process::ExitCode;

fn main() -> ExitCode {
    incumbent::App::new("incumbent", env!("CARGO_PKG_VERSION")).main()
}
