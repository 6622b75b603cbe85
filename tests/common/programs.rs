//! What the tests run that isn't ours: etcd's programs, and what `make stores` builds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::skipped;

/// The etcd of the tests.
pub fn etcd() -> OsString {
    std::env::var_os("ETCD").unwrap_or_else(|| "etcd".into())
}

/// Its `etcdctl`.
pub fn etcdctl() -> OsString {
    std::env::var_os("ETCDCTL").unwrap_or_else(|| "etcdctl".into())
}

/// Has a shell find that `etcdctl`, too.
pub fn with_etcdctl(shell: &mut Command) {
    let etcdctl = PathBuf::from(etcdctl());
    if let Some(folder) = etcdctl.parent().filter(|it| !it.as_os_str().is_empty()) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
        shell.env("PATH", std::env::join_paths(folders).unwrap());
    }
}

/// A program that `make stores` builds, such as `3.7/etcd`; where it isn't there, says that `what` is
/// left out.
pub fn built(program: &str, what: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let path = target.join("stores").join(program);
    if !Path::exists(&path) {
        skipped(&format!(
            "{what}: {} is missing: make stores",
            path.display()
        ));
        return None;
    }
    Some(path)
}
