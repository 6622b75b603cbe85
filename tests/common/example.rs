//! The examples of this package, which are binaries for the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// Where the example of this name is; all are built if the command line that built the tests left
/// them out.
pub fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let example = profile.join("examples").join(name);
    BUILT.call_once(|| {
        // `cargo test` builds the examples; `cargo test --test NAME` does not.
        if !example.exists() {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            cargo.args(["build", "--quiet", "--examples"]);
            // What cargo tells a test, the build script of `ring` would take for a change: all
            // that rests on it would be compiled anew, and again when cargo is called by hand.
            for (name, _) in std::env::vars_os() {
                if name.to_str().is_some_and(|name| {
                    ["CARGO_PKG_", "CARGO_MANIFEST_"]
                        .iter()
                        .any(|cargos| name.starts_with(cargos))
                }) {
                    cargo.env_remove(&name);
                }
            }
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().ok();
        }
    });
    assert!(
        example.exists(),
        "{} is missing: cargo build --examples",
        example.display()
    );
    example
}
