//! When processes were started, as the machine counts it.
//!
//! `/proc/PID/stat` tells it by the boot clock of whoever reads, and in a time namespace that may be
//! days off: two readers would take one process for two. So all that is remembered of a process, or
//! told to another, is counted from the machine's own boot.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of a tick, in which the kernel tells when a process was started.
const TICK: i128 = 10_000_000;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// By how many nanoseconds the boot clock here is ahead of the machine's.
static AHEAD: OnceLock<i64> = OnceLock::new();

/// What `/proc/PID/stat` tells here, as the machine counts it.
///
/// # Errors
/// Where it can't be read how far the clock here is off.
pub(super) fn on_the_machine(ticks: u64) -> io::Result<u64> {
    Ok(converted(ticks, ahead()?))
}

/// Now, as the machine counts it. Async-signal-safe once any process was looked at.
pub(crate) fn now() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let now = i128::from(tv_sec) * i128::from(SECOND) + i128::from(tv_nsec);
    let ahead = AHEAD.get().copied().unwrap_or(0);
    u64::try_from((now - i128::from(ahead)) / TICK).unwrap_or(0)
}

/// Whether both may be when one process was started: namespaces that are no whole ticks apart round
/// it differently. No number of a process is given anew within some ticks.
pub(crate) const fn are_one(start: u64, other: u64) -> bool {
    start.abs_diff(other) <= 1
}

/// Whether `start` is after `other` however either was rounded.
pub(crate) const fn is_after(start: u64, other: u64) -> bool {
    start > other && !are_one(start, other)
}

fn converted(ticks: u64, ahead: i64) -> u64 {
    // What was started before the clock's zero is told as if the clock had run over.
    let told = i128::from(ticks) * TICK;
    let told = if told > i128::from(i64::MAX) {
        told - (1 << 64)
    } else {
        told
    };
    u64::try_from((told - i128::from(ahead)).div_euclid(TICK)).unwrap_or(0)
}

fn ahead() -> io::Result<i64> {
    if let Some(ahead) = AHEAD.get() {
        return Ok(*ahead);
    }
    // The offsets are those of what it starts.
    children_share_clocks().map_err(io::Error::other)?;
    let ahead = match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) => parse(&text).ok_or(io::ErrorKind::InvalidData)?,
        // There are no such namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        // Of no kind that would be taken for what it says of a process.
        Err(error) => return Err(io::Error::other(error)),
    };
    Ok(*AHEAD.get_or_init(|| ahead))
}

/// The boot clock's line: its name, and the offset in seconds and nanoseconds.
fn parse(text: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_ascii_whitespace();
    let mut number = || numbers.next()?.parse::<i64>().ok();
    number()?.checked_mul(SECOND)?.checked_add(number()?)
}

/// Whether what this process starts will go by the clocks that it goes by itself.
///
/// Before Linux 6.0 who has unshared its time namespace stays where it is, and only its children are
/// in the new one: instants that a daemon gives its guardian would mean nothing there.
///
/// # Errors
/// Says what to do instead.
pub(crate) fn children_share_clocks() -> io::Result<()> {
    share_clocks(Path::new("/proc/self/ns"))
}

fn share_clocks(namespaces: &Path) -> io::Result<()> {
    let read = |name| match fs::read_link(namespaces.join(name)) {
        // There are none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        link => link.map(Some),
    };
    if read("time")? == read("time_for_children")? {
        return Ok(());
    }
    Err(io::Error::other(
        "what it starts would go by other clocks than its own: whoever unshares a time namespace has \
         to start it as a child (\"unshare --time --fork\")",
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;
    use crate::proc::{Process, Stat};

    /// Runs the test of this name again where the clocks are days ahead, and where they are behind, and
    /// there looks at the process of this run.
    pub(crate) fn under_other_clocks(test: &str, look: impl FnOnce(Process)) {
        const SHOWN: &str = "INCUMBENT_TEST_SHOWN";
        if let Ok(shown) = std::env::var(SHOWN) {
            return look(Process::parse(&shown).unwrap());
        }
        for seconds in ["400000", "-1"] {
            let seen = Command::new("unshare")
                .args(["--time", "--boottime", seconds, "--monotonic", seconds])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(SHOWN, Process::this().to_string())
                .output();
            let (said, errors) = seen.map_or_else(
                |error| (String::new(), format!("unshare: {error}")),
                |seen| {
                    let read = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    (read(&seen.stdout), read(&seen.stderr))
                },
            );
            if said.is_empty() && errors.starts_with("unshare: ") {
                let what = format!("SKIPPED: {test}: no time namespace can be made: {errors}\n");
                drop(io::Write::write_all(&mut io::stderr(), what.as_bytes()));
                return;
            }
            assert!(said.contains("1 passed"), "{seconds}: {said}{errors}");
        }
    }

    #[test]
    fn a_start_is_counted_from_the_machines_boot() {
        let day = 86_400 * SECOND;
        assert_eq!(converted(12_345, 0), 12_345);
        assert_eq!(converted(8_640_000 + 12_345, day), 12_345);
        assert_eq!(converted(12_345, -day), 8_640_000 + 12_345);
        // Started before the clock's zero: 123.45 s after boot, and the clock 1000 s behind.
        let told = (1 << 64) - (1_000_000 - 123_450) * 1_000_000_i128;
        let told = u64::try_from(told / TICK).unwrap();
        assert!(are_one(converted(told, -1000 * SECOND), 12_345));
        // Not whole ticks apart.
        for part in [1, 4_999_999, 9_999_999] {
            let nanos = 123_450_000_000 + 7_000_000 + part;
            let told = u64::try_from(nanos / 10_000_000).unwrap();
            assert!(are_one(converted(told, part), 12_345), "{part}");
        }
        assert!(!are_one(12_345, 12_347) && !are_one(12_347, 12_345));
    }

    #[test]
    fn the_offset_is_the_boot_clocks() {
        let text = "monotonic         100         5\nboottime      -400000         7\n";
        assert_eq!(parse(text), Some(-400_000 * SECOND + 7));
        assert_eq!(parse("monotonic 0 0\n"), None);
        assert_eq!(parse("boottime 0\n"), None);
    }

    #[test]
    fn a_process_is_itself_in_every_time_namespace() {
        let test = "proc::ticks::tests::a_process_is_itself_in_every_time_namespace";
        under_other_clocks(test, |shown| {
            let here = Stat::of(shown.pid).unwrap();
            assert!(shown.lives().unwrap(), "{shown}: {here:?}");
            let age = now() - here.start_time;
            assert!(age < 60 * 60 * 100, "{age}");
        });
    }

    /// As `/proc/self/ns` looks before Linux 6.0.
    #[test]
    fn who_has_unshared_its_clocks_and_stayed_may_start_nothing() {
        children_share_clocks().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let link = |name, to| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
        assert!(share_clocks(folder.path()).is_ok(), "a kernel without them");
        link("time", "time:[4026531834]");
        link("time_for_children", "time:[4026532177]");
        let refused = share_clocks(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("unshare --time --fork"), "{refused}");
    }
}
