//! The control group that the service manager put us in, and who else is there.

use std::fs;
use std::path::{Path, PathBuf};

/// The path of a process's group in the unified hierarchy, from its `/proc/PID/cgroup`.
pub(crate) fn of(pid: i32) -> Option<String> {
    unified_path(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The path in the line of the unified hierarchy, `0::PATH`.
fn unified_path(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // The kernel appends this to a group that was removed while the process was in it.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Some(path.to_owned())
}

/// The folder of a group: on hosts that also have version 1, the unified hierarchy is a folder down.
pub(crate) fn folder(path: &str) -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let root = if hybrid.join("cgroup.procs").exists() {
        hybrid
    } else {
        Path::new("/sys/fs/cgroup")
    };
    root.join(path.trim_start_matches('/'))
}

/// The processes in the group of this folder and all groups below it. A process of another
/// namespace has the number 0.
///
/// # Errors
/// Fails if the group can't be read: then nothing is known about who is in it.
pub(crate) fn members(folder: &Path) -> std::io::Result<Vec<i32>> {
    let text = fs::read_to_string(folder.join("cgroup.procs"))?;
    let mut members: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match self::members(&entry.path()) {
                Ok(below) => members.extend(below),
                // Removed since it was listed, which only an empty group can be.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(members)
}

/// ENOENT while it is looked up, ENODEV once it is open.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_line_is_found_among_others() {
        let hybrid = "1:name=systemd:/system.slice/old\n0::/system.slice/incumbent@a.service\n";
        assert_eq!(
            unified_path(hybrid).as_deref(),
            Some("/system.slice/incumbent@a.service")
        );
        assert_eq!(unified_path("0::/\n").as_deref(), Some("/"));
        assert_eq!(unified_path("0::/a (deleted)\n").as_deref(), Some("/a"));
        assert_eq!(unified_path("4:memory:/a\n"), None);
    }

    #[test]
    fn members_of_groups_below_count_too() {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("cgroup.procs"), "12\n").unwrap();
        fs::create_dir(group.path().join("below")).unwrap();
        fs::write(group.path().join("below/cgroup.procs"), "13\n0\n").unwrap();
        assert_eq!(members(group.path()).unwrap(), [12, 13, 0]);
    }

    #[test]
    fn a_group_that_cannot_be_read_is_not_an_empty_one() {
        assert!(members(Path::new("/nonexistent")).is_err());
    }
}
