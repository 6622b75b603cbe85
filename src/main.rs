//! The `incumbent` binary.
fn main() {}
