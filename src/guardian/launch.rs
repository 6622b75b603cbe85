//! Starting a process as `posix_spawn` does, which has no words for a parent-death signal and for a
//! look at the clock before the exec.
//!
//! The child borrows this process's memory until its exec, and the calling thread waits for that.
//! A fork would copy the page tables, and then each page that either of them touches: that took
//! twice as long as the rest of the start. The price is a child that may do little; it makes system
//! calls with what was laid out for it, allocates nothing and unwinds nowhere.

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, Signal, WaitOptions, chdir, getppid, set_parent_process_death_signal, setsid, waitpid,
};

use super::protocol::CommandSpec;
use super::signals;
use crate::clock::{self, Instant};
use crate::proc::{self, Process};
use crate::runs;

/// What a child answers that came to its exec too late.
pub(super) const TOO_LATE: Errno = Errno::TIME;

/// The child's stack, until its exec. `posix_spawn` of the C library has half of this.
const STACK: usize = 64 * 1024;

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
    record: Option<runs::Next>,
    /// Why the child has not come to its exec.
    error: Option<Errno>,
}

/// Executes `spec`, with `input` or `/dev/null` as its standard input, in a session of its own, as a child that dies with the calling thread, unless
/// `before` has come. Returns when it is executed, or can't be.
///
/// # Errors
/// What the system said; [`TOO_LATE`] when `before` had come.
pub(super) fn launch(
    spec: &CommandSpec,
    input: Option<BorrowedFd<'_>>,
    guardian: Pid,
    before: Instant,
    record: Option<runs::Next>,
) -> io::Result<Pid> {
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
        input: match input {
            Some(input) => fcntl_dupfd_cloexec(input, 3)?,
            None => fcntl_dupfd_cloexec(File::open("/dev/null")?, 3)?,
        },
        programs: programs.collect::<io::Result<_>>()?,
        arguments: terminated(words.iter().map(|word| word.as_ptr())),
        script: terminated(script.chain(words[1..].iter().map(|word| word.as_ptr()))),
        environment: terminated(assignments.iter().map(|it| it.as_ptr())),
        record,
        error: None,
    };
    let child = signals::with_all_blocked(|| clone(&mut plan))??;
    let Some(error) = plan.error else {
        return Ok(child);
    };
    // It has ended already.
    waitpid(Some(child), WaitOptions::empty())?;
    Err(error.into())
}

/// The environment of the child.
fn environment(spec: &CommandSpec) -> Vec<(OsString, OsString)> {
    let set = |(name, value): (&String, &String)| (name.into(), value.into());
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

/// Makes the child, which shares this memory, and waits until it shares it no more.
fn clone(plan: &mut Plan) -> io::Result<Pid> {
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK / size_of::<u128>()];
    #[allow(
        unsafe_code,
        reason = "the child runs on the stack that is passed, which outlives it here, since this \
                  thread waits for its exec or exit; all signals are blocked, so that no handler \
                  runs in it; what it does is in `Plan::child`"
    )]
    // SAFETY: see the reason above.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            ptr::from_mut(plan).cast(),
        )
    };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    Pid::from_raw(pid).ok_or_else(|| Errno::SRCH.into())
}

/// The child's first and last function.
extern "C" fn child(plan: *mut c_void) -> c_int {
    #[allow(
        unsafe_code,
        reason = "it is the plan that `clone` was given, and the thread that has it waits"
    )]
    // SAFETY: see the reason above.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    plan.error = Some(plan.become_job());
    127
}

impl Plan {
    /// Becomes the job; returns only why it can't. Async-signal-safe, and without a panic.
    fn become_job(&mut self) -> Errno {
        match self.prepare() {
            Ok(()) => self.execute(),
            Err(error) => error,
        }
    }

    fn prepare(&mut self) -> Result<(), Errno> {
        // Before the user's code can begin, and while a limit's signal is still ignored.
        if let Some(record) = &mut self.record {
            record.write();
        }
        // An ignored signal survives the exec, and the job would never hear it.
        signals::reset();
        signals::empty_mask().map_err(|_| Errno::INVAL)?;
        rustix::stdio::dup2_stdin(&self.input)?;
        if let Some(directory) = &self.directory {
            chdir(directory.as_c_str())?;
        }
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A guardian that died before the line above was not heard.
        if getppid() != Some(self.guardian) {
            return Err(Errno::SRCH);
        }
        if clock::now() >= self.before {
            return Err(TOO_LATE);
        }
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
