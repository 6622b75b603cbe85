//! What the machine can't give at the moment is no wrong configuration: whoever starts the daemon starts
//! it again.

use std::process::{Command, Output};

use crate::common::*;

/// How `run` ends with what it needs on a disk made by `options`, which is full.
fn run_on_full_disk(sandbox: &Sandbox, options: &str) -> Output {
    let disk = sandbox.join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let script = "mount -t tmpfs -o \"$1\" full \"$2\" && dd if=/dev/zero of=\"$2/x\" 2>/dev/null; \
                  shift 2; exec timeout 20 \"$@\"";
    let typed = sandbox.incumbent(&["run", "--endpoints", "http://127.0.0.1:1", "--", "true"]);
    let inner = typed.into_command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", options]);
    command.arg(&disk);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env("INCUMBENT__RUNTIME_DIR", disk.join("run"));
    command.output().unwrap()
}

#[test]
fn a_full_disk_for_the_runtime_directory_is_no_wrong_configuration() {
    if !ordinary::is_root("a full disk") {
        return;
    }
    let sandbox = Sandbox::new();
    // Without room for another file, and without room in any.
    for options in ["size=4k,nr_inodes=1", "size=4k"] {
        let output = run_on_full_disk(&sandbox, options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options}: {said}");
        assert!(said.contains("No space left on device"), "{said}");
    }
}

/// The file can be opened, and every read of it fails with EIO.
#[test]
fn a_configuration_file_on_a_failing_disk_is_no_wrong_configuration() {
    let sandbox = Sandbox::new();
    let answer = sandbox
        .incumbent(&["run", "-c", "/proc/self/mem", "--", "true"])
        .run();
    assert_eq!(answer.code, Some(1));
    let said = answer.errors;
    assert!(said.contains("Input/output error"), "{said}");
}
