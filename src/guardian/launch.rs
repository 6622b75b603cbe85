//! Starting a process: a fork, and what the child does until its exec. Nobody waits for that.
//!
//! A child may hang on its way: its folder, its program or what runs its script lies on a file server
//! that doesn't answer, or a scanner holds the exec. So it borrows no memory, as a vfork's child does,
//! whose parent waits. It tells through a pipe why it can't go on; the exec closes the pipe. A child of
//! a process with threads may do little: it makes system calls with what was laid out for it, allocates
//! nothing and unwinds nowhere.

use std::ffi::{CStr, CString, OsString, c_char};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, chdir, getppid, set_parent_process_death_signal, setsid};

use super::protocol::CommandSpec;
use super::signals;
use crate::clock::{self, Instant};
use crate::os_text::OsText;
use crate::proc::{self, Process, Stat};
use crate::runs;

/// Where programs are sought when there is no `PATH`, as the C library has it.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What runs a script that doesn't say what runs it, as the C library has it.
const SHELL: &CStr = c"/bin/sh";

/// Everything that the child needs, laid out before there is one.
struct Plan {
    guardian: Pid,
    before: Instant,
    directory: Option<CString>,
    /// The standard input to be, never one of the standard descriptors itself.
    input: OwnedFd,
    /// Where the program may be, in the order in which it is sought.
    programs: Vec<CString>,
    arguments: Vec<*const c_char>,
    /// The arguments for the shell, should the program be a script for it; the second is the script.
    script: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// Where it stands for who comes after all of us.
    record: Option<runs::NextRun>,
}

/// Why a child has not come to its exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Its time was over.
    TooLate,
    /// Its folder can't be entered.
    Directory(Errno),
    /// Anything else.
    Other(Errno),
}

impl Failure {
    /// As the child writes it.
    fn encode(self) -> [u8; 5] {
        let (kind, error) = match self {
            Self::TooLate => (0, 0),
            Self::Directory(error) => (1, error.raw_os_error()),
            Self::Other(error) => (2, error.raw_os_error()),
        };
        let [a, b, c, d] = error.to_le_bytes();
        [kind, a, b, c, d]
    }

    fn decode([kind, error @ ..]: [u8; 5]) -> Self {
        // No number stands for no error: it would be a panic.
        let error = || Errno::from_raw_os_error(i32::from_le_bytes(error));
        match kind {
            0 => Self::TooLate,
            1 => Self::Directory(error()),
            _ => Self::Other(error()),
        }
    }
}

/// How far a child has come that was forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaunchStage {
    /// It has not come to its exec, and may never do.
    Underway,
    /// It was executed.
    Executed,
    /// It can't be executed, and ends.
    Failed(Failure),
    /// It was killed before its exec.
    Killed,
}

/// A child that was forked, until it is known what became of it.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) pid: Pid,
    stage: LaunchStage,
    /// Ends with the exec, and with the child.
    news: OwnedFd,
}

impl Starting {
    /// Looks how far it has come. Not after it was reaped.
    pub(super) fn look(&mut self) -> LaunchStage {
        if self.stage == LaunchStage::Underway {
            let mut failure = [0; 5];
            self.stage = match read(&self.news, &mut failure) {
                Ok(5) => LaunchStage::Failed(Failure::decode(failure)),
                Err(Errno::AGAIN | Errno::INTR) => LaunchStage::Underway,
                _ if self.was_executed() => LaunchStage::Executed,
                _ => LaunchStage::Killed,
            };
        }
        self.stage
    }

    /// What becomes readable when it has come further; nothing once that is known.
    pub(super) fn news(&self) -> Option<BorrowedFd<'_>> {
        (self.stage == LaunchStage::Underway).then(|| self.news.as_fd())
    }

    /// Whether code of the program may have run, by the kernel's own mark.
    pub(super) fn was_executed(&self) -> bool {
        // Where `/proc` can't be read, nobody knows that it has not.
        Stat::of(self.pid.as_raw_pid()).is_none_or(|stat| stat.was_executed)
    }
}

/// Forks a child that executes `spec`, with `input` as its standard input, in a session of its own,
/// unless `before` has come. It dies with the calling thread.
///
/// # Errors
/// What the system said; then there is no child.
pub(super) fn launch(
    spec: &CommandSpec,
    input: BorrowedFd<'_>,
    guardian: Pid,
    before: Instant,
    record: Option<runs::NextRun>,
) -> io::Result<Starting> {
    let text = |text: Vec<u8>| CString::new(text).map_err(|_| io::Error::from(Errno::INVAL));
    let [program, ..] = spec.argv.as_slice() else {
        return Err(Errno::NOENT.into());
    };
    let environment = environment(spec);
    let programs = programs(program, &environment).into_iter().map(text);
    let assignments = environment.into_iter().map(|(name, value)| {
        let assignment = [name.as_bytes(), b"=", value.as_bytes()].concat();
        text(assignment)
    });
    let assignments: Vec<CString> = assignments.collect::<io::Result<_>>()?;
    let words = spec.argv.iter().map(|word| text(word.clone().into_bytes()));
    let words: Vec<CString> = words.collect::<io::Result<_>>()?;
    let directory = spec.working_dir.as_ref();
    let directory = directory.map(|path| text(path.as_os_str().as_bytes().to_vec()));
    let script = [SHELL.as_ptr(), ptr::null()].into_iter();
    let mut plan = Plan {
        guardian,
        before,
        directory: directory.transpose()?,
        input: fcntl_dupfd_cloexec(input, 3)?,
        programs: programs.collect::<io::Result<_>>()?,
        arguments: terminated(words.iter().map(|word| word.as_ptr())),
        script: terminated(script.chain(words[1..].iter().map(|word| word.as_ptr()))),
        environment: terminated(assignments.iter().map(|it| it.as_ptr())),
        record,
    };
    let (news, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&news, OFlags::NONBLOCK)?;
    // No handler of this process runs in the child.
    let pid = signals::with_all_blocked(|| fork(&mut plan, &tell))??;
    Ok(Starting {
        pid,
        stage: LaunchStage::Underway,
        news,
    })
}

/// The environment of the child.
fn environment(spec: &CommandSpec) -> Vec<(OsString, OsString)> {
    let set = |(name, value): (&String, &OsText)| (name.into(), value.as_os_str().to_owned());
    let inherited = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_str();
        let is_named = |name| name == proc::GUARDIAN_VARIABLE;
        !name.is_some_and(|name| {
            spec.remove.contains(name) || spec.set.contains_key(name) || is_named(name)
        })
    });
    let named = (
        proc::GUARDIAN_VARIABLE.into(),
        Process::this().to_string().into(),
    );
    let set = spec.set.iter().map(set).chain([named]);
    inherited.chain(set).collect()
}

/// Where `program` may be: itself if it has a slash, else in the folders of the child's `PATH`.
fn programs(program: &str, environment: &[(OsString, OsString)]) -> Vec<Vec<u8>> {
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = match path {
        _ if program.contains('/') => b"",
        Some((_, path)) => path.as_bytes(),
        None => DEFAULT_PATH,
    };
    let folders = path.split(|byte| *byte == b':');
    let places = folders.map(|folder| match folder {
        b"" => program.as_bytes().to_vec(),
        folder => [folder, b"/", program.as_bytes()].concat(),
    });
    places.collect()
}

/// With the null pointer at its end that `execve` wants.
fn terminated(pointers: impl Iterator<Item = *const c_char>) -> Vec<*const c_char> {
    pointers.chain([ptr::null()]).collect()
}

/// Makes the child, which never returns from here.
fn fork(plan: &mut Plan, tell: &OwnedFd) -> io::Result<Pid> {
    #[allow(
        unsafe_code,
        reason = "nothing safe forks; what the child does is async-signal-safe, and ends with its \
                  exec or its exit"
    )]
    // SAFETY: see the reason above.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let failure = plan.become_job();
            write(tell, &failure.encode()).ok();
            libc::_exit(127);
        }
        pid
    };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    Pid::from_raw(pid).ok_or_else(|| Errno::SRCH.into())
}

impl Plan {
    /// Becomes the job; returns only why it can't. Async-signal-safe, and without a panic.
    fn become_job(&mut self) -> Failure {
        if let Err(error) = self.prepare() {
            return Failure::Other(error);
        }
        if let Some(directory) = &self.directory
            && let Err(error) = chdir(directory.as_c_str())
        {
            return Failure::Directory(error);
        }
        if clock::now() >= self.before {
            return Failure::TooLate;
        }
        Failure::Other(self.execute())
    }

    /// What can't hang, unless the runtime directory does.
    fn prepare(&mut self) -> Result<(), Errno> {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A guardian that died before the line above was not heard.
        if getppid() != Some(self.guardian) {
            return Err(Errno::SRCH);
        }
        // While a limit's signal is still ignored.
        if let Some(record) = &mut self.record {
            record.write();
        }
        // An ignored signal survives the exec, and the job would never hear it.
        signals::reset();
        signals::empty_mask().map_err(|_| Errno::INVAL)?;
        rustix::stdio::dup2_stdin(&self.input)?;
        Ok(())
    }

    /// Tries all places where the program may be, as `execvp` does.
    fn execute(&mut self) -> Errno {
        let mut refused = None;
        let mut last = Errno::NOENT;
        for program in &self.programs {
            last = execve(program, &self.arguments, &self.environment);
            if last == Errno::NOEXEC {
                if let Some(word) = self.script.get_mut(1) {
                    *word = program.as_ptr();
                }
                last = execve(SHELL, &self.script, &self.environment);
            }
            match last {
                Errno::ACCESS => refused = Some(last),
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                _ => return last,
            }
        }
        refused.unwrap_or(last)
    }
}

/// Returns only why it can't.
fn execve(program: &CStr, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
    #[allow(
        unsafe_code,
        reason = "both lists end with a null pointer, and what they point to lives in `launch`"
    )]
    // SAFETY: see the reason above.
    unsafe {
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    }
    let error = io::Error::last_os_error();
    error
        .raw_os_error()
        .map_or(Errno::INVAL, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_tells_is_heard_as_it_was_told() {
        for failure in [
            Failure::TooLate,
            Failure::Directory(Errno::ACCESS),
            Failure::Other(Errno::NOENT),
        ] {
            assert_eq!(Failure::decode(failure.encode()), failure);
        }
    }
}
