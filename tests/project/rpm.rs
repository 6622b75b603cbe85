//! The RPM package: the Debian package's files and scripts, as RPM systems have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::*;

/// What either package says in its own way: Debian's overrides and copyright, RPM's licences.
const OF_DEB: [&str; 1] = ["usr/share/lintian/overrides/incumbent"];
const OF_RPM: [&str; 1] = ["usr/share/licenses/incumbent/"];

/// Where the same file lies elsewhere.
const MOVED: [(&str, &str); 1] = [(
    "usr/share/zsh/vendor-completions/",
    "usr/share/zsh/site-functions/",
)];

fn metadata(of: &str) -> toml::Value {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string("Cargo.toml").unwrap()).unwrap();
    manifest["package"]["metadata"][of].clone()
}

/// A source, where it goes, and its mode.
type Asset = (String, String, String);

fn asset(source: &toml::Value, to: &toml::Value, mode: &toml::Value) -> Asset {
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let to = text(to).trim_start_matches('/').to_owned();
    // A name of its own only where it is another.
    let name = Path::new(source.as_str().unwrap())
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let folder = to.strip_suffix(name).filter(|folder| folder.ends_with('/'));
    (
        text(source),
        folder.map_or(to.clone(), ToOwned::to_owned),
        text(mode),
    )
}

fn assets_of_rpm() -> Vec<toml::Value> {
    metadata("generate-rpm")["assets"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn both_packages_bring_the_same_files() {
    let deb = metadata("deb")["assets"].as_array().unwrap().clone();
    let deb = deb.iter().map(|it| asset(&it[0], &it[1], &it[2]));
    let moved = |(source, to, mode): Asset| {
        let place = MOVED.iter().find(|(from, _)| *from == to);
        (source, place.map_or(to, |(_, to)| (*to).to_owned()), mode)
    };
    let deb: BTreeSet<_> = deb
        .filter(|it| !OF_DEB.contains(&&*it.1))
        .map(moved)
        .collect();
    let rpm = assets_of_rpm();
    let rpm = rpm
        .iter()
        .map(|it| asset(&it["source"], &it["dest"], &it["mode"]));
    let rpm: BTreeSet<_> = rpm.filter(|it| !OF_RPM.contains(&&*it.1)).collect();
    assert_eq!(rpm, deb);
}

/// Packs the binary of the tests, as `scripts/rpm` packs that of a release; `None`, said aloud, where that
/// can't be done.
fn package(sandbox: &Sandbox) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let path = format!("{}:{}", std::env::var("PATH").unwrap(), tools.display());
    let cargo = |words: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .args(words)
            .env("PATH", &path)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    };
    let is_there = is_there("rpm", "the RPM package");
    let packs = cargo(&["generate-rpm", "--version"])
        .output()
        .unwrap()
        .status
        .success();
    if !packs {
        skipped("the RPM package: cargo-generate-rpm is missing: scripts/rpm installs it");
    }
    if !is_there || !packs {
        return None;
    }
    let target = Path::new(env!("CARGO_BIN_EXE_incumbent")).parent().unwrap();
    let profile = target.file_name().unwrap().to_str().unwrap();
    let target = target.parent().unwrap().to_str().unwrap();
    // It takes them from where `make dist` leaves them.
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dist/share");
    assert_eq!(sandbox.example("dist", &[&share]).output(), b"");
    let file = sandbox.join("incumbent.rpm");
    let words = [
        "generate-rpm",
        "--payload-compress",
        "none",
        "--target-dir",
        target,
        "--profile",
        profile,
        "-o",
    ];
    succeeded(cargo(&words).arg(&file));
    Some(file)
}

#[track_caller]
fn succeeded(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let errors = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{command:?}: {errors}");
    String::from_utf8(stdout).unwrap()
}

fn asked(package: &Path, words: &[&str]) -> String {
    succeeded(Command::new("rpm").arg("-qp").args(words).arg(package))
}

/// The files that the metadata names, patterns followed, each with its mode and whether it is kept.
fn expected() -> BTreeMap<String, (String, bool)> {
    let mut files = BTreeMap::new();
    for asset in assets_of_rpm() {
        let (source, to) = (
            asset["source"].as_str().unwrap(),
            asset["dest"].as_str().unwrap(),
        );
        let folder = Path::new(source).parent().unwrap();
        let pattern = Path::new(source).file_name().unwrap().to_str().unwrap();
        let names = match pattern.strip_suffix('*') {
            None => vec![pattern.to_owned()],
            Some(start) => {
                let folder = if folder == Path::new("") {
                    Path::new(".")
                } else {
                    folder
                };
                let names = fs::read_dir(folder).unwrap();
                let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                names.filter(|name| name.starts_with(start)).collect()
            }
        };
        for name in names {
            let path = if to.ends_with('/') {
                format!("{to}{name}")
            } else {
                to.to_owned()
            };
            let kept = asset.get("config").and_then(toml::Value::as_str) == Some("noreplace");
            files.insert(path, (asset["mode"].as_str().unwrap().to_owned(), kept));
        }
    }
    files
}

#[test]
fn the_built_package_holds_what_it_should() {
    let sandbox = Sandbox::new();
    let Some(package) = package(&sandbox) else {
        return;
    };
    let format = "[%{FILENAMES} %{FILEMODES:octal} %{FILEFLAGS:fflags} %{FILEUSERNAME}\n]";
    let listed = asked(&package, &["--queryformat", format]);
    let listed = listed.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [path, mode, flags, user] = words[..] else {
            panic!("{line}")
        };
        assert_eq!(user, "root", "{line}");
        let mode = mode.strip_prefix("100").unwrap();
        // A changed configuration is kept, and the new one laid beside it.
        (
            path.to_owned(),
            (mode.to_owned(), flags.contains('c') && flags.contains('n')),
        )
    });
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), expected());
    let kept = expected().into_iter().filter(|(_, (_, kept))| *kept);
    let kept: Vec<_> = kept.map(|(path, _)| path).collect();
    assert_eq!(kept, ["/etc/incumbent/incumbent.toml"]);

    let scripts = asked(&package, &["--scripts"]);
    for (when, file) in [
        ("postinstall", "post"),
        ("preuninstall", "preun"),
        ("postuninstall", "postun"),
    ] {
        let text = fs::read_to_string(Path::new("rpm").join(file)).unwrap();
        assert!(
            scripts.contains(&format!("{when} scriptlet:\n{text}")),
            "{when}: {scripts}"
        );
    }
    let requires = asked(&package, &["--requires"]);
    assert!(requires.contains("libc.so.6(GLIBC_"), "{requires}");
    let named = asked(
        &package,
        &["--queryformat", "%{NAME} %{VERSION} %{LICENSE}"],
    );
    assert_eq!(
        named,
        format!("incumbent {} MIT OR Apache-2.0", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_package_installs_into_a_root_and_keeps_what_was_changed_there() {
    if !ordinary::is_root("the RPM package in a root of its own") {
        return;
    }
    let sandbox = Sandbox::new();
    let Some(package) = package(&sandbox) else {
        return;
    };
    let root = sandbox.join("root");
    fs::create_dir(&root).unwrap();
    let rpm = |words: &[&str]| {
        let mut command = Command::new("rpm");
        command
            .arg("--root")
            .arg(&root)
            .args(["--dbpath", "/var/lib/rpm"])
            .args(words);
        command
    };
    // A root without any other package, and without a shell.
    let alone = ["--nodeps", "--noscripts"];
    succeeded(rpm(&["--install"]).args(alone).arg(&package));
    for path in expected().keys() {
        assert!(root.join(&path[1..]).is_file(), "{path}");
    }
    let version = succeeded(Command::new(root.join("usr/bin/incumbent")).arg("--version"));
    assert_eq!(
        version,
        format!("incumbent {}\n", env!("CARGO_PKG_VERSION"))
    );
    let config = root.join("etc/incumbent/incumbent.toml");
    fs::write(&config, "# ours\n").unwrap();
    succeeded(rpm(&["--upgrade", "--force"]).args(alone).arg(&package));
    assert_eq!(fs::read_to_string(&config).unwrap(), "# ours\n");
    succeeded(rpm(&["--erase"]).args(alone).arg("incumbent"));
    assert!(!root.join("usr/bin/incumbent").exists());
    assert_eq!(
        fs::read_to_string(config.with_extension("toml.rpmsave")).unwrap(),
        "# ours\n"
    );
}

#[test]
fn the_scripts_of_the_packages_are_sound() {
    for folder in ["rpm", "debian"] {
        for script in fs::read_dir(folder).unwrap() {
            let script = script.unwrap().path();
            let is_script =
                |name: &str| ["post", "pre"].iter().any(|start| name.starts_with(start));
            if script
                .file_name()
                .and_then(|it| it.to_str())
                .is_some_and(is_script)
            {
                succeeded(Command::new("sh").arg("-n").arg(&script));
            }
        }
    }
    succeeded(Command::new("sh").args(["-n", "systemd/restart-replicas"]));
}
