//! The runs of a guardian, as they stand in a file that outlives it: by session and time, which no
//! process can change that has left its session or taken another user's rights.
//!
//! The process that becomes a run writes them itself, before it executes anything, so no run is
//! missing however suddenly everybody else dies, and nobody who decides writes a file (R14). The
//! next daemon in the same runtime directory reads them, and fences what is left.
//!
//! A session's number isn't given to another process while the session has a member.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{pread, pwrite};
use rustix::process::getpid;

use crate::proc::look::everybody;
use crate::proc::{self, Process, Stat, ticks};

/// The bytes at the beginning, which say where the numbers mean something.
const HEADER: usize = 64;

/// The bytes of one run.
const RECORD: usize = 32;

/// For how many runs the file has room from the start, so that a full disk costs none of them.
const ROOM: usize = 64;

/// What stands in a file beyond so many bytes is not looked at.
const MOST: usize = 1024 * 1024;

/// A run that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunRecord {
    /// Its session, which is the number of its main process.
    pub session: i32,
    /// A time at which that number was its main process's, in [`ticks`] since the machine's boot.
    pub at: u64,
    /// The guardian that started it.
    pub guardian: Process,
}

impl RunRecord {
    /// The run whose main process has this number now.
    fn with_main(session: i32, guardian: Process) -> Self {
        Self {
            session,
            at: ticks::now(),
            guardian,
        }
    }

    /// Whether `stat` is a process of its session, where `leader` is what has the session's number
    /// now.
    pub(crate) fn has(&self, stat: &Stat, leader: Option<&Stat>) -> bool {
        stat.session == self.session
            && match leader {
                Some(leader) => !ticks::is_after(leader.start_time, self.at),
                None => !ticks::is_after(self.at, stat.start_time),
            }
    }

    /// Whether its guardian lives; or may, where that can't be seen.
    pub(crate) fn is_held(&self) -> bool {
        self.guardian.lives().unwrap_or(true)
    }

    /// Whether anything of its session lives, whoever holds it.
    ///
    /// # Errors
    /// Where that can't be seen: then it may live.
    pub(crate) fn lives(&self) -> io::Result<bool> {
        let all = everybody()?;
        let mut leaders = all.iter().filter(|(pid, _)| *pid == self.session);
        let leader = leaders.next().map(|(_, stat)| stat);
        let mut living = all.iter().filter(|(_, stat)| !stat.has_ended());
        Ok(living.any(|(_, stat)| self.has(stat, leader)))
    }

    fn encode(&self, into: &mut [u8]) {
        let number = |number: i32| u64::from(number.unsigned_abs());
        let guardian = self.guardian;
        let fields = [
            number(self.session),
            self.at,
            number(guardian.pid),
            guardian.start_time,
        ];
        for (part, field) in into.chunks_exact_mut(8).zip(fields) {
            part.copy_from_slice(&field.to_le_bytes());
        }
    }

    /// `None` where none stands.
    fn decode(from: &[u8]) -> Option<Self> {
        let mut fields = from.chunks_exact(8).map(|part| {
            let bytes = part.try_into().unwrap_or_default();
            u64::from_le_bytes(bytes)
        });
        let session = i32::try_from(fields.next()?).ok()?;
        let run = Self {
            session,
            at: fields.next()?,
            guardian: Process {
                pid: i32::try_from(fields.next()?).ok()?,
                start_time: fields.next()?,
            },
        };
        (session > 0).then_some(run)
    }
}

/// The boot and the namespace in which numbers of processes mean what they do here.
fn header() -> [u8; HEADER] {
    let boot = proc::boot_id().unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = format!("{boot} {}", namespace.display());
    let mut header = [0; HEADER];
    for (to, from) in header.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    header
}

/// What a file of these runs says.
pub(crate) fn listing(runs: &[RunRecord]) -> Vec<u8> {
    let mut text = header().to_vec();
    text.resize(HEADER + ROOM.max(runs.len()) * RECORD, 0);
    let records = text.get_mut(HEADER..).unwrap_or_default();
    for (into, run) in records.chunks_exact_mut(RECORD).zip(runs) {
        run.encode(into);
    }
    text
}

/// The runs in what a file says; none of another boot's.
pub(crate) fn read(text: &[u8]) -> Vec<RunRecord> {
    match text.strip_prefix(&header()) {
        Some(records) => records
            .chunks(RECORD)
            .filter_map(RunRecord::decode)
            .collect(),
        None => Vec::new(),
    }
}

/// The runs in a file; none where it can't be read.
fn read_file(file: impl AsFd) -> Vec<RunRecord> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    while text.len() < MOST
        && let Ok(length @ 1..) = pread(&file, &mut part, text.len() as u64)
    {
        text.extend(part.iter().take(length));
    }
    read(&text)
}

/// The runs of this process, a guardian, and the file where they stand.
#[derive(Debug)]
pub(crate) struct Runs {
    file: OwnedFd,
    guardian: Process,
    begun: Vec<RunRecord>,
    /// Those of a guardian before it that lived on without its daemon.
    earlier: Vec<RunRecord>,
    /// How many records the file has at least.
    room: usize,
}

impl Runs {
    /// None yet. Reads the file, and so is for a time when nothing is guarded yet.
    pub(crate) fn in_file(file: OwnedFd) -> Self {
        let mut earlier = read_file(&file);
        let stood = earlier.len();
        // The daemon fences the others before it starts anything.
        earlier.retain(RunRecord::is_held);
        Self {
            file,
            guardian: Process::this(),
            begun: Vec::new(),
            room: ROOM.max(stood),
            earlier,
        }
    }

    /// What the next one has to write.
    pub(crate) fn prepare(&mut self) -> io::Result<NextRun> {
        if self.begun.len() >= ROOM || !self.earlier.is_empty() {
            self.forget_ended();
        }
        self.room = self.room.max(self.begun.len() + self.earlier.len() + 1);
        let mut records = vec![0; self.room * RECORD];
        // The first is for the run itself.
        let places = records.chunks_exact_mut(RECORD).skip(1);
        for (into, run) in places.zip(self.begun.iter().chain(&self.earlier)) {
            run.encode(into);
        }
        Ok(NextRun {
            file: self.file.try_clone()?,
            guardian: self.guardian,
            records,
        })
    }

    /// It was begun, and this is its main process, which has not been reaped yet.
    pub(crate) fn begun(&mut self, main: i32) {
        let noted = RunRecord::with_main(main, self.guardian);
        self.begun.push(RunRecord {
            // It may have been a while, in which it has started others and ended.
            at: Stat::of(main).map_or(noted.at, |stat| stat.start_time),
            ..noted
        });
    }

    /// Nothing is left of any that was begun here.
    pub(crate) fn all_ended(&mut self) {
        self.begun.clear();
    }

    fn forget_ended(&mut self) {
        // Those that can't be seen to have ended stay, for which there is room.
        let Ok(all) = everybody() else { return };
        let sessions: HashSet<i32> = all.iter().map(|(_, stat)| stat.session).collect();
        self.begun.retain(|run| sessions.contains(&run.session));
        self.earlier
            .retain(|run| run.is_held() || sessions.contains(&run.session));
    }
}

/// A run that is about to begin, laid out before there is a process for it.
#[derive(Debug)]
pub(crate) struct NextRun {
    file: OwnedFd,
    guardian: Process,
    records: Vec<u8>,
}

impl NextRun {
    /// Writes that this process is its main process. Async-signal-safe, and allocates nothing.
    ///
    /// One that can't be written begins all the same: it is missed only where daemon and guardian
    /// are killed at once.
    pub(crate) fn write(&mut self) {
        let run = RunRecord::with_main(getpid().as_raw_pid(), self.guardian);
        if let Some(first) = self.records.get_mut(..RECORD) {
            run.encode(first);
        }
        let (mut rest, mut at) = (self.records.as_slice(), HEADER as u64);
        while let Ok(written @ 1..) = pwrite(&self.file, rest, at) {
            rest = rest.get(written..).unwrap_or_default();
            at += written as u64;
        }
    }
}

impl AsFd for Runs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const GUARDIAN: Process = Process {
        pid: 7,
        start_time: 70,
    };

    fn run(session: i32, at: u64) -> RunRecord {
        RunRecord {
            session,
            at,
            guardian: GUARDIAN,
        }
    }

    fn stat(session: i32, start_time: u64) -> Stat {
        let line = format!("9 (a) S 3 9 {session} 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 {start_time} 0");
        Stat::parse(&line).unwrap()
    }

    #[test]
    fn what_is_written_last_is_what_is_read() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &listing(&[]), 0).unwrap();
        let read_back = || {
            let mut text = vec![0; 64 * 1024];
            let length = std::os::unix::fs::FileExt::read_at(&file, &mut text, 0).unwrap();
            read(&text[..length])
        };
        assert_eq!(read_back(), []);
        let mut runs = Runs::in_file(file.try_clone().unwrap().into());
        let this = getpid().as_raw_pid();
        runs.prepare().unwrap().write();
        runs.begun(1);
        runs.prepare().unwrap().write();
        let sessions: Vec<_> = read_back().iter().map(|run| run.session).collect();
        assert_eq!(sessions, [this, 1]);
        assert!(
            read_back()
                .iter()
                .all(|run| run.guardian == Process::this())
        );
        // More than there is room for, all of one session that lives. Ours may be another
        // namespace's, and have no number here.
        let mut leader = Command::new("setsid")
            .args(["sleep", "60"])
            .spawn()
            .unwrap();
        let session = i32::try_from(leader.id()).unwrap();
        while Stat::of(session).unwrap().session != session {
            std::thread::yield_now();
        }
        for _ in 0..2 * ROOM {
            runs.begun(session);
        }
        runs.prepare().unwrap().write();
        assert!(read_back().len() > ROOM);
        leader.kill().unwrap();
        leader.wait().unwrap();
        runs.all_ended();
        runs.prepare().unwrap().write();
        assert_eq!(read_back().len(), 1, "what has ended stands there no more");
    }

    /// Started by a run's main process, which has ended before anybody looked.
    #[test]
    fn what_a_main_process_started_before_it_was_noted_is_of_its_run() {
        let mut main = Command::new("setsid")
            .args(["sh", "-c", "sleep 60 & echo $!"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = main.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        let member: i32 = line.trim().parse().unwrap();
        // Some ticks of the clock later.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut runs = Runs::in_file(tempfile::tempfile().unwrap().into());
        runs.begun(i32::try_from(main.id()).unwrap());
        main.wait().unwrap();
        let left = Stat::of(member).unwrap();
        let process = left.process(member);
        process.open().unwrap().unwrap().kill().unwrap();
        assert!(runs.begun[0].has(&left, None));
    }

    /// A guardian that lives on after its daemon, beside that of the next one.
    #[test]
    fn those_of_a_guardian_that_lives_stay_beside_those_of_the_next() {
        let file = tempfile::tempfile().unwrap();
        let mut old = Command::new("sleep").arg("60").spawn().unwrap();
        let theirs = RunRecord {
            guardian: Process::with_pid(i32::try_from(old.id()).unwrap()).unwrap(),
            ..run(5, 50)
        };
        let text = listing(&[theirs, run(6, 60)]);
        std::os::unix::fs::FileExt::write_all_at(&file, &text, 0).unwrap();
        let mut runs = Runs::in_file(file.try_clone().unwrap().into());
        let mut next = |ended: bool| {
            if ended {
                runs.all_ended();
            }
            runs.prepare().unwrap().write();
            let written = read_file(&file).into_iter();
            written.map(|run| run.guardian).collect::<Vec<_>>()
        };
        let this = Process::this();
        assert_eq!(next(false), [this, theirs.guardian]);
        assert_eq!(next(true), [this, theirs.guardian]);
        old.kill().unwrap();
        old.wait().unwrap();
        assert_eq!(next(true), [this]);
    }

    #[test]
    fn those_of_another_boot_or_namespace_are_nobodys() {
        let mut text = listing(&[]);
        run(5, 50).encode(&mut text[HEADER..HEADER + RECORD]);
        assert_eq!(read(&text), [run(5, 50)]);
        text[0] ^= 1;
        assert_eq!(read(&text), []);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn a_number_that_was_given_anew_is_no_run_of_ours() {
        let ours = stat(5, 49);
        assert!(run(5, 50).has(&ours, Some(&ours)));
        let anew = stat(5, 52);
        assert!(!run(5, 50).has(&anew, Some(&anew)));
        // Its first process may have ended.
        assert!(run(5, 50).has(&anew, None));
        assert!(!run(5, 50).has(&stat(5, 48), None));
        assert!(!run(5, 50).has(&stat(6, 51), None));
    }
}
