//! Looks at processes, and whether they saw everybody.
//!
//! A look that may have been blind, for want of a descriptor or of `/proc` itself, is an error, and no
//! proof that nobody was there. Whoever hides from our user (hidepid) is not seen, and that is no error:
//! nothing would ever be proven there.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Process, Stat, children, is_gone, lists_children, number, sees_own_children};

/// The kernel's thread that starts all others.
const KTHREADD: i32 = 2;

/// So many listings of threads are made until two agree; each takes some 20 µs.
const LISTINGS: usize = 1000;

/// What was read of one process: nothing where it is gone, or hides from us.
///
/// # Errors
/// Where it may be there, and can't be looked at.
pub(crate) fn seen<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The numbers of all processes that `/proc` shows.
///
/// # Errors
/// Where it can't be read whole, or isn't that of this process.
pub(crate) fn listed() -> io::Result<Vec<i32>> {
    let this = fs::read_link("/proc/self").map_err(|error| blind(&error.to_string()))?;
    if this.to_str().and_then(number) != Some(Process::this().pid) {
        return Err(blind("it is that of another namespace"));
    }
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(number));
    }
    Ok(pids)
}

/// The folders that all threads of this process have in `/proc`.
///
/// While older threads end the kernel leaves out others that live on (in one look of 60 to 90, Linux 6.18), so
/// one listing proves nothing: two in a row must be the same, and as long as the kernel counts threads.
///
/// # Errors
/// Where they can't be read, or end and begin too fast for that.
pub(crate) fn own_threads() -> io::Result<Vec<PathBuf>> {
    const FOLDER: &str = "/proc/self/task";
    let mut last = Vec::new();
    for _ in 0..LISTINGS {
        let threads = fs::read_dir(FOLDER)?.map(|thread| Ok(thread?.path()));
        let threads = threads.collect::<io::Result<Vec<_>>>()?;
        // Beside its own two links the folder has one for each thread.
        let counted = fs::metadata(FOLDER)?.nlink().saturating_sub(2);
        if threads == last && usize::try_from(counted) == Ok(threads.len()) {
            return Ok(threads);
        }
        last = threads;
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// The kernel's own threads, as far as the kernel lists them; and what it runs in their place, which is
/// nobody's either. On most hosts they are most of the processes.
pub(crate) fn kernel_threads() -> HashSet<i32> {
    // In the first namespace alone, and unlike a process it can neither end nor be anybody's.
    if !Stat::read(KTHREADD).is_ok_and(|stat| stat.is_kernel_thread) {
        return HashSet::new();
    }
    let started = children(KTHREADD).unwrap_or_default();
    started.into_iter().chain([KTHREADD]).collect()
}

/// Never to be taken for the end of a process.
fn blind(why: &str) -> io::Error {
    io::Error::other(format!("/proc shows nobody: {why}"))
}

/// All processes that `/proc` shows, those that have ended and were not reaped included.
///
/// No snapshot: it can miss the child of a process that forks and ends in the midst of it.
///
/// # Errors
/// Where any of them can't be looked at.
pub(crate) fn everybody() -> io::Result<Vec<(i32, Stat)>> {
    let mut all = Vec::new();
    for pid in listed()? {
        all.extend(seen(Stat::read(pid))?.map(|stat| (pid, stat)));
    }
    Ok(all)
}

/// The children of this process, those that have ended included.
///
/// # Errors
/// Where not all of them can be seen.
pub(crate) fn own_children() -> io::Result<Vec<i32>> {
    let this = Process::this().pid;
    if lists_children() {
        return children(this);
    }
    sees_own_children()?;
    let all = everybody()?.into_iter();
    let children = all.filter(|(_, stat)| stat.parent == this);
    Ok(children.map(|(pid, _)| pid).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Runs this test again in a process of its own, which may do to itself what others couldn't
    /// bear; returns whether this is that one.
    pub(crate) fn is_alone(name: &str) -> bool {
        const ALONE: &str = "INCUMBENT_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env(ALONE, "");
        let output = again.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "no test is called {name}");
        false
    }

    /// All descriptors that this process may still have, for as long as they are held.
    pub(crate) fn all_descriptors() -> Vec<fs::File> {
        let files = std::iter::repeat_with(|| fs::File::open("/dev/null"));
        files.map_while(Result::ok).collect()
    }

    /// Of single listings one in 60 to 90 leaves it out here.
    #[test]
    fn a_thread_that_lives_is_listed_though_older_ones_end() {
        use std::sync::{Arc, Barrier, mpsc};
        use std::thread;

        const OLDER: usize = 8;
        let spawn = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().spawn(work).unwrap();
        for round in 0..1000 {
            let barrier = Arc::new(Barrier::new(OLDER + 1));
            let older: Vec<_> = (0..OLDER)
                .map(|nth| {
                    let barrier = Arc::clone(&barrier);
                    spawn(Box::new(move || {
                        barrier.wait();
                        for _ in 0..(nth * 997 + round * 131) % 20_000 {
                            std::hint::spin_loop();
                        }
                    }))
                })
                .collect();
            let (tell, told) = mpsc::channel();
            let (end, ended) = mpsc::channel::<()>();
            let living = spawn(Box::new(move || {
                tell.send(rustix::thread::gettid().as_raw_pid()).unwrap();
                ended.recv().unwrap_err();
            }));
            let living_id = told.recv().unwrap().to_string();
            barrier.wait();
            for _ in 0..3 {
                let listed = own_threads().unwrap();
                let is_there = listed.iter().any(|folder| folder.ends_with(&living_id));
                assert!(is_there, "round {round}: {listed:?}");
            }
            drop(end);
            for thread in older {
                thread.join().unwrap();
            }
            living.join().unwrap();
        }
    }

    #[test]
    fn a_process_that_is_gone_or_hides_is_none_and_one_that_cannot_be_read_an_error() {
        let failed = |errno: rustix::io::Errno| seen::<()>(Err(errno.into()));
        for errno in [
            rustix::io::Errno::NOENT,
            rustix::io::Errno::SRCH,
            rustix::io::Errno::ACCESS,
            rustix::io::Errno::PERM,
        ] {
            assert!(matches!(failed(errno), Ok(None)), "{errno}");
        }
        for errno in [
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NFILE,
            rustix::io::Errno::NOMEM,
            rustix::io::Errno::IO,
        ] {
            assert!(failed(errno).is_err(), "{errno}");
        }
        assert!(matches!(seen(Ok(7)), Ok(Some(7))));
    }

    #[test]
    fn everybody_is_seen_and_among_them_ones_own_children() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let this = Process::this().pid;
        let all = everybody().unwrap();
        let has = |wanted: i32, parent: i32| {
            let mut all = all.iter();
            all.any(|(pid, stat)| *pid == wanted && stat.parent == parent)
        };
        assert!(has(pid, this));
        assert!(all.iter().any(|(pid, _)| *pid == this));
        assert!(own_children().unwrap().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!own_children().unwrap().contains(&pid));
    }

    #[test]
    fn the_kernel_s_threads_are_those_that_have_its_flag() {
        let threads = kernel_threads();
        let mut all = everybody().unwrap();
        all.retain(|(pid, _)| threads.contains(pid));
        for (pid, stat) in all {
            // It may have ended since, and its number be another's: so only those that are in both.
            let is_listed = kernel_threads().contains(&pid);
            let is_helper = stat.parent == KTHREADD;
            assert!(!is_listed || stat.is_kernel_thread || is_helper, "{pid}");
        }
        assert!(!threads.contains(&Process::this().pid));
    }

    #[test]
    fn without_a_descriptor_nobody_is_proven_gone() {
        if !is_alone("proc::look::tests::without_a_descriptor_nobody_is_proven_gone") {
            return;
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::with_pid(pid).unwrap();
        let held = all_descriptors();
        let looks = (
            listed().is_err(),
            everybody().is_err(),
            own_children().is_err(),
        );
        let (lives, opened) = (process.lives().is_err(), process.open().is_err());
        drop(held);
        assert_eq!(looks, (true, true, true));
        assert!(
            lives && opened,
            "a process that can't be looked at is not gone"
        );
        assert!(process.lives().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.lives().unwrap());
    }
}
