//! Man pages and shell completions, as `make dist` writes them, and what goes with them into a package.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::*;

/// The folder that would be `/usr/share`.
fn share(sandbox: &Sandbox) -> PathBuf {
    let share = sandbox.join("share");
    let output = sandbox.example("dist", &[&share]).output();
    assert_eq!(output, b"");
    share
}

/// The names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}

/// Every command that the help lists, by the words it is typed with, `incumbent` itself included.
fn typed(sandbox: &Sandbox) -> Vec<Vec<String>> {
    let mut open = vec![Vec::new()];
    let mut found = Vec::new();
    while let Some(words) = open.pop() {
        let help = sandbox.incumbent(&[&words[..], &["--help".to_owned()]].concat());
        let help = help.text();
        let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
        for line in list.lines().take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().unwrap();
            // Not the second line of a description.
            if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
                open.push([&words[..], &[name.to_owned()]].concat());
            }
        }
        found.push(words);
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

#[test]
fn every_command_that_is_typed_has_a_page_and_no_other() {
    let sandbox = Sandbox::new();
    let pages = share(&sandbox).join("man/man1");
    let commands = typed(&sandbox);
    let expected = commands.iter().map(|words| {
        let dashed = words
            .iter()
            .fold(String::new(), |text, word| text + "-" + word);
        format!("incumbent{dashed}.1")
    });
    assert_eq!(names(&pages), expected.collect());

    let page = fs::read_to_string(pages.join("incumbent-step-down.1")).unwrap();
    for said in [
        "\nincumbent\\-step\\-down \\- Have the leader stop its job",
        "\n.SH EXAMPLES\n",
        "\nincumbent step\\-down \\-\\-election /backup \\-\\-wait\n",
        "\\fB\\-\\-to\\fR",
        ".SH \"SEE ALSO\"",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let whole = fs::read_to_string(pages.join("incumbent.1")).unwrap();
    assert!(!whole.contains("guardian"), "{whole}");
}

#[test]
fn the_pages_are_sound() {
    let sandbox = Sandbox::new();
    let pages = share(&sandbox).join("man/man1");
    let checked = |program: &str, arguments: &[&str], page: &Path| {
        let mut command = Command::new(program);
        let output = command.args(arguments).arg(page).output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            output.status.success() && said.is_empty(),
            "{page:?}: {said}"
        );
    };
    for (program, arguments) in [
        ("groff", &["-man", "-k", "-Tutf8", "-ww", "-z"][..]),
        ("mandoc", &["-T", "lint", "-W", "error"]),
    ] {
        if is_there(program, "a check of the man pages") {
            for page in names(&pages) {
                checked(program, arguments, &pages.join(page));
            }
        }
    }
}

/// What bash offers for the last of these words, in this package's folder.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let asking = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        # As bash does: what was registered for the command, the command, this word, the last one.
        registered=$(complete -p incumbent) || exit
        [[ $registered =~ \ -F\ ([^ ]+) ]] || exit
        compopt() { :; }
        "${BASH_REMATCH[1]}" incumbent "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-uc", asking, "bash"]);
    bash.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = bash.arg(script).args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let sandbox = Sandbox::new();
    let script = share(&sandbox).join("bash-completion/completions/incumbent");
    let offers = |words: &[&str]| offered(&script, words);
    assert_eq!(offers(&["incumbent", "sta"]), ["status"]);
    assert_eq!(offers(&["incumbent", "status", "--wat"]), ["--watch"]);
    assert_eq!(offers(&["incumbent", "status", "-o", "j"]), ["json"]);
    assert_eq!(offers(&["incumbent", "kv", "wa"]), ["watch"]);
    let files = offers(&["incumbent", "check", "-c", "Cargo.t"]);
    assert_eq!(files, ["Cargo.toml"]);
    // Only the daemon starts it.
    assert_eq!(offers(&["incumbent", "guard"]), [""]);
    for words in typed(&sandbox) {
        let Some((last, before)) = words.split_last() else {
            continue;
        };
        let typed: Vec<&str> = ["incumbent"]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        assert!(offers(&typed).contains(last), "{before:?} {last}");
    }
}

#[test]
fn every_shell_reads_its_script() {
    let sandbox = Sandbox::new();
    let share = share(&sandbox);
    for (shell, script) in [
        ("bash", "bash-completion/completions/incumbent"),
        ("zsh", "zsh/vendor-completions/_incumbent"),
        ("fish", "fish/vendor_completions.d/incumbent.fish"),
    ] {
        let script = share.join(script);
        let text = fs::read_to_string(&script).unwrap();
        assert!(text.contains("step-down"), "{text}");
        assert!(!text.contains("guardian"), "{text}");
        if is_there(shell, "a check of its completions") {
            let output = Command::new(shell).arg("-n").arg(&script).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(output.stderr.is_empty(), "{output:?}");
        }
    }
}

#[test]
fn the_packages_changelog_begins_with_this_version() {
    let changelog = fs::read_to_string("debian/changelog").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let first = format!("incumbent ({version}-1) ");
    assert!(changelog.starts_with(&first), "{changelog}");
}
